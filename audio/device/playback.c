/* SPDX-License-Identifier: MIT */
#include "audio/device/playback.h"

#include <math.h>
#include <samplerate.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "audio/device/pcm_stream.h"
#include "base/cleanup.h"
#include "base/ring.h"

#define PLAYBACK_DEVICE_HZ 48000 /* what most devices and servers have */

#define FADE_MSEC    3  /* in and out */
#define GAIN_MSEC    10 /* from 1 to 0 */
#define EMITTED_MSEC 1000

/* In one atomic, so that the two belong together: generation << 40 | samples at 24 kHz, and
 * generation << 40 | segments. A segment is what one playback_end() ends. */
#define PAIR_BITS 40
#define PAIR_MASK ((UINT64_C(1) << PAIR_BITS) - 1)

#define GENERATION_MASK 0xffffffu

struct block {
    uint32_t generation;
    unsigned rate_hz;
    unsigned n_samples; /* at rate_hz */
    unsigned n_source;  /* at 24 kHz, what they were made of */
    uint32_t ends;      /* the last of segment `ends`; 0: not the last */
    float samples[PCM_BLOCK_MAX];
};

struct emitted {
    unsigned number, n_samples, rate_hz;
    float samples[PCM_BLOCK_MAX];
};

struct playback {
    struct pcm_stream stream;
    struct ring ring;    /* struct block, writer -> callback */
    struct ring emitted; /* struct emitted, callback -> echo canceller */

    /* any thread */
    atomic_uint_least32_t generation;
    atomic_uint rate_hz; /* what blocks have to have; 0 before the first opening */
    atomic_uint latency_msec;
    _Atomic float gain;
    atomic_bool muted; /* before it is closed */
    atomic_uint_least64_t n_begun; /* pair: segments that the writer began */

    /* the callback's; others look */
    atomic_uint_least64_t position; /* pair */
    atomic_uint_least64_t n_ended;  /* pair: segments played */
    atomic_uint n_underruns;

    /* the callback's alone */
    struct {
        struct block *block; /* the ring's oldest, being played; or NULL */
        size_t n_used;       /* of its samples */
        float envelope, gain, sample;
        uint32_t generation; /* of what was played last */
        uint64_t n_played;   /* samples at 24 kHz of the blocks of this generation before `block` */
        bool speaking;       /* more of this generation has to come */
    } now;

    /* the writer's */
    SRC_STATE *resampler;
    uint32_t write_generation;
    unsigned write_rate_hz;
    uint32_t segment;     /* the present or the last one of this generation, from 1 */
    bool in_segment;
    uint64_t n_in, n_out; /* samples at 24 kHz of the segment taken, and put into blocks */
    size_t n_pending;
    float pending[3 * PCM_BLOCK_MAX]; /* at the device's rate, less than a block between calls */
};

struct playback *playback_new(unsigned queue_msec, struct error *err)
{
    struct playback *playback;
    int r;

    if (queue_msec < 40 || queue_msec > 60000) {
        error_set(err, ERROR_INVALID_ARGUMENT, "The loudspeaker's queue cannot be %u ms long.",
                  queue_msec);
        return NULL;
    }
    playback = calloc(1, sizeof(*playback));
    if (!playback) {
        error_set(err, ERROR_NO_MEMORY, "No memory for the loudspeaker.");
        return NULL;
    }
    playback->generation = 1;
    playback->gain = 1;
    playback->now.gain = 1;
    playback->resampler = src_new(SRC_SINC_MEDIUM_QUALITY, 1, &r);
    if (!playback->resampler) {
        error_set(err, ERROR_NO_MEMORY, "The resampler cannot be started: %s.", src_strerror(r));
        return playback_free(playback);
    }
    if (ring_init(&playback->ring, queue_msec / PCM_BLOCK_MSEC, sizeof(struct block), err) < 0 ||
        ring_init(&playback->emitted, EMITTED_MSEC / PCM_BLOCK_MSEC, sizeof(struct emitted),
                  err) < 0)
        return playback_free(playback);
    return playback;
}

struct playback *playback_free(struct playback *playback)
{
    if (!playback)
        return NULL;
    playback_close(playback);
    if (playback->resampler)
        src_delete(playback->resampler);
    ring_done(&playback->ring);
    ring_done(&playback->emitted);
    free(playback);
    return NULL;
}

/* --- the callback: RT safe ------------------------------------------------------------------- */

static uint64_t pair(uint32_t generation, uint64_t n)
{
    return (uint64_t)generation << PAIR_BITS | (n & PAIR_MASK);
}

/* The number in a pair, 0 when it is of another generation. */
static uint64_t pair_of(uint64_t value, uint32_t generation)
{
    return (value & ~PAIR_MASK) == pair(generation, 0) ? value & PAIR_MASK : 0;
}

