/* SPDX-License-Identifier: MIT */
#include "vision/decode/exif.h"

#include <stdbool.h>
#include <string.h>

#define TAG_ORIENTATION 0x0112
#define TYPE_SHORT      3
#define ENTRY_BYTES     12

/* Bytes of a file with a place in them; reading past the end gives zeros and sets `ended`. */
struct reader {
    const uint8_t *data;
    size_t size, at;
    bool big_endian, ended;
};

static uint32_t take(struct reader *r, size_t n)
{
    uint32_t value = 0;

    if (r->ended || n > r->size - r->at) {
        r->ended = true;
        return 0;
    }
    for (size_t i = 0; i < n; i++)
        value |= (uint32_t)r->data[r->at + i] << 8 * (r->big_endian ? n - 1 - i : i);
    r->at += n;
    return value;
}

static void skip(struct reader *r, size_t n)
{
    if (r->ended || n > r->size - r->at)
        r->ended = true;
    else
        r->at += n;
}

/* The block itself: a TIFF header, and a first directory of at most 65535 entries. */
int exif_orientation_tiff(const uint8_t *data, size_t size)
{
    struct reader r = {.data = data, .size = size};
    uint32_t offset, n_entries;

    if (size < 4 || (memcmp(data, "II*\0", 4) != 0 && memcmp(data, "MM\0*", 4) != 0))
        return 1;
    r.big_endian = data[0] == 'M';
    r.at = 4;
    offset = take(&r, 4);
    r.at = 0;
    skip(&r, offset);
    n_entries = take(&r, 2);
    for (uint32_t i = 0; i < n_entries && !r.ended; i++) {
        const uint32_t tag = take(&r, 2), type = take(&r, 2), count = take(&r, 4),
                       value = take(&r, 2);

        skip(&r, ENTRY_BYTES - 10);
        if (tag == TAG_ORIENTATION && !r.ended)
            return type == TYPE_SHORT && count == 1 && value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

/* APP1 segments before the pixels. */
int exif_orientation_jpeg(const uint8_t *data, size_t size)
{
    struct reader r = {.data = data, .size = size, .big_endian = true};

    skip(&r, 2);
    while (!r.ended) {
        uint32_t marker = take(&r, 2), length;

        while (marker == 0xffff) /* fill bytes */
            marker = 0xff00 | take(&r, 1);
        if (marker < 0xff00 || marker == 0xffda || marker == 0xffd9)
            break;
        if (marker == 0xff01 || (marker >= 0xffd0 && marker <= 0xffd8))
            continue; /* without a length */
        length = take(&r, 2);
        if (length < 2)
            break;
        length -= 2;
        if (marker == 0xffe1 && length > 6 && length <= r.size - r.at &&
            memcmp(data + r.at, "Exif\0\0", 6) == 0)
            return exif_orientation_tiff(data + r.at + 6, length - 6);
        skip(&r, length);
    }
    return 1;
}

/* Chunks of {length, type, data, crc}. */
int exif_orientation_png(const uint8_t *data, size_t size)
{
    struct reader r = {.data = data, .size = size, .big_endian = true};

    skip(&r, 8);
    while (!r.ended) {
        const uint32_t length = take(&r, 4), type = take(&r, 4);

        if (r.ended || length > r.size - r.at)
            break;
        if (type == 0x65584966) /* eXIf */
            return exif_orientation_tiff(data + r.at, length);
        skip(&r, length);
        skip(&r, 4);
    }
    return 1;
}

/* RIFF chunks of {type, length, data, padding to even}; some writers keep the prefix of JPEG. */
int exif_orientation_webp(const uint8_t *data, size_t size)
{
    struct reader r = {.data = data, .size = size};

    skip(&r, 12);
    while (!r.ended) {
        const uint32_t type = take(&r, 4), length = take(&r, 4);
        const uint8_t *chunk = data + r.at;

        if (r.ended || length > r.size - r.at)
            break;
        if (type == 0x46495845) { /* EXIF */
            if (length > 6 && memcmp(chunk, "Exif\0\0", 6) == 0)
                return exif_orientation_tiff(chunk + 6, length - 6);
            return exif_orientation_tiff(chunk, length);
        }
        skip(&r, length);
        skip(&r, length % 2);
    }
    return 1;
}
