/* SPDX-License-Identifier: MIT */

/*
 *     x += ff_1(x) / 2
 *     x += out(attention(ln1(x)))
 *     x += pointwise_2(silu(depthwise(glu(pointwise_1(norm_conv(x))))))
 *     x += ff_2(x) / 2
 *     x = ln2(x)                                   in each layer; ff(x) = down(silu(up(norm(x))))
 */

#include "audio/in/conformer.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "tensor/attend.h"
#include "tensor/ops.h"

/* --- weights ---------------------------------------------------------------------------------- */

/* suffix: "" or "_1" */
static bool load_ff(struct loader *loader, const struct audio_shape *shape, unsigned i,
                    const char *suffix, struct conformer_ff *ff)
{
    const size_t d = shape->n_hidden, f = shape->n_ff;
    char name[64];

    return layer_norm_load(loader, loader_name(name, "a.blk.%u.ffn_norm%s", i, suffix), d,
                           &ff->norm) &&
           linear_load(loader, loader_name(name, "a.blk.%u.ffn_up%s", i, suffix), f, d, &ff->up) &&
           linear_load(loader, loader_name(name, "a.blk.%u.ffn_down%s", i, suffix), d, f,
                       &ff->down);
}

static bool load_attention(struct loader *loader, const struct audio_shape *shape, unsigned i,
                           struct conformer_layer *layer)
{
    const size_t d = shape->n_hidden, n_head = shape->n_head;
    char name[64];

    return layer_norm_load(loader, loader_name(name, "a.blk.%u.ln1", i), d,
                           &layer->attention_norm) &&
           linear_load(loader, loader_name(name, "a.blk.%u.attn_q", i), d, d, &layer->q) &&
           linear_load(loader, loader_name(name, "a.blk.%u.attn_k", i), d, d, &layer->k) &&
           linear_load_wide(loader, loader_name(name, "a.blk.%u.attn_v", i), d, d, &layer->v) &&
           linear_load_wide(loader, loader_name(name, "a.blk.%u.attn_out", i), d, d, &layer->out) &&
           loader_matrix(loader, loader_name(name, "a.blk.%u.linear_pos.weight", i), d, d,
                         &layer->position) &&
           loader_f32(loader, loader_name(name, "a.blk.%u.pos_bias_u", i), n_head, d / n_head,
                      &layer->content_bias) &&
           loader_f32(loader, loader_name(name, "a.blk.%u.pos_bias_v", i), n_head, d / n_head,
                      &layer->position_bias);
}

static bool load_convolution(struct loader *loader, const struct audio_shape *shape, unsigned i,
                             struct conformer_layer *layer)
{
    const size_t d = shape->n_hidden, n_taps = shape->n_kernel;
    struct layer_norm then = {0};
    char name[64];

    return layer_norm_load(loader, loader_name(name, "a.blk.%u.norm_conv", i), d,
                           &layer->conv_norm) &&
           linear_load(loader, loader_name(name, "a.blk.%u.conv_pw1", i), 2 * d, d,
                       &layer->pointwise_1) &&
           layer_norm_load(loader, loader_name(name, "a.blk.%u.conv_norm", i), d, &then) &&
           depthwise_load(loader, loader_name(name, "a.blk.%u.conv_dw", i),
                          (const uint64_t[]){n_taps, d, 1, 1}, (const uint64_t[]){d, 1, 1, 1},
                          n_taps, d, &then, &layer->depthwise) &&
           linear_load(loader, loader_name(name, "a.blk.%u.conv_pw2", i), d, d,
                       &layer->pointwise_2);
}

bool conformer_load(struct loader *loader, const struct audio_shape *shape,
                    struct conformer *conformer)
{
    conformer->shape = *shape;
    conformer->layers = loader_take(loader, shape->n_layer * sizeof(*conformer->layers));
    for (unsigned i = 0; i < shape->n_layer; i++) {
        struct conformer_layer unused, *layer = conformer->layers ? &conformer->layers[i] : &unused;
        char name[64];

        if (!load_ff(loader, shape, i, "", &layer->ff_1) ||
            !load_attention(loader, shape, i, layer) ||
            !load_convolution(loader, shape, i, layer) ||
            !load_ff(loader, shape, i, "_1", &layer->ff_2) ||
            !layer_norm_load(loader, loader_name(name, "a.blk.%u.ln2", i), shape->n_hidden,
                             &layer->norm))
            return false;
    }
    return true;
}

/* --- layers ----------------------------------------------------------------------------------- */

void conformer_ff(const struct conformer *conformer, const struct conformer_ff *ff,
                  const struct audio_workspace *ws, size_t n)
{
    const size_t d = conformer->shape.n_hidden;

    norm_rows(&ws->pass, &ff->norm, conformer->shape.norm_eps, ws->x, n, d, ws->h);
    mlp_rows(&ws->pass, &ff->up, ACTIVATION_SILU, &ff->down, ws->h, n, ws->q);
    add_rows(&ws->pass, ws->x, ws->q, 0.5f, n, d);
}

/* What the jobs on rows below share. */
struct layer_job {
    const struct conformer_layer *layer;
    const struct audio_workspace *ws;
    size_t n, d;
};

