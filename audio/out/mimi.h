/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The vocoder of LFM2-Audio: the decoder half of Kyutai's Mimi, frames of codes -> samples.
 *
 *     latent = sums of the codes' rows, projected;  two rows of it by a transposed convolution
 *     a causal transformer that looks back a window
 *     SEANet: convolution, four times (transposed convolution, residual block), convolution
 *
 * A GGUF file of architecture "mimi" with the names of Kyutai's checkpoint; or one with those of
 * the transformers library, as llama.cpp's converters write it: alone, or beside the depthformer in
 * LFM2-Audio's "audiodecoder". Then its heads are 8 and its window is 250 rows.
 *
 * Shapes:  samples at 24 kHz, 1920 a frame, none owed at the end
 * Memory:  everything is taken when loading, however long the sound; of the codes' tables, the
 *          rows used are mapped from the file
 * Threads: engine thread, which lends the pool; mimi_is_in() and mimi_plan() any thread
 * Source:  audio.md 6; kyutai-labs/moshi
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "audio/modes.h"
#include "base/error.h"
#include "tensor/pool.h"

#define MIMI_FRAME ((size_t)1920) /* samples */

struct mimi_info {
    size_t n_codes; /* of a book */
    size_t bytes;   /* of memory, without the mapped rows */
};

/* A file has tensors of a Mimi, all or some. */
bool mimi_is_in(const char *path);

/* Read and check a file without loading its weights. */
int mimi_plan(const char *path, bool precise, struct mimi_info *ret, struct error *err);

struct mimi;

struct mimi *mimi_load(const char *path, bool precise, struct pool *pool, struct error *err);
struct mimi *mimi_free(struct mimi *mimi); /* accepts and returns NULL */

const struct mimi_info *mimi_info(const struct mimi *mimi);

void mimi_reset(struct mimi *mimi);

/*
 * Any number of frames. The same bits however they are cut into calls.
 *
 * codes:   [n_frames], each code below n_codes
 * samples: [1920 * n_frames]
 * Returns 0 or -ECANCELED; then a reset must follow.
 */
int mimi_push(struct mimi *mimi, const int32_t (*codes)[CODEBOOKS], size_t n_frames,
              const atomic_bool *cancel, float *samples);
