/* SPDX-License-Identifier: MIT */
#include "audio/out/istft.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "audio/fft.h"
#include "base/arena.h"
#include "base/cleanup.h"

/* No sound is as loud as e^40, and sums of such values are still finite. */
#define LOG_MAGNITUDE_MAX 40.0f

/* A window that is nowhere above this tells nothing of a sample. */
#define WEIGHT_MIN 1e-11f

struct istft {
    size_t n_fft, hop, n_rows_max;
    struct pool *pool;
    struct fft *fft;
    struct arena arena;
    float *window;  /* [n_fft] */
    float *waves;   /* [n_rows_max][n_fft] */
    float *sums;    /* [n_fft] windowed waves, added; sums[0] is the next sample to come */
    float *weights; /* [n_fft] the same of window² */
    bool begun;
    size_t n_dropped; /* of the lead, so far */
};

static size_t lead(const struct istft *istft)
{
    return (istft->n_fft - istft->hop) / 2;
}

size_t istft_plan(size_t n_fft, size_t n_rows_max)
{
    return 3 * arena_need(n_fft * sizeof(float)) + arena_need(n_rows_max * n_fft * sizeof(float));
}

struct istft *istft_new(const float *window, size_t n_fft, size_t hop, size_t n_rows_max,
                        struct pool *pool, struct error *err)
{
    struct istft *istft = calloc(1, sizeof(*istft));

    assert(n_fft <= ISTFT_MAX && hop > 0 && hop < n_fft && (n_fft - hop) % 2 == 0);
    _Static_assert((3 * ISTFT_MAX + 2) * sizeof(float) <= POOL_SCRATCH_BYTES, "a row fits");
    if (!istft) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for a vocoder.");
        return NULL;
    }
    istft->n_fft = n_fft;
    istft->hop = hop;
    istft->n_rows_max = n_rows_max;
    istft->pool = pool;
    istft->fft = fft_new(n_fft, err);
    if (!istft->fft ||
        arena_init(&istft->arena, istft_plan(n_fft, n_rows_max), "a vocoder", err) < 0)
        return istft_free(istft);
    istft->window = arena_take(&istft->arena, n_fft * sizeof(float));
    istft->sums = arena_take(&istft->arena, n_fft * sizeof(float));
    istft->weights = arena_take(&istft->arena, n_fft * sizeof(float));
    istft->waves = arena_take(&istft->arena, n_rows_max * n_fft * sizeof(float));
    memcpy(istft->window, window, n_fft * sizeof(float));
    return istft;
}

struct istft *istft_free(struct istft *istft)
{
    if (!istft)
        return NULL;
    arena_done(&istft->arena);
    fft_free(istft->fft);
    free(istft);
    return NULL;
}

void istft_reset(struct istft *istft)
{
    memset(istft->sums, 0, istft->n_fft * sizeof(float));
    memset(istft->weights, 0, istft->n_fft * sizeof(float));
    istft->begun = false;
    istft->n_dropped = 0;
}

struct waves_job {
    const struct istft *istft;
    const float *rows; /* [n][n_fft + 2] */
};

/* Windowed waves of rows [first, last). */
static void make_waves(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct waves_job *job = context;
    const struct istft *istft = job->istft;
    const size_t n_fft = istft->n_fft, n_bins = n_fft / 2 + 1;
    float(*const spectrum)[2] = scratch;
    float *const work = &spectrum[n_bins][0];

    (void)worker;
    for (size_t t = first; t < last; t++) {
        const float *const magnitude = job->rows + t * 2 * n_bins;
        const float *const phase = magnitude + n_bins;
        float *const wave = istft->waves + t * n_fft;

        for (size_t k = 0; k < n_bins; k++) {
            const float size = expf(fminf(magnitude[k], LOG_MAGNITUDE_MAX));

            spectrum[k][0] = size * cosf(phase[k]);
            spectrum[k][1] = size * sinf(phase[k]);
        }
        fft_inverse(istft->fft, (const float(*)[2])spectrum, wave, work);
        for (size_t i = 0; i < n_fft; i++)
            wave[i] *= istft->window[i];
    }
}

/* The next n samples, but for those of the lead. */
static size_t hand_out(struct istft *istft, size_t n, float *samples)
{
    const size_t n_drop = MIN(n, lead(istft) - istft->n_dropped);

    for (size_t i = n_drop; i < n; i++)
        samples[i - n_drop] = istft->weights[i] > WEIGHT_MIN
                                  ? istft->sums[i] / istft->weights[i]
                                  : 0;
    istft->n_dropped += n_drop;
    return n - n_drop;
}

static void shift(float *values, size_t n, size_t by)
{
    memmove(values, values + by, (n - by) * sizeof(*values));
    memset(values + n - by, 0, by * sizeof(*values));
}

size_t istft_push(struct istft *istft, const float *rows, size_t n, float *samples)
{
    const struct waves_job job = {istft, rows};
    const size_t n_fft = istft->n_fft;
    size_t n_samples = 0;

    assert(n <= istft->n_rows_max);
    pool_run(istft->pool, make_waves, (void *)&job, n, 1);
    for (size_t t = 0; t < n; t++) {
        const float *const wave = istft->waves + t * n_fft;

        for (size_t i = 0; i < n_fft; i++) {
            istft->sums[i] += wave[i];
            istft->weights[i] += istft->window[i] * istft->window[i];
        }
        n_samples += hand_out(istft, istft->hop, samples + n_samples);
        shift(istft->sums, n_fft, istft->hop);
        shift(istft->weights, n_fft, istft->hop);
    }
    istft->begun |= n > 0;
    return n_samples;
}

/* The lead and the end are equally long, so no row at all owes nothing. */
size_t istft_flush(struct istft *istft, float *samples)
{
    const size_t n = istft->begun ? lead(istft) : 0;

    return hand_out(istft, n, samples);
}
