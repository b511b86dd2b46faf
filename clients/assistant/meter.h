/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the microphone hears: how loud it was in the last seconds, drawn as a wave, the newest at
 * the right, and how loud it is now, as a level bar.
 *
 * Threads: main thread
 */

#include <gtk/gtk.h>

#define METER_VALUES 100 /* of 100 ms each */

struct meter {
    GtkDrawingArea *wave;
    GtkLevelBar *bar;
    float values[METER_VALUES]; /* 0 to 1; a ring */
    guint next;
};

/* The widgets outlive it, or go with it. */
void meter_init(struct meter *meter, GtkDrawingArea *wave, GtkLevelBar *bar);
void meter_add(struct meter *meter, int db);
void meter_clear(struct meter *meter);