/* Give the front of the ring back: n_source samples at 24 kHz further in its generation. */
static void leave_block(struct playback *playback, uint64_t n_source)
{
    const struct block *block = playback->now.block;

    if (block->generation == playback->now.generation)
        playback->now.n_played += n_source;
    if (block->ends) {
        playback->now.speaking = false;
        atomic_store_explicit(&playback->n_ended, pair(block->generation, block->ends),
                              memory_order_release);
    }
    playback->now.block = NULL;
    playback->now.n_used = 0;
    ring_read_end(&playback->ring);
}

/* Of the block being played, at 24 kHz. */
static uint64_t n_source_used(const struct playback *playback)
{
    const struct block *block = playback->now.block;

    return block->n_samples ? (uint64_t)block->n_source * playback->now.n_used / block->n_samples
                            : block->n_source;
}

/*
 * The block to play from: what is left of a cancelled generation only as long as it is audible.
 * NULL: there is none. The loop passes each block of the ring once.
 */
static struct block *next_block(struct playback *playback, uint32_t generation)
{
    for (;;) {
        struct block *block = playback->now.block;

        if (!block) {
            block = playback->now.block = ring_read_begin(&playback->ring);
            if (!block)
                return NULL;
            playback->now.n_used = 0;
        }
        if (block->generation == generation && block->generation != playback->now.generation) {
            playback->now.generation = generation;
            playback->now.n_played = 0;
        }
        if (block->rate_hz != playback->stream.rate_hz) {
            leave_block(playback, block->n_source);
        } else if (block->generation == generation) {
            playback->now.speaking = true;
            if (playback->now.n_used < block->n_samples)
                return block;
            leave_block(playback, block->n_source);
        } else {
            if (playback->now.envelope > 0 && block->generation == playback->now.generation &&
                playback->now.n_used < block->n_samples)
                return block;
            leave_block(playback, n_source_used(playback));
        }
    }
}

static void publish_position(struct playback *playback)
{
    const struct block *block = playback->now.block;
    uint64_t n = playback->now.n_played;

    if (block && block->generation == playback->now.generation)
        n += n_source_used(playback);
    atomic_store_explicit(&playback->position, pair(playback->now.generation, n),
                          memory_order_release);
}

/* One mono block; all state of the fades is in playback->now. */
static void mix(struct playback *playback, float *out, size_t n_samples)
{
    const uint32_t generation = playback_generation(playback);
    const float gain = atomic_load_explicit(&playback->muted, memory_order_relaxed)
                           ? 0
                           : atomic_load_explicit(&playback->gain, memory_order_relaxed);
    const float fade_step = 1000.0f / FADE_MSEC / (float)playback->stream.rate_hz;
    const float gain_step = 1000.0f / GAIN_MSEC / (float)playback->stream.rate_hz;
    bool underrun = false;

    if (playback->now.generation != generation)
        playback->now.speaking = false;
    for (size_t i = 0; i < n_samples; i++) {
        struct block *block = next_block(playback, generation);

        if (block)
            playback->now.sample = block->samples[playback->now.n_used++];
        underrun = underrun || (!block && playback->now.speaking);
        if (block && block->generation == generation)
            playback->now.envelope = fminf(playback->now.envelope + fade_step, 1);
        else
            playback->now.envelope = fmaxf(playback->now.envelope - fade_step, 0);
        if (playback->now.gain < gain)
            playback->now.gain = fminf(playback->now.gain + gain_step, gain);
        else
            playback->now.gain = fmaxf(playback->now.gain - gain_step, gain);
        out[i] = playback->now.sample * playback->now.envelope * playback->now.gain;
    }
    if (underrun && playback->now.speaking) {
        playback->now.speaking = false; /* counted once; the next block goes on */
        atomic_fetch_add_explicit(&playback->n_underruns, 1, memory_order_relaxed);
    }
    publish_position(playback);
}

static int on_block(const void *input, void *output, unsigned long n_frames,
                    const PaStreamCallbackTimeInfo *time, PaStreamCallbackFlags flags,
                    void *userdata)
{
    struct playback *playback = userdata;
    const unsigned number =
        atomic_load_explicit(&playback->stream.n_callbacks, memory_order_relaxed);
    const size_t n_samples = MIN(n_frames, (unsigned long)PCM_BLOCK_MAX);
    const unsigned n_channels = playback->stream.n_channels;
    struct emitted *emitted;
    float mono[PCM_BLOCK_MAX], *out = output;

    (void)input;
    (void)time;
    pcm_stream_enter(&playback->stream, flags);
    mix(playback, mono, n_samples);
    for (size_t i = 0; i < n_samples; i++)
        for (unsigned c = 0; c < n_channels; c++)
            out[i * n_channels + c] = mono[i];

    emitted = ring_write_begin(&playback->emitted);
    if (emitted) { /* full when nobody cancels echo */
        emitted->number = number;
        emitted->rate_hz = playback->stream.rate_hz;
        emitted->n_samples = (unsigned)n_samples;
        memcpy(emitted->samples, mono, n_samples * sizeof(float));
        ring_write_end(&playback->emitted);
    }
    return paContinue;
}

