/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The helper process lfmd-fetch, the only program that may use the network: it takes one request,
 * and says how it goes in JSON lines (fetch/report.h).
 *
 * Threads: one owner.
 */

#include <json-c/json.h>
#include <stdbool.h>

#include "base/error.h"

struct fetcher;

/* Start `program` with a request (taken), which fits into an empty pipe. NULL on failure. */
struct fetcher *fetcher_new(const char *program, struct json_object *request, struct error *err);
struct fetcher *fetcher_free(struct fetcher *fetcher); /* ends the process; accepts NULL */

int fetcher_fd(const struct fetcher *fetcher); /* readable when there is something to read */

/* Read what is there. False when nothing more will come: after the last events, fetcher_end(). */
bool fetcher_read(struct fetcher *fetcher);
/* The next event of what was read, "start", "progress" or "verifying", for the caller to put; NULL:
 * that was all. */
struct json_object *fetcher_next(struct fetcher *fetcher);

/* It says "Cancelled" and ends. */
void fetcher_cancel(struct fetcher *fetcher);

/* Wait for its end. Its event "done", for the caller to put; NULL with what went wrong. */
struct json_object *fetcher_end(struct fetcher *fetcher, struct error *err);
