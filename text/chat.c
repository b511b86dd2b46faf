/* SPDX-License-Identifier: MIT */
#include "text/chat.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <utf8proc.h>

#include "base/cleanup.h"
#include "base/utf8.h"

#define CHAT_DEPTH_MAX 64 /* nesting of JSON that is printed */

/* --- the forms ------------------------------------------------------------------------------- */

enum past_thinking {
    PAST_KEPT,      /* stays in the history */
    PAST_LAST_TURN, /* only the last assistant turn keeps it */
    PAST_QUESTION,  /* only assistant turns after the last user turn keep it */
};

struct form {
    const char *name;
    const char *has[3], *lacks; /* how its template is recognised */
    bool tool_list_tokens;      /* <|tool_list_start|> around the tools */
    bool tool_response_tokens;  /* <|tool_response_start|> around results */
    bool date;                  /* today's date before the tools */
    bool parts;                 /* content in parts is joined; else dumped as JSON */
    bool checks;                /* and its template looks at what kind of value a part is */
    bool structured;            /* the template itself writes thinking and tool_calls */
    bool calls_first;           /* tool_calls before the content */
    bool escapes;               /* strings of calls are escaped */
    bool opens_thinking;
    enum past_thinking past;
    char quote; /* around strings of calls */
};

static const struct form forms[_CHAT_FORM_N] = {
    [CHAT_LFM2] =
        {
            .name = "LFM2-8B-A1B",
            .has = {"<|tool_list_start|>"},
            .tool_list_tokens = true,
            .tool_response_tokens = true,
            .past = PAST_KEPT,
            .quote = '"',
            .escapes = true,
        },
    [CHAT_LFM25] =
        {
            .name = "LFM2.5-Instruct",
            .has = {"List of tools: ["},
            .lacks = "preserve_thinking",
            .past = PAST_LAST_TURN,
            .quote = '"',
            .escapes = true,
        },
    [CHAT_LFM25_VL] =
        {
            .name = "LFM2.5-VL",
            .has = {"List of tools: ", "strftime_now"},
            .lacks = "preserve_thinking",
            .date = true,
            .parts = true,
            .structured = true,
            .calls_first = true,
            .past = PAST_LAST_TURN,
            .quote = '"',
        },
    [CHAT_LFM25_MOE] =
        {
            .name = "LFM2.5-8B-A1B",
            .has = {"List of tools: [", "preserve_thinking"},
            .lacks = "assistant\\n<think>",
            .parts = true,
            .structured = true,
            .past = PAST_QUESTION,
            .quote = '\'',
        },
    [CHAT_LFM25_MOE_DATE] =
        {
            .name = "LFM2.5-8B-A1B-date",
            .has = {"List of tools: ", "preserve_thinking", "strftime_now"},
            .date = true,
            .parts = true,
            .structured = true,
            .past = PAST_QUESTION,
            .quote = '\'',
        },
    [CHAT_LFM25_THINK] =
        {
            .name = "LFM2.5-2.6B",
            .has = {"List of tools: [", "preserve_thinking", "assistant\\n<think>"},
            .parts = true,
            .checks = true,
            .structured = true,
            .escapes = true,
            .opens_thinking = true,
            .past = PAST_QUESTION,
            .quote = '\'',
        },
};

bool chat_form_by_name(const char *name, enum chat_form *ret)
{
    if (strcmp(name, "LFM2") == 0) {
        *ret = CHAT_LFM2;
        return true;
    }
    for (unsigned i = 0; i < _CHAT_FORM_N; i++)
        if (strcmp(forms[i].name, name) == 0) {
            *ret = (enum chat_form)i;
            return true;
        }
    return false;
}

bool chat_form_opens_thinking(enum chat_form form)
{
    return forms[form].opens_thinking;
}

static bool contains(struct gguf_string text, const char *part)
{
    return memmem(text.text, text.length, part, strlen(part)) != NULL;
}

