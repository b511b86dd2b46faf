/* SPDX-License-Identifier: MIT */
#include "tensor/attend.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"
#include "tensor/kernels.h"

/* --- cache ---------------------------------------------------------------------------------- */

size_t kv_bytes(enum kv_type type, size_t head_dim, size_t n_positions)
{
    const size_t width = round_up(head_dim, KV_TILE);
    const size_t n_tiles = (n_positions + KV_TILE - 1) / KV_TILE;

    switch (type) {
    case KV_F32:
        return n_tiles * KV_TILE * width * sizeof(float);
    case KV_F16:
        return n_tiles * KV_TILE * width * sizeof(uint16_t);
    case KV_Q8_0: /* scales of the tile, then its quants */
        return n_tiles * KV_TILE * (width / 32 * sizeof(float) + width);
    }
    return 0;
}

/* Element i of a tile's row: where it lies differs between keys and values only. */
static void store_row(enum kv_type type, const float *row, size_t hd, unsigned char *tile,
                      size_t base, size_t step, size_t scale_base, size_t scale_step)
{
    for (size_t i = 0; type == KV_F32 && i < hd; i++)
        memcpy(tile + (base + i * step) * 4, &row[i], 4);
    for (size_t i = 0; type == KV_F16 && i < hd; i++) {
        const uint16_t half = f32_to_f16(row[i]);

        memcpy(tile + (base + i * step) * 2, &half, 2);
    }
    for (size_t b = 0; type == KV_Q8_0 && b < hd / 32; b++) {
        unsigned char *const quants = tile + hd / 32 * KV_TILE * sizeof(float);
        int8_t q[32];
        int32_t sum[2];
        float d;

        kernels()->quantise(row + 32 * b, 32, q, &d, sum, 1);
        memcpy(tile + (scale_base + b * scale_step) * sizeof(d), &d, sizeof(d));
        for (size_t i = 0; i < 32; i++)
            quants[base + (32 * b + i) * step] = (unsigned char)q[i];
    }
}

void kv_store_k(enum kv_type type, const float *rows, size_t n, size_t row_stride, size_t head_dim,
                void *k, size_t position)
{
    for (size_t p = 0; p < n; p++) {
        const size_t tile = (position + p) / KV_TILE, lane = (position + p) % KV_TILE;

        store_row(type, rows + p * row_stride, head_dim,
                  (unsigned char *)k + tile * kv_bytes(type, head_dim, KV_TILE), lane, KV_TILE,
                  lane, KV_TILE);
    }
}

void kv_store_v(enum kv_type type, const float *rows, size_t n, size_t row_stride, size_t head_dim,
                void *v, size_t position)
{
    const size_t width = round_up(head_dim, KV_TILE);

    for (size_t p = 0; p < n; p++) {
        const size_t tile = (position + p) / KV_TILE, lane = (position + p) % KV_TILE;

        store_row(type, rows + p * row_stride, head_dim,
                  (unsigned char *)v + tile * kv_bytes(type, head_dim, KV_TILE), lane * width, 1,
                  lane * (head_dim / 32), 1);
    }
}

_Static_assert(KV_DROP_REST == ATTEND_BLOCK - 1, "a block is kept whole");

size_t kv_droppable(size_t n_past, size_t n_keep)
{
    return n_past > n_keep ? (n_past - n_keep) / ATTEND_BLOCK * ATTEND_BLOCK : 0;
}

void kv_drop(enum kv_type type, size_t head_dim, void *kv, size_t n_drop, size_t n_past)
{
    memmove(kv, (const unsigned char *)kv + kv_bytes(type, head_dim, n_drop),
            kv_bytes(type, head_dim, n_past - n_drop));
}

/* --- attention ------------------------------------------------------------------------------ */

struct attend_job {
    const struct attend *attend;
    size_t n_tiles; /* of ATTEND_TILE rows, for each KV head; row = query * group + head of group */
};

