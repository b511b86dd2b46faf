/* SPDX-License-Identifier: MIT */

/*
 * Proves the two vocoders behind their face: waves against Mimi's reference; that neither the
 * cutting of a stream nor threads nor what was said before change a bit; that a stream without end
 * takes no more memory; and codes and files that are refused.
 */

#include <errno.h>
#include <malloc.h>

#include "audio/out/vocoder.h"
#include "tests/audio/reference.h"

/* --- waves ------------------------------------------------------------------------------------ */

static struct vocoder *load_mimi(const char *path, bool precise, struct pool *pool)
{
    struct error err = ERROR_INIT;
    struct vocoder *vocoder = vocoder_load(NULL, path, precise, pool, &err);

    if (!vocoder)
        fail_msg("%s", err.text);
    return vocoder;
}

static void test_mimi_gives_the_waves_of_the_reference(void **state)
{
    struct pool *pool;
    struct json_object *index;

    (void)state;
    if (!fixture_path("audio/mimi/index.json"))
        skip();
    pool = reference_pool(2);
    index = golden_json(fixture_path("audio/mimi/index.json"));
    json_object_object_foreach(index, name, json)
    {
        struct json_object *frames;

        if (!json_object_object_get_ex(json, "codes_frames_x_8", &frames))
            continue;
        for (int precise = 0; precise < 2; precise++) {
            struct vocoder *vocoder =
                load_mimi(fixture_path("audio/mimi_decoder.f32.gguf"), precise, pool);
            const size_t n_frames = json_object_array_length(frames);
            const size_t n = n_frames * VOCODER_FRAME;
            int32_t(*codes)[CODEBOOKS] = malloc(n_frames * sizeof(*codes));
            float *found = malloc(n * sizeof(*found)), peak = 0;
            float *expected = reference_floats(golden_get(json, "wave"), n);
            size_t n_found;

            for (size_t i = 0; i < n_frames; i++)
                reference_codes(json_object_array_get_idx(frames, i), codes[i]);
            for (size_t i = 0; i < n; i++)
                peak = fmaxf(peak, fabsf(expected[i]));
            assert_int_equal(vocoder_push(vocoder, (const int32_t(*)[CODEBOOKS])codes, n_frames,
                                          NULL, found, &n_found),
                             0);
            assert_int_equal(n_found, n);
            assert_int_equal(vocoder_flush(vocoder, found), 0);
            print_message("mimi %s%s: peak %.3g, largest difference %.2g\n", name,
                          precise ? " precise" : "", (double)peak,
                          golden_difference(found, expected, n).max_abs);
            golden_close(name, found, expected, n, 1e-5 * (double)peak);
            free(codes);
            free(found);
            free(expected);
            vocoder_free(vocoder);
        }
    }
    json_object_put(index);
    pool_free(pool);
}

/* --- files of our own ------------------------------------------------------------------------- */

/* Two of LFM2.5-Audio; Mimi under Kyutai's names; Mimi beside the depthformer. */
static const char *const kinds[] = {"f16", "q8_0", "mimi", "audiodecoder"};

static struct vocoder *load_own(const char *kind, bool precise, struct pool *pool)
{
    struct error err = ERROR_INIT;
    struct vocoder *vocoder;
    char names[2][32];

    if (strcmp(kind, "mimi") == 0)
        return load_mimi(own_path("mimi.gguf"), precise, pool);
    if (strcmp(kind, "audiodecoder") == 0)
        return load_mimi(own_path("audiodecoder.q8_0.gguf"), precise, pool);
    snprintf(names[0], sizeof(names[0]), "vocoder.%s.gguf", kind);
    snprintf(names[1], sizeof(names[1]), "tokenizer.%s.gguf", kind);
    vocoder = vocoder_load(own_path(names[0]), own_path(names[1]), precise, pool, &err);
    if (!vocoder)
        fail_msg("%s", err.text);
    return vocoder;
}

/* A whole stream in steps of n_step frames: malloc, n_frames * VOCODER_FRAME samples. */
static float *stream(struct vocoder *vocoder, const int32_t (*codes)[CODEBOOKS], size_t n_frames,
                     size_t n_step)
{
    float *samples = malloc(n_frames * VOCODER_FRAME * sizeof(*samples));
    size_t n = 0, n_new;

    for (size_t i = 0; i < n_frames; i += n_step) {
        assert_int_equal(vocoder_push(vocoder, codes + i, MIN(n_step, n_frames - i), NULL,
                                      samples + n, &n_new),
                         0);
        n += n_new;
    }
    n += vocoder_flush(vocoder, samples + n);
    assert_int_equal(n, n_frames * VOCODER_FRAME);
    vocoder_reset(vocoder);
    return samples;
}