int chat_form_recognise(const struct gguf *gguf, enum chat_form *ret, struct error *err)
{
    struct gguf_string text;
    int r = gguf_str(gguf, "tokenizer.chat_template", &text, err);

    if (r < 0)
        return r;
    if (contains(text, "<|im_start|>") && contains(text, "<|im_end|>")) {
        for (unsigned i = 0; i < _CHAT_FORM_N; i++) {
            const struct form *form = &forms[i];
            bool fits = !form->lacks || !contains(text, form->lacks);

            for (size_t k = 0; k < ARRAY_LEN(form->has) && form->has[k]; k++)
                fits = fits && contains(text, form->has[k]);
            if (fits) {
                *ret = (enum chat_form)i;
                return 0;
            }
        }
        /* Turns alone, as in the templates of the vision and audio models. */
        if (!contains(text, "tool")) {
            *ret = CHAT_LFM25;
            return 0;
        }
    }
    return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                     "%s: the chat template is none of the LFM2 family's (it begins \"%.*s\").",
                     gguf_path(gguf), (int)MIN(text.length, (size_t)40), text.text);
}

/* --- the text that grows --------------------------------------------------------------------- */

struct output {
    char *text;
    size_t length, capacity;
    /* Ends of spans in the text, and whether they are markup. */
    struct output_span {
        size_t end;
        bool markup;
    } * spans;
    size_t n_spans, spans_capacity;
    bool failed; /* out of memory; seen once, at the end */
    bool too_deep;
};

static void output_done(struct output *output)
{
    free(output->text);
    free(output->spans);
}

static void put(struct output *output, const char *text, size_t length)
{
    if (output->length + length + 1 > output->capacity) {
        const size_t capacity = 2 * (output->length + length) + 256;
        char *larger = realloc(output->text, capacity);

        if (!larger) {
            output->failed = true;
            return;
        }
        output->text = larger;
        output->capacity = capacity;
    }
    if (length > 0)
        memcpy(output->text + output->length, text, length);
    output->length += length;
    output->text[output->length] = '\0';
}

static void puts_(struct output *output, const char *text)
{
    put(output, text, strlen(text));
}

__attribute__((format(printf, 2, 3))) static void putf(struct output *output, const char *format,
                                                       ...)
{
    char text[64];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    puts_(output, text);
}

/* What was written since the last span becomes one. */
static void end_span(struct output *output, bool markup)
{
    const size_t begin = output->n_spans ? output->spans[output->n_spans - 1].end : 0;

    if (output->length == begin || output->failed)
        return;
    if (output->n_spans == output->spans_capacity) {
        const size_t capacity = 2 * output->spans_capacity + 16;
        void *larger = reallocarray(output->spans, capacity, sizeof(output->spans[0]));

        if (!larger) {
            output->failed = true;
            return;
        }
        output->spans = larger;
        output->spans_capacity = capacity;
    }
    output->spans[output->n_spans++] = (struct output_span){output->length, markup};
}

static void put_markup(struct output *output, const char *text)
{
    end_span(output, false);
    puts_(output, text);
    end_span(output, true);
}

/* --- values as Python prints them ------------------------------------------------------------ */

