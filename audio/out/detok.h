/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The vocoder of LFM2.5-Audio: frames of codes -> a small LFM2 backbone -> spectra -> samples.
 *
 *     e = mean of the codes' embeddings, six rows of it;  h = lfm2(e), which looks back a window
 *     log magnitude, phase = dense_2 · h;  samples = istft
 *
 * Two files: the backbone is the "tokenizer", its embedding and the window of the transform lie in
 * the "vocoder" file beside the depthformer.
 *
 * Shapes:  H = width of the backbone; samples at 24 kHz, 1920 a frame
 * Memory:  everything is taken when loading, however long the sound; of the embedding, the rows
 *          used are mapped from the file
 * Threads: engine thread, which lends the pool; detok_plan() any thread
 * Source:  audio.md 5; liquid-audio detokenizer.py
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "audio/modes.h"
#include "base/error.h"
#include "tensor/pool.h"

#define DETOK_HOP    ((size_t)320)
#define DETOK_REPEAT ((size_t)6)  /* rows of a frame */
#define DETOK_FRAMES ((size_t)8)  /* that go through the backbone together, at most */

struct detok_info {
    size_t n_embd;  /* H */
    size_t n_codes; /* of a book */
    size_t n_fft;
    size_t bytes;   /* of memory, without the mapped rows */
};

/* Read and check both files without loading their weights. */
int detok_plan(const char *vocoder_path, const char *tokenizer_path, bool precise,
                     struct detok_info *ret, struct error *err);

struct detok;

struct detok *detok_load(const char *vocoder_path, const char *tokenizer_path,
                                     bool precise, struct pool *pool, struct error *err);
struct detok *detok_free(struct detok *d); /* accepts and returns NULL */

const struct detok_info *detok_info(const struct detok *d);

void detok_reset(struct detok *d);

/*
 * The backbone alone, for up to DETOK_FRAMES frames.
 *
 * codes:    [n_frames], each code below n_codes
 * hidden:   [6 * n_frames][H] after the final norm
 * spectrum: [6 * n_frames][n_fft + 2]: log magnitude, then phase
 * Returns 0 or -ECANCELED; then the stream is as before the call.
 */
int detok_spectrum(struct detok *d, const int32_t (*codes)[CODEBOOKS],
                         size_t n_frames, const atomic_bool *cancel, float *hidden,
                         float *spectrum);

/*
 * Any number of frames. The same bits however they are cut into calls.
 *
 * samples: up to [1920 * n_frames]; the first frame of a stream yields 480 fewer
 * Returns 0 or -ECANCELED; then a reset must follow.
 */
int detok_push(struct detok *d, const int32_t (*codes)[CODEBOOKS], size_t n_frames,
                     const atomic_bool *cancel, float *samples, size_t *ret_n);

/* The 480 samples that are owed at the end of a stream; a reset must follow. Returns how many. */
size_t detok_flush(struct detok *d, float *samples);
