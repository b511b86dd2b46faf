/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Log-mel features of speech, computed as it comes.
 *
 *     y[n] = x[n] - 0.97 x[n - 1]
 *     G[m][t] = ln(2^-24 + sum over k of filter[m][k] |FFT of 512 (hann * y around 160 t)|²[k])
 *     out = (G - mean) / (std + 1e-5), for each m over all frames but the last, which is zero
 *
 * The window is a symmetric Hann window of 400 samples, the filters are triangles on Slaney's mel
 * scale with Slaney's norm. A frame is final when the last sample of its window is there, so that
 * little is left to do when somebody stops speaking.
 *
 * Shapes:  samples [n], 16 kHz, mono, -1 .. 1; features [n_mels][n_frames]; a frame is 10 ms
 * Memory:  taken in mel_new()
 * Threads: any; one owner
 * Source:  audio.md 1; liquid-audio model/conformer/processor.py
 */

#include <stddef.h>

#include "base/error.h"

#define MEL_RATE_HZ  16000
#define MEL_HOP      160 /* samples from one frame to the next */
#define MEL_BINS     128 /* of every published model */
#define MEL_BINS_MAX 512

/* Frames of a clip, the zero frame included. */
static inline size_t mel_n_frames(size_t n_samples)
{
    return n_samples / MEL_HOP + 1;
}

struct mel;

/* n_mels: up to MEL_BINS_MAX, for clips of up to n_samples_max. NULL on failure. */
struct mel *mel_new(size_t n_mels, size_t n_samples_max, struct error *err);
struct mel *mel_free(struct mel *mel); /* accepts and returns NULL */

/* Forget all samples: the next clip. */
void mel_clear(struct mel *mel);

/* Take samples, all of them finite. -ENOSPC, having taken none, above n_samples_max. */
int mel_push(struct mel *mel, const float *samples, size_t n);

size_t mel_n_samples(const struct mel *mel); /* pushed so far */

/* Features of what was pushed so far, without ending the clip: out [n_mels][mel_n_frames()]. */
void mel_features(const struct mel *mel, float *out);
