/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A picture at the sizes that its plan asks for: what the encoder reads.
 *
 * The tiles lie in one picture of cols * tile_size x rows * tile_size and are never copied out.
 *
 * Threads: made and read by the engine thread, which lends the pool.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/image.h"
#include "tensor/pool.h"
#include "vision/tiles.h"

struct picture {
    struct tile_plan plan;
    uint8_t *tiled; /* [rows * tile_size][cols * tile_size][3], NULL: a single view */
    uint8_t *whole; /* [resized_h][resized_w][3]; NULL: tiles without a thumbnail */
};

/* The image is not needed afterwards. NULL on failure. */
struct picture *picture_new(const struct image *image, const struct tile_plan *plan,
                            struct pool *pool, struct error *err);
struct picture *picture_free(struct picture *picture); /* accepts and returns NULL */

/* The pixels of view i: [view.height] rows of view.width pixels of 3 bytes. */
struct picture_view {
    const uint8_t *rgb;
    size_t stride_bytes; /* from one row to the next */
    struct tile_view view;
};

struct picture_view picture_view(const struct picture *picture, size_t i);
