/* SPDX-License-Identifier: MIT */

/*
 * Proves the tokenizer: the cuts of the pre-tokeniser and the order of merges against a plain
 * definition, control tokens only where markup may stand, any bytes there and back, refusal of
 * damaged vocabularies; and all strings of the reference fixtures.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <json-c/json.h>

#include "base/cleanup.h"
#include "tests/fixture.h"
#include "tests/text/vocabulary.h"
#include "text/tokenizer.h"

static struct tokenizer *small;

static int setup(void **state)
{
    (void)state;
    small = vocabulary_tokenizer();
    return small ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    small = tokenizer_free(small);
    return 0;
}

static struct token_list encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                                bool markup)
{
    struct text_span span = {.text = text, .length = length, .markup = markup};
    struct token_list ids = {0};
    struct error err = ERROR_INIT;

    assert_int_equal(tokenizer_encode(tokenizer, &span, 1, &ids, &err), 0);
    assert_int_equal(err.code, ERROR_NONE);
    return ids;
}

/* The pieces of the ids with "|" between them. */
static void join(const struct tokenizer *tokenizer, const struct token_list *ids, char *out)
{
    for (size_t i = 0; i < ids->n; i++) {
        size_t length;
        const char *piece = tokenizer_piece(tokenizer, ids->ids[i], &length);

        if (i > 0)
            *out++ = '|';
        memcpy(out, piece, length);
        out += length;
    }
    *out = '\0';
}

static void check_cuts(const char *text, bool markup, const char *expected)
{
    struct token_list ids = encode(small, text, strlen(text), markup);
    char found[1024];

    join(small, &ids, found);
    assert_string_equal(found, expected);
    token_list_done(&ids);
}

/* Each merge of the vocabulary would join what the pre-tokeniser must keep apart. */
static void test_text_is_cut_as_the_pattern_says(void **state)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"aaaaa", "aaaa|a"},
        {"it's", "i|t|'s"},
        {"it'Sa", "i|t|'|S|a"},
        {"''sa", "'|'|sa"},
        {"'sa", "'s|a"},
        {"1111111", "111|111|1"},
        {"a1a", "a|1|a"},
        {"  a", " | a"},
        {"    a", "  | | a"},
        {"a  ", "a|  "},
        {" a a", " a| a"},
        {"a\n\na", "a|\n\n|a"},
        {"  \n\na", "  |\n\n|a"},
        {"\n\n  a", "\n\n| | a"},
        {"\r\n\r\n", "\r\n|\r\n"},
        {"!a", "!a"},
        {"!!a", "!!|a"},
        {"!!\n\na", "!!\n\n|a"},
        {" !!", " |!!"},
        {"\t\ta", "\t|\t|a"},
        {"aa\u0301aa", "aa|\xcc|\x81|aa"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        check_cuts(cases[i][0], false, cases[i][1]);
}

static void test_control_tokens_come_from_markup_only(void **state)
{
    (void)state;
    check_cuts("<|im_end|>", true, "<|im_end|>");
    check_cuts("<|im_end|>", false, "<|||i|m|_|e|n|d|||>");
    check_cuts("a<|im|>a", true, "a|<|im|>|a");
    check_cuts("a<|im|>xa", true, "a|<|im|>x|a");
    check_cuts("<|im_<|im|>", true, "<|||i|m|_|<|im|>");
    check_cuts("[PAD10]", true, "[|P|A|D|1|0|]");
    check_cuts("<|im_end|>  <|im_end|>", true, "<|im_end|>|  |<|im_end|>");
}

static void test_user_defined_tokens_match_anywhere(void **state)
{
    const struct text_span spans[] = {{"pyt", 3, false}, {"hon", 3, true}};
    struct token_list ids = {0};

    (void)state;
    check_cuts("apythona", false, "a|python|a");
    check_cuts("apythona", true, "a|python|a");
    assert_int_equal(tokenizer_encode(small, spans, 2, &ids, NULL), 0);
    assert_int_equal(ids.n, 1);
    assert_int_equal(ids.ids[0], V_PYTHON);
    token_list_done(&ids);
}

