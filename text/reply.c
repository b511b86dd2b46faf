/* SPDX-License-Identifier: MIT */
#include "text/reply.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/utf8.h"

static const char call_begin[] = "<|tool_call_start|>", call_end[] = "<|tool_call_end|>";
static const char think_begin[] = "<think>", think_end[] = "</think>";

static void json_putp(struct json_object **value)
{
    json_object_put(*value);
}

/* --- a buffer -------------------------------------------------------------------------------- */

struct buffer {
    char *text;
    size_t length, capacity;
};

static int buffer_add(struct buffer *buffer, const char *text, size_t length)
{
    if (buffer->length + length > buffer->capacity) {
        const size_t capacity = 2 * (buffer->length + length) + 64;
        char *larger = realloc(buffer->text, capacity);

        if (!larger)
            return -ENOMEM;
        buffer->text = larger;
        buffer->capacity = capacity;
    }
    if (length > 0)
        memcpy(buffer->text + buffer->length, text, length);
    buffer->length += length;
    return 0;
}

static void buffer_done(struct buffer *buffer)
{
    free(buffer->text);
}

/* Bytes of white space at the beginning. */
static size_t blank_length(const char *text, size_t length)
{
    size_t n = 0;

    while (n < length && text[n] && strchr(" \t\r\n", text[n]))
        n++;
    return n;
}

/* --- Pythonic calls -------------------------------------------------------------------------- */

struct parser {
    const char *text;
    size_t length, at;
    struct error *err;
};

static void broken(const struct parser *parser, const char *expected)
{
    const size_t n = MIN(parser->length - parser->at, (size_t)24);

    if (n == 0)
        error_set(parser->err, ERROR_INVALID_ARGUMENT,
                  "The tool call is broken at its end: expected %s.", expected);
    else
        error_set(parser->err, ERROR_INVALID_ARGUMENT,
                  "The tool call is broken at byte %zu: expected %s, found \"%.*s\".", parser->at,
                  expected, (int)utf8_complete(parser->text + parser->at, n),
                  parser->text + parser->at);
}

static char peek(const struct parser *parser)
{
    return parser->at < parser->length ? parser->text[parser->at] : '\0';
}

static void skip_space(struct parser *parser)
{
    parser->at += blank_length(parser->text + parser->at, parser->length - parser->at);
}

/* Take the character, after white space, if it is the next one. */
static bool take(struct parser *parser, char c)
{
    skip_space(parser);
    if (parser->at == parser->length || parser->text[parser->at] != c)
        return false;
    parser->at++;
    return true;
}

/* Letters, digits, _ and non-ASCII; dots, dashes, colons and slashes too where `dotted`. */
static char *parse_name(struct parser *parser, bool dotted)
{
    size_t begin;

    skip_space(parser);
    for (begin = parser->at; parser->at < parser->length; parser->at++) {
        const unsigned char c = (unsigned char)peek(parser);
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
                            c >= 0x80 || (c && dotted && strchr(".-:/", c));

        if (!letter && (c < '0' || c > '9' || parser->at == begin))
            break;
    }
    if (parser->at == begin) {
        broken(parser, "a name");
        return NULL;
    }
    return strndup(parser->text + begin, parser->at - begin);
}

/* n hexadecimal digits; false when there are fewer. */
static bool parse_hex(struct parser *parser, unsigned n, uint32_t *ret)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < n; i++) {
        const char *digits = "0123456789abcdef";
        const char c = peek(parser);
        const char *digit = c ? strchr(digits, c >= 'A' && c <= 'F' ? c | 0x20 : c) : NULL;

        if (!digit) {
            broken(parser, "a hexadecimal digit");
            return false;
        }
        value = value << 4 | (uint32_t)(digit - digits);
        parser->at++;
    }
    *ret = value;
    return true;
}

