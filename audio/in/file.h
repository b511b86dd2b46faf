/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Sound files -> mono samples at 16 kHz.
 *
 * Formats: those of libsndfile, found by content: WAV, FLAC, Ogg (Vorbis, Opus), MP3, AIFF, CAF, AU
 *          and others; any rate from 1 to 768 kHz. Channels are averaged.
 * Memory:  grows with what a file holds, never with what its header claims
 * Threads: any; reads what a stranger chose, at the speed of that file system
 */

#include <stddef.h>

#include "base/error.h"

#define AUDIO_FILE_CHANNELS_MAX 64
#define AUDIO_FILE_RATE_MIN     1000
#define AUDIO_FILE_RATE_MAX     768000
#define AUDIO_SAMPLE_MAX        1e6f /* a sample further from 0 is damage, as is NaN */

/*
 * fd: a regular file, read from where it stands; stays the caller's. name: stands in sentences.
 * ret: malloc, 1 .. n_max samples.
 * Errors: UNSUPPORTED_FORMAT, INVALID_ARGUMENT (longer than n_max), NO_MEMORY, IO.
 */
int audio_file_read(int fd, const char *name, size_t n_max, float **ret, size_t *ret_n,
                    struct error *err);

/* 0 when all samples are finite and within AUDIO_SAMPLE_MAX; else a sentence that says which is not. */
int audio_samples_check(const float *samples, size_t n, const char *name, struct error *err);