static void attend_units(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct attend_job *const job = context;
    const struct attend *const a = job->attend;
    const size_t group = a->n_head / a->n_head_kv;

    (void)worker;
    for (size_t unit = first; unit < last; unit++) {
        const size_t kv = unit % a->n_head_kv;
        const size_t row0 = unit / a->n_head_kv * ATTEND_TILE;
        struct attend_work work = {
            .type = a->type,
            .head_dim = a->head_dim,
            .k = (const char *)a->k + kv * a->stride_bytes,
            .v = (const char *)a->v + kv * a->stride_bytes,
            .n = MIN(a->n * group - row0, (size_t)ATTEND_TILE),
        };

        for (size_t i = 0; i < work.n; i++) {
            const size_t query = (row0 + i) / group;
            const size_t head = kv * group + (row0 + i) % group;
            const size_t offset = (query * a->n_head + head) * a->head_dim;
            const size_t position = a->first + query;

            work.q[i] = a->q + offset;
            work.out[i] = a->out + offset;
            work.end[i] = a->causal ? position + 1 : a->n_kv;
            work.begin[i] = a->window && position + 1 > a->window ? position + 1 - a->window : 0;
        }
        kernels()->attend(&work, scratch);
    }
}

void attend(const struct attend *a, struct pool *pool)
{
    const size_t group = a->n_head / a->n_head_kv;
    const struct attend_job job = {a, (a->n * group + ATTEND_TILE - 1) / ATTEND_TILE};

    assert(a->n_head % a->n_head_kv == 0 && a->head_dim <= ATTEND_HEAD_DIM_MAX);
    assert(a->head_dim % (a->type == KV_Q8_0 ? 32 : 8) == 0);
    assert(a->n_kv > 0 && (!a->causal || a->first + a->n <= a->n_kv));
    pool_run(pool, attend_units, (void *)&job, job.n_tiles * a->n_head_kv, 1);
}

/* --- attention of an encoder ------------------------------------------------------------------ */

/* Keys, values and positions of one head: what struct attend_wide_work of kernels.h points to. */
struct wide_head {
    int16_t *k, *v, *p;
    float *kd, *vd, *pd;
};

static size_t wide_head_bytes(size_t n, size_t head_dim, bool relative)
{
    const size_t n_positions = relative ? round_up(2 * n - 1, GROUP_ROWS) : 0;

    return round_up(n, GROUP_ROWS) *
               (2 * sizeof(float) + (head_dim + round_up(head_dim, GROUP_ROWS)) * sizeof(int16_t)) +
           n_positions * (sizeof(float) + head_dim * sizeof(int16_t));
}

size_t attend_wide_bytes(size_t n, size_t n_head, size_t head_dim, bool relative)
{
    const size_t exact = relative ? (3 * n - 1) * head_dim * sizeof(float) : 0;

    return n_head * MAX(wide_head_bytes(n, head_dim, relative), exact);
}

static struct wide_head wide_head_at(const struct attend_wide *a, size_t index)
{
    const size_t n_padded = round_up(a->n, GROUP_ROWS);
    struct wide_head head;

    head.kd = (float *)(void *)((unsigned char *)a->memory +
                                index * wide_head_bytes(a->n, a->head_dim, a->p));
    head.vd = head.kd + n_padded;
    head.pd = head.vd + n_padded;
    head.k = (int16_t *)(void *)(head.pd + (a->p ? round_up(2 * a->n - 1, GROUP_ROWS) : 0));
    head.v = head.k + n_padded * a->head_dim;
    head.p = head.v + n_padded * round_up(a->head_dim, GROUP_ROWS);
    return head;
}

/* Keys and values are at most this, so that sums of WIDE_BLOCK products fit 32 bits. */
#define WIDE_KV_LIMIT 1023

_Static_assert((long long)WIDE_KV_LIMIT * WIDE_MAX * WIDE_BLOCK <= INT32_MAX, "sums overflow");
_Static_assert(ATTEND_HEAD_DIM_MAX <= WIDE_BLOCK && ATTEND_WIDE_MAX <= WIDE_KEYS_MAX,
               "attention fits the kernels");

