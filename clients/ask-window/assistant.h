/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The daemon as the window sees it: names on the bus, models that can see, what a picture will cost.
 *
 * Everything is asynchronous; the bus starts the daemon with the first call.
 *
 * Threads: main thread.
 */

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

#define ASSISTANT_NAME    "org.lfmd.Assistant1"
#define ASSISTANT_PATH    "/org/lfmd/Assistant1"
#define ASSISTANT_MANAGER "org.lfmd.Assistant1.Manager"
#define ASSISTANT_SESSION "org.lfmd.Assistant1.Session"
#define ASSISTANT_MODEL   "org.lfmd.Assistant1.Model"

#define ASSISTANT_CALL_MSEC 60000

struct seeing_model {
    char *id, *title, *path;
};

/* The installed models that can look at pictures, the one that is used when none is named first. */
void assistant_models_async(GDBusConnection *bus, GCancellable *cancellable,
                            GAsyncReadyCallback done, void *userdata);
GPtrArray *assistant_models_finish(GAsyncResult *result, GError **error); /* of seeing_model */

/* Have the daemon look for models that were put there by hand; what is asked next knows them. */
void assistant_rescan(GDBusConnection *bus);

struct plan {
    uint32_t views;
    uint32_t predicted_ms; /* 0: the speed is not known yet */
};

/* What looking at a picture takes. model NULL: the default. */
void assistant_plan_async(GDBusConnection *bus, int fd, const char *detail, const char *model,
                          GCancellable *cancellable, GAsyncReadyCallback done, void *userdata);
bool assistant_plan_finish(GAsyncResult *result, struct plan *ret, GError **error);

/* One sentence for people. g_free */
char *assistant_sentence(const GError *error);
