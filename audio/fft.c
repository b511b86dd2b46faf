/* SPDX-License-Identifier: MIT */
#include "audio/fft.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define FACTOR_MAX  5
#define FACTORS_MAX 20 /* of FFT_MAX / 2 */

/* A real transform of n values is a complex one of n / 2 and a step that takes it apart. */
struct fft {
    size_t n, half;
    size_t factors[FACTORS_MAX], n_factors; /* of half */
    float (*roots)[2];                      /* [half]  e^(-2πi k / half) */
    float (*split)[2];                      /* [half + 1]  e^(-2πi k / n) */
};

static void fill_roots(float (*roots)[2], size_t count, size_t n)
{
    for (size_t k = 0; k < count; k++) {
        const double angle = -2 * M_PI * (double)k / (double)n;

        roots[k][0] = (float)cos(angle);
        roots[k][1] = (float)sin(angle);
    }
}

static bool find_factors(struct fft *fft)
{
    static const size_t known[] = {5, 3, 4, 2};
    size_t rest = fft->half;

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        for (; rest % known[i] == 0; rest /= known[i])
            fft->factors[fft->n_factors++] = known[i];
    return rest == 1;
}

struct fft *fft_new(size_t n, struct error *err)
{
    struct fft *fft = calloc(1, sizeof(*fft));

    if (fft && n >= 2 && n % 2 == 0 && n <= FFT_MAX) {
        fft->n = n;
        fft->half = n / 2;
        fft->roots = calloc(fft->half, sizeof(*fft->roots));
        fft->split = calloc(fft->half + 1, sizeof(*fft->split));
    }
    if (!fft || (fft->n && (!fft->roots || !fft->split))) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for a Fourier transform.");
        return fft_free(fft);
    }
    if (!fft->n || !find_factors(fft)) {
        error_set(err, ERROR_INVALID_ARGUMENT,
                  "A Fourier transform of %zu values is not possible: expected an even number "
                  "with small factors.",
                  n);
        return fft_free(fft);
    }
    fill_roots(fft->roots, fft->half, fft->half);
    fill_roots(fft->split, fft->half + 1, n);
    return fft;
}

struct fft *fft_free(struct fft *fft)
{
    if (!fft)
        return NULL;
    free(fft->roots);
    free(fft->split);
    free(fft);
    return NULL;
}

/*
 * One factor p of a transform whose parts have the length l = p * m so far, `stride` of them side
 * by side: y[stride * (p q + r) + k] = w_l^(q r) Σ_j w_p^(j r) x[stride * (q + m j) + k].
 */
static void pass(const struct fft *fft, size_t p, size_t l, float sign, const float (*x)[2],
                 float (*y)[2])
{
    const size_t m = l / p, stride = fft->half / l;

    for (size_t q = 0; q < m; q++) {
        for (size_t r = 0; r < p; r++) {
            float w[FACTOR_MAX][2];
            float(*const out)[2] = y + stride * (p * q + r);

            for (size_t j = 0; j < p; j++) {
                const size_t at = (q * r * stride + j * r * (fft->half / p)) % fft->half;

                w[j][0] = fft->roots[at][0];
                w[j][1] = sign * fft->roots[at][1];
            }
            for (size_t k = 0; k < stride; k++) {
                float re = 0, im = 0;

                for (size_t j = 0; j < p; j++) {
                    const float *const in = x[stride * (q + m * j) + k];

                    re += w[j][0] * in[0] - w[j][1] * in[1];
                    im += w[j][0] * in[1] + w[j][1] * in[0];
                }
                out[k][0] = re;
                out[k][1] = im;
            }
        }
    }
}

/* z [half] -> its transform, which is returned: one of z and other. sign -1: e^(+2πi ...) */
static float (*transform(const struct fft *fft, float sign, float (*z)[2], float (*other)[2]))[2]
{
    size_t l = fft->half;

    for (size_t i = 0; i < fft->n_factors; i++) {
        float(*const from)[2] = z;

        pass(fft, fft->factors[i], l, sign, (const float(*)[2])from, other);
        l /= fft->factors[i];
        z = other;
        other = from;
    }
    return z;
}

/* Even and odd samples are the real and imaginary parts of one signal of half the length. */
void fft_forward(const struct fft *fft, const float *x, float (*spectrum)[2], float *work)
{
    const size_t half = fft->half;
    float(*z)[2] = (float(*)[2])(void *)work;

    memcpy(z, x, fft->n * sizeof(*x));
    z = transform(fft, 1, z, z + half);
    for (size_t k = 0; k <= half; k++) {
        const float *const a = z[k % half], *const b = z[(half - k) % half];
        const float even[2] = {(a[0] + b[0]) / 2, (a[1] - b[1]) / 2};
        const float odd[2] = {(a[1] + b[1]) / 2, (b[0] - a[0]) / 2};
        const float *const w = fft->split[k];

        spectrum[k][0] = even[0] + w[0] * odd[0] - w[1] * odd[1];
        spectrum[k][1] = even[1] + w[0] * odd[1] + w[1] * odd[0];
    }
}

void fft_inverse(const struct fft *fft, const float (*spectrum)[2], float *x, float *work)
{
    const size_t half = fft->half;
    const float scale = 1 / (float)fft->n;
    float(*z)[2] = (float(*)[2])(void *)work;

    for (size_t k = 0; k < half; k++) {
        const bool first = k == 0;
        const float *const w = fft->split[k];
        const float a[2] = {spectrum[k][0], first ? 0 : spectrum[k][1]};
        const float b[2] = {spectrum[half - k][0], first ? 0 : -spectrum[half - k][1]};
        const float even[2] = {a[0] + b[0], a[1] + b[1]};
        const float odd[2] = {a[0] - b[0], a[1] - b[1]};
        const float turned[2] = {w[0] * odd[0] + w[1] * odd[1], w[0] * odd[1] - w[1] * odd[0]};

        z[k][0] = scale * (even[0] - turned[1]);
        z[k][1] = scale * (even[1] + turned[0]);
    }
    z = transform(fft, -1, z, z + half);
    memcpy(x, z, fft->n * sizeof(*x));
}
