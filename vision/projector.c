/* SPDX-License-Identifier: MIT */

/*
 *     u = unshuffle(hidden);  u = norm(u), where the file has one
 *     embeddings = down(gelu(up(u)))
 */

#include "vision/projector.h"

#include <string.h>

#define NORM_EPS 1e-5f /* not that of the encoder, and not in the file */

bool projector_load(struct loader *loader, const struct vision_shape *shape,
                    struct projector *projector)
{
    const size_t wide = 4 * (size_t)shape->n_hidden;

    projector->normed = gguf_tensor(loader->gguf, "mm.input_norm.weight") ||
                        gguf_tensor(loader->gguf, "mm.input_norm.bias");
    return (!projector->normed ||
            layer_norm_load(loader, "mm.input_norm", wide, &projector->norm)) &&
           linear_load(loader, "mm.1", shape->n_projector, wide, &projector->up) &&
           linear_load(loader, "mm.2", shape->n_embd, shape->n_projector, &projector->down);
}

/* Token (Y, X) is patches (2Y, 2X), (2Y, 2X + 1), (2Y + 1, 2X), (2Y + 1, 2X + 1), end to end. */
static void unshuffle(const struct tile_view *view, const float *hidden, size_t d, float *out)
{
    const size_t cols = view->width / TILES_TOKEN, rows = view->height / TILES_TOKEN;

    for (size_t y = 0; y < rows; y++)
        for (size_t x = 0; x < cols; x++)
            for (size_t dy = 0; dy < 2; dy++, out += 2 * d)
                memcpy(out, hidden + ((2 * y + dy) * 2 * cols + 2 * x) * d, 2 * d * sizeof(*out));
}

void projector_forward(const struct projector *projector, const struct vision_workspace *ws,
                       const struct tile_view *view, const float *hidden, float *embeddings)
{
    const size_t wide = projector->up.w.in;
    float *u = ws->x;

    unshuffle(view, hidden, wide / 4, u);
    if (projector->normed)
        norm_rows(&ws->pass, &projector->norm, NORM_EPS, u, view->n_tokens, wide, u);
    mlp_rows(&ws->pass, &projector->up, ACTIVATION_GELU_ERF, &projector->down, u, view->n_tokens,
             embeddings);
}
