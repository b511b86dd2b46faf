/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "text/images.h"
#include "text/sequence.h"

/*
 * One step: the token drawn last (`pending`, not yet in the state) and a draft of what may follow
 * go through the model in one pass; each row of logits is drawn from as if it stood alone. As long
 * as the drawn token is the drafted one, the next row is valid too. What was fed beyond that is
 * undone. Rows do not depend on the size of the pass, and the sampler draws once for each token in
 * order, so drafts change the number of passes and nothing else.
 */

#define DRAFT_MAX   (GENERATION_STEP_MAX - 1)
#define NGRAM_MIN   2
#define NGRAM_MAX   4
#define BACKOFF_MAX 6 /* 2^6 passes without a draft after that many misses in a row */

struct generation {
    struct sequence *sequence;
    struct generation_options options;
    struct sampler *sampler;
    float *logits;    /* [V], for the first token */
    size_t n_ids;     /* of the tokenizer: those above are padding */
    uint32_t pending; /* drawn, not yet in the state; TOKEN_NONE before the first */
    size_t n_new;
    enum generation_stop stop;
    /* drafting */
    size_t n_draft_next; /* length to try */
    unsigned misses;     /* drafts in a row of which nothing was right */
    size_t n_wait;       /* passes to go without a draft */
    double log_certainty; /* sum over the tokens */
    struct generation_stats stats;
};

struct generation *generation_new(struct sequence *sequence, const float *logits,
                                  const struct generation_options *options, struct error *err)
{
    const size_t n_vocab = sequence->lm->model->hparams.n_vocab;
    /* Rows above the tokenizer's ids are padding, and masks do not reach there. */
    const size_t n_ids = MIN(n_vocab, tokenizer_n_vocab(sequence->lm->tokenizer));
    const size_t n_seen = MIN(sequence->n, (size_t)SAMPLER_PENALTY_WINDOW);
    struct generation *generation = calloc(1, sizeof(*generation));

    if (!generation) {
        error_set(err, ERROR_NO_MEMORY, "Cannot take memory for a reply.");
        return NULL;
    }
    generation->sequence = sequence;
    generation->options = *options;
    generation->pending = TOKEN_NONE;
    generation->n_draft_next = 3;
    generation->n_ids = n_ids;
    generation->sampler = sampler_new(n_ids, &options->sampling, err);
    if (!generation->sampler)
        return generation_free(generation);
    generation->logits = malloc(n_vocab * sizeof(float));
    if (!generation->logits) {
        error_set(err, ERROR_NO_MEMORY, "Cannot take memory for a reply.");
        return generation_free(generation);
    }
    memcpy(generation->logits, logits, n_vocab * sizeof(float));
    for (size_t i = sequence->n - n_seen; i < sequence->n; i++)
        sampler_accept(generation->sampler, sequence->ids[i]);
    if (options->n_max == 0)
        generation->stop = GENERATION_LENGTH;
    return generation;
}

struct generation *generation_free(struct generation *generation)
{
    if (!generation)
        return NULL;
    sampler_free(generation->sampler);
    free(generation->logits);
    free(generation);
    return NULL;
}

/* The logarithm of the probability of the most likely id; 0 where no logit is finite. */
static double log_top_probability(const float *logits, size_t n)
{
    float top = -INFINITY;
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        top = fmaxf(top, logits[i]); /* not NaN */
    if (!isfinite(top))
        return 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)(isnan(logits[i]) ? 0 : expf(logits[i] - top));
    return -log(sum);
}

static uint32_t draw(struct generation *generation, float *logits)
{
    struct constraint *constraint = generation->options.constraint;
    uint32_t id;

    if (generation->options.measure)
        generation->log_certainty += log_top_probability(logits, generation->n_ids);
    id = sampler_draw(generation->sampler, logits,
                      constraint ? constraint_allowed(constraint) : NULL);
    sampler_accept(generation->sampler, id);
    if (constraint)
        constraint_accept(constraint, id);
    generation->pending = id;
    generation->n_new++;
    generation->stats.n_tokens++;
    if (!generation->options.ignore_end &&
        tokenizer_is_end(generation->sequence->lm->tokenizer, id))
        generation->stop = GENERATION_END;
    else if (generation->n_new == generation->options.n_max)
        generation->stop = GENERATION_LENGTH;
    return id;
}

/* Token i of the context: what is in the state, then the pending one. */
static uint32_t context_id(const struct generation *generation, size_t i)
{
    const struct sequence *sequence = generation->sequence;

    return i < sequence->n ? sequence->ids[i] : generation->pending;
}

