/* SPDX-License-Identifier: MIT */
#include "audio/device/pcm_stream.h"

#include <pa_linux_alsa.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "audio/device/guard.h"
#include "audio/device/quiet.h"
#include "base/cleanup.h"
#include "base/log.h"

static const char *const direction_verbs[_DEVICE_DIRECTION_N] = {"record from", "play to"};

uint64_t pcm_stream_now_usec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

struct pcm_opening {
    struct pcm_stream *stream; /* touched only between enter() and leave() */
    atomic_bool over;          /* it was left behind */
    atomic_uint n_inside;
    PaStreamCallback *callback;
    void *userdata;
    struct device device;
    enum device_direction direction;
    unsigned rates_hz[4], latency_msec;
    unsigned rate_hz, n_channels;
    PaStream *pa;
    PaError r;
};

/* --- an opening: left behind, it must not touch the stream any more -------------------------- */

static bool enter(struct pcm_opening *opening)
{
    atomic_fetch_add(&opening->n_inside, 1);
    if (!atomic_load(&opening->over))
        return true;
    atomic_fetch_sub(&opening->n_inside, 1);
    return false;
}

static void leave(struct pcm_opening *opening)
{
    atomic_fetch_sub(&opening->n_inside, 1);
}

/* Nobody is inside any more when it returns; who is inside never waits. */
static void bar(void *userdata)
{
    struct pcm_opening *opening = userdata;
    const struct timespec step = {.tv_nsec = 1000000};

    atomic_store(&opening->over, true);
    while (atomic_load(&opening->n_inside) > 0)
        nanosleep(&step, NULL);
}

/* RT safe */
static int on_block(const void *input, void *output, unsigned long n_frames,
                    const PaStreamCallbackTimeInfo *time, PaStreamCallbackFlags flags,
                    void *userdata)
{
    struct pcm_opening *opening = userdata;
    int r;

    if (!enter(opening)) {
        if (output)
            memset(output, 0, n_frames * opening->n_channels * sizeof(float));
        return paAbort;
    }
    r = opening->callback(input, output, n_frames, time, flags, opening->userdata);
    leave(opening);
    return r;
}

static void close_opening(void *userdata)
{
    struct pcm_opening *opening = userdata;

    if (opening->pa) {
        Pa_AbortStream(opening->pa);
        Pa_CloseStream(opening->pa);
    }
    opening->pa = NULL;
}

static void try_rate(struct pcm_opening *opening)
{
    const bool captures = opening->direction == DEVICE_CAPTURE;
    PaAlsaStreamInfo alsa;
    PaStreamParameters parameters = {
        .device = opening->device.index,
        .sampleFormat = paFloat32,
        .suggestedLatency = opening->latency_msec / 1000.0,
        .channelCount = (int)opening->n_channels,
    };

    if (opening->device.index < 0) {
        PaAlsa_InitializeStreamInfo(&alsa);
        alsa.deviceString = opening->device.name;
        parameters.device = paUseHostApiSpecificDeviceSpecification;
        parameters.hostApiSpecificStreamInfo = &alsa;
    }
    opening->r = Pa_OpenStream(&opening->pa, captures ? &parameters : NULL,
                               captures ? NULL : &parameters, opening->rate_hz,
                               opening->rate_hz * PCM_BLOCK_MSEC / 1000, paClipOff | paDitherOff,
                               on_block, opening);
    if (opening->r != paNoError) {
        opening->pa = NULL;
        return;
    }
    if (!enter(opening))
        return;
    opening->stream->rate_hz = opening->rate_hz; /* the callback looks at them */
    opening->stream->n_channels = opening->n_channels;
    leave(opening);
    opening->r = Pa_StartStream(opening->pa);
    if (opening->r != paNoError)
        close_opening(opening);
}

static void try_rates(void *userdata)
{
    struct pcm_opening *opening = userdata;

    opening->r = paInvalidSampleRate;
    for (size_t i = 0; i < ARRAY_LEN(opening->rates_hz) && opening->r == paInvalidSampleRate; i++) {
        opening->rate_hz = opening->rates_hz[i];
        if (opening->rate_hz > 0 && opening->rate_hz <= PCM_RATE_MAX && opening->rate_hz % 100 == 0)
            try_rate(opening);
    }
}

/* It returned after the limit, from opening or closing. */
static void undo(void *userdata)
{
    close_opening(userdata);
    free(userdata);
}

static const struct guarded opens = {.run = try_rates, .leave = bar, .late = undo};
static const struct guarded closes = {.run = close_opening, .leave = bar, .late = undo};

/* --- the owner ------------------------------------------------------------------------------- */

