/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The table of kernels: one row for each instruction set, and what they must all compute.
 *
 * Activations are blocks of 32: i8 q, f32 d = max|x| / 127, and the sums of q over 16 values.
 *
 * One product. For a row and a position the blocks of 32 are taken in order; with i0, i1 the exact
 * integer sums of (u - offset) * q over the halves of a block (or i0 over all of it when scales
 * belong to 32 values), s0, s1 the sums of q, every operation in f32, fma with one rounding:
 *
 *     t = scale0 * i0;  t = fma(scale1, i1, t);  t = fma(min0, s0, t);  t = fma(min1, s1, t);
 *     acc = fma(t, d, acc)
 *
 * leaving out what the type does not have. Float types: acc = fma(w[k], x[k], acc) in order of k.
 * Every row of the table does exactly this, so they all give the same bits.
 *
 * One wide product, where rounding to bytes would show: integers of 16 bits on both sides, their
 * exact 32-bit sum over each block of WIDE_BLOCK values, acc = fma(sum, d, acc) over the blocks in
 * order, and acc * scale of the row.
 *
 * Threads: any; the tables are constant.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/packing.h"

/*
 * 2^x for x in [EXP2_MIN, EXP2_MAX], 0 below, error below 2 units in the last place. Adding
 * EXP2_SHIFT rounds to an integer; the polynomial is 2^f for |f| <= 1/2.
 */
#define EXP2_MIN   -126.0f
#define EXP2_MAX   127.0f
#define EXP2_SHIFT 12582912.0f /* 1.5 * 2^23 */
#define EXP2_C1    0x1.62e43p-1f
#define EXP2_C2    0x1.ebfbep-3f
#define EXP2_C3    0x1.c6af6cp-5f
#define EXP2_C4    0x1.3b2a1cp-7f
#define EXP2_C5    0x1.5f0896p-10f
#define EXP2_C6    0x1.444004p-13f
#define LOG2E      0x1.715476p0f

/*
 * gelu with tanh: x / (1 + 2^(x (TANH_C1 + TANH_C3 x^2))). With erf: 1 - erf(z) for z >= 0 is
 * t (a1 + t (a2 + ...)) e^(-z^2), t = 1 / (1 + ERF_P z), within 1.5e-7 (Abramowitz and Stegun
 * 7.1.26).
 */
#define TANH_C1 -2.302208198f
#define TANH_C3 -0.1029432397f
#define ERF_P   0.3275911f
#define ERF_A1  0.254829592f
#define ERF_A2  -0.284496736f
#define ERF_A3  1.421413741f
#define ERF_A4  -1.453152027f
#define ERF_A5  1.061405429f

/*
 * Quantised activations: n rows of `in` values, a multiple of 32, in tiles of ACT_TILE rows (the
 * last one smaller), so that a product reads the same eight values of all rows of a tile at once.
 * In a tile of `rows` rows that begins with row `first`:
 *
 *     q    run (k / ACT_RUN * rows + row) of q + first * in: values k .. k + 7
 *     d    d[first * in / 32 + k / 32 * rows + row]
 *     sum  sum[first * in / 16 + k / 16 * rows + row]
 */
#define ACT_TILE 12
#define ACT_RUN  8 /* values of a row that lie together */

struct acts {
    size_t n, in;
    int8_t *q;            /* [n * in] */
    float *d;             /* [n * in / 32] */
    int32_t *sum;         /* [n * in / 16] */
    const float *f32;     /* [n][in], what was quantised */
    int16_t *wide;        /* [tiles][blocks][ACT_TILE][WIDE_BLOCK], up to WIDE_MAX */
    float *wide_d;        /* [tiles][blocks][ACT_TILE] */
    bool has_q, has_wide; /* of rows that are quantised when they are needed */
};

static inline size_t acts_tile_rows(const struct acts *acts, size_t first)
{
    return acts->n - first < ACT_TILE ? acts->n - first : ACT_TILE;
}

struct weights {
    enum dtype type;
    size_t out, in;
    const unsigned char *data; /* [groups] */
};

/*
 * Queries of one KV head against its cache: attend.c cuts the work, the kernels do it.
 *
 * q is scaled by log2(e) / sqrt(head_dim). Scores are sums in order of the dimensions (Q8_0: within
 * blocks of 32, then over the blocks). Positions are taken in blocks of ATTEND_BLOCK, aligned to
 * 0; after each block the running maximum is raised, the sums are shrunk by 2^(old - new), and
 * p = 2^(score - max) and p * v are added in order of the positions. The sum of p is kept in 16
 * lanes (position mod 16), which are added pairwise at the end.
 */
#define ATTEND_TILE  12
#define ATTEND_BLOCK 64

struct attend_work {
    int type; /* enum kv_type */
    size_t head_dim;
    const void *k, *v; /* of this KV head */
    size_t n;          /* rows below */
    const float *q[ATTEND_TILE]; /* [head_dim] */
    float *out[ATTEND_TILE];     /* [head_dim] */
    size_t begin[ATTEND_TILE];   /* positions [begin, end) are visible; not empty */
    size_t end[ATTEND_TILE];
};