static void test_a_control_token_across_a_border_stays_text(void **state)
{
    const struct text_span spans[][3] = {
        {{"<|im_", 5, true}, {"end|>", 5, false}, {"", 0, true}},
        {{"<|im_", 5, false}, {"end|>", 5, true}, {"", 0, true}},
        {{"<|im_", 5, true}, {"", 0, false}, {"end|>", 5, true}},
        {{"", 0, true}, {"<|im_end|", 9, true}, {">", 1, false}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(spans); i++) {
        struct token_list ids = {0};

        assert_int_equal(tokenizer_encode(small, spans[i], 3, &ids, NULL), 0);
        assert_int_equal(ids.n, 10);
        token_list_done(&ids);
    }
}

static void test_spans_are_cut_as_one_text(void **state)
{
    const struct text_span spans[] = {{"!", 1, true}, {"!\n", 2, false}, {"\na", 2, true}};
    struct token_list ids = {0};
    char found[64];

    (void)state;
    assert_int_equal(tokenizer_encode(small, spans, 3, &ids, NULL), 0);
    join(small, &ids, found);
    assert_string_equal(found, "!!\n\n|a");
    token_list_done(&ids);
}

/* The rank of a merge of two pieces, or VOCABULARY_MERGES. */
static size_t rank_of(const char *left, const char *right)
{
    const size_t n = strlen(left);

    for (size_t rank = 0; rank < VOCABULARY_MERGES; rank++) {
        const char *merge = vocabulary_merges[rank];

        if (strncmp(merge, left, n) == 0 && merge[n] == ' ' && strcmp(merge + n + 1, right) == 0)
            return rank;
    }
    return VOCABULARY_MERGES;
}

/* The definition: look for the lowest rank over all pairs, merge its leftmost pair, repeat. */
static size_t merge_plainly(char pieces[][64], size_t n)
{
    for (;;) {
        size_t best_rank = VOCABULARY_MERGES, best = 0;

        for (size_t i = 0; i + 1 < n; i++) {
            const size_t rank = rank_of(pieces[i], pieces[i + 1]);

            if (rank < best_rank)
                best_rank = rank, best = i;
        }
        if (best_rank == VOCABULARY_MERGES)
            return n;
        memcpy(pieces[best] + strlen(pieces[best]), pieces[best + 1], strlen(pieces[best + 1]) + 1);
        memmove(pieces[best + 1], pieces[best + 2], (n - best - 2) * sizeof(pieces[0]));
        n--;
    }
}

static void test_merges_follow_the_definition(void **state)
{
    uint32_t random = 1;

    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        char pieces[32][64], text[33] = {0}, expected[1024] = {0}, found[1024];
        struct token_list ids;
        size_t n;

        /* One match of the pattern: letters, or punctuation and a newline. */
        random = random * 1664525u + 1013904223u;
        n = 1 + (random >> 24) % 30;
        for (size_t i = 0; i < n; i++)
            text[i] = round % 2 ? 'a' : i + 1 < n ? '!' : '\n';
        for (size_t i = 0; i < n; i++)
            strcpy(pieces[i], text[i] == '\n' ? "\u010a" : (char[]){text[i], '\0'});
        n = merge_plainly(pieces, n);
        for (size_t i = 0; i < n; i++) {
            strcat(expected, i > 0 ? "|" : "");
            strcat(expected, strcmp(pieces[i], "\u010a") ? pieces[i] : "\n");
        }
        ids = encode(small, text, strlen(text), false);
        join(small, &ids, found);
        assert_string_equal(found, expected);
        token_list_done(&ids);
    }
}

static void check_round_trip(const char *text, size_t length, bool markup)
{
    struct token_list ids = encode(small, text, length, markup);
    size_t at = 0;

    for (size_t i = 0; i < ids.n; i++) {
        size_t n;
        const char *piece = tokenizer_piece(small, ids.ids[i], &n);

        assert_true(n <= length - at);
        assert_memory_equal(piece, text + at, n);
        at += n;
    }
    assert_int_equal(at, length);
    token_list_done(&ids);
}

