/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Pictures that are named on the command line: opened here and handed to the daemon as descriptors,
 * which it decodes.
 *
 * Threads: main thread.
 */

#include <systemd/sd-bus.h>

#include "clients/options.h"

/* Some pictures, opened; zeroed is none. */
struct pictures {
    int fds[IMAGES_MAX];
    unsigned n;
};

/*
 * Open one more. "-" is standard input; what is no regular file is copied to its end first.
 *
 * STATUS_OK, or a status after a sentence.
 */
int pictures_add(struct pictures *pictures, const char *path);
void pictures_done(struct pictures *pictures); /* closes them; zeroed again */

/* Entries of an open a{sv} that say how finely to look, as the options have it. */
int pictures_append_settings(sd_bus_message *message, const struct options *options);