/* After the backslash. What Python does not know stays as it is, with its backslash. */
static bool parse_escape(struct parser *parser, struct buffer *out)
{
    static const char from[] = "ntrbfav0\\'\"/", to[] = "\n\t\r\b\f\a\v\0\\'\"/";
    const char c = peek(parser);
    const char *place = c ? strchr(from, c) : NULL;
    uint32_t code, low;
    char utf8[4];

    if (parser->at == parser->length) {
        broken(parser, "the rest of a string");
        return false;
    }
    parser->at++;
    if (place)
        return buffer_add(out, &to[place - from], 1) == 0;
    if (c == '\n')
        return true;
    if (c != 'x' && c != 'u' && c != 'U')
        return buffer_add(out, (char[]){'\\', c}, 2) == 0;

    if (!parse_hex(parser, c == 'x' ? 2 : c == 'u' ? 4 : 8, &code))
        return false;
    if (code >= 0xd800 && code < 0xdc00 && parser->length - parser->at >= 6 &&
        memcmp(parser->text + parser->at, "\\u", 2) == 0) {
        const size_t before = parser->at;

        parser->at += 2;
        if (!parse_hex(parser, 4, &low))
            return false;
        if (low >= 0xdc00 && low < 0xe000)
            code = 0x10000 + ((code - 0xd800) << 10 | (low - 0xdc00));
        else
            parser->at = before;
    }
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        code = 0xfffd;
    return buffer_add(out, utf8, utf8_encode(code, utf8)) == 0;
}

static bool parse_text(struct parser *parser, struct buffer *out)
{
    char quote;

    skip_space(parser);
    quote = peek(parser);
    if (quote != '"' && quote != '\'') {
        broken(parser, "a string");
        return false;
    }
    for (parser->at++; parser->at < parser->length;) {
        const char c = parser->text[parser->at++];

        if (c == quote)
            return true;
        if (c == '\\' ? !parse_escape(parser, out) : buffer_add(out, &c, 1) < 0)
            return false;
    }
    broken(parser, "the end of a string");
    return false;
}

/*
 * Integers and floats in the forms of Python and JSON. One that int64 cannot hold, and every float,
 * is a double that keeps its decimal digits when it is printed.
 */
static struct json_object *parse_number(struct parser *parser)
{
    char text[320], *out = text;
    const size_t begin = parser->at;
    size_t n_whole = 0, n_part = 0;
    bool whole = true;

#define NEXT_DIGIT() (peek(parser) >= '0' && peek(parser) <= '9')
#define COPY()       (*out++ = parser->text[parser->at++])
    if (parser->length - parser->at > sizeof(text) - 8) {
        size_t n = strspn(parser->text + parser->at, "+-0123456789.eE");

        if (n > sizeof(text) - 8) {
            broken(parser, "a shorter number");
            return NULL;
        }
    }
    if (peek(parser) == '-')
        COPY();
    else if (peek(parser) == '+')
        parser->at++;
    for (; NEXT_DIGIT(); n_whole++)
        COPY();
    if (n_whole == 0)
        *out++ = '0';
    if (peek(parser) == '.') {
        whole = false;
        COPY();
        for (; NEXT_DIGIT(); n_part++)
            COPY();
        if (n_part == 0)
            *out++ = '0';
    }
    if (n_whole + n_part > 0 && (peek(parser) == 'e' || peek(parser) == 'E')) {
        size_t n = 0;

        whole = false;
        COPY();
        if (peek(parser) == '+' || peek(parser) == '-')
            COPY();
        for (; NEXT_DIGIT(); n++)
            COPY();
        if (n == 0)
            n_whole = n_part = 0;
    }
    *out = '\0';
#undef COPY
#undef NEXT_DIGIT
    if (n_whole + n_part == 0 || (n_whole > 1 && text[text[0] == '-'] == '0')) {
        parser->at = begin;
        broken(parser, "a value");
        return NULL;
    }
    if (whole) {
        long long value;

        errno = 0;
        value = strtoll(text, NULL, 10);
        if (errno == 0)
            return json_object_new_int64(value);
    }
    return json_object_new_double_s(strtod(text, NULL), text);
}

static bool parse_value(struct parser *parser, struct json_object **ret, unsigned depth);

static bool parse_list(struct parser *parser, struct json_object *list, unsigned depth)
{
    while (!take(parser, ']')) {
        struct json_object *value;

        if (!parse_value(parser, &value, depth))
            return false;
        if (json_object_array_add(list, value) < 0) {
            json_object_put(value);
            return false;
        }
        if (!take(parser, ',')) {
            if (take(parser, ']'))
                return true;
            broken(parser, "\",\" or \"]\"");
            return false;
        }
    }
    return true;
}

static bool parse_dict(struct parser *parser, struct json_object *dict, unsigned depth)
{
    while (!take(parser, '}')) {
        _cleanup_(buffer_done) struct buffer key = {0};
        struct json_object *value;

        if (!parse_text(parser, &key) || buffer_add(&key, "", 1) < 0)
            return false;
        if (!take(parser, ':')) {
            broken(parser, "\":\"");
            return false;
        }
        if (!parse_value(parser, &value, depth))
            return false;
        if (json_object_object_add(dict, key.text, value) < 0) {
            json_object_put(value);
            return false;
        }
        if (!take(parser, ',')) {
            if (take(parser, '}'))
                return true;
            broken(parser, "\",\" or \"}\"");
            return false;
        }
    }
    return true;
}

