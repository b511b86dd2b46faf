/* SPDX-License-Identifier: MIT */
/* Proves that no model can leave a constraint: replies are drawn at random from what the masks
 * allow, over fixed and over random schemas, and each is read and validated by code of its own
 * (validate.h). Tables of texts show where the language begins and ends; hostile schemas must be
 * refused with a sentence or stay small. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "tests/fixture.h"
#include "tests/text/validate.h"
#include "text/constraint_new.h"
#include "text/reply.h"

/* --- a small vocabulary: all bytes, some longer tokens, and the control tokens ---------------- */

enum { TOKEN_END = 0, TOKEN_START_CALL, TOKEN_END_CALL, TOKEN_OTHER, FIRST_TEXT };

static const char *const longer[] = {
    "\": ", "\":", "\", \"", "{\"", "\"}", "[{", "}]", "], ", "true", "True", "nul", "alse", "None",
    "123", "007", "0.", "e1", "-1", "ab", "abc", "hello", " w", "\\\"", "\\u00", "\\ud8", "\n",
    "  ", ", ", "\xc3\xa4", "\xf0\x9f\x98", "\xe2\x82\xac\"", "\xed\xa0", "a=", "b", "=\"", "get_",
    "()", "')", "\")", "('", "=[", "minutes", "k0", "\"k1\"", "red", "\"red", "green\"",
};

static char bytes[256];
static struct vocabulary *vocabulary;

static int make_vocabulary(void **state)
{
    struct vocabulary_token tokens[FIRST_TEXT + 256 + ARRAY_LEN(longer)] = {
        [TOKEN_END] = {.text = "<end>", .length = 5, .kind = VOCABULARY_END},
        [TOKEN_START_CALL] = {.text = "<call>", .length = 6, .kind = VOCABULARY_CALL_START},
        [TOKEN_END_CALL] = {.text = "</call>", .length = 7, .kind = VOCABULARY_CALL_END},
        [TOKEN_OTHER] = {.text = "{}", .length = 2, .kind = VOCABULARY_CONTROL},
    };

    (void)state;
    for (unsigned i = 0; i < 256; i++) {
        bytes[i] = (char)i;
        tokens[FIRST_TEXT + i] = (struct vocabulary_token){.text = &bytes[i], .length = 1};
    }
    for (size_t i = 0; i < ARRAY_LEN(longer); i++) {
        tokens[FIRST_TEXT + 256 + i] =
            (struct vocabulary_token){.text = longer[i], .length = strlen(longer[i])};
    }
    vocabulary = vocabulary_new(tokens, ARRAY_LEN(tokens), NULL);
    return vocabulary ? 0 : -1;
}

static int free_vocabulary(void **state)
{
    (void)state;
    vocabulary = vocabulary_free(vocabulary);
    return 0;
}

static struct json_object *parse(const char *text)
{
    struct json_object *value = json_tokener_parse(text);

    if (!value && strcmp(text, "null") != 0)
        fail_msg("the test's own JSON is broken: %s", text);
    return value;
}

static struct constraint *answer_of(const char *schema)
{
    struct json_object *object = schema ? parse(schema) : NULL;
    struct error err = ERROR_INIT;
    struct constraint *constraint =
        constraint_new(vocabulary, schema_answer(object, &err), CONSTRAINT_ANSWER, &err);

    json_object_put(object);
    if (!constraint)
        fail_msg("%s: %s", schema ? schema : "no schema", err.text);
    return constraint;
}

static bool allows(const uint8_t *mask, uint32_t id)
{
    return mask[id / 8] >> id % 8 & 1;
}

/* The text byte by byte, checked against the masks; true when the end is allowed behind it. */
static bool takes(struct constraint *constraint, const char *text, uint32_t end)
{
    constraint_reset(constraint);
    if (end == TOKEN_END_CALL)
        assert_int_equal(constraint_accept(constraint, TOKEN_START_CALL), 0);
    for (; *text; text++) {
        const uint32_t id = FIRST_TEXT + (uint8_t)*text;
        const bool allowed = allows(constraint_allowed(constraint), id);

        assert_int_equal(constraint_check(constraint, &id, 1), allowed);
        assert_int_equal(constraint_accept(constraint, id) == 0, allowed);
        if (!allowed)
            return false;
    }
    return allows(constraint_allowed(constraint), end);
}

/* --- random replies --------------------------------------------------------------------------- */

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % n);
}

