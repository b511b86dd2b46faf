/* SPDX-License-Identifier: MIT */

/*
 * Proves the contract of lfm-run logits, embed and info as a program: the bytes it writes, and that
 * a wrong argument or input gives exit 2, one sentence on stderr and nothing on stdout.
 *
 *     test_run_model LFM_RUN
 */

#include "tests/tools/program.h"

/* "1,2,3" of a JSON array. */
static void join_ids(struct json_object *ids, char list[4096])
{
    size_t n = 0;

    list[0] = 0;
    for (size_t i = 0; i < json_object_array_length(ids); i++)
        n += (size_t)snprintf(list + n, 4096 - n, "%s%d", i ? "," : "",
                              json_object_get_int(json_object_array_get_idx(ids, i)));
}

static void test_logits_are_those_of_the_reference_for_any_chunk_and_cache(void **state)
{
    const char *path = data_path("tiny_dense_f32.json");
    struct json_object *json = golden_json(path);
    struct json_object *item = json_object_array_get_idx(golden_get(json, "cases"), 0);
    const size_t n = json_object_array_length(golden_get(item, "tokens"));
    const size_t n_vocab = (size_t)json_object_get_int(golden_get(json, "n_vocab"));
    _cleanup_(freep) float *expected =
        golden_floats(golden_beside(path, golden_str(item, "logits")), n * n_vocab);
    static const struct {
        const char *options;
        double limit;
    } runs[] = {
        {"--precise", 2e-3},         {"--precise --chunk 7 --threads 1", 2e-3},
        {"--threads 2", 2e-3},       {"--chunk 1000000", 2e-3},
        {"--precise --kv f16", 0.1}, {"--chunk=1 --kv=f32", 2e-3},
    };
    char list[4096], text[4096], complaint[4096];

    (void)state;
    join_ids(golden_get(item, "tokens"), list);
    for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
        _cleanup_(freep) float *found = NULL;

        if (program_run(text, complaint, "logits --model %s --ids %s %s --out %s",
                        golden_beside(path, golden_str(json, "gguf")), list, runs[i].options,
                        program_out) != 0)
            fail_msg("%s: %s", runs[i].options, complaint);
        assert_string_equal(text, "");
        found = golden_floats(program_out, n * n_vocab);
        golden_close(runs[i].options, found, expected, n * n_vocab, runs[i].limit);
    }
    json_object_put(json);
}

static void test_embed_writes_rows_of_length_one(void **state)
{
    const char *path = data_path("tiny_bidir_f32.json");
    struct json_object *json = golden_json(path);
    struct json_object *item = json_object_array_get_idx(golden_get(json, "queries"), 0);
    const size_t n = json_object_array_length(golden_get(item, "ids"));
    const size_t dim = (size_t)json_object_get_int(golden_get(json, "dim"));
    _cleanup_(freep) float *expected =
        golden_floats(golden_beside(path, golden_str(item, "embeddings")), n * dim);
    _cleanup_(freep) float *found = NULL;
    char list[4096], text[4096], complaint[4096];

    (void)state;
    join_ids(golden_get(item, "ids"), list);
    if (program_run(text, complaint, "embed --model %s --ids %s --precise --out %s",
                    golden_beside(path, golden_str(json, "gguf")), list, program_out) != 0)
        fail_msg("%s", complaint);
    found = golden_floats(program_out, n * dim);
    golden_close("embed", found, expected, n * dim, 2e-5);
    json_object_put(json);
}

static void test_info_is_one_json_document(void **state)
{
    char text[4096], complaint[4096];
    struct json_object *json;

    (void)state;
    assert_int_equal(
        program_run(text, complaint, "info --model %s --ctx 100", data_path("tiny_moe_f32.gguf")),
        0);
    json = json_tokener_parse(text);
    assert_non_null(json);
    assert_string_equal(golden_str(json, "architecture"), "lfm2moe");
    assert_int_equal(json_object_get_int(golden_get(json, "n_layer")),
                     json_object_array_length(golden_get(json, "layers")));
    assert_true(json_object_get_int64(golden_get(json, "memory_bytes")) > 0);
    json_object_put(json);
}

static void test_wrong_arguments_are_refused_in_one_sentence(void **state)
{
    static const char *const wrong[] = {
        "logits --ids 1 --out /tmp/never",
        "logits --model %s --out /tmp/never",
        "logits --model %s --ids 1",
        "logits --model %s --ids 290 --out /tmp/never",
        "logits --model %s --ids 1,x --out /tmp/never",
        "logits --model %s --ids 1 --chunk 0 --out /tmp/never",
        "logits --model %s --ids 1 --kv q4 --out /tmp/never",
        "logits --model %s --ids 1 --out /no/such/folder/file",
        "logits --model %s.json --ids 1 --out /tmp/never",
        "embed --model / --ids 1 --out /tmp/never",
        "info --model %s --ctx x",
        "info",
        "",
        "no-verb",
        "tokenize --model %s --threads x </dev/null",
        "parse --model %s --kv q4 </dev/null",
        "tokenize --model \"$(printf 'no\\nfile\\033')\" </dev/null",
        "tokenize --model /$(printf '%%0600d' 1) </dev/null",
    };

    (void)state;
    program_refuses(wrong, ARRAY_LEN(wrong), data_path("tiny_dense_f32.gguf"));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_are_those_of_the_reference_for_any_chunk_and_cache),
        cmocka_unit_test(test_embed_writes_rows_of_length_one),
        cmocka_unit_test(test_info_is_one_json_document),
        cmocka_unit_test(test_wrong_arguments_are_refused_in_one_sentence),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: %s LFM_RUN\n", argv[0]);
        return 2;
    }
    program = argv[1];
    return cmocka_run_group_tests_name("run_model", tests, program_take_out, program_remove_out);
}
