/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Bilinear resizing with antialiasing: a triangle filter, as wide as a source pixel or a result
 * pixel, whichever is larger, half-pixel centres, renormalised at the edges.
 *
 * Pictures are resized with 16-bit weights, first every row, then every column, each rounded to
 * 8 bits: the same bytes as torchvision's resize of 8-bit pictures.
 *
 * Shapes:  rgb [height][width][3]
 * Threads: engine thread, which lends the pool
 * Source:  vision.md 4
 */

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/pool.h"

/* What result pixel i is made of: weights[i][0 .. n[i] - 1] of source pixels first[i] ... */
struct resize_filter {
    size_t n_in, n_out;
    size_t n_max;    /* most taps of a pixel */
    uint32_t *first; /* [n_out] */
    uint32_t *n;     /* [n_out] */
    double *weights; /* [n_out][n_max], the sum of a pixel's is 1 */
};

int resize_filter_init(struct resize_filter *filter, size_t n_in, size_t n_out, struct error *err);
void resize_filter_done(struct resize_filter *filter); /* accepts a zeroed filter */

/* from [from_h][from_w][3] -> to [to_h][to_w][3]; equal sizes are copied. */
int resize_rgb(const uint8_t *from, uint32_t from_w, uint32_t from_h, uint8_t *to, uint32_t to_w,
               uint32_t to_h, struct pool *pool, struct error *err);