/* One of the allowed ids; closing ones are preferred more and more, so that replies end. */
static uint32_t random_token(const uint8_t *mask, size_t n_so_far)
{
    static const char closing[] = "\"']})";
    uint32_t ids[FIRST_TEXT + 256 + ARRAY_LEN(longer)], n = 0;

    if (random_below(1000) < 50 + 5 * n_so_far) {
        if (allows(mask, TOKEN_END))
            return TOKEN_END;
        if (allows(mask, TOKEN_END_CALL))
            return TOKEN_END_CALL;
        for (const char *c = closing; *c; c++) {
            if (allows(mask, FIRST_TEXT + (uint8_t)*c))
                ids[n++] = FIRST_TEXT + (uint8_t)*c;
        }
        if (n > 0)
            return ids[random_below(n)];
    }
    for (uint32_t id = 0; id < vocabulary->n_tokens; id++) {
        if (allows(mask, id))
            ids[n++] = id;
    }
    assert_true(n > 0);
    return ids[random_below(n)];
}

/* Draws a reply into out; false when it has not ended in time. Ends at `end`. */
static bool random_reply(struct constraint *constraint, uint32_t end, char *out, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < 600; i++) {
        const uint32_t id = random_token(constraint_allowed(constraint), i);
        const struct vocabulary_token *token = &vocabulary->tokens[id];

        assert_int_equal(constraint_check(constraint, &id, 1), 1);
        assert_int_equal(constraint_accept(constraint, id), 0);
        if (id == end) {
            out[n] = '\0';
            return true;
        }
        assert_int_equal(token->kind, VOCABULARY_TEXT);
        if (n + token->length + 1 > size)
            return false;
        memcpy(out + n, token->text, token->length);
        n += token->length;
    }
    return false;
}

static struct json_object *parse_strictly(const char *text)
{
    struct json_tokener *tokener = json_tokener_new();
    struct json_object *value;

    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    value = json_tokener_parse_ex(tokener, text, (int)strlen(text) + 1);
    if (json_tokener_get_error(tokener) != json_tokener_success)
        fail_msg("%s in %s", json_tokener_error_desc(json_tokener_get_error(tokener)), text);
    json_tokener_free(tokener);
    return value;
}

static size_t check_replies(const char *schema_text, size_t n_replies)
{
    struct json_object *schema = schema_text ? parse(schema_text) : json_object_new_boolean(true);
    struct constraint *constraint = answer_of(schema_text);
    size_t n_ended = 0;

    for (size_t i = 0; i < n_replies; i++) {
        char text[8192];

        constraint_reset(constraint);
        if (random_reply(constraint, TOKEN_END, text, sizeof(text))) {
            struct json_object *value = parse_strictly(text);

            if (!validate(schema, schema, value))
                fail_msg("%s is not valid by %s", text, schema_text);
            json_object_put(value);
            n_ended++;
        }
    }
    constraint_free(constraint);
    json_object_put(schema);
    return n_ended;
}

