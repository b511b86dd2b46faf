/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A key for the whole desktop, where its portal has org.freedesktop.portal.GlobalShortcuts: the
 * desktop asks the user which, and tells when it is pressed and released. Where there is no such
 * portal, a key is bound in the desktop's settings to "lfmctl toggle".
 *
 * Threads: main thread; nothing is told after shortcut_free()
 */

#include <gio/gio.h>
#include <stdbool.h>

struct shortcut;

struct shortcut_events {
    /* Whether there can be one; told once at first. */
    void (*available)(bool available, void *userdata);
    /* trigger: as the desktop names it, "" when it does not; NULL: not bound, sentence (or NULL)
     * why */
    void (*bound)(const char *trigger, const char *sentence, void *userdata);
    void (*pressed)(void *userdata);
    void (*released)(void *userdata);
};

struct shortcut *shortcut_new(GDBusConnection *bus, const struct shortcut_events *events,
                              void *userdata);
/* Accepts and returns NULL. */
struct shortcut *shortcut_free(struct shortcut *shortcut);

/* Have the desktop bind it; it may ask the user. */
void shortcut_bind(struct shortcut *shortcut);
void shortcut_unbind(struct shortcut *shortcut);
