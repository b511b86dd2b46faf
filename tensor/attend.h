/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Grouped-query attention over a cache of keys and values, softmax in f32.
 *
 * Cache layout: one block of rows for each KV head, [n_head_kv][n_context][head_dim], so that a
 * head streams through contiguous memory. Each K and V row is read once for all query heads of
 * its group. Positions are taken in blocks aligned to absolute position 0 with an online softmax,
 * so a query's result is the same bits for every chunking and thread count.
 *
 * Threads: engine thread, which lends the pool.
 */

#include <stdbool.h>
#include <stddef.h>

#include "tensor/pool.h"

enum kv_type { KV_F32, KV_F16, KV_Q8_0 };

/* Bytes of one row of head_dim values. Q8_0 rows are blocks of 32 with an f32 scale. */
size_t kv_row_bytes(enum kv_type type, size_t head_dim);

/* Convert one row of head_dim values into the cache's format. */
void kv_store(enum kv_type type, const float *row, size_t head_dim, void *out);

struct attend {
    enum kv_type type;
    size_t n_head, n_head_kv, head_dim;
    const float *q;        /* [n][n_head][head_dim], normed and rotated */
    size_t n;              /* queries, at positions first .. first + n - 1 */
    size_t first;
    const void *k, *v;     /* [n_head_kv][stride rows][head_dim]; rows [0, n_kv) are filled */
    size_t n_kv;
    size_t stride_bytes;   /* between the blocks of two KV heads */
    size_t window;         /* a query sees the last `window` positions, itself included; 0: all */
    bool causal;           /* false: every query sees all n_kv rows */
    float *out;            /* [n][n_head][head_dim] */
    void *scratch;         /* attend_scratch_bytes() */
};

size_t attend_scratch_bytes(unsigned n_threads, size_t n_head, size_t n_head_kv, size_t head_dim);
void attend(const struct attend *job, struct pool *pool);
