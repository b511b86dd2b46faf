/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the programs with windows have in common: how they begin, what each of them answers to.
 *
 * Threads: main thread
 */

#include <adwaita.h>
#include <stdbool.h>

struct program_key {
    const char *action, *keys[4];
};

struct program {
    const char *id;                 /* org.lfmd.Ask; the icon has that name too */
    const char *title, *comments;   /* N_(), of the action "about"; NULL: there is none */
    const struct program_key *keys; /* action NULL at the end */
};

/*
 * Before anything else of GTK. The application knows --version, the keys and "about"; program and
 * options stay valid. options: more than --version, or NULL.
 */
AdwApplication *program_new(const struct program *program, GApplicationFlags flags,
                            const GOptionEntry *options);

/* Show a window, as gtk_window_present() does. */
void program_present(GtkWindow *window);

/* Whether an action can be asked for now. */
void program_enable(GActionMap *actions, const char *name, bool enabled);
