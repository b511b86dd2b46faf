/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What is kept in $XDG_STATE_HOME/lfmd: the log of calls (tools.log, a JSON object on each line;
 * one older file beside it) and which tools are allowed for good (tools-allowed.json). Several
 * programs may write at once. Only the user can read them.
 *
 * Threads: any; no state.
 */

#include <json-c/json.h>

#include "base/error.h"

#define LOG_BYTES_MAX  ((size_t)1 << 20) /* then it becomes tools.log.1 */
#define LOG_RECORD_MAX ((size_t)64 << 10)

int log_append(struct json_object *record, struct error *err);

/* The records of both files, oldest first; damaged lines are left out. The caller's. */
struct json_object *log_read(struct error *err);

/* {tool: digest of its definition}, the caller's; an error when the file is damaged. */
int allowed_read(struct json_object **ret, struct error *err);

/* digest NULL: no longer allowed; tool NULL: none is. */
int allowed_write(const char *tool, const char *digest, struct error *err);
