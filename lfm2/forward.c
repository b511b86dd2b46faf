/* SPDX-License-Identifier: MIT */
#include "lfm2/forward.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "lfm2/steps.h"
#include "tensor/ops.h"

/* --- workspace -------------------------------------------------------------------------------- */

/*
 * One walk over the buffers serves twice: without memory it adds up their sizes, with an arena it
 * carves them.
 */
struct carver {
    struct arena *arena; /* NULL: only add up */
    size_t bytes;
};

static void *carve(struct carver *carver, size_t size)
{
    carver->bytes += arena_need(size);
    return carver->arena ? arena_take(carver->arena, size) : NULL;
}

static void carve_workspace(struct carver *carver, const struct lfm2_hparams *hp, size_t n,
                            struct lfm2_workspace *ws)
{
    const size_t h = hp->n_embd, hd = hp->head_dim;
    const size_t heads = hp->n_head * hd;
    const size_t n_ffn = MIN(n, (size_t)LFM2_FFN_ROWS);
    const size_t ff = MAX(hp->n_ff, hp->n_ff_expert);
    const enum matrix_form form = hp->fine ? MATRIX_FINE : MATRIX_FAST;
    size_t n_head_kv = 0, wide, quants;

    for (size_t i = 0; i < hp->n_layer; i++)
        n_head_kv = MAX(n_head_kv, (size_t)hp->n_head_kv[i]);

    /* The outputs of any step's first products. A single row may meet several experts at once. */
    wide = MAX(n * MAX(3 * h, heads + 2 * n_head_kv * hd), n_ffn * 2 * ff);
    wide = MAX(wide, (size_t)MATMUL_MAX * hp->n_ff_expert);

    ws->n_max = n;
    ws->h = carve(carver, n * h * sizeof(float));
    ws->wide = carve(carver, wide * sizeof(float));
    ws->mixed = carve(carver, n * MAX(h, heads) * sizeof(float));
    ws->y = carve(carver, n * h * sizeof(float));
    ws->products = carve(carver, (hp->conv_kernel - 1 + n) * h * sizeof(float));
    ws->cos = carve(carver, n * (hd / 2) * sizeof(float));
    ws->sin = carve(carver, n * (hd / 2) * sizeof(float));

    ws->kv_stride = kv_bytes(KV_F32, hd, n);
    ws->k = carve(carver, n_head_kv * ws->kv_stride);
    ws->v = carve(carver, n_head_kv * ws->kv_stride);

    if (hp->n_expert > 0) {
        const size_t k = hp->n_expert_used;

        ws->scores = carve(carver, n * hp->n_expert * sizeof(*ws->scores));
        ws->experts = carve(carver, n * k * sizeof(*ws->experts));
        ws->weights = carve(carver, n * k * sizeof(*ws->weights));
        ws->by_expert = carve(carver, n * k * sizeof(*ws->by_expert));
        ws->first = carve(carver, (hp->n_expert + (size_t)1) * sizeof(*ws->first));
        ws->gathered = carve(carver, n * h * sizeof(*ws->gathered));
    }

    quants = MAX(rows_values(form, n, MAX(h, heads)), rows_values(form, n_ffn, ff));
    carver->bytes += rows_plan(form, quants);
    if (carver->arena)
        rows_init(&ws->rows, form, quants, carver->arena);
}

/*
 * Whole tiles. Experts want many rows, of which each gets a few; otherwise 192 rows keep the
 * processor as busy as more, in less memory.
 */
size_t lfm2_workspace_rows(const struct lfm2_hparams *hparams)
{
    return (hparams->n_expert > 0 ? 43 : 16) * ACT_TILE;
}

size_t lfm2_workspace_plan(const struct lfm2_hparams *hparams, size_t n_rows_max)
{
    struct lfm2_workspace unused;
    struct carver carver = {0};

    carve_workspace(&carver, hparams, n_rows_max, &unused);
    return carver.bytes;
}

