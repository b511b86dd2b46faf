/* SPDX-License-Identifier: MIT */
#include "clients/desktop/schema.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/utf8.h"

#define DESCRIPTION_MAX 300  /* bytes */
#define STEPS_MAX       4096 /* schemas looked at, however they refer to each other */

static struct json_object *get(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;

    if (json_object_is_type(object, json_type_object))
        json_object_object_get_ex(object, key, &value);
    return value;
}

/* --- cutting --------------------------------------------------------------------------------- */

struct cut {
    struct json_object *document;
    unsigned steps;
};

static struct json_object *cut(struct cut *c, struct json_object *schema, unsigned depth);

static bool is_type_name(struct json_object *type)
{
    static const char *const names[] = {"null",   "boolean", "integer", "number",
                                        "string", "array",   "object"};

    for (size_t i = 0; json_object_is_type(type, json_type_string) && i < ARRAY_LEN(names); i++) {
        if (strcmp(json_object_get_string(type), names[i]) == 0)
            return true;
    }
    return false;
}

/* One name, or a list of names; NULL: any. */
static struct json_object *cut_type(struct json_object *type)
{
    struct json_object *list;

    if (is_type_name(type))
        return json_object_get(type);
    if (!json_object_is_type(type, json_type_array))
        return NULL;
    list = json_object_new_array();
    for (size_t i = 0; i < json_object_array_length(type) && i < 7; i++) {
        if (is_type_name(json_object_array_get_idx(type, i)))
            json_object_array_add(list, json_object_get(json_object_array_get_idx(type, i)));
    }
    if (json_object_array_length(list) > 0)
        return list;
    json_object_put(list);
    return NULL;
}

/* "#/$defs/Item": the schema there, NULL: nothing. */
static struct json_object *at_reference(struct json_object *document, const char *reference)
{
    struct json_object *place = document;
    char name[128];

    if (*reference++ != '#')
        return NULL;
    while (place && *reference == '/') {
        const size_t length = strcspn(++reference, "/");

        if (length >= sizeof(name))
            return NULL;
        memcpy(name, reference, length);
        name[length] = '\0';
        place = get(place, name);
        reference += length;
    }
    return *reference == '\0' ? place : NULL;
}

static bool is_text(struct json_object *value)
{
    const char *text = json_object_get_string(value);
    const size_t length = (size_t)json_object_get_string_len(value);

    return strlen(text) == length && utf8_valid(text, length);
}

/* A value that can be written in a call. */
static bool is_scalar(struct json_object *value)
{
    if (json_object_is_type(value, json_type_string))
        return is_text(value);
    return !json_object_is_type(value, json_type_object) &&
           !json_object_is_type(value, json_type_array) &&
           !(json_object_is_type(value, json_type_double) &&
             !isfinite(json_object_get_double(value)));
}

/* Those values of a list. */
static struct json_object *cut_values(struct json_object *values)
{
    struct json_object *list = json_object_new_array();

    for (size_t i = 0; i < json_object_array_length(values) && i < SCHEMA_ENUM; i++) {
        struct json_object *value = json_object_array_get_idx(values, i);

        if (is_scalar(value))
            json_object_array_add(list, json_object_get(value));
    }
    return list;
}

static void cut_object(struct cut *c, struct json_object *schema, struct json_object *out,
                       unsigned depth)
{
    struct json_object *properties = get(schema, "properties"), *required = get(schema, "required");
    struct json_object *kept, *needed;

    if (!json_object_is_type(properties, json_type_object))
        return;
    kept = json_object_new_object();
    needed = json_object_new_array();
    json_object_object_foreach(properties, key, value)
    {
        if (json_object_object_length(kept) < SCHEMA_PROPERTIES &&
            (depth > 0 ? utf8_valid(key, strlen(key)) : schema_name_ok(key)))
            json_object_object_add(kept, key, cut(c, value, depth + 1));
    }
    for (size_t i = 0; json_object_is_type(required, json_type_array) &&
                       i < json_object_array_length(required) && i < SCHEMA_PROPERTIES;
         i++) {
        struct json_object *name = json_object_array_get_idx(required, i);

        if (json_object_is_type(name, json_type_string) &&
            json_object_object_get_ex(kept, json_object_get_string(name), NULL))
            json_object_array_add(needed, json_object_get(name));
    }
    json_object_object_add(out, "properties", kept);
    json_object_object_add(out, "required", needed);
}

