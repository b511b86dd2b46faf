/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Which way up a picture is: tag 0x0112 of the EXIF block inside a JPEG, PNG or WebP file, and of
 * the first directory of a TIFF file.
 *
 * Returns 1 to 8 as in EXIF; 1 where there is no such tag, or where the file is not in order: a
 * picture with a broken orientation is shown as it is stored.
 */

#include <stddef.h>
#include <stdint.h>

int exif_orientation_jpeg(const uint8_t *data, size_t size);
int exif_orientation_png(const uint8_t *data, size_t size);
int exif_orientation_webp(const uint8_t *data, size_t size);
int exif_orientation_tiff(const uint8_t *data, size_t size);
