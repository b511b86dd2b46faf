/* SPDX-License-Identifier: MIT */
#include "tensor/mmproj.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

/* For "%.*s": a name from the file, cut short. */
#define SHOWN(string) (int)MIN((string).length, (size_t)40), (string).text

static bool is(struct gguf_string string, const char *text)
{
    return string.length == strlen(text) && memcmp(string.text, text, string.length) == 0;
}

int mmproj_absent(const struct mmproj *file, const char *what, const char *name)
{
    return error_set(file->err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', %s '%s': expected it in %s %s file, found none.",
                     gguf_path(file->gguf), what, name, file->kind[0] == 'a' ? "an" : "a",
                     file->kind);
}

static int check_architecture(const struct mmproj *file)
{
    struct gguf_string name;
    int r = gguf_str(file->gguf, "general.architecture", &name, file->err);

    if (r == -ENOENT)
        return mmproj_absent(file, "key", "general.architecture");
    if (r < 0 || is(name, "clip"))
        return r;
    return error_set(file->err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', key 'general.architecture': expected 'clip', which files of "
                     "encoders say, found '%.*s'.",
                     gguf_path(file->gguf), SHOWN(name));
}

/* Files with several encoders name the projector of each. */
static int check_projector(const struct mmproj *file, const char *projector)
{
    struct gguf_string name;
    char key[64];
    int r;

    snprintf(key, sizeof(key), "clip.%s.projector_type", file->kind);
    r = gguf_str(file->gguf, key, &name, file->err);
    if (r == -ENOENT)
        r = gguf_str(file->gguf, "clip.projector_type", &name, file->err);
    if (r == -ENOENT)
        return mmproj_absent(file, "key", "clip.projector_type");
    if (r < 0 || is(name, projector))
        return r;
    return error_set(file->err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', key 'clip.projector_type': expected '%s', the projector of LFM2 "
                     "%s models, found '%.*s'%s.",
                     gguf_path(file->gguf), projector, file->kind, SHOWN(name),
                     is(name, "lfm2a")  ? ", which is an audio encoder"
                     : is(name, "lfm2") ? ", which is a vision encoder"
                                        : "");
}

static int check_types(const struct mmproj *file)
{
    for (size_t i = 0; i < gguf_n_tensors(file->gguf); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(file->gguf, i);

        if (tensor->type != DTYPE_F32 && tensor->type != DTYPE_F16 && tensor->type != DTYPE_BF16 &&
            tensor->type != DTYPE_Q8_0 && tensor->type != DTYPE_Q4_0)
            return error_set(file->err, ERROR_UNSUPPORTED_FORMAT,
                             "In '%s', tensor '%.*s': expected F32, F16, BF16, Q8_0 or Q4_0 in the "
                             "file of an encoder, found %s.",
                             gguf_path(file->gguf), SHOWN(tensor->name), dtype_name(tensor->type));
    }
    return 0;
}

int mmproj_check(const struct mmproj *file, const char *projector)
{
    char key[64];
    int r = check_architecture(file);

    if (r == 0)
        r = check_projector(file, projector);
    snprintf(key, sizeof(key), "clip.has_%s_encoder", file->kind);
    if (r == 0)
        r = mmproj_flag(file, key);
    return r == 0 ? check_types(file) : r;
}

int mmproj_flag(const struct mmproj *file, const char *key)
{
    bool value = true;
    int r = gguf_bool(file->gguf, key, &value, file->err);

    if (r < 0 && r != -ENOENT)
        return r;
    if (value)
        return 0;
    return error_set(file->err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', key '%s': expected true, found false.", gguf_path(file->gguf), key);
}

int mmproj_u32(const struct mmproj *file, const char *key, uint32_t min, uint32_t max,
               uint32_t *ret)
{
    int r = gguf_u32(file->gguf, key, ret, file->err);

    if (r == -ENOENT)
        return mmproj_absent(file, "key", key);
    if (r < 0 || (*ret >= min && *ret <= max))
        return r;
    return error_set(file->err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', key '%s': expected a number from %" PRIu32 " to %" PRIu32
                     ", found %" PRIu32 ".",
                     gguf_path(file->gguf), key, min, max, *ret);
}

int mmproj_positive(const struct mmproj *file, const char *key, float *ret)
{
    int r = gguf_f32(file->gguf, key, ret, file->err);

    if (r == -ENOENT)
        return mmproj_absent(file, "key", key);
    if (r < 0 || (isfinite(*ret) && *ret > 0))
        return r;
    return error_set(file->err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', key '%s': expected a positive number, found %g.",
                     gguf_path(file->gguf), key, (double)*ret);
}

int mmproj_width(const struct mmproj *file, const char *name, unsigned dim, uint32_t max,
                 uint32_t *ret)
{
    const struct gguf_tensor *tensor = gguf_tensor(file->gguf, name);

    if (!tensor)
        return mmproj_absent(file, "tensor", name);
    if (tensor->ne[dim] < 1 || tensor->ne[dim] > max)
        return error_set(file->err, ERROR_UNSUPPORTED_FORMAT,
                         "In '%s', tensor '%s': expected a width of 1 to %" PRIu32
                         " in dimension %u, found %" PRIu64 ".",
                         gguf_path(file->gguf), name, max, dim, tensor->ne[dim]);
    *ret = (uint32_t)tensor->ne[dim];
    return 0;
}
