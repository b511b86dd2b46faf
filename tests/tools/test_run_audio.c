/* SPDX-License-Identifier: MIT */

/*
 * Proves the contract of lfm-run mel, audio-encode and audio-embed as a program, on sounds and
 * random encoders of our own (tests/data/audio, made by train/make_fixtures.py) whose features and
 * rows were computed in double; where the shared files are, on the reference's too.
 *
 *     test_run_audio LFM_RUN
 */

#include "audio/in/mel.h"
#include "tests/tools/program.h"

static size_t size_of(struct json_object *json, const char *key)
{
    return (size_t)json_object_get_int64(golden_get(json, key));
}

/* Run; nothing may come on stdout. The n floats of --out: malloc. */
#define RUN(n, ...)                                                                                \
    ({                                                                                             \
        char _text[4096], _complaint[4096];                                                        \
        if (program_run(_text, _complaint, __VA_ARGS__) != 0)                                      \
            fail_msg("%s", _complaint);                                                            \
        assert_string_equal(_text, "");                                                            \
        golden_floats(program_out, n);                                                             \
    })

/* The path of a clip of our own, in a buffer of its own. */
static const char *clip_file(struct json_object *json, const char *name)
{
    static char path[PATH_MAX];
    struct json_object *clips = golden_get(json, "clips");

    for (size_t i = 0; i < json_object_array_length(clips); i++) {
        struct json_object *item = json_object_array_get_idx(clips, i);

        if (strcmp(golden_str(item, "name"), name) != 0)
            continue;
        snprintf(path, sizeof(path), "%s",
                 golden_beside(data_path("audio/audio.json"), golden_str(item, "wav")));
        return path;
    }
    fail_msg("there is no clip \"%s\"", name);
    return NULL;
}

static void test_features_of_files(void **state)
{
    const char *path = data_path("audio/audio.json");
    struct json_object *json = golden_json(path), *clips = golden_get(json, "clips");

    (void)state;
    for (size_t i = 0; i < json_object_array_length(clips); i++) {
        struct json_object *item = json_object_array_get_idx(clips, i);
        const size_t n = MEL_BINS * mel_n_frames(size_of(item, "samples"));
        _cleanup_(freep) float *found =
            RUN(n, "mel --in %s --out %s", golden_beside(path, golden_str(item, "wav")),
                program_out);
        _cleanup_(freep) float *expected =
            golden_floats(golden_beside(path, golden_str(item, "mel")), n);

        golden_close(golden_str(item, "name"), found, expected, n, 5e-4);
    }
    json_object_put(json);
}

/* Samples as they are, in a file of that name. */
static void test_raw_samples(void **state)
{
    char path[] = "/tmp/test-run-audio-XXXXXX.f32";
    const int fd = mkstemps(path, 4);
    const char *const wrong[] = {"mel --in %s --out /tmp/never"};
    float samples[3200];

    (void)state;
    assert_true(fd >= 0);
    for (size_t i = 0; i < ARRAY_LEN(samples); i++)
        samples[i] = sinf((float)(i * i) * 1e-4f);
    assert_int_equal(write(fd, samples, sizeof(samples)), sizeof(samples));
    {
        _cleanup_(freep) float *found = RUN(MEL_BINS * 21, "mel --in %s --out %s", path,
                                            program_out);

        for (size_t m = 0; m < MEL_BINS; m++) {
            double mean = 0;

            for (size_t t = 0; t < 20; t++)
                mean += (double)found[21 * m + t] / 20;
            assert_true(fabs(mean) < 1e-4 && found[21 * m + 20] == 0);
        }
    }
    /* Not a number, half a number, nothing. */
    assert_int_equal(pwrite(fd, &(float){NAN}, sizeof(float), 100 * sizeof(float)), sizeof(float));
    program_refuses(wrong, 1, path);
    assert_int_equal(ftruncate(fd, 42), 0);
    program_refuses(wrong, 1, path);
    assert_int_equal(ftruncate(fd, 0), 0);
    program_refuses(wrong, 1, path);
    close(fd);
    unlink(path);
}

