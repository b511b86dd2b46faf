/* SPDX-License-Identifier: MIT */

/*
 * Proves the forward pass against references: every model of the project's own (tests/data, made in
 * float64 by train/lfm2.py) and of the shared fixtures (transformers and llama.cpp), in both forms:
 *
 *   precise  exact weights and f32 activations: every logit, layer, conv state and router choice,
 *            and 64 greedy tokens
 *   fast     the kernels of this machine: divergence within what int8 activations cost
 *
 * and that any chunking gives the bits of the whole prompt.
 */

#include "lfm2/forward.h"
#include "tests/fixture.h"
#include "tests/golden.h"

struct engine {
    struct gguf *gguf;
    struct pool *pool;
    struct lfm2_model *model;
    struct lfm2_state *state;
    struct lfm2_job job;
    size_t n_vocab, n_embd;
};

#define ROWS_MAX 1024

static struct engine engine_open(const char *path, bool precise, unsigned n_threads,
                                 enum kv_type kv)
{
    struct error err = ERROR_INIT;
    struct engine engine = {.gguf = gguf_open(path, &err)};

    if (engine.gguf)
        engine.pool = pool_new(n_threads, &err);
    if (engine.pool)
        engine.model = lfm2_model_load(engine.gguf, precise, engine.pool, &err);
    if (engine.model && engine.model->hparams.causal)
        engine.state = lfm2_state_new(engine.model, 1200, kv, &err);
    if (engine.model)
        engine.job.workspace = lfm2_workspace_new(engine.model, ROWS_MAX, &err);
    if (err.code != ERROR_NONE)
        fail_msg("%s", err.text);
    engine.job.model = engine.model;
    engine.job.pool = engine.pool;
    engine.n_vocab = engine.model->hparams.n_vocab;
    engine.n_embd = engine.model->hparams.n_embd;
    return engine;
}

static void engine_close(struct engine *engine)
{
    lfm2_workspace_free(engine->job.workspace);
    lfm2_state_free(engine->state);
    lfm2_model_free(engine->model);
    pool_free(engine->pool);
    gguf_free(engine->gguf);
}

/* Feed ids in chunks of the given sizes; returns the logits of all positions: malloc. */
static float *logits_of(struct engine *engine, const uint32_t *ids, size_t n,
                        const uint32_t *chunks, size_t n_chunks)
{
    _cleanup_(freep) float *x = malloc(n * engine->n_embd * sizeof(*x));
    _cleanup_(freep) float *hidden = malloc(n * engine->n_embd * sizeof(*hidden));
    float *logits = malloc(n * engine->n_vocab * sizeof(*logits));
    size_t done = 0;

    for (size_t i = 0; done < n; i++) {
        const size_t chunk = i < n_chunks ? chunks[i] : n - done;

        lfm2_embed(engine->model, ids + done, chunk, x);
        assert_int_equal(lfm2_forward(&engine->job, engine->state, x, chunk,
                                      hidden + done * engine->n_embd, chunk),
                         0);
        lfm2_logits(&engine->job, hidden + done * engine->n_embd, chunk,
                    logits + done * engine->n_vocab);
        done += chunk;
    }
    return logits;
}

/* Rows `positions` of all, one after another: malloc. */
static float *pick_rows(const float *all, size_t width, const uint32_t *positions, size_t n)
{
    float *rows = malloc(n * width * sizeof(*rows));

    for (size_t i = 0; i < n; i++)
        memcpy(rows + i * width, all + positions[i] * width, width * sizeof(*rows));
    return rows;
}

typedef void check_case(const char *name, struct json_object *json, const float *found,
                        const float *expected, size_t n, size_t n_vocab);

