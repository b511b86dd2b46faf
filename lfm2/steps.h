/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Inside lfm2/: the memory of a pass and of a sequence, and the steps that a pass is made of.
 *
 * Every step works on n rows and gives each row the same bits for every n.
 *
 * Threads: engine thread.
 */

#include "lfm2/forward.h"
#include "lfm2/layers.h"
#include "tensor/attend.h"
#include "tensor/kernels.h"

struct lfm2_workspace {
    struct arena arena;
    size_t n_max;       /* rows, T below */
    float *h;           /* [T][H]  normed input of a step */
    float *wide;        /* [T][..] B | C | X;  or q, k, v;  or [LFM2_FFN_ROWS][..] gate, up */
    float *mixed;       /* [T][max(H, nh * hd)]  what conv or attention give to their out_proj */
    float *y;           /* [T][H]  output of a step */
    float *products;    /* [L-1 + T][H]  B * X of a long chunk */
    float *cos, *sin;   /* [T][hd / 2]  of this pass's positions */
    struct rows rows;
    void *k, *v;        /* keys and values of one layer, for passes without state */
    size_t kv_stride;   /* between KV heads in k and v */
    /* mixture of experts, k = n_expert_used */
    float *scores;      /* [T][n_expert] */
    uint32_t *experts;  /* [T][k]  chosen, best first */
    float *weights;     /* [T][k] */
    uint32_t *by_expert; /* [T * k]  choices (row * k + rank) in order of expert, then row */
    size_t *first;      /* [n_expert + 1]  where an expert's choices begin in by_expert */
    float *gathered;    /* [T][H]  rows of one expert */
};

/* Rows that go through a feed-forward network at a time: they are wide, and would be most of the
 * memory of a pass. Whole tiles, and enough of them to unpack the weights for. */
#define LFM2_FFN_ROWS (8 * ACT_TILE)

/* Rows of products that a state keeps: what the next row needs, and what undo goes back to. */
#define KEEP_ROWS(hparams) ((hparams)->conv_kernel - 1 + (size_t)LFM2_UNDO_MAX)

struct lfm2_kv {
    void *k, *v;         /* of KV head 0 */
    size_t stride_bytes; /* to the next KV head */
};

struct lfm2_state {
    const struct lfm2_model *model;
    enum kv_type kv_type;
    size_t n_context;
    size_t n_past;      /* rows in the cache, behind the forgotten ones */
    size_t n_forgotten;
    size_t n_undo; /* tokens that can be undone, <= LFM2_UNDO_MAX */

    /* [n_conv][products_rows][H]; the rows before `products_end` are the last products, the
     * newest at the end, in all layers alike. */
    float *products;
    size_t products_rows;
    size_t products_end;

    struct lfm2_kv *kv; /* [n_attention] */
    struct arena arena; /* of the above */
    void *kv_memory;    /* mapping behind kv */
    size_t kv_memory_bytes;
};

/* Products of conv layer `index`, row `row`. */
float *lfm2_state_products(const struct lfm2_state *state, size_t index, size_t row);

/* Make room for the products of n more rows; changes nothing that can be observed. */
void lfm2_state_prepare(struct lfm2_state *state, size_t n);
/* n rows have gone through all layers. */
void lfm2_state_commit(struct lfm2_state *state, size_t n);

/* One pass of n rows; the first stands at position `first` of the cache. */
struct lfm2_pass {
    const struct lfm2_model *model;
    struct lfm2_workspace *workspace;
    struct pool *pool;
    const struct lfm2_probe *probe;
    struct lfm2_state *state; /* NULL: a whole sequence at once */
    size_t first;
};

/* The steps: h [n][H] -> y [n][H], of attention the last n_out rows: [n_out][H]. */
void lfm2_shortconv(const struct lfm2_pass *pass, const struct lfm2_layer *layer, const float *h,
                    size_t n, float *y);
void lfm2_attention(const struct lfm2_pass *pass, const struct lfm2_layer *layer, const float *h,
                    size_t n, size_t n_out, float *y);
void lfm2_swiglu(const struct lfm2_pass *pass, const struct lfm2_ffn *ffn, const float *h, size_t n,
                 float *y);
void lfm2_moe(const struct lfm2_pass *pass, unsigned layer_number, const struct lfm2_moe *moe,
              const float *h, size_t n, float *y);

/*
 * Choose experts for one row.
 *
 * scores:  [n_expert] logits of the router; overwritten by the gate's probabilities
 * experts: [k] the largest of probability + bias, best first, the lower number among equals
 * weights: [k] their probabilities (without bias), made to sum to 1
 */
void lfm2_moe_choose(float *scores, const float *bias, size_t n_expert, size_t k, bool softmax,
                     uint32_t *experts, float *weights);
