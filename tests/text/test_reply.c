/* SPDX-License-Identifier: MIT */

/*
 * Proves the reply parser: the grammar of Pythonic calls, JSON calls, refusal of everything else,
 * and a stream that gives the same for every cut into tokens.
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
#include "tests/text/vocabulary.h"
#include "text/reply.h"

static void check_calls(const char *text, const char *expected)
{
    struct error err = ERROR_INIT;
    struct json_object *calls = reply_parse_calls(text, strlen(text), &err);

    if (!calls)
        fail_msg("%s: %s", text, err.text);
    assert_string_equal(json_object_to_json_string_ext(calls, JSON_C_TO_STRING_PLAIN |
                                                                  JSON_C_TO_STRING_NOSLASHESCAPE),
                        expected);
    json_object_put(calls);
}

static void test_pythonic_calls_become_json(void **state)
{
    static const char *const cases[][2] = {
        {"[]", "[]"},
        {"[f()]", "[{\"name\":\"f\",\"arguments\":{}}]"},
        {" [ a.b-c ( ) , g() ] ",
         "[{\"name\":\"a.b-c\",\"arguments\":{}},{\"name\":\"g\",\"arguments\":{}}]"},
        {"[f(a=-4, b=4.50, c=1e3, d=.5, e=5., h=+1)]",
         "[{\"name\":\"f\",\"arguments\":{\"a\":-4,\"b\":4.50,\"c\":1e3,\"d\":0.5,\"e\":5.0,\"h\":"
         "1}}"
         "]"},
        {"[f(a=123456789012345678901234567890)]",
         "[{\"name\":\"f\",\"arguments\":{\"a\":123456789012345678901234567890}}]"},
        {"[f(a=True,b=False,c=None,d=true,e=false,g=null)]",
         "[{\"name\":\"f\",\"arguments\":{\"a\":true,\"b\":false,\"c\":null,\"d\":true,\"e\":false,"
         "\"g\":null}}]"},
        {"[f(a='it\\'s \"x\"', b=\"\\n\\t\\\\\\d\n\", c='\\u00e9\\ud83d\\ude00\\ud800')]",
         "[{\"name\":\"f\",\"arguments\":{\"a\":\"it's "
         "\\\"x\\\"\",\"b\":\"\\n\\t\\\\\\\\d\\n\",\"c\":"
         "\"\u00e9\U0001f600\ufffd\"}}]"},
        {"[f(a=[1, [], {'k': [None]}, ], )]",
         "[{\"name\":\"f\",\"arguments\":{\"a\":[1,[],{\"k\":[null]}]}}]"},
        {"[{\"name\": \"f\", \"arguments\": {\"a\": 1}}]",
         "[{\"name\":\"f\",\"arguments\":{\"a\":1}}]"},
        {"[{\"name\": \"f\", \"arguments\": {\"a\": 12345678901234567890123}},\n"
         "{\"arguments\":{\"\\u00e9\":[null]},\"id\":7,\"name\":\"g\"} ]",
         "[{\"name\":\"f\",\"arguments\":{\"a\":12345678901234567890123}},"
         "{\"name\":\"g\",\"arguments\":{\"\u00e9\":[null]}}]"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        check_calls(cases[i][0], cases[i][1]);
}

static void test_broken_calls_are_refused(void **state)
{
    static const char *const cases[] = {
        "",
        "f()",
        "[f]",
        "[f(1)]",
        "[f(a)]",
        "[f(a=)]",
        "[f(a=x)]",
        "[f(a='x]",
        "[f(a=1 b=2)]",
        "[f(a=1)",
        "[f()] x",
        "[x](y)",
        "[f(a=1,a=2)]",
        "[f(a=01)]",
        "[f(a=-)]",
        "[f(a=1e)]",
        "[f(a=.)]",
        "[f(a={1:2})]",
        "[f(a='\\u12')]",
        "[f(a=[1)]",
        "[{\"a\":1}",
        "[{\"a\":1}]",
        "[{\"name\":\"f\",\"arguments\":1}]",
        "[f(a='\xff')]",
        "[f(a='x\\",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = ERROR_INIT;
        struct json_object *calls = reply_parse_calls(cases[i], strlen(cases[i]), &err);

        if (calls)
            fail_msg("\"%s\" was accepted", cases[i]);
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
        assert_null(reply_parse_calls(cases[i], strlen(cases[i]), NULL));
    }
}

static void test_depth_and_number_of_calls_are_bounded(void **state)
{
    char text[2048] = "[f(a=";
    struct error err = ERROR_INIT;

    (void)state;
    memset(text + 5, '[', 1000);
    assert_null(reply_parse_calls(text, strlen(text), &err));
    assert_non_null(strstr(err.text, "deeper"));
    strcpy(text, "[");
    for (int i = 0; i <= REPLY_CALLS_MAX; i++)
        strcat(text, i < REPLY_CALLS_MAX ? "f()," : "f()]");
    err = (struct error)ERROR_INIT;
    assert_null(reply_parse_calls(text, strlen(text), &err));
    assert_non_null(strstr(err.text, "more than"));
}

static void test_a_reply_may_begin_inside_its_thinking(void **state)
{
    struct json_object *reply = reply_parse("so</think>x", 11, true, NULL);

    (void)state;
    assert_string_equal(json_object_to_json_string_ext(reply, JSON_C_TO_STRING_PLAIN),
                        "{\"content\":\"x\",\"thinking\":\"so\",\"tool_calls\":[]}");
    json_object_put(reply);
}

static void check_reply(const char *text, const char *expected)
{
    struct error err = ERROR_INIT;
    struct json_object *reply = reply_parse(text, strlen(text), false, &err);

    if (!reply)
        fail_msg("%s: %s", text, err.text);
    assert_string_equal(json_object_to_json_string_ext(reply, JSON_C_TO_STRING_PLAIN), expected);
    json_object_put(reply);
}

static void test_a_whole_reply_is_taken_apart(void **state)
{
    (void)state;
    check_reply("", "{\"content\":\"\",\"thinking\":\"\",\"tool_calls\":[]}");
    check_reply("see [x](y) <think>",
                "{\"content\":\"see [x](y) <think>\",\"thinking\":\"\",\"tool_calls\":[]}");
    check_reply("<think> \n\t</think>a", "{\"content\":\"a\",\"thinking\":\"\",\"tool_calls\":[]}");
    check_reply("<think>\na\n</think>",
                "{\"content\":\"\",\"thinking\":\"\\na\\n\",\"tool_calls\":[]}");
    check_reply("<think>\n", "{\"content\":\"\",\"thinking\":\"\",\"tool_calls\":[]}");
    check_reply("\n<think>a<b</think>\nc<|im_end|>rest",
                "{\"content\":\"\\nc\",\"thinking\":\"a<b\",\"tool_calls\":[]}");
    check_reply("a<|tool_call_start|>[f()]<|tool_call_end|>b",
                "{\"content\":\"ab\",\"thinking\":\"\",\"tool_calls\":[{\"name\":\"f\","
                "\"arguments\":{}}]}");
    assert_null(reply_parse("<|tool_call_start|>[f()]", 24, false, NULL));
    assert_null(reply_parse("<|tool_call_start|>x<|tool_call_end|>", 37, false, NULL));
}

struct heard {
    char text[256], thinking[256], calls[256];
};

static void hear_text(void *userdata, const char *text, size_t length)
{
    assert_true(utf8_valid(text, length));
    strncat(((struct heard *)userdata)->text, text, length);
}

static void hear_thinking(void *userdata, const char *text, size_t length)
{
    assert_true(utf8_valid(text, length));
    strncat(((struct heard *)userdata)->thinking, text, length);
}

static void hear_call(void *userdata, const char *name, struct json_object *arguments)
{
    struct heard *heard = userdata;

    strcat(heard->calls, name);
    strcat(heard->calls, json_object_to_json_string_ext(arguments, JSON_C_TO_STRING_PLAIN));
}

static const struct reply_sink sink = {hear_text, hear_thinking, hear_call};

/* Byte by byte, the finest cut that there is. */
static int push_text(struct reply *reply, const char *text)
{
    int r = 0;

    for (; *text && r == 0; text++)
        r = reply_push(reply, V_BYTES + (uint8_t)*text, NULL);
    return r;
}

