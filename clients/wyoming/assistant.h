/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The daemon as it is seen from here: calls that are answered later, and the pipes that it answers
 * with.
 *
 * Flow:     service -> call -> Manager or Session -> pipe -> call_sink -> service
 * Threads:  main thread; sinks are called from the event loop
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "base/error.h"

/* A call that returns a pipe, with what comes from it. */
struct call;

struct call_sink {
    /* The pipe brings lines of JSON, or, where this is NULL, bytes. */
    void (*line)(void *userdata, struct json_object *event);
    void (*bytes)(void *userdata, const uint8_t *bytes, size_t n);
    /* The last: the pipe is at its end, or error says why there is none. */
    void (*ended)(void *userdata, const struct error *error);
};

/*
 * Send a message whose reply begins with a descriptor; NULL with a sentence. What is called by a
 * sink may free the call.
 */
struct call *call_new(sd_bus *bus, sd_bus_message *message, const struct call_sink *sink,
                      void *userdata, struct error *err);
void call_hold(struct call *call, bool hold); /* read no more for now */
struct call *call_free(struct call *call);    /* cancels it; accepts and returns NULL */

/* A call of a method of the manager; its arguments are to be appended. */
int assistant_method(sd_bus *bus, const char *method, sd_bus_message **ret, struct error *err);

/* The sentence of a failed call; error NULL: only the errno is known. */
void assistant_error(const sd_bus_error *error, int r, struct error *err);

/*
 * What the last line of a pipe says: nothing where it is "done", else the sentence of its "error";
 * of NULL, a daemon that ended before, `lost` is the second sentence.
 */
void assistant_last(struct json_object *line, const char *lost, struct error *err);
