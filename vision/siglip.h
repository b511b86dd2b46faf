/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * SigLIP2 NaFlex encoder: one row for each patch, full attention inside a view.
 *
 * Shapes:  matrices are [out][in]; d, f, nh as in struct vision_shape
 * Memory:  weights in the vision's arena (precise ones in the mapped file), rows in its workspace
 * Threads: engine thread, which lends the pool
 * Source:  vision.md 5, 7.2; transformers modeling_siglip2.py 5.23.0
 */

#include <stdatomic.h>

#include "tensor/matrix.h"
#include "tensor/weights.h"
#include "vision/patches.h"
#include "vision/shape.h"

struct siglip_linear {
    struct matrix w; /* [out][in]  NAME.weight */
    const float *b;  /* [out]      NAME.bias */
};

struct siglip_norm {
    const float *w; /* [d]  NAME.weight */
    const float *b; /* [d]  NAME.bias */
};

struct siglip_layer {
    struct siglip_norm ln1;    /*          v.blk.%u.ln1 */
    struct siglip_linear q;    /* [d][d]   v.blk.%u.attn_q */
    struct siglip_linear k;    /* [d][d]   v.blk.%u.attn_k */
    struct siglip_linear v;    /* [d][d]   v.blk.%u.attn_v */
    struct siglip_linear out;  /* [d][d]   v.blk.%u.attn_out */
    struct siglip_norm ln2;    /*          v.blk.%u.ln2 */
    struct siglip_linear up;   /* [f][d]   v.blk.%u.ffn_up */
    struct siglip_linear down; /* [d][f]   v.blk.%u.ffn_down */
};

struct siglip {
    struct siglip_linear patch;  /* [d][3 * 16 * 16]    v.patch_embd, columns (channel, row, col) */
    const float *positions;      /* [n_grid²][d]        v.position_embd.weight */
    struct siglip_layer *layers; /* [n_layer] */
    struct siglip_norm post;     /*                     v.post_ln */
};
