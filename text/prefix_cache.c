/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "text/sequence.h"

/*
 * Entries are few (system prompts and tool lists in use on one desktop), so a list in order of
 * last use is all the index that is needed.
 */
struct entry {
    struct entry *next;
    size_t n;       /* tokens */
    size_t bytes;   /* of ids and state */
    uint32_t *ids;  /* [n] */
    void *state;    /* [state_bytes], lfm2_export() */
    size_t state_bytes;
};

struct prefix_cache {
    struct entry *first; /* last used first */
    size_t bytes, bytes_max;
};

struct prefix_cache *prefix_cache_new(size_t bytes_max)
{
    struct prefix_cache *cache = calloc(1, sizeof(*cache));

    if (cache)
        cache->bytes_max = bytes_max;
    return cache;
}

static void entry_free(struct entry *entry)
{
    free(entry->ids);
    free(entry->state);
    free(entry);
}

struct prefix_cache *prefix_cache_free(struct prefix_cache *cache)
{
    if (!cache)
        return NULL;
    while (cache->first) {
        struct entry *entry = cache->first;

        cache->first = entry->next;
        entry_free(entry);
    }
    free(cache);
    return NULL;
}

static void move_to_front(struct prefix_cache *cache, struct entry **link)
{
    struct entry *entry = *link;

    *link = entry->next;
    entry->next = cache->first;
    cache->first = entry;
}

size_t prefix_cache_restore(struct prefix_cache *cache, struct lfm2_state *state,
                            const uint32_t *ids, size_t n, size_t n_above)
{
    struct entry **best = NULL;
    size_t n_best = n_above;

    for (struct entry **link = &cache->first; *link; link = &(*link)->next) {
        const struct entry *entry = *link;

        if (entry->n > n_best && entry->n < n && entry->n <= lfm2_state_n_context(state) &&
            memcmp(entry->ids, ids, entry->n * sizeof(*ids)) == 0) {
            best = link;
            n_best = entry->n;
        }
    }
    if (!best || lfm2_import(state, (*best)->state, (*best)->state_bytes) < 0)
        return 0;
    move_to_front(cache, best);
    return n_best;
}

static void evict_last(struct prefix_cache *cache)
{
    struct entry **link = &cache->first;

    while ((*link)->next)
        link = &(*link)->next;
    cache->bytes -= (*link)->bytes;
    entry_free(*link);
    *link = NULL;
}

void prefix_cache_store(struct prefix_cache *cache, const struct lfm2_state *state,
                        const uint32_t *ids, size_t n)
{
    const size_t state_bytes = lfm2_export_bytes(state);
    const size_t bytes = state_bytes + n * sizeof(*ids) + sizeof(struct entry);
    struct entry *entry;

    for (struct entry **link = &cache->first; *link; link = &(*link)->next) {
        if ((*link)->n == n && memcmp((*link)->ids, ids, n * sizeof(*ids)) == 0) {
            move_to_front(cache, link);
            return;
        }
    }
    if (bytes > cache->bytes_max)
        return;
    while (cache->bytes + bytes > cache->bytes_max)
        evict_last(cache);

    entry = calloc(1, sizeof(*entry));
    if (!entry)
        return;
    entry->n = n;
    entry->bytes = bytes;
    entry->state_bytes = state_bytes;
    entry->ids = malloc(n * sizeof(*ids));
    entry->state = malloc(state_bytes);
    if (!entry->ids || !entry->state) {
        entry_free(entry); /* a cache may forget */
        return;
    }
    memcpy(entry->ids, ids, n * sizeof(*ids));
    lfm2_export(state, entry->state);
    entry->next = cache->first;
    cache->first = entry;
    cache->bytes += bytes;
}
