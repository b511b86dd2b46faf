/* SPDX-License-Identifier: MIT */

/* WebP by libwebp: still pictures, and the first frame of an animation. */

#include <stdlib.h>
#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

#include "vision/decode/decode.h"

static int first_frame(const struct source *source, struct image *image, struct error *err)
{
    const WebPData data = {.bytes = source->data, .size = source->size};
    WebPAnimDecoderOptions options;
    WebPAnimDecoder *decoder = NULL;
    WebPAnimInfo info;
    uint8_t *rgba;
    int when, r;

    if (WebPAnimDecoderOptionsInit(&options))
        decoder = WebPAnimDecoderNew(&data, &options); /* RGBA, one thread */
    if (!decoder)
        return decode_damaged(err, "WebP", NULL);
    if (!WebPAnimDecoderGetInfo(decoder, &info) || info.canvas_width != image->width ||
        info.canvas_height != image->height || !WebPAnimDecoderGetNext(decoder, &rgba, &when)) {
        r = decode_damaged(err, "WebP", NULL);
    } else {
        decode_drop_alpha(image->rgb, rgba, (size_t)image->width * image->height);
        r = 0;
    }
    WebPAnimDecoderDelete(decoder);
    return r;
}

int webp_decode(const struct source *source, struct image *ret, struct error *err)
{
    WebPBitstreamFeatures features;
    struct image image;
    int r;

    if (WebPGetFeatures(source->data, source->size, &features) != VP8_STATUS_OK)
        return decode_damaged(err, "WebP", NULL);
    r = decode_size_check(source, (uint64_t)features.width, (uint64_t)features.height, err);
    if (r == 0)
        r = decode_alloc(&image, (uint32_t)features.width, (uint32_t)features.height, err);
    if (r < 0)
        return r;
    if (features.has_animation)
        r = first_frame(source, &image, err);
    else if (!WebPDecodeRGBInto(source->data, source->size, image.rgb,
                                image_bytes(image.width, image.height), features.width * 3))
        r = decode_damaged(err, "WebP", NULL);
    if (r < 0)
        image_done(&image);
    else
        *ret = image;
    return r;
}
