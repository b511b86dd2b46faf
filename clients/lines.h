/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The lines of a stream that the daemon writes.
 *
 * Threads: main thread.
 */

#include <stdbool.h>

struct lines_sink {
    bool (*line)(void *userdata, const char *line); /* without newline; false: that was the last */
    void (*interrupted)(void *userdata); /* Ctrl-C: the stream goes on. NULL: it does not */
};

/*
 * Read until the sink has enough. STATUS_OK then; STATUS_INTERRUPTED after Ctrl-C, the second one
 * where `interrupted` is told of the first; STATUS_DAEMON, without a word, when the stream ends
 * before; STATUS_ERROR after a sentence.
 */
int lines_read(int fd, const struct lines_sink *sink, void *userdata);