/* Frees the opening unless it succeeds. */
static int run_opening(struct pcm_opening *opening, struct error *err)
{
    const struct device device = opening->device;
    const char *verb = direction_verbs[opening->direction];
    const int kept = quiet_begin();
    const enum guard_end end = guard_run(&opens, opening, PCM_OPEN_MSEC);
    PaError r;

    quiet_end(kept);
    if (end == GUARD_LEFT)
        return error_set(err, ERROR_AUDIO_UNAVAILABLE,
                         "Cannot %s the sound device \"%s\": it does not answer.", verb,
                         device.name);
    r = opening->r;
    if (end == GUARD_RETURNED && r == paNoError)
        return 0;
    free(opening);
    if (end == GUARD_REFUSED)
        return error_set(err, ERROR_AUDIO_UNAVAILABLE,
                         "Cannot %s the sound device \"%s\": too many attempts have not ended; "
                         "start lfmd again.",
                         verb, device.name);
    return error_set(err, ERROR_AUDIO_UNAVAILABLE, "Cannot %s the sound device \"%s\": %s.", verb,
                     device.name, Pa_GetErrorText(r));
}

int pcm_stream_open(struct pcm_stream *stream, const struct device *device,
                enum device_direction direction, unsigned wanted_hz, unsigned latency_msec,
                PaStreamCallback *callback, void *userdata, struct error *err)
{
    struct pcm_opening *opening;
    const PaStreamInfo *info;
    double latency;
    int r;

    if (latency_msec < PCM_LATENCY_MSEC_MIN || latency_msec > PCM_LATENCY_MSEC_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "A latency of %u ms is not possible; %d to %d are.", latency_msec,
                         PCM_LATENCY_MSEC_MIN, PCM_LATENCY_MSEC_MAX);
    opening = malloc(sizeof(*opening));
    if (!opening)
        return error_set(err, ERROR_NO_MEMORY, "No memory for a sound stream.");
    *opening = (struct pcm_opening){
        .stream = stream,
        .callback = callback,
        .userdata = userdata,
        .device = *device,
        .direction = direction,
        .rates_hz = {wanted_hz, device->rate_hz, 48000, 44100},
        .latency_msec = latency_msec,
        /* One microphone; both loudspeakers, since a stereo device would play one channel left. */
        .n_channels = direction == DEVICE_CAPTURE ? 1 : MIN(device->n_channels[direction], 2u),
        .r = paInvalidSampleRate,
    };
    stream->n_callbacks_seen = 0;
    atomic_store(&stream->n_callbacks, 0);
    atomic_store(&stream->thread_id, 0);
    r = run_opening(opening, err);
    if (r < 0)
        return r;
    stream->opening = opening;
    stream->pa = opening->pa;
    info = Pa_GetStreamInfo(stream->pa);
    latency = direction == DEVICE_CAPTURE ? info->inputLatency : info->outputLatency;
    stream->latency_msec = (unsigned)(1000 * latency + 0.5);
    stream->opened_usec = stream->seen_usec = pcm_stream_now_usec();
    return 0;
}

void pcm_stream_close(struct pcm_stream *stream)
{
    struct pcm_opening *opening = stream->opening;
    enum guard_end end;
    int kept;

    if (!stream->pa)
        return;
    stream->pa = NULL;
    stream->opening = NULL;
    kept = quiet_begin();
    end = guard_run(&closes, opening, PCM_CLOSE_MSEC);
    quiet_end(kept);
    if (end == GUARD_RETURNED) {
        free(opening);
        return;
    }
    if (end == GUARD_REFUSED)
        bar(opening); /* PortAudio has it until the process ends */
    log_warning("A sound stream cannot be closed: its device does not answer.");
}

bool pcm_stream_is_lost(struct pcm_stream *stream)
{
    const unsigned n = atomic_load_explicit(&stream->n_callbacks, memory_order_relaxed);
    const uint64_t now_usec = pcm_stream_now_usec();
    uint64_t patience_usec = PCM_PATIENCE_MSEC * 1000;

    if (!stream->pa || Pa_IsStreamActive(stream->pa) != 1)
        return true;
    if (n != stream->n_callbacks_seen) {
        stream->n_callbacks_seen = n;
        stream->seen_usec = now_usec;
    }
    if (now_usec - stream->opened_usec < PCM_GRACE_MSEC * 1000)
        patience_usec = PCM_GRACE_MSEC * 1000;
    return now_usec - stream->seen_usec > patience_usec;
}

/* Quiet ends of fades and of resampled sound must not cost a hundred times as much. */
static void flush_to_zero(void)
{
#if defined(__SSE__)
    _mm_setcsr(_mm_getcsr() | 0x8040); /* FTZ, DAZ */
#elif defined(__aarch64__)
    uint64_t fpcr;

    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr | 1u << 24));
#endif
}

void pcm_stream_enter(struct pcm_stream *stream, PaStreamCallbackFlags flags)
{
    if (atomic_load_explicit(&stream->thread_id, memory_order_relaxed) == 0) {
        flush_to_zero();
        atomic_store_explicit(&stream->thread_id, gettid(), memory_order_relaxed);
    }
    if (flags & (paInputOverflow | paOutputUnderflow))
        atomic_fetch_add_explicit(&stream->n_xruns, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&stream->n_callbacks, 1, memory_order_relaxed);
}
