/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The picture of tests/data/vision/images, which make_images.py wrote in many forms: four
 * quadrants. And whole files as bytes.
 */

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/image.h"
#include "tests/fixture.h"

#define PICTURE_FILES 75 /* in the folder */

/* malloc */
static inline uint8_t *picture_bytes(const char *name, size_t *ret_size)
{
    char path[4096];
    FILE *file;
    uint8_t *data;
    long size;

    snprintf(path, sizeof(path), "%s/tests/data/vision/images/%s", LFMD_SOURCE_ROOT, name);
    file = fopen(path, "rbe");
    if (!file)
        fail_msg("cannot open %s", path);
    fseek(file, 0, SEEK_END);
    size = ftell(file);
    rewind(file);
    data = malloc((size_t)size);
    assert_int_equal(fread(data, 1, (size_t)size, file), size);
    fclose(file);
    *ret_size = (size_t)size;
    return data;
}

static inline struct dirent **picture_files(void)
{
    struct dirent **entries;
    char path[4096];
    int n;

    snprintf(path, sizeof(path), "%s/tests/data/vision/images", LFMD_SOURCE_ROOT);
    n = scandir(path, &entries, NULL, alphasort);
    assert_int_equal(n, PICTURE_FILES + 2); /* "." and ".." come first */
    return entries;
}

/* Whether this build has the library for it; if not, the file is refused by the name of its
 * kind. */
static inline bool picture_readable(const char *name)
{
    return !(!HAVE_WEBP && strstr(name, ".webp")) && !(!HAVE_TIFF && strstr(name, ".tif")) &&
           !(!HAVE_SVG && strstr(name, ".svg")) &&
           !(!HAVE_HEIF && (strstr(name, ".heic") || strstr(name, ".avif")));
}

/* Says where the picture is wrong, or NULL. Files that lose something may be off by a little. */
static inline const char *picture_wrong(const char *name, const struct image *image)
{
    static const uint8_t colours[4][3] = {{255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {255, 255, 0}};
    static const uint8_t greys[4] = {0, 255, 170, 85}, bilevel[4] = {0, 255, 255, 0};
    static char wrong[128];
    const unsigned scale = strstr(name, ".svg") ? 8 : 1;

    if (image->width != 64 * scale || image->height != 32 * scale) {
        snprintf(wrong, sizeof(wrong), "it has %u x %u pixels", image->width, image->height);
        return wrong;
    }
    for (unsigned y = 0; y < image->height; y++) {
        for (unsigned x = 0; x < image->width; x++) {
            const unsigned quadrant = 2 * (y / (16 * scale)) + x / (32 * scale);
            /* Where two quadrants meet, blur and chroma of half the size mix them. */
            const unsigned dx = x % (32 * scale), dy = y % (16 * scale);
            const bool inside =
                dx >= 4 * scale && dx < 28 * scale && dy >= 4 * scale && dy < 12 * scale;

            for (unsigned c = 0; inside && c < 3; c++) {
                const int expected = strncmp(name, "grey", 4) == 0      ? greys[quadrant]
                                     : strncmp(name, "bilevel", 7) == 0 ? bilevel[quadrant]
                                                                        : colours[quadrant][c];
                const int found = image->rgb[3 * (y * image->width + x) + c];

                if (abs(found - expected) > 6) {
                    snprintf(wrong, sizeof(wrong), "(%u, %u) channel %u is %d instead of %d", x, y,
                             c, found, expected);
                    return wrong;
                }
            }
        }
    }
    return NULL;
}

/* What came of decoding a file: NULL when it is as it must be. The image is given back. */
static inline const char *picture_unexpected(const char *name, int r, struct image *image,
                                             const char *error)
{
    const char *wrong = NULL;

    if (!picture_readable(name))
        return r < 0 && strstr(error, "which this build cannot read") ? NULL : "it is not refused";
    if (r < 0)
        return error;
    wrong = picture_wrong(name, image);
    image_done(image);
    return wrong;
}
