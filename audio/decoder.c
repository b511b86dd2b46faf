/* SPDX-License-Identifier: MIT */
#include "audio/decoder.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "audio/decode/stream.h"
#include "base/child.h"
#include "base/cleanup.h"

#define SILENCE_MSEC     20000 /* of the child, before it is given up */
#define CANCEL_POLL_MSEC 20

struct sound_decoder {
    pid_t pid;
    int pipe;
    uint64_t claim;
    size_t n_left; /* samples of the present piece */
    bool ended;
};

static int check_source(int fd, struct error *err)
{
    const int flags = fcntl(fd, F_GETFL);
    struct stat status;

    if (flags < 0 || fstat(fd, &status) < 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "The recording is no open file: %s.",
                         strerror(errno));
    if (!S_ISREG(status.st_mode))
        return error_set(err, ERROR_INVALID_ARGUMENT, "The recording must be a file.");
    if ((flags & O_PATH) || (flags & O_ACCMODE) == O_WRONLY)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The file of the recording is not open for reading.");
    if (status.st_size <= 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "The file of the recording is empty.");
    return 0;
}

struct sound_decoder *sound_decoder_new(const char *program, int fd, struct error *err)
{
    char *const arguments[] = {(char *)"lfmd-sound", NULL};
    struct sound_decoder *decoder;
    int ends[2], r;

    if (check_source(fd, err) < 0)
        return NULL;
    decoder = calloc(1, sizeof(*decoder));
    if (!decoder) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for a recording.");
        return NULL;
    }
    if (pipe2(ends, O_CLOEXEC) < 0) {
        error_set(err, ERROR_IO, "There is no pipe for a recording: %s.", strerror(errno));
        free(decoder);
        return NULL;
    }
    r = child_spawn(program, arguments, NULL, fd, ends[1], &decoder->pid);
    close(ends[1]);
    decoder->pipe = ends[0];
    if (r < 0) {
        error_set(err, ERROR_INTERNAL, "The sound decoder %.200s cannot be started: %s.", program,
                  strerror(-r));
        decoder->pid = 0;
        return sound_decoder_free(decoder);
    }
    return decoder;
}

/* How the child ended. */
static int reap(struct sound_decoder *decoder)
{
    int status = 0;

    while (waitpid(decoder->pid, &status, 0) < 0 && errno == EINTR)
        ;
    decoder->pid = 0;
    return status;
}

struct sound_decoder *sound_decoder_free(struct sound_decoder *decoder)
{
    if (!decoder)
        return NULL;
    if (decoder->pid > 0) {
        kill(decoder->pid, SIGKILL);
        reap(decoder);
    }
    close(decoder->pipe);
    free(decoder);
    return NULL;
}

static int ended_badly(struct sound_decoder *decoder, struct error *err)
{
    const int status = decoder->pid > 0 ? reap(decoder) : 0;
    const int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

    if (number == SIGXCPU)
        return error_set(err, ERROR_TIMEOUT,
                         "The recording took more processor time to decode than it may.");
    if (number)
        return error_set(err, ERROR_INTERNAL,
                         "The sound decoder was ended by signal %d (%s) at this recording.", number,
                         sigdescr_np(number));
    return error_set(err, ERROR_INTERNAL, "The sound decoder ended without a result (status %d).",
                     WEXITSTATUS(status));
}

/* Some bytes, at least one. */
static ssize_t read_some(struct sound_decoder *decoder, void *data, size_t size,
                         const atomic_bool *cancel, struct error *err)
{
    for (int waited = 0;; waited += CANCEL_POLL_MSEC) {
        struct pollfd pipe = {.fd = decoder->pipe, .events = POLLIN};
        ssize_t n;

        if (cancel && atomic_load_explicit(cancel, memory_order_relaxed))
            return error_set(err, ERROR_CANCELLED, "The recording is no longer wanted.");
        if (waited >= SILENCE_MSEC)
            return error_set(err, ERROR_TIMEOUT, "Nothing came of the recording for %d seconds.",
                             SILENCE_MSEC / 1000);
        if (poll(&pipe, 1, CANCEL_POLL_MSEC) <= 0)
            continue;
        n = read(decoder->pipe, data, size);
        if (n > 0)
            return n;
        if (n == 0)
            return ended_badly(decoder, err);
        if (errno != EINTR)
            return error_set(err, ERROR_IO, "The recording cannot be read: %s.", strerror(errno));
    }
}

static int read_all(struct sound_decoder *decoder, void *data, size_t size,
                    const atomic_bool *cancel, struct error *err)
{
    for (size_t done = 0; done < size;) {
        const ssize_t n = read_some(decoder, (char *)data + done, size - done, cancel, err);

        if (n < 0)
            return (int)n;
        done += (size_t)n;
    }
    return 0;
}

static int wrong(struct error *err)
{
    return error_set(err, ERROR_INTERNAL, "The sound decoder says what makes no sense.");
}

/* Up to the next samples, or the end. What comes was written by a process that a recording may have
 * taken over. */
static int next_piece(struct sound_decoder *decoder, const atomic_bool *cancel, struct error *err)
{
    struct sound_head head;
    struct error theirs;
    int r = read_all(decoder, &head, sizeof(head), cancel, err);

    if (r < 0)
        return r;
    switch (head.piece) {
    case SOUND_CLAIM:
        return head.n == 1 ? read_all(decoder, &decoder->claim, sizeof(decoder->claim), cancel, err)
                           : wrong(err);
    case SOUND_SAMPLES:
        decoder->n_left = head.n;
        return head.n > 0 && head.n <= SOUND_PIECE_MAX ? 0 : wrong(err);
    case SOUND_END:
        decoder->ended = true;
        return 0;
    case SOUND_ERROR:
        r = head.n == 1 ? read_all(decoder, &theirs, sizeof(theirs), cancel, err) : wrong(err);
        if (r < 0)
            return r;
        theirs.text[sizeof(theirs.text) - 1] = '\0';
        if (theirs.code > ERROR_NONE && theirs.code < _ERROR_N && theirs.text[0])
            return error_set(err, theirs.code, "%s", theirs.text);
        break;
    }
    return wrong(err);
}

ssize_t sound_decoder_read(struct sound_decoder *decoder, float *samples, size_t n,
                           const atomic_bool *cancel, struct error *err)
{
    int r;

    while (decoder->n_left == 0 && !decoder->ended) {
        r = next_piece(decoder, cancel, err);
        if (r < 0)
            return r;
    }
    if (decoder->ended)
        return 0;
    n = MIN(n, decoder->n_left);
    r = read_all(decoder, samples, n * sizeof(*samples), cancel, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(samples[i]))
            return wrong(err);
    decoder->n_left -= n;
    return (ssize_t)n;
}

uint64_t sound_decoder_claims(const struct sound_decoder *decoder)
{
    return decoder->claim;
}

const char *sound_decoder_path(void)
{
    return child_path("LFMD_SOUND", "audio/decode/lfmd-sound", LFMD_LIBEXECDIR);
}
