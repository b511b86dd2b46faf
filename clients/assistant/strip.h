/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The pictures that go along with the next question: a row of small ones; each can be taken out.
 *
 * Threads: main thread
 */

#include <gtk/gtk.h>
#include <stdbool.h>

#include "clients/gtk/picture.h"

#define STRIP_MAX 16 /* descriptors of a message */

struct strip {
    GtkWidget *place; /* shown when there are pictures */
    GtkBox *box;
    GPtrArray *pictures; /* of picture */
    GCancellable *life;
    void (*changed)(void *userdata);
    void *userdata;
};

/* The widgets are the caller's, and outlive it. */
void strip_init(struct strip *strip, GtkWidget *place, GtkBox *box, void (*changed)(void *userdata),
                void *userdata);
void strip_done(struct strip *strip);

/* Takes the picture; false: there is no room. */
bool strip_add(struct strip *strip, struct picture *picture);
/* All of them leave it: a new array of picture, the caller's. */
GPtrArray *strip_take(struct strip *strip);
/* They come back, as when they could not be asked about. */
void strip_put(struct strip *strip, GPtrArray *pictures);