/* A group of 16 of the n rows, `stride` apart, as those of a matrix [n][hd]. */
static void store_keys(const float *rows, size_t n, size_t stride, size_t hd, size_t group,
                       int16_t *to, float *d)
{
    int16_t row[WIDE_BLOCK] = {0};

    for (size_t r = 0; r < GROUP_ROWS; r++) {
        const size_t at = group * GROUP_ROWS + r;
        int16_t *const k = to + group * GROUP_ROWS * hd + 2 * r;

        if (at < n)
            d[at] = kernels()->quantise_wide(rows + at * stride, hd, WIDE_KV_LIMIT, row);
        else
            d[at] = 0;
        for (size_t j = 0; j < hd; j += 2)
            memcpy(k + j * GROUP_ROWS, &row[j], 2 * sizeof(int16_t));
    }
}

/* Units are groups of 16 positions, head after head. */
static void store_positions(void *context, size_t first, size_t last, unsigned worker,
                            void *scratch)
{
    const struct attend_wide *const a = context;
    const size_t hd = a->head_dim, n_groups = (2 * a->n - 1 + GROUP_ROWS - 1) / GROUP_ROWS;

    (void)worker;
    (void)scratch;
    for (size_t unit = first; unit < last; unit++) {
        const size_t head = unit / n_groups;
        const struct wide_head to = wide_head_at(a, head);

        store_keys(a->p + head * hd, 2 * a->n - 1, a->n_head * hd, hd, unit % n_groups, to.p,
                   to.pd);
    }
}

/* Units are groups of 16 rows, head after head. */
static void store_wide(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct attend_wide *const a = context;
    const size_t hd = a->head_dim, stride = a->n_head * hd;
    const size_t n_padded = round_up(a->n, GROUP_ROWS), n_groups = n_padded / GROUP_ROWS;
    int16_t row[2][WIDE_BLOCK];

    (void)worker;
    (void)scratch;
    for (size_t unit = first; unit < last; unit++) {
        const size_t head = unit / n_groups, group = unit % n_groups;
        const struct wide_head to = wide_head_at(a, head);

        store_keys(a->k + head * hd, a->n, stride, hd, group, to.k, to.kd);
        for (size_t r = 0; r < GROUP_ROWS; r += 2) {
            const size_t at = group * GROUP_ROWS + r;

            for (size_t i = 0; i < 2; i++) {
                memset(row[i], 0, sizeof(row[i]));
                to.vd[at + i] = at + i >= a->n
                                    ? 0
                                    : kernels()->quantise_wide(a->v + (at + i) * stride + head * hd,
                                                               hd, WIDE_KV_LIMIT, row[i]);
            }
            for (size_t j = 0; j < round_up(hd, GROUP_ROWS); j += GROUP_ROWS) {
                int16_t *const v = to.v + j * n_padded + at * GROUP_ROWS;

                for (size_t i = 0; i < GROUP_ROWS; i++) {
                    v[2 * i] = row[0][j + i];
                    v[2 * i + 1] = row[1][j + i];
                }
            }
        }
    }
}

/* Units are tiles of queries, head after head. */
static void attend_wide_units(void *context, size_t first, size_t last, unsigned worker,
                              void *scratch)
{
    const struct attend_wide *const a = context;
    const size_t n_tiles = (a->n + ACT_TILE - 1) / ACT_TILE;

    (void)worker;
    for (size_t unit = first; unit < last; unit++) {
        const size_t head = unit / n_tiles, row = unit % n_tiles * ACT_TILE;
        const size_t offset = (row * a->n_head + head) * a->head_dim;
        const struct wide_head from = wide_head_at(a, head);
        const struct attend_wide_work work = {
            .head_dim = a->head_dim,
            .n = a->n,
            .k = from.k,
            .v = from.v,
            .kd = from.kd,
            .vd = from.vd,
            .p = a->p ? from.p : NULL,
            .pd = from.pd,
            .first = row,
            .n_rows = MIN(a->n - row, (size_t)ACT_TILE),
            .q = a->q + offset,
            .qp = a->p ? a->qp + offset : NULL,
            .out = a->out + offset,
            .stride = a->n_head * a->head_dim,
        };

        kernels()->attend_wide(&work, scratch);
    }
}

