/* SPDX-License-Identifier: MIT */
#include "tensor/loader.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* --- the two walks ---------------------------------------------------------------------------- */

/* A tensor that the model did not ask for means a model that works in another way. */
static bool all_used(const struct loader *loader, const char *kind)
{
    for (size_t i = 0; i < gguf_n_tensors(loader->gguf); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(loader->gguf, i);
        char name[64];
        size_t n = 0;

        if (loader->used[i])
            continue;
        for (; n < tensor->name.length && n < sizeof(name) - 1; n++)
            name[n] = tensor->name.text[n] >= ' ' && tensor->name.text[n] <= '~'
                          ? tensor->name.text[n]
                          : '?';
        name[n] = 0;
        error_set(loader->err, ERROR_UNSUPPORTED_FORMAT,
                  "In '%s', tensor '%s': expected only tensors of %s, found one that has no place "
                  "in it.",
                  gguf_path(loader->gguf), name, kind);
        return false;
    }
    return true;
}

static int take_table(struct loader *loader)
{
    loader->used = calloc(gguf_n_tensors(loader->gguf) + 1, 1);
    if (loader->used)
        return 0;
    return error_set(loader->err, ERROR_NO_MEMORY, "Cannot take memory for the tensor table.");
}

int loader_plan(const struct gguf *gguf, enum matrix_form form, const char *kind, loader_walk *walk,
                void *model, size_t *ret_bytes, struct error *err)
{
    struct loader loader = {.gguf = gguf, .form = form, .err = err};
    bool fits;
    int r = take_table(&loader);

    if (r < 0)
        return r;
    fits = walk(&loader, model) && (!kind || all_used(&loader, kind));
    free(loader.used);
    if (!fits)
        return error_errno(ERROR_UNSUPPORTED_FORMAT);
    *ret_bytes = loader.bytes;
    return 0;
}

int loader_load(const struct gguf *gguf, enum matrix_form form, loader_walk *walk, void *model,
                struct arena *arena, struct pool *pool, struct error *err)
{
    struct loader loader = {
        .gguf = gguf,
        .form = form,
        .pool = pool,
        .arena = arena,
        .err = err,
    };
    bool loaded;
    int r = take_table(&loader);

    if (r < 0)
        return r;
    loaded = walk(&loader, model);
    free(loader.used);
    assert(loaded); /* the plan has gone the same way */
    return 0;
}

/* --- in a walk -------------------------------------------------------------------------------- */

void *loader_take(struct loader *loader, size_t size)
{
    if (loader->arena)
        return arena_take(loader->arena, size);
    loader->bytes += arena_need(size);
    return NULL;
}

const struct gguf_tensor *loader_tensor(struct loader *loader, const char *name,
                                        const uint64_t ne[GGUF_DIMS_MAX])
{
    const struct gguf_tensor *tensor = gguf_tensor(loader->gguf, name);

    if (!tensor) {
        error_set(loader->err, ERROR_UNSUPPORTED_FORMAT,
                  "In '%s', tensor '%s': expected it in a model of this kind, found none.",
                  gguf_path(loader->gguf), name);
        return NULL;
    }
    loader->used[tensor - gguf_tensor_at(loader->gguf, 0)] = 1;
    if (memcmp(tensor->ne, ne, sizeof(tensor->ne)) != 0) {
        error_set(loader->err, ERROR_UNSUPPORTED_FORMAT,
                  "In '%s', tensor '%s': expected shape {%" PRIu64 ", %" PRIu64 ", %" PRIu64
                  ", %" PRIu64 "}, found {%" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64 "}.",
                  gguf_path(loader->gguf), name, ne[0], ne[1], ne[2], ne[3], tensor->ne[0],
                  tensor->ne[1], tensor->ne[2], tensor->ne[3]);
        return NULL;
    }
    return tensor;
}

void loader_slice(struct loader *loader, const struct gguf_tensor *tensor, size_t slice,
                  struct matrix *ret)
{
    if (loader->arena)
        matrix_load(ret, tensor, slice, loader->form, loader->arena, loader->pool);
    else
        loader->bytes += arena_need(matrix_plan(tensor, loader->form));
}

bool loader_matrix(struct loader *loader, const char *name, size_t out, size_t in,
                   struct matrix *ret)
{
    const struct gguf_tensor *tensor =
        loader_tensor(loader, name, (const uint64_t[]){in, out, 1, 1});

    if (!tensor)
        return false;
    loader_slice(loader, tensor, 0, ret);
    return true;
}

bool loader_table(struct loader *loader, const char *name, size_t out, size_t in,
                  struct matrix *ret)
{
    const enum matrix_form form = loader->form;
    bool fits;

    loader->form = MATRIX_PRECISE;
    fits = loader_matrix(loader, name, out, in, ret);
    loader->form = form;
    return fits;
}

bool loader_reshaped(struct loader *loader, const char *name, const uint64_t ne[GGUF_DIMS_MAX],
                     size_t out, size_t in, struct matrix *ret)
{
    const struct gguf_tensor *tensor = loader_tensor(loader, name, ne);
    struct gguf_tensor matrix;

    if (!tensor)
        return false;
    matrix = *tensor;
    matrix.n_dims = 2;
    matrix.ne[0] = in;
    matrix.ne[1] = out;
    matrix.ne[2] = matrix.ne[3] = 1;
    loader_slice(loader, &matrix, 0, ret);
    return true;
}

bool loader_values(struct loader *loader, const char *name, const uint64_t ne[GGUF_DIMS_MAX],
                   const float **ret)
{
    const struct gguf_tensor *tensor = loader_tensor(loader, name, ne);
    const size_t n = (size_t)(ne[0] * ne[1] * ne[2] * ne[3]);
    float *values;

    if (!tensor)
        return false;
    values = loader_take(loader, n * sizeof(*values));
    if (!values)
        return true;
    dtype_to_f32(tensor->type, tensor->data, values, n);
    *ret = values;
    return true;
}

bool loader_f32(struct loader *loader, const char *name, size_t rows, size_t in, const float **ret)
{
    return loader_values(loader, name, (const uint64_t[]){in, rows, 1, 1}, ret);
}

void loader_skip(struct loader *loader, const char *name)
{
    const struct gguf_tensor *tensor = gguf_tensor(loader->gguf, name);

    if (tensor)
        loader->used[tensor - gguf_tensor_at(loader->gguf, 0)] = 1;
}

const char *loader_name(char name[64], const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(name, 64, format, args);
    va_end(args);
    return name;
}
