/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A ring of equal items from one thread to one other, without locks. Used between the callbacks of
 * the sound device and the threads that feed and drain them.
 *
 * The writer fills the next item in place, then publishes it; the reader uses the oldest item in
 * place, then gives it back:
 *
 *     item = ring_write_begin(ring);          item = ring_read_begin(ring);
 *     if (item) {                             if (item) {
 *         fill(item);                             use(item);
 *         ring_write_end(ring);                   ring_read_end(ring);
 *     }                                       }
 *
 * Indices run freely and wrap with size_t. Publishing is a release, looking an acquire; each side
 * remembers what it last saw of the other's index and looks again only when that is used up.
 *
 * Threads: ring_write_*() the writer, ring_read_*() the reader, both RT safe: no lock, no system
 * call, no page fault (all memory is touched in ring_init()). ring_n_items() any thread.
 */

#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>

#include "base/error.h"

#define RING_LINE 64 /* bytes; the sides' indices lie in lines of their own */

struct ring {
    unsigned char *items;
    size_t item_bytes, n_items; /* n_items is a power of two */

    alignas(RING_LINE) atomic_size_t n_written; /* the writer's; the reader looks */
    size_t n_read_seen;

    alignas(RING_LINE) atomic_size_t n_read; /* the reader's; the writer looks */
    size_t n_written_seen;
};

/* Room for at least n_items; each starts at a multiple of max_align_t. Memory is bounded by
 * SIZE_MAX / 2. */
int ring_init(struct ring *ring, size_t n_items, size_t item_bytes, struct error *err);
void ring_done(struct ring *ring); /* accepts a zeroed ring */

/* The item to fill, or NULL when the ring is full. */
void *ring_write_begin(struct ring *ring);
void ring_write_end(struct ring *ring);

/* The oldest item, or NULL when the ring is empty. It may be changed in place. */
void *ring_read_begin(struct ring *ring);
void ring_read_end(struct ring *ring);

/* How many items were published and not yet given back: already old when it is returned. */
size_t ring_n_items(struct ring *ring);
