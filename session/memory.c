/* SPDX-License-Identifier: MIT */
#include "session/memory.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static void fclosep(FILE **file)
{
    if (*file)
        fclose(*file);
}

/* The number that follows `key` at the beginning of a line; key "" is the first line. */
static bool read_number(const char *path, const char *key, uint64_t *ret)
{
    _cleanup_(fclosep) FILE *file = fopen(path, "re");
    char line[256];

    while (file && fgets(line, sizeof(line), file)) {
        if (strncmp(line, key, strlen(key)) == 0)
            return sscanf(line + strlen(key), " %" SCNu64, ret) == 1; /* "max" is no number */
    }
    return false;
}

static uint64_t minus(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* What one group leaves; UINT64_MAX when it sets no limit. */
static uint64_t group_available(const char *root, const char *group)
{
    static const char *const limits[] = {"memory.max", "memory.high"};
    static const char *const caches[] = {"inactive_file ", "active_file "};
    uint64_t limit = UINT64_MAX, used, cache;
    char path[PATH_MAX];

    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        uint64_t one;

        snprintf(path, sizeof(path), "%s/sys/fs/cgroup%s/%s", root, group, limits[i]);
        if (read_number(path, "", &one))
            limit = MIN(limit, one);
    }
    snprintf(path, sizeof(path), "%s/sys/fs/cgroup%s/memory.current", root, group);
    if (limit == UINT64_MAX || !read_number(path, "", &used))
        return UINT64_MAX;
    snprintf(path, sizeof(path), "%s/sys/fs/cgroup%s/memory.stat", root, group);
    for (size_t i = 0; i < ARRAY_LEN(caches); i++)
        if (read_number(path, caches[i], &cache))
            used = minus(used, cache);
    return minus(limit, used);
}

/* The group of this process, "/user.slice/..."; without the slash of the root. */
static void read_group(const char *root, char *out, size_t size)
{
    char path[PATH_MAX], line[PATH_MAX];
    _cleanup_(fclosep) FILE *file = NULL;

    out[0] = '\0';
    snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file)) {
        if (strncmp(line, "0::/", 4) != 0)
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(out, size, "%s", strcmp(line, "0::/") == 0 ? "" : line + 3);
    }
}

uint64_t memory_available_under(const char *root)
{
    char path[PATH_MAX], group[PATH_MAX];
    uint64_t available = UINT64_MAX, kib;

    snprintf(path, sizeof(path), "%s/proc/meminfo", root);
    if (read_number(path, "MemAvailable:", &kib))
        available = kib * 1024;

    read_group(root, group, sizeof(group));
    for (;;) {
        const uint64_t left = group_available(root, group);
        char *slash = strrchr(group, '/');

        available = MIN(available, left);
        if (!slash)
            return available;
        *slash = '\0';
    }
}

uint64_t memory_available(void)
{
    return memory_available_under("");
}

const char *memory_text(uint64_t bytes, char out[MEMORY_TEXT_MAX])
{
    if (bytes >= UINT64_C(1000000000))
        snprintf(out, MEMORY_TEXT_MAX, "%.1f GB", (double)bytes / 1e9);
    else
        snprintf(out, MEMORY_TEXT_MAX, "%.1f MB", (double)bytes / 1e6);
    return out;
}
