/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The memory of a pass over patches, and the pool that computes it.
 *
 * Shapes:  d, f, p as in struct vision_shape
 * Threads: engine thread, which lends the pool
 */

#include "base/arena.h"
#include "tensor/steps.h"
#include "vision/shape.h"

/* For at most n_max patches. */
struct vision_workspace {
    struct arena arena;
    size_t n_max;
    float *x;          /* [n_max][d] */
    float *h;          /* [n_max][d] */
    float *q, *k, *v;  /* [n_max][d] */
    void *heads;       /* keys and values of one view, as attend() or attend_wide() reads them */
    size_t head_bytes; /* of the keys of one head, for attend() */
    struct rows rows;
    struct pass pass; /* wide: [STEP_ROWS][max(f, p, values of a patch)] */
};

/* form: that of the matrices, as they were asked for. */
size_t vision_workspace_plan(const struct vision_shape *shape, enum matrix_form form, size_t n_max);
int vision_workspace_init(struct vision_workspace *ws, const struct vision_shape *shape,
                          enum matrix_form form, size_t n_max, struct pool *pool,
                          struct error *err);
void vision_workspace_done(struct vision_workspace *ws); /* accepts a zeroed workspace */