struct lfm2_workspace *lfm2_workspace_new(const struct lfm2_model *model, size_t n_rows_max,
                                          struct error *err)
{
    struct lfm2_workspace *ws = calloc(1, sizeof(*ws));
    struct carver carver = {0};

    assert(n_rows_max > 0 && n_rows_max <= LFM2_CONTEXT_MAX);
    if (!ws) {
        error_set(err, ERROR_NO_MEMORY, "Cannot take memory for a workspace.");
        return NULL;
    }
    if (arena_init(&ws->arena, lfm2_workspace_plan(&model->hparams, n_rows_max), "a workspace",
                   err) < 0)
        return lfm2_workspace_free(ws);
    carver.arena = &ws->arena;
    carve_workspace(&carver, &model->hparams, n_rows_max, ws);
    return ws;
}

struct lfm2_workspace *lfm2_workspace_free(struct lfm2_workspace *workspace)
{
    if (!workspace)
        return NULL;
    arena_done(&workspace->arena);
    free(workspace);
    return NULL;
}

size_t lfm2_workspace_n_rows_max(const struct lfm2_workspace *workspace)
{
    return workspace->n_max;
}

/* --- rows ------------------------------------------------------------------------------------- */

struct norm_job {
    const float *x, *w;
    size_t h;
    float eps;
    float *out;
};

static void norm_some(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct norm_job *job = context;

    (void)worker;
    (void)scratch;
    for (size_t t = first; t < last; t++)
        op_rmsnorm(job->x + t * job->h, job->w, job->h, job->eps, job->out + t * job->h);
}

static void norm_rows(const struct lfm2_pass *pass, const float *x, const float *w, size_t n,
                      float *out)
{
    struct norm_job job = {
        .x = x,
        .w = w,
        .h = pass->model->hparams.n_embd,
        .eps = pass->model->hparams.norm_eps,
        .out = out,
    };

    pool_run(pass->pool, norm_some, &job, n, 8);
}

struct add_job {
    float *x;
    const float *y;
    size_t h;
};

static void add_some(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct add_job *job = context;

    (void)worker;
    (void)scratch;
    op_add(job->x + first * job->h, job->y + first * job->h, (last - first) * job->h);
}

static void add_rows(const struct lfm2_pass *pass, float *x, const float *y, size_t n)
{
    struct add_job job = {.x = x, .y = y, .h = pass->model->hparams.n_embd};

    pool_run(pass->pool, add_some, &job, n, 8);
}

/* --- passes ----------------------------------------------------------------------------------- */

/* Angles of this pass's positions, shared by all its layers. */
static void turn_positions(const struct lfm2_pass *pass, size_t n)
{
    const struct lfm2_hparams *hparams = &pass->model->hparams;
    const size_t half = hparams->head_dim / 2;
    const size_t first = pass->first + (pass->state ? pass->state->n_forgotten : 0);

    for (size_t t = 0; pass->model->n_attention > 0 && t < n; t++)
        op_rope_table(first + t, hparams->head_dim, hparams->rope_theta,
                      pass->workspace->cos + t * half, pass->workspace->sin + t * half);
}

/*
 * The last rows of what layer i gives that somebody looks at: a convolution above it needs those in
 * front only for what the state keeps, attention needs all for their keys and values.
 */
static size_t rows_needed(const struct lfm2_pass *pass, unsigned i, size_t n, size_t n_hidden)
{
    const struct lfm2_hparams *hparams = &pass->model->hparams;
    size_t needed = n_hidden;

    if (pass->probe || !pass->state)
        return n;
    for (unsigned above = hparams->n_layer - 1; above > i; above--) {
        if (!pass->model->layers[above].is_conv)
            return n;
        needed += KEEP_ROWS(hparams);
    }
    return MIN(needed, n);
}

/*
 * All layers, then the final norm of the last n_hidden rows. In the last layers only the rows that
 * somebody will look at go on.
 */
