/* SPDX-License-Identifier: MIT */

/*
 * The decoders themselves, in this process, so that a sanitizer sees each step: every form of file
 * comes out right, is refused when it is cut anywhere, and is refused by its size before there is
 * memory for it. What lies around a decoder is in test_decoder.c and test_sandbox.c.
 */

#include "tests/vision/picture.h"

#include "base/cleanup.h"
#include "vision/decode/decode.h"

/* What a library loses over a damaged file ends with the decoder child. */
const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:libdav1d\n";
}

static int decode_bytes(const uint8_t *data, size_t size, struct image *ret, struct error *err)
{
    const struct source source = {
        .data = data, .size = size, .pixels_max = 1000000, .side_max = 32768};
    const struct format *format = format_find(data, size);

    *ret = (struct image){0};
    *err = (struct error)ERROR_INIT;
    if (!format)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT, "No known format.");
    return decode(format, &source, ret, err);
}

static void test_one_picture_comes_out_of_every_form_of_file(void **state)
{
    struct dirent **entries = picture_files();

    (void)state;
    for (size_t i = 2; i < PICTURE_FILES + 2; i++) {
        const char *name = entries[i]->d_name;
        struct image image;
        struct error err;
        size_t size;
        _cleanup_(freep) uint8_t *data = picture_bytes(name, &size);

        const char *unexpected =
            picture_unexpected(name, decode_bytes(data, size, &image, &err), &image, err.text);

        if (unexpected)
            fail_msg("%s: %s", name, unexpected);
    }
    for (size_t i = 0; i < PICTURE_FILES + 2; i++)
        free(entries[i]);
    free(entries);
}

/*
 * A cut file is refused, or nothing is missing: what is cut may be metadata. A progressive JPEG and
 * a compressed drawing may lose detail only; they must not do harm.
 */
static void test_a_file_that_is_cut_anywhere_is_refused_or_whole(void **state)
{
    static const char *const names[] = {
        "rgb.png",         "alpha.png",         "palette.png",       "orientation6.png",
        "rgb16.png",       "bilevel.png",       "orientation1.jpg",  "grey.jpg",
        "cmyk.jpg",        "rgb.gif",           "animated.gif",      "lossless.webp",
        "lossy.webp",      "animated.webp",     "orientation8.webp", "rgb_tiff_lzw.tif",
        "palette.tif",     "bilevel.tif",       "orientation6.tif",  "rgb_jpeg.tif",
        "runs.tga",        "bilevel.bmp",       "palette.bmp",       "grey.pgm",
        "rgb.heic",        "orientation6.avif", "rgb.svg",           "progressive.jpg",
        "compressed.svgz",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const bool may_lose = strstr(names[i], "progressive") || strstr(names[i], ".svgz");
        size_t size, n_refused = 0;
        _cleanup_(freep) uint8_t *data = picture_bytes(names[i], &size);

        for (size_t cut = 0; cut < size; cut++) {
            _cleanup_(freep) uint8_t *part = malloc(cut); /* the sanitizer watches its end */
            struct image image;
            struct error err;

            memcpy(part, data, cut);
            if (decode_bytes(part, cut, &image, &err) < 0) {
                n_refused++;
                assert_true(err.code != ERROR_NONE && err.text[0]);
            } else if (!may_lose && picture_wrong(names[i], &image)) {
                fail_msg("%s, %zu of %zu bytes: %s", names[i], cut, size,
                         picture_wrong(names[i], &image));
            }
            image_done(&image);
        }
        if (n_refused < size / 2)
            fail_msg("%s: only %zu of %zu parts were refused", names[i], n_refused, size);
    }
}

/* Every byte changed, one after the other: any result will do. */
static void test_a_changed_byte_does_no_harm(void **state)
{
    static const char *const names[] = {"palette.png", "animated.gif",  "orientation1.jpg",
                                        "cmyk.tif",    "lossless.webp", "runs.tga",
                                        "bilevel.bmp", "rgb.heic",      "rgb.avif"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        size_t size;
        _cleanup_(freep) uint8_t *data = picture_bytes(names[i], &size);

        for (size_t at = 0; at < size; at++) {
            const uint8_t was = data[at];

            for (unsigned change = 0; change < 2; change++) {
                struct image image;
                struct error err;

                data[at] = change ? 0xff : (uint8_t)(was ^ 1);
                decode_bytes(data, size, &image, &err);
                image_done(&image);
            }
            data[at] = was;
        }
    }
}

