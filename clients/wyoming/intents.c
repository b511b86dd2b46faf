/* SPDX-License-Identifier: MIT */
#include "clients/wyoming/intents.h"

#include <stdlib.h>
#include <string.h>

struct intents {
    struct json_object *tools; /* array, without what is ours */
    struct json_object *known; /* {tool: {"intent": name, "slots": {argument: slot}}} */
};

static const char *text_of(struct json_object *object, const char *key)
{
    struct json_object *value = json_object_object_get(object, key);

    return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
}

/* Keep what is ours of a tool, and take it out of what the daemon gets. */
static int take_tool(struct intents *intents, struct json_object *tool, struct error *err)
{
    struct json_object *function = json_object_object_get(tool, "function"), *slots, *entry;
    const char *name = text_of(function ? function : tool, "name"), *intent;

    if (!name)
        return error_set(err, ERROR_INVALID_ARGUMENT, "A tool in it has no name.");
    intent = text_of(tool, "intent");
    slots = json_object_object_get(tool, "slots");
    entry = json_object_new_object();
    json_object_object_add(entry, "intent", json_object_new_string(intent ? intent : name));
    json_object_object_add(entry, "slots",
                           json_object_is_type(slots, json_type_object) ? json_object_get(slots)
                                                                        : json_object_new_object());
    json_object_object_add(intents->known, name, entry);
    json_object_object_del(tool, "intent");
    json_object_object_del(tool, "slots");
    return 0;
}

struct intents *intents_read(const char *path, struct error *err)
{
    struct intents *intents = calloc(1, sizeof(*intents));
    int r = 0;

    if (!intents) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory.");
        return NULL;
    }
    intents->tools = json_object_from_file(path);
    intents->known = json_object_new_object();
    if (!json_object_is_type(intents->tools, json_type_array)) {
        error_set(err, ERROR_INVALID_ARGUMENT, "'%s' is no file with a JSON array of tools.", path);
        return intents_free(intents);
    }
    for (size_t i = 0; r == 0 && i < json_object_array_length(intents->tools); i++)
        r = take_tool(intents, json_object_array_get_idx(intents->tools, i), err);
    return r == 0 ? intents : intents_free(intents);
}

struct intents *intents_free(struct intents *intents)
{
    if (!intents)
        return NULL;
    json_object_put(intents->tools);
    json_object_put(intents->known);
    free(intents);
    return NULL;
}

const char *intents_tools(const struct intents *intents)
{
    return json_object_to_json_string(intents->tools);
}

struct json_object *intents_translate(const struct intents *intents, const char *name,
                                      struct json_object *arguments)
{
    struct json_object *known, *intent, *entities;

    if (!intents || !json_object_object_get_ex(intents->known, name, &known))
        return NULL;
    intent = json_object_new_object();
    entities = json_object_new_array();
    json_object_object_add(intent, "name",
                           json_object_get(json_object_object_get(known, "intent")));
    json_object_object_add(intent, "entities", entities);
    if (!json_object_is_type(arguments, json_type_object))
        return intent;
    json_object_object_foreach(arguments, key, value)
    {
        const char *slot = text_of(json_object_object_get(known, "slots"), key);
        struct json_object *entity = json_object_new_object();

        json_object_object_add(entity, "name", json_object_new_string(slot ? slot : key));
        json_object_object_add(entity, "value", json_object_get(value));
        json_object_array_add(entities, entity);
    }
    return intent;
}
