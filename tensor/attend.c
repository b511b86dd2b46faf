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
