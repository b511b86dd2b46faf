/* SPDX-License-Identifier: MIT */
#include "audio/in/mel.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "audio/fft.h"
#include "base/cleanup.h"

#define WINDOW   400 /* samples that a frame looks at: MEL_HOP * t - 200 .. MEL_HOP * t + 199 */
#define FFT      512
#define N_BINS   (FFT / 2 + 1)
#define PREEMPH  0.97f
#define GUARD    0x1p-24f
#define STD_MORE 1e-5

struct triangle {
    size_t first, n;      /* bins with a weight */
    float weight[N_BINS]; /* [n] */
};

struct mel {
    size_t n_mels, n_samples_max;
    size_t n_samples;      /* pushed */
    size_t n_final;        /* frames in logs */
    float last;            /* sample */
    float pending[WINDOW]; /* emphasised samples of the next frame's window */
    size_t n_pending;
    float hann[WINDOW];
    struct fft *fft;
    struct triangle *filters; /* [n_mels] */
    float *logs;              /* [frames][n_mels] */
};

/* --- tables ----------------------------------------------------------------------------------- */

static double mel_of_hz(double hz)
{
    return hz < 1000 ? hz * 3 / 200 : 15 + 27 * log(hz / 1000) / log(6.4);
}

static double hz_of_mel(double mel)
{
    return mel < 15 ? mel * 200 / 3 : 1000 * exp((mel - 15) * log(6.4) / 27);
}

static void set_filters(struct mel *mel)
{
    const double step = mel_of_hz(MEL_RATE_HZ / 2.0) / (double)(mel->n_mels + 1);

    for (size_t m = 0; m < mel->n_mels; m++) {
        struct triangle *const filter = &mel->filters[m];
        const double left = hz_of_mel(step * (double)m), top = hz_of_mel(step * (double)(m + 1));
        const double right = hz_of_mel(step * (double)(m + 2));

        for (size_t k = 0; k < N_BINS; k++) {
            const double hz = (double)k * MEL_RATE_HZ / FFT;
            const double height = fmin((hz - left) / (top - left), (right - hz) / (right - top));

            if (height <= 0)
                continue;
            if (filter->n == 0)
                filter->first = k;
            filter->weight[filter->n++] = (float)(height * 2 / (right - left));
        }
    }
}

struct mel *mel_new(size_t n_mels, size_t n_samples_max, struct error *err)
{
    struct mel *mel = calloc(1, sizeof(*mel));

    if (mel) {
        mel->n_mels = n_mels;
        mel->n_samples_max = n_samples_max;
        mel->fft = fft_new(FFT, err);
        mel->filters = calloc(n_mels, sizeof(*mel->filters));
        mel->logs = reallocarray(NULL, mel_n_frames(n_samples_max), n_mels * sizeof(*mel->logs));
    }
    if (!mel || !mel->fft || !mel->filters || !mel->logs) {
        error_set(err, ERROR_NO_MEMORY, "Cannot take memory for the features of %zu seconds.",
                  n_samples_max / MEL_RATE_HZ);
        return mel_free(mel);
    }
    for (size_t i = 0; i < WINDOW; i++)
        mel->hann[i] = (float)(0.5 - 0.5 * cos(2 * M_PI * (double)i / (WINDOW - 1)));
    set_filters(mel);
    mel_clear(mel);
    return mel;
}

struct mel *mel_free(struct mel *mel)
{
    if (mel) {
        fft_free(mel->fft);
        free(mel->filters);
        free(mel->logs);
    }
    free(mel);
    return NULL;
}

/* Before the first sample there are zeros. */
void mel_clear(struct mel *mel)
{
    mel->n_samples = mel->n_final = 0;
    mel->last = 0;
    memset(mel->pending, 0, sizeof(mel->pending));
    mel->n_pending = WINDOW / 2;
}

/* --- frames ----------------------------------------------------------------------------------- */

/* logs[n_mels] of a window of emphasised samples */
static void log_mel(const struct mel *mel, const float *window, float *logs)
{
    float x[FFT] = {0}, spectrum[N_BINS][2], work[2 * FFT], power[N_BINS];

    for (size_t i = 0; i < WINDOW; i++)
        x[(FFT - WINDOW) / 2 + i] = window[i] * mel->hann[i];
    fft_forward(mel->fft, x, spectrum, work);
    for (size_t k = 0; k < N_BINS; k++)
        power[k] = spectrum[k][0] * spectrum[k][0] + spectrum[k][1] * spectrum[k][1];
    for (size_t m = 0; m < mel->n_mels; m++) {
        const struct triangle *const filter = &mel->filters[m];
        float sum = 0;

        for (size_t i = 0; i < filter->n; i++)
            sum += filter->weight[i] * power[filter->first + i];
        logs[m] = logf(sum + GUARD);
    }
}

int mel_push(struct mel *mel, const float *samples, size_t n)
{
    if (n > mel->n_samples_max - mel->n_samples)
        return -ENOSPC;
    mel->n_samples += n;
    for (size_t i = 0; i < n; i++) {
        mel->pending[mel->n_pending++] = samples[i] - PREEMPH * mel->last;
        mel->last = samples[i];
        if (mel->n_pending < WINDOW)
            continue;
        log_mel(mel, mel->pending, mel->logs + mel->n_final++ * mel->n_mels);
        mel->n_pending = WINDOW - MEL_HOP;
        memmove(mel->pending, mel->pending + MEL_HOP, mel->n_pending * sizeof(mel->pending[0]));
    }
    return 0;
}

size_t mel_n_samples(const struct mel *mel)
{
    return mel->n_samples;
}

/* --- features --------------------------------------------------------------------------------- */

/* One bin of all frames in place: mean 0, deviation 1. */
static void normalise(float *row, size_t n)
{
    double mean = 0, square = 0, scale;

    for (size_t t = 0; t < n; t++)
        mean += (double)row[t] / (double)n;
    for (size_t t = 0; t < n; t++)
        square += ((double)row[t] - mean) * ((double)row[t] - mean);
    scale = 1 / ((n > 1 ? sqrt(square / (double)(n - 1)) : 0) + STD_MORE);
    for (size_t t = 0; t < n; t++)
        row[t] = (float)(((double)row[t] - mean) * scale);
}

void mel_features(const struct mel *mel, float *out)
{
    const size_t n_frames = mel_n_frames(mel->n_samples), n_valid = n_frames - 1;

    for (size_t t = 0; t < MIN(n_valid, mel->n_final); t++)
        for (size_t m = 0; m < mel->n_mels; m++)
            out[m * n_frames + t] = mel->logs[t * mel->n_mels + m];
    /* One frame at most may want samples that are not there: after the last one there are zeros. */
    if (mel->n_final < n_valid) {
        float window[WINDOW] = {0};
        float logs[MEL_BINS_MAX];

        memcpy(window, mel->pending, mel->n_pending * sizeof(window[0]));
        log_mel(mel, window, logs);
        for (size_t m = 0; m < mel->n_mels; m++)
            out[m * n_frames + mel->n_final] = logs[m];
    }
    for (size_t m = 0; m < mel->n_mels; m++) {
        normalise(out + m * n_frames, n_valid);
        out[m * n_frames + n_valid] = 0;
    }
}
