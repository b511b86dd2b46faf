/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The sizes of a vision file (GGUF, architecture "clip"), read and checked.
 *
 * Nothing is built in: layers, widths and heads come from the metadata, the projector's widths from
 * its tensors.
 *
 * Source: vision.md 5.1, 7.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/gguf.h"

/* Above every published file by far, and small enough that no product of sizes overflows. */
#define VISION_LAYERS_MAX    512
#define VISION_WIDTH_MAX     32768 /* of any row */
#define VISION_HEAD_DIM_MAX  256
#define VISION_HEAD_DIM_STEP 8

struct vision_shape {
    uint32_t n_layer;
    uint32_t n_hidden; /* d, width of the encoder */
    uint32_t n_ff;     /* f, of its feed-forward network */
    uint32_t n_head;
    uint32_t n_projector;              /* p, inner width of the projector */
    uint32_t n_embd;                   /* L, width of the language model */
    uint32_t n_grid;                   /* side of the table of positions */
    float norm_eps;                    /* of the encoder's norms */
    float pixel_mean[3], pixel_std[3]; /* of values 0..1 */
};

/* Fails with a sentence on a file that is no LFM2 vision encoder, or that contradicts itself. */
int vision_shape_read(const struct gguf *gguf, struct vision_shape *ret, struct error *err);