static int run(const struct lfm2_pass *pass, const atomic_bool *cancel, float *x, size_t n,
               float *hidden, size_t n_hidden)
{
    const struct lfm2_model *model = pass->model;
    const size_t n_embd = model->hparams.n_embd, n_all = n;
    float *h = pass->workspace->h, *y = pass->workspace->y;

    turn_positions(pass, n);
    for (unsigned i = 0; i < model->hparams.n_layer; i++) {
        const struct lfm2_layer *layer = &model->layers[i];
        const size_t n_out = rows_needed(pass, i, n_all, n_hidden), n_left = n - n_out;

        if (cancel && atomic_load_explicit(cancel, memory_order_relaxed))
            return -ECANCELED;

        norm_rows(pass, x, layer->mix_norm, n, h);
        if (layer->is_conv)
            lfm2_shortconv(pass, layer, h, n, y);
        else
            lfm2_attention(pass, layer, h, n, n_out, y + n_left * n_embd);

        x += n_left * n_embd;
        n = n_out;
        add_rows(pass, x, y + n_left * n_embd, n);
        norm_rows(pass, x, layer->ffn_norm, n, h);
        if (layer->is_moe)
            lfm2_moe(pass, i, &layer->moe, h, n, y);
        else
            lfm2_swiglu(pass, &layer->ffn, h, n, y);
        add_rows(pass, x, y, n);

        if (pass->probe && pass->probe->layer)
            pass->probe->layer(pass->probe->userdata, i, x, n);
    }
    norm_rows(pass, x + (n - n_hidden) * n_embd, model->output_norm, n_hidden, hidden);
    return 0;
}

void lfm2_embed(const struct lfm2_model *model, const uint32_t *ids, size_t n, float *out)
{
    for (size_t t = 0; t < n; t++) {
        assert(ids[t] < model->hparams.n_vocab);
        matrix_row(&model->token_embd, ids[t], out + t * model->hparams.n_embd);
    }
}

int lfm2_forward(const struct lfm2_job *job, struct lfm2_state *state, float *x, size_t n,
                 float *hidden, size_t n_hidden)
{
    const struct lfm2_pass pass = {
        .model = job->model,
        .workspace = job->workspace,
        .pool = job->pool,
        .probe = job->probe,
        .state = state,
        .first = state->n_past,
    };
    int r;

    assert(job->model == state->model && job->model->hparams.causal);
    assert(n > 0 && n <= job->workspace->n_max);
    if (!hidden)
        n_hidden = 0;
    assert(n_hidden <= n);
    if (n > state->n_context - state->n_past)
        return -EOVERFLOW;

    lfm2_state_prepare(state, n);
    r = run(&pass, job->cancel, x, n, hidden, n_hidden);
    if (r == 0)
        lfm2_state_commit(state, n);
    return r;
}

int lfm2_encode(const struct lfm2_job *job, float *x, size_t n, float *hidden)
{
    const struct lfm2_pass pass = {
        .model = job->model,
        .workspace = job->workspace,
        .pool = job->pool,
        .probe = job->probe,
    };

    assert(n > 0 && n <= job->workspace->n_max);
    return run(&pass, job->cancel, x, n, hidden, n);
}

void lfm2_dense_2(const struct lfm2_job *job, const float *hidden, size_t n, float *out)
{
    const struct matrix *dense_2 = &job->model->dense_2;

    rows_set(&job->workspace->rows, hidden, n, dense_2->in, job->pool);
    matmul(dense_2, &job->workspace->rows, out, job->pool);
    for (size_t t = 0; job->model->dense_2_bias && t < n; t++)
        op_add(out + t * dense_2->out, job->model->dense_2_bias, dense_2->out);
}

void lfm2_logits(const struct lfm2_job *job, const float *hidden, size_t n, float *logits)
{
    rows_set(&job->workspace->rows, hidden, n, job->model->output.in, job->pool);
    matmul(&job->model->output, &job->workspace->rows, logits, job->pool);
}
