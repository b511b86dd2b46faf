/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Pictures that a person brings to a window: dropped on it, pasted with Ctrl+V, or chosen in a
 * dialog; files, or pictures without one.
 *
 * Threads: main thread; nothing is told after intake_free()
 */

#include <gtk/gtk.h>

#include "clients/gtk/picture.h"

struct intake;

struct intake_events {
    void (*picture)(struct picture *picture, void *userdata); /* takes it */
    /* What could not be taken, and why. */
    void (*trouble)(GtkMessageType type, const char *sentence, void *userdata);
};

/* The window gets a drop target, and Ctrl+V where the clipboard holds a picture and no text. */
struct intake *intake_new(GtkWindow *window, const struct intake_events *events, void *userdata);
/* Accepts and returns NULL. */
struct intake *intake_free(struct intake *intake);

void intake_open(struct intake *intake, GFile *file);
void intake_choose(struct intake *intake);
void intake_paste(struct intake *intake);
