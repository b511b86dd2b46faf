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

/* What a tensor is loaded as. */
static enum matrix_form form_of(const struct gguf_tensor *tensor, enum matrix_form form)
{
    const struct packing *packing = packing_of(tensor->type);

    if (form == MATRIX_FINE || (form == MATRIX_WIDE && tensor->type == DTYPE_F32))
        return MATRIX_FAST;
    if (form == MATRIX_ROUNDED)
        return packing->d_values == 0 || (packing->bits == 8 && kernels()->bytes_are_slow)
                   ? MATRIX_WIDE
                   : MATRIX_FAST;
    return form;
}

static size_t group_bytes(enum matrix_form form, enum dtype type, size_t in)
{
    return form == MATRIX_WIDE ? packing_wide_group_bytes(in) : packing_parts(type, in).group_bytes;
}

size_t matrix_plan(const struct gguf_tensor *tensor, enum matrix_form form)
{
    if (form == MATRIX_PRECISE)
        return 0;
    return arena_need(n_groups(tensor->ne[1]) *
                      group_bytes(form_of(tensor, form), tensor->type, tensor->ne[0]));
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
        (m->form == MATRIX_WIDE ? packing_wide_group : packing_group)(
            m->type, m->in, job->blocks + g * GROUP_ROWS * row_bytes, row_bytes,
            MIN(m->out - g * GROUP_ROWS, (size_t)GROUP_ROWS), job->packed + g * job->group_bytes,
            scratch);
    /* What is packed is not needed twice. */
    gguf_tensor_drop_part(job->tensor, job->slice + first * GROUP_ROWS * row_bytes,
                          job->slice + MIN(last * GROUP_ROWS, m->out) * row_bytes);
}

void matrix_load(struct matrix *matrix, const struct gguf_tensor *tensor, size_t expert,
                 enum matrix_form form, struct arena *arena, struct pool *pool)
{
    const size_t in = tensor->ne[0], out = tensor->ne[1];
    const size_t slice = out * dtype_row_bytes(tensor->type, in);
    struct pack_job job = {
        .matrix = matrix,
        .tensor = tensor,
        .slice = expert * slice,
        .blocks = (const unsigned char *)tensor->data + expert * slice,
        .group_bytes = group_bytes(form_of(tensor, form), tensor->type, in),
    };

    *matrix = (struct matrix){.out = out, .in = in, .type = tensor->type,
                              .form = form_of(tensor, form)};
    if (form == MATRIX_PRECISE) {
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
    assert(matrix->form != MATRIX_WIDE);
    if (matrix->form == MATRIX_PRECISE) {
        const size_t row_bytes = dtype_row_bytes(matrix->type, matrix->in);

        dtype_to_f32(matrix->type, (const unsigned char *)matrix->data + row * row_bytes, out,
                     matrix->in);
    } else {
        const size_t bytes = group_bytes(matrix->form, matrix->type, matrix->in);

        packing_row(matrix->type, matrix->in,
                    (const unsigned char *)matrix->data + row / GROUP_ROWS * bytes,
                    row % GROUP_ROWS, out);
    }
}

/* --- activations ---------------------------------------------------------------------------- */

size_t rows_values(enum matrix_form form, size_t n, size_t in)
{
    if (form == MATRIX_FINE)
        return 2 * n * in;
    if (form == MATRIX_WIDE || form == MATRIX_ROUNDED)
        return round_up(n, ACT_TILE) * round_up(in, WIDE_BLOCK);
    return n * in;
}

/* The pieces of rows; with a NULL arena their sizes are only added up. */
static size_t carve(struct arena *arena, enum matrix_form form, size_t n, struct acts *acts)
{
    const size_t n_wide = form == MATRIX_WIDE || form == MATRIX_ROUNDED ? n : 0;
    const size_t n_fast = form != MATRIX_WIDE && form != MATRIX_PRECISE ? n : 0;
    const struct {
        void **at;
        size_t size;
    } pieces[] = {
        {(void **)&acts->q, n_fast},
        {(void **)&acts->d, n_fast / 32 * sizeof(float)},
        {(void **)&acts->sum, n_fast / 16 * sizeof(int32_t)},
        {(void **)&acts->wide, n_wide * sizeof(int16_t)},
        {(void **)&acts->wide_d, n_wide / WIDE_BLOCK * sizeof(float)},
    };
    size_t bytes = 0;

    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        bytes += arena_need(pieces[i].size);
        if (arena)
            *pieces[i].at = arena_take(arena, pieces[i].size);
    }
    return bytes;
}

