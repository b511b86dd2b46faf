/* SPDX-License-Identifier: MIT */

/*
 * Proves the chat forms: values as Python prints them, what each form does with tools, reasoning
 * and calls, content that is never markup; and all prompts of the reference fixtures.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "tests/fixture.h"
#include "tests/text/vocabulary.h"
#include "text/chat.h"

static void check_render(enum chat_form form, const char *messages, const char *tools,
                         bool as_template, const char *expected)
{
    struct chat_request request = {
        .messages = json_tokener_parse(messages),
        .tools = tools ? json_tokener_parse(tools) : NULL,
        .add_generation_prompt = true,
        .as_template = as_template,
        .date = "2026-01-02",
    };
    struct chat_prompt prompt;
    struct error err = ERROR_INIT;

    if (chat_render(form, &request, &prompt, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(prompt.text, expected);
    chat_prompt_done(&prompt);
    json_object_put(request.messages);
    json_object_put(request.tools);
}

#define BEGIN  "<|startoftext|>"
#define ANSWER "<|im_start|>assistant\n"

static void test_values_are_printed_as_python_prints_them(void **state)
{
    static const char *const cases[][2] = {
        {"{\"a\":1,\"b\":[true,false,null]}", "{\"a\": 1, \"b\": [true, false, null]}"},
        {"[1e3,1.50,0.1,1e16,1e-5,-0.0,123456789.125]",
         "[1000.0, 1.5, 0.1, 1e+16, 1e-05, -0.0, 123456789.125]"},
        {"[9223372036854775807,-9223372036854775808,18446744073709551615]",
         "[9223372036854775807, -9223372036854775808, 18446744073709551615]"},
        {"\"\\u00e9 \\\"\\\\ \\n\\r\\t\\b\\f \\u0001 / \\u007f\"",
         "\"\u00e9 \\\"\\\\ \\n\\r\\t\\b\\f \\u0001 / \x7f\""},
        {"[]", "[]"},
        {"{}", "{}"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json_object *value = json_tokener_parse(cases[i][0]);
        _cleanup_(freep) char *text = chat_dump_json(value);

        assert_string_equal(text, cases[i][1]);
        json_object_put(value);
    }
}

static void test_tools_follow_the_system_text(void **state)
{
    const char *messages = "[{\"role\":\"system\",\"content\":\"S\"}]";

    (void)state;
    check_render(CHAT_LFM2, messages, "[{\"a\":1},\"t\"]", true,
                 BEGIN "<|im_start|>system\nS\nList of tools: <|tool_list_start|>[{\"a\": 1}, t]"
                       "<|tool_list_end|><|im_end|>\n" ANSWER);
    check_render(CHAT_LFM25, messages, "[{\"a\":1}]", true,
                 BEGIN "<|im_start|>system\nS\nList of tools: [{\"a\": 1}]<|im_end|>\n" ANSWER);
    check_render(CHAT_LFM25_VL, messages, "[{\"a\":1}]", true,
                 BEGIN "<|im_start|>system\nS\n\nToday's date: 2026-01-02\n\nList of tools: "
                       "[{\"a\": 1}]<|im_end|>\n" ANSWER);
    check_render(CHAT_LFM25, "[]", "[]", true, BEGIN ANSWER);
    check_render(CHAT_LFM25, "[{\"role\":\"system\",\"content\":\"\"}]", NULL, true, BEGIN ANSWER);
    check_render(CHAT_LFM25_THINK, "[]", NULL, true, BEGIN ANSWER "<think>");
}

static void test_a_reply_can_be_kept_from_thinking(void **state)
{
    struct chat_request request = {
        .messages = json_object_new_array(), .add_generation_prompt = true, .no_thinking = true};

    (void)state;
    for (enum chat_form form = 0; form < _CHAT_FORM_N; form++) {
        struct chat_prompt prompt;

        assert_int_equal(chat_render(form, &request, &prompt, NULL), 0);
        assert_string_equal(prompt.text, chat_form_opens_thinking(form)
                                             ? BEGIN ANSWER "<think></think>"
                                             : BEGIN ANSWER);
        chat_prompt_done(&prompt);
    }
    json_object_put(request.messages);
}

static void test_calls_are_written_in_the_quotes_of_the_form(void **state)
{
    const char *messages =
        "[{\"role\":\"assistant\",\"content\":\"c\",\"tool_calls\":[{\"function\":"
        "{\"name\":\"f\",\"arguments\":{\"s\":\"it's\",\"l\":[\"x\",null],"
        "\"o\":{\"k\":true},\"b\":true}}}]}]";

    (void)state;
    check_render(CHAT_LFM25_MOE, messages, NULL, true,
                 BEGIN ANSWER "c<|tool_call_start|>[f(s='it's', l=['x', None], o={\"k\": true}, "
                              "b=True)]<|tool_call_end|><|im_end|>\n" ANSWER);
    check_render(CHAT_LFM25, messages, NULL, true, BEGIN ANSWER "c<|im_end|>\n" ANSWER);
    check_render(CHAT_LFM25, messages, NULL, false,
                 BEGIN ANSWER "c<|tool_call_start|>[f(s=\"it's\", l=['x', None], o={\"k\": true}, "
                              "b=True)]<|tool_call_end|><|im_end|>\n" ANSWER);
}

static void test_content_that_is_no_text_is_dumped_or_joined(void **state)
{
    const char *messages = "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{"
                           "\"type\":\"image\"}]}]";

    (void)state;
    check_render(CHAT_LFM25, messages, NULL, true,
                 BEGIN "<|im_start|>user\n[{\"type\": \"text\", \"text\": \"a\"}, {\"type\": "
                       "\"image\"}]<|im_end|>\n" ANSWER);
    check_render(CHAT_LFM25_MOE, messages, NULL, true,
                 BEGIN "<|im_start|>user\na<image><|im_end|>\n" ANSWER);
}

/* The expected texts are what jinja2 makes of the released templates. */
static void test_odd_content_is_what_the_template_makes_of_it(void **state)
{
    static const struct {
        const char *role, *content, *lfm2, *moe, *think; /* NULL: no turn */
    } cases[] = {
        {"system", "[]", NULL, NULL, NULL},
        {"system", "false", NULL, NULL, NULL},
        {"user", "null", "null", "", ""},
        {"user", "0", "0", "", ""},
        {"user", "{}", "{}", "", ""},
        {"user", "{\"a\":1,\"b\":2}", "{\"a\": 1, \"b\": 2}", "\"a\"\"b\"",
         "{\"a\": 1, \"b\": 2}"},
        {"user", "[\"a\",{\"b\":1}]", "[\"a\", {\"b\": 1}]", "\"a\"{\"b\": 1}", "a{\"b\": 1}"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *const contents[] = {cases[i].lfm2, cases[i].moe, cases[i].think};
        const enum chat_form order[] = {CHAT_LFM25, CHAT_LFM25_MOE, CHAT_LFM25_THINK};
        char messages[256], expected[256];

        snprintf(messages, sizeof(messages), "[{\"role\":\"%s\",\"content\":%s}]", cases[i].role,
                 cases[i].content);
        for (size_t k = 0; k < ARRAY_LEN(order); k++) {
            const char *end = order[k] == CHAT_LFM25_THINK ? ANSWER "<think>" : ANSWER;

            if (contents[k])
                snprintf(expected, sizeof(expected), BEGIN "<|im_start|>%s\n%s<|im_end|>\n%s",
                         cases[i].role, contents[k], end);
            else
                snprintf(expected, sizeof(expected), BEGIN "%s", end);
            check_render(order[k], messages, NULL, true, expected);
        }
    }
}

static void test_an_empty_list_of_calls_is_written_where_the_template_does(void **state)
{
    const char *messages = "[{\"role\":\"assistant\",\"content\":\"c\",\"tool_calls\":[]}]";

    (void)state;
    check_render(CHAT_LFM25_MOE, messages, NULL, true,
                 BEGIN ANSWER "c<|tool_call_start|>[]<|tool_call_end|><|im_end|>\n" ANSWER);
    check_render(CHAT_LFM25_MOE, messages, NULL, false, BEGIN ANSWER "c<|im_end|>\n" ANSWER);
    check_render(CHAT_LFM25_THINK, messages, NULL, true,
                 BEGIN ANSWER "c<|im_end|>\n" ANSWER "<think>");
    check_render(CHAT_LFM25, messages, NULL, true, BEGIN ANSWER "c<|im_end|>\n" ANSWER);
}

static void test_content_is_never_markup(void **state)
{
    struct chat_request request = {
        .messages = json_tokener_parse("[{\"role\":\"user\",\"content\":\"<|im_end|>\"},"
                                       "{\"role\":\"assistant\",\"content\":\"ok\"}]")};
    struct chat_prompt prompt;
    struct tokenizer *tokenizer = vocabulary_tokenizer();
    struct token_list ids = {0};
    size_t n_ends = 0;

    (void)state;
    assert_int_equal(chat_render(CHAT_LFM25, &request, &prompt, NULL), 0);
    assert_int_equal(prompt.n_boundaries, 3);
    assert_int_equal(prompt.boundaries[0], 0);
    assert_int_equal(prompt.boundaries[2], prompt.n_spans);
    assert_int_equal(tokenizer_encode(tokenizer, prompt.spans, prompt.n_spans, &ids, NULL), 0);
    for (size_t i = 0; i < ids.n; i++)
        n_ends += ids.ids[i] == V_IM_END;
    assert_int_equal(n_ends, 2);
    token_list_done(&ids);
    tokenizer_free(tokenizer);
    chat_prompt_done(&prompt);
    json_object_put(request.messages);
}

static void test_broken_requests_are_refused(void **state)
{
    static const char *const cases[][2] = {
        {"{}", "\"messages\" is not an array"},
        {"[1]", "Message 1 is not an object"},
        {"[{\"role\":\"root\"}]", "role \"root\""},
        {"[{\"content\":\"x\"}]", "role \"\""},
        {"[{\"role\":\"assistant\",\"tool_calls\":1}]", "\"tool_calls\" of message 1"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{}]}]", "call 1 has no name"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"name\":\"f\",\"arguments\":[]}]}]",
         "call f are not a JSON object"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct chat_request request = {.messages = json_tokener_parse(cases[i][0])};
        struct chat_prompt prompt;
        struct error err = ERROR_INIT;

        assert_true(chat_render(CHAT_LFM25_MOE, &request, &prompt, &err) < 0);
        assert_non_null(strstr(err.text, cases[i][1]));
        json_object_put(request.messages);
    }
}

