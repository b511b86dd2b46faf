/* SPDX-License-Identifier: MIT */
/*
 * mel, audio-encode, audio-embed: the way of speech into the model, step by step.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "audio/in/encoder.h"
#include "audio/in/file.h"
#include "base/cleanup.h"
#include "tools/run.h"

#define SAMPLES_MAX ((AUDIO_FRAMES_MAX - 1) * MEL_HOP)

/* --- sounds ----------------------------------------------------------------------------------- */

/* Raw samples, as the engine has them. */
static int read_raw(int fd, const char *path, float **ret, size_t *ret_n, struct error *err)
{
    _cleanup_(freep) float *samples = NULL;
    struct stat status;
    size_t n, bytes = 0;
    ssize_t some;
    int r;

    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        return error_set(err, ERROR_INVALID_ARGUMENT, "'%s' is not a regular file.", path);
    if (status.st_size == 0 || status.st_size % (off_t)sizeof(float) != 0)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "'%s': expected samples of 4 bytes, found %jd bytes.", path,
                         (intmax_t)status.st_size);
    n = (size_t)status.st_size / sizeof(float);
    if (n > SAMPLES_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "'%s' is longer than %zu seconds.", path,
                         SAMPLES_MAX / MEL_RATE_HZ);
    samples = run_take_floats(n, 1, err);
    if (!samples)
        return -ENOMEM;
    do {
        some = read(fd, (char *)samples + bytes, n * sizeof(*samples) - bytes);
        bytes += some > 0 ? (size_t)some : 0;
    } while (some > 0);
    if (some < 0 || bytes < n * sizeof(*samples))
        return error_set(err, ERROR_IO, "'%s' cannot be read: %s.", path,
                         some < 0 ? strerror(errno) : "it became shorter");
    r = audio_samples_check(samples, n, path, err);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(samples);
    *ret_n = n;
    return 0;
}

int run_sound(const char *path, float **ret, size_t *ret_n, struct error *err)
{
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    const char *dot = strrchr(path, '.');

    if (fd < 0)
        return error_set(err, ERROR_IO, "The sound '%s' cannot be opened: %s.", path,
                         strerror(errno));
    if (dot && strcmp(dot, ".f32") == 0)
        return read_raw(fd, path, ret, ret_n, err);
    return audio_file_read(fd, path, SAMPLES_MAX, ret, ret_n, err);
}

static void melp(struct mel **mel)
{
    mel_free(*mel);
}

int run_features(const char *path, size_t n_mels, float **ret, size_t *ret_n_frames,
                 struct error *err)
{
    _cleanup_(melp) struct mel *mel = NULL;
    _cleanup_(freep) float *samples = NULL, *features = NULL;
    size_t n;
    int r = run_sound(path, &samples, &n, err);

    if (r < 0)
        return r;
    mel = mel_new(n_mels, n, err);
    features = mel ? run_take_floats(n_mels, mel_n_frames(n), err) : NULL;
    if (!features)
        return -ENOMEM;
    mel_push(mel, samples, n);
    mel_features(mel, features);
    *ret = TAKE_PTR(features);
    *ret_n_frames = mel_n_frames(n);
    return 0;
}

/* --- verbs ------------------------------------------------------------------------------------ */

static int run_mel(const struct run_options *options, struct error *err)
{
    _cleanup_(freep) float *features = NULL;
    const char *in, *out;
    size_t n_frames;
    int r = run_need(options, "in", &in, err);

    if (r == 0)
        r = run_need(options, "out", &out, err);
    if (r == 0)
        r = run_features(in, MEL_BINS, &features, &n_frames, err);
    return r < 0 ? r : run_write_floats(out, features, MEL_BINS * n_frames, err);
}

static void poolp(struct pool **pool)
{
    pool_free(*pool);
}

static void encoderp(struct audio_encoder **encoder)
{
    audio_encoder_free(*encoder);
}

/* rows of the encoder, or of the adapter */
static int run_encoder(const struct run_options *options, bool adapt, struct error *err)
{
    _cleanup_(poolp) struct pool *pool = NULL;
    _cleanup_(encoderp) struct audio_encoder *encoder = NULL;
    _cleanup_(freep) float *features = NULL, *rows = NULL;
    const char *in, *out, *path;
    const struct audio_shape *shape;
    size_t n_frames, n, width;
    int r = run_need(options, "mmproj", &path, err);

    if (r == 0)
        r = run_need(options, "in", &in, err);
    if (r == 0)
        r = run_need(options, "out", &out, err);
    if (r < 0)
        return r;
    pool = pool_new(options->n_threads, err);
    encoder = pool ? audio_encoder_load(path, run_flag(options, "precise"), pool, err) : NULL;
    if (!encoder)
        return -EINVAL;
    shape = &audio_encoder_info(encoder)->shape;
    r = run_features(in, shape->n_mels, &features, &n_frames, err);
    if (r < 0)
        return r;
    n = audio_encoder_rows(n_frames);
    width = adapt ? shape->n_embd : shape->n_hidden;
    rows = run_take_floats(n, width, err);
    if (!rows)
        return -ENOMEM;
    r = audio_encode(encoder, features, n_frames, NULL, adapt ? rows : NULL, adapt ? NULL : rows,
                     err);
    return r < 0 ? r : run_write_floats(out, rows, n * width, err);
}

static int run_encode(const struct run_options *options, struct error *err)
{
    return run_encoder(options, false, err);
}

static int run_embed(const struct run_options *options, struct error *err)
{
    return run_encoder(options, true, err);
}

const struct run_verb run_audio_verbs[] = {
    {"mel", "in= out=", run_mel},
    {"audio-encode", "mmproj= in= out=", run_encode},
    {"audio-embed", "mmproj= in= out=", run_embed},
    {NULL, NULL, NULL},
};
