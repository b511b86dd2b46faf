/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Sound files -> mono samples at 16 kHz.
 *
 * Formats: those of libsndfile, found by content: WAV, FLAC, Ogg (Vorbis, Opus), MP3, AIFF, CAF, AU
 *          and others; any rate from 1 to 768 kHz. Channels are averaged.
 * Memory:  a few pieces for an open file, however long; audio_file_read() grows with what a file
 *          holds, never with what its header claims
 * Threads: any; reads what a stranger chose, at the speed of that file system, and trusts a decoder
 *          with it: the daemon does so in a child only (audio/decoder.h)
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

#define AUDIO_FILE_CHANNELS_MAX 64
#define AUDIO_FILE_RATE_MIN     1000
#define AUDIO_FILE_RATE_MAX     768000
#define AUDIO_SAMPLE_MAX        1e6f /* a sample further from 0 is damage, as is NaN */

struct audio_file;

/*
 * fd: a regular file, read from its beginning, wherever it stands; stays the caller's and must stay
 * open. name: stands in sentences; must outlive the file. NULL with UNSUPPORTED_FORMAT,
 * INVALID_ARGUMENT, NO_MEMORY or IO.
 */
struct audio_file *audio_file_open(int fd, const char *name, struct error *err);
struct audio_file *audio_file_free(struct audio_file *file); /* accepts and returns NULL */

/* Samples that its header speaks of; 0: it does not say. */
uint64_t audio_file_claims(const struct audio_file *file);

/* Up to n samples. Returns their number, 0 at the end, or a negative errno with a sentence. */
ssize_t audio_file_pull(struct audio_file *file, float *samples, size_t n, struct error *err);

/* All of a file: *ret malloc, 1 .. n_max samples; INVALID_ARGUMENT when it is longer. */
int audio_file_read(int fd, const char *name, size_t n_max, float **ret, size_t *ret_n,
                    struct error *err);

/* 0 when all samples are finite and within AUDIO_SAMPLE_MAX; else a sentence that says which is
 * not. */
int audio_samples_check(const float *samples, size_t n, const char *name, struct error *err);
