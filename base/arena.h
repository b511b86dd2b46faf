/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A block of memory that is planned, taken once, and handed out front to back.
 *
 * A _plan() pass adds up arena_need() of every buffer; arena_init() takes that many bytes; the
 * buffers are then carved with arena_take(), which cannot fail when the plan was right (asserted).
 * Large arenas ask for 2 MB pages: sequential reads gain about 10 % from them.
 *
 * Memory: zero-filled, every piece aligned to ARENA_ALIGN.
 * Threads: one owner at a time.
 */

#include <stddef.h>

#include "base/error.h"

#define ARENA_ALIGN 64

struct arena {
    unsigned char *base;
    size_t size;
    size_t used;
};

/* Bytes that a piece of `size` bytes takes from an arena. */
size_t arena_need(size_t size);

/* 0, or -ENOMEM with the wanted size in the sentence. `what` names the arena in it. */
int arena_init(struct arena *arena, size_t size, const char *what, struct error *err);
void arena_done(struct arena *arena); /* accepts a zeroed arena */

void *arena_take(struct arena *arena, size_t size);
