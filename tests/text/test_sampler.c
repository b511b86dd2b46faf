/* SPDX-License-Identifier: MIT */
/* Proves that draws follow the documented order of filters, by comparison of counts with the
 * probabilities of a plain implementation that sorts everything, and that no logits can make a draw
 * fail. Seeds are fixed, so the counts are too. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "tests/fixture.h"
#include "tests/golden.h"
#include "text/sampler.h"

#define N_VOCAB 200
#define N_DRAWS 20000

static uint64_t random_state;

static double random_uniform(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 33) / 2147483648.0;
}

static void random_logits(float *logits)
{
    for (size_t i = 0; i < N_VOCAB; i++)
        logits[i] = (float)floor(random_uniform() * 40 - 20) / 4; /* with ties */
}

struct entry {
    double logit;
    uint32_t id;
};

static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* probabilities[id], the plain way. */
static void expect(const struct sampling *sampling, const float *logits, const uint8_t *allowed,
                   const uint32_t *recent, size_t n_recent, double *probabilities)
{
    struct entry entries[N_VOCAB];
    size_t n = 0, kept;
    double total = 0, sum = 0;

    for (uint32_t id = 0; id < N_VOCAB; id++) {
        double logit = (double)logits[id];
        bool seen = false;

        for (size_t i = 0; i < n_recent; i++)
            seen |= recent[i] == id;
        if (seen) {
            logit = logit > 0 ? logit / (double)sampling->repetition_penalty
                              : logit * (double)sampling->repetition_penalty;
            logit -= (double)sampling->presence_penalty;
        }
        if (!allowed || allowed[id / 8] >> id % 8 & 1)
            entries[n++] = (struct entry){.logit = logit, .id = id};
    }
    qsort(entries, n, sizeof(entries[0]), compare_entries);
    if (sampling->top_k > 0) {
        kept = MIN(n, (size_t)sampling->top_k);
        while (sampling->top_k_ties && kept < n && entries[kept].logit == entries[kept - 1].logit)
            kept++;
        n = kept;
    }
    for (size_t i = 0; i < n; i++)
        total += exp(entries[i].logit);
    for (kept = 0; kept < n && sum < (double)sampling->top_p * total; kept++)
        sum += exp(entries[kept].logit);
    n = sampling->top_p < 1 ? kept : n;
    for (kept = 0; kept < n && exp(entries[kept].logit - entries[0].logit) >=
                                   (double)sampling->min_p * (1 - 1e-12);)
        kept++;
    total = 0;
    for (size_t i = 0; i < kept; i++)
        total += exp(entries[i].logit / (double)sampling->temperature);
    memset(probabilities, 0, N_VOCAB * sizeof(*probabilities));
    for (size_t i = 0; i < kept; i++)
        probabilities[entries[i].id] =
            exp(entries[i].logit / (double)sampling->temperature) / total;
}

static void check_count(size_t id, size_t count, double p)
{
    const double mean = p * N_DRAWS;

    if (p == 0)
        assert_int_equal(count, 0);
    if (fabs((double)count - mean) > 5 * sqrt(mean * (1 - p)) + 2)
        fail_msg("id %zu was drawn %zu times instead of %.1f", id, count, mean);
}

static void check_counts(const struct sampling *sampling, const float *logits,
                         const uint8_t *allowed, const uint32_t *recent, size_t n_recent)
{
    struct sampler *sampler = sampler_new(N_VOCAB, sampling, NULL);
    double probabilities[N_VOCAB];
    size_t counts[N_VOCAB] = {0};

    assert_non_null(sampler);
    expect(sampling, logits, allowed, recent, n_recent, probabilities);
    for (size_t i = 0; i < n_recent; i++)
        sampler_accept(sampler, recent[i]);
    for (size_t i = 0; i < N_DRAWS; i++) {
        float copy[N_VOCAB];
        uint32_t id;

        memcpy(copy, logits, sizeof(copy));
        id = sampler_draw(sampler, copy, allowed);
        assert_in_range(id, 0, N_VOCAB - 1);
        counts[id]++;
    }
    for (size_t id = 0; id < N_VOCAB; id++)
        check_count(id, counts[id], probabilities[id]);
    sampler_free(sampler);
}