static bool parse_value(struct parser *parser, struct json_object **ret, unsigned depth)
{
    static const struct {
        const char *name;
        int value; /* -1: null */
    } words[] = {{"True", 1}, {"False", 0}, {"None", -1}, {"true", 1}, {"false", 0}, {"null", -1}};
    _cleanup_(json_putp) struct json_object *value = NULL;
    char c;

    if (depth > REPLY_DEPTH_MAX) {
        error_set(parser->err, ERROR_INVALID_ARGUMENT, "The tool call is nested deeper than %d.",
                  REPLY_DEPTH_MAX);
        return false;
    }
    skip_space(parser);
    c = peek(parser);
    if (c == '"' || c == '\'') {
        _cleanup_(buffer_done) struct buffer text = {0};

        if (!parse_text(parser, &text))
            return false;
        value = json_object_new_string_len(text.text ? text.text : "", (int)text.length);
    } else if (c == '[') {
        parser->at++;
        value = json_object_new_array();
        if (!value || !parse_list(parser, value, depth + 1))
            return false;
    } else if (c == '{') {
        parser->at++;
        value = json_object_new_object();
        if (!value || !parse_dict(parser, value, depth + 1))
            return false;
    } else if ((c >= '0' && c <= '9') || (c && strchr("+-.", c))) {
        value = parse_number(parser);
    } else {
        const size_t begin = parser->at;
        _cleanup_(freep) char *name = parse_name(parser, false);

        for (size_t i = 0; name && i < ARRAY_LEN(words); i++)
            if (strcmp(name, words[i].name) == 0) {
                *ret = words[i].value < 0 ? NULL : json_object_new_boolean(words[i].value);
                return true;
            }
        if (name) {
            parser->at = begin;
            broken(parser, "a value");
        }
        return false;
    }
    if (!value)
        return false;
    *ret = TAKE_PTR(value);
    return true;
}

/* Append {"name": ..., "arguments": ...}; takes the arguments. */
static bool add_call(struct parser *parser, struct json_object *calls, const char *name,
                     struct json_object *arguments)
{
    struct json_object *call = json_object_new_object();

    if (json_object_array_length(calls) >= REPLY_CALLS_MAX) {
        error_set(parser->err, ERROR_INVALID_ARGUMENT, "The reply has more than %d tool calls.",
                  REPLY_CALLS_MAX);
        json_object_put(arguments);
        json_object_put(call);
        return false;
    }
    json_object_object_add(call, "name", json_object_new_string(name));
    json_object_object_add(call, "arguments", arguments);
    return json_object_array_add(calls, call) == 0;
}

/* name(a=1, b="x") */
static bool parse_call(struct parser *parser, struct json_object *calls)
{
    _cleanup_(freep) char *name = parse_name(parser, true);
    _cleanup_(json_putp) struct json_object *arguments = json_object_new_object();

    if (!name || !arguments)
        return false;
    if (!take(parser, '(')) {
        broken(parser, "\"(\"");
        return false;
    }
    while (!take(parser, ')')) {
        _cleanup_(freep) char *key = parse_name(parser, false);
        struct json_object *value;

        if (!key)
            return false;
        if (!take(parser, '=')) {
            broken(parser, "\"=\"");
            return false;
        }
        if (json_object_object_get_ex(arguments, key, NULL)) {
            error_set(parser->err, ERROR_INVALID_ARGUMENT,
                      "The tool call %.64s has the argument %.64s twice.", name, key);
            return false;
        }
        if (!parse_value(parser, &value, 0))
            return false;
        json_object_object_add(arguments, key, value);
        if (!take(parser, ',')) {
            if (take(parser, ')'))
                break;
            broken(parser, "\",\" or \")\"");
            return false;
        }
    }
    return add_call(parser, calls, name, TAKE_PTR(arguments));
}

