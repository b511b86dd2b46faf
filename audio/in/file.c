/* SPDX-License-Identifier: MIT */
#include "audio/in/file.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <samplerate.h>
#include <sndfile.h>

#include "audio/in/mel.h"
#include "base/cleanup.h"

#define PIECE ((size_t)4096) /* sample frames read at a time */

struct audio_file {
    const char *name;
    int fd;
    sf_count_t size, at; /* bytes */
    SNDFILE *file;
    SF_INFO info;
    SRC_STATE *converter; /* NULL: the rate is right */
    float *piece;         /* [PIECE][channels], mono once read */
    size_t n, done;       /* of the piece */
    uint64_t n_in, n_out; /* samples so far, at its rate and at ours */
    bool ended;           /* nothing more can be read */
};

/* --- bytes: by their place, so that nobody who shares the descriptor can move us -------------- */

static sf_count_t file_size(void *userdata)
{
    const struct audio_file *f = userdata;

    return f->size;
}

static sf_count_t file_seek(sf_count_t offset, int whence, void *userdata)
{
    struct audio_file *f = userdata;
    const sf_count_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? f->at : f->size;

    if (offset < -from || offset > f->size - from)
        return -1;
    f->at = from + offset;
    return f->at;
}

static sf_count_t file_read(void *data, sf_count_t n, void *userdata)
{
    struct audio_file *f = userdata;
    ssize_t got;

    do
        got = pread(f->fd, data, n > 0 ? (size_t)n : 0, f->at);
    while (got < 0 && errno == EINTR);
    f->at += got > 0 ? got : 0;
    return got > 0 ? got : 0;
}

static sf_count_t file_write(const void *data, sf_count_t n, void *userdata)
{
    (void)data, (void)n, (void)userdata;
    return 0;
}

static sf_count_t file_tell(void *userdata)
{
    const struct audio_file *f = userdata;

    return f->at;
}

/* --- opening ---------------------------------------------------------------------------------- */

int audio_samples_check(const float *samples, size_t n, const char *name, struct error *err)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(samples[i]) <= AUDIO_SAMPLE_MAX))
            return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                             "In %s, sample %zu: expected a number around -1 to 1, found %g.",
                             name, i, (double)samples[i]);
    return 0;
}

static int check_format(const SF_INFO *info, const char *name, struct error *err)
{
    if (info->channels < 1 || info->channels > AUDIO_FILE_CHANNELS_MAX)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "%s has %d channels, expected 1 to %d.", name, info->channels,
                         AUDIO_FILE_CHANNELS_MAX);
    if (info->samplerate < AUDIO_FILE_RATE_MIN || info->samplerate > AUDIO_FILE_RATE_MAX)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "%s has %d samples a second, expected %d to %d.", name,
                         info->samplerate, AUDIO_FILE_RATE_MIN, AUDIO_FILE_RATE_MAX);
    return 0;
}

static int open_file(struct audio_file *f, struct error *err)
{
    static SF_VIRTUAL_IO io = {file_size, file_seek, file_read, file_write, file_tell};
    struct stat status;
    int r;

    if (fstat(f->fd, &status) < 0)
        return error_set(err, ERROR_IO, "%s cannot be read: %s.", f->name, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is not a regular file.", f->name);
    f->size = status.st_size;
    f->file = sf_open_virtual(&io, SFM_READ, &f->info, f);
    if (!f->file)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "%s is not a sound file of a kind that is known here: %s", f->name,
                         sf_strerror(NULL));
    r = check_format(&f->info, f->name, err);
    if (r < 0)
        return r;
    f->piece = reallocarray(NULL, PIECE * (size_t)f->info.channels, sizeof(*f->piece));
    if (f->piece && f->info.samplerate != MEL_RATE_HZ)
        f->converter = src_new(SRC_SINC_MEDIUM_QUALITY, 1, &r);
    if (!f->piece || (f->info.samplerate != MEL_RATE_HZ && !f->converter))
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the samples of %s.",
                         f->name);
    return 0;
}

struct audio_file *audio_file_open(int fd, const char *name, struct error *err)
{
    struct audio_file *f = calloc(1, sizeof(*f));

    if (!f) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for the samples of %s.", name);
        return NULL;
    }
    f->fd = fd;
    f->name = name;
    return open_file(f, err) < 0 ? audio_file_free(f) : f;
}

struct audio_file *audio_file_free(struct audio_file *f)
{
    if (!f)
        return NULL;
    if (f->file)
        sf_close(f->file);
    if (f->converter)
        src_delete(f->converter);
    free(f->piece);
    free(f);
    return NULL;
}

uint64_t audio_file_claims(const struct audio_file *f)
{
    const double n = (double)f->info.frames * MEL_RATE_HZ / f->info.samplerate;

    return n > 0 && n < 0x1p53 ? (uint64_t)n : 0;
}

/* --- reading ---------------------------------------------------------------------------------- */

