/* SPDX-License-Identifier: MIT */

/*
 * Proves the contract of lfm-run codes-to-wave as a program: waves of random files
 * (tests/data/audio, made by train/sound.py), the same whole and as a stream; where the shared
 * files are, all waves of the reference; refusals.
 *
 *     test_run_wave LFM_RUN
 */

#include "tests/tools/program.h"

static char codes_file[] = "/tmp/test-codes-XXXXXX";

static void write_codes(const char *json)
{
    FILE *file = fopen(codes_file, "w");

    assert_non_null(file);
    fputs(json, file);
    fclose(file);
}

/* The wave of the codes in codes_file: malloc. */
static float *wave(const char *options, size_t n)
{
    char text[4096], complaint[4096];
    const int status = program_run(text, complaint, "codes-to-wave %s --codes %s --out %s", options,
                                   codes_file, program_out);

    if (status != 0)
        fail_msg("%s: %s", options, complaint);
    assert_string_equal(text, "");
    assert_string_equal(complaint, "");
    return golden_floats(program_out, n);
}

struct limits {
    double max_abs, relative; /* relative RMS; 0: not asked */
};

static void check_wave(const char *files, struct json_object *frames, const float *expected,
                       struct limits precise, struct limits fast)
{
    const size_t n = 1920 * json_object_array_length(frames);

    write_codes(json_object_to_json_string(frames));
    for (int is_precise = 0; is_precise < 2; is_precise++) {
        const struct limits limits = is_precise ? precise : fast;
        char options[4096];
        float *whole, *streamed;

        snprintf(options, sizeof(options), "%s%s --threads 2", files,
                 is_precise ? " --precise" : "");
        whole = wave(options, n);
        if (limits.max_abs > 0)
            golden_close(options, whole, expected, n, limits.max_abs);
        if (limits.relative > 0 &&
            !(golden_difference(whole, expected, n).rms_rel < limits.relative))
            fail_msg("%s: relative RMS %g", options,
                     golden_difference(whole, expected, n).rms_rel);
        snprintf(options, sizeof(options), "%s%s --threads 1 --stream", files,
                 is_precise ? " --precise" : "");
        streamed = wave(options, n);
        golden_same(options, streamed, whole, n);
        free(whole);
        free(streamed);
    }
}

/* described: codes and wave */
static void check_random(const char *files, struct json_object *described, struct limits usual)
{
    struct json_object *frames = golden_get(described, "codes");
    const size_t n = 1920 * json_object_array_length(frames);
    float *expected = golden_floats(
        golden_beside(data_path("audio/sound.json"), golden_str(described, "wave")), n);

    check_wave(files, frames, expected, (struct limits){.max_abs = 1e-4}, usual);
    free(expected);
}

static void test_random_files_give_waves(void **state)
{
    const struct limits exact = {.max_abs = 1e-4}, rounded = {.relative = 1e-3};
    struct json_object *json = golden_json(data_path("audio/sound.json"));
    struct json_object *models = golden_get(json, "models"), *mimi = golden_get(json, "mimi");
    struct json_object *both = golden_get(json, "audiodecoder"); /* Mimi in a vocoder file */
    char folder[512], files[2048];

    (void)state;
    snprintf(folder, sizeof(folder), "%s", data_path("audio"));
    for (size_t i = 0; i < json_object_array_length(models); i++) {
        struct json_object *model = json_object_array_get_idx(models, i);

        snprintf(files, sizeof(files), "--vocoder %s/%s --tokenizer %s/%s", folder,
                 golden_str(model, "vocoder"), folder, golden_str(model, "tokenizer"));
        check_random(files, model,
                     strcmp(golden_str(model, "type"), "Q8_0") == 0 ? rounded : exact);
    }
    snprintf(files, sizeof(files), "--mimi %s/%s", folder, golden_str(mimi, "file"));
    check_random(files, mimi, exact);
    snprintf(files, sizeof(files), "--mimi %s/%s", folder, golden_str(both, "file"));
    check_random(files, both, rounded);
    snprintf(files, sizeof(files), "--vocoder %s/%s --tokenizer %s/%s", folder,
             golden_str(both, "file"), folder, golden_str(both, "file"));
    check_random(files, both, rounded);
    write_codes("[]");
    free(wave(files, 0));
    json_object_put(json);
}

static void check_references(const char *index, const char *(*files)(const char *name),
                             struct limits (*limits)(const char *name, const float *wave, size_t n))
{
    struct json_object *json = golden_json(fixture_path(index));

    json_object_object_foreach(json, name, run)
    {
        struct json_object *frames;
        char path[256];
        float *expected;
        size_t n;

        if (!json_object_object_get_ex(run, "codes_frames_x_8", &frames))
            continue;
        n = 1920 * json_object_array_length(frames);
        snprintf(path, sizeof(path), "audio/%s", golden_str(golden_get(run, "wave"), "file"));
        expected = golden_floats(fixture_path(path), n);
        check_wave(files(name), frames, expected, limits(name, expected, n),
                   limits(name, expected, n));
        free(expected);
    }
    json_object_put(json);
}

