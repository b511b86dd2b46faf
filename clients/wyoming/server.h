/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Sockets that programs connect to, and those that are connected.
 *
 * Threads: main thread.
 */

#include <stdbool.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "clients/wyoming/conversations.h"

#define SERVER_ADDRESSES_MAX 8
#define SERVER_PEERS_MAX     8 /* the daemon speaks and hears for as many calls of one program */

struct intents;
struct peer;

struct server_options {
    const char *model;       /* that answers; NULL: the daemon's choice */
    const char *system;      /* what it is told first; NULL: nothing */
    struct intents *intents; /* NULL: none */
};

struct server {
    sd_event *event;
    sd_bus *bus;
    const struct server_options *options;
    struct {
        int fd;
        sd_event_source *source;
        char *path; /* of a unix socket: removed in the end */
    } addresses[SERVER_ADDRESSES_MAX];
    unsigned n_addresses;
    struct peer *peers;
    unsigned n_peers;
    struct conversations conversations;
};

/*
 * Listen at "tcp://HOST:PORT" (no host: the loopback; port 0: one that is free) or "unix:///PATH",
 * and say on standard error where.
 */
int server_listen(struct server *server, const char *uri, struct error *err);

/* A peer is gone. */
void server_remove(struct server *server, struct peer *peer);

void server_done(struct server *server);
