/* SPDX-License-Identifier: MIT */
/* Proves that drafts change the number of passes and never a token, for greedy and sampled replies,
 * with and without a constraint, on the project's own tiny models; that the state afterwards is the
 * one of the tokens; and that replies stop where they must. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "tests/fixture.h"
#include "tests/text/validate.h"
#include "text/lm.h"

#define N_CONTEXT 400

static struct pool *pool;
static struct lm *lm;

static const char *const models[] = {"tiny_dense_f32.gguf", "tiny_moe_f32.gguf"};

static void load(const char *name)
{
    struct error err = ERROR_INIT;
    const char *path = data_path(name);

    assert_non_null(path);
    lm = lm_load(path, false, pool, &err);
    if (!lm)
        fail_msg("%s", err.text);
}

static int make_pool(void **state)
{
    (void)state;
    pool = pool_new(2, NULL);
    return pool ? 0 : -1;
}

static int free_pool(void **state)
{
    (void)state;
    pool = pool_free(pool);
    return 0;
}

/* A prompt that repeats itself, so that there is something to look up. */
static size_t make_prompt(uint32_t *ids, size_t n)
{
    const size_t n_vocab = tokenizer_n_vocab(lm->tokenizer);

    for (size_t i = 0; i < n; i++)
        ids[i] = (uint32_t)(n_vocab - 1 - i % 12 * 17 % (n_vocab / 2));
    return n;
}

struct run {
    uint32_t ids[N_CONTEXT];
    size_t n;
    enum generation_stop stop;
    struct generation_stats stats;
};

static void run(const struct generation_options *options, size_t n_context, struct run *run)
{
    struct error err = ERROR_INIT;
    struct sequence *sequence = sequence_new(lm, n_context, KV_F32, &err);
    struct generation *generation;
    uint32_t prompt[60], ids[GENERATION_STEP_MAX];
    const size_t n_prompt = make_prompt(prompt, ARRAY_LEN(prompt));
    float *logits;
    int r;

    assert_non_null(sequence);
    assert_int_equal(sequence_feed(sequence, prompt, n_prompt, NULL, &logits), 0);
    if (options->constraint)
        constraint_reset(options->constraint);
    generation = generation_new(sequence, logits, options, &err);
    assert_non_null(generation);
    run->n = 0;
    while ((r = generation_next(generation, ids, NULL)) > 0) {
        assert_in_range(r, 1, GENERATION_STEP_MAX);
        assert_true(run->n + (size_t)r <= N_CONTEXT);
        memcpy(run->ids + run->n, ids, (size_t)r * sizeof(ids[0]));
        run->n += (size_t)r;
        /* All but the last token are in the state, and nothing else. */
        assert_int_equal(sequence_n(sequence), n_prompt + run->n - 1);
        assert_memory_equal(sequence_ids(sequence) + n_prompt, run->ids,
                            (run->n - 1) * sizeof(ids[0]));
    }
    assert_int_equal(r, 0);
    run->stop = generation_stopped(generation);
    run->stats = generation_stats(generation);
    assert_int_equal(run->stats.n_tokens, run->n);
    generation_free(generation);
    sequence_free(sequence);
}

/* The same reply with and without drafts; returns the drafted tokens that were right. */
static size_t compare(struct generation_options options, struct run *with)
{
    static struct run without;

    options.speculate = false;
    run(&options, N_CONTEXT, &without);
    assert_int_equal(without.stats.n_drafted, 0);
    options.speculate = true;
    run(&options, N_CONTEXT, with);
    assert_int_equal(with->n, without.n);
    assert_memory_equal(with->ids, without.ids, with->n * sizeof(with->ids[0]));
    assert_int_equal(with->stop, without.stop);
    assert_true(with->stats.n_passes <= without.stats.n_passes);
    assert_true(with->stats.n_accepted <= with->stats.n_drafted);
    return with->stats.n_accepted;
}

