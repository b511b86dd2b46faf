/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The rows of a clip to the words that were spoken in it: one short sequence, prompt, greedy text.
 *
 *     recognition_begin -> recognition_step ... until 1 -> recognition_text
 *
 * Threads: engine thread.
 * Source: audio.md 3.1 ("Perform ASR.")
 */

#include "text/lm.h"

#define RECOGNITION_CONTEXT 1024 /* tokens: the rows of a clip, the prompt around them, its text */
#define RECOGNITION_SLICE   64   /* rows of a step: a voice that has to speak waits for them */

struct recognition;

/* sequence: borrowed, of that lm; nobody else uses it. */
struct recognition *recognition_new(struct lm *lm, struct sequence *sequence, struct error *err);
struct recognition *recognition_free(struct recognition *recognition); /* accepts NULL */

/*
 * rows:    [n_rows][H], borrowed until the last step
 * key:     what the rows come from (text/row_id.h)
 * n_slice: rows or tokens of a step at most
 */
int recognition_begin(struct recognition *recognition, const float *rows, size_t n_rows,
                      const uint64_t key[2], size_t n_slice, struct error *err);

/* Some work. 1: all of the text is there; 0: go on; -ECANCELED: go on, if at all; else a
 * sentence. */
int recognition_step(struct recognition *recognition, const atomic_bool *cancel,
                     struct error *err);

/*
 * How many of the ids are left when a phrase that repeats itself at the end (at most 16 tokens,
 * four times or more, 12 tokens at least) is said once; n: nothing repeats itself. Greedy text of a
 * clip that was not understood falls into such loops; there recognition ends.
 */
size_t recognition_loop(const uint32_t *ids, size_t n);

/* What was recognised so far; without white space around it once all is there. */
const char *recognition_text(const struct recognition *recognition);
