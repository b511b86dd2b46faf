/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * SigLIP2 NaFlex encoder: one row for each patch of a view, full attention inside a view.
 *
 * Memory:  weights in the arena of the load (precise ones in the mapped file), rows in a workspace
 * Threads: engine thread, which lends the pool
 * Source:  vision.md 5, 7.2; transformers modeling_siglip2.py 5.23.0
 */

#include "vision/patches.h"
#include "vision/workspace.h"

struct siglip_layer {
    struct layer_norm ln1; /* [d]     v.blk.%u.ln1 */
    struct linear q;       /* [d][d]  v.blk.%u.attn_q */
    struct linear k;       /* [d][d]  v.blk.%u.attn_k */
    struct linear v;       /* [d][d]  v.blk.%u.attn_v */
    struct linear out;     /* [d][d]  v.blk.%u.attn_out */
    struct layer_norm ln2; /* [d]     v.blk.%u.ln2 */
    struct linear up;      /* [f][d]  v.blk.%u.ffn_up */
    struct linear down;    /* [d][f]  v.blk.%u.ffn_down */
};

struct siglip {
    struct vision_shape shape;
    struct linear patch;         /* [d][PATCHES_VALUES]  v.patch_embd, columns as PATCHES_PLANES */
    const float *positions;      /* [n_grid²][d]         v.position_embd.weight */
    struct siglip_layer *layers; /* [n_layer] */
    struct layer_norm post;      /* [d]                  v.post_ln */
};

/* Part of a loader_walk; siglip->shape is known. */
bool siglip_load(struct loader *loader, struct siglip *siglip);

/* The table of positions stretched to rows x cols patches: out [rows * cols][d]. */
int siglip_positions(const struct siglip *siglip, size_t rows, size_t cols, struct pool *pool,
                     float *out, struct error *err);

/*
 * A pass is siglip_begin(), each of the layers, siglip_end(); between them nothing else may use the
 * workspace. n: patches of all views. hidden: [n][d] after the last norm; not the workspace's x, q,
 * k or v. siglip_begin() returns 0, or -ENOMEM with a sentence.
 */
int siglip_begin(const struct siglip *siglip, const struct vision_workspace *ws,
                 const struct patches_norm *pixels, const struct picture_view *views,
                 size_t n_views, struct error *err);
void siglip_layer(const struct siglip *siglip, unsigned layer, const struct vision_workspace *ws,
                  const struct picture_view *views, size_t n_views, size_t n);
void siglip_end(const struct siglip *siglip, const struct vision_workspace *ws, size_t n,
                float *hidden);