static void test_rows_of_files(void **state)
{
    const char *path = data_path("audio/audio.json");
    struct json_object *json = golden_json(path), *models = golden_get(json, "models");

    (void)state;
    for (size_t m = 0; m < json_object_array_length(models); m++) {
        struct json_object *model = json_object_array_get_idx(models, m);
        struct json_object *cases = golden_get(model, "cases");
        const char *file = golden_str(model, "mmproj");

        for (size_t i = 0; i < json_object_array_length(cases); i++) {
            struct json_object *item = json_object_array_get_idx(cases, i);
            const char *clip = clip_file(json, golden_str(item, "clip"));
            const size_t n_hidden = size_of(item, "rows") * size_of(item, "d");
            const size_t n_embd = size_of(item, "rows") * size_of(item, "n_embd");
            _cleanup_(freep) float *hidden =
                golden_floats(golden_beside(path, golden_str(item, "hidden")), n_hidden);
            _cleanup_(freep) float *embeddings =
                golden_floats(golden_beside(path, golden_str(item, "embeddings")), n_embd);
            _cleanup_(freep) float *encoded =
                RUN(n_hidden, "audio-encode --mmproj %s --in %s --precise --threads 2 --out %s",
                    golden_beside(path, file), clip, program_out);
            _cleanup_(freep) float *embedded =
                RUN(n_embd, "audio-embed --mmproj %s --in %s --precise --threads 1 --out %s",
                    golden_beside(path, file), clip, program_out);
            _cleanup_(freep) float *fast =
                RUN(n_embd, "audio-embed --mmproj %s --in %s --threads 2 --out %s",
                    golden_beside(path, file), clip, program_out);
            const struct golden_difference difference =
                golden_difference(fast, embeddings, n_embd);

            golden_close(file, encoded, hidden, n_hidden, 1e-3);
            golden_close(file, embedded, embeddings, n_embd, 1e-3);
            if (!(difference.rms_rel < (strstr(file, "q8_0") ? 2e-2 : 2e-3)))
                fail_msg("%s: %.2g of the deviation", file, difference.rms_rel);
        }
    }
    json_object_put(json);
}

static void test_rows_are_the_references(void **state)
{
    const char *samples = fixture_path("audio/speech/question.16k.f32");
    const char *model = fixture_path("audio/mmproj.f16.gguf");
    const size_t n = (size_t)62 * 64;

    (void)state;
    if (!samples || !model)
        skip();
    {
        _cleanup_(freep) float *expected =
            golden_floats(fixture_path("audio/enc/question.f16.adapter.bin"), n);
        _cleanup_(freep) float *exact =
            RUN(n, "audio-embed --mmproj %s --in %s --precise --out %s", model, samples,
                program_out);
        _cleanup_(freep) float *rounded = RUN(n, "audio-embed --mmproj %s --in %s --out %s", model,
                                              samples, program_out);

        golden_close("precise", exact, expected, n, 2e-4);
        golden_close("rounded", rounded, expected, n, 5e-3);
    }
}

static void test_wrong_arguments_are_refused_in_one_sentence(void **state)
{
    static const char *const wrong[] = {
        "mel",
        "mel --in %s",
        "mel --out /tmp/never",
        "mel --in %s --out /no/such/folder/file",
        "mel --in %s.json --out /tmp/never",
        "mel --in /dev/zero --out /tmp/never",
        "mel --in / --out /tmp/never",
        "mel --in /etc/passwd --out /tmp/never",
        "mel --in %s --in %1$s --out /tmp/never",
        "mel --in %s --mmproj %1$s --out /tmp/never",
        "audio-encode --in %s --out /tmp/never",
        "audio-encode --mmproj /no/such/file --in %s --out /tmp/never",
        "audio-encode --mmproj %1$s --in %1$s --out /tmp/never",
        "audio-embed --mmproj %s --out /tmp/never",
        "audio-embed --in %s --out /tmp/never",
        "audio-embed --in %s --mmproj %1$s --threads 1000 --out /tmp/never",
    };
    char short_file[] = "/tmp/test-run-audio-XXXXXX.f32", command[512];
    const int fd = mkstemps(short_file, 4);
    const char *const too_short[] = {command};

    (void)state;
    program_refuses(wrong, ARRAY_LEN(wrong), data_path("audio/short.wav"));

    /* A clip of 7 frames has features, but no rows. */
    assert_int_equal(ftruncate(fd, 1100 * sizeof(float)), 0);
    snprintf(command, sizeof(command), "audio-embed --mmproj %s --in %%s --out /tmp/never",
             data_path("audio/mmproj-tiny_f32.gguf"));
    program_refuses(too_short, 1, short_file);
    free(RUN(MEL_BINS * 7, "mel --in %s --out %s", short_file, program_out));
    close(fd);
    unlink(short_file);
    assert_int_equal(access("/tmp/never", F_OK), -1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_features_of_files),
        cmocka_unit_test(test_raw_samples),
        cmocka_unit_test(test_rows_of_files),
        cmocka_unit_test(test_rows_are_the_references),
        cmocka_unit_test(test_wrong_arguments_are_refused_in_one_sentence),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: %s LFM_RUN\n", argv[0]);
        return 2;
    }
    program = argv[1];
    return cmocka_run_group_tests_name("run_audio", tests, program_take_out, program_remove_out);
}
