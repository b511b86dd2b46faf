/* SPDX-License-Identifier: MIT */

/*
 * Proves the encoder and the adapter: hidden rows and embeddings against those computed in double
 * and against the reference's, step by step where it kept the steps; and that threads and the
 * length of the workspace change no bit.
 */

#include "audio/in/conformer.h"
#include "audio/in/encoder.h"
#include "audio/in/subsample.h"
#include "tests/audio/reference.h"

static struct audio_encoder *load(const char *path, bool precise, struct pool *pool)
{
    struct error err = ERROR_INIT;
    struct audio_encoder *encoder = audio_encoder_load(path, precise, pool, &err);

    if (!encoder)
        fail_msg("%s", err.text);
    return encoder;
}

/* What may be asked of a file of this type. */
struct limit {
    double max_abs; /* 0: not asked */
    double relative; /* RMS over that of the reference; 0: not asked */
};

static struct limit limit_of(const char *type, bool precise)
{
    const bool quantised = strcmp(type, "q8_0") == 0;

    if (precise || strcmp(type, "f32") == 0)
        return quantised ? (struct limit){.relative = 1e-3} : (struct limit){.max_abs = 2e-4};
    return quantised ? (struct limit){.relative = 2e-2} : (struct limit){.max_abs = 5e-3};
}

static void check(const char *what, struct limit limit, const float *found, const float *expected,
                  size_t n)
{
    double length = 0;

    for (size_t i = 0; i < n; i++)
        length += (double)expected[i] * (double)expected[i] / (double)n;
    if (limit.max_abs > 0)
        golden_close(what, found, expected, n, limit.max_abs);
    else if (!(golden_difference(found, expected, n).rms <= limit.relative * sqrt(length)))
        fail_msg("%s: relative RMS of the difference %.3g, expected up to %g", what,
                 golden_difference(found, expected, n).rms / sqrt(length), limit.relative);
}

static void check_clip(const char *what, struct audio_encoder *encoder, struct limit limit,
                       const float *features, size_t n_frames, const float *hidden,
                       const float *embeddings)
{
    const struct audio_shape *shape = &audio_encoder_info(encoder)->shape;
    const size_t n = audio_encoder_rows(n_frames);
    _cleanup_(freep) float *h = malloc(n * shape->n_hidden * sizeof(*h));
    _cleanup_(freep) float *e = malloc(n * shape->n_embd * sizeof(*e));
    struct error err = ERROR_INIT;

    if (audio_encode(encoder, features, n_frames, NULL, e, h, &err) < 0)
        fail_msg("%s: %s", what, err.text);
    check(what, limit, h, hidden, n * shape->n_hidden);
    check(what, limit, e, embeddings, n * shape->n_embd);
}

/* --- files of our own ------------------------------------------------------------------------- */

static float *own_features(struct json_object *json, const char *name, size_t *ret_n_frames)
{
    struct json_object *clips = golden_get(json, "clips");

    for (size_t i = 0; i < json_object_array_length(clips); i++) {
        struct json_object *item = json_object_array_get_idx(clips, i);

        if (strcmp(golden_str(item, "name"), name) != 0)
            continue;
        *ret_n_frames =
            (size_t)json_object_get_int(json_object_array_get_idx(golden_get(item, "shape"), 1));
        return golden_floats(golden_beside(data_path("audio/audio.json"), golden_str(item, "mel")),
                             MEL_BINS * *ret_n_frames);
    }
    fail_msg("there is no clip \"%s\"", name);
    return NULL;
}

static void test_rows_are_those_computed_in_double(void **state)
{
    const char *path = data_path("audio/audio.json");
    struct json_object *json = golden_json(path), *models = golden_get(json, "models");
    struct pool *pool = reference_pool(2);

    (void)state;
    assert_true(json_object_array_length(models) >= 3);
    for (size_t m = 0; m < 2 * json_object_array_length(models); m++) {
        struct json_object *model = json_object_array_get_idx(models, m / 2);
        struct json_object *cases = golden_get(model, "cases");
        const char *file = golden_str(model, "mmproj");
        const char *type = strstr(file, "f32") ? "f32" : strstr(file, "f16") ? "f16" : "q8_0";
        struct audio_encoder *encoder = load(golden_beside(path, file), m % 2, pool);

        for (size_t i = 0; i < json_object_array_length(cases); i++) {
            struct json_object *item = json_object_array_get_idx(cases, i);
            const size_t n = (size_t)json_object_get_int(golden_get(item, "rows"));
            size_t n_frames;
            _cleanup_(freep) float *features =
                own_features(json, golden_str(item, "clip"), &n_frames);
            _cleanup_(freep) float *hidden = golden_floats(
                golden_beside(path, golden_str(item, "hidden")),
                n * (size_t)json_object_get_int(golden_get(item, "d")));
            _cleanup_(freep) float *embeddings = golden_floats(
                golden_beside(path, golden_str(item, "embeddings")),
                n * (size_t)json_object_get_int(golden_get(item, "n_embd")));

            assert_int_equal(audio_encoder_rows(n_frames), n);
            check_clip(file, encoder, limit_of(type, m % 2), features, n_frames, hidden,
                       embeddings);
        }
        audio_encoder_free(encoder);
    }
    pool_free(pool);
    json_object_put(json);
}