/* repr(float): the shortest digits that read back, fixed for exponents from -4 to 15. */
static void put_float(struct output *output, double value, bool json)
{
    char text[40], digits[24];
    int exponent, n = 0;

    if (isnan(value) || isinf(value)) {
        puts_(output, isnan(value) ? (json ? "NaN" : "nan")
                      : value > 0  ? (json ? "Infinity" : "inf")
                                   : (json ? "-Infinity" : "-inf"));
        return;
    }
    for (int precision = 0; precision < 17; precision++) {
        snprintf(text, sizeof(text), "%.*e", precision, value);
        if (strtod(text, NULL) == value)
            break;
    }
    exponent = atoi(strchr(text, 'e') + 1);
    for (const char *c = text; *c != 'e'; c++)
        if (*c >= '0' && *c <= '9')
            digits[n++] = *c;

    if (signbit(value))
        puts_(output, "-");
    if (exponent < -4 || exponent >= 16) {
        put(output, digits, 1);
        if (n > 1) {
            puts_(output, ".");
            put(output, digits + 1, (size_t)n - 1);
        }
        putf(output, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    } else if (exponent < 0) {
        puts_(output, "0.");
        for (int i = -1; i > exponent; i--)
            puts_(output, "0");
        put(output, digits, (size_t)n);
    } else {
        for (int i = 0; i <= exponent; i++)
            put(output, i < n ? &digits[i] : "0", 1);
        puts_(output, ".");
        if (n > exponent + 1)
            put(output, digits + exponent + 1, (size_t)(n - exponent - 1));
        else
            puts_(output, "0");
    }
}

static void put_number(struct output *output, struct json_object *value, bool json)
{
    if (json_object_is_type(value, json_type_double)) {
        put_float(output, json_object_get_double(value), json);
    } else if (json_object_get_int64(value) == INT64_MAX) {
        putf(output, "%llu", (unsigned long long)json_object_get_uint64(value));
    } else {
        putf(output, "%lld", (long long)json_object_get_int64(value));
    }
}

/* The control characters with an escape of one letter. */
static const char escaped[] = "\"\\\n\r\t\b\f", escapes[] = "\"\\nrtbf";

static void put_json_text(struct output *output, const char *text, size_t length)
{
    puts_(output, "\"");
    for (size_t i = 0; i < length; i++) {
        const unsigned char c = (unsigned char)text[i];
        const char *place = c ? strchr(escaped, c) : NULL;

        if (place)
            putf(output, "\\%c", escapes[place - escaped]);
        else if (c < 0x20)
            putf(output, "\\u%04x", c);
        else
            put(output, &text[i], 1);
    }
    puts_(output, "\"");
}

/* str.isprintable() of one code point. */
static bool is_printable(uint32_t c)
{
    const utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);

    if (c == ' ')
        return true;
    return category != UTF8PROC_CATEGORY_CC && category != UTF8PROC_CATEGORY_CF &&
           category != UTF8PROC_CATEGORY_CS && category != UTF8PROC_CATEGORY_CO &&
           category != UTF8PROC_CATEGORY_CN && category != UTF8PROC_CATEGORY_ZL &&
           category != UTF8PROC_CATEGORY_ZP && category != UTF8PROC_CATEGORY_ZS;
}

