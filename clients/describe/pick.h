/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The picture that is to be described, from where the user says.
 *
 * Threads: main thread.
 */

#include "clients/describe/screen.h"

enum source {
    SOURCE_FOCUS,
    SOURCE_SCREEN,
    SOURCE_CLIPBOARD, /* a window's to read */
    SOURCE_FILE,
};

/* Of the focus, the screen or a file (path). */
void pick_async(GDBusConnection *bus, enum source source, const char *path,
                GCancellable *cancellable, GAsyncReadyCallback done, void *userdata);
bool pick_finish(GAsyncResult *result, struct screen_shot *ret, GError **error);
