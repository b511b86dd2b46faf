/* SPDX-License-Identifier: MIT */
#include "audio/in/workspace.h"

#include <math.h>

#include "base/cleanup.h"
#include "tensor/attend.h"

/* Values of the rows of the largest product. */
static size_t largest(const struct audio_shape *shape, enum matrix_form form, size_t n)
{
    const size_t d = shape->n_hidden, c = shape->n_channels;
    const struct {
        size_t n, in;
    } products[] = {
        {PATCH_ROWS * ((shape->n_mels + 1) / 2), 9},
        {SLAB_2 * ((shape->n_mels + 3) / 4), c},
        {SLAB_3, c * audio_eighth(shape->n_mels)},
        {2 * n - 1, d},
        {STEP_ROWS, MAX(shape->n_ff, shape->n_adapter)},
    };
    size_t most = 0;

    for (size_t i = 0; i < ARRAY_LEN(products); i++)
        most = MAX(most, rows_values(form, products[i].n, products[i].in));
    return most;
}

/* With a NULL arena the sizes are only added up. */
static size_t carve(struct arena *arena, const struct audio_shape *shape, enum matrix_form form,
                    size_t n, struct audio_workspace *ws)
{
    const size_t d = shape->n_hidden, c = shape->n_channels;
    const size_t half = (shape->n_mels + 1) / 2, quarter = (shape->n_mels + 3) / 4;
    const size_t n_rows = largest(shape, form, n);
    const struct {
        void **at;
        size_t n;
    } pieces[] = {
        {(void **)&ws->x, n * d},
        {(void **)&ws->h, n * d},
        {(void **)&ws->q, n * d},
        {(void **)&ws->k, n * d},
        {(void **)&ws->v, n * d},
        {(void **)&ws->qp, n * d},
        {(void **)&ws->gated, n * 2 * d},
        {(void **)&ws->angles, (2 * n - 1) * d},
        {(void **)&ws->p, (2 * n - 1) * d},
        {(void **)&ws->zeros, MAX(c, d)},
        {(void **)&ws->patches, PATCH_ROWS * half * 9},
        {(void **)&ws->maps[0], SLAB_1 * half * c},
        {(void **)&ws->maps[1], SLAB_2 * quarter * c},
        {(void **)&ws->pass.wide, STEP_ROWS * MAX(shape->n_ff, shape->n_adapter)},
    };
    const size_t head_bytes = attend_wide_bytes(n, shape->n_head, d / shape->n_head, true);
    size_t bytes = arena_need(head_bytes) + rows_plan(form, n_rows);

    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        bytes += arena_need(pieces[i].n * sizeof(float));
        if (arena)
            *pieces[i].at = arena_take(arena, pieces[i].n * sizeof(float));
    }
    if (arena) {
        ws->heads = arena_take(arena, head_bytes);
        rows_init(&ws->rows, form, n_rows, arena);
    }
    return bytes;
}

size_t audio_workspace_plan(const struct audio_shape *shape, enum matrix_form form, size_t n_max)
{
    struct audio_workspace unused;

    return carve(NULL, shape, form, n_max, &unused);
}

/* Value 2i of position p is sin(p w), value 2i + 1 is cos(p w), w = 10000^(-2i / d). */
static void set_angles(float *angles, size_t n, size_t d)
{
    for (size_t i = 0; i < d; i++) {
        const double w = exp(-(double)(i / 2 * 2) * log(10000) / (double)d);

        for (size_t r = 0; r < 2 * n - 1; r++) {
            const double angle = ((double)n - 1 - (double)r) * w;

            angles[r * d + i] = (float)(i % 2 ? cos(angle) : sin(angle));
        }
    }
}

int audio_workspace_init(struct audio_workspace *ws, const struct audio_shape *shape,
                         enum matrix_form form, size_t n_max, struct pool *pool, struct error *err)
{
    int r;

    *ws = (struct audio_workspace){0};
    r = arena_init(&ws->arena, audio_workspace_plan(shape, form, n_max), "hearing a clip", err);
    if (r < 0)
        return r;
    carve(&ws->arena, shape, form, n_max, ws);
    ws->n_max = n_max;
    ws->pass.rows = &ws->rows;
    ws->pass.pool = pool;
    set_angles(ws->angles, n_max, shape->n_hidden);
    return 0;
}

void audio_workspace_done(struct audio_workspace *ws)
{
    arena_done(&ws->arena);
    *ws = (struct audio_workspace){0};
}