static const char *const schemas[] = {
    NULL,
    "{}",
    "true",
    "{\"type\":\"string\"}",
    "{\"type\":\"string\",\"minLength\":2,\"maxLength\":5}",
    "{\"minLength\":3}",
    "{\"type\":\"integer\"}",
    "{\"type\":\"integer\",\"minimum\":-12,\"maximum\":1234}",
    "{\"type\":\"integer\",\"exclusiveMinimum\":99,\"exclusiveMaximum\":101}",
    "{\"type\":\"integer\",\"minimum\":1.5,\"maximum\":2.5}",
    "{\"type\":\"number\"}",
    "{\"type\":\"number\",\"minimum\":0,\"maximum\":1}",
    "{\"type\":\"number\",\"exclusiveMinimum\":-0.25,\"maximum\":1e-3}",
    "{\"type\":\"number\",\"maximum\":-3.75}",
    "{\"type\":\"boolean\"}",
    "{\"type\":\"null\"}",
    "{\"type\":[\"string\",\"null\",\"integer\"],\"maxLength\":3}",
    "{\"enum\":[\"red\",\"green\",\"reddish\",\"\",1,1.5,null,true,[1,\"a\"],{\"b\":[]}]}",
    "{\"const\":{\"a\":\"q\\\"\\\\\\n\",\"b\":[1,{}]}}",
    "{\"type\":\"string\",\"enum\":[\"x\",3,\"y\"]}",
    "{\"type\":\"array\"}",
    "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":2,\"maxItems\":4}",
    "{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"minItems\":1}",
    "{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"maxItems\":0}",
    "{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"minItems\":3}",
    "{\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"string\"}],"
    "\"items\":false,\"minItems\":1}",
    "{\"prefixItems\":[{\"type\":\"integer\"}],\"items\":{\"type\":\"null\"},\"minItems\":3}",
    "{\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"null\"}],\"maxItems\":1}",
    "{\"type\":\"object\"}",
    "{\"type\":\"object\",\"properties\":{}}",
    "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"}}",
    "{\"type\":\"object\",\"additionalProperties\":false}",
    "{\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"boolean\"},\"c\":{\"type\":"
    "\"null\"},\"d\":{\"type\":\"integer\"}},\"required\":[\"b\",\"d\"]}",
    "{\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"boolean\"}}}",
    "{\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"z\"]}",
    "{\"properties\":{\"\xc3\xa4 \\\"q\\\"\":{\"const\":1}},\"required\":[\"\xc3\xa4 \\\"q\\\"\"]}",
    "{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"object\",\"properties\":{\"a\":{}},"
    "\"required\":[\"a\"]}]}",
    "{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"string\"},{\"const\":null}]}",
    "{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"kind\":{\"const\":\"a\"},\"x\":{\"type\":"
    "\"integer\"}},\"required\":[\"kind\"]},{\"type\":\"object\",\"properties\":{\"kind\":"
    "{\"const\":\"b\"}},\"required\":[\"kind\"]}]}",
    "{\"allOf\":[{\"$ref\":\"#/$defs/n\"}],\"$defs\":{\"n\":{\"type\":\"integer\",\"maximum\":5}}}",
    "{\"$ref\":\"#/$defs/tree\",\"$defs\":{\"tree\":{\"type\":\"object\",\"properties\":{\"v\":{"
    "\"type\":\"integer\"},\"l\":{\"$ref\":\"#/$defs/tree\"},\"r\":{\"$ref\":\"#/$defs/tree\"}},"
    "\"required\":[\"v\"]}}}",
    "{\"type\":\"object\",\"properties\":{\"next\":{\"anyOf\":[{\"$ref\":\"#\"},"
    "{\"type\":\"null\"}]}},\"required\":[\"next\"]}",
    "{\"definitions\":{\"e\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/definitions/e\"}}},"
    "\"$ref\":\"#/definitions/e\"}",
    "{\"title\":\"t\",\"description\":\"d\",\"default\":3,\"format\":\"x\",\"x-own\":[1],\"type\":"
    "\"boolean\"}",
};

static void test_random_replies_are_valid(void **state)
{
    (void)state;
    random_state = 7;
    for (size_t i = 0; i < ARRAY_LEN(schemas); i++) {
        const size_t n = check_replies(schemas[i], 150);

        if (n < 50)
            fail_msg("only %zu of 150 replies ended under %s", n, schemas[i]);
    }
}

/* A random schema as text; the deeper, the simpler. */
static void random_schema(char *out, size_t size, unsigned depth)
{
    char a[4096], b[4096];
    const uint32_t low = random_below(300), span = random_below(5000);
    int n = 0;

    switch (random_below(depth > 2 ? 6 : 12)) {
    case 0:
        n = snprintf(out, size, "{\"type\":\"integer\",\"minimum\":%d,\"maximum\":%d}",
                 (int)low - 150, (int)(low + span) - 150);
        break;
    case 1:
        n = snprintf(out, size, "{\"type\":\"number\",\"%s\":%d.%u,\"maximum\":%d.%u}",
                 random_below(2) ? "minimum" : "exclusiveMinimum", (int)low - 150,
                 random_below(100), (int)(low + span) - 147, random_below(1000));
        break;
    case 2:
        n = snprintf(out, size, "{\"type\":\"string\",\"minLength\":%u,\"maxLength\":%u}", low % 4,
                 low % 4 + span % 6);
        break;
    case 3:
        n = snprintf(out, size, "{\"type\":[\"boolean\",\"null\"]}");
        break;
    case 4:
        n = snprintf(out, size, "{\"enum\":[\"r%u\",\"r%u\",%u,\"r\",null]}", low, span, low);
        break;
    case 5:
        n = snprintf(out, size, "{\"$ref\":\"#/$defs/shared\"}");
        break;
    case 6:
    case 7:
        random_schema(a, sizeof(a), depth + 1);
        n = snprintf(out, size, "{\"type\":\"array\",\"items\":%s,\"minItems\":%u%s}", a, low % 3,
                 span % 2 ? ",\"maxItems\":4" : "");
        break;
    case 8:
        random_schema(a, sizeof(a), depth + 1);
        random_schema(b, sizeof(b), depth + 1);
        n = snprintf(out, size, "{\"anyOf\":[%s,%s]}", a, b);
        break;
    default:
        random_schema(a, sizeof(a), depth + 1);
        random_schema(b, sizeof(b), depth + 1);
        n = snprintf(out, size,
                 "{\"type\":\"object\",\"properties\":{\"k0\":%s,\"k1\":%s,\"k2\":{\"type\":"
                 "\"boolean\"}},\"required\":[%s]}",
                 a, b, span % 3 == 0 ? "" : span % 3 == 1 ? "\"k1\"" : "\"k2\",\"k0\"");
    }
    assert_true(n > 0 && (size_t)n < size);
}

