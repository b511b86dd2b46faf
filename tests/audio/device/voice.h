/* SPDX-License-Identifier: MIT */
#pragma once

/* A drawn voice and noise, 16 kHz: a buzz through three resonances, in syllables. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define VOICE_RATE_HZ 16000

static uint32_t voice_seed;

static inline double voice_uniform(void) /* -1..1 */
{
    voice_seed = voice_seed * 1664525u + 1013904223u;
    return (double)voice_seed / 2147483648.0 - 1;
}

static inline double voice_gaussian(void) /* about, of variance 1 */
{
    return (voice_uniform() + voice_uniform() + voice_uniform() + voice_uniform()) *
           sqrt(3.0 / 4);
}

static inline void voice_resonate(double *x, double *state, double hz, double width_hz)
{
    const double r = exp(-M_PI * width_hz / VOICE_RATE_HZ);
    const double y = *x * (1 - r) + 2 * r * cos(2 * M_PI * hz / VOICE_RATE_HZ) * state[0] -
                     r * r * state[1];

    state[1] = state[0];
    state[0] = *x = y;
}

/* Syllables of 180 ms and gaps of 60 ms, pitch and vowel moving. Added to samples. */
static inline void voice_draw(float *samples, size_t n_samples, double pitch_hz, double gain)
{
    double states[3][2] = {{0}}, phase = 0;

    for (size_t i = 0; i < n_samples; i++) {
        const double t = (double)i / VOICE_RATE_HZ;
        const double syllable = fmod(t, 0.24), vowel = floor(t / 0.24);
        const double open = syllable < 0.18 ? sin(M_PI * syllable / 0.18) : 0;
        double x;

        phase += pitch_hz * (1 + 0.17 * sin(2 * M_PI * t / 1.3)) / VOICE_RATE_HZ;
        x = phase >= 1 ? 12 * open : 0.05 * voice_gaussian() * open;
        phase -= phase >= 1;
        voice_resonate(&x, states[0], 400 + 150 * fmod(vowel, 3), 80);
        x *= 4;
        voice_resonate(&x, states[1], 1000 + 400 * fmod(vowel, 4), 120);
        x *= 4;
        voice_resonate(&x, states[2], 2600, 200);
        samples[i] += (float)(x * gain);
    }
}

static inline double voice_level(const float *samples, size_t n_samples)
{
    double sum = 0;

    for (size_t i = 0; i < n_samples; i++)
        sum += (double)samples[i] * (double)samples[i];
    return sqrt(sum / (double)n_samples);
}
