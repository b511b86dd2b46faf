/* SPDX-License-Identifier: MIT */
#include "vision/decode/decode.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

int decode_size_check(const struct source *source, uint64_t width, uint64_t height,
                      struct error *err)
{
    uint64_t pixels;

    if (width == 0 || height == 0)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT, "The picture is empty: %llu x %llu pixels.",
                         (unsigned long long)width, (unsigned long long)height);
    if (width > source->side_max || height > source->side_max)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The picture has %llu x %llu pixels, %llu too many on one side: "
                         "the limit is %u.",
                         (unsigned long long)width, (unsigned long long)height,
                         (unsigned long long)(MAX(width, height) - source->side_max),
                         source->side_max);
    pixels = width * height; /* both fit 32 bits */
    if (pixels > source->pixels_max)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The picture has %llu x %llu = %llu pixels, %llu too many: "
                         "the limit is %llu.",
                         (unsigned long long)width, (unsigned long long)height,
                         (unsigned long long)pixels,
                         (unsigned long long)(pixels - source->pixels_max),
                         (unsigned long long)source->pixels_max);
    return 0;
}

int decode_damaged(struct error *err, const char *format, const char *why)
{
    if (!why || !*why)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT, "The %s picture is damaged or incomplete.",
                         format);
    return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                     "The %s picture is damaged or incomplete: %.200s.", format, why);
}

int decode_alloc(struct image *ret, uint32_t width, uint32_t height, struct error *err)
{
    uint8_t *rgb = malloc(image_bytes(width, height));

    if (!rgb)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for a picture of %u x %u.",
                         width, height);
    *ret = (struct image){.width = width, .height = height, .rgb = rgb};
    return 0;
}

void decode_drop_alpha(uint8_t *rgb, const uint8_t *rgba, size_t n)
{
    for (size_t i = 0; i < n; i++)
        memmove(rgb + 3 * i, rgba + 4 * i, 3);
}

/*
 * Turn a stored picture upright. Each orientation is a walk through the stored pixels that begins
 * at a corner and takes one step for the next column, another for the next row of the result; block
 * by block, because a walk across the rows of a photo would miss the caches at each step.
 */
#define BLOCK 32

static void copy_walk(uint8_t *to, const uint8_t *from, ptrdiff_t step, size_t n)
{
    for (size_t i = 0; i < n; i++, to += 3, from += step)
        memcpy(to, from, 3);
}

static int turn(struct image *image, int orientation, struct error *err)
{
    const ptrdiff_t right = 3, down = 3 * (ptrdiff_t)image->width;
    const ptrdiff_t last_column = right * ((ptrdiff_t)image->width - 1);
    const ptrdiff_t last_row = down * ((ptrdiff_t)image->height - 1);
    const struct walk {
        ptrdiff_t start, column, row;
    } walks[] = {
        [1] = {0, right, down},
        [2] = {last_column, -right, down},
        [3] = {last_column + last_row, -right, -down},
        [4] = {last_row, right, -down},
        [5] = {0, down, right},
        [6] = {last_row, -down, right},
        [7] = {last_column + last_row, -down, -right},
        [8] = {last_column, down, -right},
    };
    const struct walk *walk = &walks[orientation];
    struct image out;
    int r;

    if (orientation == 1)
        return 0;
    r = decode_alloc(&out, orientation < 5 ? image->width : image->height,
                     orientation < 5 ? image->height : image->width, err);
    if (r < 0)
        return r;
    for (uint32_t y = 0; y < out.height; y += BLOCK)
        for (uint32_t x = 0; x < out.width; x += BLOCK)
            for (uint32_t row = y; row < MIN(y + BLOCK, out.height); row++)
                copy_walk(out.rgb + image_bytes(out.width, row) + 3 * (size_t)x,
                          image->rgb + walk->start + row * walk->row + x * walk->column,
                          walk->column, MIN(BLOCK, out.width - x));
    image_done(image);
    *image = out;
    return 0;
}

int decode(const struct format *format, const struct source *source, struct image *ret,
           struct error *err)
{
    struct image image = {0};
    int r;

    if (!format->decode)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "This is a file of the kind %s, which this build cannot read.",
                         format->name);
    r = format->decode(source, &image, err);
    if (r < 0)
        return r;
    if (format->orientation)
        r = turn(&image, format->orientation(source->data, source->size), err);
    if (r < 0)
        image_done(&image);
    else
        *ret = image;
    return r;
}