static void test_random_schemas_hold(void **state)
{
    size_t n = 0;

    (void)state;
    random_state = 11;
    for (size_t i = 0; i < 300; i++) {
        char inner[16384], schema[20000];

        random_schema(inner, sizeof(inner), 0);
        snprintf(schema, sizeof(schema),
                 "{\"$defs\":{\"shared\":{\"type\":\"object\",\"properties\":{\"s\":{\"type\":"
                 "\"integer\"},\"again\":{\"$ref\":\"#/$defs/shared\"}},\"required\":[\"s\"]}},"
                 "\"anyOf\":[%s]}",
                 inner);
        n += check_replies(schema, 12);
    }
    assert_true(n > 2400);
}

/* --- the edges of the language ---------------------------------------------------------------- */

static void test_edges_of_the_language(void **state)
{
    static const struct {
        const char *schema, *text;
        bool taken;
    } cases[] = {
        {"{\"type\":\"integer\",\"minimum\":10,\"maximum\":20}", "10", true},
        {"{\"type\":\"integer\",\"minimum\":10,\"maximum\":20}", "20", true},
        {"{\"type\":\"integer\",\"minimum\":10,\"maximum\":20}", "9", false},
        {"{\"type\":\"integer\",\"minimum\":10,\"maximum\":20}", "21", false},
        {"{\"type\":\"integer\",\"minimum\":10,\"maximum\":20}", "1", false},
        {"{\"type\":\"integer\",\"minimum\":10,\"maximum\":20}", "010", false},
        {"{\"type\":\"integer\"}", "-9223372036854775808", true},
        {"{\"type\":\"integer\"}", "9223372036854775807", true},
        {"{\"type\":\"integer\"}", "9223372036854775808", false},
        {"{\"type\":\"integer\"}", "-9223372036854775809", false},
        {"{\"type\":\"integer\"}", "0", true},
        {"{\"type\":\"integer\"}", "00", false},
        {"{\"type\":\"integer\"}", "1.0", false},
        {"{\"type\":\"number\"}", "-0.5e-10", true},
        {"{\"type\":\"number\"}", "1.", false},
        {"{\"type\":\"number\"}", ".5", false},
        {"{\"type\":\"number\"}", "1e", false},
        {"{\"type\":\"number\",\"minimum\":0.1,\"maximum\":0.25}", "0.1", true},
        {"{\"type\":\"number\",\"minimum\":0.1,\"maximum\":0.25}", "0.10", true},
        {"{\"type\":\"number\",\"minimum\":0.1,\"maximum\":0.25}", "0.25", true},
        {"{\"type\":\"number\",\"minimum\":0.1,\"maximum\":0.25}", "0.251", false},
        {"{\"type\":\"number\",\"minimum\":0.1,\"maximum\":0.25}", "0.09", false},
        {"{\"type\":\"number\",\"minimum\":0.1,\"maximum\":0.25}", "0", false},
        {"{\"type\":\"number\",\"exclusiveMinimum\":0}", "0.0", false},
        {"{\"type\":\"number\",\"exclusiveMinimum\":0}", "0.001", true},
        {"{\"type\":\"number\",\"exclusiveMaximum\":-1}", "-1.0", false},
        {"{\"type\":\"number\",\"exclusiveMaximum\":-1}", "-1.01", true},
        {"{\"type\":\"string\"}", "\"a\\n\\u00e4\\ud83d\\ude00\"", true},
        {"{\"type\":\"string\"}", "\"\\ud83d\"", false},
        {"{\"type\":\"string\"}", "\"\\ude00\"", false},
        {"{\"type\":\"string\"}", "\"\\u0000\"", false},
        {"{\"type\":\"string\"}", "\"\\u0001\"", true},
        {"{\"type\":\"string\"}", "\"\\x\"", false},
        {"{\"type\":\"string\"}", "\"\n\"", false},
        {"{\"type\":\"string\"}", "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"", true},
        {"{\"type\":\"string\"}", "\"\xc3\"", false},
        {"{\"type\":\"string\"}", "\"\xed\xa0\x80\"", false},
        {"{\"type\":\"string\"}", "\"\xc0\x80\"", false},
        {"{\"type\":\"string\",\"maxLength\":2}", "\"\xc3\xa4\\ud83d\\ude00\"", true},
        {"{\"type\":\"string\",\"maxLength\":2}", "\"abc\"", false},
        {"{\"type\":\"string\",\"minLength\":2}", "\"a\"", false},
        {"{}", "{\"a\": [1, {\"b\":null}], \"c\":true}", true},
        {"{}", "{\"a\":  1}", false},
        {"{}", "[1 ,2]", false},
        {"{}", " 1", false},
        {"{}", "1 ", false},
        {"{}", "[1,]", false},
        {"{\"properties\":{\"a\":{},\"b\":{}},\"required\":[\"b\"]}", "{\"a\":1, \"b\":2}", true},
        {"{\"properties\":{\"a\":{},\"b\":{}},\"required\":[\"b\"]}", "{\"b\":2}", true},
        {"{\"properties\":{\"a\":{},\"b\":{}},\"required\":[\"b\"]}", "{\"a\":1}", false},
        {"{\"properties\":{\"a\":{},\"b\":{}},\"required\":[\"b\"]}", "{\"b\":2,\"a\":1}", false},
        {"{\"properties\":{\"a\":{},\"b\":{}}}", "{}", true},
        {"{\"properties\":{\"a\":{},\"b\":{}}}", "{\"c\":1}", false},
        {"{\"properties\":{\"a\":{},\"b\":{}}}", "{,\"b\":1}", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct constraint *constraint = answer_of(cases[i].schema);

        if (takes(constraint, cases[i].text, TOKEN_END) != cases[i].taken)
            fail_msg("%s by %s", cases[i].text, cases[i].schema);
        constraint_free(constraint);
    }
}

static void test_nesting_ends_before_parsers_do(void **state)
{
    struct constraint *constraint = answer_of(NULL);
    char text[2 * GRAMMAR_NESTING_MAX + 3];

    (void)state;
    memset(text, '[', GRAMMAR_NESTING_MAX);
    memset(text + GRAMMAR_NESTING_MAX, ']', GRAMMAR_NESTING_MAX);
    text[2 * GRAMMAR_NESTING_MAX] = '\0';
    assert_true(takes(constraint, text, TOKEN_END));
    json_object_put(parse_strictly(text));
    memset(text, '[', GRAMMAR_NESTING_MAX + 1);
    text[GRAMMAR_NESTING_MAX + 1] = '\0';
    assert_false(takes(constraint, text, TOKEN_END));
    constraint_free(constraint);
}

/* --- calls ------------------------------------------------------------------------------------ */

#define TOOLS                                                                                      \
    "[{\"name\":\"set_timer\",\"description\":\"d\",\"parameters\":{\"type\":\"object\","          \
    "\"properties\":{\"minutes\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":600},"            \
    "\"label\":{\"type\":\"string\",\"maxLength\":6}},\"required\":[\"minutes\"]}},"               \
    "{\"type\":\"function\",\"function\":{\"name\":\"get.time\",\"parameters\":{\"type\":"         \
    "\"object\",\"properties\":{}}}},"                                                             \
    "{\"name\":\"set\",\"parameters\":{\"type\":\"object\",\"properties\":{\"o\":{\"type\":"       \
    "\"object\",\"properties\":{\"a\":{\"enum\":[\"it's\",\"\\\"q\\\"\",null,true]},\"l\":{"       \
    "\"type\":\"array\",\"items\":{\"type\":\"number\"}}},\"required\":[\"a\"]},\"x\":{}},"        \
    "\"required\":[\"o\"]}}]"

static struct constraint *tools_of(const char *tools, enum constraint_form form)
{
    struct json_object *object = parse(tools);
    struct error err = ERROR_INIT;
    struct constraint *constraint =
        constraint_new(vocabulary, schema_calls(object, &err), form, &err);

    json_object_put(object);
    if (!constraint)
        fail_msg("%s", err.text);
    return constraint;
}

static void test_edges_of_calls(void **state)
{
    static const struct {
        const char *text;
        bool taken;
    } cases[] = {
        {"[set_timer(minutes=10)]", true},
        {"[set_timer(minutes=600, label=\"tea\")]", true},
        {"[set_timer(minutes=1,label='it\\'s'), get.time()]", true},
        {"[set_timer(minutes=0)]", false},
        {"[set_timer(minutes=601)]", false},
        {"[set_timer()]", false},
        {"[set_timer(label=\"tea\")]", false},
        {"[set_timer(minutes=10, label=\"1234567\")]", false},
        {"[set_timer(minutes=10", false},
        {"[set_alarm()]", false},
        {"[]", false},
        {"[set(o={\"a\": None, 'l': [1, -2.5e3]}, x=True)]", true},
        {"[set(o={\"a\":\"it's\"})]", true},
        {"[set(o={\"a\":'it\\'s'})]", true},
        {"[set(o={\"a\":\"\\\"q\\\"\"},x={\"y\": [None, False]})]", true},
        {"[set(o={\"a\":null})]", false},
        {"[set(o={\"a\":\"its\"})]", false},
        {"[get.time(), get.time()]", true},
        {"[get.time(),, get.time()]", false},
        {"[get.time()] ", false},
    };
    struct constraint *constraint = tools_of(TOOLS, CONSTRAINT_CALLS);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (takes(constraint, cases[i].text, TOKEN_END_CALL) != cases[i].taken)
            fail_msg("%s", cases[i].text);
    }
    constraint_free(constraint);
}

