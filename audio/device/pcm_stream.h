/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What capture and playback have in common: one half-duplex PortAudio stream with blocks of 10 ms,
 * its signs of life, and the first steps of its callback. For the files of this folder.
 *
 * Two half-duplex streams, because a duplex stream through ALSA's PulseAudio plug-in stalls. A
 * block of fixed size, because otherwise 1 to 256 frames come at a time.
 *
 * A server that goes away gives no error: callbacks stop, and PortAudio's stream turns inactive or
 * does not. pcm_stream_is_lost() looks at both. A cold device may take seconds until its first
 * callbacks, hence the longer patience at the beginning.
 *
 * A device that does not answer is given up: opening fails after PCM_OPEN_MSEC, closing returns
 * after PCM_CLOSE_MSEC, and the callback is not called any more.
 *
 * Threads: the owner's, except pcm_stream_enter(): the callback, RT safe but for its first
 *          call, which asks for its thread's id (priority.h) and sets flush-to-zero.
 * Source:  PortAudio 19.6; the patience was found with PulseAudio 16.1 and PipeWire 0.3.65
 */

#include <portaudio.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "audio/device/device.h"

#define PCM_BLOCK_MSEC   10
#define PCM_RATE_MAX     48000
#define PCM_BLOCK_MAX    (PCM_RATE_MAX * PCM_BLOCK_MSEC / 1000)
#define PCM_PATIENCE_MSEC 500  /* without a callback, then it is lost */
#define PCM_GRACE_MSEC    3000 /* the same, after opening */

/* More is not waited for: the call is left behind (guard.h). */
#define PCM_OPEN_MSEC  5000
#define PCM_CLOSE_MSEC 1000

#define PCM_LATENCY_MSEC_MIN 10
#define PCM_LATENCY_MSEC_MAX 500

/* Zeroed before the first opening. */
struct pcm_stream {
    /* the owner's */
    PaStream *pa; /* NULL: closed */
    struct pcm_opening *opening;
    unsigned rate_hz, n_channels, latency_msec;
    uint64_t opened_usec, seen_usec;
    unsigned n_callbacks_seen;

    /* the callback's; others look */
    atomic_uint n_callbacks; /* of this opening */
    atomic_uint n_xruns;     /* PortAudio's flags: input overflow, output underflow; of all */
    atomic_int thread_id;    /* 0 before the first callback */
};

/*
 * Open and start. The rates tried are wanted_hz, the device's own, 48000 and 44100; the one that
 * was had is stream->rate_hz, blocks are a hundredth of it. latency_msec is asked for; what
 * PortAudio says it will be is stream->latency_msec (of plug-ins it counts only ALSA's buffer).
 */
int pcm_stream_open(struct pcm_stream *stream, const struct device *device,
                enum device_direction direction, unsigned wanted_hz, unsigned latency_msec,
                PaStreamCallback *callback, void *userdata, struct error *err);
void pcm_stream_close(struct pcm_stream *stream); /* accepts a closed one */

bool pcm_stream_is_lost(struct pcm_stream *stream);

/* First thing in every callback. */
void pcm_stream_enter(struct pcm_stream *stream, PaStreamCallbackFlags flags);

uint64_t pcm_stream_now_usec(void); /* CLOCK_MONOTONIC */
