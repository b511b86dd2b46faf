/* SPDX-License-Identifier: MIT */
#include "clients/lines.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/status.h"
#include "clients/terminal.h"

#define LINE_MAX_BYTES ((size_t)16 << 20)

int lines_read(int fd, const struct lines_sink *sink, void *userdata)
{
    _cleanup_(freep) char *buffer = NULL;
    size_t length = 0, size = 0;
    bool told = false;

    for (;;) {
        char *newline;
        ssize_t n;
        int r = terminal_wait(fd, -1);

        if (terminal_interrupts() > (sink->interrupted ? 1 : 0))
            return STATUS_INTERRUPTED;
        if (terminal_interrupts() == 1 && !told) {
            told = true;
            sink->interrupted(userdata);
        }
        if (r <= 0)
            continue;
        if (length + 65536 > size) {
            size = size ? size * 2 : 131072;
            buffer = size <= 2 * LINE_MAX_BYTES ? realloc(buffer, size) : NULL;
            if (!buffer) {
                terminal_error("The daemon sends lines without end.");
                return STATUS_ERROR;
            }
        }
        n = read(fd, buffer + length, size - length - 1);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return STATUS_DAEMON;
        length += (size_t)n;
        buffer[length] = '\0';
        while ((newline = memchr(buffer, '\n', length))) {
            size_t taken = (size_t)(newline + 1 - buffer);

            *newline = '\0';
            if (!sink->line(userdata, buffer))
                return STATUS_OK;
            memmove(buffer, buffer + taken, length - taken + 1);
            length -= taken;
        }
        if (ferror(stdout))
            return STATUS_ERROR; /* nobody reads on: closing the stream cancels */
    }
}