/* repr(str) */
static void put_python_text(struct output *output, const char *text, size_t length)
{
    const char quote = memchr(text, '\'', length) && !memchr(text, '"', length) ? '"' : '\'';

    put(output, &quote, 1);
    for (size_t i = 0; i < length;) {
        uint32_t c;
        int n = utf8_decode(text + i, length - i, &c);

        if (n <= 0)
            n = 1, c = (unsigned char)text[i];
        if (c == (unsigned char)quote || c == '\\')
            putf(output, "\\%c", (int)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            puts_(output, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
        else if (is_printable(c))
            put(output, text + i, (size_t)n);
        else
            putf(output, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
        i += (size_t)n;
    }
    put(output, &quote, 1);
}

/* json.dumps(value, ensure_ascii=False), or repr(value). */
static void put_value(struct output *output, struct json_object *value, bool json, unsigned depth)
{
    const char *separator = "";

    if (depth > CHAT_DEPTH_MAX) {
        output->too_deep = true;
        return;
    }
    switch (json_object_get_type(value)) {
    case json_type_null:
        puts_(output, json ? "null" : "None");
        break;
    case json_type_boolean:
        if (json)
            puts_(output, json_object_get_boolean(value) ? "true" : "false");
        else
            puts_(output, json_object_get_boolean(value) ? "True" : "False");
        break;
    case json_type_int:
    case json_type_double:
        put_number(output, value, json);
        break;
    case json_type_string:
        (json ? put_json_text : put_python_text)(output, json_object_get_string(value),
                                                 (size_t)json_object_get_string_len(value));
        break;
    case json_type_array:
        puts_(output, "[");
        for (size_t i = 0; i < json_object_array_length(value); i++) {
            puts_(output, i > 0 ? ", " : "");
            put_value(output, json_object_array_get_idx(value, i), json, depth + 1);
        }
        puts_(output, "]");
        break;
    case json_type_object:
        puts_(output, "{");
        json_object_object_foreach(value, key, member)
        {
            puts_(output, separator);
            (json ? put_json_text : put_python_text)(output, key, strlen(key));
            puts_(output, ": ");
            put_value(output, member, json, depth + 1);
            separator = ", ";
        }
        puts_(output, "}");
        break;
    }
}

char *chat_dump_json(struct json_object *value)
{
    _cleanup_(output_done) struct output output = {0};

    put_value(&output, value, true, 0);
    if (output.failed || output.too_deep)
        return NULL;
    return TAKE_PTR(output.text);
}

/* --- parts of a message ---------------------------------------------------------------------- */

static const char *member_text(struct json_object *object, const char *key)
{
    struct json_object *member = json_object_object_get(object, key);

    return json_object_is_type(member, json_type_string) ? json_object_get_string(member) : NULL;
}

static void put_text(struct output *output, struct json_object *text)
{
    put(output, json_object_get_string(text), (size_t)json_object_get_string_len(text));
}

/* What an `if` of the templates does not take: null, false, 0 and what is empty. */
static bool is_false(struct json_object *value)
{
    switch (json_object_get_type(value)) {
    case json_type_string:
        return json_object_get_string_len(value) == 0;
    case json_type_array:
        return json_object_array_length(value) == 0;
    case json_type_object:
        return json_object_object_length(value) == 0;
    default:
        return !json_object_get_boolean(value);
    }
}

/* Content in parts: texts joined with nothing between, <image> for a picture. */
static void put_parts(struct output *output, const struct form *form, struct json_object *parts)
{
    for (size_t i = 0; i < json_object_array_length(parts); i++) {
        struct json_object *part = json_object_array_get_idx(parts, i);
        const bool object = json_object_is_type(part, json_type_object);
        const char *type = object ? member_text(part, "type") : NULL;
        struct json_object *text = object ? json_object_object_get(part, "text") : NULL;

        if (form->checks && json_object_is_type(part, json_type_string))
            put_text(output, part);
        else if (type && strcmp(type, "text") == 0 && json_object_is_type(text, json_type_string))
            put_text(output, text);
        else if (type && strcmp(type, "image") == 0)
            put_markup(output, "<image>");
        else
            put_value(output, part, true, 0);
    }
}

/* Where a template expects parts without a look, an object is the list of its keys. */
static void put_keys(struct output *output, struct json_object *object)
{
    json_object_object_foreach(object, key, value)
    {
        (void)value;
        put_json_text(output, key, strlen(key));
    }
}

static void put_content(struct output *output, const struct form *form, struct json_object *message,
                        bool system)
{
    struct json_object *content;

    if (!json_object_object_get_ex(message, "content", &content))
        return;
    if (json_object_is_type(content, json_type_string))
        put_text(output, content);
    else if (is_false(content) && (form->parts || system))
        return;
    else if (form->parts && json_object_is_type(content, json_type_array))
        put_parts(output, form, content);
    else if (form->parts && !form->checks && json_object_is_type(content, json_type_object))
        put_keys(output, content);
    else
        put_value(output, content, true, 0);
}

/* Jinja's trim: white space of Unicode at both ends. */
static bool is_space(uint32_t c)
{
    const utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);

    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 ||
           category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
           category == UTF8PROC_CATEGORY_ZP;
}

/* Keep of output[begin..] what follows the last </think>, trimmed; all when there is none. */
static void cut_thinking(struct output *output, size_t begin)
{
    static const char tag[] = "</think>";
    const size_t n_tag = sizeof(tag) - 1;
    char *text = output->text + begin;
    size_t n = output->length - begin, from = 0, last = 0;
    uint32_t c;

    for (size_t i = 0; i + n_tag <= n; i++)
        if (memcmp(text + i, tag, n_tag) == 0)
            from = i + n_tag;
    if (from == 0)
        return;
    while (from < n) {
        const int length = utf8_decode(text + from, n - from, &c);

        if (length <= 0 || !is_space(c))
            break;
        from += (size_t)length;
    }
    last = from;
    for (size_t i = from; i < n;) {
        const int length = utf8_decode(text + i, n - i, &c);
        const bool space = length > 0 && is_space(c);

        i += length > 0 ? (size_t)length : 1;
        if (!space)
            last = i;
    }
    memmove(text, text + from, last - from);
    output->length = begin + (last - from);
    output->text[output->length] = '\0';
}

static void put_argument(struct output *output, const struct form *form, struct json_object *value)
{
    if (json_object_is_type(value, json_type_string)) {
        const char *text = json_object_get_string(value);
        const size_t n = (size_t)json_object_get_string_len(value);

        put(output, &form->quote, 1);
        for (size_t i = 0; i < n; i++) {
            const char *place = text[i] ? strchr("\\\n\r\t\"", text[i]) : NULL;

            if (form->escapes && text[i] == form->quote)
                putf(output, "\\%c", form->quote);
            else if (form->escapes && place && *place != '"')
                putf(output, "\\%c", escapes[strchr(escaped, *place) - escaped]);
            else
                put(output, text + i, 1);
        }
        put(output, &form->quote, 1);
    } else {
        /* Objects as JSON, other values as Python prints them. */
        put_value(output, value, json_object_is_type(value, json_type_object), 0);
    }
}

/* [f(a='x'), g()] */
static int put_calls(struct output *output, const struct form *form, struct json_object *calls,
                     struct error *err)
{
    put_markup(output, "<|tool_call_start|>");
    puts_(output, "[");
    for (size_t i = 0; i < json_object_array_length(calls); i++) {
        struct json_object *call = json_object_array_get_idx(calls, i);
        struct json_object *function = json_object_object_get(call, "function");
        struct json_object *arguments, *parsed = NULL;
        const char *name, *separator = "";

        if (!json_object_is_type(function, json_type_object))
            function = call;
        name =
            json_object_is_type(function, json_type_object) ? member_text(function, "name") : NULL;
        if (!name)
            return error_set(err, ERROR_INVALID_ARGUMENT, "Tool call %zu has no name.", i + 1);
        arguments = json_object_object_get(function, "arguments");
        if (json_object_is_type(arguments, json_type_string))
            arguments = parsed = json_tokener_parse(json_object_get_string(arguments));
        if (arguments && !json_object_is_type(arguments, json_type_object)) {
            json_object_put(parsed);
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "The arguments of the tool call %.64s are not a JSON object.", name);
        }
        puts_(output, i > 0 ? ", " : "");
        puts_(output, name);
        puts_(output, "(");
        if (arguments) {
            json_object_object_foreach(arguments, key, value)
            {
                puts_(output, separator);
                puts_(output, key);
                puts_(output, "=");
                put_argument(output, form, value);
                separator = ", ";
            }
        }
        puts_(output, ")");
        json_object_put(parsed);
    }
    puts_(output, "]");
    put_markup(output, "<|tool_call_end|>");
    return 0;
}

/* --- turns ----------------------------------------------------------------------------------- */

static int check_messages(const struct chat_request *request, struct error *err)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};

    if (!json_object_is_type(request->messages, json_type_array))
        return error_set(err, ERROR_INVALID_ARGUMENT, "\"messages\" is not an array.");
    if (request->tools && !json_object_is_type(request->tools, json_type_array))
        return error_set(err, ERROR_INVALID_ARGUMENT, "\"tools\" is not an array.");
    for (size_t i = 0; i < json_object_array_length(request->messages); i++) {
        struct json_object *message = json_object_array_get_idx(request->messages, i), *calls;
        const char *role;
        bool known = false;

        if (!json_object_is_type(message, json_type_object))
            return error_set(err, ERROR_INVALID_ARGUMENT, "Message %zu is not an object.", i + 1);
        role = member_text(message, "role");
        for (size_t k = 0; role && k < ARRAY_LEN(roles); k++)
            known = known || strcmp(role, roles[k]) == 0;
        if (!known)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "Message %zu has the role \"%.32s\", expected system, user, assistant "
                             "or tool.",
                             i + 1, role ? role : "");
        calls = json_object_object_get(message, "tool_calls");
        if (calls && !json_object_is_type(calls, json_type_array))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "\"tool_calls\" of message %zu is not an array.", i + 1);
    }
    return 0;
}