size_t rows_plan(enum matrix_form form, size_t n_values)
{
    struct acts unused;

    return arena_need(sizeof(struct acts)) + carve(NULL, form, n_values, &unused);
}

void rows_init(struct rows *rows, enum matrix_form form, size_t n_values, struct arena *arena)
{
    struct acts *const acts = arena_take(arena, sizeof(*acts));

    carve(arena, form, n_values, acts);
    *rows = (struct rows){.form = form, .quants = acts, .n_values = n_values};
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

/*
 * A fine tile is a tile of the kernels that has half as many positions: their rows, and behind them
 * as many of what was left over.
 */
#define FINE_TILE (ACT_TILE / 2)

static size_t fine_positions(const struct acts *acts, size_t tile)
{
    return MIN(acts->n - tile * FINE_TILE, (size_t)FINE_TILE);
}

static void quantise_fine_rows(void *context, size_t first, size_t last, unsigned worker,
                               void *scratch)
{
    const struct acts *const acts = context;
    const size_t in = acts->in;
    float *const rest = scratch;

    (void)worker;
    for (size_t p = first; p < last; p++) {
        const size_t tile = p / FINE_TILE, n = fine_positions(acts, tile), row = p % FINE_TILE;
        int8_t *const q = acts->q + tile * ACT_TILE * in;
        float *const d = acts->d + tile * ACT_TILE * (in / 32);
        int32_t *const sum = acts->sum + tile * ACT_TILE * (in / 16);

        kernels()->quantise(acts->f32 + p * in, in, q + ACT_RUN * row, d + row, sum + row, 2 * n);
        for (size_t k = 0; k < in; k++)
            rest[k] = acts->f32[p * in + k] -
                      d[k / 32 * 2 * n + row] *
                          (float)q[(k / ACT_RUN * 2 * n + row) * ACT_RUN + k % ACT_RUN];
        kernels()->quantise(rest, in, q + ACT_RUN * (n + row), d + n + row, sum + n + row, 2 * n);
    }
}

static void quantise_wide_rows(void *context, size_t first, size_t last, unsigned worker,
                               void *scratch)
{
    const struct acts *const acts = context;
    const size_t n_blocks = (acts->in + WIDE_BLOCK - 1) / WIDE_BLOCK;

    (void)worker;
    (void)scratch;
    for (size_t p = first; p < last; p++) {
        for (size_t b = 0; b < n_blocks; b++) {
            const size_t at = (p / ACT_TILE * n_blocks + b) * ACT_TILE + p % ACT_TILE;

            acts->wide_d[at] = kernels()->quantise_wide(
                acts->f32 + p * acts->in + b * WIDE_BLOCK,
                MIN(acts->in - b * WIDE_BLOCK, (size_t)WIDE_BLOCK), WIDE_MAX,
                acts->wide + at * WIDE_BLOCK);
        }
    }
}

void rows_set(struct rows *rows, const float *x, size_t n, size_t in, struct pool *pool)
{
    struct acts *const acts = rows->quants;

    assert(rows_values(rows->form, n, in) <= rows->n_values);
    assert(rows->form != MATRIX_FINE || in * sizeof(float) <= POOL_SCRATCH_BYTES);
    rows->f32 = x;
    rows->n = n;
    rows->in = in;
    acts->n = n;
    acts->in = in;
    acts->f32 = x;
    acts->has_q = acts->has_wide = false;
    if (rows->form == MATRIX_WIDE)
        pool_run(pool, quantise_wide_rows, acts, n, ACT_TILE);
    else if (rows->form == MATRIX_FINE && in % 32 == 0)
        pool_run(pool, quantise_fine_rows, acts, n, FINE_TILE);
    else if (rows->form == MATRIX_FAST && in % 32 == 0)
        pool_run(pool, quantise_rows, acts, n, ACT_TILE);
}

/* Rounded rows, for a matrix of this form. */
static void quantise_for(struct acts *acts, const struct matrix *matrix, struct pool *pool)
{
    if (matrix->form == MATRIX_WIDE && !acts->has_wide) {
        pool_run(pool, quantise_wide_rows, acts, acts->n, ACT_TILE);
        acts->has_wide = true;
    } else if (matrix->form == MATRIX_FAST && packing_of(matrix->type)->d_values > 0 &&
               !acts->has_q) {
        pool_run(pool, quantise_rows, acts, acts->n, ACT_TILE);
        acts->has_q = true;
    }
}

/* --- products ------------------------------------------------------------------------------- */

struct product_job {
    const struct matrix *const *matrices;
    float *const *y;
    size_t n_matrices;
    size_t first_group[MATMUL_MAX + 1]; /* units: the groups of all matrices, one after another */
    const struct rows *x;
};

#define PRODUCT_GROUPS 4 /* of one unit of work */

/* The two halves of each tile are multiplied in one go and added. */
static void product_fine(const struct matrix *m, size_t first, size_t last, const struct acts *x,
                         float *y, void *scratch)
{
    const size_t bytes = group_bytes(m->form, m->type, m->in);
    float sums[ACT_TILE][PRODUCT_GROUPS * GROUP_ROWS];

    for (size_t g = first; g < last; g += PRODUCT_GROUPS) {
        const size_t row = g * GROUP_ROWS;
        const struct weights w = {m->type, m->out - row, m->in,
                                  (const unsigned char *)m->data + g * bytes};
        const size_t n_groups = MIN(last - g, (size_t)PRODUCT_GROUPS);
        const size_t n_rows = MIN(n_groups * GROUP_ROWS, w.out);

        for (size_t tile = 0; tile * FINE_TILE < x->n; tile++) {
            const size_t n = fine_positions(x, tile), at = tile * ACT_TILE;
            const struct acts part = {
                .n = 2 * n,
                .in = m->in,
                .q = x->q + at * m->in,
                .d = x->d + at * (m->in / 32),
                .sum = x->sum + at * (m->in / 16),
            };

            kernels()->product(&w, 0, n_groups, &part, sums[0], ARRAY_LEN(sums[0]), scratch);
            for (size_t p = 0; p < n; p++)
                for (size_t r = 0; r < n_rows; r++)
                    y[(tile * FINE_TILE + p) * m->out + row + r] = sums[p][r] + sums[n + p][r];
        }
    }
}

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
    const struct acts *const acts = job->x->quants;

    (void)worker;
    for (size_t i = 0; i < job->n_matrices; i++) {
        const struct matrix *const m = job->matrices[i];
        const size_t from = MAX(first, job->first_group[i]);
        const size_t to = MIN(last, job->first_group[i + 1]);
        const size_t begin = from - job->first_group[i], end = to - job->first_group[i];
        const struct weights w = {m->type, m->out, m->in, m->data};

        if (from >= to)
            continue;
        if (m->form == MATRIX_PRECISE)
            product_precise(m, begin, end, acts, job->y[i], scratch);
        else if (m->form == MATRIX_WIDE)
            kernels()->product_wide(&w, begin, end, acts, job->y[i], m->out, scratch);
        else if (job->x->form == MATRIX_FINE && packing_of(m->type)->d_values > 0)
            product_fine(m, begin, end, acts, job->y[i], scratch);
        else
            kernels()->product(&w, begin, end, acts, job->y[i], m->out, scratch);
    }
}

