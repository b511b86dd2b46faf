/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the daemon hears, as words: a session that only writes down (StartListening, "transcribe").
 *
 * Flow:     window -> Session.StartListening -> pipe -> here -> struct hearing_events -> window
 * Threads:  main thread; events come from the main loop, none after hearing_close()
 */

#include <gio/gio.h>
#include <stdbool.h>

#define HEARING_MICROPHONE "microphone"
#define HEARING_COMPUTER   "monitor" /* what it plays */

struct hearing;

struct hearing_events {
    /* Sound comes, or does not (any more) and why. */
    void (*listening)(bool on, const char *why, void *userdata);
    /* The present sentence so far; the tail may still change. */
    void (*partial)(const char *text, const char *tail, void *userdata);
    /* It stands. "": no word was understood. */
    void (*transcript)(const char *text, void *userdata);
    /* The last event. sentence: why; NULL: it was stopped. It is to be closed. */
    void (*ended)(const char *sentence, void *userdata);
};

/* Begins at once; the daemon may ask the user whether this program may listen. */
struct hearing *hearing_new(GDBusConnection *bus, const char *source,
                            const struct hearing_events *events, void *userdata);

/* No more sound; the present sentence is written down, then it ends. */
void hearing_stop(struct hearing *hearing);

/* At once. Accepts and returns NULL. */
struct hearing *hearing_close(struct hearing *hearing);
