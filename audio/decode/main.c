/* SPDX-License-Identifier: MIT */

/*
 * lfmd-sound: one sound file to samples, and the end.
 *
 *     lfmd-sound <FILE >PIPE
 *
 * The file is a regular one or a memfd; the pipe gets 16 kHz mono samples in pieces (stream.h).
 * Started by audio/decoder.c with no environment. A crash, a kill or a limit of the kernel leaves a
 * stream without an end, and the parent sees how this process ended.
 */

#include <errno.h>
#include <unistd.h>

#include "audio/decode/stream.h"
#include "audio/in/file.h"
#include "base/sandbox.h"

static const struct sandbox_limits limits = {
    .memory_bytes = UINT64_C(512) << 20,
    .output_bytes = 4096, /* nothing is written but the pipe */
    .cpu_seconds = 3600,  /* a day of sound */
};

static int write_all(const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        const ssize_t n = write(STDOUT_FILENO, (const char *)data + done, size - done);

        if (n < 0 && errno != EINTR)
            return -errno;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int put(enum sound_piece piece, const void *data, size_t size, size_t n)
{
    const struct sound_head head = {.piece = piece, .n = (uint32_t)n};
    const int r = write_all(&head, sizeof(head));

    return r < 0 ? r : write_all(data, size * n);
}

/* 0, or an error to be told; the parent's going away is none. */
static int decode(struct error *err)
{
    static float samples[SOUND_PIECE_MAX];
    struct audio_file *file;
    uint64_t claim;
    ssize_t n;

    if (sandbox_limit(&limits, err) < 0 || sandbox_enter(SANDBOX_CLOSED, err) < 0)
        return -EPERM;
    file = audio_file_open(STDIN_FILENO, "The recording", err);
    if (!file)
        return -EINVAL;
    claim = audio_file_claims(file);
    if (put(SOUND_CLAIM, &claim, sizeof(claim), 1) < 0)
        _exit(1);
    while ((n = audio_file_pull(file, samples, SOUND_PIECE_MAX, err)) > 0)
        if (put(SOUND_SAMPLES, samples, sizeof(samples[0]), (size_t)n) < 0)
            _exit(1);
    return (int)n;
}

int main(void)
{
    struct error err = ERROR_INIT;

    /* _exit() throughout: what libraries do at the end is of no use to anybody. */
    if (close_range(STDERR_FILENO + 1, ~0U, 0) < 0)
        _exit(2);
    if (decode(&err) < 0)
        _exit(put(SOUND_ERROR, &err, sizeof(err), 1) < 0);
    _exit(put(SOUND_END, NULL, 0, 0) < 0);
}