/* Channels are averaged in place. */
static void mix(float *samples, size_t n, size_t n_channels)
{
    for (size_t i = 0; i < n; i++) {
        double sum = 0;

        for (size_t c = 0; c < n_channels; c++)
            sum += (double)samples[i * n_channels + c];
        samples[i] = (float)(sum / (double)n_channels);
    }
}

/* The next piece of the file. */
static int read_piece(struct audio_file *f, struct error *err)
{
    const size_t n_channels = (size_t)f->info.channels;
    const sf_count_t got = sf_readf_float(f->file, f->piece, (sf_count_t)PIECE);
    int r;

    f->done = 0;
    f->n = got > 0 ? (size_t)got : 0;
    f->ended = f->n == 0;
    if (f->ended && sf_error(f->file) != SF_ERR_NO_ERROR)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT, "%s is damaged: %s", f->name,
                         sf_strerror(f->file));
    r = audio_samples_check(f->piece, f->n * n_channels, f->name, err);
    if (r < 0)
        return r;
    mix(f->piece, f->n, n_channels);
    f->n_in += f->n;
    return 0;
}

/* Some of the piece, at our rate; after the last piece, what the converter still holds. */
static ssize_t convert(struct audio_file *f, float *samples, size_t n, struct error *err)
{
    SRC_DATA data = {
        .data_in = f->piece + f->done,
        .input_frames = (long)(f->n - f->done),
        .data_out = samples,
        .output_frames = (long)n,
        .end_of_input = f->ended,
        .src_ratio = (double)MEL_RATE_HZ / (double)f->info.samplerate,
    };
    int r;

    if (!f->converter) {
        n = MIN(n, f->n - f->done);
        memcpy(samples, f->piece + f->done, n * sizeof(*samples));
        f->done += n;
        return (ssize_t)n;
    }
    r = src_process(f->converter, &data);
    if (r != 0)
        return error_set(err, ERROR_INTERNAL, "The rate of %s cannot be converted: %s.", f->name,
                         src_strerror(r));
    f->done += (size_t)data.input_frames_used;
    return data.output_frames_gen;
}

/* As many as the time says, whatever the converter rounds to: what is still missing at the end. */
static uint64_t missing(const struct audio_file *f)
{
    const uint64_t rate = (uint64_t)f->info.samplerate;
    const uint64_t n = (f->n_in * MEL_RATE_HZ + rate - 1) / rate;

    return n > f->n_out ? n - f->n_out : 0;
}

ssize_t audio_file_pull(struct audio_file *f, float *samples, size_t n, struct error *err)
{
    ssize_t got = 0;

    n = MIN(n, PIECE);
    while (got == 0) {
        if (f->done == f->n && !f->ended) {
            const int r = read_piece(f, err);

            if (r < 0)
                return r;
        }
        got = convert(f, samples, n, err);
        if (got < 0)
            return got;
        if (f->ended && got == 0)
            break;
    }
    if (f->ended) {
        const uint64_t left = missing(f);

        if (got == 0) {
            got = (ssize_t)MIN(left, n);
            memset(samples, 0, (size_t)got * sizeof(*samples));
        }
        got = (ssize_t)MIN((uint64_t)got, left);
    }
    f->n_out += (uint64_t)got;
    return got;
}

/* Room for n more samples behind the n_samples of *samples. */
static int reserve(float **samples, size_t n_samples, size_t *capacity, size_t n, const char *name,
                   struct error *err)
{
    float *larger;

    if (n_samples + n <= *capacity)
        return 0;
    *capacity = MAX(n_samples + n, 2 * *capacity);
    larger = reallocarray(*samples, *capacity, sizeof(*larger));
    if (!larger)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the samples of %s.", name);
    *samples = larger;
    return 0;
}

static void filep(struct audio_file **file)
{
    audio_file_free(*file);
}

int audio_file_read(int fd, const char *name, size_t n_max, float **ret, size_t *ret_n,
                    struct error *err)
{
    _cleanup_(filep) struct audio_file *file = audio_file_open(fd, name, err);
    _cleanup_(freep) float *samples = NULL;
    size_t n = 0, capacity = 0;
    ssize_t got;
    int r;

    if (!file)
        return err ? error_errno(err->code) : -EINVAL;
    do {
        r = reserve(&samples, n, &capacity, PIECE, name, err);
        if (r < 0)
            return r;
        got = audio_file_pull(file, samples + n, PIECE, err);
        if (got < 0)
            return (int)got;
        n += (size_t)got;
        if (n > n_max)
            return error_set(err, ERROR_INVALID_ARGUMENT, "%s is longer than %zu seconds.", name,
                             n_max / MEL_RATE_HZ);
    } while (got > 0);
    if (n == 0)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT, "%s holds no sound.", name);
    *ret = TAKE_PTR(samples);
    *ret_n = n;
    return 0;
}
