/* SPDX-License-Identifier: MIT */
#include "audio/device/vad_features.h"

#include <math.h>
#include <string.h>

#include "audio/device/vad.h"

#define RATE_HZ 16000.0

/* Nothing below counts as louder than silence: the last bit of 16 is at -96 dB. */
#define LEVEL_MIN_DB (-85.0f)

/* In the beginning the floor is not above this: sound may begin with speech. */
#define FLOOR_FIRST_DB     (-48.0f)
#define FLOOR_FIRST_FRAMES 50

static const double band_edges_hz[VAD_BANDS + 1] = {100, 300, 600, 1200, 2400, 4000, 7000};

/* Low-pass (sign 1) or high-pass (sign -1) of second order. */
static struct biquad pass(double hz, double q, int sign)
{
    const double w = 2 * M_PI * hz / RATE_HZ, alpha = sin(w) / (2 * q), a0 = 1 + alpha;
    const double b1 = sign * (1 - sign * cos(w));

    return (struct biquad){(float)(sign * b1 / 2 / a0), (float)(b1 / a0),
                           (float)(sign * b1 / 2 / a0), (float)(-2 * cos(w) / a0),
                           (float)((1 - alpha) / a0)};
}

static struct biquad band_pass(double low_hz, double high_hz)
{
    const double w = 2 * M_PI * sqrt(low_hz * high_hz) / RATE_HZ;
    const double alpha = sin(w) / 2 * (high_hz - low_hz) / sqrt(low_hz * high_hz), a0 = 1 + alpha;

    return (struct biquad){(float)(alpha / a0), 0, (float)(-alpha / a0), (float)(-2 * cos(w) / a0),
                           (float)((1 - alpha) / a0)};
}

static float filter(const struct biquad *f, struct biquad_state *s, float x)
{
    const float y = f->b0 * x + s->z1;

    s->z1 = f->b1 * x - f->a1 * y + s->z2;
    s->z2 = f->b2 * x - f->a2 * y;
    return y;
}

void vad_features_init(struct vad_features *features)
{
    memset(features, 0, sizeof(*features));
    for (unsigned b = 0; b < VAD_BANDS; b++)
        features->band[b][0] = features->band[b][1] =
            band_pass(band_edges_hz[b], band_edges_hz[b + 1]);
    features->high = pass(90, 0.7, -1);
    features->low[0] = features->low[1] = pass(900, 0.7, 1);
}

/* Level above the floor, in 10 dB. */
static float above_floor(struct vad_floor *floor, unsigned n_frames, float energy)
{
    const unsigned part = n_frames / FLOOR_PART_FRAMES % FLOOR_PARTS;
    const float level = fmaxf(10 * log10f(energy + 1e-12f), LEVEL_MIN_DB);
    float least = n_frames < FLOOR_FIRST_FRAMES ? FLOOR_FIRST_DB : 0;

    floor->level = n_frames ? floor->level + 0.3f * (level - floor->level) : level;
    if (n_frames % FLOOR_PART_FRAMES == 0)
        floor->parts[part] = floor->level;
    floor->parts[part] = fminf(floor->parts[part], floor->level);
    for (unsigned p = 0; p < FLOOR_PARTS; p++)
        least = fminf(least, floor->parts[p]);
    return fmaxf(-1, fminf((level - least) / 10, 5));
}

static float periodicity(const float *pitch)
{
    const float *now = pitch + PITCH_LAG_MAX;
    float best = 0, energy_now = 1e-9f, energy;

    for (unsigned i = 0; i < PITCH_WINDOW; i++)
        energy_now += now[i] * now[i];
    for (unsigned lag = PITCH_LAG_MIN; lag <= PITCH_LAG_MAX; lag++) {
        const float *then = now - lag;
        float sum = 0;

        energy = 1e-9f;
        for (unsigned i = 0; i < PITCH_WINDOW; i++) {
            sum += now[i] * then[i];
            energy += then[i] * then[i];
        }
        best = fmaxf(best, sum / sqrtf(energy * energy_now));
    }
    return best;
}

void vad_features_frame(struct vad_features *features, const float *samples,
                        float out[VAD_FEATURES])
{
    const unsigned n_new = VAD_FRAME / PITCH_DECIMATION;
    float energies[VAD_BANDS + 1] = {0};

    memmove(features->pitch, features->pitch + n_new,
            sizeof(features->pitch) - n_new * sizeof(float));
    for (unsigned i = 0; i < VAD_FRAME; i++) {
        /* What is no number would stay in the filters for ever. */
        const float sample = fabsf(samples[i]) <= 8 ? samples[i] : 0;
        const float x = filter(&features->high, &features->high_state, sample);
        float y = filter(&features->low[0], &features->low_state[0], x);

        y = filter(&features->low[1], &features->low_state[1], y);
        if (i % PITCH_DECIMATION == 0)
            features->pitch[PITCH_WINDOW + PITCH_LAG_MAX - n_new + i / PITCH_DECIMATION] = y;
        for (unsigned b = 0; b < VAD_BANDS; b++) {
            y = filter(&features->band[b][0], &features->band_state[b][0], x);
            y = filter(&features->band[b][1], &features->band_state[b][1], y);
            energies[b] += y * y / VAD_FRAME;
        }
        energies[VAD_BANDS] += x * x / VAD_FRAME;
    }
    for (unsigned b = 0; b < VAD_BANDS; b++)
        out[b] = above_floor(&features->floors[b], features->n_frames, energies[b]);
    out[VAD_BANDS] = periodicity(features->pitch);
    out[VAD_BANDS + 1] =
        above_floor(&features->floors[VAD_BANDS], features->n_frames, energies[VAD_BANDS]);
    features->n_frames++;
}
