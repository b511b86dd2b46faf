/* SPDX-License-Identifier: MIT */

/* JPEG by libjpeg: what the reference uses, and three times as fast as stb_image. */

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <jerror.h>
#include <jpeglib.h>

#include "vision/decode/decode.h"

struct jpeg {
    struct jpeg_decompress_struct lib; /* first: the library's callbacks get its address */
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    jmp_buf failed;
    bool ended; /* the file, before the picture */
    struct image image;
    JSAMPROW inks; /* a row of CMYK, or NULL */
    struct error *err;
};

static void fail(j_common_ptr lib)
{
    struct jpeg *jpeg = (struct jpeg *)lib;
    char text[JMSG_LENGTH_MAX];

    lib->err->format_message(lib, text);
    decode_damaged(jpeg->err, "JPEG", text);
    longjmp(jpeg->failed, 1);
}

/* The library goes on after damage; a picture that ends too early would be half grey. */
static void warn(j_common_ptr lib, int level)
{
    struct jpeg *jpeg = (struct jpeg *)lib;

    if (level < 0 && lib->err->msg_code == JWRN_HIT_MARKER && jpeg->ended)
        fail(lib);
}

static void nothing(j_decompress_ptr lib)
{
    (void)lib;
}

/* The whole file is there: asked for more, it has ended. The last mark may be missing, no more. */
static boolean fill(j_decompress_ptr lib)
{
    static const JOCTET end[] = {0xff, JPEG_EOI};

    ((struct jpeg *)lib)->ended = true;
    lib->src->next_input_byte = end;
    lib->src->bytes_in_buffer = sizeof(end);
    return TRUE;
}

static void skip(j_decompress_ptr lib, long n)
{
    if (n <= 0)
        return;
    if ((size_t)n > lib->src->bytes_in_buffer) {
        fill(lib);
    } else {
        lib->src->next_input_byte += n;
        lib->src->bytes_in_buffer -= (size_t)n;
    }
}

/* The convention of Adobe, which is everybody's: each ink is stored as what it lets through. */
static void inks_to_rgb(uint8_t *rgb, const uint8_t *cmyk, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (int c = 0; c < 3; c++) {
            const unsigned t = cmyk[4 * i + c] * cmyk[4 * i + 3] + 128;

            rgb[3 * i + c] = (uint8_t)((t + (t >> 8)) >> 8); /* rounded division by 255 */
        }
    }
}

static int read_pixels(struct jpeg *jpeg, const struct source *source)
{
    struct jpeg_decompress_struct *lib = &jpeg->lib;
    struct image *image = &jpeg->image;
    int r;

    jpeg_read_header(lib, TRUE);
    r = decode_size_check(source, lib->image_width, lib->image_height, jpeg->err);
    if (r == 0)
        r = decode_alloc(image, lib->image_width, lib->image_height, jpeg->err);
    if (r < 0)
        return r;
    if (lib->num_components == 4) {
        lib->out_color_space = JCS_CMYK;
        jpeg->inks = malloc((size_t)image->width * 4);
        if (!jpeg->inks)
            return error_set(jpeg->err, ERROR_NO_MEMORY, "There is no memory for a picture.");
    } else {
        lib->out_color_space = JCS_RGB;
    }
    jpeg_start_decompress(lib);
    while (lib->output_scanline < image->height) {
        uint8_t *row = image->rgb + image_bytes(image->width, lib->output_scanline);

        jpeg_read_scanlines(lib, jpeg->inks ? &jpeg->inks : &row, 1);
        if (jpeg->inks)
            inks_to_rgb(row, jpeg->inks, image->width);
    }
    return 0;
}

int jpeg_decode(const struct source *source, struct image *ret, struct error *err)
{
    struct jpeg *jpeg = calloc(1, sizeof(*jpeg)); /* not on the stack, where longjmp() loses it */
    int r;

    if (!jpeg)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for a picture.");
    jpeg->err = err;
    jpeg->source = (struct jpeg_source_mgr){.next_input_byte = source->data,
                                            .bytes_in_buffer = source->size,
                                            .init_source = nothing,
                                            .fill_input_buffer = fill,
                                            .skip_input_data = skip,
                                            .resync_to_restart = jpeg_resync_to_restart,
                                            .term_source = nothing};
    jpeg->lib.err = jpeg_std_error(&jpeg->errors);
    jpeg->errors.error_exit = fail;
    jpeg->errors.emit_message = warn;
    if (setjmp(jpeg->failed) == 0) {
        jpeg_create_decompress(&jpeg->lib);
        jpeg->lib.src = &jpeg->source;
        r = read_pixels(jpeg, source);
    } else {
        r = error_errno(ERROR_UNSUPPORTED_FORMAT);
    }
    jpeg_destroy_decompress(&jpeg->lib);
    free(jpeg->inks);
    if (r < 0)
        image_done(&jpeg->image);
    else
        *ret = jpeg->image;
    free(jpeg);
    return r;
}
