/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Causal convolutions over a stream of rows, and the transposed ones that lengthen it.
 *
 *     conv:     y[t] = b + Σ_j w[j] · x[t - (kernel - 1) + j], rows before the first are zeros
 *     conv_up:  y[stride t + j] = b + w[j] · x[t] + w[stride + j] · x[t - 1], 0 <= j < stride
 *     conv_own: the same for each channel alone, without b
 *
 * A row's result depends on its rows alone, so that cutting a stream never changes a bit. Sums are
 * f32 whatever the type in the file.
 *
 * Shapes:  matrices [out][in]; rows [n][in] -> [n][out], or [n * stride][out]
 * Memory:  weights and what a stream remembers lie in the arena of the loader
 * Threads: engine thread, which lends the pool
 */

#include <stdbool.h>
#include <stddef.h>

#include "tensor/loader.h"
#include "tensor/pool.h"

/* Values that one output looks at, at most. */
#define CONV_VALUES_MAX ((size_t)16384)

struct conv {
    size_t kernel, in, out;
    const float *w; /* [out][kernel][in]  NAME.weight */
    const float *b; /* [out]              NAME.bias, or NULL */
    float *past;    /* [kernel - 1][in] */
};

struct conv_up {
    size_t stride;
    struct conv taps; /* kernel 1: [2 * stride * out][in] */
    const float *b;   /* [out] */
    float *tail;      /* [stride][out] what the last row adds to the next ones */
};

struct conv_own {
    size_t stride, width;
    const float *w; /* [2 * stride][width]  NAME.weight */
    float *past;    /* [width] */
};

/* Parts of a loader_walk. kernel * in is at most CONV_VALUES_MAX, and so is 2 * stride * out. */
bool conv_load(struct loader *loader, const char *name, size_t kernel, size_t in, size_t out,
               bool has_bias, struct conv *ret);
bool conv_up_load(struct loader *loader, const char *name, size_t stride, size_t in, size_t out,
                  struct conv_up *ret);
bool conv_own_load(struct loader *loader, const char *name, size_t stride, size_t width,
                   struct conv_own *ret);

/* Begin a stream. */
void conv_reset(const struct conv *conv);
void conv_up_reset(const struct conv_up *up);
void conv_own_reset(const struct conv_own *own);

void conv_rows(const struct conv *conv, const float *x, size_t n, float *y, struct pool *pool);

/* taps: [n][2 * stride * out], memory to work in */
void conv_up_rows(const struct conv_up *up, const float *x, size_t n, float *taps, float *y,
                  struct pool *pool);

void conv_own_rows(const struct conv_own *own, const float *x, size_t n, float *y);
