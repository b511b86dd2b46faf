/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * From mel frames to the rows of the encoder: three convolutions of stride 2 over time and mel bins
 * make one row of eight frames.
 *
 * Threads: engine thread, which lends the pool
 * Source:  audio.md 2.1
 */

#include <stdatomic.h>

#include "audio/in/depthwise.h"
#include "audio/in/workspace.h"

struct subsample {
    struct audio_shape shape;
    struct linear first;          /* [c][9]             a.conv1d.0 */
    struct depthwise depthwise_2; /* [9][c]             a.conv1d.2 */
    struct linear pointwise_3;    /* [c][c]             a.conv1d.3 */
    struct depthwise depthwise_5; /* [9][c]             a.conv1d.5 */
    struct linear pointwise_6;    /* [c][c]             a.conv1d.6 */
    struct linear out;            /* [d][c * mels / 8]  a.pre_encode.out */
};

/* Part of a loader_walk. */
bool subsample_load(struct loader *loader, const struct audio_shape *shape,
                    struct subsample *subsample);

/*
 * features: [n_mels][n_frames]; x: [audio_eighth(n_frames)][d]
 * Returns 0 or -ECANCELED.
 */
int subsample_forward(const struct subsample *subsample, const struct audio_workspace *ws,
                      const float *features, size_t n_frames, const atomic_bool *cancel, float *x);
