/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The screen as the X server has it.
 *
 * Threads: main thread; blocks
 */

#include <gdk-pixbuf/gdk-pixbuf.h>
#include <stdbool.h>

/*
 * All of it; NULL: there is no X server, or it is one inside Wayland, which does not see the
 * others.
 */
GdkPixbuf *x11_shoot(void);

/* Where what the window with the focus draws begins. */
bool x11_origin(int *ret_x, int *ret_y);
