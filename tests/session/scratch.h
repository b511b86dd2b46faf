/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A directory of the test's own, removed with everything in it.
 */

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline int scratch_unlink(const char *path, const struct stat *status, int type,
                                 struct FTW *ftw)
{
    (void)status;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void scratch_remove(const char *directory)
{
    nftw(directory, scratch_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

/* path: at least 64 bytes. */
static inline void scratch_make(char *path)
{
    const char *base = getenv("TMPDIR");

    snprintf(path, 64, "%.40s/lfmd-test-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(path)) {
        perror("mkdtemp");
        exit(1);
    }
}
