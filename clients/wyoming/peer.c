/* SPDX-License-Identifier: MIT */
#include "clients/wyoming/peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/wyoming/server.h"
#include "clients/wyoming/services.h"

#define OUT_FULL ((size_t)256 << 10)

/* --- life ----------------------------------------------------------------------------------- */

/* It is freed from the event loop, because it may be what is calling. */
static void peer_close(struct peer *peer)
{
    if (peer->closed)
        return;
    peer->closed = true;
    sd_event_source_set_enabled(peer->io, SD_EVENT_OFF);
    sd_event_source_set_enabled(peer->timer, SD_EVENT_OFF);
    sd_event_source_set_enabled(peer->turn, SD_EVENT_ONESHOT);
}

static size_t n_unsent(const struct peer *peer)
{
    return peer->n_out - peer->n_sent;
}

bool peer_is_full(const struct peer *peer)
{
    return n_unsent(peer) > OUT_FULL;
}

static bool may_take(const struct peer *peer)
{
    return !peer->working && !peer->closing && !peer->closed && !peer_is_full(peer);
}

static enum peer_state state_of(const struct peer *peer)
{
    if (n_unsent(peer) > 0)
        return PEER_SENDING;
    if (peer->closing)
        return PEER_ENDING;
    if (peer->working)
        return PEER_WORKING;
    return wire_is_amid(&peer->wire) ? PEER_RECEIVING : PEER_IDLE;
}

