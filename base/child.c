/* SPDX-License-Identifier: MIT */
#include "base/child.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int child_spawn(const char *program, char *const arguments[], char *const environment[], int in,
                int out, pid_t *ret_pid)
{
    char *const none_at_all[] = {NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    int r;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    /* What libraries print comes from a stranger's file: it is no message of ours. */
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    r = posix_spawn(ret_pid, program, &actions, &attributes, arguments,
                    environment ? environment : none_at_all);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return -r;
}

const char *child_path(const char *variable, const char *built, const char *installed)
{
    static _Thread_local char path[PATH_MAX];
    const char *chosen = getenv(variable);
    char self[PATH_MAX];
    ssize_t n;

    if (chosen && *chosen)
        return chosen;
    /* BUILD/tools/lfm-run -> BUILD */
    n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    for (int up = 0; n > 0 && up < 2; up++) {
        self[n] = '\0';
        n = strrchr(self, '/') ? strrchr(self, '/') - self : 0;
    }
    if (n > 0 && snprintf(path, sizeof(path), "%.*s/%s", (int)n, self, built) < (int)sizeof(path) &&
        access(path, X_OK) == 0)
        return path;
    snprintf(path, sizeof(path), "%s/%s", installed, strrchr(built, '/') + 1);
    return path;
}