/* --- the reference ---------------------------------------------------------------------------- */

/* Features of a clip of the reference: malloc. */
static float *reference_features(const char *name, size_t n_frames)
{
    char path[256];

    snprintf(path, sizeof(path), "audio/mel/%s.mel.bin", name);
    return golden_floats(fixture_path(path), MEL_BINS * n_frames);
}

/* "question.f16" -> "question", "f16" */
static const char *split_key(const char *key, char clip[64])
{
    const char *dot = strrchr(key, '.');

    snprintf(clip, 64, "%.*s", (int)(dot - key), key);
    return dot + 1;
}

static void test_rows_are_those_of_the_reference(void **state)
{
    struct json_object *json;
    struct pool *pool;
    size_t n_runs = 0;

    (void)state;
    if (!fixture_path("audio/enc/index.json"))
        skip();
    json = golden_json(fixture_path("audio/enc/index.json"));
    pool = reference_pool(2);
    json_object_object_foreach(json, key, run)
    {
        char clip[64], path[64];
        const char *type = split_key(key, clip);
        const size_t n_frames = (size_t)json_object_get_int(golden_get(run, "n_mel_frames"));
        const size_t n = audio_encoder_rows(n_frames);
        _cleanup_(freep) float *features = reference_features(clip, n_frames);

        assert_int_equal(n, json_object_get_int(golden_get(run, "n_embeddings")));
        snprintf(path, sizeof(path), "audio/mmproj.%s.gguf", type);
        for (int precise = 0; precise < 2; precise++) {
            struct audio_encoder *encoder = load(fixture_path(path), precise, pool);
            const struct audio_shape *shape = &audio_encoder_info(encoder)->shape;
            _cleanup_(freep) float *hidden =
                reference_floats(golden_get(run, "encoder_out"), n * shape->n_hidden);
            _cleanup_(freep) float *embeddings =
                reference_floats(golden_get(run, "adapter_out"), n * shape->n_embd);

            check_clip(key, encoder, limit_of(type, precise), features, n_frames, hidden,
                       embeddings);
            audio_encoder_free(encoder);
        }
        n_runs++;
    }
    assert_true(n_runs >= 8);
    pool_free(pool);
    json_object_put(json);
}

struct parts {
    struct audio_shape shape;
    struct subsample subsample;
    struct conformer conformer;
};

/* All but the adapter. */
static bool load_parts(struct loader *loader, void *userdata)
{
    static const char *const others[] = {
        "a.position_embd.weight", "a.position_embd_norm.weight", "a.embd_to_logits.weight",
        "mm.a.mlp.0.weight",      "mm.a.mlp.0.bias",             "mm.a.mlp.1.weight",
        "mm.a.mlp.1.bias",        "mm.a.mlp.3.weight",           "mm.a.mlp.3.bias",
    };
    struct parts *parts = userdata;

    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        loader_skip(loader, others[i]);
    return subsample_load(loader, &parts->shape, &parts->subsample) &&
           conformer_load(loader, &parts->shape, &parts->conformer);
}

/* Compare with a step that the reference has kept of this run. */
static void check_step(struct json_object *run, const char *key, const float *found, size_t n,
                       size_t *n_steps)
{
    struct json_object *entry;
    _cleanup_(freep) float *expected = NULL;

    if (!json_object_object_get_ex(run, key, &entry))
        return;
    expected = reference_floats(entry, n);
    golden_close(key, found, expected, n, 2e-4);
    ++*n_steps;
}

static void check_steps(struct json_object *run, const struct parts *parts,
                        const struct audio_workspace *ws, const float *features, size_t n_frames,
                        size_t *n_steps)
{
    const struct conformer *conformer = &parts->conformer;
    const struct conformer_layer *first = &conformer->layers[0];
    const size_t d = parts->shape.n_hidden, n = audio_encoder_rows(n_frames);
    struct conformer one = *conformer;

    assert_int_equal(subsample_forward(&parts->subsample, ws, features, n_frames, NULL, ws->x), 0);
    check_step(run, "pre_encode", ws->x, n * d, n_steps);
    check_step(run, "pos_emb", ws->angles + (ws->n_max - n) * d, (2 * n - 1) * d, n_steps);

    one.shape.n_layer = 1;
    assert_int_equal(conformer_forward(&one, ws, n, NULL), 0);
    check_step(run, "layer0_out", ws->x, n * d, n_steps);
    one.layers = &conformer->layers[1];
    assert_int_equal(conformer_forward(&one, ws, n, NULL), 0);
    check_step(run, "layer1_out", ws->x, n * d, n_steps);

    assert_int_equal(subsample_forward(&parts->subsample, ws, features, n_frames, NULL, ws->x), 0);
    conformer_ff(conformer, &first->ff_1, ws, n);
    check_step(run, "layer0_after_ff1", ws->x, n * d, n_steps);
    conformer_attention(conformer, first, ws, n);
    check_step(run, "layer0_after_attn", ws->x, n * d, n_steps);
    conformer_convolution(conformer, first, ws, n);
    check_step(run, "layer0_after_conv", ws->x, n * d, n_steps);
}

