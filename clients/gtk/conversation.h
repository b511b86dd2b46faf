/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A conversation with the daemon: a session that is opened when it is needed, one turn at a time,
 * whose events come from a pipe of JSON lines. A turn goes on, through calls of tools and their
 * results, until the model has said what it has to say.
 *
 * Flow:     window -> here -> Session.Ask -> events -> here -> struct conversation_events -> window
 * Threads:  main thread; events come from the main loop, none after conversation_close()
 */

#include <gio/gio.h>
#include <json-c/json.h>
#include <stdbool.h>

struct conversation;

enum ending {
    ENDING_DONE,
    ENDING_STOPPED,
    ENDING_FAILED, /* with a sentence; the daemon has forgotten this turn */
};

struct conversation_events {
    void (*text)(const char *text, void *userdata);
    /* fraction 0 to 1, negative when it is not known; label for people */
    void (*progress)(double fraction, const char *label, void *userdata);
    /* note: NULL, or what a person should know about this answer. The last event of a turn. */
    void (*ended)(enum ending ending, const char *note, void *userdata);

    /* The model calls a tool: conversation_result() is to follow, at once or later. NULL: calls are
     * shown as text. */
    void (*call)(const char *id, const char *name, struct json_object *arguments, void *userdata);
    /* The daemon's figures of the work so far; may be NULL. */
    void (*usage)(struct json_object *usage, void *userdata);
    /* What conversation_property() tells has changed; NULL: nobody asks. */
    void (*changed)(void *userdata);
};

struct conversation_options {
    const char *model; /* NULL: the daemon's choice */
    const char *tools; /* JSON array; NULL: none */
    const char *id;    /* of a kept conversation to go on with, as it was made; NULL: a new one */
    bool keep;         /* what is new survives the daemon */
};

/* Nothing is sent yet. */
struct conversation *conversation_new(GDBusConnection *bus,
                                      const struct conversation_options *options,
                                      const struct conversation_events *events, void *userdata);

/* Ask about pictures (of struct picture, may be empty); conversation_busy() must be false. */
void conversation_ask(struct conversation *conversation, GPtrArray *pictures, const char *detail,
                      const char *question);
bool conversation_busy(const struct conversation *conversation);

/* What came of a call, as text for the model. Late ones are left out. */
void conversation_result(struct conversation *conversation, const char *id, const char *text);

/* Stop the answer. The daemon says how it ended; asked a second time, it is not waited for. */
void conversation_stop(struct conversation *conversation);

/* The session's object, once it is there: error NULL. One at a time may wait for it. */
typedef void conversation_opened(const char *path, const GError *error, void *userdata);
void conversation_open(struct conversation *conversation, conversation_opened *opened,
                       void *userdata);

/* A property of the session; NULL: it is not open, or nobody asked for changes. */
GVariant *conversation_property(const struct conversation *conversation, const char *name);

/* Give it up, with its turn. Accepts and returns NULL. */
struct conversation *conversation_close(struct conversation *conversation);