static void test_text_is_free_outside_of_calls(void **state)
{
    struct constraint *constraint = tools_of(TOOLS, CONSTRAINT_CALLS);
    const uint8_t *mask;

    (void)state;
    for (size_t round = 0; round < 2; round++) {
        mask = constraint_allowed(constraint);
        for (uint32_t id = 0; id < vocabulary->n_tokens; id++)
            assert_int_equal(allows(mask, id), id != TOKEN_END_CALL);
        assert_int_equal(constraint_accept(constraint, FIRST_TEXT + '['), 0);
        assert_true(constraint_accept(constraint, TOKEN_END_CALL) < 0);
        assert_int_equal(constraint_accept(constraint, TOKEN_START_CALL), 0);
        mask = constraint_allowed(constraint);
        for (uint32_t id = 0; id < vocabulary->n_tokens; id++)
            assert_int_equal(allows(mask, id), id == FIRST_TEXT + '[');
        assert_true(constraint_accept(constraint, TOKEN_END) < 0);
        for (const char *c = "[get.time()]"; *c; c++)
            assert_int_equal(constraint_accept(constraint, FIRST_TEXT + (uint8_t)*c), 0);
        assert_int_equal(constraint_accept(constraint, TOKEN_END_CALL), 0);
    }
    assert_int_equal(constraint_accept(constraint, TOKEN_END), 0);
    constraint_free(constraint);

    constraint = tools_of(TOOLS, CONSTRAINT_CALL_FIRST);
    mask = constraint_allowed(constraint);
    for (uint32_t id = 0; id < vocabulary->n_tokens; id++)
        assert_int_equal(allows(mask, id), id == TOKEN_START_CALL);
    constraint_free(constraint);
}

