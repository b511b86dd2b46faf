/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One program that is connected: its events come in, are done one after the other, and are
 * answered.
 *
 * While one is under way nothing more is read, so that a program that sends faster than it is
 * served waits. Whoever does not end what it began to send, reads nothing of what it asked for, or
 * sends nothing at all for long is let go. So is whoever is told an error: programs that look for
 * their answer alone would wait for it without end.
 *
 * Flow:     socket -> wire -> peer -> info, hear, speak or handle -> peer_send() -> socket
 * Threads:  main thread
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "clients/wyoming/wire.h"

#define PEER_EVENT_SEC 30  /* from the first byte of an event to its last */
#define PEER_STUCK_SEC 60  /* in which nothing of what it asked for is read */
#define PEER_IDLE_SEC  600 /* without an event */
#define PEER_END_SEC   5   /* to read its last */

struct handling;
struct recording;
struct server;
struct speech;

/* What a peer waits for. */
enum peer_state {
    PEER_IDLE,
    PEER_RECEIVING, /* part of an event */
    PEER_WORKING,
    PEER_SENDING,
    PEER_ENDING, /* it has been told the last; what it still sends is not read */
};

struct peer {
    struct peer *next;
    struct server *server;
    int fd;
    sd_event_source *io, *timer, *turn;
    struct wire wire;
    enum peer_state state;
    bool working;
    bool ended;   /* it sends no more */
    bool closing; /* once all is sent */
    bool closed;  /* nothing of it is touched but by peer_free() */

    uint8_t *out; /* what is to be sent */
    size_t n_out, n_sent, out_size;

    /* each its service's own, NULL: none */
    sd_bus_slot *describing;
    struct recording *recording;
    struct speech *speech;
    struct handling *handling;
};

/* Takes the socket; NULL when there is no memory. */
struct peer *peer_new(struct server *server, int fd);
struct peer *peer_free(struct peer *peer);

/* An event for it; data is taken, NULL: none. */
void peer_send(struct peer *peer, const char *type, struct json_object *data);
void peer_send_bytes(struct peer *peer, const char *type, struct json_object *data,
                     const void *payload, size_t n_payload);
/* The last that it is told. */
void peer_error(struct peer *peer, const struct error *error);

/*
 * So much waits to be sent that more should not be made; the speech service is told when it is
 * gone.
 */
bool peer_is_full(const struct peer *peer);

/* What was asked for is under way, until peer_done(). */
void peer_work(struct peer *peer);
void peer_done(struct peer *peer);

/* A string in the data of an event; NULL when it is absent or something else. */
const char *peer_text(struct json_object *data, const char *key);