/* A pair of bounds, as far as they are whole numbers and not against each other. */
static void cut_bounds(struct json_object *schema, struct json_object *out, const char *min_key,
                       const char *max_key, int64_t least)
{
    struct json_object *min = get(schema, min_key), *max = get(schema, max_key);

    if (!json_object_is_type(min, json_type_int) || json_object_get_int64(min) < least)
        min = NULL;
    if (!json_object_is_type(max, json_type_int) || json_object_get_int64(max) < least)
        max = NULL;
    if (min && max && json_object_get_int64(min) > json_object_get_int64(max))
        return;
    if (min)
        json_object_object_add(out, min_key, json_object_get(min));
    if (max)
        json_object_object_add(out, max_key, json_object_get(max));
}

static bool cut_alternatives(struct cut *c, struct json_object *schema, struct json_object *out,
                             unsigned depth)
{
    struct json_object *of = get(schema, "anyOf") ? get(schema, "anyOf") : get(schema, "oneOf");
    struct json_object *list;

    if (!json_object_is_type(of, json_type_array) || json_object_array_length(of) == 0)
        return false;
    list = json_object_new_array();
    for (size_t i = 0; i < json_object_array_length(of) && i < 16; i++)
        json_object_array_add(list, cut(c, json_object_array_get_idx(of, i), depth + 1));
    json_object_object_add(out, "anyOf", list);
    return true;
}

/* {}: anything */
static struct json_object *cut(struct cut *c, struct json_object *schema, unsigned depth)
{
    struct json_object *out = json_object_new_object(), *part, *type;

    if (depth > SCHEMA_DEPTH || ++c->steps > STEPS_MAX)
        return out;
    if (json_object_is_type(part = get(schema, "$ref"), json_type_string)) {
        json_object_put(out);
        return cut(c, at_reference(c->document, json_object_get_string(part)), depth + 1);
    }
    part = get(schema, "description");
    if (json_object_is_type(part, json_type_string) &&
        json_object_get_string_len(part) <= DESCRIPTION_MAX)
        json_object_object_add(out, "description", json_object_get(part));
    if (get(schema, "const") && is_scalar(get(schema, "const"))) {
        json_object_object_add(out, "const", json_object_get(get(schema, "const")));
        return out;
    }
    if (json_object_is_type(part = get(schema, "enum"), json_type_array)) {
        part = cut_values(part);
        if (json_object_array_length(part) > 0) {
            json_object_object_add(out, "enum", part);
            return out;
        }
        json_object_put(part);
    }
    if (cut_alternatives(c, schema, out, depth))
        return out;
    type = cut_type(get(schema, "type"));
    if (type)
        json_object_object_add(out, "type", type);
    cut_object(c, schema, out, depth);
    if (json_object_is_type(get(schema, "items"), json_type_object))
        json_object_object_add(out, "items", cut(c, get(schema, "items"), depth + 1));
    cut_bounds(schema, out, "minimum", "maximum", INT64_MIN);
    cut_bounds(schema, out, "minLength", "maxLength", 0);
    cut_bounds(schema, out, "minItems", "maxItems", 0);
    return out;
}

bool schema_name_ok(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";

    return *name && !(*name >= '0' && *name <= '9') && strlen(name) <= SCHEMA_NAME &&
           strspn(name, letters) == strlen(name);
}

/* The first parameter that is needed and cannot be given; NULL: none. */
static const char *impossible(struct json_object *schema)
{
    struct json_object *required = get(schema, "required");

    for (size_t i = 0; json_object_is_type(required, json_type_array) &&
                       i < json_object_array_length(required);
         i++) {
        struct json_object *name = json_object_array_get_idx(required, i);

        if (json_object_is_type(name, json_type_string) &&
            !schema_name_ok(json_object_get_string(name)))
            return json_object_get_string(name);
    }
    return NULL;
}

