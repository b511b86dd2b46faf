/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The sizes of an audio encoder's file (GGUF, architecture "clip", projector "lfm2a"), read and
 * checked.
 *
 * Nothing is built in: layers, width and heads come from the metadata, all else from tensors
 * ("clip.audio.feed_forward_length" of published files is not what it says).
 *
 * Threads: any; no state
 * Source:  audio.md 2, 7.2
 */

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/gguf.h"

/* Above every published file by far, and small enough that no product of sizes overflows. */
#define AUDIO_LAYERS_MAX 512
#define AUDIO_WIDTH_MAX  32768 /* of any row */
#define AUDIO_KERNEL_MAX 63

struct audio_shape {
    uint32_t n_mels;
    uint32_t n_channels; /* c, of the convolutions before the layers */
    uint32_t n_layer;
    uint32_t n_hidden; /* d, width of the encoder */
    uint32_t n_ff;     /* f, of its feed-forward networks */
    uint32_t n_head;
    uint32_t n_kernel;  /* taps of the convolution in a layer, odd */
    uint32_t n_adapter; /* inner width of the adapter */
    uint32_t n_embd;    /* width of the language model */
    float norm_eps;
};

/* Three convolutions of stride 2 leave this much of n frames, or of n mel bins. */
static inline size_t audio_eighth(size_t n)
{
    return (n + 7) / 8;
}

/* Fails with a sentence on a file that is no LFM2 audio encoder, or that contradicts itself. */
int audio_shape_read(const struct gguf *gguf, struct audio_shape *ret, struct error *err);
