/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * lfm-describe --print: the description on standard output and aloud, without a window.
 *
 * Threads: main thread; runs a main loop of its own
 */

#include <stdbool.h>

#include "clients/describe/pick.h"

struct print_options {
    enum source source;
    const char *path;  /* of a file */
    const char *model; /* NULL: the daemon's choice */
    bool more, silent;
};

/* What main() returns. */
int print_run(const struct print_options *options);
