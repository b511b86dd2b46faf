/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Weight matrices and their product with rows of activations.
 *
 * A matrix is loaded once from a GGUF tensor and then read-only. Five forms:
 *   fast     rows interleaved for the kernels (kernels.h), quantised types multiplied with
 *            activations that are quantised to int8 blocks of 32; the file's pages are dropped
 *            tensor by tensor while loading, so that there is never a second copy of the weights
 *   fine     the fast form, but what the bytes of an activation leave over is quantised again and
 *            multiplied too: exact weights, activations of about 15 bits, for sound
 *   wide     both sides integers of 16 bits (packing.h), about 1e-3 from exact: for encoders, which
 *            multiply many rows at a time and for which bytes are too coarse; F32 tensors stay f32
 *   rounded  quantised types fast, float types wide, F32 too: the least work for encoders that bear
 *            bytes where their weights are bytes; Q8_0 wide where a processor is faster that way
 *   precise  the file's own blocks, dequantised exactly row by row, f32 products and sums
 *
 * Result of one row of x: the same bits for every n_rows, chunking and thread count within one
 * kernel row (same activation quantisation, same accumulation order).
 *
 * Shapes: matrix [out][in]; x [n][in]; y [n][out].
 * Threads: engine thread, which lends the pool.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"
#include "tensor/gguf.h"
#include "tensor/pool.h"

enum matrix_form { MATRIX_FAST, MATRIX_FINE, MATRIX_WIDE, MATRIX_ROUNDED, MATRIX_PRECISE };

struct matrix {
    size_t out, in;
    enum dtype type;       /* of the file */
    enum matrix_form form; /* as loaded: fast, wide or precise */
    const void *data;      /* packed by kernels.h, or the file's blocks */
    size_t size_bytes;     /* of data */
};

/* Bytes that matrix_load() takes from the arena: 0 for a precise matrix. */
size_t matrix_plan(const struct gguf_tensor *tensor, enum matrix_form form);

/*
 * tensor: 2 dimensions {in, out}, or 3 {in, out, n_expert} of which slice `expert` is loaded.
 * Precise matrices keep pointing into the gguf, which must outlive them.
 */
void matrix_load(struct matrix *matrix, const struct gguf_tensor *tensor, size_t expert,
                 enum matrix_form form, struct arena *arena, struct pool *pool);

/* Row `row` as f32, exactly dequantised: out [in]. (Token embedding.) Not of a wide matrix. */
void matrix_row(const struct matrix *matrix, size_t row, float *out);

/*
 * Quantised activations, made once and multiplied with several matrices (q, k, v; gate, up).
 * The storage belongs to the caller: rows_init() carves it for rows of at most n_values in all, as
 * rows_values() counts them, and for the form of the matrices that they will meet. Rows of the fast
 * and fine forms may meet precise matrices; a matrix that was loaded as fine is a fast one, which
 * fine rows make fine.
 */
struct rows {
    enum matrix_form form;
    const float *f32; /* [n][in], borrowed by rows_set() */
    size_t n, in;
    void *quants;     /* struct acts of kernels.h */
    size_t n_values;
};

size_t rows_values(enum matrix_form form, size_t n, size_t in);
size_t rows_plan(enum matrix_form form, size_t n_values);
void rows_init(struct rows *rows, enum matrix_form form, size_t n_values, struct arena *arena);

/* Borrow x [n][in] until the next call, and quantise it; rounded rows when they meet a matrix. For
 * fast matrices in must be a multiple of 32, or they must be of a float type. */
void rows_set(struct rows *rows, const float *x, size_t n, size_t in, struct pool *pool);

/* y[n][out] = x · matrixᵀ */
void matmul(const struct matrix *matrix, const struct rows *x, float *y, struct pool *pool);

#define MATMUL_MAX 8

/* Several matrices (at most MATMUL_MAX) of the same `in` on the same rows, in one go of the
 * pool. */
void matmul_n(const struct matrix *const *matrices, float *const *y, size_t n_matrices,
              const struct rows *x, struct pool *pool);
