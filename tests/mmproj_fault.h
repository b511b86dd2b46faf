/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Parts of encoder files made in memory, whole or with one fault.
 */

#include <stdio.h>

#include "tests/gguf_build.h"

/* What is other than in a good file: a key or a tensor by name. */
struct mmproj_fault {
    const char *key;                                   /* left out, unless put is set */
    void (*put)(struct build *build, const char *key); /* writes it another way */
    const char *tensor;                                /* left out, unless type or ne is set */
    enum dtype type;
    uint64_t ne[GGUF_DIMS_MAX];
    const char *extra;   /* one more tensor of this name */
    bool unnormed;       /* no mm.input_norm in a vision file: not a fault */
    enum dtype matrices; /* type of all matrices that can have it: not a fault */
};

static inline bool mmproj_skips(struct build *build, const struct mmproj_fault *fault,
                                const char *key)
{
    if (!fault->key || strcmp(fault->key, key) != 0)
        return false;
    if (fault->put)
        fault->put(build, key);
    return true;
}

/* Small numbers around `middle`, or blocks of them. */
static inline void mmproj_values(enum dtype type, uint8_t *blocks, uint64_t n, float middle,
                                 uint32_t seed)
{
    const struct dtype_info *info = dtype_info(type);
    uint32_t random = seed;

    for (uint64_t i = 0; i < n / info->block_values * info->block_bytes; i++) {
        random = random * 1664525 + 1013904223;
        blocks[i] = (uint8_t)(random >> 24);
    }
    for (uint64_t i = 0; i < n / info->block_values; i++) {
        uint8_t *block = blocks + i * info->block_bytes;
        const float value =
            middle + ((float)block[0] - 127.5f) * (info->block_values == 1 ? 1e-3f : 2e-5f);
        const uint16_t half = type == DTYPE_BF16 ? f32_to_bf16(value) : f32_to_f16(value);

        if (type == DTYPE_F32)
            memcpy(block, &value, sizeof(value));
        else
            memcpy(block, &half, sizeof(half)); /* of a quantised block: its scale */
    }
}

static inline void mmproj_tensor(struct build *build, const struct mmproj_fault *fault,
                                 enum dtype type, const char *name, uint64_t ne0, uint64_t ne1,
                                 uint64_t ne2, uint64_t ne3)
{
    uint64_t ne[GGUF_DIMS_MAX] = {ne0, ne1, ne2, ne3};
    const bool norm = strstr(name, "weight") && (strstr(name, "ln") || strstr(name, "norm"));
    uint32_t n_dims = 4, seed = 0;
    uint64_t n;
    uint8_t *blocks;

    if (fault->tensor && strcmp(fault->tensor, name) == 0) {
        if (fault->type == DTYPE_F32 && fault->ne[0] == 0)
            return;
        type = fault->type;
        if (fault->ne[0] > 0)
            memcpy(ne, fault->ne, sizeof(ne));
    }
    while (n_dims > 1 && ne[n_dims - 1] == 1)
        n_dims--;
    if (ne[0] % dtype_info(type)->block_values != 0)
        type = DTYPE_F32;
    n = ne[0] * ne[1] * ne[2] * ne[3];
    blocks = calloc(1, dtype_row_bytes(type, n) + 1);
    assert(blocks);
    for (const char *c = name; *c; c++)
        seed = seed * 31 + (uint8_t)*c;
    mmproj_values(type, blocks, n, norm ? 1 : 0, seed);
    build_tensor(build, name, type, n_dims, ne, blocks);
    free(blocks);
}

static inline void mmproj_linear(struct build *build, const struct mmproj_fault *fault,
                                 const char *name, uint64_t in, uint64_t out)
{
    char full[128];

    snprintf(full, sizeof(full), "%s.weight", name);
    mmproj_tensor(build, fault, fault->matrices, full, in, out, 1, 1);
    snprintf(full, sizeof(full), "%s.bias", name);
    mmproj_tensor(build, fault, DTYPE_F32, full, out, 1, 1, 1);
}

static inline void mmproj_norm(struct build *build, const struct mmproj_fault *fault,
                               const char *name, uint64_t width)
{
    char full[128];

    snprintf(full, sizeof(full), "%s.weight", name);
    mmproj_tensor(build, fault, DTYPE_F32, full, width, 1, 1, 1);
    snprintf(full, sizeof(full), "%s.bias", name);
    mmproj_tensor(build, fault, DTYPE_F32, full, width, 1, 1, 1);
}
