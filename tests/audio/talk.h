/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The companions of a model that talks, with weights of zero: as small as they may be, and whole.
 *
 *     size_t size;
 *     _cleanup_(freep) uint8_t *bytes = talk_vocoder(32, &size);
 */

#include <stdio.h>

#include "tests/gguf_build.h"

#define TALK_DIM      64 /* of the depthformer */
#define TALK_FF       64
#define TALK_CODES    16
#define TALK_WIDTH    32 /* of detokenizer and ear */
#define TALK_CHANNELS 16
#define TALK_FFT      324

static inline void talk_shape(struct build *build, const char *name, uint32_t n_dims,
                              const uint64_t *ne)
{
    size_t n = 1;
    float *zeros;

    for (uint32_t i = 0; i < n_dims; i++)
        n *= ne[i];
    zeros = calloc(n, sizeof(*zeros));
    assert(zeros);
    build_tensor(build, name, DTYPE_F32, n_dims, ne, zeros);
    free(zeros);
}

/* [rows][in], or [in] where rows are 0 */
static inline void talk_tensor(struct build *build, const char *name, uint64_t in, uint64_t rows)
{
    talk_shape(build, name, rows ? 2 : 1, (const uint64_t[]){in, rows});
}

/* The same with a number in its name; or with a bias. */
static inline void talk_numbered(struct build *build, const char *format, unsigned i, uint64_t in,
                                 uint64_t rows)
{
    char name[96];

    snprintf(name, sizeof(name), format, i);
    talk_tensor(build, name, in, rows);
}

static inline void talk_biased(struct build *build, const char *name, uint64_t in, uint64_t rows)
{
    char full[96];

    snprintf(full, sizeof(full), "%s.weight", name);
    talk_tensor(build, full, in, rows);
    snprintf(full, sizeof(full), "%s.bias", name);
    talk_tensor(build, full, rows ? rows : in, 0);
}

/* n_embd: width of the text model */
static inline uint8_t *talk_vocoder(uint32_t n_embd, size_t *ret_size)
{
    static const struct {
        const char *name;
        uint64_t in, rows;
    } layer[] = {
        {"operator_norm", TALK_DIM, 0},
        {"operator.qkv_proj", TALK_DIM, TALK_DIM * 3 / 2},
        {"operator.attention.q_layernorm", TALK_DIM / 32, 0},
        {"operator.attention.k_layernorm", TALK_DIM / 32, 0},
        {"operator.out_proj", TALK_DIM, TALK_DIM},
        {"ffn_norm", TALK_DIM, 0},
        {"feed_forward.w1", TALK_DIM, TALK_FF},
        {"feed_forward.w3", TALK_DIM, TALK_FF},
        {"feed_forward.w2", TALK_FF, TALK_DIM},
    };
    struct build build = BUILD_INIT;
    char name[96];

    build_str(&build, "general.architecture", "no language model");
    build_u32(&build, "depthformer_n_layer", 1);
    build_u32(&build, "depthformer_n_embd", TALK_DIM);
    talk_biased(&build, "depth_linear", n_embd, 8 * TALK_DIM);
    for (size_t i = 0; i < sizeof(layer) / sizeof(layer[0]); i++) {
        snprintf(name, sizeof(name), "depthformer.layers.0.%s.weight", layer[i].name);
        talk_tensor(&build, name, layer[i].in, layer[i].rows);
    }
    for (unsigned i = 0; i < 8; i++) {
        talk_numbered(&build, "depth_embeddings.%u.embedding_norm.weight", i, TALK_DIM, 0);
        talk_numbered(&build, "depth_embeddings.%u.embedding.weight", i, TALK_DIM, TALK_CODES + 1);
        talk_numbered(&build, "depth_embeddings.%u.to_logits.weight", i, TALK_DIM, TALK_CODES + 1);
    }
    talk_tensor(&build, "audio_embedding.embedding.weight", n_embd, 8 * (TALK_CODES + 1));
    talk_tensor(&build, "emb.emb.weight", TALK_WIDTH, 8 * TALK_CODES);
    talk_tensor(&build, "istft.window", TALK_FFT, 0);
    return build_finish(&build, ret_size);
}