static void check_own(const char *kind, struct json_object *json, bool precise)
{
    struct pool *pool = reference_pool(2);
    struct vocoder *vocoder = load_own(kind, precise, pool);
    size_t n_frames;
    int32_t(*codes)[CODEBOOKS] = own_frames(json, "codes", &n_frames);
    const size_t n = n_frames * VOCODER_FRAME;
    float *expected = own_floats(json, "wave", n);
    float *found = stream(vocoder, (const int32_t(*)[CODEBOOKS])codes, n_frames, n_frames);
    const double deviation = golden_difference(found, expected, n).rms_rel;

    const bool rounded = strcmp(kind, "q8_0") == 0 || strcmp(kind, "audiodecoder") == 0;

    if (!(deviation < (!precise && rounded ? 1e-3 : 1e-5)))
        fail_msg("%s%s: relative RMS %.3g", kind, precise ? " precise" : "", deviation);
    free(codes);
    free(expected);
    free(found);
    vocoder_free(vocoder);
    pool_free(pool);
}

static void test_own_files_give_waves(void **state)
{
    struct json_object *json = golden_json(own_path("sound.json"));
    struct json_object *models = golden_get(json, "models");

    (void)state;
    for (int precise = 0; precise < 2; precise++) {
        for (size_t i = 0; i < json_object_array_length(models); i++)
            check_own(kinds[i], json_object_array_get_idx(models, i), precise);
        check_own("mimi", golden_get(json, "mimi"), precise);
        check_own("audiodecoder", golden_get(json, "audiodecoder"), precise);
    }
    json_object_put(json);
}

/* n frames of codes below 40: malloc */
static int32_t (*some_codes(size_t n))[CODEBOOKS]
{
    int32_t(*codes)[CODEBOOKS] = malloc(n * sizeof(*codes));
    uint32_t random = 5;

    for (size_t i = 0; i < n * CODEBOOKS; i++) {
        random = random * 1664525 + 1013904223;
        codes[i / CODEBOOKS][i % CODEBOOKS] = (int32_t)((random >> 8) % 40);
    }
    return codes;
}

static void test_neither_cuts_nor_threads_nor_earlier_streams_change_a_bit(void **state)
{
    static const size_t steps[] = {1, 2, 3, 8, 11, 40};
    const size_t n_frames = 40, n = n_frames * VOCODER_FRAME;
    int32_t(*codes)[CODEBOOKS] = some_codes(n_frames + 3);
    const int32_t(*frames)[CODEBOOKS] = (const int32_t(*)[CODEBOOKS])codes;

    (void)state;
    for (size_t k = 0; k < 2 * ARRAY_LEN(kinds); k++) {
        const char *kind = kinds[k / 2];
        float *expected = NULL;

        for (unsigned n_threads = 1; n_threads <= 3; n_threads += 2) {
            struct pool *pool = reference_pool(n_threads);
            struct vocoder *vocoder = load_own(kind, k % 2, pool);

            for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
                float *found;

                free(stream(vocoder, frames + n_frames, 3, 1 + i % 3));
                found = stream(vocoder, frames, n_frames, steps[i]);
                if (expected)
                    golden_same(kind, found, expected, n);
                else
                    expected = found;
                if (found != expected)
                    free(found);
            }
            vocoder_free(vocoder);
            pool_free(pool);
        }
        free(expected);
    }
    free(codes);
}

static void test_a_stream_without_end_takes_no_more_memory(void **state)
{
    enum { N = 64, ROUNDS = 40 };
    int32_t(*codes)[CODEBOOKS] = some_codes(N);
    const int32_t(*frames)[CODEBOOKS] = (const int32_t(*)[CODEBOOKS])codes;
    float *samples = malloc(N * VOCODER_FRAME * sizeof(*samples));
    struct pool *pool = reference_pool(1);

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct vocoder *vocoder = load_own(kinds[k], false, pool);
        size_t before = 0, n;

        for (size_t i = 0; i < ROUNDS; i++) {
            const struct mallinfo2 info = mallinfo2();

            assert_true(i <= 1 || info.uordblks + info.hblkhd == before);
            before = info.uordblks + info.hblkhd;
            assert_int_equal(vocoder_push(vocoder, frames, N, NULL, samples, &n), 0);
            assert_true(n == N * VOCODER_FRAME || i == 0);
        }
        vocoder_free(vocoder);
    }
    free(codes);
    free(samples);
    pool_free(pool);
}

