/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The kept conversations, in a list: the newest first; each can be opened and forgotten.
 *
 * Threads: main thread; nothing is told after kept_done()
 */

#include <gtk/gtk.h>
#include <stdbool.h>

struct kept_events {
    void (*open)(const char *id, const char *title, void *userdata);
    /* It is about to be forgotten: let go of it. */
    void (*leave)(const char *id, void *userdata);
    void (*trouble)(const char *sentence, void *userdata);
};

struct kept {
    GtkListBox *list;
    GDBusConnection *bus;
    GCancellable *life;
    const struct kept_events *events;
    void *userdata;
    char *open; /* id of the one in the window; NULL: none */
};

/* The list is the caller's, and outlives it. */
void kept_init(struct kept *kept, GtkListBox *list, GDBusConnection *bus,
               const struct kept_events *events, void *userdata);
void kept_done(struct kept *kept);

/* Ask the daemon for the list. */
void kept_refresh(struct kept *kept);
/* Which one is in the window. */
void kept_set_open(struct kept *kept, const char *id);
/* It was on the disk when the daemon was asked last. */
bool kept_has(struct kept *kept, const char *id);
