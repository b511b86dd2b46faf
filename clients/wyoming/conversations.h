/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Conversations that outlive a connection: Home Assistant connects anew for each sentence and says
 * by "conversation_id" what it belongs to. Each is a session of the daemon.
 *
 * Threads: main thread.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#define CONVERSATIONS_MAX    8   /* the longest unused one makes room */
#define CONVERSATION_SEC     600 /* unused, then it is closed */
#define CONVERSATION_ID_MAX  128 /* bytes */

struct conversation {
    char id[CONVERSATION_ID_MAX + 1]; /* "": of one sentence only */
    char *path;                       /* of the session; NULL: this place is free */
    uint64_t used_usec;
    bool busy;
};

/* Zeroed is none. */
struct conversations {
    sd_bus *bus;
    sd_event_source *timer;
    struct conversation items[CONVERSATIONS_MAX];
};

int conversations_init(struct conversations *conversations, sd_bus *bus);
void conversations_done(struct conversations *conversations);

/* NULL: there is none of this name. */
struct conversation *conversations_find(struct conversations *conversations, const char *id);

/* A session has been made; it is busy. NULL: all are busy, or there is no memory. */
struct conversation *conversations_add(struct conversations *conversations, const char *id,
                                       const char *path);

/* What was asked is answered; keep false: close it. */
void conversations_release(struct conversations *conversations, struct conversation *conversation,
                           bool keep);
