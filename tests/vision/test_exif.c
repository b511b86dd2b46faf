/* SPDX-License-Identifier: MIT */

/*
 * The orientation of a picture from EXIF blocks that are in order, and from those that are not:
 * what points outside, goes in circles or ends too early is orientation 1.
 */

#include "vision/decode/exif.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"

/* A literal with its length: zeros may be anywhere. */
#define BYTES(text) text, sizeof(text) - 1

#define LITTLE "II*\0\10\0\0\0"
#define BIG    "MM\0*\0\0\0\10"
/* One directory entry: the orientation. */
#define LITTLE_6 "\x12\1\3\0\1\0\0\0\6\0\0\0"
#define BIG_6    "\1\x12\0\3\0\0\0\1\0\6\0\0"
#define OTHER    "\x0f\1\2\0\xff\xff\xff\xff\xff\xff\xff\xff"

static void test_the_first_directory_says_it(void **state)
{
    static const struct {
        const char *data;
        size_t size;
        int expected;
    } table[] = {
        {BYTES(LITTLE "\1\0" LITTLE_6 "\0\0\0\0"), 6},
        {BYTES(LITTLE "\1\0" LITTLE_6), 6}, /* no next directory: nobody needs it */
        {BYTES(BIG "\0\1" BIG_6 "\0\0\0\0"), 6},
        {BYTES(LITTLE "\2\0" OTHER LITTLE_6), 6},
        {BYTES(LITTLE "\xff\xff" OTHER LITTLE_6), 6}, /* more entries claimed than there are */
        {BYTES("II*\0\20\0\0\0--------\1\0" LITTLE_6), 6},
        /* broken */
        {BYTES(LITTLE "\0\0" LITTLE_6), 1},
        {BYTES(LITTLE "\1\0" OTHER LITTLE_6), 1},
        {BYTES(LITTLE "\xff\xff" OTHER OTHER), 1},
        {BYTES("II*\0\xff\xff\xff\xff\1\0" LITTLE_6), 1},
        {BYTES("II*\0\x16\0\0\0\1\0" LITTLE_6), 1},
        {BYTES("II*\0\0\0\0\0\1\0" LITTLE_6), 1}, /* the directory is the header */
        {BYTES("II\0*\10\0\0\0\1\0" LITTLE_6), 1},
        {BYTES("MM*\0\0\0\0\10\0\1" BIG_6), 1},
        {BYTES(LITTLE "\1\0\x12\1\3\0\1\0\0\0\0\0\0\0"), 1},     /* 0 */
        {BYTES(LITTLE "\1\0\x12\1\3\0\1\0\0\0\11\0\0\0"), 1},    /* 9 */
        {BYTES(LITTLE "\1\0\x12\1\3\0\1\0\0\0\xff\xff\0\0"), 1}, /* 65535 */
        {BYTES(LITTLE "\1\0\x12\1\3\0\2\0\0\0\6\0\6\0"), 1},     /* two of them */
        {BYTES(LITTLE "\1\0\x12\1\2\0\1\0\0\0\6\0\0\0"), 1},     /* a text */
        {BYTES(LITTLE), 1},
        {BYTES(""), 1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        _cleanup_(freep) uint8_t *data = malloc(table[i].size);
        int found;

        memcpy(data, table[i].data, table[i].size);
        found = exif_orientation_tiff(data, table[i].size);
        if (found != table[i].expected)
            fail_msg("row %zu: %d", i, found);
    }
}

static void test_containers_are_walked_to_the_block(void **state)
{
#define BLOCK LITTLE "\1\0" LITTLE_6 /* 22 bytes */
    static const struct {
        int (*orientation)(const uint8_t *data, size_t size);
        const char *data;
        size_t size;
        int expected;
    } table[] = {
        {exif_orientation_jpeg,
         BYTES("\xff\xd8\xff\xe1\0\x1e"
               "Exif\0\0" BLOCK "\xff\xda"),
         6},
        {exif_orientation_jpeg,
         BYTES("\xff\xd8\xff\xe0\0\4ab\xff\xff\xff\xe1\0\x1e"
               "Exif\0\0" BLOCK),
         6},
        /* another APP1 comes first, as XMP does */
        {exif_orientation_jpeg,
         BYTES("\xff\xd8\xff\xe1\0\x0ahttp:/xx\xff\xe1\0\x1e"
               "Exif\0\0" BLOCK),
         6},
        /* after the pixels have begun it is data */
        {exif_orientation_jpeg,
         BYTES("\xff\xd8\xff\xda\xff\xe1\0\x1e"
               "Exif\0\0" BLOCK),
         1},
        {exif_orientation_jpeg,
         BYTES("\xff\xd8\xff\xe1\xff\xff"
               "Exif\0\0" BLOCK),
         1},
        {exif_orientation_jpeg, BYTES("\xff\xd8\xff\xe1\0\0\xff\xe1\0\1\xff\xe1\0\2"), 1},
        {exif_orientation_jpeg, BYTES("\xff\xd8\xff\xff\xff\xff\xff\xff\xff"), 1},
        {exif_orientation_jpeg, BYTES("\xff"), 1},
        {exif_orientation_png,
         BYTES("12345678\0\0\0\2IDATab....\0\0\0\x16"
               "eXIf" BLOCK "...."),
         6},
        {exif_orientation_png,
         BYTES("12345678\xff\xff\xff\xff"
               "eXIf" BLOCK "...."),
         1},
        {exif_orientation_png,
         BYTES("12345678\xff\xff\xff\xff"
               "IDAT"),
         1},
        {exif_orientation_png,
         BYTES("12345678\0\0\0\x17"
               "eXIf" BLOCK),
         1},
        {exif_orientation_png, BYTES("1234567"), 1},
        {exif_orientation_webp, BYTES("RIFF----WEBPVP8 \3\0\0\0abc.EXIF\x16\0\0\0" BLOCK), 6},
        {exif_orientation_webp,
         BYTES("RIFF----WEBPEXIF\x1c\0\0\0"
               "Exif\0\0" BLOCK),
         6},
        {exif_orientation_webp, BYTES("RIFF----WEBPEXIF\xff\xff\xff\xff" BLOCK), 1},
        {exif_orientation_webp, BYTES("RIFF----WEBPVP8 \xff\xff\xff\xff"), 1},
        {exif_orientation_webp, BYTES("RIFF"), 1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        _cleanup_(freep) uint8_t *data = malloc(table[i].size);
        int found;

        memcpy(data, table[i].data, table[i].size);
        found = table[i].orientation(data, table[i].size);
        if (found != table[i].expected)
            fail_msg("row %zu: %d", i, found);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_directory_says_it),
        cmocka_unit_test(test_containers_are_walked_to_the_block),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
