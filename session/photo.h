/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The pictures of conversations: their bytes, and a thread that gets the pixels out of them.
 *
 *     photo_new(fd) -> photos_decode() -> ... -> photo_state() is READY -> photo->image
 *         -> photo_drop()
 *
 * The bytes stay, as a sealed memfd, for as long as the photo: a picture whose pixels and rows were
 * given back can be decoded again. A photo of a kept session that was reopened has no bytes at
 * first; the thread gets them from the store.
 *
 * Threads: the photo's thread works on what was given to it, until the state changes; before and
 * after, photos belong to whoever holds them. Counts of holders and the flags are atomic.
 */

#include <json-c/json.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/queue.h"
#include "session/image_plan.h"
#include "session/store.h"
#include "vision/decoder.h"

#define PHOTO_ID_LENGTH 64 /* hex digits: SHA-256 of the bytes */

/* Of all conversations together. Pixels above their limit are given back at once: they are decoded
 * again when their turn comes. */
#define PHOTOS_MAX             512
#define PHOTO_SOURCE_BYTES_MAX ((size_t)1 << 30)
#define PHOTO_PIXEL_BYTES_MAX  ((size_t)256 << 20)

enum photo_state { PHOTO_NEW, PHOTO_DECODING, PHOTO_READY, PHOTO_FAILED };

struct photo {
    struct queue_node node;
    atomic_uint holders;
    atomic_int state;   /* enum photo_state */
    atomic_bool cancel; /* nobody waits for it any more */

    /* the photo's thread while DECODING, else whoever holds it */
    int fd; /* of the client before the first decoding, then of image_source(); -1: none */
    bool has_source;
    size_t n_bytes; /* of the source; 0: not known yet */
    char id[PHOTO_ID_LENGTH + 1];
    uint32_t width, height; /* 0 before the first decoding */
    struct image image;     /* pixels; zero: none */
    struct error error;     /* FAILED */

    /* engine thread */
    struct image_settings settings;
    bool has_plan; /* the plan stays as long as the conversation, since its tokens are there */
    struct tile_plan plan;
    bool shortened;
};

/* Takes the descriptor over, unless it fails. ERROR_BUSY when there are too many. */
struct photo *photo_new(int fd, const struct image_settings *settings, struct error *err);
struct photo *photo_ref(struct photo *photo);
struct photo *photo_unref(struct photo *photo); /* accepts and returns NULL */

static inline enum photo_state photo_state(const struct photo *photo)
{
    return (enum photo_state)atomic_load(&photo->state);
}

/*
 * A part of a message that has the photo's id and plan, and the photo that such a part stands for;
 * false or NULL on failure.
 */
bool photo_describe(const struct photo *photo, struct json_object *part);
struct photo *photo_restore(struct json_object *part, struct error *err);

/* Give back the pixels; the bytes stay. */
void photo_drop(struct photo *photo);

struct photos;

struct photos_config {
    const char *program; /* lfmd-image; NULL: image_decoder_path() */
    struct decode_limits limits;
    struct store *store;           /* NULL: no session is kept */
    void (*done)(void *userdata);  /* a state has changed; on the photo's thread */
    void *userdata;
};

/* Starts the thread. */
struct photos *photos_new(const struct photos_config *config, struct error *err);
/* Joins the thread; what is under way is finished first, unless it was cancelled. */
struct photos *photos_free(struct photos *photos);

/* Give the photo to the thread, which holds it too until the state is READY or FAILED. */
void photos_decode(struct photos *photos, struct photo *photo);
