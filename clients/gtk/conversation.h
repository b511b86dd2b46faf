/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A conversation with the daemon: a session that is opened with the first question, one turn at a
 * time, whose events come from a pipe of JSON lines.
 *
 * Flow:     window -> here -> Session.Ask -> pipe -> here -> struct conversation_events -> window
 * Threads:  main thread; events come from the main loop, none after conversation_close()
 */

#include <gio/gio.h>
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
};

/* model NULL: the daemon's choice. Nothing is sent yet. */
struct conversation *conversation_new(GDBusConnection *bus, const char *model,
                                      const struct conversation_events *events, void *userdata);

/* Ask about pictures (of struct picture, may be empty); conversation_busy() must be false. */
void conversation_ask(struct conversation *conversation, GPtrArray *pictures, const char *detail,
                      const char *question);
bool conversation_busy(const struct conversation *conversation);

/* Stop the answer. The daemon says how it ended; asked a second time, it is not waited for. */
void conversation_stop(struct conversation *conversation);

/* Give it up, with its turn. Accepts and returns NULL. */
struct conversation *conversation_close(struct conversation *conversation);
