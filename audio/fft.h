/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Fourier transforms of real signals, any even length whose half has no prime factor above 5.
 *
 *     X[k] = Σ x[m] e^(-2πi k m / n)          x[m] = 1/n Σ X[k] e^(2πi k m / n)
 *
 * Shapes:  x [n]; X [n/2 + 1] of {real, imaginary}; the other half is its mirror
 * Threads: any, once made; work belongs to the caller
 * Source:  Stockham's self-sorting form, factors 2 to 5; tables in double
 */

#include <stddef.h>

#include "base/error.h"

#define FFT_MAX ((size_t)1 << 20)

struct fft;

struct fft *fft_new(size_t n, struct error *err);
struct fft *fft_free(struct fft *fft); /* accepts and returns NULL */

/* work: [2 * n]. The imaginary parts of X[0] and X[n/2] are not looked at by the inverse. */
void fft_forward(const struct fft *fft, const float *x, float (*spectrum)[2], float *work);
void fft_inverse(const struct fft *fft, const float (*spectrum)[2], float *x, float *work);
