/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A picture of the screen, or of a part of it: through the desktop's Screenshot portal, which asks
 * the user, or, where there is no portal and X11 is what draws, from the X server, where every
 * program may look.
 *
 * Threads: main thread.
 */

#include "clients/describe/focus.h"
#include "clients/gtk/picture.h"

struct screen_shot {
    struct picture *picture;
    bool whole; /* the part was asked for, but its place is not known: all is there */
};

/* focus NULL: the whole screen. Copied. */
void screen_shoot_async(GDBusConnection *bus, const struct focus *focus, GCancellable *cancellable,
                        GAsyncReadyCallback done, void *userdata);
/* False with a sentence; G_IO_ERROR_CANCELLED where the user said no. */
bool screen_shoot_finish(GAsyncResult *result, struct screen_shot *ret, GError **error);