static void test_a_stream_is_taken_apart_token_by_token(void **state)
{
    struct tokenizer *tokenizer = vocabulary_tokenizer();
    struct heard heard = {0};
    struct reply *reply = reply_new(tokenizer, &sink, &heard);
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(push_text(reply, " <think>h\u00e9</thin</think>ok \u4eba<|tool_call_start|>"),
                     0);
    assert_int_equal(reply_push(reply, V_PAD, &err), 0);
    assert_int_equal(reply_push(reply, V_CALL_START, &err), 0);
    assert_int_equal(push_text(reply, "[f(a='\u4eba')]"), 0);
    assert_string_equal(heard.calls, "");
    assert_int_equal(reply_push(reply, V_CALL_END, &err), 0);
    assert_string_equal(heard.calls, "f{\"a\":\"\u4eba\"}");

    /* A broken call is an error, and the reply goes on. */
    assert_int_equal(reply_push(reply, V_CALL_START, &err), 0);
    assert_int_equal(push_text(reply, "oops"), 0);
    assert_true(reply_push(reply, V_CALL_END, &err) < 0);
    assert_int_equal(push_text(reply, "!"), 0);
    assert_int_equal(reply_push(reply, V_BYTES + 0xe4, NULL), 0);
    assert_int_equal(reply_finish(reply, NULL), 0);
    assert_string_equal(heard.thinking, "h\u00e9</thin");
    assert_string_equal(heard.text, "ok \u4eba<|tool_call_start|>!\ufffd");
    reply_free(reply);

    memset(&heard, 0, sizeof(heard));
    reply = reply_new(tokenizer, &sink, &heard);
    reply_begin_thinking(reply);
    assert_int_equal(push_text(reply, "so</think>x"), 0);
    assert_int_equal(reply_push(reply, V_CALL_START, NULL), 0);
    assert_true(reply_finish(reply, NULL) < 0);
    assert_string_equal(heard.thinking, "so");
    assert_string_equal(heard.text, "x");
    reply_free(reply);
    tokenizer_free(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pythonic_calls_become_json),
        cmocka_unit_test(test_broken_calls_are_refused),
        cmocka_unit_test(test_depth_and_number_of_calls_are_bounded),
        cmocka_unit_test(test_a_whole_reply_is_taken_apart),
        cmocka_unit_test(test_a_reply_may_begin_inside_its_thinking),
        cmocka_unit_test(test_a_stream_is_taken_apart_token_by_token),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