/* --- the owner ------------------------------------------------------------------------------- */

int playback_open(struct playback *playback, const struct device *device, unsigned rate_hz,
                  unsigned latency_msec, struct error *err)
{
    int r;

    playback_close(playback);
    playback->now.envelope = 0;
    r = pcm_stream_open(&playback->stream, device, DEVICE_PLAYBACK,
                    rate_hz ? rate_hz : PLAYBACK_DEVICE_HZ, latency_msec, on_block, playback, err);
    if (r < 0)
        return r;
    atomic_store(&playback->rate_hz, playback->stream.rate_hz);
    atomic_store(&playback->latency_msec, playback->stream.latency_msec);
    return 0;
}

void playback_close(struct playback *playback)
{
    const struct timespec step = {.tv_nsec = 10000000};
    const unsigned n_fade = GAIN_MSEC / PCM_BLOCK_MSEC + 1;
    const unsigned n = atomic_load(&playback->stream.n_callbacks);

    atomic_store(&playback->muted, true);
    for (unsigned i = 0; i < 10 && playback->stream.pa; i++) {
        if (Pa_IsStreamActive(playback->stream.pa) != 1 ||
            atomic_load(&playback->stream.n_callbacks) - n >= n_fade)
            break;
        nanosleep(&step, NULL);
    }
    pcm_stream_close(&playback->stream);
    atomic_store(&playback->muted, false);
}

/* --- the writer ------------------------------------------------------------------------------ */

/* Whole blocks of what is pending; everything and the mark when it is the end. There is room. */
static void put_blocks(struct playback *playback, bool end)
{
    const size_t n_block = playback->write_rate_hz * PCM_BLOCK_MSEC / 1000;
    const float *from = playback->pending;
    size_t n_left = playback->n_pending;
    bool marked = false;

    while (n_left >= n_block || (end && !marked)) {
        struct block *block = ring_write_begin(&playback->ring);
        const size_t n = MIN(n_left, n_block);
        const uint64_t n_source = playback->n_in - playback->n_out;

        if (!block)
            break;
        marked = end && n_left < n_block;
        block->generation = playback->write_generation;
        block->rate_hz = playback->write_rate_hz;
        block->n_samples = (unsigned)n;
        block->n_source = (unsigned)(marked ? n_source : MIN(n_source, (uint64_t)PLAYBACK_BLOCK));
        block->ends = marked ? playback->segment : 0;
        memcpy(block->samples, from, n * sizeof(float));
        ring_write_end(&playback->ring);
        playback->n_out += block->n_source;
        from += n;
        n_left -= n;
    }
    memmove(playback->pending, from, n_left * sizeof(float));
    playback->n_pending = n_left;
}

/* Samples at 24 kHz -> pending. */
static void take(struct playback *playback, const float *samples, size_t n_samples, bool end)
{
    SRC_DATA data = {
        .data_in = samples,
        .input_frames = (long)n_samples,
        .data_out = playback->pending + playback->n_pending,
        .output_frames = (long)(ARRAY_LEN(playback->pending) - playback->n_pending),
        .end_of_input = end,
        .src_ratio = (double)playback->write_rate_hz / PLAYBACK_RATE_HZ,
    };

    playback->n_in += n_samples;
    if (playback->write_rate_hz == PLAYBACK_RATE_HZ) {
        memcpy(data.data_out, samples, n_samples * sizeof(float));
        playback->n_pending += n_samples;
    } else if (src_process(playback->resampler, &data) == 0) {
        playback->n_pending += (size_t)data.output_frames_gen;
    }
}

/* Begin a segment, or go on at another rate. */
static void prepare(struct playback *playback, uint32_t generation, unsigned rate_hz)
{
    if (generation != playback->write_generation) {
        playback->write_generation = generation;
        playback->segment = 0;
        playback->in_segment = false;
    }
    if (!playback->in_segment || rate_hz != playback->write_rate_hz) {
        playback->write_rate_hz = rate_hz;
        playback->n_in = playback->n_out = 0;
        playback->n_pending = 0;
        src_reset(playback->resampler);
    }
    if (!playback->in_segment) {
        playback->in_segment = true;
        playback->segment++;
        atomic_store_explicit(&playback->n_begun, pair(generation, playback->segment),
                              memory_order_release);
    }
}