static void test_forms_are_recognised_by_their_template(void **state)
{
#define TURNS "<|im_start|> <|im_end|> "
    static const struct {
        const char *template;
        int form; /* -1: refused */
    } cases[] = {
        {TURNS "List of tools: <|tool_list_start|>[", CHAT_LFM2},
        {TURNS "keep_past_thinking List of tools: [", CHAT_LFM25},
        {TURNS "m['content']", CHAT_LFM25},
        {TURNS "preserve_thinking List of tools: [", CHAT_LFM25_MOE},
        {TURNS "preserve_thinking strftime_now List of tools: \"", CHAT_LFM25_MOE_DATE},
        {TURNS "strftime_now List of tools: \"", CHAT_LFM25_VL},
        {TURNS "preserve_thinking List of tools: [ assistant\\n<think>", CHAT_LFM25_THINK},
        {TURNS "<tools> # Tools", -1},
        {"[INST]", -1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct vocabulary_plan plan;
        struct error err = ERROR_INIT;
        uint8_t *bytes;
        struct gguf *gguf;
        enum chat_form form = _CHAT_FORM_N;

        vocabulary_plan(&plan);
        plan.chat_template = cases[i].template;
        gguf = vocabulary_gguf(&plan, &bytes, &err);
        if (cases[i].form < 0) {
            assert_true(chat_form_recognise(gguf, &form, &err) < 0);
            assert_int_equal(err.code, ERROR_UNSUPPORTED_FORMAT);
        } else {
            assert_int_equal(chat_form_recognise(gguf, &form, &err), 0);
            assert_int_equal(form, cases[i].form);
        }
        gguf_free(gguf);
        free(bytes);
    }
}

static void test_reference_prompts_are_rendered(void **state)
{
    const char *path = fixture_path("text/tokenizer/chat_cases.json");
    struct json_object *document, *cases;

    (void)state;
    if (!path) {
        print_message("skipped: the fixture text/tokenizer/chat_cases.json is absent\n");
        skip();
    }
    document = json_object_from_file(path);
    cases = json_object_object_get(document, "cases");
    assert_true(json_object_array_length(cases) > 0);
    for (size_t i = 0; i < json_object_array_length(cases); i++) {
        struct json_object *item = json_object_array_get_idx(cases, i);
        struct chat_request request = {
            .messages = json_object_object_get(item, "messages"),
            .tools = json_object_object_get(item, "tools"),
            .add_generation_prompt =
                json_object_get_boolean(json_object_object_get(item, "add_generation_prompt")),
            .as_template = true,
        };
        struct chat_prompt prompt;
        enum chat_form form;

        assert_true(chat_form_by_name(
            json_object_get_string(json_object_object_get(item, "template")), &form));
        assert_int_equal(chat_render(form, &request, &prompt, NULL), 0);
        assert_string_equal(prompt.text,
                            json_object_get_string(json_object_object_get(item, "prompt")));
        chat_prompt_done(&prompt);
    }
    json_object_put(document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_are_printed_as_python_prints_them),
        cmocka_unit_test(test_tools_follow_the_system_text),
        cmocka_unit_test(test_a_reply_can_be_kept_from_thinking),
        cmocka_unit_test(test_calls_are_written_in_the_quotes_of_the_form),
        cmocka_unit_test(test_content_that_is_no_text_is_dumped_or_joined),
        cmocka_unit_test(test_odd_content_is_what_the_template_makes_of_it),
        cmocka_unit_test(test_an_empty_list_of_calls_is_written_where_the_template_does),
        cmocka_unit_test(test_content_is_never_markup),
        cmocka_unit_test(test_broken_requests_are_refused),
        cmocka_unit_test(test_forms_are_recognised_by_their_template),
        cmocka_unit_test(test_reference_prompts_are_rendered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
