/* SPDX-License-Identifier: MIT */
#include "vision/steps.h"

#include <stdio.h>

#include "base/cleanup.h"
#include "tensor/attend.h"
#include "tensor/ops.h"
#include "vision/patches.h"

/* --- loading ---------------------------------------------------------------------------------- */

bool linear_load(struct loader *loader, const char *name, size_t out, size_t in, struct linear *ret)
{
    char full[64];

    return loader_matrix(loader, loader_name(full, "%s.weight", name), out, in, &ret->w) &&
           loader_f32(loader, loader_name(full, "%s.bias", name), 1, out, &ret->b);
}

bool layer_norm_load(struct loader *loader, const char *name, size_t width, struct layer_norm *ret)
{
    char full[64];

    return loader_f32(loader, loader_name(full, "%s.weight", name), 1, width, &ret->w) &&
           loader_f32(loader, loader_name(full, "%s.bias", name), 1, width, &ret->b);
}

/* --- workspace -------------------------------------------------------------------------------- */

/* With a NULL arena the sizes are only added up. */
static size_t carve(struct arena *arena, const struct vision_shape *shape, enum matrix_form form,
                    size_t n, struct workspace *ws)
{
    const size_t d = shape->n_hidden;
    const size_t wide = MAX(MAX((size_t)shape->n_ff, (size_t)shape->n_projector), PATCHES_VALUES);
    const size_t row_values =
        MAX(rows_values(form, n, d), rows_values(form, STEP_ROWS, MAX(wide, 4 * d)));
    const size_t head_bytes = kv_bytes(KV_F32, d / shape->n_head, n);
    const struct {
        void **at;
        size_t size;
    } pieces[] = {
        {(void **)&ws->x, n * d * sizeof(float)},
        {(void **)&ws->h, n * d * sizeof(float)},
        {(void **)&ws->q, n * d * sizeof(float)},
        {(void **)&ws->k, n * d * sizeof(float)},
        {(void **)&ws->v, n * d * sizeof(float)},
        {(void **)&ws->wide, STEP_ROWS * wide * sizeof(float)},
        {&ws->heads, MAX(2 * shape->n_head * head_bytes,
                         attend_wide_bytes(n, shape->n_head, d / shape->n_head))},
    };
    size_t bytes = rows_plan(form, row_values);

    ws->n_max = n;
    ws->head_bytes = head_bytes;
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        bytes += arena_need(pieces[i].size);
        if (arena)
            *pieces[i].at = arena_take(arena, pieces[i].size);
    }
    if (arena)
        rows_init(&ws->rows, form, row_values, arena);
    return bytes;
}

size_t workspace_plan(const struct vision_shape *shape, enum matrix_form form, size_t n_max)
{
    struct workspace unused;

    return carve(NULL, shape, form, n_max, &unused);
}

int workspace_init(struct workspace *ws, const struct vision_shape *shape, enum matrix_form form,
                   size_t n_max, struct error *err)
{
    int r;

    *ws = (struct workspace){0};
    r = arena_init(&ws->arena, workspace_plan(shape, form, n_max), "reading pictures", err);
    if (r == 0)
        carve(&ws->arena, shape, form, n_max, ws);
    return r;
}

void workspace_done(struct workspace *ws)
{
    arena_done(&ws->arena);
    *ws = (struct workspace){0};
}

/* --- rows ------------------------------------------------------------------------------------- */

/* One job for all of them: what is not used by a function is not set. */
struct rows_job {
    const float *x, *w, *b;
    float *y;
    size_t width;
    float eps;
};

#define ROWS_CHUNK 8

static void bias_some(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct rows_job *job = context;

    (void)worker;
    (void)scratch;
    for (size_t t = first; t < last; t++)
        op_add(job->y + t * job->width, job->b, job->width);
}

static void gelu_tanh_some(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct rows_job *job = context;

    (void)worker;
    (void)scratch;
    for (size_t t = first; t < last; t++)
        op_gelu_tanh(job->y + t * job->width, job->b, job->width);
}

static void gelu_erf_some(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct rows_job *job = context;

    (void)worker;
    (void)scratch;
    for (size_t t = first; t < last; t++)
        op_gelu_erf(job->y + t * job->width, job->b, job->width);
}

static void norm_some(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct rows_job *job = context;
    const size_t n = job->width;

    (void)worker;
    (void)scratch;
    for (size_t t = first; t < last; t++)
        op_layernorm(job->x + t * n, job->w, job->b, n, job->eps, job->y + t * n);
}

static void add_some(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct rows_job *job = context;

    (void)worker;
    (void)scratch;
    op_add(job->y + first * job->width, job->x + first * job->width, (last - first) * job->width);
}

void norm_rows(const struct pass *pass, const struct layer_norm *norm, float eps, const float *x,
               size_t n, size_t width, float *out)
{
    struct rows_job job = {
        .x = x,
        .w = norm->w,
        .b = norm->b,
        .y = out,
        .width = width,
        .eps = eps,
    };

    pool_run(pass->pool, norm_some, &job, n, ROWS_CHUNK);
}

void add_rows(const struct pass *pass, float *x, const float *y, size_t n, size_t width)
{
    struct rows_job job = {.x = y, .y = x, .width = width};

    pool_run(pass->pool, add_some, &job, n, ROWS_CHUNK);
}

/* The rows are quantised once for all products. */
static void product_rows(const struct pass *pass, const struct linear *const *linears,
                         float *const *y, size_t n_linears, pool_fn *finish, const float *x,
                         size_t n)
{
    const struct matrix *matrices[MATMUL_MAX];

    for (size_t i = 0; i < n_linears; i++)
        matrices[i] = &linears[i]->w;
    rows_set(&pass->ws->rows, x, n, linears[0]->w.in, pass->pool);
    matmul_n(matrices, y, n_linears, &pass->ws->rows, pass->pool);
    for (size_t i = 0; i < n_linears; i++) {
        struct rows_job job = {.b = linears[i]->b, .y = y[i], .width = matrices[i]->out};

        pool_run(pass->pool, finish, &job, n, ROWS_CHUNK);
    }
}

void linear_rows_n(const struct pass *pass, const struct linear *const *linears, float *const *y,
                   size_t n_linears, const float *x, size_t n)
{
    product_rows(pass, linears, y, n_linears, bias_some, x, n);
}

void linear_rows(const struct pass *pass, const struct linear *linear, const float *x, size_t n,
                 float *y)
{
    product_rows(pass, &linear, &y, 1, bias_some, x, n);
}

void mlp_rows(const struct pass *pass, const struct linear *up, enum gelu gelu,
              const struct linear *down, const float *x, size_t n, float *y)
{
    pool_fn *const finish = gelu == GELU_TANH ? gelu_tanh_some : gelu_erf_some;

    for (size_t done = 0; done < n; done += STEP_ROWS) {
        const size_t rows = MIN(n - done, STEP_ROWS);

        product_rows(pass, &up, &pass->ws->wide, 1, finish, x + done * up->w.in, rows);
        linear_rows(pass, down, pass->ws->wide, rows, y + done * down->w.out);
    }
}
