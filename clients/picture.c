/* SPDX-License-Identifier: MIT */
#include "clients/picture.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/bus.h"

#define COPY_MAX ((size_t)64 << 20) /* what the daemon takes */

/* What a pipe brings, in a memfd that nobody can change; -1 after a sentence. */
static int copy(int from, const char *path)
{
    _cleanup_(closep) int fd = memfd_create("picture", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    char chunk[65536];
    size_t length = 0;
    ssize_t n = -1;

    while (fd >= 0 && length <= COPY_MAX) {
        if (terminal_wait(from, -1) < 0) {
            if (terminal_interrupts() > 0)
                return -1;
            continue;
        }
        n = read(from, chunk, sizeof(chunk));
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0 || write(fd, chunk, (size_t)n) != n)
            break;
        length += (size_t)n;
    }
    if (length > COPY_MAX)
        terminal_error("'%s' is larger than %zu MB.", path, COPY_MAX >> 20);
    else if (n == 0 && fcntl(fd, F_ADD_SEALS,
                             F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0)
        return TAKE_FD(fd);
    else
        terminal_error("'%s' cannot be read: %s.", path, strerror(errno));
    return -1;
}

int pictures_add(struct pictures *pictures, const char *path)
{
    const bool is_stdin = strcmp(path, "-") == 0;
    /* A named pipe without a writer is waited for in copy(), where Ctrl-C ends that. */
    _cleanup_(closep) int fd = is_stdin ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                                        : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    if (pictures->n == IMAGES_MAX) {
        terminal_error("More than %d pictures do not go with one question.", IMAGES_MAX);
        return STATUS_USAGE;
    }
    if (fd < 0 || fstat(fd, &st) < 0) {
        terminal_error("'%s' cannot be read: %s.", path, strerror(errno));
        return STATUS_ERROR;
    }
    if (S_ISDIR(st.st_mode)) {
        terminal_error("'%s' is a folder, not a picture.", path);
        return STATUS_ERROR;
    }
    if (S_ISREG(st.st_mode) && !is_stdin)
        pictures->fds[pictures->n] = TAKE_FD(fd);
    else
        pictures->fds[pictures->n] = copy(fd, path);
    if (pictures->fds[pictures->n] < 0)
        return terminal_interrupts() > 0 ? STATUS_INTERRUPTED : STATUS_ERROR;
    pictures->n++;
    return STATUS_OK;
}

void pictures_done(struct pictures *pictures)
{
    for (unsigned i = 0; i < pictures->n; i++)
        close(pictures->fds[i]);
    pictures->n = 0;
}

int pictures_append_settings(sd_bus_message *m, const struct options *o)
{
    const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {
        {"min_image_tokens", o->min_image_tokens}, {"max_image_tokens", o->max_image_tokens},
        {"min_tiles", o->min_tiles},               {"max_tiles", o->max_tiles},
        {"max_encode_ms", o->max_encode_ms},
    };
    int r = o->detail ? bus_option(m, "detail", "s", o->detail) : 0;

    for (size_t i = 0; i < ARRAY_LEN(numbers) && r >= 0; i++)
        if (numbers[i].value)
            r = bus_option(m, numbers[i].key, "u", &numbers[i].value);
    if (r >= 0 && o->no_tiling)
        r = bus_option(m, "tiling", "b", &(int){0});
    if (r >= 0 && o->no_thumbnail)
        r = bus_option(m, "thumbnail", "b", &(int){0});
    return r;
}
