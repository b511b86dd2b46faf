/* SPDX-License-Identifier: MIT */
#include "vision/shape.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/cleanup.h"
#include "vision/tiles.h"

#define GRID_MAX 1024 /* side of the table of positions */

/* For "%.*s": a name from the file, cut short. */
#define SHOWN(string) (int)MIN((string).length, (size_t)40), (string).text

static bool is(struct gguf_string string, const char *text)
{
    return string.length == strlen(text) && memcmp(string.text, text, string.length) == 0;
}

static int absent(const struct gguf *gguf, const char *what, const char *name, struct error *err)
{
    return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', %s '%s': expected it in a vision file, found none.", gguf_path(gguf),
                     what, name);
}

/* --- what kind of file ------------------------------------------------------------------------ */

static int check_architecture(const struct gguf *gguf, struct error *err)
{
    struct gguf_string name;
    int r = gguf_str(gguf, "general.architecture", &name, err);

    if (r == -ENOENT)
        return absent(gguf, "key", "general.architecture", err);
    if (r < 0 || is(name, "clip"))
        return r;
    return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', key 'general.architecture': expected 'clip', which a vision file "
                     "says, found '%.*s'.",
                     gguf_path(gguf), SHOWN(name));
}

/* Files with several encoders name the projector of each. */
static int check_projector(const struct gguf *gguf, struct error *err)
{
    static const char *const keys[] = {"clip.vision.projector_type", "clip.projector_type"};
    struct gguf_string name;
    int r = -ENOENT;

    for (size_t i = 0; r == -ENOENT && i < ARRAY_LEN(keys); i++)
        r = gguf_str(gguf, keys[i], &name, err);
    if (r == -ENOENT)
        return absent(gguf, "key", "clip.projector_type", err);
    if (r < 0 || is(name, "lfm2"))
        return r;
    return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', key 'clip.projector_type': expected 'lfm2', the projector of LFM2 "
                     "vision models, found '%.*s'%s.",
                     gguf_path(gguf), SHOWN(name),
                     is(name, "lfm2a") ? ", which is an audio encoder" : "");
}

/* Where the file says it at all, it must be true. */
static int check_flag(const struct gguf *gguf, const char *key, struct error *err)
{
    bool value = true;
    int r = gguf_bool(gguf, key, &value, err);

    if (r < 0 && r != -ENOENT)
        return r;
    if (value)
        return 0;
    return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', key '%s': expected true, found false.", gguf_path(gguf), key);
}

/* The number formats that encoders come in. */
static int check_types(const struct gguf *gguf, struct error *err)
{
    for (size_t i = 0; i < gguf_n_tensors(gguf); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(gguf, i);

        if (tensor->type != DTYPE_F32 && tensor->type != DTYPE_F16 && tensor->type != DTYPE_BF16 &&
            tensor->type != DTYPE_Q8_0 && tensor->type != DTYPE_Q4_0)
            return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                             "In '%s', tensor '%.*s': expected F32, F16, BF16, Q8_0 or Q4_0 in a "
                             "vision file, found %s.",
                             gguf_path(gguf), SHOWN(tensor->name), dtype_name(tensor->type));
    }
    return 0;
}

/* --- numbers ---------------------------------------------------------------------------------- */

static int need_u32(const struct gguf *gguf, const char *key, uint32_t min, uint32_t max,
                    uint32_t *ret, struct error *err)
{
    int r = gguf_u32(gguf, key, ret, err);

    if (r == -ENOENT)
        return absent(gguf, "key", key, err);
    if (r < 0 || (*ret >= min && *ret <= max))
        return r;
    return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', key '%s': expected a number from %" PRIu32 " to %" PRIu32
                     ", found %" PRIu32 ".",
                     gguf_path(gguf), key, min, max, *ret);
}

/* A number that the program is written for; optional where other checks imply it. */
static int check_u32(const struct gguf *gguf, const char *key, bool optional, uint32_t expected,
                     struct error *err)
{
    uint32_t value = expected;
    int r = gguf_u32(gguf, key, &value, err);

    if (r == -ENOENT)
        return optional ? 0 : absent(gguf, "key", key, err);
    if (r < 0 || value == expected)
        return r;
    return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', key '%s': expected %" PRIu32 ", found %" PRIu32 ".", gguf_path(gguf),
                     key, expected, value);
}

static int read_eps(const struct gguf *gguf, float *ret, struct error *err)
{
    static const char key[] = "clip.vision.attention.layer_norm_epsilon";
    int r = gguf_f32(gguf, key, ret, err);

    if (r == -ENOENT)
        return absent(gguf, "key", key, err);
    if (r < 0 || (isfinite(*ret) && *ret > 0))
        return r;
    return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', key '%s': expected a positive number, found %g.", gguf_path(gguf),
                     key, (double)*ret);
}

/* Mean or deviation of the three channels; 0.5 where the file does not say. */
static int read_channels(const struct gguf *gguf, const char *key, float low, float ret[3],
                         struct error *err)
{
    struct gguf_array array;
    int r = gguf_array(gguf, key, &array, err);

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
                err, ERROR_UNSUPPORTED_FORMAT,
                "In '%s', key '%s': expected three numbers from %g to 1, found others.",
                gguf_path(gguf), key, (double)low);
    return 0;
}