/* Run every case of a sidecar and hand the rows that it lists to `check`. */
static void each_case(const char *path, struct json_object *json, struct engine *engine,
                      check_case *check)
{
    struct json_object *cases = golden_get(json, "cases");

    for (size_t i = 0; i < json_object_array_length(cases); i++) {
        struct json_object *item = json_object_array_get_idx(cases, i);
        size_t n, n_rows;
        _cleanup_(freep) uint32_t *ids = golden_ids(golden_get(item, "tokens"), &n);
        _cleanup_(freep) uint32_t *rows = golden_ids(golden_get(item, "positions"), &n_rows);
        _cleanup_(freep) float *expected = golden_floats(
            golden_beside(path, golden_str(item, "logits")), n_rows * engine->n_vocab);
        _cleanup_(freep) float *all = NULL, *found = NULL;
        char name[256];

        lfm2_state_reset(engine->state);
        all = logits_of(engine, ids, n, NULL, 0);
        found = pick_rows(all, engine->n_vocab, rows, n_rows);
        snprintf(name, sizeof(name), "%s, %s", golden_str(json, "gguf"), golden_str(item, "name"));
        check(name, json, found, expected, n_rows, engine->n_vocab);
    }
}

static double limit_of(struct json_object *json)
{
    struct json_object *tolerance = golden_get(json, "tolerance"), *value;

    if (json_object_object_get_ex(tolerance, "f32_engine_max_abs", &value) ||
        json_object_object_get_ex(tolerance, "f32_activation_engine_max_abs", &value))
        return json_object_get_double(value);
    fail_msg("the reference has no tolerance");
    return 0;
}

static void check_every_logit(const char *name, struct json_object *json, const float *found,
                              const float *expected, size_t n, size_t n_vocab)
{
    golden_close(name, found, expected, n * n_vocab, limit_of(json));
}

static void check_divergence(const char *name, struct json_object *json, const float *found,
                             const float *expected, size_t n, size_t n_vocab)
{
    struct json_object *tolerance = golden_get(json, "tolerance"), *limits, *limit;
    const struct golden_difference d = golden_difference(found, expected, n * n_vocab);
    double kl = 0, agreement = 0;

    if (!json_object_object_get_ex(tolerance, "int8_activation_engine", &limits) &&
        !json_object_object_get_ex(tolerance, "rounded_activation_engine", &limits)) {
        check_every_logit(name, json, found, expected, n, n_vocab);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const float *f = found + i * n_vocab, *e = expected + i * n_vocab;

        kl += golden_kl(f, e, n_vocab) / (double)n;
        agreement += golden_argmax(f, n_vocab) == golden_argmax(e, n_vocab) ? 1 / (double)n : 0;
    }
    print_message("%s: RMS %.4f of the deviation, KL %.4f, top-1 %.3f\n", name, d.rms_rel, kl,
                  agreement);
    if (!(d.rms_rel <= json_object_get_double(golden_get(limits, "rms_rel"))))
        fail_msg("%s: RMS difference %.4f of the logits' deviation", name, d.rms_rel);
    if (!(agreement >= json_object_get_double(golden_get(limits, "top1_agreement"))))
        fail_msg("%s: top-1 agreement %.3f", name, agreement);
    if (json_object_object_get_ex(limits, "kl_mean", &limit) &&
        !(kl <= json_object_get_double(limit)))
        fail_msg("%s: mean KL %.4f", name, kl);
}

/* Every split of the prompt gives the bits of the whole; the state afterwards is the same too. */
static void check_chunks(struct json_object *json, struct engine *engine)
{
    struct json_object *splits = golden_get(golden_get(json, "chunk_splits"), "splits");
    struct json_object *prompt = json_object_array_get_idx(golden_get(json, "cases"), 0);
    const size_t snapshot_bytes = lfm2_snapshot_bytes(engine->model);
    _cleanup_(freep) void *whole_state = malloc(snapshot_bytes);
    _cleanup_(freep) void *state = malloc(snapshot_bytes);
    _cleanup_(freep) uint32_t *ids = NULL;
    _cleanup_(freep) float *whole = NULL;
    size_t n;

    ids = golden_ids(golden_get(prompt, "tokens"), &n);
    lfm2_state_reset(engine->state);
    whole = logits_of(engine, ids, n, NULL, 0);
    lfm2_snapshot_take(engine->state, whole_state);
    for (size_t i = 0; i < json_object_array_length(splits); i++) {
        size_t n_chunks;
        _cleanup_(freep) uint32_t *chunks =
            golden_ids(json_object_array_get_idx(splits, i), &n_chunks);
        _cleanup_(freep) float *found = NULL;
        char name[256];

        lfm2_state_reset(engine->state);
        found = logits_of(engine, ids, n, chunks, n_chunks);
        snprintf(name, sizeof(name), "%s, split %zu", golden_str(json, "gguf"), i);
        golden_same(name, found, whole, n * engine->n_vocab);
        lfm2_snapshot_take(engine->state, state);
        assert_memory_equal(state, whole_state, snapshot_bytes);
    }
}

