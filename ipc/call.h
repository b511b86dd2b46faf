/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A call that goes on when its method has returned, without a session: what it works on, the stream
 * of what that says, and the message that waits for an answer. Its client holds it.
 *
 * Threads: bus thread.
 */

#include "ipc/client.h"
#include "ipc/stream.h"

struct call;

struct call_kind {
    unsigned max; /* of a client at a time */
    const char *verb, *object; /* "This program VERB 8 OBJECT already" */
    /* What it works on is given up, without another word; also where there is nothing yet, or any
     * more. */
    void (*abandon)(struct call *call);
};

/* The first member of a zeroed allocation; what is said here about a stream is for one that it
 * has. */
struct call {
    struct call *next;
    const struct call_kind *kind;
    struct client *client;
    sd_bus_message *message; /* to be answered, held; or NULL */
    struct stream *stream;
};

/* Of `size` bytes, for the sender of the message; NULL with ERROR_BUSY: it has too many. */
struct call *call_new(struct bus *bus, sd_bus_message *message, const struct call_kind *kind,
                      size_t size, struct error *err);

/* Nothing is left of it, also for stream_sink.closed: free it. The client may go with it. */
void call_end(void *call);

/* Nothing more is said: it ends when all is read. */
void call_finish(struct call *call);

/* Free all of a client, who stays until client_settle(). */
void call_drop_all(struct client *client);
