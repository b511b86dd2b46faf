/* SPDX-License-Identifier: MIT */

/*
 * Any settings for a picture of any size: they are refused, or the views fit together.
 */

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "vision/tiles.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct vision_shape shape = {
    .n_layer = 27, .n_hidden = 1152, .n_ff = 4304, .n_projector = 2560, .n_embd = 2048};

static void check(const struct tile_plan *plan)
{
    size_t n_tokens = 0;

    assert(plan->n_views > 0 && plan->n_views <= TILES_GRID_MAX + 1);
    for (size_t i = 0; i < plan->n_views; i++) {
        const struct tile_view view = tile_view(plan, i);

        assert(view.width > 0 && view.width % TILES_TOKEN == 0);
        assert(view.height > 0 && view.height % TILES_TOKEN == 0);
        assert(view.x + view.width <= plan->cols * plan->tile_size || view.row == 0);
        assert(view.y + view.height <= plan->rows * plan->tile_size || view.row == 0);
        n_tokens += view.n_tokens;
    }
    assert(n_tokens == plan->n_image_tokens);
    assert(isfinite(tiles_cost(plan, &shape)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct {
        uint32_t width, height;
        uint32_t min_image_tokens, max_image_tokens, min_tiles, max_tiles, tile_size, flags;
        double max_pixels_tolerance;
    } input;
    struct error err = ERROR_INIT;
    struct tile_plan plan;

    if (size < sizeof(input))
        return 0;
    memcpy(&input, data, sizeof(input));

    const struct tile_settings settings = {
        .min_image_tokens = input.min_image_tokens,
        .max_image_tokens = input.max_image_tokens,
        .min_tiles = input.min_tiles,
        .max_tiles = input.max_tiles,
        .tile_size = input.tile_size,
        .tiling = input.flags & 1,
        .thumbnail = input.flags & 2,
        .max_pixels_tolerance = input.max_pixels_tolerance,
    };

    if (tiles_plan(&settings, input.width, input.height, &plan, &err) == 0)
        check(&plan);
    if (tile_settings_check(&settings, &err) == 0 &&
        tiles_plan_capped(&settings, input.width, input.height, &plan, &err) == 0) {
        check(&plan);
        assert(plan.n_views <= TILES_VIEWS_MAX);
        assert((uint64_t)plan.resized_w * plan.resized_h <=
               (uint64_t)settings.max_image_tokens * TILES_TOKEN * TILES_TOKEN);
    }
    return 0;
}
