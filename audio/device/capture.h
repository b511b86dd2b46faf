/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The microphone: a stream of its own, from its callback through a ring to one reader, as frames of
 * 10 ms at 16 kHz.
 *
 *     callback: copies a block at the device's rate into the ring, nothing else
 *     reader:   capture_read() resamples (libsamplerate) and hands out frames
 *
 * Frames are a clock: what the reader was too late for comes as silence of the same length and is
 * counted, so that frame n was spoken n * 10 ms after the stream was opened.
 *
 * Threads: capture_open(), capture_close(), capture_read() one thread (owner and reader);
 *          capture_counts() any.
 * Memory:  everything is allocated in capture_new()
 */

#include <stdbool.h>
#include <stdint.h>

#include "audio/device/device.h"

#define CAPTURE_RATE_HZ 16000
#define CAPTURE_FRAME   160 /* samples, 10 ms */

struct capture;
struct pcm_stream;

struct capture_counts {
    unsigned n_callbacks; /* since it was opened */
    unsigned n_overruns;  /* blocks lost because the reader was late */
    unsigned n_xruns;     /* times that the device said it lost something */
};

/* queue_msec: how late the reader may be, 20 to 10000. NULL on failure. */
struct capture *capture_new(unsigned queue_msec, struct error *err);
struct capture *capture_free(struct capture *capture); /* closes; accepts and returns NULL */

/* What was captured and not read is forgotten. Latency: pcm_stream.h, PCM_LATENCY_MSEC_* */
int capture_open(struct capture *capture, const struct device *device, unsigned latency_msec,
                 struct error *err);
void capture_close(struct capture *capture);

/* The next frame, mono, -1..1; false when there is none yet. */
bool capture_read(struct capture *capture, float frame[CAPTURE_FRAME]);

void capture_counts(struct capture *capture, struct capture_counts *ret);
struct pcm_stream *capture_stream(struct capture *capture); /* for the watchdog and the priority */
