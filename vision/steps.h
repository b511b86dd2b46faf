/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the encoder and the projector are made of, on rows of f32, and the memory they work in.
 *
 * A row's result depends on that row alone, so that grouping never changes a bit.
 *
 * Shapes:  matrices [out][in]; d, f, p as in struct vision_shape
 * Threads: engine thread, which lends the pool
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "tensor/loader.h"
#include "tensor/matrix.h"
#include "tensor/pool.h"
#include "vision/shape.h"

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

/* Memory of one pass over at most n_max patches. */
struct workspace {
    struct arena arena;
    size_t n_max;
    float *x;          /* [n_max][d] */
    float *h;          /* [n_max][d] */
    float *q, *k, *v;  /* [n_max][d] */
    float *wide;       /* [STEP_ROWS][max(f, p, values of a patch)] */
    void *heads;       /* keys and values of one view, as attend() or attend_wide() reads them */
    size_t head_bytes; /* of the keys of one head, for attend() */
    struct rows rows;
};

/* form: that of the matrices, as they were asked for. */
size_t workspace_plan(const struct vision_shape *shape, enum matrix_form form, size_t n_max);
int workspace_init(struct workspace *ws, const struct vision_shape *shape, enum matrix_form form,
                   size_t n_max, struct error *err);
void workspace_done(struct workspace *ws); /* accepts a zeroed workspace */

struct pass {
    struct workspace *ws;
    struct pool *pool;
};

/* y[n][out] = x · wᵀ + b */
void linear_rows(const struct pass *pass, const struct linear *linear, const float *x, size_t n,
                 float *y);

/* The same for several, at most MATMUL_MAX, that read the same rows. */
void linear_rows_n(const struct pass *pass, const struct linear *const *linears, float *const *y,
                   size_t n_linears, const float *x, size_t n);

/* out[n][width] = norm(x); x == out is fine */
void norm_rows(const struct pass *pass, const struct layer_norm *norm, float eps, const float *x,
               size_t n, size_t width, float *out);

/* x += y, n rows */
void add_rows(const struct pass *pass, float *x, const float *y, size_t n, size_t width);

enum gelu { GELU_TANH, GELU_ERF };

/* y = down(gelu(up(x))), STEP_ROWS at a time */
void mlp_rows(const struct pass *pass, const struct linear *up, enum gelu gelu,
              const struct linear *down, const float *x, size_t n, float *y);
