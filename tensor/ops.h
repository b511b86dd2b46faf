/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The small operations of a layer, on rows of f32. Each dispatches to the chosen row of kernels.h.
 *
 * A row's result depends on that row alone, so that chunking never changes a bit.
 * Threads: any; no state.
 */

#include <stddef.h>

/* out[k] = w[k] * x[k] / sqrt(mean(x²) + eps); x == out is fine. */
void op_rmsnorm(const float *x, const float *w, size_t n, float eps, float *out);

/* out[k] = (x[k] - mean(x)) / sqrt(variance(x) + eps) * w[k] + b[k]; x == out is fine. */
void op_layernorm(const float *x, const float *w, const float *b, size_t n, float eps, float *out);

/* x = gelu(x + bias), by tanh or by erf, within 1e-6 of it */
void op_gelu_tanh(float *x, const float *bias, size_t n);
void op_gelu_erf(float *x, const float *bias, size_t n);

/* x = x where x >= 0, else e^x - 1; within 1e-6 */
void op_elu(float *x, size_t n);

/* gate = silu(gate) * up */
void op_silu_mul(float *gate, const float *up, size_t n);

/* x *= sigmoid(gate); x == gate is fine, and is silu */
void op_sigmoid_mul(float *x, const float *gate, size_t n);

/* x += y */
void op_add(float *x, const float *y, size_t n);

/* x += scale * y */
void op_add_scaled(float *x, const float *y, float scale, size_t n);

/* out[k] = bias[k] + the sum over r of weights[r][k] * rows[r][k]: a convolution of each channel by
 * itself. weights: [n_rows][n]; rows: [n_rows] of [n] */
void op_weighted_sum(const float *const *rows, const float *weights, size_t n_rows,
                     const float *bias, size_t n, float *out);

/*
 * Half-split ("NEOX") rotation of one head: pair (i, i + hd/2), angle pos * theta^(-2i/hd).
 * cos, sin: [hd / 2] of this position, from op_rope_table(). head: [hd], in place.
 */
void op_rope_half(float *head, size_t hd, const float *cos, const float *sin);
/* The same with adjacent pairs (2 i, 2 i + 1). */
void op_rope_adjacent(float *head, size_t hd, const float *cos, const float *sin);
void op_rope_table(size_t pos, size_t hd, float theta, float *ret_cos, float *ret_sin);

/*
 * Gated short convolution of one chunk, channels [first, last).
 *
 * bcx:    [n][3H], rows B | C | X
 * taps:   [H][L], tap L-1 multiplies the current row
 * state:  [L-1 + n][H] products: the first L-1 rows are the past, oldest first; the n new rows are
 *         written here
 * out:    [n][H] = C * conv(B * X)
 */
void op_shortconv(const float *bcx, const float *taps, float *state, size_t n, size_t h, size_t l,
                  size_t first, size_t last, float *out);
