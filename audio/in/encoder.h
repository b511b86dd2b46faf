/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The ear of a speech model: a GGUF file of architecture "clip" with projector "lfm2a" turns the
 * features of a clip into rows that stand in a sequence like token embeddings.
 *
 * Flow:    mel_features -> audio_encode -> text/lm
 * Shapes:  features [n_mels][n_frames]; hidden [rows][d], embeddings [rows][n_embd], a row is 80 ms
 * Threads: engine thread, which lends the pool; audio_encoder_plan() any thread
 * Memory:  weights and workspace are taken when loading. A clip of more rows than
 *          AUDIO_ENCODER_ROWS enlarges the workspace once.
 * Source:  audio.md 2, 7.2
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "audio/in/mel.h"
#include "audio/in/shape.h"
#include "base/error.h"
#include "tensor/pool.h"

/* Frames of one clip: the encoder was made for 9 at least; ten minutes at most. */
#define AUDIO_FRAMES_MIN ((size_t)9)
#define AUDIO_FRAMES_MAX ((size_t)60001)

/* Rows that the workspace is made for: 30 seconds. */
#define AUDIO_ENCODER_ROWS ((size_t)376)

struct audio_encoder_info {
    struct audio_shape shape;
    size_t bytes; /* weights and workspace */
};

/* Read and check a file without loading its weights. */
int audio_encoder_plan(const char *path, bool precise, struct audio_encoder_info *ret,
                       struct error *err);

struct audio_encoder;

/* precise: exact weights, f32 products and sums. The pool must outlive the result. */
struct audio_encoder *audio_encoder_load(const char *path, bool precise, struct pool *pool,
                                         struct error *err);
struct audio_encoder *audio_encoder_free(struct audio_encoder *encoder); /* accepts NULL */

const struct audio_encoder_info *audio_encoder_info(const struct audio_encoder *encoder);

/* Rows of a clip. */
static inline size_t audio_encoder_rows(size_t n_frames)
{
    return audio_eighth(n_frames);
}

/*
 * Encode one clip. The same bits for every number of threads.
 *
 * cancel:     polled between layers; may be NULL
 * embeddings: [rows][n_embd], or NULL
 * hidden:     [rows][d] after the last layer, or NULL
 * Returns 0, -ECANCELED, or another negative errno with a sentence (no memory, a clip that is too
 * short or too long).
 */
int audio_encode(struct audio_encoder *encoder, const float *features, size_t n_frames,
                 const atomic_bool *cancel, float *embeddings, float *hidden, struct error *err);
