/* SPDX-License-Identifier: MIT */
#include "text/sampler.h"

#include <assert.h>
#include <float.h>
#include <math.h>

#include "base/cleanup.h"

struct candidate {
    float logit;
    uint32_t id;
};

struct sampler {
    struct sampling sampling;
    size_t n_vocab;
    uint64_t random;
    uint32_t window[SAMPLER_PENALTY_WINDOW]; /* ring of the last ids */
    size_t n_accepted;
    struct candidate *candidates; /* [n_vocab] */
};

static int check_range(const char *name, double value, double low, double high, bool low_is_in,
                       struct error *err)
{
    if (value <= high && (low_is_in ? value >= low : value > low))
        return 0; /* false for NaN */
    return error_set(err, ERROR_INVALID_ARGUMENT,
                     "The sampling value %s is %g, but must be %s %g and at most %g.", name, value,
                     low_is_in ? "at least" : "above", low, high);
}

int sampling_check(const struct sampling *sampling, struct error *err)
{
    int r = check_range("temperature", (double)sampling->temperature, 0, 100, true, err);

    if (r == 0)
        r = check_range("top_p", (double)sampling->top_p, 0, 1, false, err);
    if (r == 0)
        r = check_range("min_p", (double)sampling->min_p, 0, 1, true, err);
    if (r == 0)
        r = check_range("repetition_penalty", (double)sampling->repetition_penalty, 0, 100, false,
                        err);
    if (r == 0)
        r = check_range("presence_penalty", (double)sampling->presence_penalty, -100, 100, true,
                        err);
    return r;
}

struct sampler *sampler_new(size_t n_vocab, const struct sampling *sampling, struct error *err)
{
    struct sampler *sampler;

    assert(n_vocab > 0);
    if (sampling_check(sampling, err) < 0)
        return NULL;

    sampler = calloc(1, sizeof(*sampler));
    if (sampler)
        sampler->candidates = calloc(n_vocab, sizeof(*sampler->candidates));
    if (!sampler || !sampler->candidates) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for a sampler of %zu tokens.", n_vocab);
        return sampler_free(sampler);
    }
    sampler->sampling = *sampling;
    sampler->n_vocab = n_vocab;
    sampler->random = sampling->seed;
    return sampler;
}

struct sampler *sampler_free(struct sampler *sampler)
{
    if (sampler)
        free(sampler->candidates);
    free(sampler);
    return NULL;
}

void sampler_accept(struct sampler *sampler, uint32_t id)
{
    sampler->window[sampler->n_accepted++ % SAMPLER_PENALTY_WINDOW] = id;
}

/* --- penalties -------------------------------------------------------------------------------- */

static bool occurs(const uint32_t *ids, size_t n, uint32_t id)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == id)
            return true;
    }
    return false;
}

static void penalise(const struct sampler *sampler, float *logits)
{
    const float repetition = sampler->sampling.repetition_penalty;
    const float presence = sampler->sampling.presence_penalty;
    const size_t n = MIN(sampler->n_accepted, (size_t)SAMPLER_PENALTY_WINDOW);

    if (repetition == 1 && presence == 0)
        return;
    for (size_t i = 0; i < n; i++) {
        const uint32_t id = sampler->window[i];

        if (id >= sampler->n_vocab || occurs(sampler->window, i, id))
            continue; /* once for each id */
        logits[id] = logits[id] > 0 ? logits[id] / repetition : logits[id] * repetition;
        logits[id] -= presence;
    }
}

/* --- candidates ------------------------------------------------------------------------------- */

static bool is_allowed(const uint8_t *allowed, size_t id)
{
    return !allowed || (allowed[id / 8] >> id % 8 & 1);
}

static uint32_t lowest_allowed(const uint8_t *allowed, size_t n_vocab)
{
    size_t id = 0;

    while (id < n_vocab && !is_allowed(allowed, id))
        id++;
    assert(id < n_vocab);
    return (uint32_t)id;
}

static uint32_t arg_max(const float *logits, size_t n_vocab, const uint8_t *allowed)
{
    uint32_t best = UINT32_MAX;
    float highest = -INFINITY;

    for (size_t id = 0; id < n_vocab; id++) {
        if (logits[id] > highest && is_allowed(allowed, id)) { /* false for NaN */
            highest = logits[id];
            best = (uint32_t)id;
        }
    }
    return best == UINT32_MAX ? lowest_allowed(allowed, n_vocab) : best;
}

/* Allowed ids whose logit is above minus infinity, in order of id. */
static size_t collect(const float *logits, size_t n_vocab, const uint8_t *allowed,
                      struct candidate *out)
{
    size_t n = 0;

    for (size_t id = 0; id < n_vocab; id++) {
        if (logits[id] > -INFINITY && is_allowed(allowed, id)) {
            out[n].logit = logits[id] < HUGE_VALF ? logits[id] : FLT_MAX;
            out[n++].id = (uint32_t)id;
        }
    }
    return n;
}

