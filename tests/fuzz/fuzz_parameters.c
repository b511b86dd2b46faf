/* SPDX-License-Identifier: MIT */
/*
 * The parameters of tools from files and MCP servers: cut down to what is kept, they must be a
 * schema that the daemon can hold a model to, and the same when they are cut again. Input: a
 * schema, and after it arguments that are held to it.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "clients/desktop/schema.h"
#include "text/schema.h"

#define INPUT_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The next value of the input; NULL: none. */
static struct json_object *next(const uint8_t **data, size_t *size)
{
    struct json_tokener *tokener = json_tokener_new();
    struct json_object *value;

    json_tokener_set_flags(tokener, JSON_TOKENER_VALIDATE_UTF8);
    value = json_tokener_parse_ex(tokener, (const char *)*data, (int)*size);
    *data += json_tokener_get_parse_end(tokener);
    *size -= json_tokener_get_parse_end(tokener);
    json_tokener_free(tokener);
    return value;
}

static struct json_object *as_tools(struct json_object *parameters)
{
    struct json_object *tools = json_object_new_array(), *tool = json_object_new_object();

    json_object_object_add(tool, "name", json_object_new_string("tool"));
    json_object_object_add(tool, "parameters", json_object_get(parameters));
    json_object_array_add(tools, tool);
    return tools;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_object *schema, *arguments, *plain, *again, *tools;
    struct error err = ERROR_INIT;
    struct grammar *grammar;

    if (size > INPUT_MAX)
        return 0;
    schema = next(&data, &size);
    arguments = next(&data, &size);
    plain = schema_plain(schema, NULL);
    if (plain) {
        again = schema_plain(plain, NULL);
        assert(again && json_object_equal(plain, again));
        tools = as_tools(plain);
        grammar = schema_calls(tools, &err);
        /* The daemon may have no room for all of it, but it understands it. */
        assert(grammar || err.code != ERROR_INVALID_ARGUMENT || strstr(err.text, "too large"));
        grammar_free(grammar);
        json_object_put(tools);
        json_object_put(again);
        schema_check(plain, arguments, NULL);
    }
    json_object_put(plain);
    json_object_put(arguments);
    json_object_put(schema);
    return 0;
}
