/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Where reference inputs are: LFMD_FIXTURES, else ../shared/fixtures beside the source tree; and
 * the project's own in tests/data.
 *
 * fixture_path() and data_path() write into a static buffer (tests are one thread) and return
 * NULL when the file is absent.
 */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline const char *fixture_path(const char *name)
{
    static char path[4][4096];
    static unsigned next;
    const char *folder = getenv("LFMD_FIXTURES");
    char *out = path[next++ % 4];

    if (folder)
        snprintf(out, sizeof(path[0]), "%s/%s", folder, name);
    else
        snprintf(out, sizeof(path[0]), "%s/../shared/fixtures/%s", LFMD_SOURCE_ROOT, name);
    return access(out, R_OK) == 0 ? out : NULL;
}

static inline const char *data_path(const char *name)
{
    static char path[4][4096];
    static unsigned next;
    char *out = path[next++ % 4];

    snprintf(out, sizeof(path[0]), "%s/tests/data/%s", LFMD_SOURCE_ROOT, name);
    return access(out, R_OK) == 0 ? out : NULL;
}
