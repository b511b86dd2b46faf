/* SPDX-License-Identifier: MIT */

/*
 * Proves what a sequence remembers: undo, snapshot and export all lead to the bits of a run that
 * never went astray, for every cache format; what a window has passed is forgotten without a trace;
 * a full context and a cancelled pass change nothing; a damaged export and a mutated model file are
 * refused or harmless.
 */

#include <errno.h>

#include "lfm2/forward.h"
#include "tests/fixture.h"
#include "tests/golden.h"

#define N     40
#define WIDTH 192 /* of rows, at most */

struct engine {
    struct gguf *gguf;
    struct pool *pool;
    struct lfm2_model *model;
    struct lfm2_job job;
};

static const char *const models[] = {"tiny_dense_f32.gguf", "tiny_moe_f32.gguf"};

static struct engine engine_open(const char *name)
{
    struct error err = ERROR_INIT;
    struct engine engine = {.gguf = gguf_open(data_path(name), &err), .pool = pool_new(2, &err)};

    assert_non_null(engine.gguf);
    engine.model = lfm2_model_load(engine.gguf, false, engine.pool, &err);
    assert_non_null(engine.model);
    engine.job = (struct lfm2_job){
        .model = engine.model,
        .workspace = lfm2_workspace_new(engine.model, N, &err),
        .pool = engine.pool,
    };
    assert_non_null(engine.job.workspace);
    return engine;
}

static void engine_close(struct engine *engine)
{
    lfm2_workspace_free(engine->job.workspace);
    lfm2_model_free(engine->model);
    pool_free(engine->pool);
    gguf_free(engine->gguf);
}

static uint32_t id_at(size_t i)
{
    return (uint32_t)(7 + i * 31 % 250);
}

/* Feed n tokens from position `from` of a fixed text, or of another one; returns the result. */
static int feed(struct engine *engine, struct lfm2_state *state, size_t from, size_t n,
                size_t other, float *hidden)
{
    uint32_t ids[N];
    float x[N * WIDTH];

    assert_true(engine->model->hparams.n_embd <= WIDTH && n <= N);
    for (size_t i = 0; i < n; i++)
        ids[i] = id_at(from + i + other);
    lfm2_embed(engine->model, ids, n, x);
    return lfm2_forward(&engine->job, state, x, n, hidden, hidden ? 1 : 0);
}

/* The hidden state after N tokens, of a state that has n_past of them. */
static void check_end(struct engine *engine, struct lfm2_state *state, size_t n_past,
                      const float *expected, const char *what)
{
    float found[WIDTH];

    assert_int_equal(lfm2_state_n_past(state), n_past);
    assert_int_equal(feed(engine, state, n_past, N - n_past, 0, found), 0);
    golden_same(what, found, expected, engine->model->hparams.n_embd);
}

