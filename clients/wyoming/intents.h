/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What may be recognised: tools that the model is offered, and what Home Assistant calls them.
 *
 * A file is a JSON array of tools as CreateSession takes them. Beside "name" and "parameters" a
 * tool may have "intent", the name of the intent that a call of it becomes, and "slots", an object
 * that renames arguments; models do better with names that they know.
 *
 * Threads: main thread.
 */

#include <json-c/json.h>

#include "base/error.h"

struct intents;

/* NULL with a sentence. */
struct intents *intents_read(const char *path, struct error *err);
struct intents *intents_free(struct intents *intents); /* accepts and returns NULL */

/* The tools for the daemon, as JSON. */
const char *intents_tools(const struct intents *intents);

/*
 * A call of the model as an intent: {"name", "entities": [{"name", "value"}]}. NULL for a tool that
 * was not offered; small models call such ones too. intents NULL: none were.
 */
struct json_object *intents_translate(const struct intents *intents, const char *name,
                                      struct json_object *arguments);
