/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The daemon as the windows see it: names on the bus, installed models, errors in words.
 *
 * Everything is asynchronous; the bus starts the daemon with the first call.
 *
 * Threads: main thread.
 */

#include <gio/gio.h>
#include <stdbool.h>

#define ASSISTANT_NAME    "org.lfmd.Assistant1"
#define ASSISTANT_PATH    "/org/lfmd/Assistant1"
#define ASSISTANT_MANAGER "org.lfmd.Assistant1.Manager"
#define ASSISTANT_SESSION "org.lfmd.Assistant1.Session"
#define ASSISTANT_MODEL   "org.lfmd.Assistant1.Model"

#define ASSISTANT_CALL_MSEC 60000

struct installed_model {
    char *id, *title, *path;
    gboolean sees, hears, speaks;
};

/* The installed models, the one that is used when none is named first. */
void assistant_models_async(GDBusConnection *bus, GCancellable *cancellable,
                            GAsyncReadyCallback done, void *userdata);
GPtrArray *assistant_models_finish(GAsyncResult *result, GError **error); /* of installed_model */

/* Have the daemon look for models that were put there by hand; what is asked next knows them. */
void assistant_rescan(GDBusConnection *bus);

/* The end of g_bus_get(), with a whole sentence as error. */
GDBusConnection *assistant_bus_finish(GAsyncResult *result, GError **error);

/* The end of g_dbus_connection_call_with_unix_fd_list() of a method whose reply begins with a
 * descriptor, which is the caller's to close. number: what comes after it ("u"), or NULL. -1 with
 * an error. */
int assistant_fd_finish(GDBusConnection *bus, GAsyncResult *result, guint32 *number,
                        GError **error);

/* One sentence for people. g_free */
char *assistant_sentence(const GError *error);
