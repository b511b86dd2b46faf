/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The parameters of tools: JSON Schema as strangers write it, cut down to what the daemon can hold
 * a model to, and the check of a call's arguments against that.
 *
 * Kept: type, properties, required, items, enum, const, anyOf (oneOf becomes anyOf), minimum,
 * maximum, minLength, maxLength, minItems, maxItems, description; $ref into the document is put in
 * its place. All else is left out: what is allowed becomes wider, and the tool itself has to say
 * no.
 *
 * Threads: any; no state.
 */

#include <json-c/json.h>
#include <stdbool.h>

#include "base/error.h"

#define SCHEMA_DEPTH      8     /* schemas within schemas, and values within values */
#define SCHEMA_BYTES_MAX  8192  /* of a schema as text, after cutting */
#define SCHEMA_PROPERTIES 64    /* of one object */
#define SCHEMA_ENUM       128
#define SCHEMA_NAME       64

/* Can it be the name of a tool or of a parameter in a call: at most 64 letters, digits and _? */
bool schema_name_ok(const char *name);

/*
 * The caller's. schema NULL: no parameters. A parameter with a name that cannot be written is left
 * out. NULL with an error when that one is required, and when it is no object schema or too large.
 */
struct json_object *schema_plain(struct json_object *schema, struct error *err);

/* value is as a schema of schema_plain() says. The error names the place. */
int schema_check(struct json_object *schema, struct json_object *value, struct error *err);
