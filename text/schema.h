/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * JSON Schema -> grammar of the texts that are valid by it.
 *
 * A text of the grammar is always valid; not every valid text is in the grammar:
 *   - compact, with at most one space after ':' and ','
 *   - properties in the declared order, those that are not required may be left out; an object with
 *     declared properties has no others, an object without may have any (additionalProperties)
 *   - without a type, keywords tell it: {"minLength": 1} is a string
 *   - integers fit in 64 bits; numbers have at most 19 + 17 digits and a two-digit exponent
 *   - strings are UTF-8 without raw control characters and without \u0000
 *   - values are nested at most GRAMMAR_NESTING_MAX deep
 *
 * Supported: type (also a list), properties, required, additionalProperties, items, prefixItems,
 * minItems, maxItems, minLength, maxLength, minimum, maximum and their exclusive forms, enum,
 * const, anyOf, oneOf whose alternatives cannot overlap, allOf of one, $ref within the document,
 * true and false. Any other keyword that narrows the language is refused by name and place (JSON
 * pointer); annotations and unknown keywords are ignored.
 *
 * Needs no model: a client's schema can be checked before one is loaded.
 *
 * Threads: any; no state.
 * Source: JSON Schema 2020-12 (and array-form items, definitions of draft 7); text.md 10.1.
 */

#include <json-c/json.h>

#include "text/grammar.h"

#define SCHEMA_CALLS_MAX 64  /* calls in one list, REPLY_CALLS_MAX */
#define SCHEMA_DEPTH_MAX 128 /* schemas within schemas */

/* A JSON value of the schema; NULL: any JSON value. Returns a sealed grammar, or NULL. */
struct grammar *schema_answer(struct json_object *schema, struct error *err);

/*
 * Pythonic calls, "[name(key=value, ...), name2()]": keyword arguments in the declared order, True,
 * False, None, strings in single or double quotes.
 *
 * tools: array of {name, description, parameters} or of {"type": "function", "function": {...}}.
 */
struct grammar *schema_calls(struct json_object *tools, struct error *err);
