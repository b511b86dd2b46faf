/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a picture shows, in the daemon's words: the short one as soon as it is there, then the rest.
 *
 * Flow:     picture -> Manager.Describe -> pipe -> here -> struct description_events
 * Threads:  main thread; events come from the main loop, none after description_free()
 */

#include "clients/gtk/picture.h"

enum part {
    PART_SHORT,
    PART_LONG,
    PART_WORDS, /* that are written in it */
    _PART_N,
};

struct description_events {
    void (*part)(enum part part, const char *text, bool unsure, void *userdata);
    void (*progress)(double fraction, void *userdata); /* of looking, 0 to 1 */
    /* The last: sentence NULL, all is told; else why not. */
    void (*ended)(const char *sentence, void *userdata);
};

struct description;

/* model NULL: the daemon's choice */
struct description *description_new(GDBusConnection *bus, const struct picture *picture,
                                    const char *model, const struct description_events *events,
                                    void *userdata);
/* Cancels it. Accepts and returns NULL. */
struct description *description_free(struct description *description);
