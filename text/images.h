/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Pictures among the tokens of a prompt.
 *
 *     rendered prompt: ... <image> ...   one control token for each picture (chat.h)
 *     images_expand:   ... <|image_start|> [view] ... <|image_end|> ...
 *     a view:          [<|img_row_r_col_c|> or <|img_thumbnail|>] and one row id (row_id.h) for
 *                      each of the rows that an image encoder made of it
 *
 * Threads: any; no state.
 * Source: vision.md sections 7.3 and 8; transformers models/lfm2_vl/processing_lfm2_vl.py.
 */

#include "text/row_id.h"
#include "text/tokenizer.h"

#define IMAGE_GRID_MAX 10 /* rows and columns that have a marker */

struct image_markers {
    uint32_t image, start, end, thumbnail;
    uint32_t cells[IMAGE_GRID_MAX][IMAGE_GRID_MAX]; /* [row][column] */
};

/* By their text. ERROR_UNSUPPORTED_FORMAT names the one that the vocabulary lacks. */
int image_markers_find(const struct tokenizer *tokenizer, struct image_markers *ret,
                       struct error *err);

/* What a picture is to a prompt: the first rows * columns of its views are tiles, row by row; the
 * one after them, if any, is the thumbnail. A picture of one view has neither marker. */
struct image_layout {
    uint64_t key[2]; /* of the picture and how it is cut; equal keys stand for equal rows */
    size_t rows, columns;
    size_t n_views;
    const size_t *n_tokens; /* [n_views] */
};

/*
 * Append ids to `out` with the k-th <image> replaced by layouts[k]. ERROR_INVALID_ARGUMENT when
 * there are not exactly n_layouts of them, or a grid has no markers.
 */
int images_expand(const struct image_markers *markers, const uint32_t *ids, size_t n,
                  const struct image_layout *layouts, size_t n_layouts, struct token_list *out,
                  struct error *err);
