/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The memory of a pass over the rows of a clip, and the pool that computes it.
 *
 * Shapes:  c, d, f as in struct audio_shape; one row for eight mel frames
 * Threads: engine thread, which lends the pool
 */

#include "audio/in/shape.h"
#include "base/arena.h"
#include "tensor/steps.h"

/* Rows that are made of mel frames at a time, and what they need after the strides before. */
#define SLAB_3 ((size_t)16)
#define SLAB_2 (2 * SLAB_3 + 1)
#define SLAB_1 (2 * SLAB_2 + 1)

/* Rows of the first map whose patches are multiplied at a time. */
#define PATCH_ROWS ((size_t)8)

struct audio_workspace {
    struct arena arena;
    size_t n_max;     /* rows */
    float *x;         /* [n_max][d] */
    float *h;         /* [n_max][d] */
    float *q, *k, *v; /* [n_max][d] */
    float *qp;        /* [n_max][d] queries of positions */
    float *gated;     /* [n_max][2d] */
    float *angles;    /* [2 n_max - 1][d] position n_max - 1 - row: sines and cosines in turn */
    float *p;         /* [2 n_max - 1][d] keys of positions */
    float *zeros;     /* [max(c, d)] */
    float *patches;   /* [PATCH_ROWS][mels / 2][9] */
    float *maps[2];   /* [SLAB_1][mels / 2][c], [SLAB_2][mels / 4][c] */
    void *heads;      /* of attend_wide() */
    struct rows rows;
    struct pass pass; /* wide: [STEP_ROWS][max(f, inner width of the adapter)] */
};

/* form: that of the matrices, as they were asked for. */
size_t audio_workspace_plan(const struct audio_shape *shape, enum matrix_form form, size_t n_max);
int audio_workspace_init(struct audio_workspace *ws, const struct audio_shape *shape,
                         enum matrix_form form, size_t n_max, struct pool *pool,
                         struct error *err);
void audio_workspace_done(struct audio_workspace *ws); /* accepts a zeroed workspace */