static void test_any_bytes_come_back(void **state)
{
    uint32_t random = 7;

    (void)state;
    check_round_trip("a\0a\0\0", 5, true);
    check_round_trip("\xff\xfe\xe2\x82", 4, true);
    for (unsigned round = 0; round < 500; round++) {
        char text[64];
        size_t n;

        random = random * 1664525u + 1013904223u;
        n = random >> 26;
        for (size_t i = 0; i < n; i++) {
            random = random * 1664525u + 1013904223u;
            text[i] = round % 2 ? (char)(random >> 24) : "<|im_end> \n\xc3\xa9'sa1"[random >> 28];
        }
        check_round_trip(text, n, round % 3 == 0);
    }
}

static void test_a_long_run_is_one_piece(void **state)
{
    const size_t n = (size_t)1 << 20;
    _cleanup_(freep) char *text = malloc(n);
    struct token_list ids;

    (void)state;
    assert_non_null(text);
    memset(text, 'a', n);
    ids = encode(small, text, n, true);
    assert_int_equal(ids.n, n / 4);
    token_list_done(&ids);

    memset(text, '<', n);
    ids = encode(small, text, n, true);
    assert_int_equal(ids.n, n);
    token_list_done(&ids);
}

static void test_ids_are_appended_and_kept_when_the_text_is_too_long(void **state)
{
    struct text_span span = {.text = "a", .length = TOKENIZER_TEXT_MAX + 1};
    struct token_list ids = {0};
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(token_list_push(&ids, 5), 0);
    assert_true(tokenizer_encode(small, &span, 1, &ids, &err) < 0);
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    assert_int_equal(ids.n, 1);
    span.length = 1;
    assert_int_equal(tokenizer_encode(small, &span, 1, &ids, NULL), 0);
    assert_int_equal(ids.n, 2);
    assert_int_equal(ids.ids[0], 5);
    token_list_done(&ids);
}

static void test_ids_are_known_by_type_and_by_text(void **state)
{
    size_t length;

    (void)state;
    assert_int_equal(tokenizer_n_vocab(small), VOCABULARY_N);
    assert_int_equal(tokenizer_bos(small), V_BOS);
    assert_true(tokenizer_add_bos(small));
    assert_true(tokenizer_is_end(small, V_IM_END));
    assert_true(tokenizer_is_end(small, V_ENDOFTEXT));
    assert_false(tokenizer_is_end(small, V_BOS));
    assert_false(tokenizer_is_end(small, TOKEN_NONE));
    assert_true(tokenizer_is_control(small, V_IM_START));
    assert_true(tokenizer_is_control(small, V_UNUSED));
    assert_true(tokenizer_is_control(small, VOCABULARY_N));
    assert_false(tokenizer_is_control(small, V_PYTHON));
    assert_false(tokenizer_is_control(small, V_BYTES));
    assert_int_equal(tokenizer_find(small, "<|tool_call_end|>"), V_CALL_END);
    assert_int_equal(tokenizer_find(small, "<|im|>"), V_SHORT);
    assert_int_equal(tokenizer_find(small, "<|im|"), TOKEN_NONE);
    assert_int_equal(tokenizer_find(small, "<|im|>xx"), TOKEN_NONE);
    assert_int_equal(tokenizer_find(small, ""), TOKEN_NONE);
    tokenizer_piece(small, V_UNUSED, &length);
    assert_int_equal(length, 0);
    tokenizer_piece(small, VOCABULARY_N, &length);
    assert_int_equal(length, 0);
}

/* --- damaged vocabularies -------------------------------------------------------------------- */

static void check_refused(const struct vocabulary_plan *plan, const char *part)
{
    struct error err = ERROR_INIT;

    assert_null(vocabulary_load(plan, &err));
    assert_int_equal(err.code, ERROR_UNSUPPORTED_FORMAT);
    if (!strstr(err.text, part))
        fail_msg("\"%s\" does not say \"%s\"", err.text, part);
}

