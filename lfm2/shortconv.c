/* SPDX-License-Identifier: MIT */

/*
 * Gated short convolution (text.md 3; bidirectional form 12.2).
 *
 *     B, C, X = in_proj · h;  p = B * X;  q[t] = Σ_j taps[j] * p[t - (L-1) + j];
 *     y = out_proj · (C * q)
 *
 * Only the products p are remembered, the last L-1 rows of them and a few more for undo.
 */

#include <string.h>

#include "base/cleanup.h"
#include "lfm2/steps.h"
#include "tensor/ops.h"

/* Channels of one unit of work: some cache lines of each row. */
#define CHANNELS 64

struct conv_job {
    const float *bcx, *taps;
    float *products;
    size_t n, h, l;
    float *out;
};

static void causal_channels(void *context, size_t first, size_t last, unsigned worker,
                            void *scratch)
{
    const struct conv_job *job = context;

    (void)worker;
    (void)scratch;
    op_shortconv(job->bcx, job->taps, job->products, job->n, job->h, job->l, first * CHANNELS,
                 MIN(last * CHANNELS, job->h), job->out);
}

/* q[t] = Σ_j taps[j] * p[t - (L-1)/2 + j], p = 0 outside of the sequence */
static void centred_channels(void *context, size_t first, size_t last, unsigned worker,
                             void *scratch)
{
    const struct conv_job *job = context;
    const size_t h = job->h, l = job->l, before = (l - 1) / 2;
    const size_t end = MIN(last * CHANNELS, h);

    (void)worker;
    (void)scratch;
    for (size_t t = 0; t < job->n; t++) {
        const float *bcx = job->bcx + t * 3 * h;

        for (size_t c = first * CHANNELS; c < end; c++)
            job->products[t * h + c] = bcx[c] * bcx[2 * h + c];
    }
    for (size_t t = 0; t < job->n; t++) {
        const float *gate = job->bcx + t * 3 * h + h;

        for (size_t c = first * CHANNELS; c < end; c++) {
            float sum = 0;

            for (size_t j = 0; j < l; j++) {
                /* t - before + j as an unsigned number is large when it lies before the start */
                const size_t at = t + j - before;

                if (at < job->n)
                    sum += job->taps[c * l + j] * job->products[at * h + c];
            }
            job->out[t * h + c] = gate[c] * sum;
        }
    }
}

void lfm2_shortconv(const struct lfm2_pass *pass, const struct lfm2_layer *layer, const float *h,
                    size_t n, float *y)
{
    const struct lfm2_hparams *hparams = &pass->model->hparams;
    const struct lfm2_conv *conv = &layer->conv;
    struct lfm2_workspace *ws = pass->workspace;
    struct lfm2_state *state = pass->state;
    const size_t n_past = hparams->conv_kernel - 1;
    const size_t keep = KEEP_ROWS(hparams);
    const size_t row_bytes = hparams->n_embd * sizeof(float);
    struct conv_job job = {
        .bcx = ws->wide,
        .taps = conv->taps,
        .products = ws->products,
        .n = n,
        .h = hparams->n_embd,
        .l = hparams->conv_kernel,
        .out = ws->mixed,
    };
    float *past =
        state ? lfm2_state_products(state, layer->index, state->products_end - n_past) : NULL;

    rows_set(&ws->rows, h, n, hparams->n_embd, pass->pool);
    matmul(&conv->in_proj, &ws->rows, ws->wide, pass->pool);

    /* A short chunk continues the state's rows in place, a long one has rows of its own. */
    if (state && n <= keep)
        job.products = past;
    else if (state)
        memcpy(ws->products, past, n_past * row_bytes);
    else
        memset(ws->products, 0, n_past * row_bytes);

    pool_run(pass->pool, hparams->causal ? causal_channels : centred_channels, &job,
             (hparams->n_embd + CHANNELS - 1) / CHANNELS, n == 1 ? SIZE_MAX : 1);

    if (state && n > keep)
        memcpy(past + n_past * hparams->n_embd,
               ws->products + (n_past + n - keep) * hparams->n_embd, keep * row_bytes);

    rows_set(&ws->rows, ws->mixed, n, hparams->n_embd, pass->pool);
    matmul(&conv->out_proj, &ws->rows, y, pass->pool);
}
