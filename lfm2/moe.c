/* SPDX-License-Identifier: MIT */

/*
 * Mixture of experts (text.md 6).
 *
 *     p = sigmoid(router · g);  the k largest of p + bias;  w = p of those, made to sum to 1
 *     y = Σ w_e * expert_e(g), summed in order of e
 *
 * The rows are sorted by expert, so that the weights of an expert are read once for all its rows.
 */

#include <math.h>
#include <string.h>

#include "base/cleanup.h"
#include "lfm2/steps.h"
#include "tensor/ops.h"

void lfm2_moe_choose(float *scores, const float *bias, size_t n_expert, size_t k, bool softmax,
                     uint32_t *experts, float *weights)
{
    float sum = 0, top = scores[0];

    if (softmax) {
        for (size_t e = 1; e < n_expert; e++)
            top = MAX(top, scores[e]);
        for (size_t e = 0; e < n_expert; e++) {
            scores[e] = expf(scores[e] - top);
            sum += scores[e];
        }
        for (size_t e = 0; e < n_expert; e++)
            scores[e] /= sum;
    } else {
        for (size_t e = 0; e < n_expert; e++)
            scores[e] = 1 / (1 + expf(-scores[e]));
    }

    sum = 0;
    for (size_t i = 0; i < k; i++) {
        size_t best = n_expert;

        for (size_t e = 0; e < n_expert; e++) {
            bool taken = false;

            for (size_t j = 0; j < i && !taken; j++)
                taken = experts[j] == e;
            /* The first that is free, then every better one; NaN is never better. */
            if (!taken && (best == n_expert || scores[e] + bias[e] > scores[best] + bias[best]))
                best = e;
        }
        experts[i] = (uint32_t)best;
        weights[i] = scores[best];
        sum += weights[i];
    }
    for (size_t i = 0; i < k; i++)
        weights[i] /= sum + 1e-6f;
}

/* Counting sort of all choices by expert; the rows of an expert stay in their order. */
static void sort_by_expert(struct lfm2_workspace *ws, size_t n_choices, size_t n_expert)
{
    memset(ws->first, 0, (n_expert + 1) * sizeof(*ws->first));
    for (size_t i = 0; i < n_choices; i++)
        ws->first[ws->experts[i] + 1]++;
    for (size_t e = 0; e < n_expert; e++)
        ws->first[e + 1] += ws->first[e];
    for (size_t i = 0; i < n_choices; i++)
        ws->by_expert[ws->first[ws->experts[i]]++] = (uint32_t)i;
    /* Each beginning has moved to its end, which is the beginning of the next. */
    memmove(ws->first + 1, ws->first, n_expert * sizeof(*ws->first));
    ws->first[0] = 0;
}

/* A single row: the gates and ups of several experts in one go. The same bits, fewer rounds. */
static void one_row(const struct lfm2_pass *pass, const struct lfm2_moe *moe, const float *h,
                    float *y)
{
    enum { BATCH = MATMUL_MAX / 2 };
    const struct lfm2_hparams *hparams = &pass->model->hparams;
    struct lfm2_workspace *ws = pass->workspace;
    const size_t k = hparams->n_expert_used, width = hparams->n_ff_expert;

    for (size_t i = 0; i < k; i += BATCH) {
        const size_t n = MIN(k - i, (size_t)BATCH);
        const struct matrix *matrices[MATMUL_MAX];
        float *outs[MATMUL_MAX];

        for (size_t j = 0; j < n; j++) {
            const size_t e = ws->experts[ws->by_expert[i + j]];

            matrices[2 * j] = &moe->gate[e];
            matrices[2 * j + 1] = &moe->up[e];
            outs[2 * j] = ws->wide + 2 * j * width;
            outs[2 * j + 1] = ws->wide + (2 * j + 1) * width;
        }
        rows_set(&ws->rows, h, 1, hparams->n_embd, pass->pool);
        matmul_n(matrices, outs, 2 * n, &ws->rows, pass->pool);
        for (size_t j = 0; j < n; j++) {
            const size_t choice = ws->by_expert[i + j];

            op_silu_mul(outs[2 * j], outs[2 * j + 1], width);
            rows_set(&ws->rows, outs[2 * j], 1, width, pass->pool);
            matmul(&moe->down[ws->experts[choice]], &ws->rows, ws->mixed, pass->pool);
            op_add_scaled(y, ws->mixed, ws->weights[choice], hparams->n_embd);
        }
    }
}

void lfm2_moe(const struct lfm2_pass *pass, unsigned layer_number, const struct lfm2_moe *moe,
              const float *h, size_t n, float *y)
{
    const struct lfm2_hparams *hparams = &pass->model->hparams;
    struct lfm2_workspace *ws = pass->workspace;
    const size_t n_expert = hparams->n_expert, k = hparams->n_expert_used;
    const size_t n_embd = hparams->n_embd;

    rows_set(&ws->rows, h, n, n_embd, pass->pool);
    matmul(&moe->router, &ws->rows, ws->scores, pass->pool);
    for (size_t t = 0; t < n; t++)
        lfm2_moe_choose(ws->scores + t * n_expert, moe->bias, n_expert, k, hparams->gate_softmax,
                        ws->experts + t * k, ws->weights + t * k);
    if (pass->probe && pass->probe->router)
        pass->probe->router(pass->probe->userdata, layer_number, ws->experts, ws->weights, n);

    sort_by_expert(ws, n * k, n_expert);
    memset(y, 0, n * n_embd * sizeof(*y));
    if (n == 1) {
        one_row(pass, moe, h, y);
        return;
    }
    for (size_t e = 0; e < n_expert; e++) {
        const uint32_t *choices = ws->by_expert + ws->first[e];
        const size_t n_rows = ws->first[e + 1] - ws->first[e];
        const struct lfm2_ffn expert = {moe->gate[e], moe->up[e], moe->down[e]};

        if (n_rows == 0)
            continue;
        for (size_t i = 0; i < n_rows; i++)
            memcpy(ws->gathered + i * n_embd, h + choices[i] / k * n_embd, n_embd * sizeof(*h));
        lfm2_swiglu(pass, &expert, ws->gathered, n_rows, ws->mixed);
        for (size_t i = 0; i < n_rows; i++)
            op_add_scaled(y + choices[i] / k * n_embd, ws->mixed + i * n_embd,
                          ws->weights[choices[i]], n_embd);
    }
}