static void test_a_wrong_code_changes_nothing(void **state)
{
    static const int32_t wrong[] = {40, -1, INT32_MAX, INT32_MIN};
    int32_t(*codes)[CODEBOOKS] = some_codes(4), bad[2][CODEBOOKS] = {{0}};
    const int32_t(*frames)[CODEBOOKS] = (const int32_t(*)[CODEBOOKS])codes;
    struct pool *pool = reference_pool(1);

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct vocoder *vocoder = load_own(kinds[k], false, pool);
        float *expected = stream(vocoder, frames, 4, 4), *found;
        float samples[2 * VOCODER_FRAME];
        size_t n = 77, n_found;

        assert_int_equal(vocoder_info(vocoder)->n_codes, 40);
        found = malloc(4 * VOCODER_FRAME * sizeof(*found));
        assert_int_equal(vocoder_push(vocoder, frames, 2, NULL, found, &n_found), 0);
        for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
            bad[1][i] = wrong[i];
            assert_int_equal(vocoder_push(vocoder, (const int32_t(*)[CODEBOOKS])bad, 2, NULL,
                                          samples, &n),
                             -EINVAL);
            assert_int_equal(n, 77);
            bad[1][i] = 0;
        }
        assert_int_equal(vocoder_push(vocoder, frames + 2, 2, NULL, found + n_found, &n), 0);
        vocoder_flush(vocoder, found + n_found + n);
        golden_same(kinds[k], found, expected, 4 * VOCODER_FRAME);
        free(expected);
        free(found);
        vocoder_free(vocoder);
    }
    free(codes);
    pool_free(pool);
}

static void test_a_cancelled_stream_stops_and_the_next_one_is_whole(void **state)
{
    const atomic_bool cancel = true;
    int32_t(*codes)[CODEBOOKS] = some_codes(4);
    const int32_t(*frames)[CODEBOOKS] = (const int32_t(*)[CODEBOOKS])codes;
    struct pool *pool = reference_pool(1);

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct vocoder *vocoder = load_own(kinds[k], false, pool);
        float *expected = stream(vocoder, frames, 4, 4), *found, samples[4 * VOCODER_FRAME];
        size_t n;

        assert_int_equal(vocoder_push(vocoder, frames, 2, NULL, samples, &n), 0);
        assert_int_equal(vocoder_push(vocoder, frames, 4, &cancel, samples, &n), -ECANCELED);
        vocoder_reset(vocoder);
        found = stream(vocoder, frames, 4, 1);
        golden_same(kinds[k], found, expected, 4 * VOCODER_FRAME);
        free(expected);
        free(found);
        vocoder_free(vocoder);
    }
    free(codes);
    pool_free(pool);
}

/* --- files that are not good ------------------------------------------------------------------ */

static void test_a_plan_says_what_loading_takes(void **state)
{
    struct pool *pool = reference_pool(1);

    (void)state;
    for (int precise = 0; precise < 2; precise++) {
        struct error err = ERROR_INIT;
        struct vocoder *detok = load_own("q8_0", precise, pool);
        struct vocoder *mimi = load_own("mimi", precise, pool);
        struct vocoder_info info;

        assert_int_equal(vocoder_plan(own_path("vocoder.q8_0.gguf"),
                                      own_path("tokenizer.q8_0.gguf"), precise, &info, &err),
                         0);
        assert_memory_equal(&info, vocoder_info(detok), sizeof(info));
        assert_int_equal(vocoder_plan(NULL, own_path("mimi.gguf"), precise, &info, &err), 0);
        assert_memory_equal(&info, vocoder_info(mimi), sizeof(info));
        vocoder_free(detok);
        vocoder_free(mimi);
        mimi = load_own("audiodecoder", precise, pool);
        assert_int_equal(vocoder_plan(own_path("audiodecoder.q8_0.gguf"),
                                      own_path("audiodecoder.q8_0.gguf"), precise, &info, &err),
                         0);
        assert_memory_equal(&info, vocoder_info(mimi), sizeof(info));
        vocoder_free(mimi);
    }
    pool_free(pool);
}

