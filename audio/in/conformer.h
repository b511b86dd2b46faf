/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The layers of a FastConformer encoder: every row sees the whole clip.
 *
 * Threads: engine thread, which lends the pool
 * Source:  audio.md 2.2, 2.3; liquid-audio model/conformer; relative positions are those of
 *          Transformer-XL (Dai et al. 2019, section 3.3)
 */

#include <stdatomic.h>

#include "audio/in/depthwise.h"
#include "audio/in/workspace.h"

struct conformer_ff {
    struct layer_norm norm; /* [d]     a.blk.%u.ffn_norm, of the second one ffn_norm_1 */
    struct linear up;       /* [f][d]  a.blk.%u.ffn_up */
    struct linear down;     /* [d][f]  a.blk.%u.ffn_down */
};

struct conformer_layer {
    struct conformer_ff ff_1;
    struct layer_norm attention_norm; /* [d]      a.blk.%u.ln1 */
    struct linear q;                  /* [d][d]   a.blk.%u.attn_q */
    struct linear k;                  /* [d][d]   a.blk.%u.attn_k */
    struct linear v;                  /* [d][d]   a.blk.%u.attn_v */
    struct linear out;                /* [d][d]   a.blk.%u.attn_out */
    struct matrix position;           /* [d][d]   a.blk.%u.linear_pos.weight */
    const float *content_bias;        /* [d]      a.blk.%u.pos_bias_u */
    const float *position_bias;       /* [d]      a.blk.%u.pos_bias_v */
    struct layer_norm conv_norm;      /* [d]      a.blk.%u.norm_conv */
    struct linear pointwise_1;        /* [2d][d]  a.blk.%u.conv_pw1 */
    struct depthwise depthwise;       /*          a.blk.%u.conv_dw, and conv_norm after it */
    struct linear pointwise_2;        /* [d][d]   a.blk.%u.conv_pw2 */
    struct conformer_ff ff_2;
    struct layer_norm norm; /* [d]  a.blk.%u.ln2 */
};

struct conformer {
    struct audio_shape shape;
    struct conformer_layer *layers; /* [n_layer] */
};

/* Part of a loader_walk. */
bool conformer_load(struct loader *loader, const struct audio_shape *shape,
                    struct conformer *conformer);

/* The steps of a layer, on the n rows of a clip in ws->x, in place. */
void conformer_ff(const struct conformer *conformer, const struct conformer_ff *ff,
                  const struct audio_workspace *ws, size_t n);
void conformer_attention(const struct conformer *conformer, const struct conformer_layer *layer,
                         const struct audio_workspace *ws, size_t n);
void conformer_convolution(const struct conformer *conformer, const struct conformer_layer *layer,
                           const struct audio_workspace *ws, size_t n);

/* All layers, in the same way. Returns 0 or -ECANCELED. */
int conformer_forward(const struct conformer *conformer, const struct audio_workspace *ws, size_t n,
                      const atomic_bool *cancel);
