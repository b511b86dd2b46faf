/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the window remembers: $XDG_CONFIG_HOME/lfmd/assistant.ini, written when something changes.
 *
 * Threads: main thread
 */

#include <stdbool.h>

struct settings {
    bool open_microphone; /* else push to talk */
    bool keep;            /* conversations survive the daemon */
    bool shortcut;        /* a key for the whole desktop is wanted */
    char *model;          /* id; NULL: the daemon's choice */
};

/* What cannot be read is as at first. */
void settings_read(struct settings *settings);
/* False: it cannot be written; nothing else depends on it. */
bool settings_write(const struct settings *settings);
void settings_done(struct settings *settings);
