/* SPDX-License-Identifier: MIT */
#include "audio/device/vad.h"

#include <stdlib.h>

#define FLOOR_MIN   1e-7f  /* energy: -70 dB of full scale */
#define FLOOR_RISE  0.002f /* of the distance to a louder frame, per frame */
#define SPEECH_GAIN 6.0f   /* above the floor, 8 dB */
#define SPEECH_MIN  1e-5f  /* energy: -50 dB of full scale */
#define HOLD_FRAMES 8

struct vad {
    float floor; /* mean square of the noise */
    unsigned hold;
};

struct vad *vad_new(struct error *err)
{
    struct vad *vad = calloc(1, sizeof(*vad));

    if (vad)
        vad_reset(vad);
    else
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory to listen.");
    return vad;
}

struct vad *vad_free(struct vad *vad)
{
    free(vad);
    return NULL;
}

void vad_reset(struct vad *vad)
{
    *vad = (struct vad){.floor = FLOOR_MIN};
}

bool vad_frame(struct vad *vad, const float samples[VAD_FRAME])
{
    float energy = 0;

    for (unsigned i = 0; i < VAD_FRAME; i++)
        energy += samples[i] * samples[i];
    energy /= VAD_FRAME;
    if (energy < vad->floor)
        vad->floor = energy > FLOOR_MIN ? energy : FLOOR_MIN;
    else
        vad->floor += FLOOR_RISE * (energy - vad->floor);
    if (energy > SPEECH_GAIN * vad->floor + SPEECH_MIN)
        vad->hold = HOLD_FRAMES;
    else if (vad->hold > 0)
        vad->hold--;
    return vad->hold > 0;
}
