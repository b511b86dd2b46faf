/* SPDX-License-Identifier: MIT */

/*
 * PNG, GIF, BMP, TGA, PNM, and JPEG where this build has no library for it: stb_image, with the
 * formats that are not in the table left out.
 */

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "vision/decode/decode.h"

#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_NO_STDIO
#define STBI_NO_PSD
#define STBI_NO_PIC
#define STBI_NO_HDR
#define STBI_NO_LINEAR
/* What is not read is black, never what was in memory before. */
#define STBI_MALLOC(size)       calloc(1, size)
#define STBI_REALLOC(old, size) realloc(old, size)
#define STBI_FREE(old)          free(old)
#pragma GCC diagnostic ignored "-Wunused-function" /* it declares one that it does not have */
#include <stb_image.h>

/*
 * The library takes zeros for what is missing at the end of a file, and is content. It asks for
 * more through these functions, so that here it is seen. A short answer is an end only where the
 * library needs all of it: into its own buffer it takes what there is.
 */
#define LIBRARY_BUFFER 128

struct reader {
    const struct source *source;
    size_t at;
    bool ended;
};

static int reader_read(void *user, char *to, int size)
{
    struct reader *reader = user;
    const size_t left = reader->source->size - reader->at, n = MIN((size_t)size, left);

    if (left == 0 || (n < (size_t)size && size != LIBRARY_BUFFER))
        reader->ended = true;
    memcpy(to, reader->source->data + reader->at, n);
    reader->at += n;
    return (int)n;
}

static void reader_skip(void *user, int n)
{
    struct reader *reader = user;

    reader->at += MIN((size_t)MAX(n, 0), reader->source->size - reader->at);
}

static int reader_eof(void *user)
{
    const struct reader *reader = user;

    return reader->at == reader->source->size;
}

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int ended(struct error *err, const struct format *format)
{
    return decode_damaged(err, format->name, "the file ends too early");
}

int stb_decode(const struct source *source, struct image *ret, struct error *err)
{
    static const stbi_io_callbacks calls = {reader_read, reader_skip, reader_eof};
    const struct format *format = format_find(source->data, source->size);
    struct reader reader = {.source = source};
    int width, height, n_channels, r = 0;
    uint8_t *rgb;

    /* For the library, a PNG above 2^30 bytes is a damaged one. */
    if (strcmp(format->name, "PNG") == 0 && source->size >= 24)
        r = decode_size_check(source, big_endian(source->data + 16), big_endian(source->data + 20),
                              err);
    if (r < 0)
        return r;
    if (!stbi_info_from_callbacks(&calls, &reader, &width, &height, &n_channels))
        return decode_damaged(err, format->name, stbi_failure_reason());
    if (reader.ended)
        return ended(err, format);
    /* The height of a BMP is negative where the first row is at the top. */
    r = decode_size_check(source, (uint64_t)width, (uint64_t)llabs(height), err);
    if (r < 0)
        return r;
    /* Three channels: alpha is dropped, grey becomes three times itself, 16 bit their high byte. */
    reader = (struct reader){.source = source};
    rgb = stbi_load_from_callbacks(&calls, &reader, &width, &height, &n_channels, 3);
    if (!rgb)
        return decode_damaged(err, format->name, stbi_failure_reason());
    if (reader.ended) {
        free(rgb);
        return ended(err, format);
    }
    *ret = (struct image){.width = (uint32_t)width, .height = (uint32_t)height, .rgb = rgb};
    return 0;
}
