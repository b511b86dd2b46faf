/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Loading the weights of a model from a GGUF file.
 *
 * A model describes itself by one walk over its weights, which serves twice: without an arena it
 * checks names and shapes and adds up the bytes, with one it loads. So the plan cannot differ from
 * the load. Every refusal is a sentence that names file, tensor, what was expected and found.
 *
 * Memory:  into the caller's arena; precise matrices stay in the mapped file
 * Threads: engine thread, which lends the pool; planning any thread
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "tensor/gguf.h"
#include "tensor/matrix.h"
#include "tensor/pool.h"

struct loader {
    const struct gguf *gguf;
    enum matrix_form form;
    struct pool *pool;
    struct arena *arena; /* NULL: only plan */
    size_t bytes;        /* planned so far */
    uint8_t *used;       /* [n_tensors] tensors that the model has asked for */
    struct error *err;
};

/* Ask for every tensor of `model` by the functions below. False after an error. */
typedef bool loader_walk(struct loader *loader, void *model);

/* Check the file. What the walk writes into `model` has no meaning yet. `kind` ("the lfm2
 * architecture") stands in the sentence about a tensor that the walk did not ask for; NULL when
 * the file may hold other things too. */
int loader_plan(const struct gguf *gguf, enum matrix_form form, const char *kind, loader_walk *walk,
                void *model, size_t *ret_bytes, struct error *err);

/* Load after loader_plan() with the same arguments, from an arena of at least that size. */
int loader_load(const struct gguf *gguf, enum matrix_form form, loader_walk *walk, void *model,
                struct arena *arena, struct pool *pool, struct error *err);

/* --- in a walk -------------------------------------------------------------------------------- */

/* Memory beside the tensors, cleared; NULL while planning. */
void *loader_take(struct loader *loader, size_t size);

/* The tensor of this name, with exactly this shape (1 for dimensions that it has not), or NULL. */
const struct gguf_tensor *loader_tensor(struct loader *loader, const char *name,
                                        const uint64_t ne[GGUF_DIMS_MAX]);

bool loader_matrix(struct loader *loader, const char *name, size_t out, size_t in,
                   struct matrix *ret);

/* A matrix of which only rows will be looked up: it stays in the mapped file. */
bool loader_table(struct loader *loader, const char *name, size_t out, size_t in,
                  struct matrix *ret);

/* The same of a tensor that has another shape in the file: of a convolution, its out filters. */
bool loader_reshaped(struct loader *loader, const char *name, const uint64_t ne[GGUF_DIMS_MAX],
                     size_t out, size_t in, struct matrix *ret);

/* Slice `slice` of a tensor that is already at hand. */
void loader_slice(struct loader *loader, const struct gguf_tensor *tensor, size_t slice,
                  struct matrix *ret);

/* Norms, taps, biases: small, always f32 [rows][in], copied out of the file. */
bool loader_f32(struct loader *loader, const char *name, size_t rows, size_t in, const float **ret);

/* The same of any shape. */
bool loader_values(struct loader *loader, const char *name, const uint64_t ne[GGUF_DIMS_MAX],
                   const float **ret);

/* A tensor that the model can do without, whatever it is and whether the file has it or not. */
void loader_skip(struct loader *loader, const char *name);

/* "blk.%u.attn_norm.weight" */
const char *loader_name(char name[64], const char *format, ...)
    __attribute__((format(printf, 2, 3)));