void matmul_n(const struct matrix *const *matrices, float *const *y, size_t n_matrices,
              const struct rows *x, struct pool *pool)
{
    struct product_job job = {.matrices = matrices, .y = y, .n_matrices = n_matrices, .x = x};

    assert(n_matrices <= MATMUL_MAX);
    for (size_t i = 0; i < n_matrices; i++) {
        const enum matrix_form form = matrices[i]->form;

        assert(matrices[i]->in == x->in);
        assert(form != MATRIX_WIDE || x->form == MATRIX_WIDE || x->form == MATRIX_ROUNDED);
        assert(form != MATRIX_FAST || packing_of(matrices[i]->type)->d_values == 0 ||
               (x->form != MATRIX_WIDE && x->form != MATRIX_PRECISE && x->in % 32 == 0));
        assert(form != MATRIX_PRECISE || x->in * sizeof(float) <= POOL_SCRATCH_BYTES);
        job.first_group[i + 1] = job.first_group[i] + n_groups(matrices[i]->out);
        if (x->form == MATRIX_ROUNDED)
            quantise_for(x->quants, matrices[i], pool);
    }
    if (x->n > 0)
        pool_run(pool, product_units, &job, job.first_group[n_matrices], PRODUCT_GROUPS);
}

void matmul(const struct matrix *matrix, const struct rows *x, float *y, struct pool *pool)
{
    matmul_n(&matrix, &y, 1, x, pool);
}
