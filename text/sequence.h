/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A sequence from the inside: lm.c owns it, generate.c steps it.
 *
 * Threads: engine thread.
 */

#include "text/lm.h"

/* Positions to come back to: one for each turn that a user may go back over, and the prefix. */
#define SEQUENCE_MARKS_MAX 16

struct mark {
    size_t n;       /* tokens in the state when it was taken */
    void *snapshot; /* [lfm2_snapshot_bytes] */
};

struct sequence {
    struct lm *lm;
    struct lfm2_state *state;
    uint32_t *ids; /* [n_context], the first n are in the state */
    size_t n, n_context;
    struct mark marks[SEQUENCE_MARKS_MAX]; /* the first n_marks by rising n */
    size_t n_marks;
    struct arena arena; /* ids, snapshots */
    struct prefix_cache *cache;
};

/*
 * sequence_feed_rows() with lm->hidden [n_rows][H] of the last n_rows <= GENERATION_STEP_MAX tokens
 * and, unless ret_logits is NULL, their logits: *ret_logits [n_rows][V]. given may be NULL when no
 * id is a row id.
 */
int sequence_step(struct sequence *sequence, const uint32_t *ids, size_t n,
                  const float *const *given, size_t n_rows, const atomic_bool *cancel,
                  float **ret_logits);

/* Forget the last n <= LFM2_UNDO_MAX tokens, which must come from feeds since the last rewind. */
void sequence_undo(struct sequence *sequence, size_t n);

/* The longest entry of the cache that ids begin with, of more than n_above and less than n tokens,
 * goes into the state. Returns its tokens, or 0. */
size_t prefix_cache_restore(struct prefix_cache *cache, struct lfm2_state *state,
                            const uint32_t *ids, size_t n, size_t n_above);
void prefix_cache_store(struct prefix_cache *cache, const struct lfm2_state *state,
                        const uint32_t *ids, size_t n);
