/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The JSON lines of a stream of the daemon, as the main loop brings them.
 *
 * Threads: main thread; nothing is told after events_close().
 */

#include <glib.h>
#include <json-c/json.h>

struct events;

/* One line. type: its "event", "" when it has none. May close the stream. */
typedef void events_event(const char *type, struct json_object *event, void *userdata);
/* Nothing follows: it is over (sentence NULL), or cannot be read and why. It is to be closed. */
typedef void events_lost(const char *sentence, void *userdata);

/* fd is taken. */
struct events *events_new(int fd, events_event *event, events_lost *lost, void *userdata);
/* Closes the descriptor, by which the daemon cancels. Accepts and returns NULL. */
struct events *events_close(struct events *events);

/* A member of an event; "", 0 or FALSE when it is not there. */
const char *event_text(struct json_object *event, const char *key);
gint64 event_number(struct json_object *event, const char *key);
gboolean event_flag(struct json_object *event, const char *key);