struct json_object *schema_plain(struct json_object *schema, struct error *err)
{
    struct cut c = {.document = schema};
    struct json_object *out, *type = get(schema, "type");
    size_t length;

    if (schema && !json_object_is_type(schema, json_type_object)) {
        error_set(err, ERROR_INVALID_ARGUMENT, "The parameters are no JSON Schema.");
        return NULL;
    }
    if (type && (!json_object_is_type(type, json_type_string) ||
                 strcmp(json_object_get_string(type), "object") != 0)) {
        error_set(err, ERROR_INVALID_ARGUMENT, "The parameters are not of type object.");
        return NULL;
    }
    if (impossible(schema)) {
        error_set(err, ERROR_INVALID_ARGUMENT,
                  "The parameter '%.60s' cannot be written: only letters, digits and _ can.",
                  impossible(schema));
        return NULL;
    }
    out = json_object_new_object();
    json_object_object_add(out, "type", json_object_new_string("object"));
    cut_object(&c, schema, out, 0);
    if (!get(out, "properties")) {
        json_object_object_add(out, "properties", json_object_new_object());
        json_object_object_add(out, "required", json_object_new_array());
    }
    json_object_to_json_string_length(out, JSON_C_TO_STRING_PLAIN, &length);
    if (length > SCHEMA_BYTES_MAX) {
        error_set(err, ERROR_INVALID_ARGUMENT, "The parameters take %zu bytes; at most %d may be.",
                  length, SCHEMA_BYTES_MAX);
        json_object_put(out);
        return NULL;
    }
    return out;
}

/* --- checking -------------------------------------------------------------------------------- */

static bool has_type(struct json_object *value, const char *type)
{
    switch (json_object_get_type(value)) {
    case json_type_null:
        return strcmp(type, "null") == 0;
    case json_type_boolean:
        return strcmp(type, "boolean") == 0;
    case json_type_int:
        return strcmp(type, "integer") == 0 || strcmp(type, "number") == 0;
    case json_type_double:
        return strcmp(type, "number") == 0;
    case json_type_string:
        return strcmp(type, "string") == 0;
    case json_type_array:
        return strcmp(type, "array") == 0;
    case json_type_object:
        return strcmp(type, "object") == 0;
    }
    return false;
}

static bool type_fits(struct json_object *type, struct json_object *value)
{
    if (json_object_is_type(type, json_type_string))
        return has_type(value, json_object_get_string(type));
    for (size_t i = 0; i < json_object_array_length(type); i++) {
        if (has_type(value, json_object_get_string(json_object_array_get_idx(type, i))))
            return true;
    }
    return false;
}

static size_t characters(struct json_object *text)
{
    const char *bytes = json_object_get_string(text);
    size_t n = 0;

    for (int i = 0; i < json_object_get_string_len(text); i++)
        n += ((unsigned char)bytes[i] & 0xc0) != 0x80;
    return n;
}

static int check(struct json_object *schema, struct json_object *value, const char *place,
                 unsigned depth, struct error *err);

static int wrong(struct error *err, const char *place, const char *what)
{
    return error_set(err, ERROR_INVALID_ARGUMENT, "%.120s %s", place, what);
}

static int check_bound(struct json_object *schema, const char *key, double have, bool upper,
                       const char *place, const char *of, struct error *err)
{
    struct json_object *bound = get(schema, key);
    char what[96];

    if (!bound || (upper ? have <= json_object_get_double(bound)
                         : have >= json_object_get_double(bound)))
        return 0;
    snprintf(what, sizeof(what), "%s at %s %s", of, upper ? "most" : "least",
             json_object_get_string(bound));
    return wrong(err, place, what);
}

