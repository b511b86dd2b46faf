/* SPDX-License-Identifier: MIT */

/*
 * Grouped-query attention (text.md 4).
 *
 *     q, k, v = Wq · h, Wk · h, Wv · h;  q, k = rope(rmsnorm(q)), rope(rmsnorm(k)), head by head
 *     y = Wo · softmax(q · kᵀ / sqrt(hd)) · v
 */

#include "lfm2/steps.h"
#include "tensor/ops.h"

struct heads_job {
    const struct lfm2_hparams *hparams;
    const struct lfm2_attention *attention;
    const float *cos, *sin; /* [n][hd / 2] */
    float *q, *k;           /* [n - n_skipped][nh * hd], [n][nkv * hd] */
    size_t n_head_kv, n_skipped;
};

/* Norm and rotate all heads of rows [first, last). */
static void turn_heads(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct heads_job *job = context;
    const size_t hd = job->hparams->head_dim;
    const float eps = job->hparams->norm_eps;

    (void)worker;
    (void)scratch;
    for (size_t t = first; t < last; t++) {
        const float *cos = job->cos + t * hd / 2;
        const float *sin = job->sin + t * hd / 2;

        for (size_t i = 0; t >= job->n_skipped && i < job->hparams->n_head; i++) {
            float *head = job->q + ((t - job->n_skipped) * job->hparams->n_head + i) * hd;

            op_rmsnorm(head, job->attention->q_norm, hd, eps, head);
            op_rope_half(head, hd, cos, sin);
        }
        for (size_t i = 0; i < job->n_head_kv; i++) {
            float *head = job->k + (t * job->n_head_kv + i) * hd;

            op_rmsnorm(head, job->attention->k_norm, hd, eps, head);
            op_rope_half(head, hd, cos, sin);
        }
    }
}

struct store_job {
    enum kv_type type;
    const float *k, *v; /* [n][nkv * hd] */
    size_t n, n_head_kv, hd;
    struct lfm2_kv to;
    size_t position;
};

/* Put KV heads [first, last) into the cache. */
static void store_heads(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct store_job *job = context;
    const size_t stride = job->n_head_kv * job->hd;

    (void)worker;
    (void)scratch;
    for (size_t i = first; i < last; i++) {
        const size_t offset = i * job->to.stride_bytes;

        kv_store_k(job->type, job->k + i * job->hd, job->n, stride, job->hd,
                   (unsigned char *)job->to.k + offset, job->position);
        kv_store_v(job->type, job->v + i * job->hd, job->n, stride, job->hd,
                   (unsigned char *)job->to.v + offset, job->position);
    }
}

void lfm2_attention(const struct lfm2_pass *pass, const struct lfm2_layer *layer, const float *h,
                    size_t n, size_t n_out, float *y)
{
    const struct lfm2_hparams *hparams = &pass->model->hparams;
    const struct lfm2_attention *attention = &layer->attention;
    struct lfm2_workspace *ws = pass->workspace;
    const size_t hd = hparams->head_dim, n_skipped = n - n_out;
    float *q = ws->wide;
    float *k = q + n_out * hparams->n_head * hd;
    float *v = k + n * layer->n_head_kv * hd;
    const struct lfm2_kv own = {.k = ws->k, .v = ws->v, .stride_bytes = ws->kv_stride};
    const struct lfm2_kv cache = pass->state ? pass->state->kv[layer->index] : own;
    const enum kv_type type = pass->state ? pass->state->kv_type : KV_F32;
    struct heads_job heads = {
        .hparams = hparams,
        .attention = attention,
        .cos = ws->cos,
        .sin = ws->sin,
        .q = q,
        .k = k,
        .n_head_kv = layer->n_head_kv,
        .n_skipped = n_skipped,
    };
    struct store_job store = {
        .type = type,
        .k = k,
        .v = v,
        .n = n,
        .n_head_kv = layer->n_head_kv,
        .hd = hd,
        .to = cache,
        .position = pass->first,
    };
    const struct attend job = {
        .type = type,
        .n_head = hparams->n_head,
        .n_head_kv = layer->n_head_kv,
        .head_dim = hd,
        .q = q,
        .n = n_out,
        .first = pass->first + n_skipped,
        .k = cache.k,
        .v = cache.v,
        .n_kv = pass->first + n,
        .stride_bytes = cache.stride_bytes,
        .window = hparams->sliding_window,
        .causal = hparams->causal,
        .out = ws->mixed,
    };

    rows_set(&ws->rows, h, n, hparams->n_embd, pass->pool);
    if (n_skipped == 0) {
        matmul_n((const struct matrix *const[]){&attention->q, &attention->k, &attention->v},
                 (float *const[]){q, k, v}, 3, &ws->rows, pass->pool);
    } else {
        matmul_n((const struct matrix *const[]){&attention->k, &attention->v},
                 (float *const[]){k, v}, 2, &ws->rows, pass->pool);
        rows_set(&ws->rows, h + n_skipped * hparams->n_embd, n_out, hparams->n_embd, pass->pool);
        matmul(&attention->q, &ws->rows, q, pass->pool);
    }
    pool_run(pass->pool, turn_heads, &heads, n, 4);
    pool_run(pass->pool, store_heads, &store, layer->n_head_kv, n == 1 ? SIZE_MAX : 1);
    if (n_out == 0)
        return;
    attend(&job, pass->pool);
    rows_set(&ws->rows, ws->mixed, n_out, hparams->n_head * hd, pass->pool);
    matmul(&attention->out, &ws->rows, y, pass->pool);
}
