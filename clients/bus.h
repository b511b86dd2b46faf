/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The daemon as seen from here: calls on org.lfmd.Assistant1, and what comes back as JSON objects.
 *
 * A failed call is told to the user here, once, with the daemon's own sentence; functions return an
 * enum status (0 = done), which is what lfmctl then ends with.
 *
 * Threads: main thread.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "clients/status.h"

#define BUS_NAME    "org.lfmd.Assistant1"
#define BUS_ROOT    "/org/lfmd/Assistant1"
#define BUS_MANAGER "org.lfmd.Assistant1.Manager"
#define BUS_SESSION "org.lfmd.Assistant1.Session"
#define BUS_MODEL   "org.lfmd.Assistant1.Model"

#define BUS_CALL_USEC (600ull * 1000000) /* loading or hashing a large model takes its time */

/* Connect to the session bus. */
int bus_open(sd_bus **ret);

/* Tell what went wrong with a call, if it was not ended by Ctrl-C; with json as an event on
 * stdout. */
int bus_failure(const sd_bus_error *error, int r);
/* The status that belongs to an error name. */
int bus_status_of(const sd_bus_error *error);
void bus_report_json(bool json);
/* What the failures of calls are about from now on: `file` in their events. NULL: nothing. */
void bus_report_file(const char *path);

/*
 * Call a method. types and the arguments after it are those of sd_bus_message_append(); ret_reply
 * may be NULL.
 */
int bus_call(sd_bus *bus, const char *path, const char *interface, const char *method,
             sd_bus_message **ret_reply, const char *types, ...);

/* As sd_bus_call(), but Ctrl-C ends it: -EINTR, of which bus_failure() makes STATUS_INTERRUPTED. */
int bus_send(sd_bus *bus, sd_bus_message *call, sd_bus_error *error, sd_bus_message **ret_reply);

/* The next value of a message as JSON; containers become arrays and objects. NULL at the end. */
struct json_object *bus_value(sd_bus_message *message);

/* A session of the caller's; model NULL: the daemon's choice. *ret_path is the reply's. */
int bus_create_session(sd_bus *bus, const char *model, sd_bus_message **ret_reply,
                       const char **ret_path);

/* All properties of an interface of an object. */
int bus_properties(sd_bus *bus, const char *path, const char *interface,
                   struct json_object **ret);

/* All objects: {path: {interface: {property: value}}}. */
int bus_objects(sd_bus *bus, struct json_object **ret);

/* A member of an object; "", 0 or false when it is not there. */
const char *bus_text(struct json_object *object, const char *key);
uint64_t bus_number(struct json_object *object, const char *key);
bool bus_flag(struct json_object *object, const char *key);

/* Append one entry of a{sv}. */
int bus_option(sd_bus_message *message, const char *key, const char *type, const void *value);

/* _cleanup_ */
void bus_messagep(sd_bus_message **message);
void bus_jsonp(struct json_object **object);
void bus_closep(sd_bus **bus);
