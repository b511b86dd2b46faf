/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Grouped-query attention over a cache of keys and values, softmax in f32.
 *
 * The cache of one KV head is a run of tiles of KV_TILE positions, so that it grows in place and
 * the first kv_bytes(n) bytes are what n positions need. Inside a tile keys lie
 * [head_dim][position] (one lane is one key) and values [position][head_dim]; only kv_store_*() and
 * attend() know this. Each K and V tile is read once for all query heads of its group.
 *
 * Keys are taken in blocks aligned to absolute position 0 with an online softmax, so a query's
 * result is the same bits for every chunking and thread count.
 *
 * Threads: engine thread, which lends the pool; kv_store_*() any thread, one for each KV head.
 */

#include <stdbool.h>
#include <stddef.h>

#include "tensor/pool.h"

#define KV_TILE 16

enum kv_type { KV_F32, KV_F16, KV_Q8_0 };

/*
 * Bytes of the keys (or of the values) of one KV head for n_positions, rounded up to whole tiles.
 * head_dim is a multiple of 8, of 32 for KV_Q8_0 (blocks of 32 with an f32 scale), at most
 * ATTEND_HEAD_DIM_MAX. A multiple of ARENA_ALIGN.
 */
size_t kv_bytes(enum kv_type type, size_t head_dim, size_t n_positions);

/* Convert n rows of one KV head into the cache at positions position .. position + n - 1.
 * rows: head_dim values each, row_stride values apart. */
void kv_store_k(enum kv_type type, const float *rows, size_t n, size_t row_stride, size_t head_dim,
                void *k, size_t position);
void kv_store_v(enum kv_type type, const float *rows, size_t n, size_t row_stride, size_t head_dim,
                void *v, size_t position);

/*
 * How many of n_past positions may be dropped when n_keep of them must stay: whole blocks, so that
 * attention adds up the same numbers in the same order; up to KV_DROP_REST more may stay.
 * kv_drop() then moves the rest of one KV head's keys, or values, to the front.
 */
#define KV_DROP_REST ((size_t)63)
size_t kv_droppable(size_t n_past, size_t n_keep);
void kv_drop(enum kv_type type, size_t head_dim, void *kv, size_t n_drop, size_t n_past);

#define ATTEND_HEAD_DIM_MAX 256
#define ATTEND_GROUP_MAX    64 /* query heads of one KV head */

struct attend {
    enum kv_type type;
    size_t n_head, n_head_kv, head_dim;
    const float *q;      /* [n][n_head][head_dim], normed and rotated */
    size_t n;            /* queries, at positions first .. first + n - 1 */
    size_t first;
    const void *k, *v;   /* of KV head 0; positions [0, n_kv) are stored */
    size_t n_kv;
    size_t stride_bytes; /* from one KV head to the next, a multiple of ARENA_ALIGN */
    size_t window;       /* a query sees the last `window` positions, itself included; 0: all */
    bool causal;         /* false: every query sees all n_kv positions */
    float *out;          /* [n][n_head][head_dim] */
};

void attend(const struct attend *job, struct pool *pool);

/*
 * Attention of an encoder: every row sees every row, one KV head for each head. Products are wide
 * (kernels.h), about 1e-3 from exact.
 *
 * With relative positions (Transformer-XL, Dai et al. 2019, section 3.3) query i scores key j by
 * q_i · k_j + qp_i · p_(n - 1 - i + j).
 */
#define ATTEND_WIDE_MAX 12288 /* rows */

struct attend_wide {
    size_t n_head, head_dim; /* a multiple of 8, at most ATTEND_HEAD_DIM_MAX */
    const float *q, *k, *v;  /* [n][n_head][head_dim] */
    const float *qp;         /* [n][n_head][head_dim]; NULL: no relative positions */
    const float *p;          /* [2n - 1][n_head][head_dim] */
    size_t n;                /* 1 .. ATTEND_WIDE_MAX */
    void *memory;            /* attend_wide_bytes(), aligned to ARENA_ALIGN */
    float *out;              /* [n][n_head][head_dim], not one of the others */
};

size_t attend_wide_bytes(size_t n, size_t n_head, size_t head_dim, bool relative);
void attend_wide(const struct attend_wide *job, struct pool *pool);

/* With relative positions, in f32. */
void attend_relative(const struct attend_wide *job, struct pool *pool);
