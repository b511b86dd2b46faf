/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Which model runs and what it costs, in one line: its name, its memory, how fast it was last, how
 * much of the context is used. All of it is what the daemon says.
 *
 * Threads: main thread; nothing follows after cost_done()
 */

#include <gtk/gtk.h>
#include <json-c/json.h>

struct cost {
    GtkLabel *line;
    GtkWidget *button; /* that the line is on, and that has its name */
    GDBusProxy *model; /* NULL: none is known */
    char *path;        /* of the model */
    GCancellable *asking;
    double tokens_per_sec;   /* 0: not known */
    unsigned first_sound_ms; /* 0: nothing was said */
    guint32 used, limit;     /* of the context, in tokens; 0: no session */
};

/* The widgets are the caller's, and outlive it. */
void cost_init(struct cost *cost, GtkLabel *line, GtkWidget *button);
void cost_done(struct cost *cost);

/* Another model works: the path of its object; NULL: none. */
void cost_watch(struct cost *cost, GDBusConnection *bus, const char *path);
void cost_context(struct cost *cost, guint32 used, guint32 limit);
void cost_usage(struct cost *cost, struct json_object *usage);
void cost_first_sound(struct cost *cost, unsigned after_ms);