/* [{"name": ..., "arguments": {...}}, ...] after its "[" */
static bool parse_json_calls(struct parser *parser, struct json_object *calls)
{
    _cleanup_(json_putp) struct json_object *list = json_object_new_array();

    if (!list || !parse_list(parser, list, 1))
        return false;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *call = json_object_array_get_idx(list, i);
        const bool object = json_object_is_type(call, json_type_object);
        struct json_object *name = object ? json_object_object_get(call, "name") : NULL;
        struct json_object *arguments = object ? json_object_object_get(call, "arguments") : NULL;

        if (!json_object_is_type(name, json_type_string) ||
            !json_object_is_type(arguments, json_type_object)) {
            error_set(parser->err, ERROR_INVALID_ARGUMENT,
                      "Tool call %zu is not {\"name\": text, \"arguments\": object}.", i + 1);
            return false;
        }
        if (!add_call(parser, calls, json_object_get_string(name), json_object_get(arguments)))
            return false;
    }
    return true;
}

struct json_object *reply_parse_calls(const char *text, size_t length, struct error *err)
{
    struct error local = ERROR_INIT;
    struct parser parser = {.text = text, .length = length, .err = err ? err : &local};
    _cleanup_(json_putp) struct json_object *calls = json_object_new_array();
    bool ok = false;

    if (!calls) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for the tool calls.");
        return NULL;
    }
    if (length > REPLY_CALL_BYTES_MAX || !utf8_valid(text, length)) {
        error_set(err, ERROR_INVALID_ARGUMENT,
                  "The tool call is longer than %zu bytes or not UTF-8.", REPLY_CALL_BYTES_MAX);
        return NULL;
    }
    if (!take(&parser, '[')) {
        broken(&parser, "\"[\"");
        return NULL;
    }
    skip_space(&parser);
    if (peek(&parser) == '{') {
        ok = parse_json_calls(&parser, calls);
    } else {
        for (;;) {
            ok = take(&parser, ']');
            if (ok || !parse_call(&parser, calls))
                break;
            if (!take(&parser, ',')) {
                ok = take(&parser, ']');
                if (!ok)
                    broken(&parser, "\",\" or \"]\"");
                break;
            }
        }
    }
    if (ok) {
        skip_space(&parser);
        ok = parser.at == parser.length;
        if (!ok)
            broken(&parser, "nothing after the list");
    }
    if (!ok) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for the tool calls.");
        return NULL;
    }
    return TAKE_PTR(calls);
}

/* --- the stream ------------------------------------------------------------------------------ */

enum place {
    REPLY_BEGIN, /* nothing but white space so far: <think> may follow */
    REPLY_THINKING,
    REPLY_TEXT,
    REPLY_CALL,
};

struct reply {
    const struct tokenizer *tokenizer; /* NULL: fed with text */
    const struct reply_sink *sink;
    void *userdata;
    uint32_t call_begin, call_end;
    enum place place;
    struct detokenizer detokenizer;
    struct buffer held; /* of a tag that may follow, or the call so far */
    struct buffer out;  /* room for the characters of a token */
    bool thought;       /* the thinking is more than white space */
    bool too_long;      /* the call; its rest is dropped */
};

static struct reply *reply_make(const struct reply_sink *sink, void *userdata)
{
    struct reply *reply = calloc(1, sizeof(*reply));

    if (!reply)
        return NULL;
    reply->sink = sink;
    reply->userdata = userdata;
    reply->call_begin = reply->call_end = TOKEN_NONE;
    return reply;
}

struct reply *reply_new(const struct tokenizer *tokenizer, const struct reply_sink *sink,
                        void *userdata)
{
    struct reply *reply = reply_make(sink, userdata);

    if (!reply)
        return NULL;
    reply->tokenizer = tokenizer;
    reply->call_begin = tokenizer_find(tokenizer, call_begin);
    reply->call_end = tokenizer_find(tokenizer, call_end);
    return reply;
}

void reply_begin_thinking(struct reply *reply)
{
    reply->place = REPLY_THINKING;
}

struct reply *reply_free(struct reply *reply)
{
    if (!reply)
        return NULL;
    buffer_done(&reply->held);
    buffer_done(&reply->out);
    free(reply);
    return NULL;
}

static void drop_held(struct reply *reply, size_t length)
{
    memmove(reply->held.text, reply->held.text + length, reply->held.length - length);
    reply->held.length -= length;
}

/* Thinking of nothing but white space, as in <think></think>, is none. */
static void deliver(struct reply *reply, size_t length)
{
    if (reply->place == REPLY_THINKING) {
        reply->thought |= blank_length(reply->held.text, length) < length;
        if (reply->thought && length > 0)
            reply->sink->thinking(reply->userdata, reply->held.text, length);
    } else if (length > 0) {
        reply->sink->text(reply->userdata, reply->held.text, length);
    }
    drop_held(reply, length);
}