static bool has_role(struct json_object *message, const char *role)
{
    return strcmp(member_text(message, "role"), role) == 0;
}

static void put_tools(struct output *output, const struct form *form,
                      const struct chat_request *request)
{
    if (form->date) {
        char today[16];
        const time_t now = time(NULL);
        struct tm tm;

        strftime(today, sizeof(today), "%Y-%m-%d", localtime_r(&now, &tm));
        puts_(output, "Today's date: ");
        puts_(output, request->date ? request->date : today);
        puts_(output, "\n\n");
    }
    puts_(output, "List of tools: ");
    if (form->tool_list_tokens)
        put_markup(output, "<|tool_list_start|>");
    puts_(output, "[");
    for (size_t i = 0; i < json_object_array_length(request->tools); i++) {
        struct json_object *tool = json_object_array_get_idx(request->tools, i);

        puts_(output, i > 0 ? ", " : "");
        if (json_object_is_type(tool, json_type_string) && !form->date)
            put_text(output, tool);
        else
            put_value(output, tool, true, 0);
    }
    puts_(output, "]");
    if (form->tool_list_tokens)
        put_markup(output, "<|tool_list_end|>");
}

/* Returns whether there is a system turn. */
static bool put_system(struct output *output, const struct form *form,
                       const struct chat_request *request, struct json_object *system)
{
    const bool tools = request->tools && json_object_array_length(request->tools) > 0;
    size_t begin;

    put_markup(output, "<|im_start|>system\n");
    begin = output->length;
    if (system)
        put_content(output, form, system, true);
    if (output->length == begin && !tools)
        return false;
    if (tools) {
        if (output->length > begin)
            puts_(output, form->date ? "\n\n" : "\n");
        put_tools(output, form, request);
    }
    put_markup(output, "<|im_end|>\n");
    return true;
}

