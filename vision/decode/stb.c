/* SPDX-License-Identifier: MIT */

/*
 * PNG, GIF, BMP, TGA, PNM, and JPEG where this build has no library for it: stb_image, with the
 * formats that are not in the table left out.
 */

#include <limits.h>
#include <string.h>

#include "vision/decode/decode.h"

#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_NO_STDIO
#define STBI_NO_PSD
#define STBI_NO_PIC
#define STBI_NO_HDR
#define STBI_NO_LINEAR
#define STBI_MAX_DIMENSIONS 65535
#include <stb_image.h>

int stb_decode(const struct source *source, struct image *ret, struct error *err)
{
    const char *name = format_find(source->data, source->size)->name;
    int width, height, n_channels, r;
    uint8_t *rgb;

    if (source->size > INT_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "The picture has more than 2 GiB.");
    if (!stbi_info_from_memory(source->data, (int)source->size, &width, &height, &n_channels))
        return decode_damaged(err, name, stbi_failure_reason());
    r = decode_size_check(source, (uint64_t)width, (uint64_t)height, err);
    if (r < 0)
        return r;
    /* Three channels: alpha is dropped, grey becomes three times itself, 16 bit their high byte. */
    rgb = stbi_load_from_memory(source->data, (int)source->size, &width, &height, &n_channels, 3);
    if (!rgb)
        return decode_damaged(err, name, stbi_failure_reason());
    *ret = (struct image){.width = (uint32_t)width, .height = (uint32_t)height, .rgb = rgb};
    return 0;
}
