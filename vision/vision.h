/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The eye of a vision-language model: a GGUF file of architecture "clip" with projector "lfm2"
 * turns the views of a picture into rows that stand in a sequence like token embeddings.
 *
 * Flow:    base/image -> tiles_plan -> picture_new -> vision_encode -> text/lm
 * Shapes:  embeddings [n_image_tokens][L], hidden [n_patches][d]; views in the order of the plan,
 *          tokens and patches row by row in a view
 * Threads: engine thread, which lends the pool; vision_plan() any thread
 * Memory:  weights and workspace are taken when loading. A view of more patches than
 *          VISION_PATCHES enlarges the workspace once.
 * Source:  vision.md 5 to 7
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/pool.h"
#include "vision/picture.h"
#include "vision/shape.h"
#include "vision/tiles.h"

/* Rows that the workspace is made for: a tile of 512 x 512, or the budget of 256 tokens. */
#define VISION_PATCHES ((size_t)1024)

/* Rows of one view at most: 1024 tokens are what a session may ask for, a developer somewhat
 * more. */
#define VISION_PATCHES_MAX ((size_t)65536)

struct vision_info {
    struct vision_shape shape;
    struct tile_settings settings; /* the reference's, or what the file says of itself */
    size_t bytes;                  /* weights and workspace */
};

/* Read and check a file without loading its weights. */
int vision_plan(const char *path, bool precise, struct vision_info *ret, struct error *err);

struct vision;

/* precise: exact weights, f32 products and sums. The pool must outlive the result. */
struct vision *vision_load(const char *path, bool precise, struct pool *pool, struct error *err);
struct vision *vision_free(struct vision *vision); /* accepts and returns NULL */

const struct vision_info *vision_info(const struct vision *vision);

/*
 * How many views, from `first_view` on, are best encoded by one call: several small ones, so that
 * each weight is read from memory once for all, or one.
 */
size_t vision_batch(const struct picture *picture, size_t first_view);

/*
 * Encode the views of one vision_batch() or fewer, layer by layer, so that what is urgent can be
 * done in between. There is one such encoding at a time: where another has begun meanwhile, also
 * one of vision_encode(), vision_step() returns -ESTALE, and all of it is to be done again.
 */
struct vision_encoding {
    const struct picture *picture; /* must outlive it; NULL: none has begun */
    size_t first_view, n_views;
    unsigned n_layers; /* done */
    uint64_t number;
};

int vision_begin(struct vision *vision, const struct picture *picture, size_t first_view,
                 size_t n_views, struct vision_encoding *ret, struct error *err);
/* 0: go on; 1: it is done, and embeddings and hidden are as below, which they are not before. */
int vision_step(struct vision *vision, struct vision_encoding *encoding, float *embeddings,
                float *hidden);

/*
 * Encode views first_view .. first_view + n_views - 1 at once. The same bits however views are
 * grouped and for every number of threads.
 *
 * cancel:     polled between layers; may be NULL
 * embeddings: [tokens of these views][L], or NULL
 * hidden:     [patches of these views][d] after the last norm, or NULL
 * Returns 0, -ECANCELED, or another negative errno with a sentence (no memory, a view that is too
 * large).
 */
int vision_encode(struct vision *vision, const struct picture *picture, size_t first_view,
                  size_t n_views, const atomic_bool *cancel, float *embeddings, float *hidden,
                  struct error *err);
