/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Retrieval models: token ids -> L2-normalised vectors (ColBERT: one for each token).
 *
 * Threads: engine thread.
 * Source: text.md section 12.
 */

#include "text/lm.h"

/* Width of the vectors: dense_2's rows, or H without it. */
size_t embed_dim(const struct lm *lm);

/* out: [n][embed_dim], rows of length 1. n is at most lm->n_rows_max. */
int embed_tokens(struct lm *lm, const uint32_t *ids, size_t n, float *out, struct error *err);
