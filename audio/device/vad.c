/* SPDX-License-Identifier: MIT */
#include "audio/device/vad.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "audio/device/vad_features.h"
#include "audio/device/vad_weights.h"

/* Speech begins above the one and ends below the other. */
#define BEGIN_PROBABILITY 0.6f
#define END_PROBABILITY   0.3f

struct vad {
    struct vad_features features;
    float state[VAD_HIDDEN];
    float probability;
    bool speech;
};

struct vad *vad_new(struct error *err)
{
    struct vad *vad = malloc(sizeof(*vad));

    if (!vad) {
        error_set(err, ERROR_NO_MEMORY, "No memory for the voice activity detector.");
        return NULL;
    }
    vad_reset(vad);
    return vad;
}

struct vad *vad_free(struct vad *vad)
{
    free(vad);
    return NULL;
}

void vad_reset(struct vad *vad)
{
    memset(vad, 0, sizeof(*vad));
    vad_features_init(&vad->features);
}

static float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

/* Row `row` of W x + b, for the input and for the state. */
static float from_input(const float *x, unsigned row)
{
    float sum = vad_b_in[row];

    for (unsigned i = 0; i < VAD_FEATURES; i++)
        sum += vad_w_in[row * VAD_FEATURES + i] * x[i];
    return sum;
}

static float from_state(const float *h, unsigned row)
{
    float sum = vad_b_state[row];

    for (unsigned i = 0; i < VAD_HIDDEN; i++)
        sum += vad_w_state[row * VAD_HIDDEN + i] * h[i];
    return sum;
}

bool vad_frame(struct vad *vad, const float samples[VAD_FRAME])
{
    float x[VAD_FEATURES], next[VAD_HIDDEN], sum = vad_b_out;
    const float *h = vad->state;

    vad_features_frame(&vad->features, samples, x);
    for (unsigned i = 0; i < VAD_HIDDEN; i++) {
        const float reset = sigmoid(from_input(x, i) + from_state(h, i));
        const float update =
            sigmoid(from_input(x, VAD_HIDDEN + i) + from_state(h, VAD_HIDDEN + i));
        const float fresh = tanhf(from_input(x, 2 * VAD_HIDDEN + i) +
                                  reset * from_state(h, 2 * VAD_HIDDEN + i));

        next[i] = (1 - update) * fresh + update * h[i];
        sum += vad_w_out[i] * next[i];
    }
    memcpy(vad->state, next, sizeof(next));
    vad->probability = sigmoid(sum);
    vad->speech = vad->probability > (vad->speech ? END_PROBABILITY : BEGIN_PROBABILITY);
    return vad->speech;
}

float vad_probability(const struct vad *vad)
{
    return vad->probability;
}
