/* SPDX-License-Identifier: MIT */
#include "audio/device/pcm_stream.h"

#include <pa_linux_alsa.h>
#include <time.h>
#include <unistd.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "audio/device/quiet.h"
#include "base/cleanup.h"

static const char *const direction_verbs[_DEVICE_DIRECTION_N] = {"record from", "play to"};

uint64_t pcm_stream_now_usec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static PaError try_rate(struct pcm_stream *stream, const struct device *device,
                        enum device_direction direction, unsigned rate_hz, unsigned latency_msec,
                        PaStreamCallback *callback, void *userdata)
{
    PaAlsaStreamInfo alsa;
    PaStreamParameters parameters = {
        .device = device->index,
        .sampleFormat = paFloat32,
        .suggestedLatency = latency_msec / 1000.0,
    };
    PaError r;

    if (device->index < 0) {
        PaAlsa_InitializeStreamInfo(&alsa);
        alsa.deviceString = device->name;
        parameters.device = paUseHostApiSpecificDeviceSpecification;
        parameters.hostApiSpecificStreamInfo = &alsa;
    }
    /* One microphone; both loudspeakers, since a stereo device would play one channel left. */
    stream->n_channels = direction == DEVICE_CAPTURE ? 1 : MIN(device->n_channels[direction], 2u);
    parameters.channelCount = (int)stream->n_channels;
    r = Pa_OpenStream(&stream->pa, direction == DEVICE_CAPTURE ? &parameters : NULL,
                      direction == DEVICE_PLAYBACK ? &parameters : NULL, rate_hz,
                      rate_hz * PCM_BLOCK_MSEC / 1000, paClipOff | paDitherOff, callback,
                      userdata);
    if (r != paNoError) {
        stream->pa = NULL;
        return r;
    }
    stream->rate_hz = rate_hz; /* the callback looks at it */
    r = Pa_StartStream(stream->pa);
    if (r != paNoError) {
        Pa_CloseStream(stream->pa);
        stream->pa = NULL;
    }
    return r;
}

int pcm_stream_open(struct pcm_stream *stream, const struct device *device,
                enum device_direction direction, unsigned wanted_hz, unsigned latency_msec,
                PaStreamCallback *callback, void *userdata, struct error *err)
{
    const unsigned rates_hz[] = {wanted_hz, device->rate_hz, 48000, 44100};
    const PaStreamInfo *info;
    PaError r = paInvalidSampleRate;
    double latency;
    int kept;

    if (latency_msec < PCM_LATENCY_MSEC_MIN || latency_msec > PCM_LATENCY_MSEC_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "A latency of %u ms is not possible; %d to %d are.", latency_msec,
                         PCM_LATENCY_MSEC_MIN, PCM_LATENCY_MSEC_MAX);
    stream->n_callbacks_seen = 0;
    atomic_store(&stream->n_callbacks, 0);
    atomic_store(&stream->thread_id, 0);
    kept = quiet_begin();
    for (size_t i = 0; i < ARRAY_LEN(rates_hz) && r == paInvalidSampleRate; i++)
        if (rates_hz[i] > 0 && rates_hz[i] <= PCM_RATE_MAX && rates_hz[i] % 100 == 0)
            r = try_rate(stream, device, direction, rates_hz[i], latency_msec, callback, userdata);
    quiet_end(kept);
    if (r != paNoError)
        return error_set(err, ERROR_AUDIO_UNAVAILABLE, "Cannot %s the sound device \"%s\": %s.",
                         direction_verbs[direction], device->name, Pa_GetErrorText(r));
    info = Pa_GetStreamInfo(stream->pa);
    latency = direction == DEVICE_CAPTURE ? info->inputLatency : info->outputLatency;
    stream->latency_msec = (unsigned)(1000 * latency + 0.5);
    stream->opened_usec = stream->seen_usec = pcm_stream_now_usec();
    return 0;
}

void pcm_stream_close(struct pcm_stream *stream)
{
    int kept;

    if (!stream->pa)
        return;
    kept = quiet_begin();
    Pa_AbortStream(stream->pa);
    Pa_CloseStream(stream->pa);
    quiet_end(kept);
    stream->pa = NULL;
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
