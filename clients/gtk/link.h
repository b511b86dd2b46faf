/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The way of a window to the daemon: the session bus, the installed models, and the news that the
 * daemon has ended. The bus starts the daemon with the first call.
 *
 * Flow:     window -> here -> session bus, daemon -> struct link_events -> window
 * Threads:  main thread; events come from the main loop, none after link_free()
 */

#include <gio/gio.h>
#include <stdbool.h>

struct link;

struct installed_model {
    char *id, *title, *path;
    gboolean sees, hears, speaks;
};

struct link_events {
    /* The bus is there: once. */
    void (*reached)(GDBusConnection *bus, void *userdata);
    /* Of struct installed_model, the one that is used when none is named first; the window's to
     * unref. NULL: nobody asks for them. */
    void (*models)(GPtrArray *models, void *userdata);
    /* What was asked for does not come, and why. */
    void (*failed)(const char *sentence, void *userdata);
    /* The daemon is not there (any more); what it knew is gone. NULL: that does not matter. */
    void (*vanished)(void *userdata);
};

/* Nothing is asked for yet. */
struct link *link_new(const struct link_events *events, void *userdata);

/* Reach the bus, unless that is done or under way. */
void link_reach(struct link *link);

/* The models as they are now; reaches the bus first. */
void link_ask_models(struct link *link);

/* Have the daemon look for models that were put there by hand; what is asked next knows them. */
void link_rescan(struct link *link);

/* Accepts and returns NULL. */
struct link *link_free(struct link *link);