static void check_all(const char *name, enum kv_type kv)
{
    struct engine engine = engine_open(name);
    struct error err = ERROR_INIT;
    struct lfm2_state *state = lfm2_state_new(engine.model, 2 * N, kv, &err);
    struct lfm2_state *other = lfm2_state_new(engine.model, N, kv, &err);
    _cleanup_(freep) void *snapshot = malloc(lfm2_snapshot_bytes(engine.model));
    _cleanup_(freep) unsigned char *export = NULL;
    float expected[WIDTH];
    size_t size;

    assert_non_null(state);
    assert_non_null(other);
    assert_int_equal(feed(&engine, state, 0, N, 0, expected), 0);

    for (size_t n = 0; n <= LFM2_UNDO_MAX; n++) {
        lfm2_state_reset(state);
        assert_int_equal(feed(&engine, state, 0, 20, 0, NULL), 0);
        for (size_t i = 0; i < n; i++) /* astray, one token at a time */
            assert_int_equal(feed(&engine, state, 20 + i, 1, 99, NULL), 0);
        assert_int_equal(lfm2_state_undo(state, n), 0);
        check_end(&engine, state, 20, expected, "undo of single tokens");
    }
    lfm2_state_reset(state);
    assert_int_equal(feed(&engine, state, 0, N - 4, 0, NULL), 0); /* a long chunk */
    assert_int_equal(lfm2_state_undo(state, LFM2_UNDO_MAX + 1), -ERANGE);
    assert_int_equal(lfm2_state_undo(state, LFM2_UNDO_MAX), 0);
    assert_int_equal(lfm2_state_undo(state, 1), -ERANGE);
    check_end(&engine, state, N - 4 - LFM2_UNDO_MAX, expected, "undo in a long chunk");

    lfm2_state_reset(state);
    assert_int_equal(feed(&engine, state, 0, 17, 0, NULL), 0);
    lfm2_snapshot_take(state, snapshot);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(feed(&engine, state, 17 + i, 1, 50, NULL), 0);
    lfm2_snapshot_restore(state, snapshot);
    assert_int_equal(lfm2_state_undo(state, 1), -ERANGE);
    check_end(&engine, state, 17, expected, "snapshot");

    lfm2_snapshot_restore(state, snapshot);
    size = lfm2_export_bytes(state);
    export = malloc(size);
    lfm2_export(state, export);
    assert_int_equal(feed(&engine, other, 0, 30, 3, NULL), 0);
    assert_int_equal(lfm2_import(other, export, size - 1), -EINVAL);
    assert_int_equal(lfm2_import(other, export, 5), -EINVAL);
    export[8] ^= 1;
    assert_int_equal(lfm2_import(other, export, size), -EINVAL);
    export[8] ^= 1;
    assert_int_equal(lfm2_state_n_past(other), 30);
    assert_int_equal(lfm2_import(other, export, size), 0);
    check_end(&engine, other, 17, expected, "export");
    assert_int_equal(feed(&engine, other, N, 1, 0, NULL), -EOVERFLOW);
    assert_int_equal(lfm2_state_n_past(other), N);

    lfm2_state_free(state);
    lfm2_state_free(other);
    engine_close(&engine);
}

static void test_every_way_back_leads_to_the_same_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        check_all(models[i], KV_F32);
        check_all(models[i], KV_F16);
    }
    /* One whose last layers are convolutions, for which a prompt's rows end early. */
    check_all("../../models/lfmd-core-q8_0.gguf", KV_F16);
}

static void test_a_cancelled_pass_changes_nothing(void **unused)
{
    struct engine engine = engine_open("tiny_dense_f32.gguf");
    struct lfm2_state *state = lfm2_state_new(engine.model, N, KV_F32, NULL);
    atomic_bool cancel = true;
    float expected[64];

    (void)unused;
    assert_int_equal(feed(&engine, state, 0, N, 0, expected), 0);
    lfm2_state_reset(state);
    assert_int_equal(feed(&engine, state, 0, 10, 0, NULL), 0);
    engine.job.cancel = &cancel;
    assert_int_equal(feed(&engine, state, 10, 20, 5, NULL), -ECANCELED);
    engine.job.cancel = NULL;
    check_end(&engine, state, 10, expected, "after a cancelled pass");
    lfm2_state_free(state);
    engine_close(&engine);
}

static void test_a_context_of_no_or_too_many_tokens_is_refused(void **unused)
{
    struct engine engine = engine_open("tiny_dense_f32.gguf");
    struct error err = ERROR_INIT;

    (void)unused;
    assert_null(lfm2_state_new(engine.model, 0, KV_F32, &err));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    assert_null(lfm2_state_new(engine.model, SIZE_MAX, KV_F32, NULL));
    engine_close(&engine);
}