/* The detokenizer: one layer of each kind. */
static inline uint8_t *talk_tokenizer(size_t *ret_size)
{
    static const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {
        {"lfm2.block_count", 2},          {"lfm2.context_length", 64},
        {"lfm2.vocab_size", TALK_WIDTH},  {"lfm2.embedding_length", TALK_WIDTH},
        {"lfm2.attention.head_count", 2}, {"lfm2.feed_forward_length", TALK_WIDTH},
        {"lfm2.shortconv.l_cache", 3},    {"lfm2.attention.sliding_window", 30},
    };
    struct build build = BUILD_INIT;

    build_str(&build, "general.architecture", "lfm2");
    build_str(&build, "tokenizer.ggml.model", "none");
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        build_u32(&build, numbers[i].key, numbers[i].value);
    build_array(&build, "lfm2.attention.head_count_kv", GGUF_I32, 2, (const int32_t[]){0, 1},
                sizeof(int32_t));
    build_f32(&build, "lfm2.attention.layer_norm_rms_epsilon", 1e-5f);
    build_f32(&build, "lfm2.rope.freq_base", 1e6f);
    build_u32(&build, "lfm2.embedding_length_out", TALK_FFT + 2);
    for (unsigned i = 0; i < 2; i++) {
        talk_numbered(&build, "blk.%u.attn_norm.weight", i, TALK_WIDTH, 0);
        talk_numbered(&build, "blk.%u.ffn_norm.weight", i, TALK_WIDTH, 0);
        talk_numbered(&build, "blk.%u.ffn_gate.weight", i, TALK_WIDTH, TALK_WIDTH);
        talk_numbered(&build, "blk.%u.ffn_up.weight", i, TALK_WIDTH, TALK_WIDTH);
        talk_numbered(&build, "blk.%u.ffn_down.weight", i, TALK_WIDTH, TALK_WIDTH);
    }
    talk_tensor(&build, "blk.0.shortconv.in_proj.weight", TALK_WIDTH, 3 * TALK_WIDTH);
    talk_tensor(&build, "blk.0.shortconv.conv.weight", 3, TALK_WIDTH);
    talk_tensor(&build, "blk.0.shortconv.out_proj.weight", TALK_WIDTH, TALK_WIDTH);
    talk_tensor(&build, "blk.1.attn_q.weight", TALK_WIDTH, TALK_WIDTH);
    talk_tensor(&build, "blk.1.attn_k.weight", TALK_WIDTH, TALK_WIDTH / 2);
    talk_tensor(&build, "blk.1.attn_v.weight", TALK_WIDTH, TALK_WIDTH / 2);
    talk_tensor(&build, "blk.1.attn_output.weight", TALK_WIDTH, TALK_WIDTH);
    talk_tensor(&build, "blk.1.attn_q_norm.weight", TALK_WIDTH / 2, 0);
    talk_tensor(&build, "blk.1.attn_k_norm.weight", TALK_WIDTH / 2, 0);
    talk_tensor(&build, "token_embd_norm.weight", TALK_WIDTH, 0);
    talk_biased(&build, "dense_2", TALK_WIDTH, TALK_FFT + 2);
    return build_finish(&build, ret_size);
}

/* n_embd: width of the text model */
static inline uint8_t *talk_ear(uint32_t n_embd, size_t *ret_size)
{
    static const struct {
        const char *name;
        uint64_t in, rows;
    } layer[] = {
        {"ffn_norm", TALK_WIDTH, 0},           {"ffn_up", TALK_WIDTH, TALK_FF},
        {"ffn_down", TALK_FF, TALK_WIDTH},     {"ln1", TALK_WIDTH, 0},
        {"attn_q", TALK_WIDTH, TALK_WIDTH},    {"attn_k", TALK_WIDTH, TALK_WIDTH},
        {"attn_v", TALK_WIDTH, TALK_WIDTH},    {"attn_out", TALK_WIDTH, TALK_WIDTH},
        {"norm_conv", TALK_WIDTH, 0},          {"conv_pw1", TALK_WIDTH, 2 * TALK_WIDTH},
        {"conv_dw", 9, TALK_WIDTH},            {"conv_norm", TALK_WIDTH, 0},
        {"conv_pw2", TALK_WIDTH, TALK_WIDTH},  {"ffn_norm_1", TALK_WIDTH, 0},
        {"ffn_up_1", TALK_WIDTH, TALK_FF},     {"ffn_down_1", TALK_FF, TALK_WIDTH},
        {"ln2", TALK_WIDTH, 0},
    };
    static const struct {
        unsigned index;
        uint64_t kernel, in;
    } convs[] = {{0, 3, 1}, {2, 3, 1}, {3, 1, TALK_CHANNELS}, {5, 3, 1}, {6, 1, TALK_CHANNELS}};
    static const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {
        {"clip.audio.num_mel_bins", 128},
        {"clip.audio.embedding_length", TALK_WIDTH},
        {"clip.audio.feed_forward_length", TALK_WIDTH},
        {"clip.audio.block_count", 1},
        {"clip.audio.attention.head_count", 2},
    };
    struct build build = BUILD_INIT;
    char name[96];

    build_str(&build, "general.architecture", "clip");
    build_bool(&build, "clip.has_audio_encoder", true);
    build_str(&build, "clip.projector_type", "lfm2a");
    build_u32(&build, "clip.audio.projection_dim", n_embd);
    build_f32(&build, "clip.audio.attention.layer_norm_epsilon", 1e-5f);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        build_u32(&build, numbers[i].key, numbers[i].value);
    for (size_t i = 0; i < sizeof(convs) / sizeof(convs[0]); i++) {
        snprintf(name, sizeof(name), "a.conv1d.%u.weight", convs[i].index);
        talk_shape(&build, name, 4,
                   (const uint64_t[]){convs[i].kernel, convs[i].kernel, convs[i].in,
                                      TALK_CHANNELS});
        snprintf(name, sizeof(name), "a.conv1d.%u.bias", convs[i].index);
        talk_shape(&build, name, 3, (const uint64_t[]){1, 1, TALK_CHANNELS});
    }
    talk_biased(&build, "a.pre_encode.out", 16 * TALK_CHANNELS, TALK_WIDTH);
    for (size_t i = 0; i < sizeof(layer) / sizeof(layer[0]); i++) {
        snprintf(name, sizeof(name), "a.blk.0.%s", layer[i].name);
        talk_biased(&build, name, layer[i].in, layer[i].rows);
    }
    talk_tensor(&build, "a.blk.0.linear_pos.weight", TALK_WIDTH, TALK_WIDTH);
    talk_tensor(&build, "a.blk.0.pos_bias_u", TALK_WIDTH / 2, 2);
    talk_tensor(&build, "a.blk.0.pos_bias_v", TALK_WIDTH / 2, 2);
    talk_biased(&build, "mm.a.mlp.0", TALK_WIDTH, 0);
    talk_biased(&build, "mm.a.mlp.1", TALK_WIDTH, n_embd);
    talk_biased(&build, "mm.a.mlp.3", n_embd, n_embd);
    return build_finish(&build, ret_size);
}
