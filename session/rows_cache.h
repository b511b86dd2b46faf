/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Rows of pictures that were encoded, so that a picture which is asked about again is not.
 *
 * An entry belongs to a picture, a plan and a vision file (the key). Its views are filled in any
 * order. Entries in use stay; the others go, those used longest ago first, when the bytes are more
 * than the limit.
 *
 * Threads: engine thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "vision/tiles.h"

struct picture_rows {
    TAILQ_ENTRY(picture_rows) link;
    uint64_t key[2];
    unsigned n_users;
    size_t bytes;
    size_t width;    /* of a row */
    float *rows;     /* [n_image_tokens][width] */
    size_t n_views, n_done;
    size_t *first;   /* [n_views]: the first row of a view */
    bool *done;      /* [n_views] */
};

TAILQ_HEAD(picture_rows_list, picture_rows);

struct rows_cache {
    struct picture_rows_list entries; /* last used first */
    size_t bytes, bytes_max;
};

void rows_cache_init(struct rows_cache *cache, size_t bytes_max);
void rows_cache_done(struct rows_cache *cache); /* no entry may be in use */
void rows_cache_limit(struct rows_cache *cache, size_t bytes_max);

/* The entry of this key, new and empty where there is none, and in use; NULL: no memory. */
struct picture_rows *rows_cache_use(struct rows_cache *cache, const uint64_t key[2],
                                    const struct tile_plan *plan, size_t width);
/* Not in use any more by one of its users; NULL is fine. What is not complete goes at once. */
void rows_cache_release(struct rows_cache *cache, struct picture_rows *rows);
