/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The forward pass: rows in, rows out. It knows no tokens, sounds or pixels.
 *
 *     x = x + (conv or attention)(rmsnorm(x));  x = x + (swiglu or moe)(rmsnorm(x));  final norm
 *
 * Prefill and decode are one function over T rows; a row's result is the same for every chunking.
 * Activations live in a workspace that is planned once for T_max rows and may serve many states
 * of the same model, one after the other.
 *
 * Threads: engine thread, which lends the pool.
 * Source: text.md sections 2 to 6 and 12.2 (bidirectional form).
 */

#include <stdatomic.h>

#include "lfm2/state.h"

struct lfm2_workspace;

/* How many rows a pass is best prepared for. */
size_t lfm2_workspace_rows(const struct lfm2_hparams *hparams);

size_t lfm2_workspace_plan(const struct lfm2_hparams *hparams, size_t n_rows_max);
struct lfm2_workspace *lfm2_workspace_new(const struct lfm2_model *model, size_t n_rows_max,
                                          struct error *err);
struct lfm2_workspace *lfm2_workspace_free(struct lfm2_workspace *workspace);

/* What tests look at. Members may be NULL. With a probe every row goes through every layer. */
struct lfm2_probe {
    void *userdata;
    /* x [n][H]: the residual stream after the layer */
    void (*layer)(void *userdata, unsigned layer, const float *x, size_t n);
    /* experts, weights [n][n_expert_used]: in descending score order, weights as applied */
    void (*router)(void *userdata, unsigned layer, const uint32_t *experts, const float *weights,
                   size_t n);
};

struct lfm2_job {
    const struct lfm2_model *model;
    struct lfm2_workspace *workspace;
    struct pool *pool;
    const atomic_bool *cancel;      /* polled between layers; may be NULL */
    const struct lfm2_probe *probe; /* may be NULL */
};

size_t lfm2_workspace_n_rows_max(const struct lfm2_workspace *workspace);

/* Rows of the token embedding: out [n][H]. Ids must be below n_vocab. */
void lfm2_embed(const struct lfm2_model *model, const uint32_t *ids, size_t n, float *out);

/*
 * x:      [n][H] input rows, n <= n_rows_max; overwritten
 * hidden: [n][H] output of the final norm, or NULL when only the state matters; only the last
 *         n_hidden rows are computed and written there
 * The model must be causal (a bidirectional one has no state to go on from).
 * Returns 0; -EOVERFLOW when the state is full (nothing is changed); -ECANCELED when cancelled (the
 * state is then as before the call).
 */
int lfm2_forward(const struct lfm2_job *job, struct lfm2_state *state, float *x, size_t n,
                 float *hidden, size_t n_hidden);

/*
 * A whole sequence without state, for bidirectional (or causal) retrieval models.
 *
 * x: [n][H], n <= n_rows_max, overwritten; hidden: [n][H]. Returns 0 or -ECANCELED.
 */
int lfm2_encode(const struct lfm2_job *job, float *x, size_t n, float *hidden);

/* hidden [n][H] -> out [n][dense_2.out]; the model must have dense_2. */
void lfm2_dense_2(const struct lfm2_job *job, const float *hidden, size_t n, float *out);

/* hidden [n][H] -> logits [n][V]. */
void lfm2_logits(const struct lfm2_job *job, const float *hidden, size_t n, float *logits);