/*
 * What followed the last tokens when they stood in the context before: the longest match of
 * NGRAM_MIN to NGRAM_MAX tokens, the latest among equals.
 */
static size_t find_draft(const struct generation *generation, uint32_t *draft, size_t n_max)
{
    const size_t n = generation->sequence->n + 1;
    size_t best = 0, best_length = NGRAM_MIN - 1, n_draft = 0;

    for (size_t end = n - 1; end >= NGRAM_MIN && best_length < NGRAM_MAX; end--) {
        size_t length = 0;

        while (length < NGRAM_MAX && length < end &&
               context_id(generation, end - 1 - length) == context_id(generation, n - 1 - length))
            length++;
        if (length > best_length) {
            best_length = length;
            best = end;
        }
    }
    if (best == 0)
        return 0;
    while (n_draft < n_max && best + n_draft < n) {
        const uint32_t id = context_id(generation, best + n_draft);

        if (is_row_id(id)) /* no reply has one */
            break;
        draft[n_draft++] = id;
    }
    return n_draft;
}

static size_t draft(struct generation *generation, uint32_t *ids, size_t n_room)
{
    const struct generation_options *options = &generation->options;
    size_t n = MIN(generation->n_draft_next, n_room);

    if (!options->speculate)
        return 0;
    if (generation->n_wait > 0) {
        generation->n_wait--;
        return 0;
    }
    /* The pass itself brings one token, so that a draft of the last one is wasted. */
    n = MIN(n, options->n_max - generation->n_new - 1);
    if (n > 0 && options->constraint) {
        const size_t n_guess = constraint_guess(options->constraint, ids, n);

        /* What must come is a better draft than what came before. */
        return n_guess > 0 ? n_guess
                           : constraint_check(options->constraint, ids,
                                              find_draft(generation, ids, n));
    }
    return n > 0 ? find_draft(generation, ids, n) : 0;
}

/* Longer drafts while they are right; ever longer pauses while they are wrong. */
static void learn(struct generation *generation, size_t n_drafted, size_t n_right)
{
    generation->stats.n_drafted += n_drafted;
    generation->stats.n_accepted += n_right;
    if (n_drafted == 0)
        return;
    if (n_right == 0) {
        generation->misses = MIN(generation->misses + 1, (unsigned)BACKOFF_MAX);
        generation->n_wait = (size_t)1 << generation->misses;
        generation->n_draft_next = 3;
    } else {
        generation->misses = 0;
        if (n_right == n_drafted)
            generation->n_draft_next = MIN(generation->n_draft_next * 2, (size_t)DRAFT_MAX);
        else
            generation->n_draft_next = MAX(n_right, (size_t)2);
    }
}

int generation_next(struct generation *generation, uint32_t ids[GENERATION_STEP_MAX],
                    const atomic_bool *cancel)
{
    struct sequence *sequence = generation->sequence;
    const size_t n_vocab = sequence->lm->model->hparams.n_vocab;
    uint32_t fed[GENERATION_STEP_MAX];
    size_t n_draft, n_right = 0, n_out = 0, n_room;
    float *logits;
    int r;

    if (generation->stop != GENERATION_GOING)
        return 0;
    if (generation->pending == TOKEN_NONE) {
        ids[0] = draw(generation, generation->logits);
        return 1;
    }

    n_room = sequence->n_context - sequence->n;
    if (n_room == 0) {
        generation->stop = GENERATION_CONTEXT;
        return 0;
    }
    fed[0] = generation->pending;
    n_draft = draft(generation, fed + 1, MIN(n_room - 1, (size_t)DRAFT_MAX));
    r = sequence_step(sequence, fed, 1 + n_draft, NULL, 1 + n_draft, cancel, &logits);
    if (r < 0)
        return r;
    generation->stats.n_passes++;

    for (;;) {
        const uint32_t id = draw(generation, logits + n_right * n_vocab);

        ids[n_out++] = id;
        if (generation->stop != GENERATION_GOING || n_right == n_draft || id != fed[1 + n_right])
            break;
        n_right++;
    }
    if (n_draft > n_right)
        sequence_undo(sequence, n_draft - n_right);
    learn(generation, n_draft, n_right);
    return (int)n_out;
}

enum generation_stop generation_stopped(const struct generation *generation)
{
    return generation->stop;
}

struct generation_stats generation_stats(const struct generation *generation)
{
    struct generation_stats stats = generation->stats;

    stats.certainty =
        stats.n_tokens > 0 ? exp(generation->log_certainty / (double)stats.n_tokens) : 1;
    return stats;
}
