/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The writing end of a client's pipe: whole lines (or sound) in, back-pressure and "nobody reads"
 * out.
 *
 * What the pipe does not take is buffered; above STREAM_HOLD_BYTES the producer is asked to wait,
 * below STREAM_RELEASE_BYTES to go on. A line is never written in part and then left: its rest
 * comes before anything else. No function here calls the sink before it returns, except those of
 * the event loop and stream_line() for `hold`.
 *
 * Memory: one buffer, given back when it is empty; at most STREAM_BUFFER_MAX.
 * Threads: bus thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"

#define STREAM_HOLD_BYTES    ((size_t)64 << 10)
#define STREAM_RELEASE_BYTES ((size_t)16 << 10)
#define STREAM_BUFFER_MAX    ((size_t)8 << 20)
#define STREAM_PACKET_MAX    ((size_t)4096) /* what a pipe takes as a whole, or not at all */

struct stream_sink {
    void (*hold)(void *userdata, bool hold);
    /* All is written after stream_end(), or nobody reads any more. The stream must be freed. */
    void (*closed)(void *userdata);
};

struct stream;

/* A new pipe; *ret_fd is the reading end, the caller's. */
struct stream *stream_new(sd_event *event, const struct stream_sink *sink, void *userdata,
                          int *ret_fd, struct error *err);
/*
 * The writing end of a client's own pipe, which is opened anew: whether a write() waits is not the
 * client's choice. For packets: what stream_packet() gets is written as a whole, so that a reader
 * gets as much with one read().
 */
struct stream *stream_new_on(sd_event *event, int fd, const struct stream_sink *sink,
                             void *userdata, struct error *err);
struct stream *stream_free(struct stream *stream); /* what is buffered is lost */

/* Write one line; the newline is added. After the reader has left, lines are dropped. */
void stream_line(struct stream *stream, const char *line, size_t length);

/* The same for bytes that are no line. */
void stream_bytes(struct stream *stream, const void *bytes, size_t length);

/* A packet, of a stream made by stream_new_on(); 1 to STREAM_PACKET_MAX bytes. */
void stream_packet(struct stream *stream, const void *bytes, size_t length);

/* No line follows. Returns true when nothing is left to write: free it; else `closed` will come. */
bool stream_end(struct stream *stream);

/* Wait until what is buffered is written, at most until the time of CLOCK_MONOTONIC: for the end of
 * the program. */
void stream_drain(struct stream *stream, uint64_t until_usec);
