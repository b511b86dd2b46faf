/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What looking at a picture will take, as the daemon says.
 *
 * Threads: main thread.
 */

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

struct plan {
    uint32_t views;
    uint32_t predicted_ms; /* 0: the speed is not known yet */
};

/* model NULL: the default. */
void plan_async(GDBusConnection *bus, int fd, const char *detail, const char *model,
                GCancellable *cancellable, GAsyncReadyCallback done, void *userdata);
bool plan_finish(GAsyncResult *result, struct plan *ret, GError **error);
