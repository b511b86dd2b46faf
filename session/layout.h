/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Where vision and text meet: a picture that was cut by vision/tiles, as a prompt sees it.
 *
 * Threads: any; no state.
 */

#include "text/images.h"
#include "vision/tiles.h"

struct picture_layout {
    struct image_layout layout; /* points into n_tokens */
    size_t *n_tokens;           /* [plan->n_views], malloc */
};

/* key: what the row ids are drawn from (images.h). 0 or -ENOMEM. */
int picture_layout_init(struct picture_layout *layout, const struct tile_plan *plan,
                        const uint64_t key[2], struct error *err);
void picture_layout_done(struct picture_layout *layout); /* accepts a zeroed one */
