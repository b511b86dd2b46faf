/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Frames of codes -> sound: one face for the detokenizer of LFM2.5-Audio and for Mimi, which decode
 * the same codes.
 *
 *     vocoder_reset();  vocoder_push() frame by frame, or many at once;  vocoder_flush()
 *
 * A stream gives the same bits however it is cut, and is VOCODER_FRAME samples for each frame once
 * it is flushed. The end frame of a reply is not for it.
 *
 * Shapes:  samples mono at VOCODER_RATE, about -1 to 1, not clipped
 * Memory:  everything is taken when loading, however long the sound
 * Threads: engine thread, which lends the pool; the plans any thread
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "audio/modes.h"
#include "base/error.h"
#include "tensor/pool.h"

#define VOCODER_RATE  24000
#define VOCODER_FRAME ((size_t)1920) /* samples of 80 ms */

struct vocoder_info {
    size_t n_codes; /* of a book; the code after them ends the sound and is not heard */
    size_t bytes;   /* of memory, without rows of tables that are mapped from the file */
};

/*
 * Read and check the files without loading their weights.
 *
 * tokenizer_path: of the detokenizer, which needs the vocoder file beside it; or of any file with a
 *                 Mimi in it, which may be the vocoder file itself
 * vocoder_path:   NULL: only Mimi will do
 */
int vocoder_plan(const char *vocoder_path, const char *tokenizer_path, bool precise,
                 struct vocoder_info *ret, struct error *err);

struct vocoder;

/* The same files. precise: exact weights, f32 products and sums. The pool must outlive the result,
 * which begins a stream. */
struct vocoder *vocoder_load(const char *vocoder_path, const char *tokenizer_path, bool precise,
                             struct pool *pool, struct error *err);
struct vocoder *vocoder_free(struct vocoder *vocoder); /* accepts and returns NULL */

const struct vocoder_info *vocoder_info(const struct vocoder *vocoder);

/* Begin a stream: before each reply, and after a flush or a failure. */
void vocoder_reset(struct vocoder *vocoder);

/*
 * cancel:  polled between layers; may be NULL
 * samples: up to [VOCODER_FRAME * n_frames]
 * Returns 0; -EINVAL when a code is not of a book (nothing is changed); -ECANCELED.
 */
int vocoder_push(struct vocoder *vocoder, const int32_t (*codes)[CODEBOOKS], size_t n_frames,
                 const atomic_bool *cancel, float *samples, size_t *ret_n);

/* What a stream still owes: up to [VOCODER_FRAME] samples. Returns how many. */
size_t vocoder_flush(struct vocoder *vocoder, float *samples);
