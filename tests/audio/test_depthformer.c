/* SPDX-License-Identifier: MIT */

/*
 * Proves the depthformer: logits of every book against the reference's frames, the row by which a
 * frame goes back into the language model, threads, and refusals of files that do not fit.
 */

#include "audio/out/depthformer.h"
#include "tests/audio/reference.h"

static struct depthformer *load(const char *path, bool precise, struct pool *pool)
{
    struct error err = ERROR_INIT;
    struct depthformer *df = depthformer_load(path, precise, pool, &err);

    if (!df)
        fail_msg("%s", err.text);
    return df;
}

/* --- runs of the reference -------------------------------------------------------------------- */

/* Logits of all books of a frame whose codes are known: [CODEBOOKS][V + 1]. */
static void frame_logits(struct depthformer *df, const float *hidden, const int32_t *codes,
                         float *out)
{
    const size_t n = depthformer_info(df)->n_codes + 1;

    depthformer_begin(df, hidden);
    for (unsigned i = 0; i < CODEBOOKS; i++)
        memcpy(out + i * n, depthformer_logits(df, i, i > 0 ? codes[i - 1] : -1),
               n * sizeof(*out));
}

/* The frames of one run whose logits the reference kept. Returns the largest difference. */
static double check_run(struct json_object *run, const char *name, struct depthformer *df,
                        double limit)
{
    const struct depthformer_info *info = depthformer_info(df);
    struct json_object *events = golden_get(run, "events"), *kept, *shape;
    const size_t n_steps = json_object_array_length(events);
    size_t n_hidden, n_frames, frame = 0;
    double worst = 0;

    if (!json_object_object_get_ex(run, "depth_logits_first_frames", &kept))
        return 0;
    shape = golden_get(golden_get(run, "hidden_per_step"), "shape");
    n_hidden = (size_t)json_object_get_int64(json_object_array_get_idx(shape, 0));
    shape = golden_get(kept, "shape");
    n_frames = (size_t)json_object_get_int64(json_object_array_get_idx(shape, 0));

    const size_t n = CODEBOOKS * (info->n_codes + 1);
    _cleanup_(freep) float *hidden =
        reference_floats(golden_get(run, "hidden_per_step"), n_hidden * info->n_embd);
    _cleanup_(freep) float *expected = reference_floats(kept, n_frames * n);
    _cleanup_(freep) float *found = malloc(n * sizeof(*found));

    for (size_t i = 0; i < n_steps && frame < n_frames; i++) {
        struct json_object *event = json_object_array_get_idx(events, i);
        int32_t codes[CODEBOOKS];
        char what[64];

        if (json_object_array_length(event) != CODEBOOKS)
            continue;
        reference_codes(event, codes);
        frame_logits(df, hidden + i * info->n_embd, codes, found);
        snprintf(what, sizeof(what), "%s, frame %zu", name, frame);
        golden_close(what, found, expected + frame * n, n, limit);
        worst = MAX(worst, golden_difference(found, expected + frame * n, n).max_abs);
        frame++;
    }
    assert_int_equal(frame, n_frames);
    return worst;
}

static void check_file(const char *vocoder, bool precise, double limit)
{
    struct json_object *runs = golden_json(fixture_path("audio/gen/index.json"));
    struct pool *pool = reference_pool(2);
    struct depthformer *df = load(fixture_path(vocoder), precise, pool);
    double worst = 0;

    json_object_object_foreach(runs, name, run)
    {
        const double found = check_run(run, name, df, limit);

        worst = MAX(worst, found);
    }
    assert_true(worst > 0);
    print_message("%s%s: largest difference %.2g\n", vocoder, precise ? " precise" : "", worst);
    depthformer_free(df);
    pool_free(pool);
    json_object_put(runs);
}

static void test_logits_are_those_of_the_reference(void **state)
{
    (void)state;
    if (!fixture_path("audio/gen/index.json"))
        skip();
    check_file("audio/vocoder.f16.gguf", true, 5e-4);
    check_file("audio/vocoder.f16.gguf", false, 5e-4);
}

/* --- files of our own ------------------------------------------------------------------------- */

static void check_own(struct json_object *json, bool precise)
{
    struct pool *pool = reference_pool(2);
    struct depthformer *df = load(own_path(golden_str(json, "vocoder")), precise, pool);
    const struct depthformer_info *info = depthformer_info(df);
    const size_t n = CODEBOOKS * (info->n_codes + 1);
    const bool rounded = !precise && strcmp(golden_str(json, "type"), "Q8_0") == 0;
    size_t n_frames;
    int32_t(*codes)[CODEBOOKS] = own_frames(json, "depth_codes", &n_frames);
    float *hidden = own_floats(json, "hidden", n_frames * info->n_embd);
    float *logits = own_floats(json, "logits", n_frames * n);
    float *rows = own_floats(json, "code_rows", n_frames * info->n_embd);
    float *found = malloc(n * sizeof(*found)), row[64];

    assert_true(info->n_embd <= ARRAY_LEN(row));
    for (size_t i = 0; i < n_frames; i++) {
        double deviation;

        frame_logits(df, hidden + i * info->n_embd, codes[i], found);
        deviation = golden_difference(found, logits + i * n, n).rms_rel;
        if (!(deviation < (rounded ? 2e-2 : 1e-5)))
            fail_msg("%s%s, frame %zu: relative RMS %.3g", golden_str(json, "vocoder"),
                     precise ? " precise" : "", i, deviation);
        depthformer_code_row(df, codes[i], row);
        golden_close("row of a frame", row, rows + i * info->n_embd, info->n_embd, 1e-5);
    }
    free(codes);
    free(hidden);
    free(logits);
    free(rows);
    free(found);
    depthformer_free(df);
    pool_free(pool);
}

