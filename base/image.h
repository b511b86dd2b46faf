/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A picture as the eye has it: upright, 8 bits for each of red, green and blue.
 *
 * The pixels are allocated, or a mapping of what the decoder child wrote (vision/decoder.h), which
 * is read-only. image_done() gives either back.
 *
 * Threads: any; an image belongs to its owner.
 */

#include <stddef.h>
#include <stdint.h>

struct image {
    uint32_t width, height;
    uint8_t *rgb;     /* [height][width][3] */
    size_t map_bytes; /* of a mapping that begins at rgb; 0: rgb is from malloc() */
};

/* width * height * 3 */
static inline size_t image_bytes(uint32_t width, uint32_t height)
{
    return (size_t)width * height * 3;
}

/* Frees or unmaps the pixels and zeroes the image; accepts a zeroed one. */
void image_done(struct image *image);
