/* SPDX-License-Identifier: MIT */
#include "tensor/matrix.h"

#include <assert.h>

#include "base/cleanup.h"
#include "tensor/kernels.h"

static size_t n_groups(size_t out)
{
    return (out + GROUP_ROWS - 1) / GROUP_ROWS;
}

/* --- loading -------------------------------------------------------------------------------- */

size_t matrix_plan(const struct gguf_tensor *tensor, bool precise)
{
    if (precise)
        return 0;
    return arena_need(n_groups(tensor->ne[1]) *
                      packing_parts(tensor->type, tensor->ne[0]).group_bytes);
}

#define PACK_BYTES ((size_t)512 << 10) /* of one unit: what is mapped and packed at the same time */

struct pack_job {
    const struct matrix *matrix;
    const struct gguf_tensor *tensor;
    size_t slice; /* bytes of the tensor before `blocks` */
    const unsigned char *blocks;
    unsigned char *packed;
    size_t group_bytes;
};

static void pack_groups(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct pack_job *const job = context;
    const struct matrix *const m = job->matrix;
    const size_t row_bytes = dtype_row_bytes(m->type, m->in);

    (void)worker;
    for (size_t g = first; g < last; g++)
        packing_group(m->type, m->in, job->blocks + g * GROUP_ROWS * row_bytes, row_bytes,
                      MIN(m->out - g * GROUP_ROWS, (size_t)GROUP_ROWS),
                      job->packed + g * job->group_bytes, scratch);
    /* What is packed is not needed twice. */
    gguf_tensor_drop_part(job->tensor, job->slice + first * GROUP_ROWS * row_bytes,
                          job->slice + MIN(last * GROUP_ROWS, m->out) * row_bytes);
}

void matrix_load(struct matrix *matrix, const struct gguf_tensor *tensor, size_t expert,
                 bool precise, struct arena *arena, struct pool *pool)
{
    const size_t in = tensor->ne[0], out = tensor->ne[1];
    const size_t slice = out * dtype_row_bytes(tensor->type, in);
    struct pack_job job = {
        .matrix = matrix,
        .tensor = tensor,
        .slice = expert * slice,
        .blocks = (const unsigned char *)tensor->data + expert * slice,
        .group_bytes = packing_parts(tensor->type, in).group_bytes,
    };

    *matrix = (struct matrix){.out = out, .in = in, .type = tensor->type, .precise = precise};
    if (precise) {
        matrix->data = job.blocks;
        matrix->size_bytes = slice;
        return;
    }
    matrix->size_bytes = n_groups(out) * job.group_bytes;
    job.packed = arena_take(arena, matrix->size_bytes);
    matrix->data = job.packed;
    pool_run(pool, pack_groups, &job, n_groups(out), MAX(PACK_BYTES / job.group_bytes, (size_t)1));
    if (expert + 1 == tensor->ne[2])
        gguf_tensor_drop(tensor);
}

void matrix_row(const struct matrix *matrix, size_t row, float *out)
{
    if (matrix->precise) {
        const size_t row_bytes = dtype_row_bytes(matrix->type, matrix->in);

        dtype_to_f32(matrix->type, (const unsigned char *)matrix->data + row * row_bytes, out,
                     matrix->in);
    } else {
        const size_t group_bytes = packing_parts(matrix->type, matrix->in).group_bytes;

        packing_row(matrix->type, matrix->in,
                    (const unsigned char *)matrix->data + row / GROUP_ROWS * group_bytes,
                    row % GROUP_ROWS, out);
    }
}

/* --- activations ---------------------------------------------------------------------------- */

size_t rows_plan(size_t n_values)
{
    return arena_need(n_values) + arena_need(n_values / 32 * sizeof(float)) +
           arena_need(n_values / 16 * sizeof(int32_t)) + arena_need(sizeof(struct acts));
}

void rows_init(struct rows *rows, size_t n_values, struct arena *arena)
{
    struct acts *const acts = arena_take(arena, sizeof(*acts));

    acts->q = arena_take(arena, n_values);
    acts->d = arena_take(arena, n_values / 32 * sizeof(float));
    acts->sum = arena_take(arena, n_values / 16 * sizeof(int32_t));
    *rows = (struct rows){.quants = acts, .n_values = n_values};
}

static void quantise_rows(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct acts *const acts = context;
    const size_t in = acts->in;

    (void)worker;
    (void)scratch;
    for (size_t p = first; p < last; p++) {
        const size_t tile = p / ACT_TILE * ACT_TILE, row = p % ACT_TILE;

        kernels()->quantise(acts->f32 + p * in, in, acts->q + tile * in + ACT_RUN * row,
                            acts->d + tile * (in / 32) + row, acts->sum + tile * (in / 16) + row,
                            acts_tile_rows(acts, tile));
    }
}

void rows_set(struct rows *rows, const float *x, size_t n, size_t in, struct pool *pool)
{
    struct acts *const acts = rows->quants;

    assert(n * in <= rows->n_values);
    rows->f32 = x;
    rows->n = n;
    rows->in = in;
    acts->n = n;
    acts->in = in;
    acts->f32 = x;
    if (in % 32 == 0)
        pool_run(pool, quantise_rows, acts, n, ACT_TILE);
}

/* --- products ------------------------------------------------------------------------------- */

struct product_job {
    const struct matrix *const *matrices;
    float *const *y;
    size_t n_matrices;
    size_t first_group[MATMUL_MAX + 1]; /* units: the groups of all matrices, one after another */
    const struct acts *x;
};

static void product_precise(const struct matrix *m, size_t first, size_t last,
                            const struct acts *x, float *y, float *row)
{
    for (size_t r = first * GROUP_ROWS; r < MIN(last * GROUP_ROWS, m->out); r++) {
        matrix_row(m, r, row);
        kernels()->dot_f32(row, x->f32, x->n, m->in, y + r, m->out);
    }
}

static void product_units(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct product_job *const job = context;

    (void)worker;
    for (size_t i = 0; i < job->n_matrices; i++) {
        const struct matrix *const m = job->matrices[i];
        const size_t begin = MAX(first, job->first_group[i]) - job->first_group[i];
        const size_t end = MIN(last, job->first_group[i + 1]);
        const struct weights w = {m->type, m->out, m->in, m->data};

        if (end <= job->first_group[i] || begin >= end - job->first_group[i])
            continue;
        if (m->precise)
            product_precise(m, begin, end - job->first_group[i], job->x, job->y[i], scratch);
        else
            kernels()->product(&w, begin, end - job->first_group[i], job->x, job->y[i], m->out,
                               scratch);
    }
}

void matmul_n(const struct matrix *const *matrices, float *const *y, size_t n_matrices,
              const struct rows *x, struct pool *pool)
{
    struct product_job job = {.matrices = matrices, .y = y, .n_matrices = n_matrices,
                              .x = x->quants};

    assert(n_matrices <= MATMUL_MAX);
    for (size_t i = 0; i < n_matrices; i++) {
        assert(matrices[i]->in == x->in);
        assert(x->in % 32 == 0 || matrices[i]->precise ||
               packing_of(matrices[i]->type)->d_values == 0);
        assert(!matrices[i]->precise || x->in * sizeof(float) <= POOL_SCRATCH_BYTES);
        job.first_group[i + 1] = job.first_group[i] + n_groups(matrices[i]->out);
    }
    if (x->n > 0)
        pool_run(pool, product_units, &job, job.first_group[n_matrices], 4);
}

void matmul(const struct matrix *matrix, const struct rows *x, float *y, struct pool *pool)
{
    matmul_n(&matrix, &y, 1, x, pool);
}