static void test_random_calls_are_valid(void **state)
{
    struct json_object *tools = parse(TOOLS);
    struct constraint *constraint = tools_of(TOOLS, CONSTRAINT_CALL_FIRST);
    size_t n_ended = 0;

    (void)state;
    random_state = 5;
    for (size_t i = 0; i < 600; i++) {
        struct json_object *calls, *read;
        struct error err = ERROR_INIT;
        char text[8192];

        constraint_reset(constraint);
        assert_int_equal(constraint_accept(constraint, TOKEN_START_CALL), 0);
        if (!random_reply(constraint, TOKEN_END_CALL, text, sizeof(text)))
            continue;
        n_ended++;
        calls = read_calls(text);
        read = reply_parse_calls(text, strlen(text), &err);
        if (!calls || !read)
            fail_msg("%s cannot be read: %s", text, err.text);
        if (!json_object_equal(calls, read))
            fail_msg("%s is read in two ways", text);
        json_object_put(read);
        for (size_t k = 0; k < json_object_array_length(calls); k++) {
            struct json_object *call = json_object_array_get_idx(calls, k), *parameters = NULL;

            for (size_t t = 0; t < json_object_array_length(tools); t++) {
                struct json_object *tool = json_object_array_get_idx(tools, t);

                if (validate_has(tool, "function"))
                    tool = validate_get(tool, "function");
                if (json_object_equal(validate_get(tool, "name"), validate_get(call, "name")))
                    parameters = validate_get(tool, "parameters");
            }
            assert_non_null(parameters);
            if (!validate(parameters, parameters, validate_get(call, "arguments")))
                fail_msg("%s is not valid", text);
        }
        json_object_put(calls);
    }
    assert_true(n_ended > 300);
    constraint_free(constraint);
    json_object_put(tools);
}