/* Length of the longest beginning of `tag` that text ends with. */
static size_t tail_of(const char *text, size_t length, const char *tag)
{
    for (size_t n = MIN(length, strlen(tag) - 1); n > 0; n--)
        if (memcmp(text + length - n, tag, n) == 0)
            return n;
    return 0;
}

/* Whole characters that are no call. */
static int feed_text(struct reply *reply, const char *text, size_t length)
{
    const char *found;
    size_t n;

    if (buffer_add(&reply->held, text, length) < 0)
        return -ENOMEM;
    if (reply->held.length == 0)
        return 0;
    if (reply->place == REPLY_BEGIN) {
        n = blank_length(reply->held.text, reply->held.length);
        length = MIN(reply->held.length - n, sizeof(think_begin) - 1);
        if (memcmp(reply->held.text + n, think_begin, length) != 0) {
            reply->place = REPLY_TEXT;
        } else if (length == sizeof(think_begin) - 1) {
            drop_held(reply, n + length);
            reply->place = REPLY_THINKING;
        } else {
            return 0;
        }
    }
    if (reply->place == REPLY_THINKING) {
        if (reply->held.length == 0)
            return 0;
        found = memmem(reply->held.text, reply->held.length, think_end, sizeof(think_end) - 1);
        if (!found) {
            n = reply->held.length - tail_of(reply->held.text, reply->held.length, think_end);
            if (reply->thought || blank_length(reply->held.text, n) < n)
                deliver(reply, n);
            return 0;
        }
        deliver(reply, (size_t)(found - reply->held.text));
        drop_held(reply, sizeof(think_end) - 1);
        reply->place = REPLY_TEXT;
    }
    if (reply->held.length > 0)
        deliver(reply, reply->held.length);
    return 0;
}

/* The text that is held back can be no tag any more. */
static int flush(struct reply *reply)
{
    char rest[4];
    const size_t n = detokenizer_finish(&reply->detokenizer, rest);
    int r = n > 0 ? feed_text(reply, rest, n) : 0;

    if (reply->held.length > 0)
        deliver(reply, reply->held.length);
    return r;
}

static int begin_call(struct reply *reply)
{
    int r = flush(reply);

    reply->place = REPLY_CALL;
    reply->held.length = 0;
    reply->too_long = false;
    return r;
}

static int feed_call(struct reply *reply, const char *text, size_t length)
{
    if (reply->held.length + length > REPLY_CALL_BYTES_MAX)
        reply->too_long = true;
    return reply->too_long ? 0 : buffer_add(&reply->held, text, length);
}

static int end_call(struct reply *reply, struct error *err)
{
    _cleanup_(json_putp) struct json_object *calls = NULL;
    char rest[4];
    int r = feed_call(reply, rest, detokenizer_finish(&reply->detokenizer, rest));

    if (r < 0)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the tool call.");
    reply->place = REPLY_TEXT;
    if (reply->too_long) {
        reply->held.length = 0;
        return error_set(err, ERROR_INVALID_ARGUMENT, "The tool call is longer than %zu bytes.",
                         REPLY_CALL_BYTES_MAX);
    }
    calls = reply_parse_calls(reply->held.text ? reply->held.text : "", reply->held.length, err);
    reply->held.length = 0;
    if (!calls)
        return err && err->code == ERROR_NO_MEMORY ? -ENOMEM : -EINVAL;
    for (size_t i = 0; i < json_object_array_length(calls); i++) {
        struct json_object *call = json_object_array_get_idx(calls, i);

        reply->sink->tool_call(reply->userdata,
                               json_object_get_string(json_object_object_get(call, "name")),
                               json_object_object_get(call, "arguments"));
    }
    return 0;
}

/* Bytes of the reply, which may end in the middle of a character. */
static int feed(struct reply *reply, const char *piece, size_t length, struct error *err)
{
    const size_t room = DETOKENIZER_ROOM(length);
    size_t n;
    int r;

    reply->out.length = 0;
    if (reply->out.capacity < room) {
        char *larger = realloc(reply->out.text, room);

        if (!larger)
            return error_set(err, ERROR_NO_MEMORY, "There is no memory for the reply.");
        reply->out.text = larger;
        reply->out.capacity = room;
    }
    n = detokenizer_push(&reply->detokenizer, piece, length, reply->out.text);
    r = reply->place == REPLY_CALL ? feed_call(reply, reply->out.text, n)
                                   : feed_text(reply, reply->out.text, n);
    return r < 0 ? error_set(err, ERROR_NO_MEMORY, "There is no memory for the reply.") : 0;
}

