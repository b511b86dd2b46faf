/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The daemon as the windows see it: names on the bus, errors in words.
 *
 * Threads: main thread.
 */

#include <gio/gio.h>

#define ASSISTANT_NAME    "org.lfmd.Assistant1"
#define ASSISTANT_PATH    "/org/lfmd/Assistant1"
#define ASSISTANT_MANAGER "org.lfmd.Assistant1.Manager"
#define ASSISTANT_SESSION "org.lfmd.Assistant1.Session"
#define ASSISTANT_MODEL   "org.lfmd.Assistant1.Model"

#define ASSISTANT_CALL_MSEC 60000

/* The end of g_dbus_connection_call_with_unix_fd_list() of a method whose reply begins with a
 * descriptor, which is the caller's to close. number: what comes after it ("u"), or NULL. -1 with
 * an error. */
int assistant_fd_finish(GDBusConnection *bus, GAsyncResult *result, guint32 *number,
                        GError **error);

/* One sentence for people. g_free */
char *assistant_sentence(const GError *error);
