/* SPDX-License-Identifier: MIT */
#include "vision/workspace.h"

#include "base/cleanup.h"
#include "tensor/attend.h"
#include "vision/patches.h"

/* With a NULL arena the sizes are only added up. */
static size_t carve(struct arena *arena, const struct vision_shape *shape, enum matrix_form form,
                    size_t n, struct vision_workspace *ws)
{
    const size_t d = shape->n_hidden;
    const size_t wide = MAX(MAX((size_t)shape->n_ff, (size_t)shape->n_projector), PATCHES_VALUES);
    const size_t row_values =
        MAX(rows_values(form, n, d), rows_values(form, STEP_ROWS, MAX(wide, 4 * d)));
    const size_t head_bytes = kv_bytes(KV_F32, d / shape->n_head, n);
    const struct {
        void **at;
        size_t size;
    } pieces[] = {
        {(void **)&ws->x, n * d * sizeof(float)},
        {(void **)&ws->h, n * d * sizeof(float)},
        {(void **)&ws->q, n * d * sizeof(float)},
        {(void **)&ws->k, n * d * sizeof(float)},
        {(void **)&ws->v, n * d * sizeof(float)},
        {(void **)&ws->pass.wide, STEP_ROWS * wide * sizeof(float)},
        {&ws->heads, MAX(2 * shape->n_head * head_bytes,
                         attend_wide_bytes(n, shape->n_head, d / shape->n_head, false))},
    };
    size_t bytes = rows_plan(form, row_values);

    ws->n_max = n;
    ws->head_bytes = head_bytes;
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        bytes += arena_need(pieces[i].size);
        if (arena)
            *pieces[i].at = arena_take(arena, pieces[i].size);
    }
    if (arena)
        rows_init(&ws->rows, form, row_values, arena);
    return bytes;
}

size_t vision_workspace_plan(const struct vision_shape *shape, enum matrix_form form, size_t n_max)
{
    struct vision_workspace unused;

    return carve(NULL, shape, form, n_max, &unused);
}

int vision_workspace_init(struct vision_workspace *ws, const struct vision_shape *shape,
                          enum matrix_form form, size_t n_max, struct pool *pool, struct error *err)
{
    int r;

    *ws = (struct vision_workspace){0};
    r = arena_init(&ws->arena, vision_workspace_plan(shape, form, n_max), "reading pictures", err);
    if (r < 0)
        return r;
    carve(&ws->arena, shape, form, n_max, ws);
    ws->pass.rows = &ws->rows;
    ws->pass.pool = pool;
    return 0;
}

void vision_workspace_done(struct vision_workspace *ws)
{
    arena_done(&ws->arena);
    *ws = (struct vision_workspace){0};
}
