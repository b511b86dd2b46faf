/* SPDX-License-Identifier: MIT */
#include "clients/wav.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/status.h"
#include "clients/terminal.h"

#define FILE_MAX   ((size_t)64 << 20)

/* --- reading -------------------------------------------------------------------------------- */

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return le32toh(value);
}

static uint16_t get16(const uint8_t *at)
{
    uint16_t value;

    memcpy(&value, at, sizeof(value));
    return le16toh(value);
}

/* The chunk of this name; NULL: there is none. */
static const uint8_t *find_chunk(const uint8_t *file, size_t size, const char *name,
                                 size_t *ret_size)
{
    for (size_t at = 12; at + 8 <= size;) {
        const size_t n = get32(file + at + 4);

        if (memcmp(file + at, name, 4) == 0) {
            *ret_size = MIN(n, size - at - 8);
            return file + at + 8;
        }
        if (n > size - at - 8)
            return NULL;
        at += 8 + n + (n & 1);
    }
    return NULL;
}

static uint8_t *read_file(const char *path, size_t *ret_size)
{
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    _cleanup_(freep) uint8_t *file = NULL;
    struct stat st;
    size_t size = 0;
    ssize_t n = 1;

    if (fd < 0 || fstat(fd, &st) < 0) {
        terminal_error("'%s' cannot be read: %s.", path, strerror(errno));
        return NULL;
    }
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > FILE_MAX) {
        terminal_error("'%s' is no file of at most %zu MB.", path, FILE_MAX >> 20);
        return NULL;
    }
    file = malloc((size_t)st.st_size + 1);
    while (file && size < (size_t)st.st_size && n > 0) {
        n = read(fd, file + size, (size_t)st.st_size - size);
        size += n > 0 ? (size_t)n : 0;
    }
    if (!file || n < 0) {
        terminal_error("'%s' cannot be read: %s.", path, strerror(errno));
        return NULL;
    }
    *ret_size = size;
    return TAKE_PTR(file);
}

int16_t *wav_read(const char *path, size_t *ret_n, uint32_t *ret_rate_hz)
{
    size_t size, format_size = 0, data_size = 0;
    _cleanup_(freep) uint8_t *file = read_file(path, &size);
    const uint8_t *format = NULL, *data = NULL;
    int16_t *samples;

    if (!file)
        return NULL;
    if (size >= 12 && memcmp(file, "RIFF", 4) == 0 && memcmp(file + 8, "WAVE", 4) == 0) {
        format = find_chunk(file, size, "fmt ", &format_size);
        data = find_chunk(file, size, "data", &data_size);
    }
    if (!format || !data || format_size < 16 || get16(format) != 1 || get16(format + 2) != 1 ||
        get16(format + 14) != 16) {
        terminal_error("'%s' is no WAV file of 16-bit mono samples.", path);
        return NULL;
    }
    samples = malloc(data_size + 1);
    if (!samples) {
        terminal_error("There is no memory for '%s'.", path);
        return NULL;
    }
    *ret_n = data_size / sizeof(*samples);
    *ret_rate_hz = get32(format + 4);
    for (size_t i = 0; i < *ret_n; i++)
        samples[i] = (int16_t)get16(data + i * sizeof(*samples));
    return samples;
}

/* --- writing -------------------------------------------------------------------------------- */

static void put32(uint8_t *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof(value));
}

static void put16(uint8_t *at, uint16_t value)
{
    value = htole16(value);
    memcpy(at, &value, sizeof(value));
}

static bool write_all(int fd, const uint8_t *bytes, size_t n)
{
    while (n > 0) {
        const ssize_t done = write(fd, bytes, n);

        if (done < 0 && errno != EINTR)
            return false;
        bytes += done > 0 ? done : 0;
        n -= done > 0 ? (size_t)done : 0;
    }
    return true;
}

void wav_head(uint8_t head[WAV_HEAD_BYTES], uint32_t rate_hz, unsigned channels,
              unsigned sample_bytes, uint32_t n_bytes)
{
    memcpy(head, "RIFF....WAVEfmt ....................data...", WAV_HEAD_BYTES);
    put32(head + 4, n_bytes > UINT32_MAX - 36 ? UINT32_MAX : n_bytes + 36);
    put32(head + 16, 16);
    put16(head + 20, 1);
    put16(head + 22, (uint16_t)channels);
    put32(head + 24, rate_hz);
    put32(head + 28, rate_hz * channels * sample_bytes);
    put16(head + 32, (uint16_t)(channels * sample_bytes));
    put16(head + 34, (uint16_t)(8 * sample_bytes));
    put32(head + 40, n_bytes);
}

/* A length that is not known yet is as large as can be. */
static bool write_head(int fd, uint32_t n_bytes)
{
    uint8_t head[WAV_HEAD_BYTES];

    wav_head(head, WAV_OUT_RATE_HZ, 1, 2, n_bytes);
    return write_all(fd, head, sizeof(head));
}

int wav_save(int from, const char *path)
{
    const bool is_stdout = strcmp(path, "-") == 0;
    _cleanup_(closep) int to =
        is_stdout ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
                  : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    uint8_t chunk[8192];
    uint64_t total = 0;
    size_t held = 0; /* bytes: half a sample */
    bool ok = to >= 0 && write_head(to, UINT32_MAX);

    while (ok) {
        ssize_t n;

        if (terminal_wait(from, -1) < 0) {
            if (terminal_interrupts() > 0)
                return STATUS_INTERRUPTED;
            continue;
        }
        n = read(from, chunk + held, sizeof(chunk) - held);
        if (n < 0 && errno != EINTR) {
            terminal_error("The daemon cannot be heard: %s.", strerror(errno));
            return STATUS_DAEMON;
        }
        if (n == 0)
            break;
        held += n > 0 ? (size_t)n : 0;
        for (size_t i = 0; i + 1 < held; i += 2) {
            uint16_t sample;

            memcpy(&sample, chunk + i, sizeof(sample));
            put16(chunk + i, sample);
        }
        n = (ssize_t)(held & ~(size_t)1);
        ok = write_all(to, chunk, (size_t)n);
        total += (uint64_t)n;
        held -= (size_t)n;
        if (held)
            chunk[0] = chunk[n];
    }
    if (ok && lseek(to, 0, SEEK_SET) == 0) /* not into a pipe */
        ok = write_head(to, (uint32_t)MIN(total, UINT32_MAX));
    if (!ok)
        terminal_error("'%s' cannot be written: %s.", path, strerror(errno));
    return ok ? STATUS_OK : STATUS_ERROR;
}
