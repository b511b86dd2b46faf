/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Programs that are run for a tool: without a shell, in a session and process group of their own,
 * with a cleaned environment, a time limit and a limit on what they may print.
 *
 * Threads: that of the desktop.
 */

#include <gio/gio.h>
#include <stdbool.h>

#include "base/error.h"

#define PROCESS_SAID 200 /* bytes that are kept of what is printed as an error */

struct process {
    GPid pid; /* leader of its group; the caller's to reap */
    int in, out, err;
};

/*
 * Start argv[0] (found in PATH) with three pipes, not blocking. It dies with this program.
 * environment: NAME=VALUE that come on top of process_environment(), or NULL. folder NULL: home.
 */
int process_spawn(const char *const *argv, const char *const *environment, const char *folder,
                  struct process *ret, struct error *err);

/* All of its group, now. */
void process_kill(GPid pid);

/* What a program of the desktop needs, and no more: PATH, HOME, locale, display, session bus, XDG_.
 * g_strfreev */
char **process_environment(void);

struct process_limits {
    unsigned seconds;
    size_t output; /* bytes; more is an error */
    bool stays; /* what it leaves in the background goes on; its output is not read */
};

struct process_result {
    bool ok; /* ended by itself with 0 */
    const char *output;
    const char *why; /* not ok: few words, "it took longer than 10 s" */
};

typedef void (*process_ended)(const struct process_result *result, void *userdata);

/*
 * Run a program to its end. `ended` is called once, later. When the cancellable, or NULL, fires,
 * the program is killed and `ended` is called with ok false.
 */
void process_run(const char *const *argv, const char *const *environment, const char *folder,
                 const char *input, struct process_limits limits, GCancellable *cancellable,
                 process_ended ended, void *userdata);
