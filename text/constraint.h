/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Output that cannot be wrong: JSON Schema -> automaton over bytes -> mask over tokens.
 *
 *   answer     the whole reply is a JSON value of the schema
 *   tools      inside <|tool_call_start|> ... <|tool_call_end|> only Pythonic calls of the given
 *              tools with arguments of their schemas; free text outside unless `required`
 *
 * Whatever the model, a reply that ends by itself parses and is valid by the schema; one that is
 * cut off by a token limit is the beginning of such a reply. What of JSON Schema is supported, and
 * which of the valid texts are written: text/schema.h.
 *
 * A mask is found by one pass over the vocabulary (below 1 ms for 65536 tokens) and kept for the
 * state it belongs to, CONSTRAINT_MASKS of them, the least used ones going first. Masks and
 * automaton survive constraint_reset(), so a constraint is worth keeping for the next reply.
 *
 * Memory: bounded, taken when made (the limits of text/grammar.h, and one bit for each token and
 * mask); pages become real as they are used.
 * Threads: one owner.
 */

#include <json-c/json.h>

#include "text/tokenizer.h"

#define CONSTRAINT_MASKS 64

struct constraint;

/* schema: an object (or true), or NULL for "any JSON value". */
struct constraint *constraint_answer(const struct tokenizer *tokenizer, struct json_object *schema,
                                     struct error *err);

/* tools: array of {name, description, parameters} or of {"type": "function", "function": {...}}.
 * required: the reply must begin with a call. */
struct constraint *constraint_tools(const struct tokenizer *tokenizer, struct json_object *tools,
                                    bool required, struct error *err);
struct constraint *constraint_free(struct constraint *constraint);

/* Back to the beginning of a reply. */
void constraint_reset(struct constraint *constraint);

/*
 * Bits of the ids that may come next ([n_vocab / 8 rounded up] bytes), at least one of them set.
 * Valid until the next call. End tokens are allowed exactly where the reply is complete.
 */
const uint8_t *constraint_allowed(struct constraint *constraint);

/* Take a token; -EINVAL when it was not allowed (our own mistake, or a forced token). */
int constraint_accept(struct constraint *constraint, uint32_t id);

/* How many of the first ids may come next, one after the other. Nothing is accepted. */
size_t constraint_check(struct constraint *constraint, const uint32_t *ids, size_t n);

/*
 * Tokens that spell what must come next, where there is no choice (names of properties, brackets):
 * a guess for speculation, since the model may cut the same text into other tokens. Returns their
 * number, at most n_max.
 */
size_t constraint_guess(struct constraint *constraint, uint32_t *ids, size_t n_max);