static void test_steps_are_those_of_the_reference(void **state)
{
    static const char *const types[] = {"f16", "q8_0"};
    struct json_object *json;
    struct pool *pool;
    size_t n_steps = 0;

    (void)state;
    if (!fixture_path("audio/enc/index.json"))
        skip();
    json = golden_json(fixture_path("audio/enc/index.json"));
    pool = reference_pool(2);
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        struct error err = ERROR_INIT;
        struct parts parts = {0};
        struct arena arena = {0};
        struct audio_workspace ws;
        struct gguf *gguf;
        char name[64], clip[64];
        size_t bytes;

        snprintf(name, sizeof(name), "audio/mmproj.%s.gguf", types[t]);
        gguf = gguf_open(fixture_path(name), &err);
        assert_int_equal(audio_shape_read(gguf, &parts.shape, &err), 0);
        assert_int_equal(
            loader_plan(gguf, MATRIX_PRECISE, "a test", load_parts, &parts, &bytes, &err), 0);
        assert_int_equal(arena_init(&arena, bytes, "a test", &err), 0);
        assert_int_equal(
            loader_load(gguf, MATRIX_PRECISE, load_parts, &parts, &arena, pool, &err), 0);
        assert_int_equal(
            audio_workspace_init(&ws, &parts.shape, MATRIX_PRECISE, 100, pool, &err), 0);
        json_object_object_foreach(json, key, run)
        {
            const size_t n_frames = (size_t)json_object_get_int(golden_get(run, "n_mel_frames"));

            if (strcmp(split_key(key, clip), types[t]) == 0) {
                _cleanup_(freep) float *features = reference_features(clip, n_frames);

                check_steps(run, &parts, &ws, features, n_frames, &n_steps);
            }
        }
        audio_workspace_done(&ws);
        arena_done(&arena);
        gguf_free(gguf);
    }
    assert_true(n_steps >= 28);
    pool_free(pool);
    json_object_put(json);
}

/* --- threads and lengths ---------------------------------------------------------------------- */

/* Embeddings of n_frames by n_threads: malloc. */
static float *encode(const char *path, bool precise, const float *features, size_t n_frames,
                     unsigned n_threads, bool long_first)
{
    struct pool *pool = reference_pool(n_threads);
    struct audio_encoder *encoder = load(path, precise, pool);
    const size_t n_embd = audio_encoder_info(encoder)->shape.n_embd;
    float *rows = malloc(audio_encoder_rows(n_frames) * n_embd * sizeof(*rows));
    struct error err = ERROR_INIT;

    if (long_first) {
        const size_t n = 8 * AUDIO_ENCODER_ROWS + 100;
        _cleanup_(freep) float *silence = calloc(MEL_BINS * n, sizeof(*silence));
        _cleanup_(freep) float *more = malloc(audio_encoder_rows(n) * n_embd * sizeof(*more));

        if (audio_encode(encoder, silence, n, NULL, more, NULL, &err) < 0)
            fail_msg("%s", err.text);
    }
    if (audio_encode(encoder, features, n_frames, NULL, rows, NULL, &err) < 0)
        fail_msg("%s", err.text);
    audio_encoder_free(encoder);
    pool_free(pool);
    return rows;
}

static void test_threads_and_longer_clips_before_change_no_bit(void **state)
{
    static const char *const files[] = {"mmproj-tiny_f32.gguf", "mmproj-tiny_f16.gguf",
                                        "mmproj-tiny_q8_0.gguf"};
    const char *path = data_path("audio/audio.json");
    struct json_object *json = golden_json(path);
    size_t n_frames;
    _cleanup_(freep) float *features = own_features(json, "longer", &n_frames);

    (void)state;
    for (size_t i = 0; i < 2 * ARRAY_LEN(files); i++) {
        const char *file = golden_beside(path, files[i / 2]);
        _cleanup_(freep) float *one = encode(file, i % 2, features, n_frames, 1, false);
        _cleanup_(freep) float *three = encode(file, i % 2, features, n_frames, 3, false);
        _cleanup_(freep) float *after = encode(file, i % 2, features, n_frames, 2, true);
        const size_t n = audio_encoder_rows(n_frames) * 32;

        golden_same(files[i / 2], three, one, n);
        golden_same(files[i / 2], after, one, n);
    }
    json_object_put(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_those_computed_in_double),
        cmocka_unit_test(test_rows_are_those_of_the_reference),
        cmocka_unit_test(test_steps_are_those_of_the_reference),
        cmocka_unit_test(test_threads_and_longer_clips_before_change_no_bit),
    };

    return cmocka_run_group_tests_name("encoder", tests, NULL, NULL);
}
