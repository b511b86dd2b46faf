/* SPDX-License-Identifier: MIT */
#include "text/images.h"

#include <stdio.h>

#include "base/cleanup.h"

int image_markers_find(const struct tokenizer *tokenizer, struct image_markers *ret,
                       struct error *err)
{
    struct image_markers markers;
    char cell[32];
    const struct {
        const char *text;
        uint32_t *id;
    } names[] = {
        {"<image>", &markers.image},
        {"<|image_start|>", &markers.start},
        {"<|image_end|>", &markers.end},
        {"<|img_thumbnail|>", &markers.thumbnail},
    };
    const char *missing = NULL;

    for (size_t i = 0; i < ARRAY_LEN(names) && !missing; i++) {
        *names[i].id = tokenizer_find(tokenizer, names[i].text);
        if (*names[i].id == TOKEN_NONE)
            missing = names[i].text;
    }
    for (int row = 0; row < IMAGE_GRID_MAX && !missing; row++)
        for (int column = 0; column < IMAGE_GRID_MAX && !missing; column++) {
            snprintf(cell, sizeof(cell), "<|img_row_%d_col_%d|>", row + 1, column + 1);
            markers.cells[row][column] = tokenizer_find(tokenizer, cell);
            if (markers.cells[row][column] == TOKEN_NONE)
                missing = cell;
        }
    if (missing)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "The vocabulary of this text model has no token %s, so it cannot be shown "
                         "pictures.",
                         missing);
    *ret = markers;
    return 0;
}

/* 0 or -ENOMEM */
static int put_layout(const struct image_markers *markers, const struct image_layout *layout,
                      struct token_list *out)
{
    const size_t n_cells = layout->rows * layout->columns;
    size_t place = 0;
    int r = token_list_push(out, markers->start);

    for (size_t view = 0; view < layout->n_views && r == 0; view++) {
        if (layout->n_views > 1)
            r = token_list_push(
                out, view < n_cells
                         ? markers->cells[view / layout->columns][view % layout->columns]
                         : markers->thumbnail);
        for (size_t i = 0; i < layout->n_tokens[view] && r == 0; i++)
            r = token_list_push(out, row_id(layout->key, place++));
    }
    return r < 0 ? r : token_list_push(out, markers->end);
}

int images_expand(const struct image_markers *markers, const uint32_t *ids, size_t n,
                  const struct image_layout *layouts, size_t n_layouts, struct token_list *out,
                  struct error *err)
{
    size_t n_images = 0;
    int r = 0;

    for (size_t i = 0; i < n; i++)
        n_images += ids[i] == markers->image;
    if (n_images != n_layouts)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The prompt has %zu places for pictures (<image>), but there are %zu "
                         "pictures.",
                         n_images, n_layouts);
    for (size_t i = 0; i < n_layouts; i++)
        if (layouts[i].rows > IMAGE_GRID_MAX || layouts[i].columns > IMAGE_GRID_MAX)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "Picture %zu is cut into %zu columns and %zu rows; there are markers "
                             "for %d of each.",
                             i + 1, layouts[i].columns, layouts[i].rows, IMAGE_GRID_MAX);
    for (size_t i = 0; i < n && r == 0; i++)
        r = ids[i] == markers->image ? put_layout(markers, layouts++, out)
                                     : token_list_push(out, ids[i]);
    if (r < 0)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the tokens of a picture.");
    return 0;
}