int reply_push(struct reply *reply, uint32_t id, struct error *err)
{
    size_t length;
    const char *piece = tokenizer_piece(reply->tokenizer, id, &length);
    const bool tag = (length == sizeof(think_begin) - 1 && !memcmp(piece, think_begin, length)) ||
                     (length == sizeof(think_end) - 1 && !memcmp(piece, think_end, length));

    if (id == reply->call_begin && id != TOKEN_NONE && reply->place != REPLY_CALL)
        return begin_call(reply);
    if (id == reply->call_end && id != TOKEN_NONE && reply->place == REPLY_CALL)
        return end_call(reply, err);
    /* Control tokens print nothing, but in some vocabularies the tags are such. */
    if (tokenizer_is_control(reply->tokenizer, id) && !tag)
        return 0;
    return feed(reply, piece, length, err);
}

int reply_finish(struct reply *reply, struct error *err)
{
    if (reply->place == REPLY_CALL) {
        reply->place = REPLY_TEXT;
        reply->held.length = 0;
        reply->detokenizer = (struct detokenizer){0};
        return error_set(err, ERROR_INVALID_ARGUMENT, "The reply ends inside a tool call.");
    }
    return flush(reply) < 0 ? error_set(err, ERROR_NO_MEMORY, "There is no memory for the reply.")
                            : 0;
}

/* --- a whole reply --------------------------------------------------------------------------- */

struct whole {
    struct buffer content, thinking;
    struct json_object *calls;
    bool failed;
};

static void whole_text(void *userdata, const char *text, size_t length)
{
    struct whole *whole = userdata;

    whole->failed |= buffer_add(&whole->content, text, length) < 0;
}

static void whole_thinking(void *userdata, const char *text, size_t length)
{
    struct whole *whole = userdata;

    whole->failed |= buffer_add(&whole->thinking, text, length) < 0;
}

static void whole_call(void *userdata, const char *name, struct json_object *arguments)
{
    struct whole *whole = userdata;
    struct json_object *call = json_object_new_object();

    json_object_object_add(call, "name", json_object_new_string(name));
    json_object_object_add(call, "arguments", json_object_get(arguments));
    whole->failed |= json_object_array_add(whole->calls, call) < 0;
}

/* Feed the text, where the delimiters stand for their tokens. */
static int feed_whole(struct reply *reply, const char *text, size_t length, struct error *err)
{
    int r = 0;

    while (length > 0 && r == 0) {
        const char *tag = reply->place == REPLY_CALL ? call_end : call_begin;
        const char *found = memmem(text, length, tag, strlen(tag));
        const size_t n = found ? (size_t)(found - text) : length;

        r = feed(reply, text, n, err);
        if (r < 0 || !found)
            break;
        r = reply->place == REPLY_CALL ? end_call(reply, err) : begin_call(reply);
        text += n + strlen(tag);
        length -= n + strlen(tag);
    }
    return r < 0 ? r : reply_finish(reply, err);
}

struct json_object *reply_parse(const char *text, size_t length, bool thinking, struct error *err)
{
    static const struct reply_sink sink = {whole_text, whole_thinking, whole_call};
    struct whole whole = {.calls = json_object_new_array()};
    struct reply *reply = reply_make(&sink, &whole);
    const char *end = memmem(text, length, "<|im_end|>", 10);
    struct json_object *result = NULL;

    if (reply && thinking)
        reply_begin_thinking(reply);
    if (!reply || !whole.calls) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for the reply.");
    } else if (feed_whole(reply, text, end ? (size_t)(end - text) : length, err) == 0) {
        result = json_object_new_object();
        json_object_object_add(
            result, "content",
            json_object_new_string_len(whole.content.text ? whole.content.text : "",
                                       (int)whole.content.length));
        json_object_object_add(
            result, "thinking",
            json_object_new_string_len(whole.thinking.text ? whole.thinking.text : "",
                                       (int)whole.thinking.length));
        json_object_object_add(result, "tool_calls", TAKE_PTR(whole.calls));
    }
    buffer_done(&whole.content);
    buffer_done(&whole.thinking);
    json_object_put(whole.calls);
    reply_free(reply);
    return result;
}
