/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Normalised patches of a view: 16 x 16 pixels each, row by row.
 *
 * Order of a patch's values: PATCHES_PIXELS is the reference's (row, column, channel);
 * PATCHES_PLANES is that of the weights in the file (channel, row, column).
 *
 * Threads: any; no state.
 * Source:  vision.md 4 (normalise), 5.2 (1), 7.2
 */

#include "vision/picture.h"

#define PATCHES_VALUES ((size_t)3 * TILES_PATCH * TILES_PATCH)

enum patches_order { PATCHES_PIXELS, PATCHES_PLANES };

/* x = (value - 255 * mean) / (255 * std), for each channel and 8-bit value. */
struct patches_norm {
    float value[3][256];
};

void patches_norm_init(struct patches_norm *norm, const float mean[3], const float std[3]);

/* Patches in a view. */
size_t patches_count(const struct tile_view *view);

/* out: [n][PATCHES_VALUES], patches first .. first + n - 1 of the view */
void patches_cut(const struct picture_view *view, const struct patches_norm *norm,
                 enum patches_order order, size_t first, size_t n, float *out);