/* The size in the header is changed; nothing else of the file is needed for a refusal. */
static void test_a_picture_that_is_too_large_is_refused_by_its_header(void **state)
{
    static const struct {
        const char *file;
        const char *after;  /* the bytes that come before, anywhere in the file; or NULL: ... */
        size_t offset;      /* ... from the beginning; else the length of these bytes */
        const char *header; /* what stands there instead */
        size_t length;
        const char *expected;
    } table[] = {
        {"rgb.png", NULL, 16, "\0\0\x75\x30\0\0\x75\x30", 8,
         "30000 x 30000 = 900000000 pixels, 899000000 too many: the limit is 1000000."},
        {"rgb16.png", NULL, 16, "\0\0\xff\xff\0\0\xff\xff", 8,
         "65535 x 65535 pixels, 32767 too many on one side: the limit is 32768."},
        {"palette.png", NULL, 16, "\x7f\xff\xff\xff\x7f\xff\xff\xff", 8, "too many on one side"},
        {"bilevel.png", NULL, 16, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, "too many on one side"},
        {"rgb.png", NULL, 16, "\0\0\0\0\0\0\0\1", 8, "empty: 0 x 1"},
        {"rgb.gif", NULL, 6, "\xff\xff\xff\xff", 4, "65535 x 65535 pixels"},
        {"rgb.gif", NULL, 6, "\x30\x75\x30\x75", 4, "30000 x 30000 = 900000000 pixels"},
        {"rgb.bmp", NULL, 18, "\x30\x75\0\0\x30\x75\0\0", 8, "30000 x 30000 = 900000000 pixels"},
        {"rgb.bmp", NULL, 18, "\x30\x75\0\0\xd0\x8a\xff\xff", 8, "= 900000000 pixels"},
        {"rgb.tga", NULL, 12, "\xff\xff\xff\xff", 4, "65535 x 65535 pixels"},
        {"rgb.ppm", NULL, 3, "9999 ", 5, "9999 x 255 = 2549745 pixels"},
        {"lossless.webp", NULL, 21, "\xff\xff\xff\x0f", 4, "16384 x 16384 = 268435456 pixels"},
        {"grey.jpg", "\xff\xc0\0\x0b\x08", 5, "\x75\x30\x75\x30", 4, "30000 x 30000"},
        {"progressive.jpg", "\xff\xc2\0\x11\x08", 5, "\xff\xdc\xff\xdc", 4, "65500 x 65500 pixels"},
        {"rgb_tiff_lzw.tif", "\0\1\3\0\1\0\0\0", 8, "\x30\x75\0\0\1\1\3\0\1\0\0\0\x30\x75\0\0", 16,
         "30000 x 30000 = 900000000 pixels"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct image image;
        struct error err;
        size_t size;
        _cleanup_(freep) uint8_t *data = picture_bytes(table[i].file, &size);
        const char *expected =
            picture_readable(table[i].file) ? table[i].expected : "which this build cannot read";
        uint8_t *found =
            table[i].after ? memmem(data, size, table[i].after, table[i].offset) : data;

        assert_non_null(found);
        memcpy(found + table[i].offset, table[i].header, table[i].length);
        if (decode_bytes(data, size, &image, &err) == 0)
            fail_msg("%s, row %zu: %u x %u pixels", table[i].file, i, image.width, image.height);
        if (!strstr(err.text, expected))
            fail_msg("%s, row %zu: %s", table[i].file, i, err.text);
    }
}

static void test_a_bitmap_from_top_to_bottom_is_read_too(void **state)
{
    size_t size;
    _cleanup_(freep) uint8_t *data = picture_bytes("rgb.bmp", &size);
    struct image image;
    struct error err;

    (void)state;
    for (size_t y = 0; y < 16; y++) { /* rows of 64 * 3 bytes, the last one first */
        uint8_t *low = data + 54 + y * 192, *high = data + 54 + (31 - y) * 192, row[192];

        memcpy(row, low, 192);
        memcpy(low, high, 192);
        memcpy(high, row, 192);
    }
    memcpy(data + 22, "\xe0\xff\xff\xff", 4); /* height -32 */
    if (decode_bytes(data, size, &image, &err) < 0)
        fail_msg("%s", err.text);
    assert_null(picture_wrong("rgb.bmp", &image));
    image_done(&image);
}

/* Bytes after the end of the picture are nobody's business. */
static void test_what_follows_a_picture_does_not_matter(void **state)
{
    static const char *const names[] = {"rgb.png", "orientation6.jpg", "rgb.gif", "rgb.bmp",
                                        "rgb.ppm", "lossless.webp",    "cmyk.tif"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        size_t size;
        _cleanup_(freep) uint8_t *data = picture_bytes(names[i], &size);
        struct image image;
        struct error err;

        data = realloc(data, size + 1000);
        memset(data + size, 'x', 1000);
        const char *unexpected = picture_unexpected(
            names[i], decode_bytes(data, size + 1000, &image, &err), &image, err.text);

        if (unexpected)
            fail_msg("%s: %s", names[i], unexpected);
    }
}

/* The beginning of each kind, and of files that are no picture. */
static void test_a_refusal_names_the_kind_of_file(void **state)
{
    static const struct {
        const char *data;
        size_t size;
        const char *expected;
    } table[] = {
        {"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", 15, "PDF"},
        {"8BPS\0\1\0\0\0\0\0\0\0\3", 14, "PSD"},
        {"#?RADIANCE\n", 11, "HDR"},
        {"\xff\x0a\xfa\x1f\x41\x90", 6, "JPEG XL"},
        {"\0\0\0\x0cjP  \r\n\x87\n", 12, "JPEG 2000"},
        {"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0\x68\4\0\0\x16\0\0\0\0\0", 24, "ICO"},
        {"GIF89a", 6, "GIF"},
        {"\x89PNG\r\n\x1a\n", 8, "PNG"},
        {"\xff\xd8\xff\xe0", 4, "JPEG"},
        {"RIFF\4\0\0\0WEBP", 12, "WebP"},
        {"\0\0\0\x18"
         "ftypavif\0\0\0\0avifmif1",
         24, "AVIF"},
        {"\0\0\0\x18"
         "ftypmif1\0\0\0\0mif1heic",
         24, "HEIC"},
        {"II*\0\xff\xff\xff\xff", 8, "TIFF"},
        {"<svg", 4, "SVG"},
        {"P6 1 1 255\n", 11, "PNM"},
        {"BM\0\0\0\0\0\0\0\0", 10, "BMP"},
        {"Dear Sir,\n", 10, "No known format"},
        {"RIFF\4\0\0\0WAVE", 12, "No known format"},
        {"<html><svg", 5, "No known format"},
        {"\0\0\0\x18"
         "ftypisom\0\0\0\0isommp42",
         24, "No known format"},
        {"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, "No known format"},
        {"\0", 1, "No known format"},
        {"", 0, "No known format"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        _cleanup_(freep) uint8_t *data = malloc(table[i].size);
        struct image image;
        struct error err;

        memcpy(data, table[i].data, table[i].size);
        assert_int_equal(decode_bytes(data, table[i].size, &image, &err),
                         error_errno(ERROR_UNSUPPORTED_FORMAT));
        if (!strstr(err.text, table[i].expected))
            fail_msg("row %zu: %s", i, err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_picture_comes_out_of_every_form_of_file),
        cmocka_unit_test(test_a_file_that_is_cut_anywhere_is_refused_or_whole),
        cmocka_unit_test(test_a_changed_byte_does_no_harm),
        cmocka_unit_test(test_a_picture_that_is_too_large_is_refused_by_its_header),
        cmocka_unit_test(test_a_bitmap_from_top_to_bottom_is_read_too),
        cmocka_unit_test(test_what_follows_a_picture_does_not_matter),
        cmocka_unit_test(test_a_refusal_names_the_kind_of_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