static const char *detok_files(const char *name)
{
    static char files[4096];
    char vocoder[64], tokenizer[64];

    snprintf(vocoder, sizeof(vocoder), "audio/vocoder.%s.gguf", strchr(name, '.') + 1);
    snprintf(tokenizer, sizeof(tokenizer), "audio/tokenizer.%s.gguf", strchr(name, '.') + 1);
    snprintf(files, sizeof(files), "--vocoder %s --tokenizer %s", fixture_path(vocoder),
             fixture_path(tokenizer));
    return files;
}

static struct limits detok_limits(const char *name, const float *wave, size_t n)
{
    (void)wave;
    (void)n;
    return strstr(name, "q8_0") ? (struct limits){.relative = 1e-3}
                                : (struct limits){.max_abs = 1e-4};
}

static const char *mimi_files(const char *name)
{
    static char files[4096];

    (void)name;
    snprintf(files, sizeof(files), "--mimi %s", fixture_path("audio/mimi_decoder.f32.gguf"));
    return files;
}

static struct limits mimi_limits(const char *name, const float *wave, size_t n)
{
    struct limits limits = {0};

    (void)name;
    for (size_t i = 0; i < n; i++)
        limits.max_abs = fmax(limits.max_abs, 1e-5 * fabs((double)wave[i]));
    return limits;
}

static void test_waves_are_the_references(void **state)
{
    (void)state;
    if (!fixture_path("audio/detok/index.json"))
        skip();
    check_references("audio/detok/index.json", detok_files, detok_limits);
    check_references("audio/mimi/index.json", mimi_files, mimi_limits);
}

#define FILES "--vocoder %1$s/vocoder.f16.gguf --tokenizer %1$s/tokenizer.f16.gguf"
#define CODES " --codes %1$s/sound.json --out /tmp/never" /* an object, not frames */

static void test_wrong_arguments_are_refused_in_one_sentence(void **state)
{
    static const char *const wrong[] = {
        "codes-to-wave",
        "codes-to-wave " FILES,
        "codes-to-wave " FILES " --out /tmp/never",
        "codes-to-wave " FILES CODES,
        "codes-to-wave " FILES " --codes /no/such/file --out /tmp/never",
        "codes-to-wave " FILES " --codes %1$s/mimi.gguf --out /tmp/never",
        "codes-to-wave --vocoder %1$s/vocoder.f16.gguf" CODES,
        "codes-to-wave --tokenizer %1$s/tokenizer.f16.gguf" CODES,
        "codes-to-wave --mimi %1$s/mimi.gguf " FILES CODES,
        "codes-to-wave --mimi %1$s/vocoder.f16.gguf" CODES,
        "codes-to-wave --mimi /no/such/file" CODES,
        "codes-to-wave --mimi %1$s/mimi.gguf --stream=yes" CODES,
    };
    static const char *const codes[] = {
        "", "{}", "[", "[1]", "[[1,2,3]]", "[[0,0,0,0,0,0,0,40]]", "[[0,0,0,0,0,0,0,-1]]",
        "[[0,0,0,0,0,0,0,0.5]]", "[[0,0,0,0,0,0,0,\"1\"]]", "[[0,0,0,0,0,0,0,null]]",
        "[[0,0,0,0,0,0,0,0,0]]", "[[0,0,0,0,0,0,0,99999999999999999999]]",
        "[[40,40,40,40,40,40,40,40]]", "[[0,0,0,0,0,0,0,0]] x",
    };
    char with_codes[256], *const pointer = with_codes;

    (void)state;
    program_refuses(wrong, ARRAY_LEN(wrong), data_path("audio"));
    snprintf(with_codes, sizeof(with_codes),
             "codes-to-wave --mimi %%s/mimi.gguf --codes %s --out /tmp/never", codes_file);
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        write_codes(codes[i]);
        program_refuses((const char *const *)&pointer, 1, data_path("audio"));
    }
    assert_int_equal(access("/tmp/never", F_OK), -1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_files_give_waves),
        cmocka_unit_test(test_waves_are_the_references),
        cmocka_unit_test(test_wrong_arguments_are_refused_in_one_sentence),
    };
    int fd, failed;

    if (argc != 2) {
        fprintf(stderr, "usage: %s LFM_RUN\n", argv[0]);
        return 2;
    }
    program = argv[1];
    fd = mkstemp(codes_file);
    if (fd < 0)
        return 1;
    close(fd);
    failed = cmocka_run_group_tests_name("run_wave", tests, program_take_out, program_remove_out);
    unlink(codes_file);
    return failed;
}
