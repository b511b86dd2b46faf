/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Answers to a model's tool calls: by the tools of the desktop (clients/desktop), about which the
 * user is asked at the terminal; by a program of the user's (--tool-command); or, with
 * --dry-run-tools, as if it had been done.
 *
 * The desktop's timers go on while terminal_wait() and terminal_poll() wait.
 *
 * Threads: main thread.
 */

#include <json-c/json.h>
#include <stdbool.h>

#include "clients/desktop/desktop.h"
#include "clients/options.h"

/* set_timer(minutes=10), as one line of text, malloc */
char *tools_call_text(const char *name, struct json_object *arguments);

/* The result of a call as text, malloc; NULL when nothing here can answer it. */
char *tools_answer(const struct options *options, const char *name, struct json_object *arguments);

/* The tools of the desktop for a model, as JSON, malloc. Problems with them are told. */
char *tools_list(const char *model);

/* As long as timers run, unless the user ends that. */
int tools_wait_for_timers(void);

/* --- the desktop, made when it is needed --- */

struct tools_result {
    bool ok;
    char *text, *sentence, *undo; /* as in struct desktop_result; malloc */
};

struct desktop *tools_desktop(void);
void tools_call(const char *name, struct json_object *arguments, struct tools_result *ret);
void tools_undo(const char *id, struct tools_result *ret); /* id NULL: the last */
void tools_result_done(struct tools_result *result);
void tools_close(void);
