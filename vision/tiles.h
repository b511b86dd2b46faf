/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Which views of a picture the encoder sees: one, or a grid of tiles and a thumbnail.
 *
 * A picture is stretched, never padded. Small enough, it is one view of resized_w x resized_h.
 * Otherwise it is stretched to cols * tile_size x rows * tile_size, cut into tiles, and the whole
 * picture at resized_w x resized_h follows as thumbnail. One image token is TILES_TOKEN x
 * TILES_TOKEN pixels of a view.
 *
 * Order:   tiles row by row, then the thumbnail (the order of the marker tokens)
 * Threads: any; no state
 * Source:  vision.md 2; transformers image_processing_lfm2_vl.py 5.23.0, to the last bit of its
 *          doubles and the order in which it tries grids
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "vision/shape.h"

#define TILES_PATCH 16                /* side of a patch */
#define TILES_TOKEN (2 * TILES_PATCH) /* side of an image token */

/* What tiles_plan() computes at most; tile_settings_check() has the narrower range of sessions. */
#define TILES_SIDE_MAX ((uint32_t)1 << 24)
#define TILES_GRID_MAX 1000 /* max_tiles */
#define TILES_SIZE_MAX 16384

/* Of sessions: 10 x 10 tiles, for which there are marker tokens, and a thumbnail. */
#define TILES_LINE_MAX         10
#define TILES_VIEWS_MAX        (TILES_LINE_MAX * TILES_LINE_MAX + 1)
#define TILES_TOKENS_MAX       1024 /* max_image_tokens, and of one tile */
#define TILES_SIDE_OF_TILE_MAX ((uint32_t)1024)

struct tile_settings {
    uint32_t min_image_tokens, max_image_tokens; /* of a single view or of the thumbnail */
    uint32_t min_tiles, max_tiles;               /* cols * rows */
    uint32_t tile_size;                          /* pixels, a multiple of TILES_TOKEN */
    bool tiling;                                 /* false: always one view */
    bool thumbnail;
    double max_pixels_tolerance; /* tiled above max_image_tokens by this factor */
};

/* Those of the reference processor. */
extern const struct tile_settings tile_settings_default;

/* 0 when a session may use these settings; else a sentence that names the wrong one. */
int tile_settings_check(const struct tile_settings *settings, struct error *err);

struct tile_plan {
    uint32_t width, height;        /* of the picture */
    uint32_t resized_w, resized_h; /* of the single view or of the thumbnail */
    uint32_t tile_size;
    uint32_t cols, rows; /* 1, 1: a single view */
    bool thumbnail;      /* the last view is one */
    size_t n_views;
    size_t n_image_tokens;   /* of all views */
    size_t n_special_tokens; /* start, end, and one for each view of a tiled picture */
};

/*
 * The reference's formula, for every setting that it accepts. Fails where sizes have no meaning
 * (a side of 0, a tile that is not a multiple of TILES_TOKEN) or above the limits named here.
 */
int tiles_plan(const struct tile_settings *settings, uint32_t width, uint32_t height,
               struct tile_plan *ret, struct error *err);

/*
 * The same for sessions, with settings that passed tile_settings_check(): the single view or
 * thumbnail never exceeds max_image_tokens (its longer side is shortened), a grid never exceeds
 * TILES_LINE_MAX rows or columns, and a picture longer than 200:1 is refused.
 */
int tiles_plan_capped(const struct tile_settings *settings, uint32_t width, uint32_t height,
                      struct tile_plan *ret, struct error *err);

/*
 * The views and token counts of a plan whose sizes, grid and thumbnail are set. -EINVAL where they
 * are none that tiles_plan_capped() makes.
 */
int tile_plan_complete(struct tile_plan *plan);

struct tile_view {
    uint32_t x, y;          /* of a tile, in the picture of cols * tile_size x rows * tile_size */
    uint32_t width, height; /* of the view, multiples of TILES_TOKEN */
    uint32_t row, col;      /* of a tile, from 1; 0: the whole picture */
    bool thumbnail;
    size_t n_tokens;
};

/* View i < plan->n_views. */
struct tile_view tile_view(const struct tile_plan *plan, size_t i);

/* Floating-point operations that encoding one view, or a whole plan, takes with such an encoder. */
double tile_view_cost(const struct tile_view *view, const struct vision_shape *shape);
double tiles_cost(const struct tile_plan *plan, const struct vision_shape *shape);
