/* SPDX-License-Identifier: MIT */
#include "session/json.h"

#include <limits.h>
#include <string.h>

#include "base/utf8.h"

struct json_object *json_read(const char *text, enum json_type type, const char *what,
                              struct error *err)
{
    const size_t length = strlen(text);
    struct json_tokener *tokener;
    struct json_object *value;
    enum json_tokener_error result;
    size_t end;

    if (length >= INT_MAX || !utf8_valid(text, length)) {
        error_set(err, ERROR_INVALID_ARGUMENT, "%s is not UTF-8 text of a sensible length.", what);
        return NULL;
    }
    tokener = json_tokener_new_ex(JSON_DEPTH_MAX);
    if (!tokener) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory to read JSON.");
        return NULL;
    }
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS);
    /* The terminator belongs to it: only so does a bare number have an end. */
    value = json_tokener_parse_ex(tokener, text, (int)length + 1);
    result = json_tokener_get_error(tokener);
    end = json_tokener_get_parse_end(tokener);
    json_tokener_free(tokener);

    if (result != json_tokener_success) {
        error_set(err, ERROR_INVALID_ARGUMENT, "%s is not JSON: %s at byte %zu.", what,
                  result == json_tokener_continue ? "it ends too early"
                                                  : json_tokener_error_desc(result),
                  end);
        goto refuse;
    }
    if (end < length && end + strspn(text + end, " \t\r\n") < length) {
        error_set(err, ERROR_INVALID_ARGUMENT, "%s has more text after its JSON at byte %zu.", what,
                  end);
        goto refuse;
    }
    if (json_object_get_type(value) != type) {
        error_set(err, ERROR_INVALID_ARGUMENT, "%s is a JSON %s, expected %s.", what,
                  json_type_to_name(json_object_get_type(value)), json_type_to_name(type));
        goto refuse;
    }
    return value;

refuse:
    json_object_put(value);
    return NULL;
}

bool json_set(struct json_object *object, const char *key, struct json_object *value)
{
    if (object && value && json_object_object_add(object, key, value) == 0)
        return true;
    json_object_put(value);
    return false;
}

bool json_append(struct json_object *array, struct json_object *value)
{
    if (array && value && json_object_array_add(array, value) == 0)
        return true;
    json_object_put(value);
    return false;
}

char *json_write(struct json_object *value)
{
    const char *text = json_object_to_json_string_ext(value, JSON_FLAGS);

    return text ? strdup(text) : NULL;
}

const char *json_member_text(struct json_object *object, const char *key)
{
    struct json_object *member;

    if (!json_object_object_get_ex(object, key, &member) ||
        !json_object_is_type(member, json_type_string))
        return NULL;
    return json_object_get_string(member);
}

void json_putp(struct json_object **value)
{
    json_object_put(*value);
}
