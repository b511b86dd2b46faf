/* SPDX-License-Identifier: MIT */
#include "vision/decoder.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/child.h"
#include "base/cleanup.h"
#include "vision/decode/result.h"

#define SEALS            (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#define CANCEL_POLL_MSEC 20

const struct decode_limits decode_limits_default = {
    .bytes_max = 64 << 20,
    .pixels_max = 100000000,
    .side_max = 32768,
    .timeout_usec = 20000000,
};

/* ---- the source ---- */

static const char *kind_of(mode_t mode)
{
    return S_ISDIR(mode)    ? "a folder"
           : S_ISFIFO(mode) ? "a pipe"
           : S_ISSOCK(mode) ? "a socket"
           : S_ISCHR(mode)  ? "a device"
           : S_ISBLK(mode)  ? "a device"
           : S_ISLNK(mode)  ? "a symbolic link"
                            : "no file";
}

static int copy(int fd, size_t size, int *ret_fd, struct error *err)
{
    _cleanup_(closep) int copy_fd = memfd_create("lfmd-picture", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    off_t offset = 0;

    if (copy_fd < 0)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the copy of a picture: %s.",
                         strerror(errno));
    while ((size_t)offset < size) {
        const ssize_t n = sendfile(copy_fd, fd, &offset, size - (size_t)offset);

        if (n < 0 && errno != EINTR)
            return error_set(err, ERROR_IO, "The picture cannot be read: %s.", strerror(errno));
        if (n == 0)
            return error_set(err, ERROR_IO, "The picture became shorter while it was read.");
    }
    if (fcntl(copy_fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) < 0)
        return error_set(err, ERROR_INTERNAL, "The copy of a picture cannot be sealed: %s.",
                         strerror(errno));
    *ret_fd = TAKE_FD(copy_fd);
    return 0;
}

int image_source(int fd, const struct decode_limits *limits, int *ret_fd, size_t *ret_bytes,
                 struct error *err)
{
    const int flags = fcntl(fd, F_GETFL);
    struct stat status;
    int seals, r;

    if (flags < 0 || fstat(fd, &status) < 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "The picture is no open file: %s.",
                         strerror(errno));
    if (!S_ISREG(status.st_mode))
        return error_set(err, ERROR_INVALID_ARGUMENT, "The picture is %s; it must be a file.",
                         kind_of(status.st_mode));
    if ((flags & O_PATH) || (flags & O_ACCMODE) == O_WRONLY)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The file of the picture is not open for reading.");
    if (status.st_size <= 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "The file of the picture is empty.");
    if ((uint64_t)status.st_size > limits->bytes_max)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The file of the picture has %" PRIu64 " bytes, %" PRIu64
                         " too many: the limit is %" PRIu64 ".",
                         (uint64_t)status.st_size, (uint64_t)status.st_size - limits->bytes_max,
                         limits->bytes_max);

    seals = fcntl(fd, F_GET_SEALS);
    if (seals >= 0 && (seals & SEALS) == SEALS) {
        *ret_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        r = *ret_fd >= 0 ? 0
                         : error_set(err, ERROR_INTERNAL, "The picture cannot be kept: %s.",
                                     strerror(errno));
    } else {
        r = copy(fd, (size_t)status.st_size, ret_fd, err);
    }
    if (r == 0)
        *ret_bytes = (size_t)status.st_size;
    return r;
}

/* ---- the child ---- */

static int64_t now_usec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int spawn(const char *program, int in, int out, const struct decode_limits *limits,
                 pid_t *ret_pid)
{
    char numbers[4][24];
    char *const arguments[] = {(char *)"lfmd-image", numbers[0], numbers[1],
                               numbers[2],           numbers[3], NULL};

    snprintf(numbers[0], sizeof(numbers[0]), "%" PRIu64, limits->bytes_max);
    snprintf(numbers[1], sizeof(numbers[1]), "%" PRIu64, limits->pixels_max);
    snprintf(numbers[2], sizeof(numbers[2]), "%" PRIu32, limits->side_max);
    /* Several threads use up more than the clock on the wall, which is the parent's to watch. */
    snprintf(numbers[3], sizeof(numbers[3]), "%" PRIi64, limits->timeout_usec / 1000000 * 2 + 1);
    return child_spawn(program, arguments, NULL, in, out, ret_pid);
}

