/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What one sequence remembers: KV cache of the attention layers, conv state of the others.
 *
 * The KV cache is addressable by position, the conv state is not: it is the last L-1 products B*x
 * of each conv layer, always f32. So going back means either
 *   undo       at most LFM2_UNDO_MAX tokens, from a ring of the last products (speculation), or
 *   snapshot   {n_past, conv state} taken at a reuse point (system prompt, end of a turn): KV rows
 *              below n_past are still in place, the snapshot brings the conv state back, or
 *   export     the same with the KV rows, for use in another state (shared prefixes, restarts).
 *
 * Memory: the KV cache is reserved for n_context positions and takes real pages only as positions
 * are used. Everything is allocated in lfm2_state_new().
 * Threads: engine thread.
 */

#include <stddef.h>
#include <stdint.h>

#include "lfm2/model.h"
#include "tensor/attend.h"

#define LFM2_UNDO_MAX    16
#define LFM2_CONTEXT_MAX ((size_t)1 << 24)

struct lfm2_state;

/* Bytes of a state at n_context positions, everything included. */
size_t lfm2_state_plan(const struct lfm2_hparams *hparams, size_t n_context, enum kv_type kv);

struct lfm2_state *lfm2_state_new(const struct lfm2_model *model, size_t n_context,
                                  enum kv_type kv, struct error *err);
struct lfm2_state *lfm2_state_free(struct lfm2_state *state);

size_t lfm2_state_n_past(const struct lfm2_state *state); /* without what is forgotten */
size_t lfm2_state_n_context(const struct lfm2_state *state);
void lfm2_state_reset(struct lfm2_state *state);

/* Forget the last n_tokens <= LFM2_UNDO_MAX; only tokens of forward calls since the last restore or
 * reset can be undone. Returns 0 or -ERANGE. */
int lfm2_state_undo(struct lfm2_state *state, size_t n_tokens);

/*
 * Forget rows that stand more than n_keep before the next one: a model with a window goes on for
 * ever in the same memory when n_keep is its window - 1. What is computed does not change by a bit;
 * up to KV_DROP_REST rows more may stay. Undo, snapshots and exports end here, until a reset.
 */
void lfm2_state_forget(struct lfm2_state *state, size_t n_keep);

size_t lfm2_snapshot_bytes(const struct lfm2_model *model);
void lfm2_snapshot_take(const struct lfm2_state *state, void *snapshot);
/* The KV rows below the snapshot's n_past must not have been overwritten since it was taken. */
void lfm2_snapshot_restore(struct lfm2_state *state, const void *snapshot);

/* Snapshot plus the KV rows [0, n_past). import returns -EINVAL when it is of another shape. */
size_t lfm2_export_bytes(const struct lfm2_state *state);
void lfm2_export(const struct lfm2_state *state, void *out);
int lfm2_import(struct lfm2_state *state, const void *data, size_t size);
