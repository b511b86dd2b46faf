/* SPDX-License-Identifier: MIT */
/*
 * generate: tokens after tokens, through the same sequence and sampler that a session uses; and
 * what vl-generate shares with it.
 */

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "text/images.h"
#include "tools/run.h"

/* A real number within [low, high]; *ret keeps its value when the option is absent. */
static int read_real(const struct run_options *options, const char *name, float low, float high,
                     float *ret, struct error *err)
{
    const char *text = run_value(options, name);
    float value;
    char *end;

    if (!text)
        return 0;
    value = strtof(text, &end);
    if (end == text || *end || !(value >= low && value <= high))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "--%s: expected a number from %g to %g, found \"%s\".", name, (double)low,
                         (double)high, text);
    *ret = value;
    return 0;
}

int run_generation_options(const struct run_options *options, struct generation_options *ret,
                           struct error *err)
{
    struct sampling *sampling = &ret->sampling;
    uint64_t n = 0, top_k = 0;
    const char *text;
    int r;

    *ret = (struct generation_options){
        .sampling = SAMPLING_GREEDY,
        .ignore_end = run_flag(options, "ignore-eos"),
    };
    r = run_need(options, "n", &text, err);
    if (r < 0)
        return r;
    r = run_number(options, "n", 0, LFM2_CONTEXT_MAX, &n, err);
    if (r < 0)
        return r;
    r = read_real(options, "temp", 0, 100, &sampling->temperature, err);
    if (r < 0)
        return r;
    r = read_real(options, "min-p", 0, 1, &sampling->min_p, err);
    if (r < 0)
        return r;
    r = run_number(options, "top-k", 0, UINT32_MAX, &top_k, err);
    if (r < 0)
        return r;
    r = run_number(options, "seed", 0, UINT64_MAX, &sampling->seed, err);
    if (r < 0)
        return r;
    sampling->top_k = (uint32_t)top_k;
    ret->n_max = (size_t)n;
    return sampling_check(sampling, err);
}

int run_feed(struct sequence *sequence, const uint32_t *ids, size_t n,
             const float *const *given, float **ret_logits, struct error *err)
{
    for (size_t done = 0, end; done < n; done = end) {
        int r;

        end = MIN(n, done + sequence_n_rows_max(sequence));
        r = sequence_feed_rows(sequence, ids + done, end - done, given, NULL, ret_logits);
        if (r < 0)
            return error_set(err, ERROR_INTERNAL, "The prompt does not fit into its context.");
        for (size_t i = done; i < end && given; i++)
            given += is_row_id(ids[i]);
    }
    return 0;
}

static void generationp(struct generation **generation)
{
    generation_free(*generation);
}

int run_generate_ids(struct sequence *sequence, const float *logits,
                     const struct generation_options *options, struct error *err)
{
    _cleanup_(generationp) struct generation *generation =
        generation_new(sequence, logits, options, err);
    _cleanup_(token_list_done) struct token_list list = {0};
    uint32_t new_ids[GENERATION_STEP_MAX];
    int r;

    if (!generation)
        return -EINVAL;
    while ((r = generation_next(generation, new_ids, NULL)) > 0)
        for (int i = 0; i < r; i++)
            if (token_list_push(&list, new_ids[i]) < 0)
                return error_set(err, ERROR_NO_MEMORY, "There is no memory for the ids.");
    return r < 0 ? r : run_print_ids(list.ids, list.n, err);
}

struct generator {
    struct pool *pool;
    struct lm *lm;
    struct sequence *sequence;
};

static void generator_done(struct generator *generator)
{
    sequence_free(generator->sequence);
    lm_free(generator->lm);
    pool_free(generator->pool);
}

static int run_generate(const struct run_options *options, struct error *err)
{
    _cleanup_(generator_done) struct generator generator = {0};
    _cleanup_(freep) uint32_t *ids = NULL;
    struct generation_options generation;
    const char *path;
    float *logits;
    size_t n;
    int r;

    r = run_need(options, "model", &path, err);
    if (r < 0)
        return r;
    r = run_generation_options(options, &generation, err);
    if (r < 0)
        return r;
    generator.pool = pool_new(options->n_threads, err);
    if (!generator.pool)
        return -EINVAL;
    generator.lm = lm_load(path, run_flag(options, "precise"), generator.pool, err);
    if (!generator.lm)
        return -EINVAL;
    r = run_ids(options, generator.lm->model->hparams.n_vocab, &ids, &n, err);
    if (r < 0)
        return r;
    if (n == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--ids: expected at least one id.");
    generator.sequence = sequence_new(generator.lm, n + generation.n_max, options->kv, err);
    if (!generator.sequence)
        return -EINVAL;
    r = run_feed(generator.sequence, ids, n, NULL, &logits, err);
    if (r < 0)
        return r;
    return run_generate_ids(generator.sequence, logits, &generation, err);
}

const struct run_verb run_generate_verbs[] = {
    {"generate", "ids= " RUN_GENERATION_OPTIONS, run_generate},
    {NULL, NULL, NULL},
};
