/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/bus.h"
#include "clients/wav.h"
#include "clients/wyoming/assistant.h"
#include "clients/wyoming/server.h"
#include "clients/wyoming/services.h"

#define RECORDING_BYTES_MAX ((size_t)64 << 20) /* half an hour as Home Assistant sends it */
#define RATE_MIN            4000
#define RATE_MAX            192000
#define CHANNELS_MAX        8
#define SAMPLE_BYTES_MAX    4

/* What a peer says: a WAV file in memory, for the daemon to read. */
struct recording {
    struct peer *peer;
    char *model; /* NULL: the daemon's choice */
    int fd;      /* -1: it has not begun */
    uint32_t rate_hz, channels, sample_bytes;
    size_t n;
    struct call *call;       /* once it is whole */
    struct json_object *all; /* the last line */
    bool has_text;           /* a piece of it is sent */
};

static struct recording *get(struct peer *peer, struct error *err)
{
    if (!peer->recording) {
        peer->recording = calloc(1, sizeof(*peer->recording));
        if (!peer->recording) {
            error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a recording.");
            return NULL;
        }
        peer->recording->peer = peer;
        peer->recording->fd = -1;
    }
    return peer->recording;
}

void hear_free(struct peer *peer)
{
    struct recording *recording = peer->recording;

    if (!recording)
        return;
    call_free(recording->call);
    closep(&recording->fd);
    json_object_put(recording->all);
    free(recording->model);
    free(recording);
    peer->recording = NULL;
}

int hear_transcribe(struct peer *peer, struct json_object *data, struct error *err)
{
    const char *name = peer_text(data, "name");
    struct recording *recording;

    hear_free(peer);
    recording = get(peer, err);
    if (!recording)
        return error_errno(err->code);
    if (name && *name && !(recording->model = strdup(name)))
        return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a name.");
    return 0;
}

/* --- sound ---------------------------------------------------------------------------------- */

static int read_number(struct json_object *data, const char *key, uint32_t min, uint32_t max,
                       uint32_t *ret, struct error *err)
{
    struct json_object *value = json_object_object_get(data, key);
    const int64_t n = json_object_get_int64(value);

    if (!json_object_is_type(value, json_type_int) || n < min || n > max)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "'%s' of sound must be a whole number from %u to %u.", key, min, max);
    *ret = (uint32_t)n;
    return 0;
}

static int read_format(struct json_object *data, struct recording *ret, struct error *err)
{
    int r = read_number(data, "rate", RATE_MIN, RATE_MAX, &ret->rate_hz, err);

    if (r == 0)
        r = read_number(data, "channels", 1, CHANNELS_MAX, &ret->channels, err);
    if (r == 0)
        r = read_number(data, "width", 1, SAMPLE_BYTES_MAX, &ret->sample_bytes, err);
    return r;
}

static int write_all(struct recording *recording, const uint8_t *bytes, size_t n, off_t at,
                     struct error *err)
{
    while (n > 0) {
        const ssize_t done = pwrite(recording->fd, bytes, n, at);

        if (done <= 0)
            return error_set(err, ERROR_NO_MEMORY, "A recording cannot be kept: %s.",
                             strerror(errno));
        bytes += done;
        at += done;
        n -= (size_t)done;
    }
    return 0;
}

int hear_start(struct peer *peer, struct json_object *data, struct error *err)
{
    struct recording *recording = get(peer, err);
    int r = recording ? read_format(data, recording, err) : error_errno(err->code);

    if (r < 0)
        return r;
    closep(&recording->fd);
    recording->n = 0;
    recording->fd = memfd_create("recording", MFD_CLOEXEC);
    if (recording->fd < 0)
        return error_set(err, ERROR_NO_MEMORY, "A recording cannot be kept: %s.", strerror(errno));
    return 0;
}

int hear_chunk(struct peer *peer, struct json_object *data, const uint8_t *samples, size_t n,
               struct error *err)
{
    struct recording *recording = peer->recording, format = {0};
    int r;

