/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Decoding inside lfmd-image: bytes -> upright RGB.
 *
 * The format is told from the first bytes. Each decoder reads the size of the picture first and
 * asks decode_size_check() before it allocates anything for pixels.
 *
 * Threads: one. Decoders are linked by nothing but lfmd-image and the fuzzer.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/image.h"

struct source {
    const uint8_t *data; /* [size] */
    size_t size;
    uint64_t pixels_max;
    uint32_t side_max;
};

struct format {
    const char *name; /* "PNG" */
    /* Looks at the beginning, and for TGA at the end; never runs past it. */
    bool (*is)(const uint8_t *data, size_t size);
    /* NULL: known by sight, but this build has no decoder. Pixels as stored, from malloc(). */
    int (*decode)(const struct source *source, struct image *ret, struct error *err);
    /* 1 to 8 as in EXIF; NULL where the decoder turns the picture itself, or nothing can. */
    int (*orientation)(const uint8_t *data, size_t size);
    bool draws_text; /* needs the system's fonts */
};

/* The format of a file, or NULL. */
const struct format *format_find(const uint8_t *data, size_t size);

/* Decode and turn upright. */
int decode(const struct format *format, const struct source *source, struct image *ret,
           struct error *err);

/* A refusal that names the limit and what the picture has, or 0. */
int decode_size_check(const struct source *source, uint64_t width, uint64_t height,
                      struct error *err);

/* The error of a picture whose bytes make no sense; why: of the library, or NULL. */
int decode_damaged(struct error *err, const char *format, const char *why);

/* Room for the pixels of an image of this size, which has been checked. */
int decode_alloc(struct image *ret, uint32_t width, uint32_t height, struct error *err);

/* [n][4] -> [n][3] without the fourth; rgb may be the same memory. */
void decode_drop_alpha(uint8_t *rgb, const uint8_t *rgba, size_t n);

/* The decoders, a file each. */
int stb_decode(const struct source *source, struct image *ret, struct error *err);
int jpeg_decode(const struct source *source, struct image *ret, struct error *err);
int webp_decode(const struct source *source, struct image *ret, struct error *err);
int heif_decode(const struct source *source, struct image *ret, struct error *err);
int tiff_decode(const struct source *source, struct image *ret, struct error *err);
int svg_decode(const struct source *source, struct image *ret, struct error *err);
