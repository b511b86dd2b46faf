/* SPDX-License-Identifier: MIT */

/* The decoders of lfmd-image in this process, with the small limits that a fuzzer needs. */

#include <stdint.h>
#include <stdlib.h>

#include "vision/decode/decode.h"

/* libheif 1.15 forgets what it gave to libdav1d where an AVIF file is damaged. */
const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:libdav1d\nleak:libheif\n";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct source source = {
        .data = data, .size = size, .pixels_max = 512 * 512, .side_max = 4096};
    const struct format *format = format_find(data, size);
    struct error err = ERROR_INIT;
    struct image image = {0};
    volatile uint8_t seen;

    if (!format)
        return 0;
    if (decode(format, &source, &image, &err) < 0) {
        if (err.code == ERROR_NONE || image.rgb)
            abort();
        return 0;
    }
    if (image.width > source.side_max || image.height > source.side_max ||
        (uint64_t)image.width * image.height > source.pixels_max)
        abort();
    /* All of it is there. */
    for (size_t i = 0; i < image_bytes(image.width, image.height); i++)
        seen = image.rgb[i];
    (void)seen;
    image_done(&image);
    return 0;
}
