/* SPDX-License-Identifier: MIT */
#include "audio/device/echo.h"

#include <math.h>
#include <samplerate.h>
#include <speex/speex_echo.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define TAIL (ECHO_RATE_HZ * 256 / 1000) /* samples */

/* References that wait for their frame: so many at the start, since callbacks come in bunches. */
#define CUSHION   2
#define WAITING   64 /* frames */
#define DRIFT_MAX 3  /* frames off the cushion for a second: the clocks drifted apart */

#define SECOND 100 /* frames */

/* The loudspeaker is heard for a while after its last block: latency and reverberation. */
#define HEARD_FRAMES 50
#define SILENT       1e-6f /* mean square, -60 dB */

#define LEARNT_RATIO  10.0f /* of microphone to what is left, 10 dB */
#define LEARNT_FRAMES 50
#define NO_ECHO_RATIO 1e-4f /* of microphone to loudspeaker, -40 dB */

/* What is left, beside what was taken out: up to the one it is echo, from the other on not. */
#define RESIDUAL      0.6f
#define RESIDUAL_FULL 1.5f

/* For each frame, 32 dB a second: a room goes on beyond the filter. */
#define TAKEN_FALL 0.93f

/* What is taken away is replaced by noise like the room's, or a detector would take the pauses for
 * the floor and every rest of the echo for speech. */
#define NOISE_MIN  1e-8f   /* -80 dB */
#define NOISE_MAX  1e-4f   /* -40 dB */
#define NOISE_RISE 1.005f  /* for each frame, 2 dB a second */

struct echo {
    SpeexEchoState *state;
    SRC_STATE *resampler;

    float ready[4 * ECHO_FRAME]; /* of the reference at 16 kHz, less than a frame between calls */
    size_t n_ready;
    spx_int16_t waiting[WAITING][ECHO_FRAME];
    unsigned n_waiting, first; /* a ring */
    unsigned next_number;
    bool started; /* the first block has come */
    bool running; /* the cushion is filled: from now on, one reference for each frame */
    unsigned n_owed; /* frames that went without their reference: it is skipped when it comes */
    unsigned n_off;  /* frames in a row with too many waiting */

    unsigned n_heard; /* frames that the loudspeaker will still be heard */
    float before, after, played; /* mean squares, smoothed, while it is */
    unsigned n_good, n_without;
    bool learnt;
    float taken; /* mean square of the echo, falling slowly */
    float gain;

    float noise; /* mean square of the room's noise: the quietest that the microphone heard */
    uint32_t seed;
};

struct echo *echo_new(struct error *err)
{
    struct echo *echo = calloc(1, sizeof(*echo));
    int rate_hz = ECHO_RATE_HZ, r;

    if (!echo) {
        error_set(err, ERROR_NO_MEMORY, "No memory for the echo canceller.");
        return NULL;
    }
    echo->gain = 1;
    echo->noise = NOISE_MIN;
    echo->state = speex_echo_state_init(ECHO_FRAME, TAIL);
    echo->resampler = src_new(SRC_SINC_FASTEST, 1, &r);
    if (!echo->state || !echo->resampler) {
        error_set(err, ERROR_NO_MEMORY, "No memory for the echo canceller.");
        return echo_free(echo);
    }
    speex_echo_ctl(echo->state, SPEEX_ECHO_SET_SAMPLING_RATE, &rate_hz);
    return echo;
}

struct echo *echo_free(struct echo *echo)
{
    if (!echo)
        return NULL;
    if (echo->state)
        speex_echo_state_destroy(echo->state);
    if (echo->resampler)
        src_delete(echo->resampler);
    free(echo);
    return NULL;
}

void echo_restart(struct echo *echo)
{
    src_reset(echo->resampler);
    echo->n_ready = 0;
    echo->n_waiting = echo->n_owed = echo->n_off = 0;
    echo->started = echo->running = false;
}

static spx_int16_t to_16_bits(float sample)
{
    return (spx_int16_t)lrintf(32767 * fmaxf(-1, fminf(sample, 1)));
}

/* --- the reference --------------------------------------------------------------------------- */

static void wait_for_frame(struct echo *echo, const float *samples)
{
    spx_int16_t *slot;

    if (echo->n_owed > 0) {
        echo->n_owed--;
        return;
    }
    if (echo->n_waiting == WAITING) { /* nobody listens */
        echo->first = (echo->first + 1) % WAITING;
        echo->n_waiting--;
    }
    slot = echo->waiting[(echo->first + echo->n_waiting++) % WAITING];
    for (unsigned i = 0; i < ECHO_FRAME; i++)
        slot[i] = to_16_bits(samples[i]);
}

static void resample(struct echo *echo, const float *samples, size_t n_samples, unsigned rate_hz)
{
    SRC_DATA data = {
        .data_in = samples,
        .input_frames = (long)n_samples,
        .data_out = echo->ready + echo->n_ready,
        .output_frames = (long)(ARRAY_LEN(echo->ready) - echo->n_ready),
        .src_ratio = (double)ECHO_RATE_HZ / rate_hz,
    };

    if (src_process(echo->resampler, &data) == 0)
        echo->n_ready += (size_t)data.output_frames_gen;
    while (echo->n_ready >= ECHO_FRAME) {
        wait_for_frame(echo, echo->ready);
        echo->n_ready -= ECHO_FRAME;
        memmove(echo->ready, echo->ready + ECHO_FRAME, echo->n_ready * sizeof(float));
    }
}