static void test_draws_follow_the_filters(void **state)
{
    static const struct sampling cases[] = {
        {.temperature = 1, .top_p = 1, .repetition_penalty = 1},
        {.temperature = 0.3f, .top_p = 1, .min_p = 0.15f, .repetition_penalty = 1.05f},
        {.temperature = 0.1f, .top_k = 50, .top_p = 0.1f, .repetition_penalty = 1.05f},
        {.temperature = 2, .top_k = 7, .top_p = 1, .repetition_penalty = 1},
        {.temperature = 1, .top_k = 4, .top_k_ties = true, .top_p = 1, .repetition_penalty = 1},
        {.temperature = 0.8f, .top_k = 64, .top_k_ties = true, .top_p = 1, .repetition_penalty = 1},
        {.temperature = 1, .top_p = 0.9f, .repetition_penalty = 1.3f, .presence_penalty = 0.5f},
        {.temperature = 1.5f, .top_k = 20, .top_p = 0.8f, .min_p = 0.05f, .repetition_penalty = 1},
        {.temperature = 1, .top_k = 1, .top_p = 1, .repetition_penalty = 1},
        {.temperature = 1, .top_k = 1000, .top_p = 1, .min_p = 1, .repetition_penalty = 1},
    };
    const uint32_t recent[] = {3, 3, 17, 50, 120, 17};
    uint8_t allowed[N_VOCAB / 8];

    (void)state;
    random_state = 1;
    for (size_t i = 0; i < sizeof(allowed); i++)
        allowed[i] = (uint8_t)(random_uniform() * 256);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sampling sampling = cases[i];
        float logits[N_VOCAB];

        sampling.seed = i;
        random_logits(logits);
        check_counts(&sampling, logits, NULL, recent, ARRAY_LEN(recent));
        check_counts(&sampling, logits, allowed, NULL, 0);
    }
}

/* The file that a tensor of the audio reference is in. */
static const char *golden_audio(struct json_object *tensor)
{
    static char name[2][256];
    static unsigned next;
    char *out = name[next++ % 2];

    snprintf(out, sizeof(name[0]), "audio/%s", golden_str(tensor, "file"));
    return out;
}

/* Temperature and top-k of LFM2-Audio: what its probabilities say is what is drawn. */
static void test_draws_follow_the_reference(void **state)
{
    const char *path = fixture_path("audio/gen/sampling.json");
    struct json_object *cases;

    (void)state;
    if (!path)
        skip();
    cases = golden_json(path);
    for (size_t i = 0; i < json_object_array_length(cases); i++) {
        struct json_object *one = json_object_array_get_idx(cases, i);
        struct json_object *logits_of = golden_get(one, "logits");
        struct json_object *shape = golden_get(logits_of, "shape");
        const size_t n = (size_t)json_object_get_int(json_object_array_get_idx(shape, 0));
        _cleanup_(freep) float *logits =
            golden_floats(fixture_path(golden_audio(logits_of)), n);
        _cleanup_(freep) float *probabilities =
            golden_floats(fixture_path(golden_audio(golden_get(one, "probs"))), n);
        _cleanup_(freep) float *copy = malloc(n * sizeof(*copy));
        _cleanup_(freep) size_t *counts = calloc(n, sizeof(*counts));
        const struct sampling sampling = {
            .temperature = (float)json_object_get_double(golden_get(one, "temperature")),
            .top_k = (uint32_t)json_object_get_int(golden_get(one, "top_k")),
            .top_k_ties = true,
            .top_p = 1,
            .repetition_penalty = 1,
            .seed = i,
        };
        struct sampler *sampler = sampler_new(n, &sampling, NULL);

        assert_non_null(sampler);
        for (size_t k = 0; k < N_DRAWS; k++) {
            memcpy(copy, logits, n * sizeof(*copy));
            counts[sampler_draw(sampler, copy, NULL)]++;
        }
        for (size_t id = 0; id < n; id++)
            check_count(id, counts[id], (double)probabilities[id]);
        sampler_free(sampler);
    }
    json_object_put(cases);
}

static void test_greedy_is_the_lowest_id_of_the_largest_logit(void **state)
{
    const struct sampling greedy = SAMPLING_GREEDY;
    struct sampler *sampler = sampler_new(N_VOCAB, &greedy, NULL);
    uint8_t allowed[N_VOCAB / 8];

    (void)state;
    random_state = 2;
    for (size_t round = 0; round < 500; round++) {
        float logits[N_VOCAB];
        uint32_t best = 0, best_allowed = UINT32_MAX;

        random_logits(logits);
        for (size_t i = 0; i < sizeof(allowed); i++)
            allowed[i] = (uint8_t)(random_uniform() * 256);
        for (uint32_t id = 0; id < N_VOCAB; id++) {
            if (logits[id] > logits[best])
                best = id;
            if ((allowed[id / 8] >> id % 8 & 1) &&
                (best_allowed == UINT32_MAX || logits[id] > logits[best_allowed]))
                best_allowed = id;
        }
        assert_int_equal(sampler_draw(sampler, logits, NULL), best);
        assert_int_equal(sampler_draw(sampler, logits, allowed), best_allowed);
        sampler_accept(sampler, best); /* penalties are off */
    }
    sampler_free(sampler);
}

