/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Kept sessions on disk: one SQLite database in the state directory.
 *
 *     sessions(id, title, model, ...)  1 -- n  turns(session, turn, reason, messages, ...)
 *                                      1 -- n  images(session, id, bytes)
 *
 * A turn is written with its question and its session's row in one transaction, in WAL mode with
 * synchronous=FULL: when store_put() returns 0 it is on disk. The file is opened at the first need
 * and created by the first turn. A damaged database is moved aside, with a warning in the log, and
 * a new one is begun; one of a later version of this program is refused and left alone.
 *
 * Memory: what is returned belongs to the caller.
 * Threads: any; the calls take turns on one connection.
 */

#include <json-c/json.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define STORE_ID_LENGTH 32 /* hex digits */

struct store;

/* Only notes the directory, which need not exist yet. */
struct store *store_new(const char *directory, struct error *err);
struct store *store_free(struct store *store); /* accepts and returns NULL */

struct kept_session {
    char id[STORE_ID_LENGTH + 1];
    char *title;
    char *model;
    char *system, *tools, *sampling, *image; /* as in struct session_options; may be NULL */
    size_t n_context;
    bool background;
    int64_t keep_alive_sec;
    uint32_t n_dropped; /* oldest turns that are not in the prompt any more */
    size_t n_tokens;    /* of the context, after the last turn */
    uint32_t last_turn;
    int64_t created_usec;         /* CLOCK_REALTIME */
    struct json_object *messages; /* store_get(): array, without the system message */
};

void kept_session_done(struct kept_session *kept);

/* The bytes of a picture, named by their SHA-256 in hex digits. */
struct kept_image {
    const char *id;
    int fd; /* of a sealed memfd */
    size_t n_bytes;
};

struct kept_turn {
    uint32_t number;
    const char *reason;
    const char *usage;    /* JSON object */
    const char *messages; /* JSON array: question, tool results, reply */
    const struct kept_image *images; /* [n_images]: of the question */
    size_t n_images;
};

/*
 * Write a turn and the session's row (everything but `messages`).
 *
 * Nothing is written once *closed is true: -ECANCELED, without a sentence. After store_get() of a
 * session whose `closed` was set before, no turn of the earlier owner can follow.
 */
int store_put(struct store *store, const struct kept_session *session, const struct kept_turn *turn,
              const atomic_bool *closed, struct error *err);

/* A picture of any session, as a sealed memfd. ERROR_INVALID_ARGUMENT when there is none. */
int store_get_image(struct store *store, const char *id, int *ret_fd, size_t *ret_n_bytes,
                    struct error *err);

/* ERROR_INVALID_ARGUMENT for an unknown id. */
int store_get(struct store *store, const char *id, struct kept_session *ret, struct error *err);
int store_forget(struct store *store, const char *id, struct error *err);

/* Array of {id, title, model, turns, created_usec, used_usec}, the last used first. */
struct json_object *store_list(struct store *store, struct error *err);
