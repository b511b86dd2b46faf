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

/* What was heard and played while it learns, to go through again and again. */
#define LOG_FRAMES 500
#define LAP_FRAMES 25 /* new ones are worth another lap */
#define LAP_SPEED  16 /* frames of a lap for each new one */
#define BLOCKS     (TAIL / ECHO_FRAME + 1) /* frames that the filter remembers */

#define LEARNT_RATIO  8.0f /* of microphone to what is left, 9 dB */
#define LEARNT_FRAMES 30

/* Sound that was not taken out, and ends with the loudspeaker's: seen in frames after its last
 * block. */
#define LOST_RATIO  2.0f /* of microphone to what is left, 3 dB, */
#define LOST_FRAMES 25   /* for so long */
#define LOST_REST   0.1f /* of it may be left after the end, -10 dB, */
#define LOST_FIRST  15   /* frames from which to which one */
#define LOST_LAST   30

#define NO_ECHO_RATIO 1e-4f /* of microphone to loudspeaker, -40 dB */

/* What is left, beside what was taken out: up to the one it is echo, from the other on not. */
#define RESIDUAL      0.6f
#define RESIDUAL_FULL 1.5f

/* For each frame, 32 dB a second: a room goes on beyond the filter. */
#define TAKEN_FALL 0.93f

/* How loud an echo can be, beside what was played a moment ago: as it was at the loudest. Once that
 * has not risen by 1 dB for a while, what is 6 dB above it is somebody, and raises it slowly. */
#define COUPLING_PLAYED 0.01f  /* of the loudest, -20 dB: less tells nothing, */
#define COUPLING_LOUD   0.999f /* which falls by 0.4 dB a second */
#define COUPLING_RISE   1.26f
#define COUPLING_STEADY 50     /* frames */
#define COUPLING_MARGIN 4.0f
#define COUPLING_SLOWLY 1.005f /* for each frame, 2 dB a second */
#define COUPLING_FALL   0.998f /* the same, 0.9 dB a second */
#define COUPLING_USED   0.35f  /* of it is echo for the gate: it was the loudest, not the average */

/* What is taken away is replaced by noise like the room's, or a detector would take the pauses for
 * the floor and every rest of the echo for speech. */
#define NOISE_MIN  1e-8f   /* -80 dB */
#define NOISE_MAX  1e-4f   /* -40 dB */
#define NOISE_RISE 1.005f  /* for each frame, 2 dB a second */

struct exchange {
    spx_int16_t heard[ECHO_FRAME], played[ECHO_FRAME];
};

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
    float rest; /* the highest mean square after its end */
    unsigned n_good, n_bad, n_without; /* frames in a row */
    bool learnt;
    bool without; /* that there is no echo */
    struct exchange *log; /* [LOG_FRAMES] */
    /* frames in it; before which the lap is, below 0 at rest; that were in a lap before */
    int n_log, at, n_seen;
    float taken; /* mean square of the echo, falling slowly */
    float envelope, loudest; /* mean squares of what was played, falling quickly and slowly */
    float coupling; /* of microphone to envelope, at the loudest */
    unsigned n_steady; /* frames since it rose */
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
    echo->log = malloc(LOG_FRAMES * sizeof(*echo->log));
    if (!echo->log || !echo->state || !echo->resampler) {
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
    free(echo->log);
    free(echo);
    return NULL;
}

/* What it knows has to prove itself (again). */
static void doubt(struct echo *echo)
{
    echo->learnt = false;
    echo->n_good = echo->n_bad = echo->n_without = 0;
    echo->n_log = echo->at = echo->n_seen = 0;
    echo->coupling = 0;
    echo->n_steady = 0;
}

