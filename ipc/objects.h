/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The interfaces, one file each: manager.c, session_object.c, model_object.c, speech_provider.c;
 * and the calls of Manager that are about a picture (picture.c), or about speech (voice.c).
 *
 * Threads: bus thread.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "base/error.h"
#include "ipc/client.h"
#include "ipc/vardict.h"

struct bus;
struct session_object;
struct model;

/* manager.c */

int manager_attach(struct bus *bus);
/* Tell when the default model has become another one. */
void manager_default_changed(struct bus *bus);

/* session_object.c */

int session_object_attach(struct bus *bus);

struct session_options;
/* A new session of the client, or, with an id, a kept one that is opened again. */
int session_object_new(struct client *client, const struct session_options *options, const char *id,
                       struct session_object **ret, struct error *err);

/* Give it to another client. ERROR_BUSY while it works for its owner, who then is settled. */
int session_object_move(struct session_object *object, struct client *client, struct error *err);

struct session_object *session_object_next(struct bus *bus, struct session_object *object);
const char *session_object_path(const struct session_object *object);
struct session *session_object_session(const struct session_object *object);
struct client *session_object_owner(const struct session_object *object);

/*
 * Close all sessions and streams of a client. What its readers have not taken is lost, or waited
 * for until drain_until_usec of CLOCK_MONOTONIC.
 */
void session_object_drop(struct client *client, const char *reason, uint64_t drain_until_usec);

/* model_object.c */

int model_object_attach(struct bus *bus);
void model_object_detach(struct bus *bus);

/* Something about it changed: a new object, changed properties, answers to calls that wait. */
void model_object_changed(struct bus *bus, const char *id);
void model_object_removed(struct bus *bus, const char *id);

/* "/org/lfmd/Assistant1/models/ID"; malloc, "/" for NULL. */
char *model_object_path(const char *id);

/* Forget the calls of a client that wait for an answer. */
void model_object_drop(struct client *client);

/* picture.c */

/* The methods. Positive: the reply comes later, or has gone. */
int picture_plan(struct bus *bus, sd_bus_message *message, struct error *err);
int picture_describe(struct bus *bus, sd_bus_message *message, struct error *err);

/* voice.c */

/* The methods. Positive: the reply comes later, or has gone. */
int voice_transcribe(struct bus *bus, sd_bus_message *message, struct error *err);
int voice_speak(struct bus *bus, sd_bus_message *message, struct error *err);

struct task_options;
/* A text as packets of the media type audio/x-spiel into the client's pipe. Nothing is answered. */
int voice_synthesize(struct bus *bus, sd_bus_message *message, int fd, const char *text,
                     const struct task_options *options, struct error *err);

/* speech_provider.c */

int speech_provider_attach(struct bus *bus);
/* Tell when there are other voices. */
void speech_provider_changed(struct bus *bus);

/* The keys of the options "sampling" and "image"; the latter also stand in parts of a question. */
extern const struct vardict_key objects_sampling_keys[], objects_image_keys[];

/* properties of an object that only one client may see: the library's own signals are broadcast */

/* InterfacesAdded with every property of the vtable; InterfacesRemoved. */
int objects_tell_added(struct bus *bus, const char *destination, const char *path,
                       const char *interface, const sd_bus_vtable *vtable, void *userdata);
int objects_tell_removed(struct bus *bus, const char *destination, const char *path,
                         const char *interface);
/* PropertiesChanged with those of the vtable that change. */
int objects_tell_changed(struct bus *bus, const char *destination, const char *path,
                         const char *interface, const sd_bus_vtable *vtable, void *userdata);
