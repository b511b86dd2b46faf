/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What has the keyboard's focus, and where that is on the screen, as assistive technologies learn
 * it (AT-SPI).
 *
 * Programs that do not answer cost a part of FOCUS_MSEC each, and no more than twice that together;
 * our own is not asked.
 *
 * Threads: main thread; blocks
 */

#include <gdk/gdk.h>
#include <stdbool.h>

#define FOCUS_MSEC 1500

struct focus {
    char *name;        /* as the program calls it; NULL: it does not */
    GdkRectangle area; /* pixels */
    bool in_window;    /* it is known inside its window only: x and y count from there */
};

/* False with a sentence where nothing has the focus, or nobody says what. */
bool focus_find(struct focus *ret, GError **error);
void focus_done(struct focus *focus);
