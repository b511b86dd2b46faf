/* SPDX-License-Identifier: MIT */
#include "audio/in/file.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <samplerate.h>
#include <sndfile.h>

#include "audio/in/mel.h"
#include "base/cleanup.h"

#define PIECE ((size_t)4096) /* sample frames read at a time */

/* What a file becomes. */
struct clip {
    float *samples;
    size_t n, capacity, n_max;
};

static void clip_done(struct clip *clip)
{
    free(clip->samples);
}

static void sndfilep(SNDFILE **file)
{
    if (*file)
        sf_close(*file);
}

static void converterp(SRC_STATE **converter)
{
    if (*converter)
        src_delete(*converter);
}

int audio_samples_check(const float *samples, size_t n, const char *name, struct error *err)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(samples[i]) <= AUDIO_SAMPLE_MAX))
            return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                             "In '%s', sample %zu: expected a number around -1 to 1, found %g.",
                             name, i, (double)samples[i]);
    return 0;
}

static int too_long(const struct clip *clip, const char *name, struct error *err)
{
    return error_set(err, ERROR_INVALID_ARGUMENT, "'%s' is longer than %zu seconds.", name,
                     clip->n_max / MEL_RATE_HZ);
}

/* Room for n more samples. */
static int reserve(struct clip *clip, size_t n, const char *name, struct error *err)
{
    const size_t capacity = MAX(clip->n + n, 2 * clip->capacity);
    float *larger;

    if (clip->n + n <= clip->capacity)
        return 0;
    larger = reallocarray(clip->samples, capacity, sizeof(*larger));
    if (!larger)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the samples of '%s'.", name);
    clip->samples = larger;
    clip->capacity = capacity;
    return 0;
}

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

/* Put mono samples behind the clip, at its rate. */
static int take(struct clip *clip, SRC_STATE *converter, double ratio, const float *mono, size_t n,
                bool last, const char *name, struct error *err)
{
    SRC_DATA data = {
        .data_in = mono,
        .input_frames = (long)n,
        .end_of_input = last,
        .src_ratio = ratio,
    };
    int r;

    do {
        /* Also when nothing went in: what the converter still holds. */
        r = reserve(clip, PIECE, name, err);
        if (r < 0)
            return r;
        data.data_out = clip->samples + clip->n;
        data.output_frames = (long)(clip->capacity - clip->n);
        r = src_process(converter, &data);
        if (r != 0)
            return error_set(err, ERROR_INTERNAL, "The rate of '%s' cannot be converted: %s.", name,
                             src_strerror(r));
        clip->n += (size_t)data.output_frames_gen;
        data.data_in += data.input_frames_used;
        data.input_frames -= data.input_frames_used;
        if (clip->n > clip->n_max + PIECE)
            return too_long(clip, name, err);
    } while (data.input_frames > 0 || data.output_frames_gen > 0);
    return 0;
}

static int check_format(const SF_INFO *info, const char *name, struct error *err)
{
    if (info->channels < 1 || info->channels > AUDIO_FILE_CHANNELS_MAX)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "'%s' has %d channels, expected 1 to %d.", name, info->channels,
                         AUDIO_FILE_CHANNELS_MAX);
    if (info->samplerate < AUDIO_FILE_RATE_MIN || info->samplerate > AUDIO_FILE_RATE_MAX)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "'%s' has %d samples a second, expected %d to %d.", name,
                         info->samplerate, AUDIO_FILE_RATE_MIN, AUDIO_FILE_RATE_MAX);
    return 0;
}

/* All of an open file, piece by piece. piece: [PIECE][channels] */
static int read_all(SNDFILE *file, const SF_INFO *info, const char *name, float *piece,
                    struct clip *clip, struct error *err)
{
    const size_t n_channels = (size_t)info->channels, rate = (size_t)info->samplerate;
    const double ratio = (double)MEL_RATE_HZ / (double)rate;
    _cleanup_(converterp) SRC_STATE *converter = NULL;
    size_t n_in = 0, n_out, n;
    int r;

    if (rate != MEL_RATE_HZ) {
        converter = src_new(SRC_SINC_MEDIUM_QUALITY, 1, &r);
        if (!converter)
            return error_set(err, ERROR_NO_MEMORY, "The rate of '%s' cannot be converted: %s.",
                             name, src_strerror(r));
    }
    do {
        const sf_count_t got = sf_readf_float(file, piece, (sf_count_t)PIECE);

        n = got > 0 ? (size_t)got : 0;
        r = audio_samples_check(piece, n * n_channels, name, err);
        if (r < 0)
            return r;
        mix(piece, n, n_channels);
        n_in += n;
        if (converter) {
            r = take(clip, converter, ratio, piece, n, n == 0, name, err);
        } else {
            r = reserve(clip, n, name, err);
            if (r == 0 && n > 0)
                memcpy(clip->samples + clip->n, piece, n * sizeof(*piece));
            clip->n += r == 0 ? n : 0;
        }
        if (r == 0 && n_in / rate > clip->n_max / MEL_RATE_HZ)
            r = too_long(clip, name, err);
        if (r < 0)
            return r;
    } while (n > 0);
    if (sf_error(file) != SF_ERR_NO_ERROR)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT, "'%s' is damaged: %s", name,
                         sf_strerror(file));

    /* As many as the time says, whatever the converter rounds to. */
    n_out = (size_t)ceil((double)n_in * MEL_RATE_HZ / (double)rate);
    if (n_out > clip->n_max)
        return too_long(clip, name, err);
    if (n_out > clip->n) {
        r = reserve(clip, n_out - clip->n, name, err);
        if (r < 0)
            return r;
        memset(clip->samples + clip->n, 0, (n_out - clip->n) * sizeof(*clip->samples));
    }
    clip->n = n_out;
    return 0;
}

int audio_file_read(int fd, const char *name, size_t n_max, float **ret, size_t *ret_n,
                    struct error *err)
{
    _cleanup_(clip_done) struct clip clip = {.n_max = n_max};
    _cleanup_(sndfilep) SNDFILE *file = NULL;
    _cleanup_(freep) float *piece = NULL;
    SF_INFO info = {0};
    struct stat status;
    int r;

    if (fstat(fd, &status) < 0)
        return error_set(err, ERROR_IO, "'%s' cannot be read: %s.", name, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return error_set(err, ERROR_INVALID_ARGUMENT, "'%s' is not a regular file.", name);
    file = sf_open_fd(fd, SFM_READ, &info, false);
    if (!file)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "'%s' is not a sound file of a kind that is known here: %s", name,
                         sf_strerror(NULL));
    r = check_format(&info, name, err);
    if (r < 0)
        return r;
    piece = reallocarray(NULL, PIECE * (size_t)info.channels, sizeof(*piece));
    if (!piece)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the samples of '%s'.", name);
    r = read_all(file, &info, name, piece, &clip, err);
    if (r < 0)
        return r;
    if (clip.n == 0)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT, "'%s' holds no sound.", name);
    *ret = TAKE_PTR(clip.samples);
    *ret_n = clip.n;
    return 0;
}
