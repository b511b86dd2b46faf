/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * JSON text in and out, for options, messages and events.
 *
 * Threads: any; the objects belong to one thread at a time.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define JSON_DEPTH_MAX 96 /* deeper than what a reply may hold (text/reply.h) inside a message */

/*
 * One strict JSON value of the wanted type, and nothing after it but white space.
 *
 * `what` begins the sentence of the error: "The tool list". NULL on failure.
 */
struct json_object *json_read(const char *text, enum json_type type, const char *what,
                              struct error *err);

#define JSON_FLAGS (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)

/* Put a member, or an element: takes `value`. False when memory was short, or anything is NULL. */
bool json_set(struct json_object *object, const char *key, struct json_object *value);
bool json_append(struct json_object *array, struct json_object *value);

/* One line, malloc; NULL when memory is short. */
char *json_write(struct json_object *value);

/* The text of a string member; NULL when there is no such member or it is no string. */
const char *json_member_text(struct json_object *object, const char *key);

/* _cleanup_(json_putp) */
void json_putp(struct json_object **value);
