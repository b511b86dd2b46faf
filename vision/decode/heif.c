/* SPDX-License-Identifier: MIT */

/*
 * HEIC and AVIF by libheif, which also turns and crops the picture as the container says. The first
 * picture of a collection or a sequence is the one that the file calls primary.
 */

#include <string.h>

#include <libheif/heif.h>

#include "vision/decode/decode.h"

static int failed(struct error *err, const struct source *source, struct heif_error why)
{
    const char *name = format_find(source->data, source->size)->name;

    if (why.code == heif_error_Unsupported_filetype || why.code == heif_error_Unsupported_feature)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT, "The %s picture cannot be read here: %s.",
                         name, why.message);
    return decode_damaged(err, name, why.message);
}

static int copy_pixels(const struct source *source, const struct heif_image *from,
                       struct image *ret, struct error *err)
{
    const int width = heif_image_get_width(from, heif_channel_interleaved);
    const int height = heif_image_get_height(from, heif_channel_interleaved);
    int stride, r;
    const uint8_t *rows = heif_image_get_plane_readonly(from, heif_channel_interleaved, &stride);

    if (!rows || width <= 0 || height <= 0 || stride / 3 < width)
        return decode_damaged(err, format_find(source->data, source->size)->name, NULL);
    r = decode_size_check(source, (uint64_t)width, (uint64_t)height, err);
    if (r == 0)
        r = decode_alloc(ret, (uint32_t)width, (uint32_t)height, err);
    for (int y = 0; r == 0 && y < height; y++)
        memcpy(ret->rgb + image_bytes(ret->width, (uint32_t)y), rows + (size_t)y * stride,
               image_bytes(ret->width, 1));
    return r;
}

int heif_decode(const struct source *source, struct image *ret, struct error *err)
{
    struct heif_context *context = heif_context_alloc();
    struct heif_image_handle *handle = NULL;
    struct heif_image *image = NULL;
    struct heif_error why;
    int r = 0;

    if (!context)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for a picture.");
    heif_context_set_max_decoding_threads(context, 0); /* none but this one */
    why = heif_context_read_from_memory_without_copy(context, source->data, source->size, NULL);
    if (why.code == heif_error_Ok)
        why = heif_context_get_primary_image_handle(context, &handle);
    if (why.code == heif_error_Ok) {
        r = decode_size_check(source, (uint64_t)heif_image_handle_get_width(handle),
                              (uint64_t)heif_image_handle_get_height(handle), err);
        if (r == 0)
            why = heif_decode_image(handle, &image, heif_colorspace_RGB,
                                    heif_chroma_interleaved_RGB, NULL);
    }
    if (why.code != heif_error_Ok)
        r = failed(err, source, why);
    else if (r == 0)
        r = copy_pixels(source, image, ret, err);
    heif_image_release(image);
    heif_image_handle_release(handle);
    heif_context_free(context);
    return r;
}