static void test_damaged_vocabularies_are_refused(void **state)
{
    struct vocabulary_plan plan;
    char longer[300];

    (void)state;
    vocabulary_plan(&plan);
    plan.model = "llama";
    check_refused(&plan, "tokenizer.ggml.model is \"llama\", expected \"gpt2\"");
    vocabulary_plan(&plan);
    plan.model = NULL;
    check_refused(&plan, "no tokenizer.ggml.model");
    vocabulary_plan(&plan);
    plan.pre = "qwen2";
    check_refused(&plan, "tokenizer.ggml.pre is \"qwen2\"");
    vocabulary_plan(&plan);
    plan.n_types--;
    check_refused(&plan, "token_type has");
    vocabulary_plan(&plan);
    plan.types[20] = 7;
    check_refused(&plan, "type of token 20");
    vocabulary_plan(&plan);
    plan.tokens[40] = plan.tokens[30];
    check_refused(&plan, "tokens 30 and 40");
    vocabulary_plan(&plan);
    plan.tokens[V_BYTES + 'q'] = "qqq";
    check_refused(&plan, "byte 0x71");
    vocabulary_plan(&plan);
    plan.tokens[V_SHORT] = "";
    check_refused(&plan, "special token 7 is 0 bytes");
    vocabulary_plan(&plan);
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    plan.tokens[V_SHORT] = longer;
    check_refused(&plan, "special token 7 is 299 bytes");
    vocabulary_plan(&plan);
    plan.bos = VOCABULARY_N;
    check_refused(&plan, "tokenizer.ggml.bos_token_id");
    vocabulary_plan(&plan);
    plan.eos = UINT32_MAX;
    check_refused(&plan, "tokenizer.ggml.eos_token_id");
    vocabulary_plan(&plan);
    plan.n_tokens = plan.n_types = 0;
    check_refused(&plan, "byte 0x00");
}

/* Bench files and cut vocabularies list such merges. */
static void test_merges_without_tokens_are_left_out(void **state)
{
    struct vocabulary_plan plan;
    struct tokenizer *tokenizer;
    struct token_list ids;

    (void)state;
    vocabulary_plan(&plan);
    plan.tokens[V_BYTES + 256] = "zz"; /* instead of "aa" */
    tokenizer = vocabulary_load(&plan, NULL);
    assert_non_null(tokenizer);
    ids = encode(tokenizer, "aaaa", 4, false);
    assert_int_equal(ids.n, 4);
    token_list_done(&ids);
    tokenizer_free(tokenizer);
}

static void test_a_token_outside_the_alphabet_stands_for_its_text(void **state)
{
    struct vocabulary_plan plan;
    struct tokenizer *tokenizer;
    size_t length;

    (void)state;
    vocabulary_plan(&plan);
    plan.tokens[VOCABULARY_N - 1] = "[Q] \u4eba";
    tokenizer = vocabulary_load(&plan, NULL);
    assert_non_null(tokenizer);
    assert_memory_equal(tokenizer_piece(tokenizer, VOCABULARY_N - 1, &length), "[Q] \u4eba", 7);
    assert_int_equal(length, 7);
    tokenizer_free(tokenizer);
}

/* --- streaming ------------------------------------------------------------------------------- */

/* Push the text in pieces of the given lengths, by turns, and check what comes out. */
static void check_stream(const char *text, size_t length, size_t step_a, size_t step_b,
                         const char *expected)
{
    struct detokenizer detokenizer = {0};
    char out[4096];
    size_t n = 0, at = 0;

    for (unsigned turn = 0; at < length; turn++) {
        const size_t step = MIN(turn % 2 ? step_b : step_a, length - at);
        const size_t n_new = detokenizer_push(&detokenizer, text + at, step, out + n);

        assert_true(n_new <= DETOKENIZER_ROOM(step));
        assert_true(utf8_valid(out + n, n_new));
        n += n_new;
        at += step;
    }
    n += detokenizer_finish(&detokenizer, out + n);
    assert_int_equal(n, strlen(expected));
    assert_memory_equal(out, expected, n);
    assert_int_equal(detokenizer_finish(&detokenizer, out), 0);
}

