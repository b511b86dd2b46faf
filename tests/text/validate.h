/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A plain JSON Schema validator for the keywords that text/schema.h supports, and a plain reader
 * of Pythonic calls: second opinions on what the constraints let through. They share no code with
 * them, trust the schema, and know the value as a whole.
 */

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "base/utf8.h"

static inline struct json_object *validate_get(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;

    json_object_object_get_ex(object, key, &value);
    return value;
}

static inline bool validate_has(struct json_object *object, const char *key)
{
    return json_object_object_get_ex(object, key, NULL);
}

static inline bool validate_is_number(struct json_object *value)
{
    return json_object_is_type(value, json_type_int) ||
           json_object_is_type(value, json_type_double);
}

static inline bool validate_equal(struct json_object *a, struct json_object *b)
{
    if (validate_is_number(a) && validate_is_number(b))
        return json_object_get_double(a) == json_object_get_double(b);
    return json_object_equal(a, b);
}

static inline bool validate_type(const char *type, struct json_object *value)
{
    switch (json_object_get_type(value)) {
    case json_type_null:
        return strcmp(type, "null") == 0;
    case json_type_boolean:
        return strcmp(type, "boolean") == 0;
    case json_type_int:
        return strcmp(type, "integer") == 0 || strcmp(type, "number") == 0;
    case json_type_double:
        return strcmp(type, "number") == 0 ||
               (strcmp(type, "integer") == 0 &&
                json_object_get_double(value) == floor(json_object_get_double(value)));
    case json_type_string:
        return strcmp(type, "string") == 0;
    case json_type_array:
        return strcmp(type, "array") == 0;
    case json_type_object:
        return strcmp(type, "object") == 0;
    }
    return false;
}

static inline size_t validate_characters(struct json_object *string)
{
    const char *text = json_object_get_string(string);
    const int length = json_object_get_string_len(string);
    size_t n = 0;

    for (int i = 0; i < length; i++)
        n += (text[i] & 0xc0) != 0x80;
    return n;
}

static inline bool validate(struct json_object *root, struct json_object *schema,
                            struct json_object *value);

static inline size_t validate_count(struct json_object *root, struct json_object *list,
                                    struct json_object *value)
{
    size_t n = 0;

    for (size_t i = 0; i < json_object_array_length(list); i++)
        n += validate(root, json_object_array_get_idx(list, i), value);
    return n;
}

static inline bool validate_object(struct json_object *root, struct json_object *schema,
                                   struct json_object *value)
{
    struct json_object *properties = validate_get(schema, "properties");
    struct json_object *required = validate_get(schema, "required");
    struct json_object *others = validate_get(schema, "additionalProperties");

    for (size_t i = 0; required && i < json_object_array_length(required); i++) {
        if (!validate_has(value, json_object_get_string(json_object_array_get_idx(required, i))))
            return false;
    }
    json_object_object_foreach(value, key, member)
    {
        struct json_object *property = validate_get(properties, key);

        if (property && !validate(root, property, member))
            return false;
        if (!property && others && !validate(root, others, member))
            return false;
    }
    return true;
}

static inline bool validate_array(struct json_object *root, struct json_object *schema,
                                  struct json_object *value)
{
    struct json_object *prefix = validate_get(schema, "prefixItems");
    struct json_object *items = validate_get(schema, "items");
    const size_t n = json_object_array_length(value);
    const size_t n_prefix = prefix ? json_object_array_length(prefix) : 0;

    if (validate_has(schema, "minItems") &&
        n < (size_t)json_object_get_int64(validate_get(schema, "minItems")))
        return false;
    if (validate_has(schema, "maxItems") &&
        n > (size_t)json_object_get_int64(validate_get(schema, "maxItems")))
        return false;
    for (size_t i = 0; i < n; i++) {
        struct json_object *item_schema =
            i < n_prefix ? json_object_array_get_idx(prefix, i) : items;

        if (item_schema && !validate(root, item_schema, json_object_array_get_idx(value, i)))
            return false;
    }
    return true;
}

static inline bool validate(struct json_object *root, struct json_object *schema,
                            struct json_object *value)
{
    struct json_object *argument;

    if (json_object_is_type(schema, json_type_boolean))
        return json_object_get_boolean(schema);
    if ((argument = validate_get(schema, "$ref"))) {
        const char *name = json_object_get_string(argument);
        struct json_object *target = root;

        if (name[1] != '\0' && json_pointer_get(root, name + 1, &target) < 0)
            return false;
        return validate(root, target, value);
    }
    if ((argument = validate_get(schema, "type"))) {
        bool any = false;

        if (json_object_is_type(argument, json_type_string))
            any = validate_type(json_object_get_string(argument), value);
        else
            for (size_t i = 0; i < json_object_array_length(argument); i++)
                any |= validate_type(
                    json_object_get_string(json_object_array_get_idx(argument, i)), value);
        if (!any)
            return false;
    }
    if ((argument = validate_get(schema, "enum"))) {
        bool any = false;

        for (size_t i = 0; i < json_object_array_length(argument); i++)
            any |= validate_equal(json_object_array_get_idx(argument, i), value);
        if (!any)
            return false;
    }
    if (validate_has(schema, "const") && !validate_equal(validate_get(schema, "const"), value))
        return false;
    if ((argument = validate_get(schema, "anyOf")) && validate_count(root, argument, value) == 0)
        return false;
    if ((argument = validate_get(schema, "oneOf")) && validate_count(root, argument, value) != 1)
        return false;
    if ((argument = validate_get(schema, "allOf")) &&
        validate_count(root, argument, value) != json_object_array_length(argument))
        return false;
    if (validate_is_number(value)) {
        const double number = json_object_get_double(value);

        if ((argument = validate_get(schema, "minimum")) &&
            !(number >= json_object_get_double(argument)))
            return false;
        if ((argument = validate_get(schema, "maximum")) &&
            !(number <= json_object_get_double(argument)))
            return false;
        if ((argument = validate_get(schema, "exclusiveMinimum")) &&
            !(number > json_object_get_double(argument)))
            return false;
        if ((argument = validate_get(schema, "exclusiveMaximum")) &&
            !(number < json_object_get_double(argument)))
            return false;
    }
    if (json_object_is_type(value, json_type_string)) {
        const size_t n = validate_characters(value);

        if (!utf8_valid(json_object_get_string(value), (size_t)json_object_get_string_len(value)))
            return false;
        if ((argument = validate_get(schema, "minLength")) &&
            n < (size_t)json_object_get_int64(argument))
            return false;
        if ((argument = validate_get(schema, "maxLength")) &&
            n > (size_t)json_object_get_int64(argument))
            return false;
    }
    if (json_object_is_type(value, json_type_object))
        return validate_object(root, schema, value);
    if (json_object_is_type(value, json_type_array))
        return validate_array(root, schema, value);
    return true;
}