    /* Each chunk says its format; some programs send nothing before the first. */
    if (!recording || recording->fd < 0) {
        r = hear_start(peer, data, err);
        if (r < 0)
            return r;
        recording = peer->recording;
    }
    r = read_format(data, &format, err);
    if (r < 0)
        return r;
    if (format.rate_hz != recording->rate_hz || format.channels != recording->channels ||
        format.sample_bytes != recording->sample_bytes)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The format of the sound changes in the middle of a recording.");
    if (n % ((size_t)format.channels * format.sample_bytes) != 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "%zu bytes of sound are not whole samples of %u channels and %u bytes.", n,
                         format.channels, format.sample_bytes);
    if (n > RECORDING_BYTES_MAX - recording->n)
        return error_set(err, ERROR_INVALID_ARGUMENT, "A recording has at most %zu MB.",
                         RECORDING_BYTES_MAX >> 20);
    r = write_all(recording, samples, n, (off_t)(WAV_HEAD_BYTES + recording->n), err);
    if (r == 0)
        recording->n += n;
    return r;
}

/* --- text ----------------------------------------------------------------------------------- */

static struct json_object *text_data(const char *text)
{
    struct json_object *data = json_object_new_object();

    json_object_object_add(data, "text", json_object_new_string(text));
    return data;
}

/* The pieces, one after the other, are the whole. */
static void send_segment(struct recording *recording, const char *text)
{
    _cleanup_(freep) char *piece = NULL;

    if (!*text || asprintf(&piece, "%s%s", recording->has_text ? " " : "", text) < 0)
        return;
    recording->has_text = true;
    peer_send(recording->peer, "transcript-chunk", text_data(piece));
}

static void send_whole(struct peer *peer, const char *text)
{
    peer_send(peer, "transcript", text_data(text));
    peer_send(peer, "transcript-stop", NULL);
}

static void on_line(void *userdata, struct json_object *event)
{
    struct recording *recording = userdata;
    const char *type = bus_text(event, "event");

    if (strcmp(type, "segment") == 0)
        send_segment(recording, bus_text(event, "text"));
    else if (strcmp(type, "done") == 0 || strcmp(type, "error") == 0)
        recording->all = json_object_get(event);
}

static void on_end(void *userdata, const struct error *error)
{
    struct recording *recording = userdata;
    struct peer *peer = recording->peer;
    struct error err = ERROR_INIT;

    if (error)
        err = *error;
    else
        assistant_last(recording->all, "A recording was not heard to its end.", &err);
    if (err.code != ERROR_NONE)
        peer_error(peer, &err);
    else
        send_whole(peer, bus_text(recording->all, "text"));
    hear_free(peer);
    peer_done(peer);
}

int hear_stop(struct peer *peer, struct error *err)
{
    static const struct call_sink sink = {.line = on_line, .ended = on_end};
    _cleanup_(bus_messagep) sd_bus_message *message = NULL;
    struct recording *recording = peer->recording;
    uint8_t head[WAV_HEAD_BYTES];
    int r;

    if (!recording || recording->fd < 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "There was no audio-start before audio-stop.");
    if (recording->n == 0) {
        peer_send(peer, "transcript-start", NULL);
        send_whole(peer, "");
        hear_free(peer);
        return 0;
    }
    wav_head(head, recording->rate_hz, recording->channels, recording->sample_bytes,
             (uint32_t)recording->n);
    r = write_all(recording, head, sizeof(head), 0, err);
    if (r == 0)
        r = assistant_method(peer->server->bus, "Transcribe", &message, err);
    if (r < 0)
        return r;
    r = sd_bus_message_append(message, "h", recording->fd);
    if (r >= 0)
        r = sd_bus_message_open_container(message, 'a', "{sv}");
    if (r >= 0 && recording->model)
        r = bus_option(message, "model", "s", recording->model);
    if (r >= 0)
        r = sd_bus_message_close_container(message);
    if (r < 0) {
        assistant_error(NULL, r, err);
        return r;
    }
    recording->call = call_new(peer->server->bus, message, &sink, recording, err);
    if (!recording->call)
        return error_errno(err->code);
    peer_send(peer, "transcript-start", NULL);
    peer_work(peer);
    return 0;
}