void echo_played(struct echo *echo, const float *samples, size_t n_samples, unsigned rate_hz,
                 unsigned number)
{
    static const float silence[480];

    if (n_samples > ARRAY_LEN(silence) || rate_hz < 8000)
        return;
    /* Blocks that were missed keep their time. */
    if (echo->started && number != echo->next_number)
        for (unsigned i = 0; i < MIN(number - echo->next_number, (unsigned)WAITING); i++)
            resample(echo, silence, n_samples, rate_hz);
    echo->next_number = number + 1;
    echo->started = true;
    resample(echo, samples, n_samples, rate_hz);
}

/* The reference of the next frame; NULL: silence. */
static const spx_int16_t *next_reference(struct echo *echo)
{
    const spx_int16_t *reference;

    echo->running = echo->running || echo->n_waiting >= CUSHION;
    if (!echo->running)
        return NULL;
    if (echo->n_waiting == 0) {
        if (echo->n_owed < CUSHION + DRIFT_MAX)
            echo->n_owed++;
        return NULL;
    }
    echo->n_off = echo->n_waiting > CUSHION + DRIFT_MAX ? echo->n_off + 1 : 0;
    while (echo->n_off > SECOND && echo->n_waiting > CUSHION) {
        echo->first = (echo->first + 1) % WAITING;
        echo->n_waiting--;
    }
    reference = echo->waiting[echo->first];
    echo->first = (echo->first + 1) % WAITING;
    echo->n_waiting--;
    return reference;
}

/* --- the microphone -------------------------------------------------------------------------- */

static float mean_square(const spx_int16_t *samples)
{
    float sum = 0;

    for (unsigned i = 0; i < ECHO_FRAME; i++)
        sum += (float)samples[i] * (float)samples[i];
    return sum / ECHO_FRAME / (32768.0f * 32768.0f);
}

static void smooth(float *value, float now)
{
    *value += 0.05f * (now - *value);
}

/* Whether the canceller takes the echo out by now, or there is nothing to take out. */
static void judge(struct echo *echo)
{
    const bool without = echo->before < NO_ECHO_RATIO * echo->played;

    echo->n_good = echo->before > LEARNT_RATIO * echo->after ? echo->n_good + 1 : 0;
    echo->n_without = without ? echo->n_without + 1 : 0;
    echo->learnt = echo->learnt || echo->n_good > LEARNT_FRAMES || echo->n_without > SECOND;
}

/* Uniform, of the room's mean square. */
static float noise(struct echo *echo)
{
    echo->seed = echo->seed * 1664525u + 1013904223u;
    return ((float)(echo->seed >> 8) / 8388608 - 1) * sqrtf(3 * echo->noise);
}

/* 0 while what is left is the rest of the echo, 1 when it is more. */
static float open_by(float left, float taken)
{
    const float ratio = left / (taken + 1e-12f);

    return fmaxf(0, fminf((ratio - RESIDUAL) / (RESIDUAL_FULL - RESIDUAL), 1));
}

void echo_frame(struct echo *echo, float samples[ECHO_FRAME])
{
    static const spx_int16_t silence[ECHO_FRAME];
    const spx_int16_t *reference = next_reference(echo);
    spx_int16_t in[ECHO_FRAME], out[ECHO_FRAME], taken[ECHO_FRAME];
    float played, heard, left, gain = 1;

    if (!reference)
        reference = silence;
    for (unsigned i = 0; i < ECHO_FRAME; i++)
        in[i] = to_16_bits(samples[i]);
    heard = mean_square(in);
    echo->noise = fminf(echo->noise * NOISE_RISE, heard);
    echo->noise = fmaxf(NOISE_MIN, fminf(echo->noise, NOISE_MAX));
    played = mean_square(reference);
    if (played > SILENT)
        echo->n_heard = HEARD_FRAMES;
    else if (echo->n_heard > 0)
        echo->n_heard--;
    if (echo->n_heard == 0) { /* nothing to take out, and nothing to learn from */
        echo->gain = 1;
        return;
    }
    speex_echo_cancellation(echo->state, in, reference, out);
    left = mean_square(out);
    if (left > heard) { /* what it takes out is not there: it learnt from somebody who spoke */
        memcpy(out, in, sizeof(out));
        left = heard;
    }
    for (unsigned i = 0; i < ECHO_FRAME; i++)
        taken[i] = (spx_int16_t)(MAX(-32768, MIN(in[i] - out[i], 32767)));

    if (played > SILENT) {
        smooth(&echo->before, heard);
        smooth(&echo->after, left);
        smooth(&echo->played, played);
        judge(echo);
    }
    echo->taken = fmaxf(mean_square(taken), echo->taken * TAKEN_FALL);
    gain = echo->learnt ? open_by(left, echo->taken) : 0;
    for (unsigned i = 0; i < ECHO_FRAME; i++) {
        echo->gain += (gain - echo->gain) * 0.02f; /* 3 ms */
        samples[i] = (float)out[i] / 32768 * echo->gain + (1 - echo->gain) * noise(echo);
    }
}

bool echo_is_learnt(const struct echo *echo)
{
    return echo->learnt;
}
