/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A small vision file made in memory, whole or with one fault.
 */

#include <stdio.h>

#include "tests/gguf_build.h"

#define MMPROJ_LAYERS    2
#define MMPROJ_HIDDEN    32
#define MMPROJ_HEADS     4
#define MMPROJ_FF        48
#define MMPROJ_PROJECTOR 24
#define MMPROJ_EMBD      40
#define MMPROJ_GRID      4

/* What is other than in a good file: a key or a tensor by name. */
struct mmproj_fault {
    const char *key;                                   /* left out, unless put is set */
    void (*put)(struct build *build, const char *key); /* writes it another way */
    const char *tensor;                                /* left out, unless type or ne is set */
    enum dtype type;
    uint64_t ne[GGUF_DIMS_MAX];
    const char *extra;   /* one more tensor of this name */
    bool unnormed;       /* no mm.input_norm: not a fault */
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
    mmproj_values(type, blocks, n, strstr(name, "ln") && strstr(name, "weight") ? 1 : 0, seed);
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

/* The bytes of a file: malloc. fault: all zeros for none. */
static inline uint8_t *mmproj_build(const struct mmproj_fault *fault, size_t *ret_size)
{
    static const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {
        {"clip.vision.projection_dim", MMPROJ_EMBD},
        {"clip.vision.patch_size", 16},
        {"clip.vision.embedding_length", MMPROJ_HIDDEN},
        {"clip.vision.feed_forward_length", MMPROJ_FF},
        {"clip.vision.block_count", MMPROJ_LAYERS},
        {"clip.vision.attention.head_count", MMPROJ_HEADS},
        {"clip.vision.projector.scale_factor", 2},
    };
    enum { d = MMPROJ_HIDDEN };
    struct build build = BUILD_INIT;

    if (!mmproj_skips(&build, fault, "general.architecture"))
        build_str(&build, "general.architecture", "clip");
    if (!mmproj_skips(&build, fault, "clip.has_vision_encoder"))
        build_bool(&build, "clip.has_vision_encoder", true);
    if (!mmproj_skips(&build, fault, "clip.projector_type"))
        build_str(&build, "clip.projector_type", "lfm2");
    if (!mmproj_skips(&build, fault, "clip.use_gelu"))
        build_bool(&build, "clip.use_gelu", true);
    if (!mmproj_skips(&build, fault, "clip.vision.attention.layer_norm_epsilon"))
        build_f32(&build, "clip.vision.attention.layer_norm_epsilon", 1e-6f);
    if (!mmproj_skips(&build, fault, "clip.vision.image_mean"))
        build_array(&build, "clip.vision.image_mean", GGUF_F32, 3, (float[]){0.5f, 0.5f, 0.5f}, 4);
    if (!mmproj_skips(&build, fault, "clip.vision.image_std"))
        build_array(&build, "clip.vision.image_std", GGUF_F32, 3, (float[]){0.5f, 0.5f, 0.5f}, 4);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (!mmproj_skips(&build, fault, numbers[i].key))
            build_u32(&build, numbers[i].key, numbers[i].value);
    mmproj_skips(&build, fault, "lfmd.vision.max_image_tokens");

    mmproj_tensor(&build, fault, fault->matrices, "v.patch_embd.weight", 16, 16, 3, d);
    mmproj_tensor(&build, fault, DTYPE_F32, "v.patch_embd.bias", d, 1, 1, 1);
    mmproj_tensor(&build, fault, DTYPE_F32, "v.position_embd.weight", d, MMPROJ_GRID * MMPROJ_GRID,
                  1, 1);
    for (int i = 0; i < MMPROJ_LAYERS; i++) {
        static const struct {
            const char *name;
            uint64_t in, out;
        } matrices[] = {{"attn_q", d, d},   {"attn_k", d, d},         {"attn_v", d, d},
                        {"attn_out", d, d}, {"ffn_up", d, MMPROJ_FF}, {"ffn_down", MMPROJ_FF, d}};
        char name[64];

        for (size_t k = 0; k < sizeof(matrices) / sizeof(matrices[0]); k++) {
            snprintf(name, sizeof(name), "v.blk.%d.%s", i, matrices[k].name);
            mmproj_linear(&build, fault, name, matrices[k].in, matrices[k].out);
        }
        snprintf(name, sizeof(name), "v.blk.%d.ln1", i);
        mmproj_norm(&build, fault, name, d);
        snprintf(name, sizeof(name), "v.blk.%d.ln2", i);
        mmproj_norm(&build, fault, name, d);
    }
    mmproj_norm(&build, fault, "v.post_ln", d);
    if (!fault->unnormed)
        mmproj_norm(&build, fault, "mm.input_norm", 4 * d);
    mmproj_linear(&build, fault, "mm.1", 4 * d, MMPROJ_PROJECTOR);
    mmproj_linear(&build, fault, "mm.2", MMPROJ_PROJECTOR, MMPROJ_EMBD);
    if (fault->extra)
        mmproj_tensor(&build, fault, DTYPE_F32, fault->extra, d, 1, 1, 1);
    return build_finish(&build, ret_size);
}
