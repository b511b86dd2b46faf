/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How the captions look, and what is listened to: kept from one start to the next in
 * $XDG_CONFIG_HOME/lfmd/captions.ini.
 *
 * Threads: main thread
 */

#include <gtk/gtk.h>

#define LOOK_SIZE_MIN   10 /* points */
#define LOOK_SIZE_MAX   120
#define LOOK_SIZE_USUAL 24

struct look {
    int size;
    const char *contrast; /* name of one of look_contrasts */
    char *source;         /* g_free */
};

/* "desktop" (as its theme is) and pairs of colours; NULL at the end. */
extern const char *const look_contrasts[];

void look_load(struct look *look);
void look_save(const struct look *look);

/* One of look_contrasts by its name; the first where there is none. */
const char *look_contrast(const char *name);

/* For the widget with the class "captions" and what is in it. */
void look_apply(const struct look *look, GtkCssProvider *provider);
