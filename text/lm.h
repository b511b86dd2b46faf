/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A language model: backbone + vocabulary + chat form, and sequences that run on it.
 *
 *     lm_load -> sequence_new -> sequence_feed (prefill, in bounded slices) -> generation_next ...
 *
 * Threads: engine thread, except the const getters of a loaded lm.
 */

#include "lfm2/forward.h"
#include "text/chat.h"
#include "text/constraint.h"
#include "text/sampler.h"

#define GENERATION_STEP_MAX 8 /* tokens of one step of generation */

struct lm {
    struct lfm2_model *model;
    struct tokenizer *tokenizer;
    enum chat_form form;
    bool has_form;          /* false: the file has no chat template */
    struct error form_error; /* why not, when its template is unknown */
    struct lfm2_workspace *workspace;
    size_t n_rows_max; /* tokens that can be fed at once */
    struct pool *pool; /* borrowed */
    struct gguf *gguf; /* kept open only when precise */
    size_t memory_bytes;
    /* of one call at a time */
    struct arena arena;
    float *rows;   /* [n_rows_max][H] */
    float *hidden; /* [n_rows_max][H] */
    float *logits; /* [GENERATION_STEP_MAX][V] */
};

/* Bytes of memory that loading takes (weights, workspace), from the file's header alone. */
int lm_plan(const char *path, bool precise, size_t *ret_bytes, struct error *err);

struct lm *lm_load(const char *path, bool precise, struct pool *pool, struct error *err);
struct lm *lm_free(struct lm *lm);

/* --- sequence: the tokens so far and the state after them ------------------------------------ */

struct sequence;

/* Bytes of a sequence when all of its positions are in use. */
size_t sequence_plan(const struct lm *lm, size_t n_context, enum kv_type kv);

struct sequence *sequence_new(struct lm *lm, size_t n_context, enum kv_type kv, struct error *err);
struct sequence *sequence_free(struct sequence *sequence);

size_t sequence_n(const struct sequence *sequence); /* tokens in the state */
size_t sequence_n_context(const struct sequence *sequence);
size_t sequence_n_rows_max(const struct sequence *sequence); /* of its lm */
const uint32_t *sequence_ids(const struct sequence *sequence);

/*
 * Make the state hold the longest possible prefix of ids: by snapshots taken by sequence_mark(), by
 * undo of a few tokens, or by the prefix cache. Returns the number of tokens kept; the caller feeds
 * the rest. At least one token is always left to feed, so that there are logits.
 */
size_t sequence_rewind(struct sequence *sequence, const uint32_t *ids, size_t n);

/*
 * Feed 1 to n_rows_max tokens. *ret_logits (may be NULL) are those after the last token,
 * valid until the next call on this lm. Returns 0; -EINVAL for an id that the model does not have,
 * -EOVERFLOW, -ECANCELED: then the state is as before.
 */
int sequence_feed(struct sequence *sequence, const uint32_t *ids, size_t n,
                  const atomic_bool *cancel, float **ret_logits);

/*
 * The same where some of the ids are row ids (row_id.h): given has for each of them, in order, the
 * row [H] that it stands for. They are read during the call only.
 */
int sequence_feed_rows(struct sequence *sequence, const uint32_t *ids, size_t n,
                       const float *const *given, const atomic_bool *cancel, float **ret_logits);

/*
 * The same, but what comes back is the row of the last id after the final norm: *ret_hidden [H],
 * from which lm_logits() makes the logits where they are wanted. Both valid until the next call on
 * this lm.
 */
int sequence_feed_hidden(struct sequence *sequence, const uint32_t *ids, size_t n,
                         const float *const *given, const atomic_bool *cancel,
                         const float **ret_hidden);
float *lm_logits(struct lm *lm, const float *hidden);

/* Remember this position as one to come back to. The oldest marks go first when there are many. */
void sequence_mark(struct sequence *sequence);

/* --- prefix cache: prefixes shared by sequences of one model, by content, bounded by bytes ---- */

struct prefix_cache;

struct prefix_cache *prefix_cache_new(size_t bytes_max);
struct prefix_cache *prefix_cache_free(struct prefix_cache *cache);
/* Sequences of this cache look there in sequence_rewind(). NULL detaches. */
void sequence_use_cache(struct sequence *sequence, struct prefix_cache *cache);
/* Put the present state of the sequence into its cache. */
void sequence_publish(struct sequence *sequence);

/* --- generation ------------------------------------------------------------------------------- */

struct generation_options {
    struct sampling sampling;
    size_t n_max;                  /* new tokens at most */
    bool ignore_end;               /* end tokens do not stop */
    struct constraint *constraint; /* borrowed, or NULL */
    bool speculate;                /* n-gram drafts from the context: same tokens, fewer passes */
    bool measure;                  /* certainty, at the cost of an exponential for each id */
};

enum generation_stop {
    GENERATION_GOING,
    GENERATION_END,     /* end token, delivered as the last token */
    GENERATION_LENGTH,  /* n_max reached */
    GENERATION_CONTEXT, /* the context is full */
};

struct generation;

/* The sequence must have been fed; logits are those after its last token. */
struct generation *generation_new(struct sequence *sequence, const float *logits,
                                  const struct generation_options *options, struct error *err);
struct generation *generation_free(struct generation *generation);

/*
 * One pass over the weights; none for the first token, whose logits are there. ids gets the new
 * tokens (1, or more when a draft was right), at most GENERATION_STEP_MAX. The last one of them is
 * not in the sequence yet: the next step feeds it. Returns their number (0 once stopped), or
 * -ECANCELED: then nothing has changed and the step may be taken again.
 */
int generation_next(struct generation *generation, uint32_t ids[GENERATION_STEP_MAX],
                    const atomic_bool *cancel);
enum generation_stop generation_stopped(const struct generation *generation);

struct generation_stats {
    size_t n_tokens, n_passes, n_drafted, n_accepted;
    /* Where it is measured: the geometric mean, over the tokens, of the probability of what was
     * most likely; 1 before the first. */
    double certainty;
};
struct generation_stats generation_stats(const struct generation *generation);
