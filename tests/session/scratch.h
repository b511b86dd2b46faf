/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A directory of the test's own, removed with everything in it; and random numbers.
 */

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
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

/* Another one in each run: what is killed at such a moment is to survive at all of them. */
static inline unsigned random_below(unsigned n)
{
    unsigned number;

    if (getrandom(&number, sizeof(number), 0) != sizeof(number))
        abort();
    return number % n;
}