#define ROWS_CHUNK 8

/* Queries of positions, and of contents in place. */
static void split_queries(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct layer_job *job = context;
    const size_t d = job->d;

    (void)worker;
    (void)scratch;
    for (size_t t = first; t < last; t++) {
        float *const q = job->ws->q + t * d, *const qp = job->ws->qp + t * d;

        memcpy(qp, q, d * sizeof(*qp));
        op_add(qp, job->layer->position_bias, d);
        op_add(q, job->layer->content_bias, d);
    }
}

void conformer_attention(const struct conformer *conformer, const struct conformer_layer *layer,
                         const struct audio_workspace *ws, size_t n)
{
    const size_t d = conformer->shape.n_hidden, n_head = conformer->shape.n_head;
    struct layer_job rows = {layer, ws, n, d};
    const struct attend_wide job = {
        .n_head = n_head,
        .head_dim = d / n_head,
        .q = ws->q,
        .k = ws->k,
        .v = ws->v,
        .qp = ws->qp,
        .p = ws->p,
        .n = n,
        .memory = ws->heads,
        .out = ws->h,
    };

    norm_rows(&ws->pass, &layer->attention_norm, conformer->shape.norm_eps, ws->x, n, d, ws->h);
    linear_rows_n(&ws->pass, (const struct linear *const[]){&layer->q, &layer->k, &layer->v},
                  (float *const[]){ws->q, ws->k, ws->v}, 3, ws->h, n);
    pool_run(ws->pass.pool, split_queries, &rows, n, ROWS_CHUNK);
    rows_set(ws->pass.rows, ws->angles + (ws->n_max - n) * d, 2 * n - 1, d, ws->pass.pool);
    matmul(&layer->position, ws->pass.rows, ws->p, ws->pass.pool);
    if (ws->rows.form == MATRIX_ROUNDED)
        attend_wide(&job, ws->pass.pool);
    else
        attend_relative(&job, ws->pass.pool);
    linear_rows(&ws->pass, &layer->out, ACTIVATION_NONE, ws->h, n, ws->q);
    add_rows(&ws->pass, ws->x, ws->q, 1, n, d);
}

/* The first half of a row times the sigmoid of the second. */
static void gate_some(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct layer_job *job = context;
    const size_t d = job->d;

    (void)worker;
    (void)scratch;
    for (size_t t = first; t < last; t++) {
        const float *const gated = job->ws->gated + t * 2 * d;

        memcpy(job->ws->h + t * d, gated, d * sizeof(*gated));
        op_sigmoid_mul(job->ws->h + t * d, gated + d, d);
    }
}

static void convolve_some(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct layer_job *job = context;
    const size_t d = job->d, n_taps = job->layer->depthwise.n_taps;

    (void)worker;
    (void)scratch;
    for (size_t t = first; t < last; t++) {
        const float *rows[AUDIO_KERNEL_MAX];
        float *const out = job->ws->q + t * d;

        for (size_t k = 0; k < n_taps; k++) {
            const size_t at = t + k; /* n_taps / 2 more than the row */

            rows[k] = at >= n_taps / 2 && at - n_taps / 2 < job->n
                          ? job->ws->h + (at - n_taps / 2) * d
                          : job->ws->zeros;
        }
        depthwise_row(&job->layer->depthwise, rows, out);
        op_sigmoid_mul(out, out, d);
    }
}

void conformer_convolution(const struct conformer *conformer, const struct conformer_layer *layer,
                           const struct audio_workspace *ws, size_t n)
{
    const size_t d = conformer->shape.n_hidden;
    struct layer_job job = {layer, ws, n, d};

    norm_rows(&ws->pass, &layer->conv_norm, conformer->shape.norm_eps, ws->x, n, d, ws->h);
    linear_rows(&ws->pass, &layer->pointwise_1, ACTIVATION_NONE, ws->h, n, ws->gated);
    pool_run(ws->pass.pool, gate_some, &job, n, ROWS_CHUNK);
    pool_run(ws->pass.pool, convolve_some, &job, n, ROWS_CHUNK);
    linear_rows(&ws->pass, &layer->pointwise_2, ACTIVATION_NONE, ws->q, n, ws->k);
    add_rows(&ws->pass, ws->x, ws->k, 1, n, d);
}

int conformer_forward(const struct conformer *conformer, const struct audio_workspace *ws, size_t n,
                      const atomic_bool *cancel)
{
    const size_t d = conformer->shape.n_hidden;

    for (unsigned i = 0; i < conformer->shape.n_layer; i++) {
        const struct conformer_layer *layer = &conformer->layers[i];

        if (cancel && atomic_load_explicit(cancel, memory_order_relaxed))
            return -ECANCELED;
        conformer_ff(conformer, &layer->ff_1, ws, n);
        conformer_attention(conformer, layer, ws, n);
        conformer_convolution(conformer, layer, ws, n);
        conformer_ff(conformer, &layer->ff_2, ws, n);
        norm_rows(&ws->pass, &layer->norm, conformer->shape.norm_eps, ws->x, n, d, ws->x);
    }
    return 0;
}