static void test_equal_seeds_draw_equal_tokens(void **state)
{
    const struct sampling sampling = {
        .temperature = 1, .top_p = 0.95f, .repetition_penalty = 1.1f, .seed = 42};
    struct sampling other = sampling;
    struct sampler *a, *b, *c;
    size_t differences = 0;

    (void)state;
    other.seed = 43;
    a = sampler_new(N_VOCAB, &sampling, NULL);
    b = sampler_new(N_VOCAB, &sampling, NULL);
    c = sampler_new(N_VOCAB, &other, NULL);
    random_state = 3;
    for (size_t i = 0; i < 200; i++) {
        float logits[3][N_VOCAB];
        uint32_t id;

        random_logits(logits[0]);
        memcpy(logits[1], logits[0], sizeof(logits[0]));
        memcpy(logits[2], logits[0], sizeof(logits[0]));
        id = sampler_draw(a, logits[0], NULL);
        assert_int_equal(sampler_draw(b, logits[1], NULL), id);
        differences += sampler_draw(c, logits[2], NULL) != id;
        sampler_accept(a, id);
        sampler_accept(b, id);
        sampler_accept(c, id);
    }
    assert_true(differences > 50);
    sampler_free(a);
    sampler_free(b);
    sampler_free(c);
}

static void test_only_the_last_64_ids_are_penalised(void **state)
{
    const struct sampling sampling = {.top_p = 1, .repetition_penalty = 1, .presence_penalty = 5};
    struct sampler *sampler = sampler_new(N_VOCAB, &sampling, NULL);
    float logits[N_VOCAB] = {[7] = 1};

    (void)state;
    sampler_accept(sampler, 7);
    sampler_accept(sampler, UINT32_MAX); /* not in the vocabulary */
    assert_int_equal(sampler_draw(sampler, logits, NULL), 0);
    for (size_t i = 0; i < SAMPLER_PENALTY_WINDOW; i++)
        sampler_accept(sampler, 100);
    memset(logits, 0, sizeof(logits));
    logits[7] = 1;
    assert_int_equal(sampler_draw(sampler, logits, NULL), 7);
    sampler_free(sampler);
}

static void test_no_logits_are_too_strange(void **state)
{
    static const float values[] = {NAN, INFINITY, -INFINITY, 0, 1e38f, -1e38f, 3.4e38f};
    static const struct sampling cases[] = {
        SAMPLING_GREEDY,
        {.temperature = 1, .top_p = 1, .repetition_penalty = 1},
        {.temperature = 1e-30f, .top_k = 5, .top_p = 0.5f, .min_p = 0.5f, .repetition_penalty = 9},
        {.temperature = 100, .top_p = 1e-9f, .repetition_penalty = 0.01f, .presence_penalty = -9},
    };
    uint8_t allowed[N_VOCAB / 8] = {0};

    (void)state;
    allowed[4] = 0x10; /* id 36 */
    allowed[9] = 0x02; /* id 73 */
    random_state = 4;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sampler *sampler = sampler_new(N_VOCAB, &cases[i], NULL);

        for (size_t round = 0; round < 300; round++) {
            const size_t n_values = round < 7 ? 1 : ARRAY_LEN(values);
            float logits[N_VOCAB];
            uint32_t id;

            for (size_t k = 0; k < N_VOCAB; k++)
                logits[k] = n_values == 1 ? values[round]
                                          : values[(size_t)(random_uniform() * (double)n_values)];
            id = sampler_draw(sampler, logits, allowed);
            assert_true(id == 36 || id == 73);
            if (n_values == 1 && round < 3 && round != 1)
                assert_int_equal(id, 36); /* nothing to choose by */
            sampler_accept(sampler, id);
            id = sampler_draw(sampler, logits, NULL);
            assert_in_range(id, 0, N_VOCAB - 1);
        }
        sampler_free(sampler);
    }
}

static void test_values_out_of_range_are_named(void **state)
{
    static const struct {
        struct sampling sampling;
        const char *name;
    } cases[] = {
        {{.temperature = -1, .top_p = 1, .repetition_penalty = 1}, "temperature"},
        {{.temperature = NAN, .top_p = 1, .repetition_penalty = 1}, "temperature"},
        {{.top_p = 0, .repetition_penalty = 1}, "top_p"},
        {{.top_p = 1.5f, .repetition_penalty = 1}, "top_p"},
        {{.top_p = 1, .min_p = -0.1f, .repetition_penalty = 1}, "min_p"},
        {{.top_p = 1, .repetition_penalty = 0}, "repetition_penalty"},
        {{.top_p = 1, .repetition_penalty = 1, .presence_penalty = INFINITY}, "presence_penalty"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = ERROR_INIT;

        assert_true(sampling_check(&cases[i].sampling, &err) < 0);
        assert_non_null(strstr(err.text, cases[i].name));
        assert_null(sampler_new(N_VOCAB, &cases[i].sampling, NULL));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draws_follow_the_filters),
        cmocka_unit_test(test_draws_follow_the_reference),
        cmocka_unit_test(test_greedy_is_the_lowest_id_of_the_largest_logit),
        cmocka_unit_test(test_equal_seeds_draw_equal_tokens),
        cmocka_unit_test(test_only_the_last_64_ids_are_penalised),
        cmocka_unit_test(test_no_logits_are_too_strange),
        cmocka_unit_test(test_values_out_of_range_are_named),
    };

    return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