static int put_message(struct output *output, const struct form *form,
                       const struct chat_request *request, struct json_object *message, size_t i,
                       size_t last_assistant, size_t last_user, struct error *err)
{
    const bool structured = form->structured || !request->as_template;
    struct json_object *calls = json_object_object_get(message, "tool_calls");
    struct json_object *thinking = json_object_object_get(message, "thinking");
    bool keep = request->keep_thinking;
    size_t begin;
    int r = 0;

    put_markup(output, "<|im_start|>");
    puts_(output, member_text(message, "role"));
    puts_(output, "\n");
    end_span(output, true);

    if (!has_role(message, "assistant")) {
        const bool wrapped = form->tool_response_tokens && has_role(message, "tool");

        if (wrapped)
            put_markup(output, "<|tool_response_start|>");
        put_content(output, form, message, false);
        if (wrapped)
            put_markup(output, "<|tool_response_end|>");
        put_markup(output, "<|im_end|>\n");
        return 0;
    }

    if (form->past == PAST_KEPT)
        keep = true;
    else if (form->past == PAST_LAST_TURN)
        keep = keep || i == last_assistant;
    else
        keep = keep || last_user == SIZE_MAX || i > last_user;
    /* The templates that check kinds see an empty list, as does everybody who wrote none. */
    if (!structured || (calls && json_object_array_length(calls) == 0 &&
                        (form->checks || !form->structured || !request->as_template)))
        calls = NULL;
    /* Without a template that says so, thinking of earlier questions is not worth its place. */
    if (structured && json_object_is_type(thinking, json_type_string) &&
        (form->past == PAST_KEPT ? i == last_assistant : keep)) {
        puts_(output, "<think>");
        put_text(output, thinking);
        puts_(output, "</think>");
    }
    if (calls && form->calls_first)
        r = put_calls(output, form, calls, err);
    begin = output->length;
    put_content(output, form, message, false);
    if (!keep && !output->failed)
        cut_thinking(output, begin);
    if (r == 0 && calls && !form->calls_first)
        r = put_calls(output, form, calls, err);
    put_markup(output, "<|im_end|>\n");
    return r;
}