static void test_own_files_give_logits_and_rows_tied_or_not(void **state)
{
    struct json_object *json = golden_json(own_path("sound.json"));
    struct json_object *models = golden_get(json, "models");

    (void)state;
    for (size_t i = 0; i < json_object_array_length(models); i++) {
        check_own(json_object_array_get_idx(models, i), true);
        check_own(json_object_array_get_idx(models, i), false);
    }
    json_object_put(json);
}

static void test_neither_threads_nor_earlier_frames_change_a_bit(void **state)
{
    struct pool *pools[] = {reference_pool(1), reference_pool(3)};
    float hidden[2][32], *expected = NULL;
    const int32_t codes[2][CODEBOOKS] = {{1, 2, 3, 4, 5, 6, 7, 8}, {40, 39, 0, 1, 2, 40, 3, 4}};
    size_t n;

    (void)state;
    for (size_t i = 0; i < 64; i++)
        hidden[i / 32][i % 32] = (float)(i * 37 % 64) / 32 - 1;
    for (size_t t = 0; t < 2; t++) {
        struct depthformer *df = load(own_path("vocoder.q8_0.gguf"), false, pools[t]);
        float *found;

        n = CODEBOOKS * (depthformer_info(df)->n_codes + 1);
        found = malloc(2 * n * sizeof(*found));
        frame_logits(df, hidden[0], codes[0], found);
        frame_logits(df, hidden[1], codes[1], found + n);
        if (expected) {
            golden_same("three threads", found, expected, 2 * n);
            frame_logits(df, hidden[0], codes[0], found);
            golden_same("a frame after another", found, expected, n);
            free(found);
        } else {
            expected = found;
        }
        depthformer_free(df);
    }
    free(expected);
    pool_free(pools[0]);
    pool_free(pools[1]);
}

/* --- files that are not good ------------------------------------------------------------------ */

static void test_a_plan_says_what_loading_takes(void **state)
{
    struct pool *pool = reference_pool(1);

    (void)state;
    for (int precise = 0; precise < 2; precise++) {
        struct error err = ERROR_INIT;
        struct depthformer *df = load(own_path("vocoder.f16.gguf"), precise, pool);
        struct depthformer_info info;

        assert_int_equal(depthformer_plan(own_path("vocoder.f16.gguf"), precise, &info, &err), 0);
        assert_memory_equal(&info, depthformer_info(df), sizeof(info));
        assert_int_equal(info.n_codes, 40);
        depthformer_free(df);
    }
    pool_free(pool);
}

static void test_a_file_may_leave_its_sizes_to_the_tensors(void **state)
{
    struct depthformer_info told, found;
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(depthformer_plan(own_path("vocoder.q8_0.gguf"), true, &told, &err), 0);
    assert_int_equal(depthformer_plan(own_path("audiodecoder.q8_0.gguf"), true, &found, &err), 0);
    assert_int_equal(found.n_layer, told.n_layer);
    assert_int_equal(found.dim, told.dim);
    assert_int_equal(found.n_codes, told.n_codes);
}

static void test_other_files_are_refused_in_a_sentence(void **state)
{
    static const struct {
        const char *file, *part;
    } wrong[] = {
        {"tokenizer.f16.gguf", "depthformer_n_layer"},
        {"mimi.gguf", "depthformer_n_layer"},
        {"sound.json", "sound.json"},
    };
    struct pool *pool = reference_pool(1);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct error err = ERROR_INIT;

        assert_null(depthformer_load(own_path(wrong[i].file), false, pool, &err));
        assert_int_equal(err.code, ERROR_UNSUPPORTED_FORMAT);
        assert_non_null(strstr(err.text, wrong[i].part));
    }
    pool_free(pool);
}

static void test_a_mutated_file_is_refused_or_harmless(void **state)
{
    struct pool *pool = reference_pool(1);
    size_t size, n_loaded = 0;
    unsigned char *bytes = whole_file(own_path("vocoder.q8_0.gguf"), &size);
    unsigned char *mutated = malloc(size);

    (void)state;
    for (unsigned round = 0; round < 400; round++) {
        struct error err = ERROR_INIT;
        struct depthformer *df;
        int fd;

        memcpy(mutated, bytes, size);
        mutate(mutated, size, round);
        df = depthformer_load(memory_file(mutated, size, &fd), round % 4 == 0, pool, &err);
        if (!df) {
            assert_true(err.code != ERROR_NONE && strlen(err.text) > 10);
        } else if (depthformer_info(df)->n_embd <= 32) {
            const float hidden[32] = {1, -1, 0.5f};
            const int32_t codes[CODEBOOKS] = {0};
            float row[32];

            depthformer_begin(df, hidden);
            for (unsigned i = 0; i < CODEBOOKS; i++)
                depthformer_logits(df, i, 0);
            depthformer_code_row(df, codes, row);
            n_loaded++;
        }
        depthformer_free(df);
        close(fd);
    }
    assert_true(n_loaded > 0 && n_loaded < 400);
    free(bytes);
    free(mutated);
    pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_are_those_of_the_reference),
        cmocka_unit_test(test_own_files_give_logits_and_rows_tied_or_not),
        cmocka_unit_test(test_neither_threads_nor_earlier_frames_change_a_bit),
        cmocka_unit_test(test_a_plan_says_what_loading_takes),
        cmocka_unit_test(test_a_file_may_leave_its_sizes_to_the_tensors),
        cmocka_unit_test(test_other_files_are_refused_in_a_sentence),
        cmocka_unit_test(test_a_mutated_file_is_refused_or_harmless),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