static void test_characters_come_out_whole(void **state)
{
    static const char *const cases[][2] = {
        {"a\u00e9\u4eba\U0001f600z", "a\u00e9\u4eba\U0001f600z"},
        {"a\xff\xfez", "a\ufffd\ufffdz"},
        {"\xe4\xba", "\ufffd"},
        {"\xe4\xbaz", "\ufffdz"},
        {"\xf0\x9f\x98z", "\ufffdz"},
        {"\xf0\x9f\x98\xe4\xba\xba", "\ufffd\u4eba"},
        {"\xed\xa0\x80", "\ufffd\ufffd\ufffd"},
        {"\xc0\x80", "\ufffd\ufffd"},
        {"\x80\x80\xc3", "\ufffd\ufffd\ufffd"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (size_t a = 1; a <= 12; a++)
            for (size_t b = 1; b <= 4; b++)
                check_stream(cases[i][0], strlen(cases[i][0]), a, b, cases[i][1]);
}

/* --- reference fixtures ---------------------------------------------------------------------- */

static struct tokenizer *reference_tokenizer(void)
{
    const char *path = fixture_path("text/tokenizer/lfm2-vocab.gguf");
    struct error err = ERROR_INIT;
    struct tokenizer *tokenizer;
    struct gguf *gguf;

    if (!path) {
        print_message("skipped: the fixture text/tokenizer/lfm2-vocab.gguf is absent\n");
        skip();
    }
    gguf = gguf_open(path, &err);
    assert_non_null(gguf);
    tokenizer = tokenizer_load(gguf, &err);
    if (!tokenizer)
        fail_msg("%s", err.text);
    gguf_free(gguf);
    return tokenizer;
}

/* Every case of the file: its text must become its ids, and back. */
static void check_reference(const char *name, const char *key)
{
    struct tokenizer *tokenizer = reference_tokenizer();
    struct json_object *document = json_object_from_file(fixture_path(name)), *cases;
    size_t n;

    assert_non_null(document);
    assert_true(json_object_object_get_ex(document, "cases", &cases));
    n = json_object_array_length(cases);
    assert_true(n > 0);
    for (size_t i = 0; i < n; i++) {
        struct json_object *item = json_object_array_get_idx(cases, i);
        struct json_object *text = json_object_object_get(item, key);
        struct json_object *ids = json_object_object_get(item, "ids");
        const char *bytes = json_object_get_string(text);
        const size_t length = (size_t)json_object_get_string_len(text);
        struct token_list found = encode(tokenizer, bytes, length, true);
        size_t at = 0;

        if (found.n != json_object_array_length(ids))
            fail_msg("%s has %zu ids, expected %zu", bytes, found.n, json_object_array_length(ids));
        for (size_t k = 0; k < found.n; k++) {
            size_t n_piece;
            const char *piece = tokenizer_piece(tokenizer, found.ids[k], &n_piece);

            assert_int_equal(found.ids[k],
                             json_object_get_int64(json_object_array_get_idx(ids, k)));
            assert_memory_equal(piece, bytes + at, n_piece);
            at += n_piece;
        }
        assert_int_equal(at, length);
        token_list_done(&found);
    }
    json_object_put(document);
    tokenizer_free(tokenizer);
}

static void test_reference_strings_have_the_reference_ids(void **state)
{
    (void)state;
    check_reference("text/tokenizer/tokenizer_cases.json", "text");
}

static void test_reference_prompts_have_the_reference_ids(void **state)
{
    (void)state;
    check_reference("text/tokenizer/chat_cases.json", "prompt");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_is_cut_as_the_pattern_says),
        cmocka_unit_test(test_control_tokens_come_from_markup_only),
        cmocka_unit_test(test_user_defined_tokens_match_anywhere),
        cmocka_unit_test(test_a_control_token_across_a_border_stays_text),
        cmocka_unit_test(test_spans_are_cut_as_one_text),
        cmocka_unit_test(test_merges_follow_the_definition),
        cmocka_unit_test(test_any_bytes_come_back),
        cmocka_unit_test(test_a_long_run_is_one_piece),
        cmocka_unit_test(test_ids_are_appended_and_kept_when_the_text_is_too_long),
        cmocka_unit_test(test_ids_are_known_by_type_and_by_text),
        cmocka_unit_test(test_damaged_vocabularies_are_refused),
        cmocka_unit_test(test_merges_without_tokens_are_left_out),
        cmocka_unit_test(test_a_token_outside_the_alphabet_stands_for_its_text),
        cmocka_unit_test(test_characters_come_out_whole),
        cmocka_unit_test(test_reference_strings_have_the_reference_ids),
        cmocka_unit_test(test_reference_prompts_have_the_reference_ids),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
