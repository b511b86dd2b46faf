/* SPDX-License-Identifier: MIT */
#include "vision/picture.h"

#include <stdlib.h>

#include "vision/resize.h"

#define BYTES_MAX ((uint64_t)1 << 29) /* of one resized picture */

static uint8_t *resized(const struct image *image, uint64_t width, uint64_t height,
                        struct pool *pool, struct error *err)
{
    const uint64_t bytes = width * height * 3;
    uint8_t *rgb;

    if (bytes > BYTES_MAX) {
        error_set(err, ERROR_INVALID_ARGUMENT,
                  "With these settings the picture would be resized to %llux%llu pixels, more than "
                  "%llu bytes.",
                  (unsigned long long)width, (unsigned long long)height,
                  (unsigned long long)BYTES_MAX);
        return NULL;
    }
    rgb = malloc(bytes);
    if (!rgb) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for a picture of %llux%llu pixels.",
                  (unsigned long long)width, (unsigned long long)height);
        return NULL;
    }
    if (resize_rgb(image->rgb, image->width, image->height, rgb, (uint32_t)width, (uint32_t)height,
                   pool, err) < 0) {
        free(rgb);
        return NULL;
    }
    return rgb;
}

struct picture *picture_new(const struct image *image, const struct tile_plan *plan,
                            struct pool *pool, struct error *err)
{
    const bool tiled = plan->cols > 1 || plan->rows > 1;
    struct picture *picture = calloc(1, sizeof(*picture));

    if (!picture) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for a picture.");
        return NULL;
    }
    picture->plan = *plan;
    if (tiled) {
        picture->tiled = resized(image, (uint64_t)plan->cols * plan->tile_size,
                                 (uint64_t)plan->rows * plan->tile_size, pool, err);
        if (!picture->tiled)
            return picture_free(picture);
    }
    if (!tiled || plan->thumbnail) {
        picture->whole = resized(image, plan->resized_w, plan->resized_h, pool, err);
        if (!picture->whole)
            return picture_free(picture);
    }
    return picture;
}

struct picture *picture_free(struct picture *picture)
{
    if (!picture)
        return NULL;
    free(picture->tiled);
    free(picture->whole);
    free(picture);
    return NULL;
}

struct picture_view picture_view(const struct picture *picture, size_t i)
{
    const struct tile_plan *plan = &picture->plan;
    const struct tile_view view = tile_view(plan, i);
    const size_t stride = 3 * (view.row > 0 ? (size_t)plan->cols * plan->tile_size : view.width);

    return (struct picture_view){
        .rgb =
            view.row > 0 ? picture->tiled + view.y * stride + (size_t)view.x * 3 : picture->whole,
        .stride_bytes = stride,
        .view = view,
    };
}