static int check_object(struct json_object *schema, struct json_object *value, const char *place,
                        unsigned depth, struct error *err)
{
    struct json_object *properties = get(schema, "properties"), *required = get(schema, "required");
    char below[160];
    int r = 0;

    if (!properties)
        return 0;
    for (size_t i = 0; required && i < json_object_array_length(required); i++) {
        const char *name = json_object_get_string(json_object_array_get_idx(required, i));

        if (!json_object_object_get_ex(value, name, NULL))
            return error_set(err, ERROR_INVALID_ARGUMENT, "%.100s is missing", name);
    }
    json_object_object_foreach(value, key, member)
    {
        struct json_object *inner;

        if (!json_object_object_get_ex(properties, key, &inner))
            return error_set(err, ERROR_INVALID_ARGUMENT, "there is no parameter %.100s", key);
        if (depth == 0)
            snprintf(below, sizeof(below), "%.150s", key);
        else
            snprintf(below, sizeof(below), "%.75s.%.75s", place, key);
        r = check(inner, member, below, depth + 1, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int check_array(struct json_object *schema, struct json_object *value, const char *place,
                       unsigned depth, struct error *err)
{
    const size_t n = json_object_array_length(value);
    struct json_object *items = get(schema, "items");
    int r = check_bound(schema, "minItems", (double)n, false, place, "needs items:", err);

    if (r == 0)
        r = check_bound(schema, "maxItems", (double)n, true, place, "may have items:", err);
    for (size_t i = 0; items && i < n && r == 0; i++)
        r = check(items, json_object_array_get_idx(value, i), place, depth + 1, err);
    return r;
}

static int check_values(struct json_object *schema, struct json_object *value, const char *place,
                        struct error *err)
{
    struct json_object *values = get(schema, "enum"), *fixed = get(schema, "const");
    char what[200];

    if (fixed && !json_object_equal(fixed, value))
        return wrong(err, place, "has another value than the only one that may be");
    if (!values)
        return 0;
    for (size_t i = 0; i < json_object_array_length(values); i++) {
        if (json_object_equal(json_object_array_get_idx(values, i), value))
            return 0;
    }
    snprintf(what, sizeof(what), "must be one of %.150s",
             json_object_to_json_string_ext(values, JSON_C_TO_STRING_NOSLASHESCAPE));
    return wrong(err, place, what);
}

static int check(struct json_object *schema, struct json_object *value, const char *place,
                 unsigned depth, struct error *err)
{
    struct json_object *any = get(schema, "anyOf"), *type = get(schema, "type");
    int r;

    if (depth > 2 * SCHEMA_DEPTH)
        return wrong(err, place, "is nested too deep");
    r = check_values(schema, value, place, err);
    for (size_t i = 0; any && r == 0 && i < json_object_array_length(any); i++) {
        if (check(json_object_array_get_idx(any, i), value, place, depth + 1, NULL) == 0)
            return 0;
    }
    if (any && r == 0)
        return wrong(err, place, "has no value that may be");
    if (type && r == 0 && !type_fits(type, value)) {
        char what[120];

        snprintf(what, sizeof(what), "must be of type %.100s",
                 json_object_is_type(type, json_type_string)
                     ? json_object_get_string(type)
                     : json_object_to_json_string_ext(type, JSON_C_TO_STRING_PLAIN));
        return wrong(err, place, what);
    }
    if (r < 0)
        return r;
    if (json_object_is_type(value, json_type_object))
        return check_object(schema, value, place, depth, err);
    if (json_object_is_type(value, json_type_array))
        return check_array(schema, value, place, depth, err);
    if (json_object_is_type(value, json_type_string)) {
        r = check_bound(schema, "minLength", (double)characters(value), false, place,
                        "needs characters:", err);
        return r < 0 ? r
                     : check_bound(schema, "maxLength", (double)characters(value), true, place,
                                   "may have characters:", err);
    }
    if (json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double)) {
        r = check_bound(schema, "minimum", json_object_get_double(value), false, place, "must be",
                        err);
        return r < 0 ? r
                     : check_bound(schema, "maximum", json_object_get_double(value), true, place,
                                   "must be", err);
    }
    return 0;
}

int schema_check(struct json_object *schema, struct json_object *value, struct error *err)
{
    if (!json_object_is_type(value, json_type_object))
        return error_set(err, ERROR_INVALID_ARGUMENT, "the arguments are no object");
    return check(schema, value, "", 0, err);
}