static void test_drafts_change_no_token(void **state)
{
    static struct run with;

    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        size_t n_right = 0;

        load(models[m]);
        for (uint64_t seed = 0; seed < 12; seed++) {
            struct generation_options options = {
                .sampling = {.temperature = seed == 0 ? 0 : 0.05f * (float)seed,
                             .top_k = seed % 3 ? 0 : 20,
                             .top_p = seed % 4 ? 1 : 0.8f,
                             .repetition_penalty = seed % 5 == 4 ? 1.1f : 1,
                             /* weights without training repeat themselves only when urged to */
                             .presence_penalty = seed % 2 ? -30 : 0,
                             .seed = seed},
                .n_max = 120,
                .ignore_end = true,
            };

            n_right += compare(options, &with);
            assert_int_equal(with.n, 120);
            assert_int_equal(with.stop, GENERATION_LENGTH);
        }
        assert_true(n_right > 0);
        lm = lm_free(lm);
    }
}

static void check_reply(const struct run *reply, struct json_object *schema, bool calls)
{
    char text[8192];
    size_t n = 0;
    struct json_object *value;

    for (size_t i = 0; i < reply->n; i++) {
        size_t length;
        const char *piece = tokenizer_piece(lm->tokenizer, reply->ids[i], &length);

        if (tokenizer_is_control(lm->tokenizer, reply->ids[i]))
            continue;
        assert_true(n + length < sizeof(text));
        memcpy(text + n, piece, length);
        n += length;
    }
    text[n] = '\0';
    value = calls ? read_calls(text) : json_tokener_parse(text);
    if (!value)
        fail_msg("%s cannot be read", text);
    if (!calls && !validate(schema, schema, value))
        fail_msg("%s is not valid", text);
    json_object_put(value);
}

static void test_constrained_replies_of_a_model_are_valid(void **state)
{
    struct json_object *schema = json_tokener_parse(
        "{\"type\":\"object\",\"properties\":{\"temperature\":{\"type\":\"integer\",\"minimum\":-"
        "40,"
        "\"maximum\":60},\"condition\":{\"enum\":[\"sunny\",\"cloudy\",\"raining\"]},\"place\":{"
        "\"type\":\"string\",\"maxLength\":12}},\"required\":[\"temperature\",\"condition\","
        "\"place\"]}");
    struct json_object *tools = json_tokener_parse(
        "[{\"name\":\"set_timer\",\"parameters\":{\"type\":\"object\",\"properties\":{\"minutes\":{"
        "\"type\":\"integer\",\"minimum\":1,\"maximum\":99}},\"required\":[\"minutes\"]}}]");
    static struct run with;
    size_t n_right = 0, n_ended = 0;

    (void)state;
    load(models[0]);
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct error err = ERROR_INIT;
        struct generation_options options = {
            .sampling = {.temperature = (float)(seed % 5), .top_p = 1, .repetition_penalty = 1,
                         .seed = seed},
            .n_max = 300,
        };

        options.constraint = seed < 5 ? constraint_answer(lm->tokenizer, schema, &err)
                                      : constraint_tools(lm->tokenizer, tools, true, &err);
        if (!options.constraint)
            fail_msg("%s", err.text);
        if (seed >= 5)
            options.n_max = 12; /* free text follows */
        n_right += compare(options, &with);
        if (seed < 5 && with.stop == GENERATION_END) {
            check_reply(&with, schema, false);
            n_ended++;
        }
        constraint_free(options.constraint);
    }
    assert_true(n_right > 0);
    assert_true(n_ended > 0);
    lm = lm_free(lm);
    json_object_put(schema);
    json_object_put(tools);
}