/* Until the child has ended by itself, or must. It is reaped in any case. */
static int wait_for(pid_t pid, const struct decode_limits *limits, const atomic_bool *cancel,
                    int *ret_status, struct error *err)
{
    const int64_t end = now_usec() + limits->timeout_usec;
    _cleanup_(closep) int child = pidfd_open(pid, 0);
    int r = 0, n = 0;

    if (child < 0)
        r = error_set(err, ERROR_INTERNAL, "The picture decoder cannot be watched: %s.",
                      strerror(errno));
    while (r == 0 && n <= 0) {
        const int64_t left = end - now_usec();

        if (cancel && atomic_load_explicit(cancel, memory_order_relaxed))
            r = error_set(err, ERROR_CANCELLED, "The picture is no longer wanted.");
        else if (left <= 0)
            r = error_set(err, ERROR_TIMEOUT,
                          "The picture took more than %" PRIi64 " ms to decode, the limit.",
                          limits->timeout_usec / 1000);
        else
            n = poll(&(struct pollfd){.fd = child, .events = POLLIN}, 1,
                     (int)MIN(left / 1000 + 1, cancel ? CANCEL_POLL_MSEC : INT_MAX));
    }
    if (r < 0)
        kill(pid, SIGKILL);
    while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
        ;
    return r;
}

static int ended_badly(int status, struct error *err)
{
    const int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

    if (number == SIGXCPU)
        return error_set(err, ERROR_TIMEOUT,
                         "The picture took more processor time to decode than it may.");
    if (number)
        return error_set(err, ERROR_INTERNAL,
                         "The picture decoder was ended by signal %d (%s) at this picture.", number,
                         sigdescr_np(number));
    return error_set(err, ERROR_INTERNAL, "The picture decoder ended without a result (status %d).",
                     WEXITSTATUS(status));
}

/* What a process wrote that a picture may have taken over: each claim is compared with the file. */
static int take_result(int fd, const struct decode_limits *limits, struct image *ret,
                       struct error *err)
{
    struct result result;
    struct stat status;
    uint64_t pixels;
    size_t bytes;
    void *rgb;

    /* The child is dead and cannot have had children: nobody else holds the file. */
    if (fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) < 0 || fstat(fd, &status) < 0 ||
        pread(fd, &result, sizeof(result), 0) != (ssize_t)sizeof(result))
        return error_set(err, ERROR_INTERNAL, "The picture decoder left no result.");
    result.error.text[sizeof(result.error.text) - 1] = '\0';
    if (result.error.code > ERROR_NONE && result.error.code < _ERROR_N && result.error.text[0])
        return error_set(err, result.error.code, "%s", result.error.text);
    pixels = (uint64_t)result.width * result.height;
    bytes = image_bytes(result.width, result.height);
    if (result.error.code != ERROR_NONE || pixels == 0 || pixels > limits->pixels_max ||
        result.width > limits->side_max || result.height > limits->side_max ||
        (uint64_t)status.st_size != RESULT_PIXELS_OFFSET + bytes)
        return error_set(err, ERROR_INTERNAL, "The picture decoder left a result that is wrong.");
    rgb = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, RESULT_PIXELS_OFFSET);
    if (rgb == MAP_FAILED)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for a picture of %u x %u.",
                         result.width, result.height);
    *ret = (struct image){result.width, result.height, rgb, bytes};
    return 0;
}

int image_decode(const char *program, int fd, const struct decode_limits *limits,
                 const atomic_bool *cancel, struct image *ret, struct error *err)
{
    _cleanup_(closep) int out = memfd_create("lfmd-pixels", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int r, status = 0;
    pid_t pid;

    if (out < 0)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for a picture: %s.",
                         strerror(errno));
    r = spawn(program, fd, out, limits, &pid);
    if (r < 0)
        return error_set(err, ERROR_INTERNAL, "The picture decoder %.200s cannot be started: %s.",
                         program, strerror(-r));
    r = wait_for(pid, limits, cancel, &status, err);
    if (r < 0)
        return r;
    if (status != 0)
        return ended_badly(status, err);
    return take_result(out, limits, ret, err);
}

const char *image_decoder_path(void)
{
    return child_path("LFMD_IMAGE", "vision/decode/lfmd-image", LFMD_LIBEXECDIR);
}
