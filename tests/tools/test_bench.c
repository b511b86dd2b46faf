/* SPDX-License-Identifier: MIT */

/*
 * Proves the contract of lfm-bench as a program: the keys of its reports, on text, pictures and
 * speech, with a peer whose figures are known. No figure of our own is judged.
 *
 *     test_bench LFM_BENCH
 */

#include "tests/audio/talk.h"
#include "tests/tools/program.h"

static double number(struct json_object *json, const char *key)
{
    return json_object_get_double(golden_get(json, key));
}

static void test_text_is_reported_with_the_ratios_to_a_peer(void **state)
{
    char text[4096], complaint[4096];
    struct json_object *json;

    (void)state;
    if (program_run(
            text, complaint,
            "--model %s -p 16 -n 4 -d 2 -t 1 -r 2 --json --peer "
            "\"sh -c 'echo {\\\\\\\"prefill_tps\\\\\\\": 8, \\\\\\\"decode_tps\\\\\\\": 4}'\"",
            data_path("tiny_dense_f32.gguf")) != 0)
        fail_msg("%s", complaint);
    json = json_tokener_parse(text);
    assert_true(number(json, "prefill_tps") >= number(json, "prefill_tps_median"));
    assert_true(number(json, "decode_tps") > 0);
    assert_true(number(json, "peer_prefill_tps") == 8);
    assert_true(fabs(number(json, "decode_ratio") * 4 / number(json, "decode_tps") - 1) < 1e-2);
    assert_true(number(json, "load_s") > 0 && number(json, "rss_mb") > 0);
    assert_true(number(json, "file_mb") > 0);
    json_object_put(json);
}

static void test_pictures_are_reported_view_by_view(void **state)
{
    char text[4096], complaint[4096];
    struct json_object *json, *views;
    size_t n_tokens = 0;

    (void)state;
    if (program_run(text, complaint,
                    "--mmproj %s --size 1000x720 -t 2 -r 2 --json --peer "
                    "\"sh -c 'test -f \\\"\\$LFM_BENCH_IMAGE\\\" && "
                    "echo {\\\\\\\"image_encode_ms\\\\\\\": 5}'\"",
                    data_path("vision/mmproj-tiny_text_f32.gguf")) != 0)
        fail_msg("%s", complaint);
    json = json_tokener_parse(text);
    views = golden_get(json, "views");
    assert_int_equal(json_object_array_length(views), 7);
    for (size_t i = 0; i < 7; i++) {
        struct json_object *view = json_object_array_get_idx(views, i);

        n_tokens += (size_t)number(view, "tokens");
        assert_true(number(view, "encode_ms") <= number(view, "encode_ms_median"));
    }
    assert_int_equal(n_tokens, (size_t)number(json, "tokens"));
    assert_true(number(json, "image_encode_ms") <= number(json, "image_encode_ms_median"));
    assert_true(fabs(number(json, "image_encode_ratio") * number(json, "image_encode_ms") / 5 - 1) <
                1e-2);
    json_object_put(json);

    if (program_run(text, complaint, "--mmproj %s --image %s -r 1 --json",
                    data_path("vision/mmproj-tiny_text_q8_0.gguf"),
                    data_path("vision/wide.png")) != 0)
        fail_msg("%s", complaint);
    json = json_tokener_parse(text);
    assert_int_equal((int)number(json, "width"), 300);
    json_object_put(json);
}

/* The bytes, which are freed, as a file in /tmp; path: a mkstemp() pattern. */
static void put_file(char *path, uint8_t *bytes, size_t size)
{
    const int fd = mkstemp(path);

    assert_true(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    close(fd);
    free(bytes);
}

static void test_speech_is_reported_stage_by_stage(void **state)
{
    static const char *const keys[] = {"backbone_ms", "depthformer_ms", "decoder_ms",
                                       "first_audio_ms", "encode_ms"};
    char paths[3][32] = {"/tmp/test-bench-XXXXXX", "/tmp/test-bench-XXXXXX",
                         "/tmp/test-bench-XXXXXX"};
    char text[4096], complaint[4096], key[64];
    double sum = 0;
    struct json_object *json;
    uint8_t *bytes;
    size_t size;
    int status;

    (void)state;
    bytes = talk_ear(32, &size);
    put_file(paths[0], bytes, size);
    bytes = talk_vocoder(32, &size);
    put_file(paths[1], bytes, size);
    bytes = talk_tokenizer(&size);
    put_file(paths[2], bytes, size);
    status = program_run(text, complaint,
                         "--audio-set %s,%s,%s,%s --seconds 2 -n 3 -t 2 -r 2 --json --peer "
                         "\"sh -c 'test \\$(stat -c %%s \\\"\\$LFM_BENCH_AUDIO\\\") = 64044 && "
                         "echo {\\\\\\\"encode_ms\\\\\\\": 5}'\"",
                         data_path("tiny_dense_f32.gguf"), paths[0], paths[1], paths[2]);
    if (status != 0)
        fail_msg("%s", complaint);
    json = json_tokener_parse(text);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        snprintf(key, sizeof(key), "%s_median", keys[i]);
        assert_true(number(json, keys[i]) > 0 && number(json, keys[i]) <= number(json, key));
        sum += i < 3 ? number(json, keys[i]) : 0;
    }
    assert_true(fabs(number(json, "speech_rtf") * 80 / sum - 1) < 1e-2);
    assert_true(fabs(number(json, "encode_rtf") * 2000 / number(json, "encode_ms") - 1) < 1e-2);
    assert_true(fabs(number(json, "encode_ratio") * number(json, "encode_ms") / 5 - 1) < 1e-2);
    assert_int_equal((int)number(json, "rows"), 26);
    json_object_put(json);

    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        unlink(paths[i]);
}

static void test_wrong_arguments_are_refused_in_one_sentence(void **state)
{
    static const char *const wrong[] = {
        "",
        "--mmproj %s --size 512",
        "--mmproj %s --size 0x5",
        "--mmproj %s --size 5x5x5",
        "--mmproj %s --image /no/such/file",
        "--mmproj /no/such/file",
        "--model %s",
        "--mmproj %s -r 0",
        "--mmproj %s --size 32x32 -r 1 --peer false",
        "--mmproj %s --no-such-option",
        "--audio-set %s",
        "--audio-set %1$s,%1$s,%1$s,",
        "--audio-set %1$s,%1$s,%1$s,%1$s,%1$s",
        "--audio-set %1$s,%1$s,%1$s,%1$s",
        "--audio-set %1$s,%1$s,%1$s,%1$s --seconds 0",
        "--audio-set %1$s,%1$s,%1$s,%1$s --seconds 601",
        "--audio-set %1$s,%1$s,%1$s,%1$s -n 0",
    };

    (void)state;
    program_refuses(wrong, ARRAY_LEN(wrong), data_path("vision/mmproj-tiny_text_f32.gguf"));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_is_reported_with_the_ratios_to_a_peer),
        cmocka_unit_test(test_pictures_are_reported_view_by_view),
        cmocka_unit_test(test_speech_is_reported_stage_by_stage),
        cmocka_unit_test(test_wrong_arguments_are_refused_in_one_sentence),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: %s LFM_BENCH\n", argv[0]);
        return 2;
    }
    program = argv[1];
    return cmocka_run_group_tests_name("bench", tests, program_take_out, program_remove_out);
}