static void test_guesses_spell_what_must_come(void **state)
{
    struct constraint *constraint = tools_of(TOOLS, CONSTRAINT_CALL_FIRST);
    uint32_t ids[32];
    char text[64] = "";
    size_t n;

    (void)state;
    n = constraint_guess(constraint, ids, ARRAY_LEN(ids));
    assert_int_equal(n, 2);
    assert_int_equal(ids[0], TOKEN_START_CALL);
    assert_int_equal(ids[1], FIRST_TEXT + '[');
    assert_int_equal(constraint_check(constraint, ids, n), n);

    for (const char *c = "[set_t"; *c; c++) {
        if (*c == '[')
            assert_int_equal(constraint_accept(constraint, TOKEN_START_CALL), 0);
        assert_int_equal(constraint_accept(constraint, FIRST_TEXT + (uint8_t)*c), 0);
    }
    n = constraint_guess(constraint, ids, ARRAY_LEN(ids));
    assert_int_equal(constraint_check(constraint, ids, n), n);
    for (size_t i = 0; i < n; i++)
        strncat(text, vocabulary->tokens[ids[i]].text, vocabulary->tokens[ids[i]].length);
    assert_string_equal(text, "imer(minutes=");
    assert_true(constraint_guess(constraint, ids, 1) <= 1);
    constraint_free(constraint);
}

/* --- refusals and hostile schemas ------------------------------------------------------------- */

