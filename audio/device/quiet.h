/* SPDX-License-Identifier: MIT */
#pragma once

/* Sends descriptor 2 to /dev/null and back, see device.h; one thread. */

#include <fcntl.h>
#include <unistd.h>

/* The descriptor to give to quiet_end(); -1 when nothing could be done. */
static inline int quiet_begin(void)
{
    const int kept = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    if (kept >= 0 && null >= 0)
        dup2(null, STDERR_FILENO);
    if (null >= 0)
        close(null);
    return kept;
}

static inline void quiet_end(int kept)
{
    if (kept < 0)
        return;
    dup2(kept, STDERR_FILENO);
    close(kept);
}
