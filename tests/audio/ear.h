/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A small audio file made in memory, whole or with one fault.
 */

#include "tests/mmproj_fault.h"

#define EAR_LAYERS   2
#define EAR_HIDDEN   32
#define EAR_HEADS    2
#define EAR_FF       64
#define EAR_CHANNELS 6
#define EAR_KERNEL   5
#define EAR_ADAPTER  32
#define EAR_EMBD     40

/* The bytes of a file: malloc. fault: all zeros for none. */
static inline uint8_t *ear_build(const struct mmproj_fault *fault, size_t *ret_size)
{
    enum { d = EAR_HIDDEN, c = EAR_CHANNELS };
    static const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {
        {"clip.audio.num_mel_bins", 128},
        {"clip.audio.embedding_length", d},
        {"clip.audio.feed_forward_length", d}, /* as published files say it */
        {"clip.audio.block_count", EAR_LAYERS},
        {"clip.audio.attention.head_count", EAR_HEADS},
        {"clip.audio.projection_dim", EAR_EMBD},
    };
    static const struct {
        unsigned index;
        uint64_t side, in;
    } convs[] = {{0, 3, 1}, {2, 3, 1}, {3, 1, c}, {5, 3, 1}, {6, 1, c}};
    static const struct {
        const char *name;
        uint64_t in, out;
    } matrices[] = {
        {"ffn_up", d, EAR_FF},   {"ffn_down", EAR_FF, d}, {"ffn_up_1", d, EAR_FF},
        {"ffn_down_1", EAR_FF, d}, {"attn_q", d, d},      {"attn_k", d, d},
        {"attn_v", d, d},        {"attn_out", d, d},      {"conv_pw1", d, 2 * d},
        {"conv_pw2", d, d},
    };
    static const char *const norms[] = {"ffn_norm", "ffn_norm_1", "ln1",
                                        "ln2",      "norm_conv",  "conv_norm"};
    struct build build = BUILD_INIT;
    char name[64];

    if (!mmproj_skips(&build, fault, "general.architecture"))
        build_str(&build, "general.architecture", "clip");
    if (!mmproj_skips(&build, fault, "clip.has_audio_encoder"))
        build_bool(&build, "clip.has_audio_encoder", true);
    if (!mmproj_skips(&build, fault, "clip.projector_type"))
        build_str(&build, "clip.projector_type", "lfm2a");
    if (!mmproj_skips(&build, fault, "clip.audio.attention.layer_norm_epsilon"))
        build_f32(&build, "clip.audio.attention.layer_norm_epsilon", 1e-5f);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (!mmproj_skips(&build, fault, numbers[i].key))
            build_u32(&build, numbers[i].key, numbers[i].value);

    for (size_t i = 0; i < sizeof(convs) / sizeof(convs[0]); i++) {
        snprintf(name, sizeof(name), "a.conv1d.%u.weight", convs[i].index);
        mmproj_tensor(&build, fault, DTYPE_F32, name, convs[i].side, convs[i].side, convs[i].in, c);
        snprintf(name, sizeof(name), "a.conv1d.%u.bias", convs[i].index);
        mmproj_tensor(&build, fault, DTYPE_F32, name, 1, 1, c, 1);
    }
    mmproj_linear(&build, fault, "a.pre_encode.out", 16 * c, d);
    for (int i = 0; i < EAR_LAYERS; i++) {
        for (size_t k = 0; k < sizeof(matrices) / sizeof(matrices[0]); k++) {
            snprintf(name, sizeof(name), "a.blk.%d.%s", i, matrices[k].name);
            mmproj_linear(&build, fault, name, matrices[k].in, matrices[k].out);
        }
        for (size_t k = 0; k < sizeof(norms) / sizeof(norms[0]); k++) {
            snprintf(name, sizeof(name), "a.blk.%d.%s", i, norms[k]);
            mmproj_norm(&build, fault, name, d);
        }
        snprintf(name, sizeof(name), "a.blk.%d.linear_pos.weight", i);
        mmproj_tensor(&build, fault, fault->matrices, name, d, d, 1, 1);
        snprintf(name, sizeof(name), "a.blk.%d.pos_bias_u", i);
        mmproj_tensor(&build, fault, DTYPE_F32, name, d / EAR_HEADS, EAR_HEADS, 1, 1);
        snprintf(name, sizeof(name), "a.blk.%d.pos_bias_v", i);
        mmproj_tensor(&build, fault, DTYPE_F32, name, d / EAR_HEADS, EAR_HEADS, 1, 1);
        snprintf(name, sizeof(name), "a.blk.%d.conv_dw.weight", i);
        mmproj_tensor(&build, fault, DTYPE_F32, name, EAR_KERNEL, d, 1, 1);
        snprintf(name, sizeof(name), "a.blk.%d.conv_dw.bias", i);
        mmproj_tensor(&build, fault, DTYPE_F32, name, d, 1, 1, 1);
    }
    mmproj_norm(&build, fault, "mm.a.mlp.0", d);
    mmproj_linear(&build, fault, "mm.a.mlp.1", d, EAR_ADAPTER);
    mmproj_linear(&build, fault, "mm.a.mlp.3", EAR_ADAPTER, EAR_EMBD);
    if (fault->extra)
        mmproj_tensor(&build, fault, DTYPE_F32, fault->extra, d, 1, 1, 1);
    return build_finish(&build, ret_size);
}