void echo_restart(struct echo *echo)
{
    doubt(echo);
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

/* Take the echo out of one frame; out [ECHO_FRAME]. Those that it learnt from before tell
 * nothing. */
static void cancel(struct echo *echo, const struct exchange *e, bool judged, spx_int16_t *out)
{
    const float played = mean_square(e->played), heard = mean_square(e->heard);

    speex_echo_cancellation(echo->state, e->heard, e->played, out);
    if (mean_square(out) > heard) /* what it takes out is not there: it learnt from a speaker */
        memcpy(out, e->heard, sizeof(e->heard));
    if (!judged || played <= SILENT)
        return;
    smooth(&echo->before, heard);
    smooth(&echo->after, mean_square(out));
    smooth(&echo->played, played);
    echo->n_without = echo->before < NO_ECHO_RATIO * echo->played ? echo->n_without + 1 : 0;
    echo->n_good = echo->before > LEARNT_RATIO * echo->after ? echo->n_good + 1 : 0;
    echo->n_bad = !echo->n_without && echo->before < LOST_RATIO * echo->after ? echo->n_bad + 1 : 0;
}

/*
 * The canceller learns from each frame once, which takes many seconds. Here it goes through all
 * that was heard so far some times, and is with the present between two laps: a lap begins at rest,
 * as the log does, and ends where the next frame follows.
 */
static void learn(struct echo *echo, const struct exchange *now)
{
    static const struct exchange rest;
    spx_int16_t unused[ECHO_FRAME];

    if (echo->n_log < LOG_FRAMES)
        echo->log[echo->n_log++] = *now;
    else if (echo->at == LOG_FRAMES)
        cancel(echo, now, true, unused);
    for (unsigned i = 0; i < LAP_SPEED && echo->at < echo->n_log; i++, echo->at++)
        cancel(echo, echo->at < 0 ? &rest : &echo->log[echo->at], echo->at >= echo->n_seen, unused);
    if (echo->at < echo->n_log)
        return;
    echo->without = echo->n_without > SECOND;
    echo->learnt = echo->n_good > LEARNT_FRAMES || echo->without;
    if (!echo->learnt && echo->n_log - echo->n_seen >= LAP_FRAMES) {
        echo->n_seen = echo->n_log;
        echo->at = -BLOCKS;
    }
}

static void follow_coupling(struct echo *echo, float played, float heard)
{
    float ratio;

    echo->envelope = fmaxf(played, echo->envelope * TAKEN_FALL);
    echo->loudest = fmaxf(echo->envelope, echo->loudest * COUPLING_LOUD);
    if (echo->envelope < fmaxf(SILENT, COUPLING_PLAYED * echo->loudest))
        return;
    ratio = heard / echo->envelope;
    if (echo->n_steady > COUPLING_STEADY && ratio > COUPLING_MARGIN * echo->coupling) {
        echo->coupling *= COUPLING_SLOWLY;
        return;
    }
    echo->n_steady = ratio > COUPLING_RISE * echo->coupling ? 0 : echo->n_steady + 1;
    echo->coupling = fmaxf(ratio, echo->coupling * COUPLING_FALL);
}

/* What the rest of the echo is not above, however little of it was taken out. */
static float loudest_echo(const struct echo *echo)
{
    return echo->without ? 0 : COUPLING_USED * echo->coupling * echo->envelope;
}

/* Whether what was heard last was the loudspeaker, although it was thought to be known. */
static void look_back(struct echo *echo, float heard)
{
    const unsigned n_over = HEARD_FRAMES - echo->n_heard;

    echo->rest = n_over <= LOST_FIRST ? 0 : fmaxf(echo->rest, heard);
    if (n_over == LOST_LAST && echo->n_bad > LOST_FRAMES && echo->rest < LOST_REST * echo->before)
        doubt(echo);
}

/* Uniform, of the room's mean square. */
static float noise(struct echo *echo)
{
    echo->seed = echo->seed * 1664525u + 1013904223u;
    return ((float)(echo->seed >> 8) / 8388608 - 1) * sqrtf(3 * echo->noise);
}

/* 0 while what is left may be the rest of the echo, 1 when it is more. */
static float open_by(float left, float echo)
{
    const float ratio = left / (echo + 1e-12f);

    return fmaxf(0, fminf((ratio - RESIDUAL) / (RESIDUAL_FULL - RESIDUAL), 1));
}

void echo_frame(struct echo *echo, float samples[ECHO_FRAME])
{
    const spx_int16_t *reference = next_reference(echo);
    struct exchange now = {0};
    spx_int16_t out[ECHO_FRAME] = {0}, taken[ECHO_FRAME];
    float gain = 0;

    if (reference)
        memcpy(now.played, reference, sizeof(now.played));
    for (unsigned i = 0; i < ECHO_FRAME; i++)
        now.heard[i] = to_16_bits(samples[i]);
    echo->noise = fminf(echo->noise * NOISE_RISE, mean_square(now.heard));
    echo->noise = fmaxf(NOISE_MIN, fminf(echo->noise, NOISE_MAX));
    if (mean_square(now.played) > SILENT)
        echo->n_heard = HEARD_FRAMES;
    else if (echo->n_heard > 0)
        echo->n_heard--;
    if (echo->n_heard == 0) { /* nothing to take out, and nothing to learn from */
        echo->gain = 1;
        return;
    }
    follow_coupling(echo, mean_square(now.played), mean_square(now.heard));
    if (echo->learnt) {
        cancel(echo, &now, true, out);
        for (unsigned i = 0; i < ECHO_FRAME; i++)
            taken[i] = (spx_int16_t)(MAX(-32768, MIN(now.heard[i] - out[i], 32767)));
        echo->taken = fmaxf(mean_square(taken), echo->taken * TAKEN_FALL);
        gain = open_by(mean_square(out), fmaxf(echo->taken, loudest_echo(echo)));
        look_back(echo, mean_square(now.heard));
    } else {
        learn(echo, &now);
    }
    for (unsigned i = 0; i < ECHO_FRAME; i++) {
        echo->gain += (gain - echo->gain) * 0.02f; /* 3 ms */
        samples[i] = (float)out[i] / 32768 * echo->gain + (1 - echo->gain) * noise(echo);
    }
}

bool echo_is_learnt(const struct echo *echo)
{
    return echo->learnt;
}
