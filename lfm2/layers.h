/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The weights of one layer: one line for each tensor of the GGUF file, its shape first.
 *
 * A layer mixes positions (short convolution or attention) and then transforms each position
 * (feed-forward network or mixture of experts). Matrices are [out][in].
 *
 * Memory: everything lies in the model's arena (precise matrices in the mapped file).
 * Source: text.md 7.3.
 */

#include "lfm2/model.h"

struct lfm2_conv {
    struct matrix in_proj;  /* [3H][H]  blk.%u.shortconv.in_proj.weight, rows B | C | X */
    const float *taps;      /* [H][L]   blk.%u.shortconv.conv.weight */
    struct matrix out_proj; /* [H][H]   blk.%u.shortconv.out_proj.weight */
};

struct lfm2_attention {
    struct matrix q;     /* [nh * hd][H]   blk.%u.attn_q.weight */
    struct matrix k;     /* [nkv * hd][H]  blk.%u.attn_k.weight */
    struct matrix v;     /* [nkv * hd][H]  blk.%u.attn_v.weight */
    struct matrix out;   /* [H][nh * hd]   blk.%u.attn_output.weight */
    const float *q_norm; /* [hd]           blk.%u.attn_q_norm.weight */
    const float *k_norm; /* [hd]           blk.%u.attn_k_norm.weight */
};

struct lfm2_ffn {
    struct matrix gate; /* [F][H]  blk.%u.ffn_gate.weight */
    struct matrix up;   /* [F][H]  blk.%u.ffn_up.weight */
    struct matrix down; /* [H][F]  blk.%u.ffn_down.weight */
};

struct lfm2_moe {
    struct matrix router; /* [n_expert][H]  blk.%u.ffn_gate_inp.weight, always f32 */
    const float *bias;    /* [n_expert]  blk.%u.exp_probs_b.bias; zeros when absent */
    struct matrix *gate;  /* [n_expert] of [E][H]  blk.%u.ffn_gate_exps.weight */
    struct matrix *up;    /* [n_expert] of [E][H]  blk.%u.ffn_up_exps.weight */
    struct matrix *down;  /* [n_expert] of [H][E]  blk.%u.ffn_down_exps.weight */
};

struct lfm2_layer {
    const float *mix_norm; /* [H]  blk.%u.attn_norm.weight */
    const float *ffn_norm; /* [H]  blk.%u.ffn_norm.weight */
    bool is_conv, is_moe;
    size_t index; /* among the layers of its kind: whose conv state or KV cache it has */
    size_t n_head_kv;
    union {
        struct lfm2_conv conv;
        struct lfm2_attention attention;
    };
    union {
        struct lfm2_ffn ffn;
        struct lfm2_moe moe;
    };
};
