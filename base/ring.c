/* SPDX-License-Identifier: MIT */
#include "base/ring.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

int ring_init(struct ring *ring, size_t n_items, size_t item_bytes, struct error *err)
{
    const size_t align = _Alignof(max_align_t);
    size_t n = 1;

    memset(ring, 0, sizeof(*ring));
    if (n_items == 0 || item_bytes == 0 || n_items > SIZE_MAX / 4 || item_bytes > SIZE_MAX / 4)
        return error_set(err, ERROR_INTERNAL, "A ring of %zu items of %zu bytes is not possible.",
                         n_items, item_bytes);
    while (n < n_items)
        n *= 2;
    item_bytes = round_up(item_bytes, align);
    if (n > SIZE_MAX / 2 / item_bytes || !(ring->items = malloc(n * item_bytes)))
        return error_set(err, ERROR_NO_MEMORY, "No memory for a ring of %zu items of %zu bytes.", n,
                         item_bytes);
    /* Every page is there before a callback comes; malloc() and memset() would become a
     * calloc(). */
    explicit_bzero(ring->items, n * item_bytes);
    ring->n_items = n;
    ring->item_bytes = item_bytes;
    return 0;
}

void ring_done(struct ring *ring)
{
    free(ring->items);
    ring->items = NULL;
}

static void *item_at(struct ring *ring, size_t index)
{
    return ring->items + (index & (ring->n_items - 1)) * ring->item_bytes;
}

void *ring_write_begin(struct ring *ring)
{
    const size_t at = atomic_load_explicit(&ring->n_written, memory_order_relaxed);

    if (at - ring->n_read_seen == ring->n_items) {
        ring->n_read_seen = atomic_load_explicit(&ring->n_read, memory_order_acquire);
        if (at - ring->n_read_seen == ring->n_items)
            return NULL;
    }
    return item_at(ring, at);
}

void ring_write_end(struct ring *ring)
{
    const size_t at = atomic_load_explicit(&ring->n_written, memory_order_relaxed);

    atomic_store_explicit(&ring->n_written, at + 1, memory_order_release);
}

void *ring_read_begin(struct ring *ring)
{
    const size_t at = atomic_load_explicit(&ring->n_read, memory_order_relaxed);

    if (at == ring->n_written_seen) {
        ring->n_written_seen = atomic_load_explicit(&ring->n_written, memory_order_acquire);
        if (at == ring->n_written_seen)
            return NULL;
    }
    return item_at(ring, at);
}

void ring_read_end(struct ring *ring)
{
    const size_t at = atomic_load_explicit(&ring->n_read, memory_order_relaxed);

    atomic_store_explicit(&ring->n_read, at + 1, memory_order_release);
}

size_t ring_n_items(struct ring *ring)
{
    /* The reader's first: read later, the difference could be below zero. */
    const size_t n_read = atomic_load_explicit(&ring->n_read, memory_order_acquire);
    const size_t n_written = atomic_load_explicit(&ring->n_written, memory_order_acquire);

    return MIN(n_written - n_read, ring->n_items);
}
