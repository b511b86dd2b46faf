/* SPDX-License-Identifier: MIT */
#include "audio/device/capture.h"

#include <math.h>
#include <samplerate.h>
#include <stdlib.h>
#include <string.h>

#include "audio/device/pcm_stream.h"
#include "base/cleanup.h"
#include "base/ring.h"

struct block {
    unsigned number; /* of its callback */
    unsigned n_samples;
    float samples[PCM_BLOCK_MAX];
};

struct capture {
    struct pcm_stream stream;
    struct ring ring; /* struct block, callback -> reader */
    atomic_uint n_overruns;

    /* the reader's */
    SRC_STATE *resampler;
    unsigned next_number;
    size_t n_ready;
    float ready[4 * CAPTURE_FRAME]; /* at 16 kHz, not yet handed out */
};

struct capture *capture_new(unsigned queue_msec, struct error *err)
{
    struct capture *capture = NULL;
    int r;

    if (queue_msec < 20 || queue_msec > 10000) {
        error_set(err, ERROR_INVALID_ARGUMENT, "The microphone's queue cannot be %u ms long.",
                  queue_msec);
        return NULL;
    }
    capture = calloc(1, sizeof(*capture));
    if (!capture) {
        error_set(err, ERROR_NO_MEMORY, "No memory for the microphone.");
        return NULL;
    }
    capture->resampler = src_new(SRC_SINC_MEDIUM_QUALITY, 1, &r);
    if (!capture->resampler) {
        error_set(err, ERROR_NO_MEMORY, "The resampler cannot be started: %s.", src_strerror(r));
        return capture_free(capture);
    }
    if (ring_init(&capture->ring, queue_msec / PCM_BLOCK_MSEC, sizeof(struct block), err) < 0)
        return capture_free(capture);
    return capture;
}

struct capture *capture_free(struct capture *capture)
{
    if (!capture)
        return NULL;
    capture_close(capture);
    if (capture->resampler)
        src_delete(capture->resampler);
    ring_done(&capture->ring);
    free(capture);
    return NULL;
}

/* RT safe */
static int on_block(const void *input, void *output, unsigned long n_samples,
                    const PaStreamCallbackTimeInfo *time, PaStreamCallbackFlags flags,
                    void *userdata)
{
    struct capture *capture = userdata;
    const unsigned number =
        atomic_load_explicit(&capture->stream.n_callbacks, memory_order_relaxed);
    struct block *block;

    (void)output;
    (void)time;
    pcm_stream_enter(&capture->stream, flags);
    block = ring_write_begin(&capture->ring);
    if (!block) {
        atomic_fetch_add_explicit(&capture->n_overruns, 1, memory_order_relaxed);
        return paContinue;
    }
    block->number = number;
    block->n_samples = (unsigned)MIN(n_samples, (unsigned long)PCM_BLOCK_MAX);
    if (input)
        memcpy(block->samples, input, block->n_samples * sizeof(float));
    else
        memset(block->samples, 0, block->n_samples * sizeof(float));
    ring_write_end(&capture->ring);
    return paContinue;
}

int capture_open(struct capture *capture, const struct device *device, unsigned latency_msec,
                 struct error *err)
{
    capture_close(capture);
    while (ring_read_begin(&capture->ring))
        ring_read_end(&capture->ring);
    src_reset(capture->resampler);
    capture->next_number = 0;
    capture->n_ready = 0;
    return pcm_stream_open(&capture->stream, device, DEVICE_CAPTURE, CAPTURE_RATE_HZ, latency_msec,
                       on_block, capture, err);
}

void capture_close(struct capture *capture)
{
    pcm_stream_close(&capture->stream);
}

/* n_samples at the device's rate -> capture->ready; 10 ms give 10 ms, more or less. */
static void resample(struct capture *capture, const float *samples, size_t n_samples)
{
    SRC_DATA data = {
        .data_in = samples,
        .input_frames = (long)n_samples,
        .data_out = capture->ready + capture->n_ready,
        .output_frames = (long)(ARRAY_LEN(capture->ready) - capture->n_ready),
        .src_ratio = (double)CAPTURE_RATE_HZ / capture->stream.rate_hz,
    };

    if (capture->stream.rate_hz == CAPTURE_RATE_HZ) {
        memcpy(data.data_out, samples, n_samples * sizeof(float));
        capture->n_ready += n_samples;
    } else if (src_process(capture->resampler, &data) == 0) {
        capture->n_ready += (size_t)data.output_frames_gen;
    }
}

/* What is no number is nothing. */
static float limit(float sample)
{
    return sample > 1 ? 1 : sample < -1 ? -1 : 0;
}

bool capture_read(struct capture *capture, float frame[CAPTURE_FRAME])
{
    static const float silence[PCM_BLOCK_MAX];

    while (capture->n_ready < CAPTURE_FRAME) {
        struct block *block = ring_read_begin(&capture->ring);

        if (!block)
            return false;
        if (block->number != capture->next_number) {
            resample(capture, silence, block->n_samples);
        } else {
            resample(capture, block->samples, block->n_samples);
            ring_read_end(&capture->ring);
        }
        capture->next_number++;
    }
    for (size_t i = 0; i < CAPTURE_FRAME; i++)
        frame[i] = fabsf(capture->ready[i]) <= 1 ? capture->ready[i] : limit(capture->ready[i]);
    capture->n_ready -= CAPTURE_FRAME;
    memmove(capture->ready, capture->ready + CAPTURE_FRAME, capture->n_ready * sizeof(float));
    return true;
}

void capture_counts(struct capture *capture, struct capture_counts *ret)
{
    ret->n_callbacks = atomic_load_explicit(&capture->stream.n_callbacks, memory_order_relaxed);
    ret->n_overruns = atomic_load_explicit(&capture->n_overruns, memory_order_relaxed);
    ret->n_xruns = atomic_load_explicit(&capture->stream.n_xruns, memory_order_relaxed);
}

struct pcm_stream *capture_stream(struct capture *capture)
{
    return &capture->stream;
}
