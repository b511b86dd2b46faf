/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Calls on the session bus, one function for all.
 *
 * Threads: that of the desktop.
 */

#include <gio/gio.h>

struct bus_method {
    const char *name, *path, *interface, *method;
    GVariant *arguments; /* floating, or NULL */
    const char *reply;   /* type of what must come back, "(as)" */
};

#define BUS_TIMEOUT_MSEC 3000

/* Exactly one of reply and error is NULL; borrowed. Comes also after the cancellable has fired. */
typedef void (*bus_reply)(GVariant *reply, const GError *error, void *userdata);

void bus_method(const struct bus_method *method, GCancellable *cancellable, bus_reply done,
                void *userdata);
