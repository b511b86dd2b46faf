/* SPDX-License-Identifier: MIT */

/*
 * Proves the contract of lfm-run audio-generate as a program: the reference's runs, with prompts of
 * tokens, sounds and codes; and what it refuses.
 *
 *     test_run_speech LFM_RUN
 */

#include <stdbool.h>

#include "tests/tools/program.h"

enum { TEXT = 1, AUDIO_IN, AUDIO_OUT }; /* as in prompt_modality of the reference */

static char request[] = "/tmp/test-run-request-XXXXXX";

static int take_files(void **state)
{
    const int fd = mkstemp(request);

    return fd < 0 || close(fd) < 0 ? -1 : program_take_out(state);
}

static int remove_files(void **state)
{
    unlink(request);
    return program_remove_out(state);
}

static void write_request(const char *text)
{
    FILE *file = fopen(request, "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static const char *audio_path(const char *name)
{
    char path[512];

    snprintf(path, sizeof(path), "audio/%s", name);
    return fixture_path(path);
}

/* The prompt of a run as segments: each stretch of one kind is one. */
static struct json_object *segments_of(struct json_object *run)
{
    struct json_object *modality = golden_get(run, "prompt_modality");
    struct json_object *ids = golden_get(run, "prompt_text_ids");
    struct json_object *frames = golden_get(run, "prompt_audio_out_codes");
    struct json_object *segments = json_object_new_array(), *list = NULL;
    size_t n_ids = 0, n_frames = 0;
    int before = 0;

    for (size_t i = 0; i < json_object_array_length(modality); i++) {
        const int kind = json_object_get_int(json_object_array_get_idx(modality, i));

        if (kind != before) {
            struct json_object *segment = json_object_new_object();
            char name[256];

            list = json_object_new_array();
            if (kind == AUDIO_IN) {
                snprintf(name, sizeof(name), "speech/%s.16k.f32", golden_str(run, "user_audio"));
                json_object_object_add(segment, "audio", json_object_new_string(audio_path(name)));
                json_object_put(list);
            } else {
                json_object_object_add(segment, kind == TEXT ? "ids" : "codes", list);
            }
            json_object_array_add(segments, segment);
        }
        before = kind;
        if (kind == TEXT)
            json_object_array_add(list,
                                  json_object_get(json_object_array_get_idx(ids, n_ids++)));
        else if (kind == AUDIO_OUT)
            json_object_array_add(list,
                                  json_object_get(json_object_array_get_idx(frames, n_frames++)));
    }
    assert_int_equal(n_ids, json_object_array_length(ids));
    assert_int_equal(n_frames, json_object_array_length(frames));
    return segments;
}

static void check_run(const char *name, struct json_object *run)
{
    static char text[1 << 16];
    struct json_object *json = json_object_new_object(), *found;
    char command[8192];
    FILE *pipe;

    json_object_object_add(json, "segments", segments_of(run));
    json_object_object_add(json, "mode", json_object_get(golden_get(run, "mode")));
    json_object_object_add(json, "max_new_tokens",
                           json_object_get(golden_get(run, "max_new_tokens")));
    json_object_object_add(json, "temperature", json_object_new_int(0));
    write_request(json_object_to_json_string(json));
    json_object_put(json);

    snprintf(command, sizeof(command),
             "%s audio-generate --precise --model %s --mmproj %s --vocoder %s --request %s",
             program, audio_path("lm.f16.gguf"), audio_path("mmproj.f16.gguf"),
             audio_path("vocoder.f16.gguf"), request);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    text[fread(text, 1, sizeof(text) - 1, pipe)] = '\0';
    assert_int_equal(pclose(pipe), 0);
    found = json_tokener_parse(text);
    if (!json_object_equal(found, golden_get(run, "events")))
        fail_msg("%s: %s", name, text);
    json_object_put(found);
}

static void test_runs_of_the_reference(void **state)
{
    struct json_object *runs;

    (void)state;
    if (!audio_path("gen/index.json"))
        skip();
    runs = golden_json(audio_path("gen/index.json"));
    assert_true(json_object_object_length(runs) > 0);
    json_object_object_foreach(runs, name, run)
        check_run(name, run);
    json_object_put(runs);
}

static void test_requests_that_make_no_sense(void **state)
{
    static const struct {
        const char *request, *says;
    } wrong[] = {
        {"", "not JSON"},
        {"[]", "mode"},
        {"{\"mode\":\"sequential\"}", "segments"},
        {"{\"mode\":\"both\",\"segments\":[]}", "mode"},
        {"{\"mode\":\"sequential\",\"segments\":[]}", "empty"},
        {"{\"mode\":\"sequential\",\"segments\":[{}]}", "Segment 0"},
        {"{\"mode\":\"sequential\",\"segments\":[{\"ids\":3}]}", "\"ids\""},
        {"{\"mode\":\"sequential\",\"segments\":[{\"ids\":[1,-1]}]}", "Id 1"},
        {"{\"mode\":\"sequential\",\"segments\":[{\"ids\":[99999999]}]}", "Id 0"},
        {"{\"mode\":\"sequential\",\"segments\":[{\"ids\":[1.5]}]}", "Id 0"},
        {"{\"mode\":\"sequential\",\"segments\":[{\"codes\":[[1,2,3]]}]}", "Frame 0"},
        {"{\"mode\":\"sequential\",\"segments\":[{\"codes\":[[0,0,0,0,0,0,0,2049]]}]}", "Code 7"},
        {"{\"mode\":\"sequential\",\"segments\":[{\"audio\":7}]}", "\"audio\""},
        {"{\"mode\":\"sequential\",\"segments\":[{\"audio\":\"/nonexistent.wav\"}]}",
         "nonexistent"},
        {"{\"mode\":\"sequential\",\"segments\":[{\"ids\":[1]}],\"max_new_tokens\":-1}",
         "max_new_tokens"},
        {"{\"mode\":\"sequential\",\"segments\":[{\"ids\":[1]}],\"temperature\":\"hot\"}",
         "temperature"},
    };
    char text[4096], complaint[4096];

    (void)state;
    if (!audio_path("lm.f16.gguf"))
        skip();
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        write_request(wrong[i].request);
        assert_int_equal(program_run(text, complaint,
                                     "audio-generate --model %s --mmproj %s --vocoder %s "
                                     "--request %s",
                                     audio_path("lm.f16.gguf"), audio_path("mmproj.f16.gguf"),
                                     audio_path("vocoder.f16.gguf"), request),
                         2);
        assert_string_equal(text, "");
        if (!strstr(complaint, wrong[i].says))
            fail_msg("%s: %s", wrong[i].request, complaint);
    }
}

static void test_files_that_are_missing_or_of_another_kind(void **state)
{
    static const char *const wrong[] = {
        "audio-generate",
        "audio-generate --model %s",
        "audio-generate --model %s --vocoder /nonexistent.gguf --request /dev/null",
    };

    (void)state;
    program_refuses(wrong, ARRAY_LEN(wrong), data_path("tiny_dense_f32.gguf"));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_of_the_reference),
        cmocka_unit_test(test_requests_that_make_no_sense),
        cmocka_unit_test(test_files_that_are_missing_or_of_another_kind),
    };

    program = argc > 1 ? argv[1] : "lfm-run";
    return cmocka_run_group_tests(tests, take_files, remove_files);
}
