/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Inverse short-time Fourier transform, as a stream: spectra -> samples.
 *
 *     y[t] = window * irfft(S[t]);  sum and window² overlap-add at hop · t;  x = sum / window²
 *
 * The first and last (n_fft - hop) / 2 samples are dropped, so that T rows make hop · T samples.
 * A sample is known when the last row that reaches it is there: the stream lags by those
 * (n_fft - hop) / 2 samples, which istft_flush() hands out.
 *
 * Shapes:  a row is [n_fft + 2]: log magnitude [n_fft / 2 + 1], then phase in radians
 * Memory:  everything is taken in istft_new()
 * Threads: engine thread, which lends the pool
 * Source:  audio.md 5; liquid-audio detokenizer.py
 */

#include <stddef.h>

#include "base/error.h"
#include "tensor/pool.h"

#define ISTFT_MAX ((size_t)1 << 16) /* n_fft */

struct istft;

/* Bytes that istft_new() takes. */
size_t istft_plan(size_t n_fft, size_t n_rows_max);

/* window [n_fft], copied; hop < n_fft, both even; n_rows_max: of one push */
struct istft *istft_new(const float *window, size_t n_fft, size_t hop, size_t n_rows_max,
                        struct pool *pool, struct error *err);
struct istft *istft_free(struct istft *istft); /* accepts and returns NULL */

void istft_reset(struct istft *istft);

/* rows: [n][n_fft + 2]; samples: up to [n * hop]. Returns how many there are. */
size_t istft_push(struct istft *istft, const float *rows, size_t n, float *samples);

/* What the stream still owes: up to (n_fft - hop) / 2 samples. A reset must follow. */
size_t istft_flush(struct istft *istft, float *samples);
