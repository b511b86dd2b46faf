/* SPDX-License-Identifier: MIT */
#include "vision/patches.h"

void patches_norm_init(struct patches_norm *norm, const float mean[3], const float std[3])
{
    for (size_t channel = 0; channel < 3; channel++)
        for (size_t i = 0; i < 256; i++)
            norm->value[channel][i] = ((float)i - mean[channel] * 255.0f) / (std[channel] * 255.0f);
}

size_t patches_count(const struct tile_view *view)
{
    return (size_t)(view->width / TILES_PATCH) * (view->height / TILES_PATCH);
}

void patches_cut(const struct picture_view *view, const struct patches_norm *norm,
                 enum patches_order order, size_t first, size_t n, float *out)
{
    const size_t cols = view->view.width / TILES_PATCH;
    const size_t pixel = order == PATCHES_PIXELS ? 3 : 1; /* from one pixel's value to the next */
    const size_t plane = order == PATCHES_PIXELS ? 1 : (size_t)TILES_PATCH * TILES_PATCH;

    for (size_t p = first; p < first + n; p++, out += PATCHES_VALUES) {
        const uint8_t *corner =
            view->rgb + p / cols * TILES_PATCH * view->stride_bytes + p % cols * TILES_PATCH * 3;

        for (size_t y = 0; y < TILES_PATCH; y++) {
            const uint8_t *row = corner + y * view->stride_bytes;

            for (size_t x = 0; x < TILES_PATCH; x++)
                for (size_t channel = 0; channel < 3; channel++)
                    out[(y * TILES_PATCH + x) * pixel + channel * plane] =
                        norm->value[channel][row[3 * x + channel]];
        }
    }
}
