/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What encoders are made of, on rows of f32: linear maps with a bias, layer norms, networks of two
 * linear maps with an activation between.
 *
 * A row's result depends on that row alone, so that grouping never changes a bit.
 *
 * Shapes:  matrices [out][in]
 * Memory:  in the workspace of the caller, who lends it as struct pass
 * Threads: engine thread, which lends the pool
 */

#include <stdbool.h>
#include <stddef.h>

#include "tensor/loader.h"
#include "tensor/matrix.h"
#include "tensor/pool.h"

/* Rows that are widened at a time: enough to keep the processor busy, few enough for its caches. */
#define STEP_ROWS ((size_t)252)

struct linear {
    struct matrix w; /* [out][in]  NAME.weight */
    const float *b;  /* [out]      NAME.bias */
};

struct layer_norm {
    const float *w; /* [width]  NAME.weight */
    const float *b; /* [width]  NAME.bias */
};

/* Parts of a loader_walk; name: "v.blk.0.attn_q". */
bool linear_load(struct loader *loader, const char *name, size_t out, size_t in,
                 struct linear *ret);
bool layer_norm_load(struct loader *loader, const char *name, size_t width, struct layer_norm *ret);

/* linear_load() where bytes would be too coarse: a matrix in rounded form becomes a wide one. */
bool linear_load_wide(struct loader *loader, const char *name, size_t out, size_t in,
                      struct linear *ret);

struct pass {
    struct rows *rows; /* room for the rows of the largest product */
    float *wide;       /* [STEP_ROWS][the widest inner row of an mlp_rows()] */
    struct pool *pool;
};

enum activation {
    ACTIVATION_NONE,
    ACTIVATION_RELU,
    ACTIVATION_SILU,
    ACTIVATION_GELU_TANH,
    ACTIVATION_GELU_ERF,
};

/* y[n][out] = activation(x · wᵀ + b) */
void linear_rows(const struct pass *pass, const struct linear *linear, enum activation activation,
                 const float *x, size_t n, float *y);

/* The same for several, at most MATMUL_MAX, that read the same rows, without an activation. */
void linear_rows_n(const struct pass *pass, const struct linear *const *linears, float *const *y,
                   size_t n_linears, const float *x, size_t n);

/* out[n][width] = norm(x); x == out is fine */
void norm_rows(const struct pass *pass, const struct layer_norm *norm, float eps, const float *x,
               size_t n, size_t width, float *out);

/* x += scale * y, n rows */
void add_rows(const struct pass *pass, float *x, const float *y, float scale, size_t n,
              size_t width);

/* y = down(activation(up(x))), STEP_ROWS at a time */
void mlp_rows(const struct pass *pass, const struct linear *up, enum activation activation,
              const struct linear *down, const float *x, size_t n, float *y);