static size_t n_free(struct playback *playback)
{
    return playback->ring.n_items - ring_n_items(&playback->ring);
}

size_t playback_room(struct playback *playback)
{
    const size_t n = atomic_load(&playback->rate_hz) ? n_free(playback) : 0;

    return n >= 2 ? (n - 1) * PLAYBACK_BLOCK : 0;
}

size_t playback_write(struct playback *playback, uint32_t generation, const float *samples,
                      size_t n_samples)
{
    const unsigned rate_hz = atomic_load_explicit(&playback->rate_hz, memory_order_relaxed);
    size_t n_taken = 0;

    if (generation != playback_generation(playback))
        return n_samples;
    if (!rate_hz)
        return 0;
    prepare(playback, generation, rate_hz);
    /* 10 ms and what was pending are two blocks at most. */
    while (n_taken < n_samples && n_free(playback) >= 2) {
        const size_t n = MIN(n_samples - n_taken, (size_t)PLAYBACK_BLOCK);

        take(playback, samples + n_taken, n, false);
        put_blocks(playback, false);
        n_taken += n;
    }
    return n_taken;
}

bool playback_end(struct playback *playback, uint32_t generation)
{
    const unsigned rate_hz = atomic_load_explicit(&playback->rate_hz, memory_order_relaxed);

    if (generation != playback_generation(playback))
        return true;
    if (generation != playback->write_generation || !playback->in_segment)
        return true; /* nothing was written, and perhaps no device was opened for it */
    if (!rate_hz)
        return false;
    prepare(playback, generation, rate_hz);
    /* The resampler owes less than a block, more is pending, and the mark may need its own. */
    if (n_free(playback) < 4)
        return false;
    take(playback, &(const float){0}, 0, true);
    put_blocks(playback, true);
    playback->in_segment = false;
    return true;
}

/* --- any thread ------------------------------------------------------------------------------ */

uint32_t playback_generation(struct playback *playback)
{
    return atomic_load_explicit(&playback->generation, memory_order_acquire) & GENERATION_MASK;
}

uint32_t playback_cancel(struct playback *playback)
{
    return (atomic_fetch_add_explicit(&playback->generation, 1, memory_order_acq_rel) + 1) &
           GENERATION_MASK;
}

uint64_t playback_position(struct playback *playback, uint32_t generation)
{
    return pair_of(atomic_load_explicit(&playback->position, memory_order_acquire), generation);
}

uint64_t playback_last_position(struct playback *playback, uint32_t *ret_generation)
{
    const uint64_t position = atomic_load_explicit(&playback->position, memory_order_acquire);

    *ret_generation = (uint32_t)(position >> PAIR_BITS);
    return position & PAIR_MASK;
}

unsigned playback_latency_msec(struct playback *playback)
{
    return atomic_load_explicit(&playback->latency_msec, memory_order_relaxed);
}

bool playback_is_idle(struct playback *playback)
{
    const uint32_t generation = playback_generation(playback);
    const uint64_t n_begun = atomic_load_explicit(&playback->n_begun, memory_order_acquire);
    const uint64_t n_ended = atomic_load_explicit(&playback->n_ended, memory_order_acquire);

    return pair_of(n_begun, generation) == pair_of(n_ended, generation);
}

void playback_duck(struct playback *playback, bool ducked)
{
    atomic_store_explicit(&playback->gain, ducked ? PLAYBACK_DUCKED : 1, memory_order_relaxed);
}

size_t playback_emitted(struct playback *playback, float samples[PLAYBACK_EMITTED_MAX],
                        unsigned *ret_number, unsigned *ret_rate_hz)
{
    const struct emitted *emitted = ring_read_begin(&playback->emitted);
    size_t n_samples;

    if (!emitted)
        return 0;
    n_samples = emitted->n_samples;
    *ret_number = emitted->number;
    *ret_rate_hz = emitted->rate_hz;
    memcpy(samples, emitted->samples, n_samples * sizeof(float));
    ring_read_end(&playback->emitted);
    return n_samples;
}

void playback_counts(struct playback *playback, struct playback_counts *ret)
{
    ret->n_callbacks = atomic_load_explicit(&playback->stream.n_callbacks, memory_order_relaxed);
    ret->n_underruns = atomic_load_explicit(&playback->n_underruns, memory_order_relaxed);
    ret->n_xruns = atomic_load_explicit(&playback->stream.n_xruns, memory_order_relaxed);
}

struct pcm_stream *playback_stream(struct playback *playback)
{
    return &playback->stream;
}
