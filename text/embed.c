/* SPDX-License-Identifier: MIT */
#include "text/embed.h"

#include <math.h>

size_t embed_dim(const struct lm *lm)
{
    const struct lfm2_model *model = lm->model;

    return model->dense_2.out > 0 ? model->dense_2.out : model->hparams.n_embd;
}

int embed_tokens(struct lm *lm, const uint32_t *ids, size_t n, float *out, struct error *err)
{
    const struct lfm2_job job = {
        .model = lm->model,
        .workspace = lm->workspace,
        .pool = lm->pool,
    };
    const size_t dim = embed_dim(lm);
    int r;

    if (n == 0 || n > lm->n_rows_max)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "A text to embed has 1 to %zu tokens, not %zu.", lm->n_rows_max, n);
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= lm->model->hparams.n_vocab)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "Token %u is not below the vocabulary size %u.", ids[i],
                             lm->model->hparams.n_vocab);

    lfm2_embed(lm->model, ids, n, lm->rows);
    r = lfm2_encode(&job, lm->rows, n, lm->model->dense_2.out > 0 ? lm->hidden : out);
    if (r < 0)
        return r;
    if (lm->model->dense_2.out > 0)
        lfm2_dense_2(&job, lm->hidden, n, out);

    for (size_t i = 0; i < n; i++) {
        float *row = out + i * dim;
        double sum = 0;
        float scale;

        for (size_t k = 0; k < dim; k++)
            sum += (double)row[k] * (double)row[k];
        scale = sum > 0 ? (float)(1 / sqrt(sum)) : 0;
        for (size_t k = 0; k < dim; k++)
            row[k] *= scale;
    }
    return 0;
}
