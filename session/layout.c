/* SPDX-License-Identifier: MIT */
#include "session/layout.h"

#include <stdlib.h>

int picture_layout_init(struct picture_layout *layout, const struct tile_plan *plan,
                        const uint64_t key[2], struct error *err)
{
    size_t *n_tokens = calloc(plan->n_views, sizeof(*n_tokens));

    if (!n_tokens)
        return error_set(err, ERROR_NO_MEMORY,
                         "There is no memory for a picture's place in the prompt.");
    for (size_t i = 0; i < plan->n_views; i++)
        n_tokens[i] = tile_view(plan, i).n_tokens;
    *layout = (struct picture_layout){
        .layout = {{key[0], key[1]}, plan->rows, plan->cols, plan->n_views, n_tokens},
        .n_tokens = n_tokens,
    };
    return 0;
}

void picture_layout_done(struct picture_layout *layout)
{
    free(layout->n_tokens);
    *layout = (struct picture_layout){0};
}
