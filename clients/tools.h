/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Answers to a model's tool calls. lfmctl itself can only calculate; a program of the user
 * (--tool-command) or the user can do the rest, and --dry-run-tools pretends.
 *
 * Threads: main thread.
 */

#include <json-c/json.h>
#include <stdbool.h>

#include "clients/options.h"

/* set_timer(minutes=10), as one line of text, malloc */
char *tools_call_text(const char *name, struct json_object *arguments);

/* The result of a call as text, malloc; NULL when nothing here can answer it. */
char *tools_answer(const struct options *options, const char *name, struct json_object *arguments);
