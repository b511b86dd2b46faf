/* SPDX-License-Identifier: MIT */

/* TIFF by libtiff, from memory: the first page, as stored. */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tiffio.h>

#include "base/cleanup.h"
#include "vision/decode/decode.h"

struct file {
    const struct source *source;
    uint64_t offset;
};

static tmsize_t file_read(thandle_t handle, void *to, tmsize_t n)
{
    struct file *file = handle;
    const uint64_t left = file->source->size - MIN(file->offset, file->source->size);

    n = (tmsize_t)MIN((uint64_t)n, left);
    memcpy(to, file->source->data + file->offset, (size_t)n);
    file->offset += (uint64_t)n;
    return n;
}

static tmsize_t file_write(thandle_t handle, void *from, tmsize_t n)
{
    (void)handle;
    (void)from;
    (void)n;
    return -1;
}

static toff_t file_seek(thandle_t handle, toff_t offset, int whence)
{
    struct file *file = handle;

    file->offset = offset + (whence == SEEK_CUR   ? file->offset
                             : whence == SEEK_END ? file->source->size
                                                  : 0);
    return file->offset;
}

static int file_close(thandle_t handle)
{
    (void)handle;
    return 0;
}

static toff_t file_size(thandle_t handle)
{
    return ((struct file *)handle)->source->size;
}

/*
 * The library goes on after many an error, with a guess. The first one counts; its place is global
 * because the library's is.
 */
static char first_error[256];

static void note_error(const char *module, const char *format, va_list args)
{
    (void)module;
    if (!first_error[0])
        vsnprintf(first_error, sizeof(first_error), format, args);
}

/* Most warnings are about curious tags. Some are about one whose value lies outside the file. */
static void note_warning(const char *module, const char *format, va_list args)
{
    if (strstr(format, "IO error") || strstr(format, "Not enough data"))
        note_error(module, format, args);
}

/* The library hands out its pixels as ABGR words. */
static int read_pixels(TIFF *tiff, struct image *image, struct error *err)
{
    const size_t n = (size_t)image->width * image->height;
    char why[1024] = "";
    TIFFRGBAImage reader;
    uint32_t *words;
    int r = 0;

    if (!TIFFRGBAImageBegin(&reader, tiff, 1, why))
        return error_set(err, ERROR_UNSUPPORTED_FORMAT, "The TIFF picture cannot be read here: %s.",
                         why);
    words = malloc(n * sizeof(*words));
    reader.req_orientation = reader.orientation; /* no turning: not all of them are done */
    if (!words)
        r = error_set(err, ERROR_NO_MEMORY, "There is no memory for a picture of %u x %u.",
                      image->width, image->height);
    else if (!TIFFRGBAImageGet(&reader, words, image->width, image->height))
        r = decode_damaged(err, "TIFF", first_error);
    for (size_t i = 0; r == 0 && i < n; i++) {
        image->rgb[3 * i] = (uint8_t)TIFFGetR(words[i]);
        image->rgb[3 * i + 1] = (uint8_t)TIFFGetG(words[i]);
        image->rgb[3 * i + 2] = (uint8_t)TIFFGetB(words[i]);
    }
    free(words);
    TIFFRGBAImageEnd(&reader);
    return r;
}

int tiff_decode(const struct source *source, struct image *ret, struct error *err)
{
    struct file file = {.source = source};
    uint32_t width = 0, height = 0;
    uint16_t n_extra = 0, *extra;
    struct image image = {0};
    TIFF *tiff;
    int r;

    first_error[0] = '\0';
    TIFFSetErrorHandler(note_error);
    TIFFSetWarningHandler(note_warning);
    tiff = TIFFClientOpen("picture", "rm", &file, file_read, file_write, file_seek, file_close,
                          file_size, NULL, NULL);
    if (!tiff)
        return decode_damaged(err, "TIFF", first_error);
    TIFFGetField(tiff, TIFFTAG_IMAGEWIDTH, &width);
    TIFFGetField(tiff, TIFFTAG_IMAGELENGTH, &height);
    r = decode_size_check(source, width, height, err);
    /* Alpha of either kind is dropped; the library would multiply it in. */
    if (TIFFGetField(tiff, TIFFTAG_EXTRASAMPLES, &n_extra, &extra) && n_extra == 1)
        TIFFSetField(tiff, TIFFTAG_EXTRASAMPLES, 1, &(uint16_t){EXTRASAMPLE_ASSOCALPHA});
    if (r == 0)
        r = decode_alloc(&image, width, height, err);
    if (r == 0)
        r = read_pixels(tiff, &image, err);
    if (r == 0 && first_error[0])
        r = decode_damaged(err, "TIFF", first_error);
    TIFFClose(tiff);
    if (r < 0)
        image_done(&image);
    else
        *ret = image;
    return r;
}
