/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Output that cannot be wrong: JSON Schema -> automaton over bytes -> mask over tokens.
 *
 *   answer     the whole reply is a JSON value of the schema
 *   tools      inside <|tool_call_start|> ... <|tool_call_end|> only Pythonic calls of the given
 *              tools with arguments of their schemas; free text outside unless `required`
 *
 * Supported of JSON Schema: type (also a list), properties, required, additionalProperties, enum,
 * const, items, prefixItems, minItems/maxItems, minLength/maxLength, minimum/maximum of integers,
 * anyOf/oneOf, $ref into $defs/definitions, nullable by type list. An unsupported key that narrows
 * the language is an error that names it; annotations are ignored.
 *
 * Memory: bounded by CONSTRAINT_STATES_MAX; recursion by CONSTRAINT_DEPTH_MAX.
 * Threads: one owner.
 */

#include <json-c/json.h>

#include "text/tokenizer.h"

#define CONSTRAINT_STATES_MAX 200000
#define CONSTRAINT_DEPTH_MAX  64

struct constraint;

/* schema: an object, or NULL for "any JSON value". */
struct constraint *constraint_answer(const struct tokenizer *tokenizer, struct json_object *schema,
                                     struct error *err);

/* tools: array of {name, description, parameters} or of {"type": "function", "function": {...}}.
 * required: the reply must begin with a call. */
struct constraint *constraint_tools(const struct tokenizer *tokenizer, struct json_object *tools,
                                    bool required, struct error *err);
struct constraint *constraint_free(struct constraint *constraint);

/*
 * Bits of the ids that may come next ([n_vocab / 8 rounded up] bytes); NULL when every id may.
 * Valid until the next accept. End tokens are allowed exactly where the reply is complete.
 */
const uint8_t *constraint_allowed(struct constraint *constraint);

/* Take a token; -EINVAL when it was not allowed (our own mistake, or a forced token). */
int constraint_accept(struct constraint *constraint, uint32_t id);

/* Undo the last n accepted tokens (speculation), n <= 16. */
void constraint_undo(struct constraint *constraint, size_t n);
