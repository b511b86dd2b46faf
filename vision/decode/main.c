/* SPDX-License-Identifier: MIT */

/*
 * lfmd-image: one picture, and the end.
 *
 *     lfmd-image BYTES_MAX PIXELS_MAX SIDE_MAX CPU_SECONDS <PICTURE >RESULT
 *
 * Both are regular files or memfds; the result is a struct result. Started by vision/decoder.c with
 * no environment. A crash, a kill or a limit of the kernel leaves a result without pixels, and the
 * parent sees how this process ended.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vision/decode/decode.h"
#include "vision/decode/result.h"
#include "base/sandbox.h"

/* Room for code, libraries and fonts, and for the copies of a picture that a decoder makes. */
#define MEMORY_BASE            (UINT64_C(768) << 20)
#define MEMORY_BYTES_PER_PIXEL 24

static int read_number(const char *text, uint64_t max, uint64_t *ret)
{
    char *end;

    errno = 0;
    *ret = strtoull(text, &end, 10);
    return *end || end == text || errno || *ret == 0 || *ret > max ? -EINVAL : 0;
}

static int map_source(uint64_t bytes_max, struct source *source, struct error *err)
{
    struct stat status;
    void *data;

    if (fstat(STDIN_FILENO, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size <= 0 ||
        (uint64_t)status.st_size > bytes_max)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The decoder was given something other than a file of 1 to %llu bytes.",
                         (unsigned long long)bytes_max);
    data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, STDIN_FILENO, 0);
    if (data == MAP_FAILED)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for a picture of %llu bytes.",
                         (unsigned long long)status.st_size);
    source->data = data;
    source->size = (size_t)status.st_size;
    return 0;
}

static int decode_source(const struct sandbox_limits *limits, uint64_t bytes_max,
                         struct source *source, struct image *ret, struct error *err)
{
    const struct format *format;
    int r;

    r = sandbox_limit(limits, err);
    if (r < 0)
        return r;
    r = sandbox_enter(SANDBOX_FONTS, err);
    if (r < 0)
        return r;
    r = map_source(bytes_max, source, err);
    if (r < 0)
        return r;
    format = format_find(source->data, source->size);
    if (!format)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "This is no picture of a known kind: its first bytes are those of no "
                         "picture format.");
    if (!format->draws_text) {
        r = sandbox_enter(SANDBOX_CLOSED, err);
        if (r < 0)
            return r;
    }
    return decode(format, source, ret, err);
}

static int write_all(const void *data, size_t size, off_t offset)
{
    for (size_t done = 0; done < size;) {
        const ssize_t n =
            pwrite(STDOUT_FILENO, (const char *)data + done, size - done, offset + (off_t)done);

        if (n < 0 && errno != EINTR)
            return -errno;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t bytes_max, side_max, cpu_seconds;
    struct result result = {.error = ERROR_INIT};
    struct source source = {0};
    struct image image = {0};

    /* _exit() throughout: what libraries do at the end is of no use to anybody. */
    if (argc != 5 || read_number(argv[1], INT64_MAX, &bytes_max) < 0 ||
        read_number(argv[2], UINT32_MAX, &source.pixels_max) < 0 ||
        read_number(argv[3], UINT32_MAX, &side_max) < 0 ||
        read_number(argv[4], INT32_MAX, &cpu_seconds) < 0 ||
        close_range(STDERR_FILENO + 1, ~0U, 0) < 0)
        _exit(2);
    source.side_max = (uint32_t)side_max;
    const struct sandbox_limits limits = {
        .memory_bytes = MEMORY_BASE + bytes_max + MEMORY_BYTES_PER_PIXEL * source.pixels_max,
        .output_bytes = RESULT_PIXELS_OFFSET + 3 * source.pixels_max,
        .cpu_seconds = cpu_seconds,
    };

    if (decode_source(&limits, bytes_max, &source, &image, &result.error) == 0) {
        result.width = image.width;
        result.height = image.height;
        if (write_all(image.rgb, image_bytes(image.width, image.height), RESULT_PIXELS_OFFSET) < 0)
            _exit(1);
    }
    _exit(write_all(&result, sizeof(result), 0) < 0);
}