static void check_greedy(struct json_object *json, struct engine *engine)
{
    struct json_object *greedy;
    _cleanup_(freep) uint32_t *prompt = NULL, *ids = NULL;
    _cleanup_(freep) float *logits = NULL;
    size_t n_prompt, n;
    uint32_t id;

    if (!json_object_object_get_ex(json, "greedy", &greedy))
        return;
    prompt = golden_ids(golden_get(greedy, "prompt"), &n_prompt);
    ids = golden_ids(golden_get(greedy, "ids"), &n);
    lfm2_state_reset(engine->state);
    logits = logits_of(engine, prompt, n_prompt, NULL, 0);
    id = (uint32_t)golden_argmax(logits + (n_prompt - 1) * engine->n_vocab, engine->n_vocab);
    for (size_t i = 0; i < n; i++) {
        _cleanup_(freep) float *next = NULL;

        if (id != ids[i])
            fail_msg("%s, greedy step %zu: expected %u, found %u", golden_str(json, "gguf"), i,
                     ids[i], id);
        next = logits_of(engine, &id, 1, NULL, 0);
        id = (uint32_t)golden_argmax(next, engine->n_vocab);
    }
}

/* --- intermediates ---------------------------------------------------------------------------- */

struct seen {
    const char *path;
    struct json_object *tensors, *router;
    double limit;
    size_t n_embd, k;
    unsigned n_layers, n_routers;
};

static void check_tensor(struct seen *seen, const char *name, const float *x, size_t n)
{
    struct json_object *tensor = golden_get(seen->tensors, name);
    _cleanup_(freep) float *expected =
        golden_floats(golden_beside(seen->path, golden_str(tensor, "file")), n * seen->n_embd);

    golden_close(name, x, expected, n * seen->n_embd, seen->limit);
}

static void see_layer(void *userdata, unsigned layer, const float *x, size_t n)
{
    struct seen *seen = userdata;
    char name[32];

    snprintf(name, sizeof(name), "l_out_%u", layer);
    check_tensor(seen, name, x, n);
    seen->n_layers++;
}

static void see_router(void *userdata, unsigned layer, const uint32_t *experts,
                       const float *weights, size_t n)
{
    struct seen *seen = userdata;

    for (size_t i = 0; i < json_object_array_length(seen->router); i++) {
        struct json_object *item = json_object_array_get_idx(seen->router, i);

        if (json_object_get_int(golden_get(item, "layer")) != (int)layer)
            continue;
        for (size_t t = 0; t < n; t++) {
            struct json_object *e = json_object_array_get_idx(golden_get(item, "experts"), t);
            struct json_object *w = json_object_array_get_idx(golden_get(item, "weights"), t);

            for (size_t j = 0; j < seen->k; j++) {
                assert_int_equal(experts[t * seen->k + j],
                                 json_object_get_int(json_object_array_get_idx(e, j)));
                assert_true(fabs((double)weights[t * seen->k + j] -
                                 json_object_get_double(json_object_array_get_idx(w, j))) < 1e-5);
            }
        }
        seen->n_routers++;
    }
}