#define WIDE_CHUNK 4 /* tiles */

void attend_wide(const struct attend_wide *a, struct pool *pool)
{
    const size_t n_groups = (a->n + GROUP_ROWS - 1) / GROUP_ROWS;
    const size_t n_tiles = (a->n + ACT_TILE - 1) / ACT_TILE;

    assert(a->n > 0 && a->n <= ATTEND_WIDE_MAX);
    assert(a->head_dim % 8 == 0 && a->head_dim <= ATTEND_HEAD_DIM_MAX);
    if (a->p)
        pool_run(pool, store_positions, (void *)a,
                 a->n_head * ((2 * a->n - 1 + GROUP_ROWS - 1) / GROUP_ROWS), GROUP_ROWS);
    pool_run(pool, store_wide, (void *)a, a->n_head * n_groups, GROUP_ROWS);
    pool_run(pool, attend_wide_units, (void *)a, a->n_head * n_tiles, WIDE_CHUNK);
}

/* --- the same in f32 -------------------------------------------------------------------------- */

/* Keys, then positions of one head, row after row. */
static float *relative_head_at(const struct attend_wide *a, size_t head)
{
    return (float *)a->memory + head * (3 * a->n - 1) * a->head_dim;
}

/* Units are keys and then positions, head after head. */
static void gather_rows(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct attend_wide *const a = context;
    const size_t hd = a->head_dim, n_rows = 3 * a->n - 1;

    (void)worker;
    (void)scratch;
    for (size_t unit = first; unit < last; unit++) {
        const size_t head = unit / n_rows, row = unit % n_rows;
        const float *const from = row < a->n ? a->k + row * a->n_head * hd
                                             : a->p + (row - a->n) * a->n_head * hd;

        memcpy(relative_head_at(a, head) + row * hd, from + head * hd, hd * sizeof(*from));
    }
}

/* Units are queries, head after head. */
static void attend_relative_units(void *context, size_t first, size_t last, unsigned worker,
                                  void *scratch)
{
    const struct attend_wide *const a = context;
    const size_t hd = a->head_dim, n = a->n;
    float *const score = scratch, *const position = score + n;

    (void)worker;
    for (size_t unit = first; unit < last; unit++) {
        const size_t head = unit / n, i = unit % n, offset = (i * a->n_head + head) * hd;
        const float *const keys = relative_head_at(a, head), *const positions = keys + n * hd;
        float max = -INFINITY;
        double sum = 0;

        kernels()->dot_f32(a->q + offset, keys, n, hd, score, 1);
        kernels()->dot_f32(a->qp + offset, positions + (n - 1 - i) * hd, n, hd, position, 1);
        for (size_t j = 0; j < n; j++) {
            score[j] += position[j];
            max = fmaxf(max, score[j]);
        }
        for (size_t j = 0; j < n; j++) {
            score[j] = expf((score[j] - max) / sqrtf((float)hd));
            sum += (double)score[j];
        }
        memset(a->out + offset, 0, hd * sizeof(*a->out));
        for (size_t j = 0; j < n; j++)
            kernels()->add_scaled(a->out + offset, a->v + (j * a->n_head + head) * hd,
                                  (float)((double)score[j] / sum), hd);
    }
}

_Static_assert(2 * ATTEND_WIDE_MAX * sizeof(float) <= POOL_SCRATCH_BYTES, "scores fit the scratch");

void attend_relative(const struct attend_wide *a, struct pool *pool)
{
    assert(a->n > 0 && a->n <= ATTEND_WIDE_MAX && a->p && a->qp);
    pool_run(pool, gather_rows, (void *)a, a->n_head * (3 * a->n - 1), GROUP_ROWS);
    pool_run(pool, attend_relative_units, (void *)a, a->n_head * a->n, ACT_TILE);
}