/*
 * Queries of one head against all keys and values of a picture (attend.h), by wide products: keys
 * are the rows of a matrix [n][head_dim], values of one [head_dim][n], each laid out as the groups
 * of packing_wide_group(), without their scales, n filled up with zeros to whole groups.
 *
 * score = sum * kd of the key; p = 2^((score - max) * d), d that of the query times log2(e) /
 * sqrt(head_dim); the sum of p is kept in 16 lanes, which are added pairwise. p * vd, in units that
 * make WIDE_MAX of the largest vd, is rounded, and multiplied with the values.
 *
 * With relative positions the score is sum * kd * d of the query + sum * pd * d of the query of
 * positions, position n - 1 - i + j for query i and key j, positions laid out like keys.
 */
#define WIDE_KEYS_MAX 12288 /* of a picture: the scores of a tile of queries must fit the scratch */

struct attend_wide_work {
    size_t head_dim;
    size_t n; /* keys */
    const int16_t *k, *v;
    const float *kd, *vd; /* [n, up to whole groups] scales of keys and values */
    const int16_t *p;     /* [2n - 1, up to whole groups] positions; NULL: none */
    const float *pd;
    size_t first;         /* i of the first query, where there are positions */
    size_t n_rows;        /* queries, up to ACT_TILE */
    const float *q, *qp;  /* stride apart */
    float *out;           /* stride apart */
    size_t stride;
};

struct kernels {
    const char *name;
    bool (*supported)(void);

    bool bytes_are_slow; /* wide products take less time than those of weights of 8 bits */

    /* One row of activations, n a multiple of 32; runs of q, and elements of d and sum, are
     * `stride` apart. */
    void (*quantise)(const float *x, size_t n, int8_t *q, float *d, int32_t *sum, size_t stride);

    /*
     * y[p][row] for rows of the groups [first, last) and all positions p; rows from `out` on are
     * not written. scratch: POOL_SCRATCH_BYTES.
     */
    void (*product)(const struct weights *w, size_t first, size_t last, const struct acts *x,
                    float *y, size_t y_stride, void *scratch);

    /* One row of n <= WIDE_BLOCK values to integers up to `limit`, zeros up to a multiple of 16;
     * returns max|x| / limit. */
    float (*quantise_wide)(const float *x, size_t n, float limit, int16_t *q);

    /* As product(), of matrices packed by packing_wide_group(). */
    void (*product_wide)(const struct weights *w, size_t first, size_t last, const struct acts *x,
                         float *y, size_t y_stride, void *scratch);
    void (*attend_wide)(const struct attend_wide_work *work, void *scratch);

    /* y[p * y_stride] = w . x[p], f32; 16 partial sums (k mod 16), added pairwise. */
    void (*dot_f32)(const float *w, const float *x, size_t n, size_t in, float *y,
                    size_t y_stride);

    void (*rmsnorm)(const float *x, const float *w, size_t n, float eps, float *out);
    void (*layernorm)(const float *x, const float *w, const float *b, size_t n, float eps,
                      float *out);
    void (*silu_mul)(float *gate, const float *up, size_t n);
    void (*sigmoid_mul)(float *x, const float *gate, size_t n);
    void (*gelu_tanh)(float *x, const float *bias, size_t n);
    void (*gelu_erf)(float *x, const float *bias, size_t n);
    void (*elu)(float *x, size_t n);
    void (*add)(float *x, const float *y, size_t n);
    void (*add_scaled)(float *x, const float *y, float scale, size_t n);
    void (*weighted_sum)(const float *const *rows, const float *weights, size_t n_rows,
                         const float *bias, size_t n, float *out);
    void (*rope_half)(float *head, size_t hd, const float *cos, const float *sin);
    void (*shortconv)(const float *bcx, const float *taps, float *state, size_t n, size_t h,
                      size_t l, size_t first, size_t last, float *out);
    void (*attend)(const struct attend_work *work, void *scratch);
};

extern const struct kernels kernels_ref, kernels_avx2, kernels_avxvnni, kernels_avx512,
    kernels_neon, kernels_neon_i8mm;

/*
 * The row in use: the fastest that this CPU supports, or the one named by the environment variable
 * LFMD_KERNELS. Chosen at the first call and then fixed. A name that cannot be followed is ignored
 * here; kernels_check() says so.
 */
const struct kernels *kernels(void);

/* 0, or -EINVAL with a sentence when LFMD_KERNELS names no row that works here. */
int kernels_check(struct error *err);

/* The rows that were built and that this CPU supports, ref first; returns how many. */
size_t kernels_list(const struct kernels **ret, size_t max);

/* Force a row for the whole process; NULL: choose again. For tests and benchmarks. */
void kernels_force(const struct kernels *row);
