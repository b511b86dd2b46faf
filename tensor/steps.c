/* SPDX-License-Identifier: MIT */
#include "tensor/steps.h"

#include "base/cleanup.h"
#include "tensor/ops.h"

/* --- loading ---------------------------------------------------------------------------------- */

bool linear_load(struct loader *loader, const char *name, size_t out, size_t in, struct linear *ret)
{
    char full[64];

    return loader_matrix(loader, loader_name(full, "%s.weight", name), out, in, &ret->w) &&
           loader_f32(loader, loader_name(full, "%s.bias", name), 1, out, &ret->b);
}

bool linear_load_wide(struct loader *loader, const char *name, size_t out, size_t in,
                      struct linear *ret)
{
    const enum matrix_form form = loader->form;
    bool loaded;

    if (form == MATRIX_ROUNDED)
        loader->form = MATRIX_WIDE;
    loaded = linear_load(loader, name, out, in, ret);
    loader->form = form;
    return loaded;
}

bool layer_norm_load(struct loader *loader, const char *name, size_t width, struct layer_norm *ret)
{
    char full[64];

    return loader_f32(loader, loader_name(full, "%s.weight", name), 1, width, &ret->w) &&
           loader_f32(loader, loader_name(full, "%s.bias", name), 1, width, &ret->b);
}

/* --- rows ------------------------------------------------------------------------------------- */

/* One job for all of them: what is not used by a function is not set. */
struct rows_job {
    const float *x, *w, *b;
    float *y;
    size_t width;
    float eps, scale;
    enum activation activation;
};

#define ROWS_CHUNK 8

static void activate(enum activation activation, float *y, const float *b, size_t n)
{
    switch (activation) {
    case ACTIVATION_NONE:
        op_add(y, b, n);
        break;
    case ACTIVATION_RELU:
        for (size_t i = 0; i < n; i++)
            y[i] = y[i] + b[i] > 0 ? y[i] + b[i] : 0;
        break;
    case ACTIVATION_SILU:
        op_add(y, b, n);
        op_sigmoid_mul(y, y, n);
        break;
    case ACTIVATION_GELU_TANH:
        op_gelu_tanh(y, b, n);
        break;
    case ACTIVATION_GELU_ERF:
        op_gelu_erf(y, b, n);
        break;
    }
}

static void finish_some(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct rows_job *job = context;

    (void)worker;
    (void)scratch;
    for (size_t t = first; t < last; t++)
        activate(job->activation, job->y + t * job->width, job->b, job->width);
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
    op_add_scaled(job->y + first * job->width, job->x + first * job->width, job->scale,
                  (last - first) * job->width);
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

void add_rows(const struct pass *pass, float *x, const float *y, float scale, size_t n,
              size_t width)
{
    struct rows_job job = {.x = y, .y = x, .width = width, .scale = scale};

    pool_run(pass->pool, add_some, &job, n, ROWS_CHUNK);
}

/* The rows are quantised once for all products. */
static void product_rows(const struct pass *pass, const struct linear *const *linears,
                         float *const *y, size_t n_linears, enum activation activation,
                         const float *x, size_t n)
{
    const struct matrix *matrices[MATMUL_MAX];

    for (size_t i = 0; i < n_linears; i++)
        matrices[i] = &linears[i]->w;
    rows_set(pass->rows, x, n, linears[0]->w.in, pass->pool);
    matmul_n(matrices, y, n_linears, pass->rows, pass->pool);
    for (size_t i = 0; i < n_linears; i++) {
        struct rows_job job = {
            .b = linears[i]->b,
            .y = y[i],
            .width = matrices[i]->out,
            .activation = activation,
        };

        pool_run(pass->pool, finish_some, &job, n, ROWS_CHUNK);
    }
}

void linear_rows_n(const struct pass *pass, const struct linear *const *linears, float *const *y,
                   size_t n_linears, const float *x, size_t n)
{
    product_rows(pass, linears, y, n_linears, ACTIVATION_NONE, x, n);
}

void linear_rows(const struct pass *pass, const struct linear *linear, enum activation activation,
                 const float *x, size_t n, float *y)
{
    product_rows(pass, &linear, &y, 1, activation, x, n);
}

void mlp_rows(const struct pass *pass, const struct linear *up, enum activation activation,
              const struct linear *down, const float *x, size_t n, float *y)
{
    for (size_t done = 0; done < n; done += STEP_ROWS) {
        const size_t rows = MIN(n - done, STEP_ROWS);

        linear_rows(pass, up, activation, x + done * up->w.in, rows, pass->wide);
        linear_rows(pass, down, ACTIVATION_NONE, pass->wide, rows, y + done * down->w.out);
    }
}
