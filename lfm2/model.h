/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The LFM2 backbone: hyperparameters and weights, read from a GGUF file and never hard-coded.
 *
 * Architectures `lfm2`, `lfm2moe`, and `lfm2-bidir` (= lfm2, not causal). Layer i is a gated short
 * convolution when n_head_kv[i] == 0, else grouped-query attention.
 *
 * Memory: weights live in one arena of the model (or, precise, in the mapped file); the model is
 * immutable after loading and may be shared by many states.
 * Threads: load and free on the engine thread.
 * Source: text.md sections 1 to 7; transformers models/lfm2, models/lfm2_moe; llama.cpp
 * src/models/lfm2.cpp.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor/gguf.h"
#include "tensor/matrix.h"

#define LFM2_LAYERS_MAX 512

struct lfm2_hparams {
    uint32_t n_layer;
    uint32_t n_embd;    /* H */
    uint32_t n_ff;      /* F of the dense layers */
    uint32_t n_head;    /* nh */
    uint32_t head_dim;  /* hd */
    uint32_t n_head_kv[LFM2_LAYERS_MAX]; /* 0 = conv layer */
    uint32_t n_vocab;   /* rows of the embedding */
    uint32_t n_context; /* the file's context_length */
    uint32_t conv_kernel; /* L */
    uint32_t sliding_window; /* 0: none */
    float norm_eps;
    float rope_theta;
    bool causal;
    uint32_t pooling;    /* 0 none, 1 mean, 2 CLS, 3 last */
    uint32_t n_embd_out; /* width of dense_2; 0: none */
    /* mixture of experts; n_expert 0: dense model */
    uint32_t n_expert, n_expert_used, n_ff_expert, n_layer_dense;
    bool gate_softmax; /* router: softmax instead of sigmoid */
    bool fine;         /* activations of MATRIX_FINE; not of the file: a model of rows has it */
};

struct lfm2_layer;

struct lfm2_model {
    struct lfm2_hparams hparams;
    struct matrix token_embd;   /* [V][H]  token_embd.weight, also the head */
    struct matrix output;       /* [V][H]  output.weight; equals token_embd when tied */
    const float *output_norm;   /* [H]     token_embd_norm.weight: the FINAL norm */
    struct matrix dense_2;      /* [out][H] dense_2.weight; out == 0: none */
    const float *dense_2_bias;  /* [out]   dense_2.bias, or NULL */
    struct lfm2_layer *layers;  /* [n_layer], lfm2/layers.h */
    struct arena arena;
    size_t n_attention; /* layers with attention */
    size_t n_conv;
};

/* Bytes that loading would take beside the mapped file. Refuses whatever lfm2_model_load() does. */
int lfm2_model_plan(const struct gguf *gguf, bool precise, struct lfm2_hparams *ret_hparams,
                    size_t *ret_bytes, struct error *err);

/*
 * gguf must outlive a precise model; otherwise it may be freed after loading.
 * Refuses missing tensors and wrong shapes by name, with what was expected and found.
 */
struct lfm2_model *lfm2_model_load(const struct gguf *gguf, bool precise, struct pool *pool,
                                   struct error *err);

/* The same without token embedding, for a model that is fed rows and gives rows (a vocoder), with
 * finer activations: lfm2_embed() and lfm2_logits() are not for it. */
int lfm2_rows_model_plan(const struct gguf *gguf, bool precise, struct lfm2_hparams *ret_hparams,
                         size_t *ret_bytes, struct error *err);
struct lfm2_model *lfm2_rows_model_load(const struct gguf *gguf, bool precise, struct pool *pool,
                                        struct error *err);

struct lfm2_model *lfm2_model_free(struct lfm2_model *model);
