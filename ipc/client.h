/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A peer on the bus that holds something here: sessions, turns with their streams, calls that wait
 * for an answer. It is watched, and has limits so that no client starves another.
 *
 * A client exists as long as it holds something.
 *
 * Threads: bus thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "base/error.h"

#define CLIENT_SESSIONS_MAX 16
#define CLIENT_TURNS_MAX    64                 /* queued, running, or with an unread stream */
#define CLIENT_BYTES_MAX    ((size_t)16 << 20) /* of what its turns ask */
#define CLIENT_IMAGES_MAX   32                 /* a descriptor each */
#define CLIENT_WAITING_MAX  16                 /* calls that wait for an answer */
#define CLIENT_PICTURES_MAX 8                  /* plans and descriptions under way */
#define CLIENT_VOICES_MAX   8                  /* recordings and texts to be spoken */

struct bus;

struct client {
    struct client *next;
    struct bus *bus;
    char *name; /* the unique name */
    sd_bus_track *track;

    struct turn *turns; /* session_object.c */
    struct call *calls; /* call.c */
    unsigned n_sessions, n_turns, n_images, n_waiting;
    size_t n_bytes;
};

/* The sender of a message: found, or new. New ones must be given something, or client_settle()d. */
struct client *client_get(struct bus *bus, sd_bus_message *message, struct error *err);

/* Forget the client when it holds nothing. */
void client_settle(struct client *client);

/*
 * End what the client holds and forget it: `reason` is the last line's sentence on its streams, and
 * until drain_until_usec (CLOCK_MONOTONIC) slow readers are waited for.
 */
void client_drop(struct client *client, const char *reason, uint64_t drain_until_usec);
