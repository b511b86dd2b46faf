/* SPDX-License-Identifier: MIT */

/* Orientation in every container, whatever the bytes are. */

#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "vision/decode/exif.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int (*const walks[])(const uint8_t *data, size_t size) = {
        exif_orientation_jpeg, exif_orientation_png, exif_orientation_webp, exif_orientation_tiff};

    for (size_t i = 0; i < ARRAY_LEN(walks); i++) {
        const int orientation = walks[i](data, size);

        if (orientation < 1 || orientation > 8)
            abort();
    }
    return 0;
}
