/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A recording in segments that a model can take at once: decoded in a child process
 * (audio/decoder.h), cut at pauses, silence left out.
 *
 * Threads: recording_new() and recording_free() bus thread; a thread of its own decodes and cuts,
 *          one segment ahead; the rest engine thread.
 * Memory:  two segments, whatever the recording's length
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define RECORDING_RATE_HZ     16000
#define RECORDING_SEGMENT_MAX ((size_t)20 * RECORDING_RATE_HZ) /* samples */

struct recording;

enum recording_state { RECORDING_BUSY, RECORDING_SEGMENT, RECORDING_END, RECORDING_FAILED };

struct recording_segment {
    const float *samples; /* [n], 16 kHz mono */
    size_t n;
    int64_t start_ms; /* in the recording */
    int64_t end_ms;
};

/*
 * program: lfmd-sound; NULL: where sound_decoder_path() finds it
 * fd: taken, also on failure; changed: called on its thread when recording_state() may have changed
 */
struct recording *recording_new(const char *program, int fd, void (*changed)(void *userdata),
                                void *userdata, struct error *err);
/* Stops the thread and the child. Accepts and returns NULL. */
struct recording *recording_free(struct recording *recording);

enum recording_state recording_state(const struct recording *recording);

/* While SEGMENT: the segment, valid until recording_next(). */
struct recording_segment recording_segment(const struct recording *recording);
void recording_next(struct recording *recording);

/* FAILED: why. */
const struct error *recording_error(const struct recording *recording);

/* Of the whole recording; 0: not known. */
int64_t recording_total_ms(const struct recording *recording);