/* How long it may stay as it is. */
static void set_timer(struct peer *peer)
{
    static const uint64_t seconds[] = {
        [PEER_IDLE] = PEER_IDLE_SEC,     [PEER_RECEIVING] = PEER_EVENT_SEC, [PEER_WORKING] = 0,
        [PEER_SENDING] = PEER_STUCK_SEC, [PEER_ENDING] = PEER_END_SEC,
    };
    const uint64_t sec = seconds[peer->state];

    if (sec > 0)
        sd_event_source_set_time_relative(peer->timer, sec * 1000000);
    sd_event_source_set_enabled(peer->timer, sec > 0 ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

/* What is waited for now; moved: it has got on, and has its whole time again. */
static void update(struct peer *peer, bool moved)
{
    const enum peer_state state = state_of(peer);
    uint32_t events = 0;

    if (peer->closed)
        return;
    if (state == PEER_ENDING && peer->state != PEER_ENDING)
        shutdown(peer->fd, SHUT_WR);
    /* What it has sent by the time of an error is read, or it would not get to see the error. */
    if (!peer->ended && (may_take(peer) || state == PEER_ENDING))
        events |= EPOLLIN;
    if (n_unsent(peer) > 0)
        events |= EPOLLOUT;
    sd_event_source_set_io_events(peer->io, events);
    if (state != peer->state || moved) {
        peer->state = state;
        set_timer(peer);
    }
    if (peer->ended && (state == PEER_IDLE || state == PEER_RECEIVING || state == PEER_ENDING))
        peer_close(peer);
}

/* --- sending -------------------------------------------------------------------------------- */

/* Room for n bytes more, in place of what is sent where there is enough. */
static bool make_room(struct peer *peer, size_t n)
{
    uint8_t *out;

    if (peer->n_sent > 0) {
        memmove(peer->out, peer->out + peer->n_sent, n_unsent(peer));
        peer->n_out -= peer->n_sent;
        peer->n_sent = 0;
    }
    if (peer->n_out + n <= peer->out_size)
        return true;
    out = realloc(peer->out, MAX(2 * peer->out_size, peer->n_out + n));
    if (!out)
        return false;
    peer->out_size = MAX(2 * peer->out_size, peer->n_out + n);
    peer->out = out;
    return true;
}

void peer_send_bytes(struct peer *peer, const char *type, struct json_object *data,
                     const void *payload, size_t n_payload)
{
    _cleanup_(freep) uint8_t *bytes = NULL;
    size_t n;

    if (!peer->closing && !peer->closed) {
        bytes = wire_compose(type, data, payload, n_payload, &n);
        if (bytes && make_room(peer, n)) {
            memcpy(peer->out + peer->n_out, bytes, n);
            peer->n_out += n;
            update(peer, false);
        } else {
            peer_close(peer); /* no memory: the connection's end says that much */
        }
    }
    json_object_put(data);
}

void peer_send(struct peer *peer, const char *type, struct json_object *data)
{
    peer_send_bytes(peer, type, data, NULL, 0);
}

void peer_error(struct peer *peer, const struct error *error)
{
    struct json_object *data = json_object_new_object();

    json_object_object_add(data, "text", json_object_new_string(error->text));
    json_object_object_add(data, "code", json_object_new_string(error_name(error->code)));
    peer_send(peer, "error", data);
    peer->closing = true;
    sd_event_source_set_enabled(peer->turn, SD_EVENT_ONESHOT);
}

static void flush(struct peer *peer)
{
    const ssize_t n = send(peer->fd, peer->out + peer->n_sent, n_unsent(peer), MSG_NOSIGNAL);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        peer_close(peer);
        return;
    }
    peer->n_sent += (size_t)n;
    if (n_unsent(peer) == 0) {
        free(peer->out);
        peer->out = NULL;
        peer->n_out = peer->n_sent = peer->out_size = 0;
        speak_drained(peer);
        sd_event_source_set_enabled(peer->turn, SD_EVENT_ONESHOT);
    }
    update(peer, true);
}

/* --- events --------------------------------------------------------------------------------- */

const char *peer_text(struct json_object *data, const char *key)
{
    struct json_object *value = json_object_object_get(data, key);

    return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
}

static int answer_ping(struct peer *peer, struct json_object *data)
{
    struct json_object *answer = json_object_new_object();
    const char *text = peer_text(data, "text");

    json_object_object_add(answer, "text", text ? json_object_new_string(text) : NULL);
    peer_send(peer, "pong", answer);
    return 0;
}

/* Types that nobody here knows are dropped, as the protocol wants it. */
static int dispatch(struct peer *peer, const struct wire_event *e, struct error *err)
{
    const char *type = e->type;

    if (strcmp(type, "describe") == 0)
        return info_describe(peer, err);
    if (strcmp(type, "ping") == 0)
        return answer_ping(peer, e->data);
    if (strcmp(type, "transcribe") == 0)
        return hear_transcribe(peer, e->data, err);
    if (strcmp(type, "audio-start") == 0)
        return hear_start(peer, e->data, err);
    if (strcmp(type, "audio-chunk") == 0)
        return hear_chunk(peer, e->data, e->payload, e->n_payload, err);
    if (strcmp(type, "audio-stop") == 0)
        return hear_stop(peer, err);
    if (strcmp(type, "synthesize") == 0)
        return speak_whole(peer, e->data, err);
    if (strcmp(type, "synthesize-start") == 0)
        return speak_start(peer, e->data, err);
    if (strcmp(type, "synthesize-chunk") == 0)
        return speak_chunk(peer, e->data, err);
    if (strcmp(type, "synthesize-stop") == 0)
        return speak_stop(peer, err);
    if (strcmp(type, "transcript") == 0)
        return handle_transcript(peer, e->data, err);
    if (strcmp(type, "recognize") == 0)
        return handle_recognize(peer, e->data, err);
    return 0;
}

/* Everything that has come and can be done now. */
static void take_events(struct peer *peer)
{
    bool moved = false;

    while (may_take(peer)) {
        struct wire_event event;
        struct error err = ERROR_INIT;
        int r = wire_next(&peer->wire, &event, &err);

        if (r == 0)
            break;
        if (r > 0) {
            r = dispatch(peer, &event, &err);
            wire_event_done(&event);
            moved = true;
        }
        if (r < 0)
            peer_error(peer, &err);
    }
    update(peer, moved);
}

static void receive(struct peer *peer)
{
    uint8_t scrap[4096], *room = scrap;
    size_t size = sizeof(scrap);
    ssize_t n;

    if (!peer->closing)
        room = wire_room(&peer->wire, &size);
    n = room ? recv(peer->fd, room, size, 0) : -1;
    if (n < 0 && room && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        peer_close(peer);
        return;
    }
    if (n == 0)
        peer->ended = true;
    else if (!peer->closing)
        wire_filled(&peer->wire, (size_t)n);
    take_events(peer);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct peer *peer = userdata;

    (void)source;
    (void)fd;
    if (revents & EPOLLOUT && n_unsent(peer) > 0)
        flush(peer);
    if (!peer->closed && revents & EPOLLIN)
        receive(peer);
    /* It is gone; what is under way is for nobody. */
    if (revents & (EPOLLHUP | EPOLLERR) && !(revents & EPOLLIN))
        peer_close(peer);
    return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct peer *peer = userdata;
    struct error err = ERROR_INIT;

    (void)source;
    (void)usec;
    if (peer->state == PEER_RECEIVING) {
        error_set(&err, ERROR_TIMEOUT, "An event was not whole after %d seconds.", PEER_EVENT_SEC);
        peer_error(peer, &err);
    } else {
        peer_close(peer);
    }
    return 0;
}

static void free_services(struct peer *peer)
{
    info_free(peer);
    hear_free(peer);
    speak_free(peer);
    handle_free(peer);
}

static int on_turn(sd_event_source *source, void *userdata)
{
    struct peer *peer = userdata;

    (void)source;
    if (peer->closed) {
        server_remove(peer->server, peer);
        return 0;
    }
    if (peer->closing) {
        free_services(peer);
        peer->working = false;
    }
    take_events(peer);
    return 0;
}

void peer_work(struct peer *peer)
{
    peer->working = true;
    update(peer, false);
}

void peer_done(struct peer *peer)
{
    peer->working = false;
    sd_event_source_set_enabled(peer->turn, SD_EVENT_ONESHOT);
}

struct peer *peer_new(struct server *server, int fd)
{
    struct peer *peer = calloc(1, sizeof(*peer));

    if (!peer) {
        close(fd);
        return NULL;
    }
    peer->server = server;
    peer->fd = fd;
    if (sd_event_add_io(server->event, &peer->io, fd, EPOLLIN, on_io, peer) < 0 ||
        sd_event_add_time_relative(server->event, &peer->timer, CLOCK_MONOTONIC,
                                   PEER_IDLE_SEC * 1000000ull, 0, on_timer, peer) < 0 ||
        sd_event_add_defer(server->event, &peer->turn, on_turn, peer) < 0)
        return peer_free(peer);
    return peer;
}

struct peer *peer_free(struct peer *peer)
{
    if (!peer)
        return NULL;
    free_services(peer);
    sd_event_source_disable_unref(peer->io);
    sd_event_source_disable_unref(peer->timer);
    sd_event_source_disable_unref(peer->turn);
    wire_done(&peer->wire);
    close(peer->fd);
    free(peer->out);
    free(peer);
    return NULL;
}
