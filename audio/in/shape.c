/* SPDX-License-Identifier: MIT */
#include "audio/in/shape.h"

#include <inttypes.h>

#include "audio/in/mel.h"
#include "tensor/attend.h"
#include "tensor/mmproj.h"

static int wrong(const struct mmproj *file, const char *what, const char *name,
                 const char *expected, uint32_t found)
{
    return error_set(file->err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', %s '%s': expected %s, found %" PRIu32 ".", gguf_path(file->gguf),
                     what, name, expected, found);
}

static int read_keys(const struct mmproj *file, struct audio_shape *shape)
{
    int r = mmproj_u32(file, "clip.audio.num_mel_bins", 1, MEL_BINS_MAX, &shape->n_mels);

    if (r == 0)
        r = mmproj_u32(file, "clip.audio.block_count", 1, AUDIO_LAYERS_MAX, &shape->n_layer);
    if (r == 0)
        r = mmproj_u32(file, "clip.audio.embedding_length", 1, AUDIO_WIDTH_MAX / 2,
                       &shape->n_hidden);
    if (r == 0)
        r = mmproj_u32(file, "clip.audio.attention.head_count", 1, AUDIO_WIDTH_MAX,
                       &shape->n_head);
    if (r == 0)
        r = mmproj_positive(file, "clip.audio.attention.layer_norm_epsilon", &shape->norm_eps);
    if (r < 0)
        return r;
    if (shape->n_hidden % shape->n_head != 0 ||
        shape->n_hidden / shape->n_head > ATTEND_HEAD_DIM_MAX ||
        shape->n_hidden / shape->n_head % 8 != 0)
        return wrong(file, "key", "clip.audio.attention.head_count",
                     "heads of a multiple of 8 up to 256 values", shape->n_head);
    return 0;
}

static int read_widths(const struct mmproj *file, struct audio_shape *shape)
{
    uint32_t said;
    int r = mmproj_width(file, "a.conv1d.0.weight", 3, AUDIO_WIDTH_MAX, &shape->n_channels);

    if (r == 0)
        r = mmproj_width(file, "a.blk.0.ffn_up.weight", 1, AUDIO_WIDTH_MAX, &shape->n_ff);
    if (r == 0)
        r = mmproj_width(file, "a.blk.0.conv_dw.weight", 0, AUDIO_KERNEL_MAX, &shape->n_kernel);
    if (r == 0)
        r = mmproj_width(file, "mm.a.mlp.1.weight", 1, AUDIO_WIDTH_MAX, &shape->n_adapter);
    if (r == 0)
        r = mmproj_width(file, "mm.a.mlp.3.weight", 1, AUDIO_WIDTH_MAX, &shape->n_embd);
    if (r == 0)
        r = mmproj_u32(file, "clip.audio.projection_dim", 1, AUDIO_WIDTH_MAX, &said);
    if (r < 0)
        return r;
    if (shape->n_kernel % 2 == 0)
        return wrong(file, "tensor", "a.blk.0.conv_dw.weight", "an odd number of taps",
                     shape->n_kernel);
    if (audio_eighth(shape->n_mels) * shape->n_channels > AUDIO_WIDTH_MAX)
        return wrong(file, "tensor", "a.conv1d.0.weight",
                     "fewer channels for so many mel bins", shape->n_channels);
    if (said != shape->n_embd)
        return wrong(file, "key", "clip.audio.projection_dim",
                     "the rows of tensor 'mm.a.mlp.3.weight'", said);
    return 0;
}

int audio_shape_read(const struct gguf *gguf, struct audio_shape *ret, struct error *err)
{
    const struct mmproj file = {gguf, "audio", err};
    struct audio_shape shape = {0};
    int r = mmproj_check(&file, "lfm2a");

    if (r == 0)
        r = read_keys(&file, &shape);
    if (r == 0)
        r = read_widths(&file, &shape);
    if (r == 0)
        *ret = shape;
    return r;
}
