/* SPDX-License-Identifier: MIT */
#include "audio/device/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"
#include "base/cleanup.h"

bool server_name_cancels(const char *name)
{
    return strcasestr(name, "echo-cancel") || strcasestr(name, "echo cancel");
}

/* What comes within the patience; it is over when the child ends. */
static void read_all(int fd, char *text, size_t size)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    size_t length = 0;
    ssize_t n = 1;

    while (n > 0 && length + 1 < size && poll(&pfd, 1, SERVER_PATIENCE_MSEC) > 0) {
        n = read(fd, text + length, size - 1 - length);
        length += n > 0 ? (size_t)n : 0;
    }
    text[length] = '\0';
}

bool server_default_cancels(void)
{
    const char *program = child_path("LFMD_MONITOR", "audio/monitor/lfmd-monitor", LFMD_LIBEXECDIR);
    char *const arguments[] = {(char *)"lfmd-monitor", (char *)"--source", NULL};
    _cleanup_(closep) int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    char text[1024];
    int ends[2], r;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return false;
    r = child_spawn(program, arguments, environ, null, ends[1], &pid);
    close(ends[1]);
    text[0] = '\0';
    if (r == 0) {
        read_all(ends[0], text, sizeof(text));
        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    close(ends[0]);
    return server_name_cancels(text);
}
