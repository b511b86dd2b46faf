/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A small vision file made in memory, whole or with one fault.
 */

#include "tests/mmproj_fault.h"

#define MMPROJ_LAYERS    2
#define MMPROJ_HIDDEN    32
#define MMPROJ_HEADS     4
#define MMPROJ_FF        48
#define MMPROJ_PROJECTOR 24
#define MMPROJ_EMBD      40
#define MMPROJ_GRID      4

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