static void test_other_files_are_refused_in_a_sentence(void **state)
{
    static const struct {
        const char *vocoder, *tokenizer, *part; /* tokenizer NULL: the first as Mimi */
    } wrong[] = {
        {"tokenizer.f16.gguf", "tokenizer.f16.gguf", "emb.emb.weight"},
        {"vocoder.f16.gguf", "vocoder.f16.gguf", "general.architecture"},
        {"vocoder.f16.gguf", "../tiny_dense_f32.gguf", "sliding_window"},
        {"sound.json", "tokenizer.f16.gguf", "sound.json"},
        {"audiodecoder.q8_0.gguf", "tokenizer.f16.gguf", "emb.emb.weight"},
        {"vocoder.f16.gguf", NULL, "mimi.sample_rate"},
        {"sound.json", NULL, "sound.json"},
    };
    struct pool *pool = reference_pool(1);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct error err = ERROR_INIT;

        if (wrong[i].tokenizer)
            assert_null(vocoder_load(own_path(wrong[i].vocoder), own_path(wrong[i].tokenizer),
                                     false, pool, &err));
        else
            assert_null(vocoder_load(NULL, own_path(wrong[i].vocoder), false, pool, &err));
        assert_int_equal(err.code, ERROR_UNSUPPORTED_FORMAT);
        if (!strstr(err.text, wrong[i].part))
            fail_msg("expected '%s' in: %s", wrong[i].part, err.text);
    }
    pool_free(pool);
}

/* One of the files is mutated: 0 vocoder, 1 tokenizer, 2 Mimi, 3 that of LFM2-Audio. */
static void check_mutations(int which, unsigned n_rounds)
{
    static const char *const names[] = {"vocoder.q8_0.gguf", "tokenizer.q8_0.gguf", "mimi.gguf",
                                        "audiodecoder.q8_0.gguf"};
    static float samples[2 * VOCODER_FRAME];
    struct pool *pool = reference_pool(1);
    size_t size, n_loaded = 0;
    unsigned char *bytes = whole_file(own_path(names[which]), &size);
    unsigned char *mutated = malloc(size);

    for (unsigned round = 0; round < n_rounds; round++) {
        const int32_t codes[2][CODEBOOKS] = {{0}};
        const bool precise = round % 4 == 0;
        struct error err = ERROR_INIT;
        struct vocoder *vocoder;
        const char *path;
        size_t n;
        int fd;

        memcpy(mutated, bytes, size);
        mutate(mutated, size, round);
        path = memory_file(mutated, size, &fd);
        if (which >= 2)
            vocoder = vocoder_load(NULL, path, precise, pool, &err);
        else
            vocoder = vocoder_load(which == 0 ? path : own_path(names[0]),
                                   which == 1 ? path : own_path(names[1]), precise, pool, &err);
        if (vocoder) {
            assert_int_equal(vocoder_push(vocoder, codes, 2, NULL, samples, &n), 0);
            vocoder_flush(vocoder, samples);
            n_loaded++;
        } else {
            assert_true(err.code != ERROR_NONE && strlen(err.text) > 10);
        }
        vocoder_free(vocoder);
        close(fd);
    }
    assert_true(n_loaded > 0 && n_loaded < n_rounds);
    free(bytes);
    free(mutated);
    pool_free(pool);
}

static void test_a_mutated_file_is_refused_or_harmless(void **state)
{
    (void)state;
    for (int which = 0; which < 4; which++)
        check_mutations(which, 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mimi_gives_the_waves_of_the_reference),
        cmocka_unit_test(test_own_files_give_waves),
        cmocka_unit_test(test_neither_cuts_nor_threads_nor_earlier_streams_change_a_bit),
        cmocka_unit_test(test_a_stream_without_end_takes_no_more_memory),
        cmocka_unit_test(test_a_wrong_code_changes_nothing),
        cmocka_unit_test(test_a_cancelled_stream_stops_and_the_next_one_is_whole),
        cmocka_unit_test(test_a_plan_says_what_loading_takes),
        cmocka_unit_test(test_other_files_are_refused_in_a_sentence),
        cmocka_unit_test(test_a_mutated_file_is_refused_or_harmless),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
