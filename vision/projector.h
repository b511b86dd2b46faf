/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * From patches to rows of the language model: four neighbouring patches become one token.
 *
 * Memory:  weights in the arena of the load (precise ones in the mapped file), rows in a workspace
 * Threads: engine thread, which lends the pool
 * Source:  vision.md 6, 7.2; transformers modeling_lfm2_vl.py 5.23.0
 */

#include "vision/workspace.h"
#include "vision/tiles.h"

struct projector {
    bool normed;            /* whether the file has mm.input_norm */
    struct layer_norm norm; /* [4d]     mm.input_norm */
    struct linear up;       /* [p][4d]  mm.1 */
    struct linear down;     /* [L][p]   mm.2 */
};

/* Part of a loader_walk. */
bool projector_load(struct loader *loader, const struct vision_shape *shape,
                    struct projector *projector);

/*
 * One view.
 *
 * hidden:     [patches of the view][d]; not the workspace's x
 * embeddings: [view->n_tokens][L]
 */
void projector_forward(const struct projector *projector, const struct vision_workspace *ws,
                       const struct tile_view *view, const float *hidden, float *embeddings);
