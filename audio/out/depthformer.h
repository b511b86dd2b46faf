/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Depthformer: the hidden state of a step -> the codes of one frame, codebook after codebook.
 *
 *     slices = depth_linear · hidden
 *     for each book i:  x = slice[i] + embedding[i - 1][code[i - 1]];  x = layers(x)
 *                       logits = to_logits[i] · rmsnorm(x)
 *
 * A causal transformer over the books of one frame; its cache lives for that frame alone. The
 * caller draws the codes. The file also holds the table by which a frame goes back into the
 * language model.
 *
 * Flow:    text/lm hidden -> depthformer -> codes -> audio/out/vocoder
 *                                           codes -> row -> text/lm
 * Shapes:  D = dim, H = n_embd of the language model, V = n_codes; heads are 32, KV heads 8
 * Memory:  weights and cache are taken when loading; of a table that is only looked up, the rows
 *          used are mapped from the file
 * Threads: engine thread, which lends the pool; depthformer_plan() any thread
 * Source:  audio.md 4; liquid-audio model/transformer.py, lfm2_audio.py
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "audio/modes.h"
#include "base/error.h"
#include "tensor/pool.h"

struct depthformer_info {
    size_t n_embd;  /* H */
    size_t dim;     /* D */
    size_t n_layer;
    size_t n_codes; /* V of a book; code V, the one after them, ends the sound */
    size_t bytes;   /* of memory, without the mapped rows */
};

/* Read and check a vocoder file without loading its weights. */
int depthformer_plan(const char *path, bool precise, struct depthformer_info *ret,
                     struct error *err);

struct depthformer;

/* precise: exact weights, f32 products and sums. The pool must outlive the result. */
struct depthformer *depthformer_load(const char *path, bool precise, struct pool *pool,
                                     struct error *err);
struct depthformer *depthformer_free(struct depthformer *df); /* accepts and returns NULL */

const struct depthformer_info *depthformer_info(const struct depthformer *df);

/* Begin a frame. hidden [H]: output of the language model's final norm. */
void depthformer_begin(struct depthformer *df, const float *hidden);

/*
 * Logits of the next book; the books of a frame are asked for in order.
 *
 * book:     0 .. CODEBOOKS - 1
 * previous: what was drawn for the book before, 0 .. V; ignored for book 0
 * Returns [V + 1], valid until the next call; the caller may overwrite them.
 */
float *depthformer_logits(struct depthformer *df, unsigned book, int32_t previous);

/* What the language model reads after this frame: row [H], the sum of the codes' embeddings, each
 * code 0 .. V. */
void depthformer_code_row(const struct depthformer *df, const int32_t codes[CODEBOOKS], float *row);