/* A width that only a tensor tells: its rows. */
static int read_rows(const struct gguf *gguf, const char *name, uint32_t max, uint32_t *ret,
                     struct error *err)
{
    const struct gguf_tensor *tensor = gguf_tensor(gguf, name);

    if (!tensor)
        return absent(gguf, "tensor", name, err);
    if (tensor->ne[1] < 1 || tensor->ne[1] > max)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "In '%s', tensor '%s': expected 1 to %" PRIu32 " rows, found %" PRIu64 ".",
                         gguf_path(gguf), name, max, tensor->ne[1]);
    *ret = (uint32_t)tensor->ne[1];
    return 0;
}

static int read_grid(const struct gguf *gguf, uint32_t *ret, struct error *err)
{
    static const char name[] = "v.position_embd.weight";
    uint32_t rows = 0, side;
    int r = read_rows(gguf, name, GRID_MAX * GRID_MAX, &rows, err);

    if (r < 0)
        return r;
    side = (uint32_t)lrint(sqrt(rows));
    if (side * side != rows)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "In '%s', tensor '%s': expected a square number of rows, found %" PRIu32
                         ".",
                         gguf_path(gguf), name, rows);
    *ret = side;
    return 0;
}

/* --- shape ------------------------------------------------------------------------------------ */

static int read_encoder(const struct gguf *gguf, struct vision_shape *shape, struct error *err)
{
    int r = need_u32(gguf, "clip.vision.block_count", 1, VISION_LAYERS_MAX, &shape->n_layer, err);

    if (r == 0)
        r = need_u32(gguf, "clip.vision.embedding_length", 1, VISION_WIDTH_MAX / 4,
                     &shape->n_hidden, err);
    if (r == 0)
        r = need_u32(gguf, "clip.vision.feed_forward_length", 1, VISION_WIDTH_MAX, &shape->n_ff,
                     err);
    if (r == 0)
        r = need_u32(gguf, "clip.vision.attention.head_count", 1, VISION_WIDTH_MAX, &shape->n_head,
                     err);
    if (r == 0)
        r = read_eps(gguf, &shape->norm_eps, err);
    if (r == 0)
        r = read_grid(gguf, &shape->n_grid, err);
    if (r < 0)
        return r;
    if (shape->n_hidden % shape->n_head != 0 ||
        shape->n_hidden / shape->n_head > VISION_HEAD_DIM_MAX ||
        shape->n_hidden / shape->n_head % VISION_HEAD_DIM_STEP != 0)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "In '%s', key 'clip.vision.attention.head_count': expected heads of a "
                         "multiple of %d up to %d values, found %" PRIu32 " values in %" PRIu32
                         " heads.",
                         gguf_path(gguf), VISION_HEAD_DIM_STEP, VISION_HEAD_DIM_MAX,
                         shape->n_hidden, shape->n_head);
    return 0;
}

static int read_projector(const struct gguf *gguf, struct vision_shape *shape, struct error *err)
{
    uint32_t said;
    int r = read_rows(gguf, "mm.1.weight", VISION_WIDTH_MAX, &shape->n_projector, err);

    if (r == 0)
        r = read_rows(gguf, "mm.2.weight", VISION_WIDTH_MAX, &shape->n_embd, err);
    if (r == 0)
        r = need_u32(gguf, "clip.vision.projection_dim", 1, VISION_WIDTH_MAX, &said, err);
    if (r < 0 || said == shape->n_embd)
        return r;
    return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', key 'clip.vision.projection_dim': expected %" PRIu32
                     ", the rows of tensor 'mm.2.weight', found %" PRIu32 ".",
                     gguf_path(gguf), shape->n_embd, said);
}

int vision_shape_read(const struct gguf *gguf, struct vision_shape *ret, struct error *err)
{
    struct vision_shape shape = {0};
    int r = check_architecture(gguf, err);

    if (r == 0)
        r = check_projector(gguf, err);
    if (r == 0)
        r = check_flag(gguf, "clip.has_vision_encoder", err);
    if (r == 0)
        r = check_flag(gguf, "clip.use_gelu", err);
    if (r == 0)
        r = check_u32(gguf, "clip.vision.patch_size", false, TILES_PATCH, err);
    if (r == 0)
        r = check_u32(gguf, "clip.vision.projector.scale_factor", true, TILES_TOKEN / TILES_PATCH,
                      err);
    if (r == 0)
        r = read_channels(gguf, "clip.vision.image_mean", 0, shape.pixel_mean, err);
    if (r == 0)
        r = read_channels(gguf, "clip.vision.image_std", 1e-3f, shape.pixel_std, err);
    if (r == 0)
        r = check_types(gguf, err);
    if (r == 0)
        r = read_encoder(gguf, &shape, err);
    if (r == 0)
        r = read_projector(gguf, &shape, err);
    if (r == 0)
        *ret = shape;
    return r;
}
