/* SPDX-License-Identifier: MIT */

/*
 * SVG by librsvg, drawn on white. A drawing has no pixels: it is drawn at the size that it asks
 * for, within the sides below. An icon of 16 x 16 comes out as one sharp view of the encoder; a
 * plan of two metres does not cost a hundred. References to other files are not followed, because
 * there is no base address that they could be relative to, and no file that could be opened.
 */

#include <string.h>

#include <librsvg/rsvg.h>

#include "base/cleanup.h"
#include "vision/decode/decode.h"

#define LONG_SIDE_MIN 512
#define LONG_SIDE_MAX 2048

static void target_size(RsvgHandle *svg, uint32_t *ret_width, uint32_t *ret_height)
{
    double width = 0, height = 0, scale;
    gboolean has_box;
    RsvgRectangle box;

    if (!rsvg_handle_get_intrinsic_size_in_pixels(svg, &width, &height)) {
        rsvg_handle_get_intrinsic_dimensions(svg, NULL, NULL, NULL, NULL, &has_box, &box);
        width = has_box ? box.width : 1;
        height = has_box ? box.height : 1;
    }
    if (!(width > 0 && height > 0 && width < 1e9 && height < 1e9))
        width = height = 1;
    scale = MIN(MAX(MAX(width, height), LONG_SIDE_MIN), LONG_SIDE_MAX) / MAX(width, height);
    *ret_width = (uint32_t)MAX(width * scale + 0.5, 1);
    *ret_height = (uint32_t)MAX(height * scale + 0.5, 1);
}

static int draw(RsvgHandle *svg, cairo_surface_t *surface, struct image *image, GError **why)
{
    const RsvgRectangle whole = {0, 0, image->width, image->height};
    const size_t stride = (size_t)cairo_image_surface_get_stride(surface);
    cairo_t *cairo = cairo_create(surface);
    const uint8_t *words;
    gboolean drawn;

    cairo_set_source_rgb(cairo, 1, 1, 1);
    cairo_paint(cairo);
    drawn = rsvg_handle_render_document(svg, cairo, &whole, why);
    cairo_destroy(cairo);
    cairo_surface_flush(surface);
    words = cairo_image_surface_get_data(surface);
    if (!drawn || !words)
        return -1;
    for (uint32_t y = 0; y < image->height; y++) {
        for (uint32_t x = 0; x < image->width; x++) {
            uint8_t *rgb = image->rgb + image_bytes(image->width, y) + 3 * x;
            uint32_t word;

            memcpy(&word, words + y * stride + 4 * x, sizeof(word));
            rgb[0] = (uint8_t)(word >> 16);
            rgb[1] = (uint8_t)(word >> 8);
            rgb[2] = (uint8_t)word;
        }
    }
    return 0;
}

int svg_decode(const struct source *source, struct image *ret, struct error *err)
{
    GError *why = NULL;
    RsvgHandle *svg = rsvg_handle_new_from_data(source->data, source->size, &why);
    cairo_surface_t *surface;
    struct image image = {0};
    uint32_t width, height;
    int r;

    if (!svg) {
        r = decode_damaged(err, "SVG", why->message);
        g_error_free(why);
        return r;
    }
    target_size(svg, &width, &height);
    r = decode_size_check(source, width, height, err);
    if (r == 0)
        r = decode_alloc(&image, width, height, err);
    if (r == 0) {
        surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)width, (int)height);
        if (draw(svg, surface, &image, &why) < 0)
            r = decode_damaged(err, "SVG", why ? why->message : NULL);
        cairo_surface_destroy(surface);
    }
    g_clear_error(&why);
    g_object_unref(svg);
    if (r < 0)
        image_done(&image);
    else
        *ret = image;
    return r;
}