static void check_intermediates(const char *path, struct json_object *json, struct engine *engine)
{
    const struct lfm2_hparams *hparams = &engine->model->hparams;
    struct json_object *about, *inter, *conv;
    struct seen seen = {.limit = limit_of(json), .n_embd = engine->n_embd};
    const struct lfm2_probe probe = {.userdata = &seen, .layer = see_layer, .router = see_router};
    const size_t state_values = engine->model->n_conv * (hparams->conv_kernel - 1) * engine->n_embd;
    _cleanup_(freep) unsigned char *snapshot = malloc(lfm2_snapshot_bytes(engine->model));
    _cleanup_(freep) uint32_t *ids = NULL;
    _cleanup_(freep) float *x = NULL, *hidden = NULL, *expected = NULL;
    size_t n;

    if (!json_object_object_get_ex(json, "intermediates", &about))
        return;
    ids = golden_ids(golden_get(about, "tokens"), &n);
    seen.path = path;
    inter = golden_json(golden_beside(path, golden_str(about, "file")));
    seen.tensors = golden_get(inter, "tensors");
    json_object_object_get_ex(inter, "router", &seen.router);
    seen.k = hparams->n_expert_used;

    x = malloc(n * engine->n_embd * sizeof(*x));
    hidden = malloc(n * engine->n_embd * sizeof(*hidden));
    lfm2_embed(engine->model, ids, n, x);
    check_tensor(&seen, "embed", x, n);
    lfm2_state_reset(engine->state);
    engine->job.probe = &probe;
    assert_int_equal(lfm2_forward(&engine->job, engine->state, x, n, hidden, n), 0);
    engine->job.probe = NULL;
    check_tensor(&seen, "final_norm", hidden, n);
    assert_int_equal(seen.n_layers, hparams->n_layer);
    assert_int_equal(seen.n_routers, hparams->n_layer - hparams->n_layer_dense);

    conv = golden_get(inter, "conv_state");
    expected = golden_floats(golden_beside(path, golden_str(conv, "file")), state_values);
    lfm2_snapshot_take(engine->state, snapshot);
    golden_close("conv_state",
                 (const float *)(const void *)(snapshot + lfm2_snapshot_bytes(engine->model) -
                                               state_values * sizeof(float)),
                 expected, state_values, seen.limit);
    json_object_put(inter);
}

/* --- retrieval models ------------------------------------------------------------------------- */

/* Rows of dense_2 of the final hidden states, of length 1: malloc. */
static float *vectors_of(struct engine *engine, struct json_object *ids_json, size_t n_max,
                         size_t *ret_n)
{
    const size_t dim = engine->model->dense_2.out;
    _cleanup_(freep) uint32_t *ids = golden_ids(ids_json, ret_n);
    const size_t n = *ret_n = MIN(*ret_n, n_max);
    _cleanup_(freep) float *x = malloc(n * engine->n_embd * sizeof(*x));
    _cleanup_(freep) float *hidden = malloc(n * engine->n_embd * sizeof(*hidden));
    float *out = malloc(n * dim * sizeof(*out));

    lfm2_embed(engine->model, ids, n, x);
    assert_int_equal(lfm2_encode(&engine->job, x, n, hidden), 0);
    lfm2_dense_2(&engine->job, hidden, n, out);
    for (size_t t = 0; t < n; t++) {
        double sum = 0;

        for (size_t i = 0; i < dim; i++)
            sum += (double)out[t * dim + i] * (double)out[t * dim + i];
        for (size_t i = 0; i < dim; i++)
            out[t * dim + i] = (float)((double)out[t * dim + i] / sqrt(sum));
    }
    return out;
}

static void check_retrieval(const char *path, bool precise)
{
    struct json_object *json = golden_json(path);
    struct engine engine =
        engine_open(golden_beside(path, golden_str(json, "gguf")), precise, 2, KV_F32);
    const size_t dim = engine.model->dense_2.out;
    const char *const lists[] = {"queries", "documents"};

    assert_int_equal(engine.model->hparams.causal,
                     !json_object_get_boolean(golden_get(json, "bidirectional")));
    for (size_t l = 0; l < 2; l++) {
        struct json_object *list = golden_get(json, lists[l]);

        for (size_t i = 0; i < json_object_array_length(list); i++) {
            struct json_object *item = json_object_array_get_idx(list, i), *bare;
            size_t n;
            _cleanup_(freep) float *found =
                vectors_of(&engine, golden_get(item, "ids"), SIZE_MAX, &n);
            _cleanup_(freep) float *expected =
                golden_floats(golden_beside(path, golden_str(item, "embeddings")), n * dim);

            golden_close(golden_str(item, "embeddings"), found, expected, n * dim, 2e-5);
            if (json_object_object_get_ex(item, "embeddings_without_expansion", &bare)) {
                const size_t n_real = (size_t)json_object_get_int(golden_get(item, "n_real"));
                const char *name = json_object_get_string(bare);

                free(found);
                free(expected);
                found = vectors_of(&engine, golden_get(item, "ids"), n_real, &n);
                expected = golden_floats(golden_beside(path, name), n * dim);
                golden_close(name, found, expected, n * dim, 2e-5);
            }
        }
    }
    engine_close(&engine);
    json_object_put(json);
}

