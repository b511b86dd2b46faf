/* SPDX-License-Identifier: MIT */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include "daemon/journal.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "base/log.h"

static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;

    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

/* The literal field name and its value as one iovec, in `text`. */
static struct iovec field(char *text, size_t size, const char *name, const char *value)
{
    int length = snprintf(text, size, "%s=%s", name, value);

    return (struct iovec){text, (size_t)length < size ? (size_t)length : size - 1};
}

static void send_to_journal(int priority, const struct log_fields *fields, const char *text)
{
    char message[2100], level[16], session[128], model[256];
    struct iovec iov[4];
    int n = 0;

    iov[n++] = field(message, sizeof(message), "MESSAGE", text);
    snprintf(level, sizeof(level), "PRIORITY=%d", priority);
    iov[n++] = (struct iovec){level, strlen(level)};
    if (fields->session)
        iov[n++] = field(session, sizeof(session), "SESSION", fields->session);
    if (fields->model)
        iov[n++] = field(model, sizeof(model), "MODEL", fields->model);
    sd_journal_sendv(iov, n);
}

void journal_setup(int max_priority)
{
    log_setup(stderr_is_journal() ? send_to_journal : NULL, max_priority);
}
