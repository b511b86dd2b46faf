/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Convolutions of each channel by itself, on rows of channels.
 *
 * Threads: any; no state.
 */

#include <stdbool.h>
#include <stddef.h>

#include "tensor/steps.h"

struct depthwise {
    size_t n_taps, n_channels;
    const float *taps; /* [n_taps][n_channels] */
    const float *bias; /* [n_channels] */
};

/*
 * Part of a loader_walk: NAME.weight of shape ne, which is [channels][taps] in the file, and
 * NAME.bias of shape bias_ne. then: NULL, or w and b [n_channels] of what follows, y * w + b.
 */
bool depthwise_load(struct loader *loader, const char *name, const uint64_t ne[GGUF_DIMS_MAX],
                    const uint64_t bias_ne[GGUF_DIMS_MAX], size_t n_taps, size_t n_channels,
                    const struct layer_norm *then, struct depthwise *ret);

/* out[n_channels] = bias + the sum of taps * rows; rows: [n_taps] of [n_channels] */
void depthwise_row(const struct depthwise *depthwise, const float *const *rows, float *out);