static void test_a_required_call_can_be_read(void **state)
{
    struct json_object *tools = json_tokener_parse("[{\"name\":\"f\"},{\"name\":\"go\"}]");
    struct error err = ERROR_INIT;
    struct generation_options options = {
        .sampling = {.temperature = 3, .top_p = 1, .repetition_penalty = 1}, .n_max = 60};
    static struct run with;
    size_t n_read = 0;

    (void)state;
    load(models[0]);
    options.constraint = constraint_tools(lm->tokenizer, tools, true, &err);
    assert_non_null(options.constraint);
    for (uint64_t seed = 0; seed < 8; seed++) {
        const uint32_t call_end = tokenizer_find(lm->tokenizer, "<|tool_call_end|>");

        options.sampling.seed = seed;
        compare(options, &with);
        assert_int_equal(with.ids[0], tokenizer_find(lm->tokenizer, "<|tool_call_start|>"));
        for (size_t i = 0; i < with.n; i++) {
            if (with.ids[i] == call_end) {
                with.n = i;
                check_reply(&with, NULL, true);
                n_read++;
            }
        }
    }
    assert_true(n_read > 0);
    constraint_free(options.constraint);
    lm = lm_free(lm);
    json_object_put(tools);
}

static void test_replies_stop_where_they_must(void **state)
{
    struct generation_options options = {
        .sampling = SAMPLING_GREEDY, .n_max = 200, .ignore_end = true, .speculate = true};
    static struct run reply;

    (void)state;
    load(models[0]);
    /* The last token does not need a place. */
    run(&options, 80, &reply);
    assert_int_equal(reply.stop, GENERATION_CONTEXT);
    assert_int_equal(reply.n, 80 - 60 + 1);
    options.n_max = 1;
    run(&options, N_CONTEXT, &reply);
    assert_int_equal(reply.stop, GENERATION_LENGTH);
    assert_int_equal(reply.n, 1);
    assert_int_equal(reply.stats.n_passes, 0);
    options.n_max = 0;
    run(&options, N_CONTEXT, &reply);
    assert_int_equal(reply.stop, GENERATION_LENGTH);
    assert_int_equal(reply.n, 0);
    lm = lm_free(lm);
}

static void test_a_cancelled_step_can_be_taken_again(void **state)
{
    const struct generation_options options = {
        .sampling = SAMPLING_GREEDY, .n_max = 20, .ignore_end = true, .speculate = true};
    struct sequence *sequence;
    struct generation *generation;
    static struct run expected;
    uint32_t prompt[60], ids[GENERATION_STEP_MAX];
    const atomic_bool cancel = true;
    float *logits;
    size_t n = 0;

    (void)state;
    load(models[0]);
    run(&options, N_CONTEXT, &expected);
    sequence = sequence_new(lm, N_CONTEXT, KV_F32, NULL);
    make_prompt(prompt, ARRAY_LEN(prompt));
    assert_int_equal(sequence_feed(sequence, prompt, ARRAY_LEN(prompt), NULL, &logits), 0);
    generation = generation_new(sequence, logits, &options, NULL);
    for (int r = 1; r > 0; n += (size_t)r) {
        if (n > 0 && generation_stopped(generation) == GENERATION_GOING) {
            assert_int_equal(generation_next(generation, ids, &cancel), -ECANCELED);
            assert_int_equal(sequence_n(sequence), 60 + n - 1);
        }
        r = generation_next(generation, ids, NULL);
        assert_true(r >= 0);
        assert_memory_equal(ids, expected.ids + n, (size_t)r * sizeof(ids[0]));
    }
    assert_int_equal(n, 20);
    generation_free(generation);
    sequence_free(sequence);
    lm = lm_free(lm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drafts_change_no_token),
        cmocka_unit_test(test_constrained_replies_of_a_model_are_valid),
        cmocka_unit_test(test_a_required_call_can_be_read),
        cmocka_unit_test(test_replies_stop_where_they_must),
        cmocka_unit_test(test_a_cancelled_step_can_be_taken_again),
    };

    return cmocka_run_group_tests_name("generate", tests, make_pool, free_pool);
}
