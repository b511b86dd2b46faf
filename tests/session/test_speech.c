/* SPDX-License-Identifier: MIT */

/*
 * Proves replies in words and sound on the reference's runs: the hidden row of every step, the text
 * logits, and tokens and frames under greedy decoding.
 */

#include "base/cleanup.h"
#include "session/speech.h"
#include "tests/audio/reference.h"
#include "text/row_id.h"

#define HIDDEN_MAX 5e-4
#define LOGITS_MAX 1e-3

struct models {
    struct pool *pool;
    struct lm *lm;
    struct depthformer *depthformer;
};

static int load(void **state)
{
    static struct models models;
    struct error err = ERROR_INIT;

    models.pool = reference_pool(2);
    if (fixture_path("audio/gen/index.json")) {
        models.lm = lm_load(fixture_path("audio/lm.f16.gguf"), true, models.pool, &err);
        models.depthformer =
            depthformer_load(fixture_path("audio/vocoder.f16.gguf"), true, models.pool, &err);
        if (!models.lm || !models.depthformer)
            fail_msg("%s", err.text);
    }
    *state = &models;
    return 0;
}

static int unload(void **state)
{
    struct models *models = *state;

    depthformer_free(models->depthformer);
    lm_free(models->lm);
    pool_free(models->pool);
    return 0;
}

static size_t rows_of(struct json_object *entry)
{
    return (size_t)json_object_get_int(
        json_object_array_get_idx(golden_get(entry, "shape"), 0));
}

/* A sequence after the rows of the prompt, as the reference has them. */
static struct sequence *fed_prompt(struct models *models, struct json_object *run,
                                   const float **ret_hidden)
{
    struct json_object *entry = golden_get(run, "prefill_embeddings");
    const size_t n = rows_of(entry), width = models->lm->model->hparams.n_embd;
    _cleanup_(freep) float *rows = reference_floats(entry, n * width);
    struct sequence *sequence = sequence_new(models->lm, 1024, KV_F32, NULL);

    assert_non_null(sequence);
    for (size_t i = 0; i < n; i++) {
        const float *row = rows + i * width;
        const uint32_t id = ROW_ID | (uint32_t)i;

        assert_int_equal(sequence_feed_hidden(sequence, &id, 1, &row, NULL, ret_hidden), 0);
    }
    return sequence;
}

/* Along the reference's own events. */
static void check_rows(struct models *models, const char *name, struct json_object *run)
{
    struct json_object *events = golden_get(run, "events");
    struct json_object *hidden_of = golden_get(run, "hidden_per_step");
    struct json_object *logits_of = golden_get(run, "text_logits_first");
    const size_t n_vocab = models->lm->model->hparams.n_vocab;
    const size_t width = models->lm->model->hparams.n_embd;
    const size_t n = rows_of(hidden_of), n_logits = rows_of(logits_of);
    _cleanup_(freep) float *expected = reference_floats(hidden_of, n * width);
    _cleanup_(freep) float *logits = reference_floats(logits_of, n_logits * n_vocab);
    const float *hidden;
    struct sequence *sequence = fed_prompt(models, run, &hidden);
    size_t n_text = 0;

    for (size_t i = 0; i < n; i++) {
        struct json_object *event = json_object_array_get_idx(events, i);
        _cleanup_(freep) float *frame = malloc(width * sizeof(*frame));
        const float *row = frame;
        int32_t codes[CODEBOOKS];
        uint32_t id;

        golden_close(name, hidden, expected + i * width, width, HIDDEN_MAX);
        if (i == json_object_array_length(events))
            break; /* the end of an interleaved reply is a step without an event */
        if (json_object_array_length(event) == 1) {
            if (n_text < n_logits)
                golden_close(name, lm_logits(models->lm, hidden), logits + n_text++ * n_vocab,
                             n_vocab, LOGITS_MAX);
            id = (uint32_t)json_object_get_int(json_object_array_get_idx(event, 0));
        } else {
            reference_codes(event, codes);
            depthformer_code_row(models->depthformer, codes, frame);
            id = speech_frame_id(codes);
        }
        assert_int_equal(sequence_feed_hidden(sequence, &id, 1, &row, NULL, &hidden), 0);
    }
    assert_true(n_text == n_logits);
    sequence_free(sequence);
}

static void check_events(struct models *models, const char *name, struct json_object *run)
{
    struct json_object *events = golden_get(run, "events");
    const struct speech_options options = {
        .kind = strcmp(golden_str(run, "mode"), "sequential") == 0 ? MODES_SEQUENTIAL
                                                                   : MODES_INTERLEAVED,
        .n_max = (size_t)json_object_get_int(golden_get(run, "max_new_tokens")),
        .text = SAMPLING_GREEDY,
        .audio = SAMPLING_GREEDY,
    };
    const float *hidden;
    struct sequence *sequence = fed_prompt(models, run, &hidden);
    struct speech *speech = speech_new(sequence, models->lm, models->depthformer, &options, hidden,
                                       NULL);
    struct speech_event event;
    size_t n = 0;

    assert_non_null(speech);
    for (; speech_next(speech, NULL, &event) > 0; n++) {
        struct json_object *expected = json_object_array_get_idx(events, n);
        int32_t codes[CODEBOOKS];

        if (!expected || event.is_frame != (json_object_array_length(expected) == CODEBOOKS))
            fail_msg("%s: event %zu is of the wrong kind", name, n);
        if (event.is_frame) {
            reference_codes(expected, codes);
            assert_memory_equal(event.codes, codes, sizeof(codes));
            assert_int_equal(event.heard, codes[0] != 2048);
        } else {
            assert_int_equal(event.id,
                             json_object_get_int(json_object_array_get_idx(expected, 0)));
        }
    }
    assert_int_equal(n, json_object_array_length(events));
    speech_free(speech);
    sequence_free(sequence);
}

static void test_runs_of_the_reference(void **state)
{
    struct json_object *runs;

    if (!fixture_path("audio/gen/index.json"))
        skip();
    runs = golden_json(fixture_path("audio/gen/index.json"));
    assert_true(json_object_object_length(runs) > 0);
    json_object_object_foreach(runs, name, run)
    {
        check_rows(*state, name, run);
        check_events(*state, name, run);
    }
    json_object_put(runs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_of_the_reference),
    };

    return cmocka_run_group_tests(tests, load, unload);
}
