/* SPDX-License-Identifier: MIT */
#include "session/rows_cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

void rows_cache_init(struct rows_cache *cache, size_t bytes_max)
{
    TAILQ_INIT(&cache->entries);
    cache->bytes = 0;
    cache->bytes_max = bytes_max;
}

static struct picture_rows *rows_free(struct picture_rows *rows)
{
    free(rows->rows);
    free(rows->first);
    free(rows->done);
    free(rows);
    return NULL;
}

static void forget(struct rows_cache *cache, struct picture_rows *rows)
{
    TAILQ_REMOVE(&cache->entries, rows, link);
    cache->bytes -= rows->bytes;
    rows_free(rows);
}

void rows_cache_limit(struct rows_cache *cache, size_t bytes_max)
{
    struct picture_rows *rows = TAILQ_LAST(&cache->entries, picture_rows_list);

    cache->bytes_max = bytes_max;
    while (rows && cache->bytes > bytes_max) {
        struct picture_rows *newer = TAILQ_PREV(rows, picture_rows_list, link);

        if (rows->n_users == 0)
            forget(cache, rows);
        rows = newer;
    }
}

void rows_cache_done(struct rows_cache *cache)
{
    rows_cache_limit(cache, 0);
}

static struct picture_rows *find(const struct rows_cache *cache, const uint64_t key[2])
{
    struct picture_rows *rows;

    TAILQ_FOREACH(rows, &cache->entries, link)
    if (rows->key[0] == key[0] && rows->key[1] == key[1])
        return rows;
    return NULL;
}

static struct picture_rows *rows_new(const uint64_t key[2], const struct tile_plan *plan,
                                     size_t width)
{
    struct picture_rows *rows = calloc(1, sizeof(*rows));
    size_t first = 0;

    if (!rows)
        return NULL;
    memcpy(rows->key, key, sizeof(rows->key));
    rows->width = width;
    rows->n_views = plan->n_views;
    rows->bytes = plan->n_image_tokens * width * sizeof(*rows->rows);
    rows->rows = malloc(rows->bytes);
    rows->first = calloc(plan->n_views, sizeof(*rows->first));
    rows->done = calloc(plan->n_views, sizeof(*rows->done));
    if (!rows->rows || !rows->first || !rows->done)
        return rows_free(rows);
    for (size_t i = 0; i < plan->n_views; i++) {
        rows->first[i] = first;
        first += tile_view(plan, i).n_tokens;
    }
    return rows;
}

struct picture_rows *rows_cache_use(struct rows_cache *cache, const uint64_t key[2],
                                    const struct tile_plan *plan, size_t width)
{
    struct picture_rows *rows = find(cache, key);

    if (rows) {
        TAILQ_REMOVE(&cache->entries, rows, link);
    } else {
        rows = rows_new(key, plan, width);
        if (!rows)
            return NULL;
        cache->bytes += rows->bytes;
    }
    TAILQ_INSERT_HEAD(&cache->entries, rows, link);
    rows->n_users++;
    rows_cache_limit(cache, cache->bytes_max);
    return rows;
}

void rows_cache_release(struct rows_cache *cache, struct picture_rows *rows)
{
    if (!rows || --rows->n_users > 0)
        return;
    if (rows->n_done < rows->n_views)
        forget(cache, rows);
    else
        rows_cache_limit(cache, cache->bytes_max);
}