/* --- Pythonic calls --------------------------------------------------------------------------- */

struct calls_reader {
    const char *at;
    bool wrong;
};

static inline bool calls_take(struct calls_reader *in, const char *text)
{
    const size_t n = strlen(text);

    if (strncmp(in->at, text, n) != 0)
        return false;
    in->at += n;
    return true;
}

static inline void calls_expect(struct calls_reader *in, const char *text)
{
    if (!in->wrong && !calls_take(in, text))
        in->wrong = true;
}

static inline struct json_object *calls_string(struct calls_reader *in)
{
    const char quote = *in->at++;
    char text[65536];
    int n = 0;

    while (*in->at != quote && !in->wrong) {
        if (*in->at == '\0' || (unsigned char)*in->at < 0x20 || n == sizeof(text)) {
            in->wrong = true;
            break;
        }
        if (*in->at == '\\') {
            in->at++;
            if (*in->at == 'n')
                text[n++] = '\n';
            else if (*in->at == 't')
                text[n++] = '\t';
            else if (strchr("\\\"'", *in->at) && *in->at)
                text[n++] = *in->at;
            else
                in->wrong = true;
            in->at++;
        } else {
            text[n++] = *in->at++;
        }
    }
    in->at++;
    return json_object_new_string_len(text, n);
}

static inline struct json_object *calls_value(struct calls_reader *in)
{
    struct json_object *value = NULL;

    if (in->wrong)
        return NULL;
    if (*in->at == '"' || *in->at == '\'')
        return calls_string(in);
    if (calls_take(in, "True"))
        return json_object_new_boolean(true);
    if (calls_take(in, "False"))
        return json_object_new_boolean(false);
    if (calls_take(in, "None"))
        return NULL;
    if (calls_take(in, "[")) {
        value = json_object_new_array();
        if (calls_take(in, "]"))
            return value;
        do {
            calls_take(in, " ");
            json_object_array_add(value, calls_value(in));
        } while (!in->wrong && calls_take(in, ","));
        calls_expect(in, "]");
        return value;
    }
    if (calls_take(in, "{")) {
        value = json_object_new_object();
        if (calls_take(in, "}"))
            return value;
        do {
            struct json_object *key;

            calls_take(in, " ");
            if (*in->at != '"' && *in->at != '\'') {
                in->wrong = true;
                return value;
            }
            key = calls_string(in);
            calls_expect(in, ":");
            calls_take(in, " ");
            json_object_object_add(value, json_object_get_string(key), calls_value(in));
            json_object_put(key);
        } while (!in->wrong && calls_take(in, ","));
        calls_expect(in, "}");
        return value;
    }
    if (isdigit((unsigned char)*in->at) || *in->at == '-') {
        const size_t n = strspn(in->at, "0123456789+-.eE");
        char text[128];

        if (n < sizeof(text)) {
            memcpy(text, in->at, n);
            text[n] = '\0';
            in->at += n;
            value = json_tokener_parse(text);
            in->wrong |= !validate_is_number(value);
            return value;
        }
    }
    in->wrong = true;
    return NULL;
}

/* [{"name", "arguments"}, ...], or NULL when the text is no list of calls. */
static inline struct json_object *read_calls(const char *text)
{
    struct calls_reader in = {.at = text};
    struct json_object *calls = json_object_new_array();

    calls_expect(&in, "[");
    do {
        struct json_object *call = json_object_new_object(), *arguments = json_object_new_object();
        size_t n;

        calls_take(&in, " ");
        n = strcspn(in.at, "(");
        json_object_object_add(call, "name", json_object_new_string_len(in.at, (int)n));
        json_object_object_add(call, "arguments", arguments);
        json_object_array_add(calls, call);
        in.at += n;
        calls_expect(&in, "(");
        if (in.wrong || calls_take(&in, ")"))
            continue;
        do {
            char key[128];

            calls_take(&in, " ");
            n = strcspn(in.at, "=");
            if (n == 0 || n >= sizeof(key) || in.at[n] != '=') {
                in.wrong = true;
                break;
            }
            memcpy(key, in.at, n);
            key[n] = '\0';
            in.at += n + 1;
            json_object_object_add(arguments, key, calls_value(&in));
        } while (!in.wrong && calls_take(&in, ","));
        calls_expect(&in, ")");
    } while (!in.wrong && calls_take(&in, ","));
    calls_expect(&in, "]");
    if (in.wrong || *in.at != '\0') {
        json_object_put(calls);
        return NULL;
    }
    return calls;
}
