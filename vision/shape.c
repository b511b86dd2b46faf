/* SPDX-License-Identifier: MIT */
#include "vision/shape.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "tensor/mmproj.h"
#include "vision/tiles.h"

#define GRID_MAX 1024 /* side of the table of positions */

/* A number that the program is written for; optional where other checks imply it. */
static int check_u32(const struct mmproj *file, const char *key, bool optional, uint32_t expected)
{
    uint32_t value = expected;
    int r = gguf_u32(file->gguf, key, &value, file->err);

    if (r == -ENOENT)
        return optional ? 0 : mmproj_absent(file, "key", key);
    if (r < 0 || value == expected)
        return r;
    return error_set(file->err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', key '%s': expected %" PRIu32 ", found %" PRIu32 ".",
                     gguf_path(file->gguf), key, expected, value);
}

/* Mean or deviation of the three channels; 0.5 where the file does not say. */
static int read_channels(const struct mmproj *file, const char *key, float low, float ret[3])
{
    struct gguf_array array;
    int r = gguf_array(file->gguf, key, &array, file->err);

    ret[0] = ret[1] = ret[2] = 0.5f;
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return r;
    if (array.type == GGUF_F32 && array.n == 3)
        memcpy(ret, array.data, 3 * sizeof(*ret));
    for (size_t i = 0; i < 3; i++)
        if (array.type != GGUF_F32 || array.n != 3 || !(ret[i] >= low && ret[i] <= 1))
            return error_set(
                file->err, ERROR_UNSUPPORTED_FORMAT,
                "In '%s', key '%s': expected three numbers from %g to 1, found others.",
                gguf_path(file->gguf), key, (double)low);
    return 0;
}

static int read_grid(const struct mmproj *file, uint32_t *ret)
{
    static const char name[] = "v.position_embd.weight";
    uint32_t rows = 0, side;
    int r = mmproj_width(file, name, 1, GRID_MAX * GRID_MAX, &rows);

    if (r < 0)
        return r;
    side = (uint32_t)lrint(sqrt(rows));
    if (side * side != rows)
        return error_set(file->err, ERROR_UNSUPPORTED_FORMAT,
                         "In '%s', tensor '%s': expected a square number of rows, found %" PRIu32
                         ".",
                         gguf_path(file->gguf), name, rows);
    *ret = side;
    return 0;
}

/* --- shape ------------------------------------------------------------------------------------ */

static int read_encoder(const struct mmproj *file, struct vision_shape *shape)
{
    int r = mmproj_u32(file, "clip.vision.block_count", 1, VISION_LAYERS_MAX, &shape->n_layer);

    if (r == 0)
        r = mmproj_u32(file, "clip.vision.embedding_length", 1, VISION_WIDTH_MAX / 4,
                       &shape->n_hidden);
    if (r == 0)
        r = mmproj_u32(file, "clip.vision.feed_forward_length", 1, VISION_WIDTH_MAX, &shape->n_ff);
    if (r == 0)
        r = mmproj_u32(file, "clip.vision.attention.head_count", 1, VISION_WIDTH_MAX,
                       &shape->n_head);
    if (r == 0)
        r = mmproj_positive(file, "clip.vision.attention.layer_norm_epsilon", &shape->norm_eps);
    if (r == 0)
        r = read_grid(file, &shape->n_grid);
    if (r < 0)
        return r;
    if (shape->n_hidden % shape->n_head != 0 ||
        shape->n_hidden / shape->n_head > VISION_HEAD_DIM_MAX ||
        shape->n_hidden / shape->n_head % VISION_HEAD_DIM_STEP != 0)
        return error_set(file->err, ERROR_UNSUPPORTED_FORMAT,
                         "In '%s', key 'clip.vision.attention.head_count': expected heads of a "
                         "multiple of %d up to %d values, found %" PRIu32 " values in %" PRIu32
                         " heads.",
                         gguf_path(file->gguf), VISION_HEAD_DIM_STEP, VISION_HEAD_DIM_MAX,
                         shape->n_hidden, shape->n_head);
    return 0;
}

static int read_projector(const struct mmproj *file, struct vision_shape *shape)
{
    uint32_t said;
    int r = mmproj_width(file, "mm.1.weight", 1, VISION_WIDTH_MAX, &shape->n_projector);

    if (r == 0)
        r = mmproj_width(file, "mm.2.weight", 1, VISION_WIDTH_MAX, &shape->n_embd);
    if (r == 0)
        r = mmproj_u32(file, "clip.vision.projection_dim", 1, VISION_WIDTH_MAX, &said);
    if (r < 0 || said == shape->n_embd)
        return r;
    return error_set(file->err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', key 'clip.vision.projection_dim': expected %" PRIu32
                     ", the rows of tensor 'mm.2.weight', found %" PRIu32 ".",
                     gguf_path(file->gguf), shape->n_embd, said);
}

int vision_shape_read(const struct gguf *gguf, struct vision_shape *ret, struct error *err)
{
    const struct mmproj file = {gguf, "vision", err};
    struct vision_shape shape = {0};
    int r = mmproj_check(&file, "lfm2");

    if (r == 0)
        r = mmproj_flag(&file, "clip.use_gelu");
    if (r == 0)
        r = check_u32(&file, "clip.vision.patch_size", false, TILES_PATCH);
    if (r == 0)
        r = check_u32(&file, "clip.vision.projector.scale_factor", true,
                      TILES_TOKEN / TILES_PATCH);
    if (r == 0)
        r = read_channels(&file, "clip.vision.image_mean", 0, shape.pixel_mean);
    if (r == 0)
        r = read_channels(&file, "clip.vision.image_std", 1e-3f, shape.pixel_std);
    if (r == 0)
        r = read_encoder(&file, &shape);
    if (r == 0)
        r = read_projector(&file, &shape);
    if (r == 0)
        *ret = shape;
    return r;
}