/* --- the models ------------------------------------------------------------------------------- */

static void check_precise(const char *path)
{
    struct json_object *json = golden_json(path);
    struct engine engine =
        engine_open(golden_beside(path, golden_str(json, "gguf")), true, 2, KV_F32);

    each_case(path, json, &engine, check_every_logit);
    check_intermediates(path, json, &engine);
    check_chunks(json, &engine);
    check_greedy(json, &engine);
    engine_close(&engine);
    json_object_put(json);
}

static void check_fast(const char *path)
{
    struct json_object *json = golden_json(path);
    struct engine engine =
        engine_open(golden_beside(path, golden_str(json, "gguf")), false, 2, KV_F32);

    each_case(path, json, &engine, check_divergence);
    check_chunks(json, &engine);
    engine_close(&engine);
    json_object_put(json);
}

static const char *const own_models[] = {"tiny_dense_f32.json", "tiny_moe_f32.json"};

static const char *const shared_models[] = {
    "text/nano_dense.F32.json",    "text/nano_moe.F32.json",      "text/nano_moe.BF16.json",
    "text/mini_dense.F16.json",    "text/mini_dense.Q8_0.json",   "text/mini_dense.Q4_0.json",
    "text/mini_dense.Q4_K_M.json", "text/mini_dense.Q5_K_M.json", "text/mini_moe.Q4_0.json",
    "text/mini_moe.Q4_K_M.json",
};

static void need_shared_fixtures(void)
{
    if (!fixture_path("text/README.md")) {
        print_message("the shared fixtures are not here\n");
        skip();
    }
}

static void test_own_models_give_the_reference_exactly(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(own_models); i++)
        check_precise(data_path(own_models[i]));
}

static void test_own_models_give_the_reference_with_fast_kernels(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(own_models); i++)
        check_fast(data_path(own_models[i]));
}

static void test_own_retrieval_model_gives_the_reference(void **state)
{
    (void)state;
    check_retrieval(data_path("tiny_bidir_f32.json"), true);
    check_retrieval(data_path("tiny_bidir_f32.json"), false);
}

static void test_shared_models_give_the_reference_exactly(void **state)
{
    (void)state;
    need_shared_fixtures();
    for (size_t i = 0; i < ARRAY_LEN(shared_models); i++)
        check_precise(fixture_path(shared_models[i]));
}

static void test_shared_models_give_the_reference_with_fast_kernels(void **state)
{
    (void)state;
    need_shared_fixtures();
    for (size_t i = 0; i < ARRAY_LEN(shared_models); i++)
        check_fast(fixture_path(shared_models[i]));
}

static void test_shared_retrieval_models_give_the_reference(void **state)
{
    (void)state;
    need_shared_fixtures();
    for (int precise = 0; precise < 2; precise++) {
        check_retrieval(fixture_path("text/nano_colbert.json"), precise);
        check_retrieval(fixture_path("text/nano_colbert_bidir.json"), precise);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_models_give_the_reference_exactly),
        cmocka_unit_test(test_own_models_give_the_reference_with_fast_kernels),
        cmocka_unit_test(test_own_retrieval_model_gives_the_reference),
        cmocka_unit_test(test_shared_models_give_the_reference_exactly),
        cmocka_unit_test(test_shared_models_give_the_reference_with_fast_kernels),
        cmocka_unit_test(test_shared_retrieval_models_give_the_reference),
    };

    return cmocka_run_group_tests_name("parity", tests, NULL, NULL);
}