/* Each mutated file is refused, or loads and computes four tokens (garbage, but safely). */
static void test_a_mutated_model_is_refused_or_harmless(void **unused)
{
    struct pool *pool = pool_new(1, NULL);
    uint32_t seed = 20260901;

    (void)unused;
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        static unsigned char bytes[1 << 20] __attribute__((aligned(64)));
        static unsigned char mutated[1 << 20] __attribute__((aligned(64)));
        FILE *file = fopen(data_path(models[m]), "rb");
        const size_t size = fread(bytes, 1, sizeof(bytes), file);

        fclose(file);
        for (int round = 0; round < 1500; round++) {
            struct error err = ERROR_INIT;
            struct lfm2_model *model = NULL;
            struct gguf *gguf;

            memcpy(mutated, bytes, size);
            for (int i = 0; i <= round % 3; i++) {
                seed = seed * 1664525 + 1013904223;
                const size_t at = (seed >> 8) % (round % 2 ? 12000 : 1200);
                seed = seed * 1664525 + 1013904223;
                mutated[at] = (unsigned char)(seed >> 24);
            }
            gguf = gguf_open_memory(mutated, size, "mutated", &err);
            if (gguf)
                model = lfm2_model_load(gguf, round % 4 == 0, pool, &err);
            if (!model) {
                assert_int_not_equal(err.code, ERROR_NONE);
                assert_true(strlen(err.text) > 10);
            } else if (model->hparams.causal && model->hparams.n_embd <= 64) {
                struct engine engine = {.model = model};
                struct lfm2_state *state = lfm2_state_new(model, 8, KV_F32, NULL);
                float hidden[64];

                engine.job = (struct lfm2_job){
                    .model = model,
                    .workspace = lfm2_workspace_new(model, 4, NULL),
                    .pool = pool,
                };
                if (state && engine.job.workspace && model->hparams.n_vocab > 257)
                    assert_int_equal(feed(&engine, state, 0, 4, 0, hidden), 0);
                lfm2_workspace_free(engine.job.workspace);
                lfm2_state_free(state);
            }
            lfm2_model_free(model);
            gguf_free(gguf);
        }
    }
    pool_free(pool);
}

/* The hidden state after `total` rows in steps of n, forgetting what the window does not reach. */
static void feed_long(struct engine *engine, size_t n_context, size_t n, size_t total,
                      bool forget, float *hidden)
{
    struct error err = ERROR_INIT;
    struct lfm2_state *state = lfm2_state_new(engine->model, n_context, KV_F16, &err);

    assert_non_null(state);
    for (size_t i = 0; i < total; i += n) {
        if (forget)
            lfm2_state_forget(state, engine->model->hparams.sliding_window - 1);
        assert_int_equal(feed(engine, state, i, MIN(n, total - i), 0, hidden), 0);
    }
    if (forget) {
        assert_true(lfm2_state_n_past(state) < total);
        lfm2_state_forget(state, 0);
        assert_int_equal(lfm2_state_undo(state, 1), -ERANGE);
    }
    lfm2_state_free(state);
}

static void test_a_window_goes_on_in_the_same_memory_without_changing_a_bit(void **state)
{
    static const size_t steps[] = {1, 6, N};

    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        struct engine engine = engine_open(models[m]);
        const size_t window = engine.model->hparams.sliding_window = 30, total = 10 * N;
        float expected[64], found[64];

        feed_long(&engine, total, N, total, false, expected);
        for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
            feed_long(&engine, window - 1 + KV_DROP_REST + steps[i], steps[i], total, true,
                      found);
            golden_same(models[m], found, expected, engine.model->hparams.n_embd);
        }
        engine_close(&engine);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_way_back_leads_to_the_same_bits),
        cmocka_unit_test(test_a_cancelled_pass_changes_nothing),
        cmocka_unit_test(test_a_context_of_no_or_too_many_tokens_is_refused),
        cmocka_unit_test(test_a_mutated_model_is_refused_or_harmless),
        cmocka_unit_test(test_a_window_goes_on_in_the_same_memory_without_changing_a_bit),
    };

    return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