static bool is_before(const struct candidate *a, const struct candidate *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

/* Let heap[at] sink to its place. The top of the heap is its first candidate, or its last one. */
static void sift(struct candidate *heap, size_t n, size_t at, bool first_on_top)
{
    const struct candidate moved = heap[at];

    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && is_before(&heap[child + 1], &heap[child]) == first_on_top)
            child++;
        if (is_before(&heap[child], &moved) != first_on_top)
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

static void heapify(struct candidate *heap, size_t n, bool first_on_top)
{
    for (size_t i = n / 2; i-- > 0;)
        sift(heap, n, i, first_on_top);
}

/* --- filters: each keeps a prefix of the sorted candidates ------------------------------------ */

static size_t keep_top_k(struct candidate *candidates, size_t n, size_t k)
{
    if (k == 0 || k >= n)
        return n;
    heapify(candidates, k, false);
    for (size_t i = k; i < n; i++) {
        if (is_before(&candidates[i], &candidates[0])) {
            candidates[0] = candidates[i];
            sift(candidates, k, 0, false);
        }
    }
    return k;
}

/* The same with all candidates that equal the last one kept. logits: what they were collected
 * from. */
static size_t keep_top_k_ties(struct candidate *candidates, size_t n, size_t k, const float *logits,
                              size_t n_vocab, const uint8_t *allowed)
{
    float lowest;
    size_t kept = 0;

    if (keep_top_k(candidates, n, k) == n)
        return n;
    lowest = candidates[0].logit; /* the top of a heap whose last is on top */
    n = collect(logits, n_vocab, allowed, candidates);
    for (size_t i = 0; i < n; i++) {
        if (candidates[i].logit >= lowest)
            candidates[kept++] = candidates[i];
    }
    return kept;
}

/* The fewest first candidates that hold the probability p together. They end up at the end. */
static size_t keep_top_p(struct candidate *candidates, size_t n, double p, float highest)
{
    double total = 0, sum = 0;
    size_t left = n;

    for (size_t i = 0; i < n; i++)
        total += exp((double)candidates[i].logit - (double)highest);

    heapify(candidates, n, true);
    while (left > 0 && sum < p * total) {
        const struct candidate first = candidates[0];

        sum += exp((double)first.logit - (double)highest);
        candidates[0] = candidates[--left];
        sift(candidates, left, 0, true);
        candidates[left] = first;
    }
    return n - left;
}

static size_t keep_min_p(struct candidate *candidates, size_t n, double min_p, float highest)
{
    const double lowest = (double)highest + log(min_p);
    size_t kept = 0;

    for (size_t i = 0; i < n; i++) {
        if ((double)candidates[i].logit >= lowest)
            candidates[kept++] = candidates[i];
    }
    return kept;
}

/* --- draw ------------------------------------------------------------------------------------- */

/* SplitMix64, its upper 53 bits: uniform in [0, 1). */
static double random_uniform(struct sampler *sampler)
{
    uint64_t z = sampler->random += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}

static uint32_t draw(const struct candidate *candidates, size_t n, double temperature,
                     float highest, double uniform)
{
    double total = 0, sum = 0;
    uint32_t id = candidates[0].id;

    for (size_t i = 0; i < n; i++)
        total += exp(((double)candidates[i].logit - (double)highest) / temperature);
    for (size_t i = 0; i < n; i++) {
        const double weight = exp(((double)candidates[i].logit - (double)highest) / temperature);

        if (weight == 0)
            continue;
        id = candidates[i].id;
        sum += weight;
        if (uniform * total < sum)
            break;
    }
    return id;
}

uint32_t sampler_draw(struct sampler *sampler, float *logits, const uint8_t *allowed)
{
    const struct sampling *sampling = &sampler->sampling;
    struct candidate *candidates = sampler->candidates;
    float highest = -INFINITY;
    double uniform;
    size_t n;

    penalise(sampler, logits);
    if (sampling->temperature == 0)
        return arg_max(logits, sampler->n_vocab, allowed);

    uniform = random_uniform(sampler);
    n = collect(logits, sampler->n_vocab, allowed, candidates);
    if (n == 0)
        return lowest_allowed(allowed, sampler->n_vocab);
    for (size_t i = 0; i < n; i++)
        highest = MAX(highest, candidates[i].logit);

    n = sampling->top_k_ties ? keep_top_k_ties(candidates, n, sampling->top_k, logits,
                                               sampler->n_vocab, allowed)
                             : keep_top_k(candidates, n, sampling->top_k);
    if (sampling->top_p < 1) {
        const size_t kept = keep_top_p(candidates, n, (double)sampling->top_p, highest);

        candidates += n - kept;
        n = kept;
    }
    if (sampling->min_p > 0)
        n = keep_min_p(candidates, n, (double)sampling->min_p, highest);
    return draw(candidates, n, (double)sampling->temperature, highest, uniform);
}