static void test_refusals_name_key_and_place(void **state)
{
    static const struct {
        const char *schema, *words[2];
    } cases[] = {
        {"{\"properties\":{\"a\":{\"type\":\"string\",\"pattern\":\"x\"}}}",
         {"pattern", "#/properties/a"}},
        {"{\"items\":{\"multipleOf\":3}}", {"multipleOf", "#/items"}},
        {"{\"not\":{}}", {"not", "#"}},
        {"{\"type\":\"strin\"}", {"type", "#"}},
        {"{\"type\":\"string\",\"minLength\":-1}", {"minLength", "#"}},
        {"{\"anyOf\":[{\"type\":\"null\"},{\"$ref\":\"#/$defs/x\"}]}", {"#/$defs/x", "#/anyOf/1"}},
        {"{\"$ref\":\"http://example.org/a\"}", {"$ref", "http"}},
        {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", {"oneOf", "#"}},
        {"{\"allOf\":[{},{}]}", {"allOf", "#"}},
        {"{\"enum\":[1],\"minimum\":0}", {"enum", "minimum"}},
        {"{\"$ref\":\"#\",\"maxItems\":3}", {"$ref", "maxItems"}},
        {"{\"enum\":[]}", {"no value", "answer"}},
        {"false", {"no value", "answer"}},
        {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", {"no value", "answer"}},
        {"{\"$ref\":\"#\"}", {"itself", "#"}},
        {"{\"anyOf\":[{\"$ref\":\"#/$defs/a\"}],\"$defs\":{\"a\":{\"anyOf\":[{\"type\":\"null\"},{"
         "\"$ref\":\"#/$defs/a\"}]}}}",
         {"itself", "#/$defs/a"}},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}",
         {"no value", "deep"}},
        {"{\"required\":[\"a\"],\"additionalProperties\":false}", {"required", "#"}},
        {"3", {"schema", "#"}},
        {"{\"properties\":[]}", {"properties", "#"}},
        {"{\"minimum\":\"1\"}", {"minimum", "#"}},
        {"{\"minItems\":3,\"maxItems\":2}", {"minItems", "#"}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json_object *schema = parse(cases[i].schema);
        struct error err = ERROR_INIT;
        struct grammar *grammar = schema_answer(schema, &err);

        if (grammar)
            fail_msg("%s is not refused", cases[i].schema);
        for (size_t k = 0; k < 2; k++) {
            if (!strstr(err.text, cases[i].words[k]))
                fail_msg("%s: \"%s\" does not name %s", cases[i].schema, err.text,
                         cases[i].words[k]);
        }
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
        json_object_put(schema);
    }
}

static void test_bad_tools_are_refused(void **state)
{
    static const char *const cases[] = {
        "[]", "{}", "3", "[3]", "[{}]", "[{\"name\":3}]", "[{\"name\":\"\"}]",
        "[{\"name\":\"a b\"}]", "[{\"name\":\"a\"},{\"name\":\"a\"}]",
        "[{\"name\":\"a\",\"parameters\":[]}]", "[{\"name\":\"a\",\"parameters\":{\"enum\":[1]}}]",
        "[{\"name\":\"a\",\"parameters\":{\"type\":\"string\"}}]",
        "[{\"name\":\"a\",\"parameters\":{\"properties\":{\"b c\":{}}}}]",
        "[{\"name\":\"a\",\"parameters\":{\"properties\":{\"b\":{\"not\":{}}}}}]",
        "[{\"name\":\"a\",\"parameters\":{\"properties\":{\"b\":{\"const\":\"\\u0001\"}}}}]",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json_object *tools = parse(cases[i]);
        struct error err = ERROR_INIT;

        if (schema_calls(tools, &err))
            fail_msg("%s is not refused", cases[i]);
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
        json_object_put(tools);
    }
}

/* Runs a while under a schema that asks for much, and must neither stop nor run dry. */
static void endure(const char *text)
{
    struct json_object *schema = parse(text);
    struct error err = ERROR_INIT;
    struct grammar *grammar = schema_answer(schema, &err);
    struct constraint *constraint;

    json_object_put(schema);
    if (!grammar) {
        assert_true(err.text[0] != '\0');
        return;
    }
    constraint = constraint_new(vocabulary, grammar, CONSTRAINT_ANSWER, &err);
    assert_non_null(constraint);
    for (size_t i = 0; i < 300; i++) {
        const uint32_t id = random_token(constraint_allowed(constraint), 0);

        assert_int_equal(constraint_accept(constraint, id), 0);
        if (id == TOKEN_END)
            constraint_reset(constraint);
    }
    constraint_free(constraint);
}

static void test_hostile_schemas_stay_small(void **state)
{
    char *text = malloc(1 << 22);
    size_t n;

    (void)state;
    random_state = 9;
    /* 2^30 ways to read a value, without and with consuming */
    n = (size_t)sprintf(text, "{\"$ref\":\"#/$defs/a0\",\"$defs\":{");
    for (int i = 0; i < 30; i++)
        n += (size_t)sprintf(text + n,
                             "\"a%d\":{\"anyOf\":[{\"$ref\":\"#/$defs/a%d\"},{\"$ref\":\"#/$defs/"
                             "a%d\"}]},",
                             i, i + 1, i + 1);
    sprintf(text + n, "\"a30\":{\"type\":\"string\"}}}");
    endure(text);
    endure("{\"$ref\":\"#/$defs/t\",\"$defs\":{\"t\":{\"anyOf\":["
           "{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/t\"}},"
           "{\"type\":\"array\",\"items\":"
           "{\"anyOf\":[{\"$ref\":\"#/$defs/t\"},{\"type\":\"null\"}]}},"
           "{\"type\":\"array\",\"items\":"
           "{\"anyOf\":[{\"type\":\"null\"},{\"$ref\":\"#/$defs/t\"}]},\"minItems\":1}]}}}");
    /* counters */
    endure("{\"type\":\"array\",\"minItems\":4000000000,\"items\":{\"type\":\"string\","
           "\"minLength\":1000000000,\"maxLength\":4000000000}}");
    /* long lists */
    n = (size_t)sprintf(text, "{\"enum\":[");
    for (int i = 0; i < 100000; i++)
        n += (size_t)sprintf(text + n, "\"%d\",", i * 7919);
    sprintf(text + n, "null]}");
    endure(text);
    n = (size_t)sprintf(text, "{\"properties\":{");
    for (int i = 0; i < 3000; i++)
        n += (size_t)sprintf(text + n, "\"property%d\":{},", i);
    sprintf(text + n, "\"z\":{}}}");
    endure(text);
    /* depth, of schemas and of values */
    n = 0;
    for (int i = 0; i < 20; i++)
        n += (size_t)sprintf(text + n, "{\"items\":{\"anyOf\":[");
    n += (size_t)sprintf(text + n, "{}");
    for (int i = 0; i < 20; i++)
        n += (size_t)sprintf(text + n, "]}}");
    {
        struct json_tokener *tokener = json_tokener_new_ex(1000);
        struct json_object *schema = json_tokener_parse_ex(tokener, text, (int)n + 1);
        struct error err = ERROR_INIT;

        assert_non_null(schema);
        grammar_free(schema_answer(schema, &err));
        json_object_put(schema);
        json_tokener_free(tokener);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edges_of_the_language),
        cmocka_unit_test(test_edges_of_calls),
        cmocka_unit_test(test_text_is_free_outside_of_calls),
        cmocka_unit_test(test_nesting_ends_before_parsers_do),
        cmocka_unit_test(test_random_replies_are_valid),
        cmocka_unit_test(test_random_schemas_hold),
        cmocka_unit_test(test_random_calls_are_valid),
        cmocka_unit_test(test_guesses_spell_what_must_come),
        cmocka_unit_test(test_refusals_name_key_and_place),
        cmocka_unit_test(test_bad_tools_are_refused),
        cmocka_unit_test(test_hostile_schemas_stay_small),
    };

    return cmocka_run_group_tests_name("constraint", tests, make_vocabulary, free_vocabulary);
}