static int render(struct output *output, const struct form *form,
                  const struct chat_request *request, size_t *boundaries, size_t *ret_n,
                  struct error *err)
{
    const size_t n = json_object_array_length(request->messages);
    struct json_object *system = n > 0 ? json_object_array_get_idx(request->messages, 0) : NULL;
    size_t first, last_assistant = SIZE_MAX, last_user = SIZE_MAX, n_before, length_before;
    size_t n_boundaries = 0;

    if (system && !has_role(system, "system"))
        system = NULL;
    first = system ? 1 : 0;
    for (size_t i = first; i < n; i++) {
        struct json_object *message = json_object_array_get_idx(request->messages, i);

        if (has_role(message, "assistant"))
            last_assistant = i;
        if (has_role(message, "user"))
            last_user = i;
    }

    put_markup(output, "<|startoftext|>");
    n_before = output->n_spans, length_before = output->length;
    if (put_system(output, form, request, system)) {
        boundaries[n_boundaries++] = output->n_spans;
    } else {
        output->n_spans = n_before, output->length = length_before;
        boundaries[n_boundaries++] = 0;
    }
    for (size_t i = first; i < n; i++) {
        int r = put_message(output, form, request, json_object_array_get_idx(request->messages, i),
                            i, last_assistant, last_user, err);

        if (r < 0)
            return r;
        boundaries[n_boundaries++] = output->n_spans;
    }
    if (request->add_generation_prompt) {
        put_markup(output, "<|im_start|>assistant\n");
        if (form->opens_thinking)
            put_markup(output, request->no_thinking ? "<think></think>" : "<think>");
    }
    *ret_n = n_boundaries;
    return 0;
}

int chat_render(enum chat_form form, const struct chat_request *request, struct chat_prompt *ret,
                struct error *err)
{
    _cleanup_(output_done) struct output output = {0};
    _cleanup_(freep) size_t *boundaries = NULL;
    _cleanup_(freep) struct text_span *spans = NULL;
    struct form written = forms[form];
    size_t n_boundaries, begin = 0;
    int r = check_messages(request, err);

    if (r < 0)
        return r;
    /* Pictures come in parts, also where the template of a text model knows none. */
    written.parts = written.parts || !request->as_template;
    boundaries = calloc(json_object_array_length(request->messages) + 1, sizeof(boundaries[0]));
    if (!boundaries)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the prompt.");
    r = render(&output, &written, request, boundaries, &n_boundaries, err);
    if (r < 0)
        return r;
    if (output.too_deep)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "A value in the messages or tools is nested deeper than %d.",
                         CHAT_DEPTH_MAX);
    spans = calloc(output.n_spans + 1, sizeof(spans[0]));
    if (output.failed || !spans)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the prompt.");
    for (size_t i = 0; i < output.n_spans; i++) {
        spans[i] = (struct text_span){output.text + begin, output.spans[i].end - begin,
                                      output.spans[i].markup};
        begin = output.spans[i].end;
    }
    *ret = (struct chat_prompt){
        .text = TAKE_PTR(output.text),
        .length = output.length,
        .spans = TAKE_PTR(spans),
        .n_spans = output.n_spans,
        .boundaries = TAKE_PTR(boundaries),
        .n_boundaries = n_boundaries,
    };
    return 0;
}

void chat_prompt_done(struct chat_prompt *prompt)
{
    free(prompt->text);
    free(prompt->spans);
    free(prompt->boundaries);
    *prompt = (struct chat_prompt){0};
}
