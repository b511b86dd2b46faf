/* SPDX-License-Identifier: MIT */
#include "base/arena.h"

#include <assert.h>
#include <sys/mman.h>

#include "base/cleanup.h"

#define HUGE_PAGE ((size_t)2 << 20)

size_t arena_need(size_t size)
{
    return round_up(size, ARENA_ALIGN);
}

int arena_init(struct arena *arena, size_t size, const char *what, struct error *err)
{
    const size_t length = round_up(MAX(size, (size_t)1), size >= HUGE_PAGE ? HUGE_PAGE : 4096);
    void *base;

    base = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return error_set(err, ERROR_NO_MEMORY, "Cannot take %zu bytes of memory for %s.", length,
                         what);
    if (length >= HUGE_PAGE)
        madvise(base, length, MADV_HUGEPAGE); /* a hint: smaller pages are only slower */

    *arena = (struct arena){.base = base, .size = length};
    return 0;
}

void arena_done(struct arena *arena)
{
    if (arena->base)
        munmap(arena->base, arena->size);
    *arena = (struct arena){0};
}

void *arena_take(struct arena *arena, size_t size)
{
    const size_t need = arena_need(size);
    void *piece = arena->base + arena->used;

    assert(need <= arena->size - arena->used);
    arena->used += need;
    return piece;
}
