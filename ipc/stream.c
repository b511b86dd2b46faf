/* SPDX-License-Identifier: MIT */
#include "ipc/stream.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

struct stream {
    int fd;
    sd_event_source *source;
    const struct stream_sink *sink;
    void *userdata;

    bool packets; /* each with its length before it, which is not written */
    char *buffer; /* [capacity]; bytes start .. end - 1 wait */
    size_t start, end, capacity;
    bool held;   /* the producer was asked to wait */
    bool broken; /* nobody reads */
    bool ended;
};

static uint64_t clock_usec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static size_t waiting(const struct stream *stream)
{
    return stream->end - stream->start;
}

/* Write what waits until the pipe is full. */
static void write_buffer(struct stream *stream)
{
    while (!stream->broken && waiting(stream)) {
        const size_t before = stream->packets ? sizeof(uint16_t) : 0;
        uint16_t packet = 0;
        ssize_t n;

        memcpy(&packet, stream->buffer + stream->start, before);
        n = write(stream->fd, stream->buffer + stream->start + before,
                  stream->packets ? packet : waiting(stream));
        if (n >= 0)
            stream->start += before + (size_t)n;
        else if (errno == EAGAIN)
            return;
        else if (errno != EINTR)
            stream->broken = true;
    }
    /* Empty, or without reader: nothing is kept. */
    free(stream->buffer);
    stream->buffer = NULL;
    stream->start = stream->end = stream->capacity = 0;
}

/* Watch for room while something waits, or to tell the end; that nobody reads is always told. */
static void watch(struct stream *stream)
{
    sd_event_source_set_io_events(stream->source, waiting(stream) || stream->ended ? EPOLLOUT : 0);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct stream *stream = userdata;

    (void)source, (void)fd;
    if (revents & (EPOLLERR | EPOLLHUP))
        stream->broken = true;
    write_buffer(stream);
    watch(stream);

    if (stream->broken || (stream->ended && !waiting(stream))) {
        sd_event_source_set_enabled(stream->source, SD_EVENT_OFF);
        stream->sink->closed(stream->userdata); /* frees the stream */
        return 0;
    }
    if (stream->held && waiting(stream) < STREAM_RELEASE_BYTES) {
        stream->held = false;
        stream->sink->hold(stream->userdata, false);
    }
    return 0;
}

/* Takes fd. */
static struct stream *make(sd_event *event, int fd, const struct stream_sink *sink, void *userdata,
                           struct error *err)
{
    struct stream *stream = fd >= 0 ? calloc(1, sizeof(*stream)) : NULL;

    if (!stream) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory for another stream.");
        close(fd);
        return NULL;
    }
    stream->fd = fd;
    stream->sink = sink;
    stream->userdata = userdata;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (sd_event_add_io(event, &stream->source, fd, 0, on_io, stream) < 0) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory for another stream.");
        return stream_free(stream);
    }
    return stream;
}

struct stream *stream_new(sd_event *event, const struct stream_sink *sink, void *userdata,
                          int *ret_fd, struct error *err)
{
    struct stream *stream;
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0) {
        error_set(err, ERROR_BUSY, "No pipe for another stream can be had: %s.", strerror(errno));
        return NULL;
    }
    /* Only our end does not block: that is the client's choice for its own. */
    stream = make(event, fds[1], sink, userdata, err);
    if (stream)
        *ret_fd = fds[0];
    else
        close(fds[0]);
    return stream;
}

/* A copy would share its flags with the client, who could have us wait in write(). */
static int open_anew(int fd)
{
    char path[32];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
}

struct stream *stream_new_on(sd_event *event, int fd, const struct stream_sink *sink,
                             void *userdata, struct error *err)
{
    struct stream *stream;
    struct stat st;
    int own;

    if (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode) ||
        (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY) {
        error_set(err, ERROR_INVALID_ARGUMENT,
                  "The descriptor is not the writing end of a pipe.");
        return NULL;
    }
    own = open_anew(fd);
    if (own < 0) {
        error_set(err, ERROR_INVALID_ARGUMENT, "The pipe cannot be written: %s.", strerror(errno));
        return NULL;
    }
    stream = make(event, own, sink, userdata, err);
    if (stream)
        stream->packets = true;
    return stream;
}

struct stream *stream_free(struct stream *stream)
{
    if (!stream)
        return NULL;
    sd_event_source_disable_unref(stream->source);
    close(stream->fd);
    free(stream->buffer);
    free(stream);
    return NULL;
}

/* Room for n more bytes. */
static bool reserve(struct stream *stream, size_t n)
{
    size_t used = waiting(stream), capacity;
    char *grown;

    if (n > STREAM_BUFFER_MAX - used)
        return false;
    if (stream->start) {
        memmove(stream->buffer, stream->buffer + stream->start, used);
        stream->start = 0;
        stream->end = used;
    }
    if (used + n <= stream->capacity)
        return true;
    capacity = MAX(stream->capacity * 2, round_up(used + n, 4096));
    grown = realloc(stream->buffer, capacity);
    if (!grown)
        return false;
    stream->buffer = grown;
    stream->capacity = capacity;
    return true;
}

static void put(struct stream *stream, const void *bytes, size_t length, bool newline)
{
    const uint16_t packet = (uint16_t)length;
    const size_t before = stream->packets ? sizeof(packet) : 0;

    if (stream->broken || stream->ended)
        return;
    if (!reserve(stream, before + length + newline)) {
        /* It is lost as a whole, and nothing may follow a gap: `closed` comes after what waits. */
        stream->ended = true;
        watch(stream);
        return;
    }
    memcpy(stream->buffer + stream->end, &packet, before);
    memcpy(stream->buffer + stream->end + before, bytes, length);
    stream->end += before + length;
    if (newline)
        stream->buffer[stream->end++] = '\n';

    write_buffer(stream);
    watch(stream);
    if (!stream->held && waiting(stream) > STREAM_HOLD_BYTES) {
        stream->held = true;
        stream->sink->hold(stream->userdata, true);
    }
}

void stream_line(struct stream *stream, const char *line, size_t length)
{
    put(stream, line, length, true);
}

void stream_bytes(struct stream *stream, const void *bytes, size_t length)
{
    put(stream, bytes, length, false);
}

void stream_packet(struct stream *stream, const void *bytes, size_t length)
{
    assert(stream->packets && length > 0 && length <= STREAM_PACKET_MAX);
    put(stream, bytes, length, false);
}

bool stream_end(struct stream *stream)
{
    stream->ended = true;
    return stream->broken || !waiting(stream);
}

void stream_drain(struct stream *stream, uint64_t until_usec)
{
    struct pollfd room = {.fd = stream->fd, .events = POLLOUT};

    while (waiting(stream) && !stream->broken) {
        uint64_t now = clock_usec();

        if (now >= until_usec || poll(&room, 1, (int)((until_usec - now) / 1000)) <= 0)
            return;
        write_buffer(stream);
    }
}
