/* SPDX-License-Identifier: MIT */

/*
 * What kind of file this is. A row without a decoder is there so that the refusal can name what a
 * person has.
 */

#include <string.h>

#include "base/cleanup.h"
#include "vision/decode/decode.h"
#include "vision/decode/exif.h"

static bool at(const uint8_t *data, size_t size, size_t offset, const char *magic, size_t length)
{
    return size >= offset && size - offset >= length && memcmp(data + offset, magic, length) == 0;
}

#define AT(offset, magic) at(data, size, offset, magic, sizeof(magic) - 1)

static bool is_png(const uint8_t *data, size_t size)
{
    return AT(0, "\x89PNG\r\n\x1a\n");
}

static bool is_jpeg(const uint8_t *data, size_t size)
{
    return AT(0, "\xff\xd8\xff");
}

static bool is_gif(const uint8_t *data, size_t size)
{
    return AT(0, "GIF87a") || AT(0, "GIF89a");
}

static bool is_webp(const uint8_t *data, size_t size)
{
    return AT(0, "RIFF") && AT(8, "WEBP");
}

static bool is_bmp(const uint8_t *data, size_t size)
{
    return AT(0, "BM") && AT(6, "\0\0\0\0");
}

static bool is_pnm(const uint8_t *data, size_t size)
{
    return (AT(0, "P5") || AT(0, "P6")) && size > 2 && strchr(" \t\r\n#", data[2]) && data[2];
}

static bool is_tiff(const uint8_t *data, size_t size)
{
    return AT(0, "II*\0") || AT(0, "MM\0*") || AT(0, "II+\0") || AT(0, "MM\0+");
}

/* An ISO media file, by the brands in its first box: the major one and those it is compatible
 * with. */
static bool has_brand(const uint8_t *data, size_t size, const char *const brands[])
{
    size_t end;

    if (!AT(4, "ftyp") || size < 16)
        return false;
    end = MIN((size_t)data[2] << 8 | data[3], size);
    for (size_t offset = 8; offset + 4 <= end && data[0] == 0 && data[1] == 0; offset += 4)
        for (size_t i = 0; brands[i]; i++)
            if (offset != 12 && memcmp(data + offset, brands[i], 4) == 0)
                return true;
    return false;
}

static bool is_avif(const uint8_t *data, size_t size)
{
    return has_brand(data, size, (const char *const[]){"avif", "avis", NULL});
}

static bool is_heic(const uint8_t *data, size_t size)
{
    return has_brand(data, size,
                     (const char *const[]){"heic", "heix", "heim", "heis", "hevc", "hevx", "mif1",
                                           "msf1", NULL});
}

/* An XML file with an element svg near its beginning, or one that is compressed. */
static bool is_svg(const uint8_t *data, size_t size)
{
    size_t begin = AT(0, "\xef\xbb\xbf") ? 3 : 0;

    if (AT(0, "\x1f\x8b\x08"))
        return true;
    while (begin < size && data[begin] && strchr(" \t\r\n", data[begin]))
        begin++;
    if (begin == size || data[begin] != '<')
        return false;
    for (size_t i = begin; i < MIN(size, 4096); i++)
        if (AT(i, "<svg") || AT(i, ":svg"))
            return true;
    return false;
}

/* No mark at the beginning: a mark at the end, or a header that makes sense from end to end. */
static bool is_tga(const uint8_t *data, size_t size)
{
    if (size < 18)
        return false;
    if (size >= 44 && at(data, size, size - 18, "TRUEVISION-XFILE.", 18))
        return true;
    return data[1] <= 1 && memchr("\x01\x02\x03\x09\x0a\x0b", data[2], 6) &&
           (data[1] == 1) == ((data[2] & 7) == 1) && data[12] + data[13] > 0 &&
           data[14] + data[15] > 0 && memchr("\x08\x0f\x10\x18\x20", data[16], 5) &&
           (data[17] & 0xc0) == 0;
}

static bool is_psd(const uint8_t *data, size_t size)
{
    return AT(0, "8BPS");
}

static bool is_hdr(const uint8_t *data, size_t size)
{
    return AT(0, "#?RADIANCE") || AT(0, "#?RGBE");
}

static bool is_jxl(const uint8_t *data, size_t size)
{
    return AT(0, "\xff\x0a") || AT(0, "\0\0\0\x0cJXL \r\n\x87\n");
}

static bool is_jp2(const uint8_t *data, size_t size)
{
    return AT(0, "\0\0\0\x0cjP  \r\n\x87\n") || AT(0, "\xff\x4f\xff\x51");
}

static bool is_ico(const uint8_t *data, size_t size)
{
    return AT(0, "\0\0\1\0") && size > 22 && data[4] > 0 && data[5] == 0;
}

static bool is_pdf(const uint8_t *data, size_t size)
{
    return AT(0, "%PDF-");
}

/* HAVE_X is 1 or 0; a decoder that is not there is not referred to. */
static const struct format formats[] = {
    {"PNG", is_png, stb_decode, exif_orientation_png, false},
    {"JPEG", is_jpeg, HAVE_JPEG ? jpeg_decode : stb_decode, exif_orientation_jpeg, false},
    {"GIF", is_gif, stb_decode, NULL, false},
    {"WebP", is_webp, HAVE_WEBP ? webp_decode : NULL, exif_orientation_webp, false},
    {"AVIF", is_avif, HAVE_HEIF ? heif_decode : NULL, NULL, false},
    {"HEIC", is_heic, HAVE_HEIF ? heif_decode : NULL, NULL, false},
    {"TIFF", is_tiff, HAVE_TIFF ? tiff_decode : NULL, exif_orientation_tiff, false},
    {"BMP", is_bmp, stb_decode, NULL, false},
    {"PNM", is_pnm, stb_decode, NULL, false},
    {"PSD (Photoshop)", is_psd, NULL, NULL, false},
    {"HDR (Radiance)", is_hdr, NULL, NULL, false},
    {"JPEG XL", is_jxl, NULL, NULL, false},
    {"JPEG 2000", is_jp2, NULL, NULL, false},
    {"PDF", is_pdf, NULL, NULL, false},
    {"SVG", is_svg, HAVE_SVG ? svg_decode : NULL, NULL, true},
    {"ICO", is_ico, NULL, NULL, false},
    {"TGA", is_tga, stb_decode, NULL, false},
};

const struct format *format_find(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        if (formats[i].is(data, size))
            return &formats[i];
    return NULL;
}
