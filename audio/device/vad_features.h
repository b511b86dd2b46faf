/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the voice activity detector looks at, for each frame of 10 ms.
 *
 *     0..5  level of a band above its noise floor, in units of 10 dB, -1..5
 *     6     how periodic the low part is: greatest normalised autocorrelation at 80 to 400 Hz, 0..1
 *     7     level of the whole above its floor, as the bands
 *
 * Source: noise floor by minimum statistics, R. Martin 2001, IEEE Trans. Speech Audio Processing 9,
 *         in its simplest form; biquads from R. Bristow-Johnson's Audio EQ Cookbook
 */

#define VAD_BANDS    6
#define VAD_FEATURES (VAD_BANDS + 2)

#define FLOOR_PARTS       8  /* the floor is the minimum over these many parts */
#define FLOOR_PART_FRAMES 25 /* of 250 ms: 2 s */

#define PITCH_DECIMATION 4  /* to 4 kHz */
#define PITCH_WINDOW     128 /* 32 ms */
#define PITCH_LAG_MIN    10  /* 400 Hz */
#define PITCH_LAG_MAX    50  /* 80 Hz */

struct biquad {
    float b0, b1, b2, a1, a2; /* a0 = 1 */
};

struct biquad_state {
    float z1, z2;
};

struct vad_floor {
    float level; /* smoothed, dB */
    float parts[FLOOR_PARTS];
};

struct vad_features {
    struct biquad band[VAD_BANDS][2], low[2], high;
    struct biquad_state band_state[VAD_BANDS][2], low_state[2], high_state;
    struct vad_floor floors[VAD_BANDS + 1];
    unsigned n_frames;
    float pitch[PITCH_WINDOW + PITCH_LAG_MAX];
};

void vad_features_init(struct vad_features *features);
void vad_features_frame(struct vad_features *features, const float *samples,
                        float out[VAD_FEATURES]);
