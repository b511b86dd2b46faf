/* SPDX-License-Identifier: MIT */

/*
 *     x = patch · pixels + positions
 *     x += out(attention(ln1(x)));  x += down(gelu(up(ln2(x))))      in each layer
 *     hidden = post(x)
 */

#include "vision/siglip.h"

#include <errno.h>

#include "base/cleanup.h"
#include "tensor/attend.h"
#include "tensor/ops.h"
#include "vision/resize.h"

/* --- weights ---------------------------------------------------------------------------------- */

static bool load_layer(struct loader *loader, const struct vision_shape *shape, unsigned i,
                       struct siglip_layer *layer)
{
    const size_t d = shape->n_hidden, f = shape->n_ff;
    char name[64];

    return layer_norm_load(loader, loader_name(name, "v.blk.%u.ln1", i), d, &layer->ln1) &&
           linear_load(loader, loader_name(name, "v.blk.%u.attn_q", i), d, d, &layer->q) &&
           linear_load(loader, loader_name(name, "v.blk.%u.attn_k", i), d, d, &layer->k) &&
           linear_load(loader, loader_name(name, "v.blk.%u.attn_v", i), d, d, &layer->v) &&
           linear_load(loader, loader_name(name, "v.blk.%u.attn_out", i), d, d, &layer->out) &&
           layer_norm_load(loader, loader_name(name, "v.blk.%u.ln2", i), d, &layer->ln2) &&
           linear_load(loader, loader_name(name, "v.blk.%u.ffn_up", i), f, d, &layer->up) &&
           linear_load(loader, loader_name(name, "v.blk.%u.ffn_down", i), d, f, &layer->down);
}

/* In the file the patch weights are those of a convolution, {col, row, channel, out}: as a matrix,
 * rows of PATCHES_PLANES. */
static bool load_patch(struct loader *loader, size_t d, struct linear *patch)
{
    return loader_reshaped(loader, "v.patch_embd.weight",
                           (const uint64_t[]){TILES_PATCH, TILES_PATCH, 3, d}, d, PATCHES_VALUES,
                           &patch->w) &&
           loader_f32(loader, "v.patch_embd.bias", 1, d, &patch->b);
}

bool siglip_load(struct loader *loader, struct siglip *siglip)
{
    const struct vision_shape *shape = &siglip->shape;
    struct siglip_layer unused;

    siglip->layers = loader_take(loader, shape->n_layer * sizeof(*siglip->layers));
    for (unsigned i = 0; i < shape->n_layer; i++)
        if (!load_layer(loader, shape, i, siglip->layers ? &siglip->layers[i] : &unused))
            return false;
    return load_patch(loader, shape->n_hidden, &siglip->patch) &&
           loader_f32(loader, "v.position_embd.weight", (size_t)shape->n_grid * shape->n_grid,
                      shape->n_hidden, &siglip->positions) &&
           layer_norm_load(loader, "v.post_ln", shape->n_hidden, &siglip->post);
}

/* --- positions -------------------------------------------------------------------------------- */

struct positions_job {
    const struct siglip *siglip;
    struct resize_filter rows, cols;
    float *out;
};

/* Rows of patches [first, last). */
static void positions_some(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct positions_job *job = context;
    const struct resize_filter *rows = &job->rows, *cols = &job->cols;
    const size_t d = job->siglip->shape.n_hidden, n_grid = job->siglip->shape.n_grid;

    (void)worker;
    (void)scratch;
    for (size_t y = first; y < last; y++)
        for (size_t x = 0; x < cols->n_out; x++) {
            float *out = job->out + (y * cols->n_out + x) * d;

            for (size_t i = 0; i < d; i++)
                out[i] = 0;
            for (size_t j = 0; j < rows->n[y]; j++)
                for (size_t k = 0; k < cols->n[x]; k++) {
                    const size_t cell = (rows->first[y] + j) * n_grid + cols->first[x] + k;
                    const double weight =
                        rows->weights[y * rows->n_max + j] * cols->weights[x * cols->n_max + k];

                    op_add_scaled(out, job->siglip->positions + cell * d, (float)weight, d);
                }
        }
}

int siglip_positions(const struct siglip *siglip, size_t rows, size_t cols, struct pool *pool,
                     float *out, struct error *err)
{
    struct positions_job job = {.siglip = siglip, .out = out};
    int r = resize_filter_init(&job.rows, siglip->shape.n_grid, rows, err);

    if (r == 0)
        r = resize_filter_init(&job.cols, siglip->shape.n_grid, cols, err);
    if (r == 0)
        pool_run(pool, positions_some, &job, rows, 1);
    resize_filter_done(&job.rows);
    resize_filter_done(&job.cols);
    return r;
}

/* --- embedding -------------------------------------------------------------------------------- */

struct cut_job {
    const struct picture_view *view;
    const struct patches_norm *pixels;
    size_t first; /* patch of the view */
    float *out;
};

static void cut_some(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct cut_job *job = context;

    (void)worker;
    (void)scratch;
    patches_cut(job->view, job->pixels, PATCHES_PLANES, job->first + first, last - first,
                job->out + first * PATCHES_VALUES);
}

/* x: [patches of the view][d] */
static int embed(const struct siglip *siglip, const struct vision_workspace *ws,
                 const struct patches_norm *pixels, const struct picture_view *view, float *x,
                 struct error *err)
{
    const size_t n = patches_count(&view->view), d = siglip->shape.n_hidden;
    int r = siglip_positions(siglip, view->view.height / TILES_PATCH,
                             view->view.width / TILES_PATCH, ws->pass.pool, x, err);

    for (size_t done = 0; r == 0 && done < n; done += STEP_ROWS) {
        const size_t rows = MIN(n - done, STEP_ROWS);
        struct cut_job cut = {view, pixels, done, ws->pass.wide};

        pool_run(ws->pass.pool, cut_some, &cut, rows, 4);
        linear_rows(&ws->pass, &siglip->patch, ACTIVATION_NONE, ws->pass.wide, rows, ws->q);
        add_rows(&ws->pass, x + done * d, ws->q, 1, rows, d);
    }
    return r;
}

/* --- layers ----------------------------------------------------------------------------------- */

struct store_job {
    const struct vision_workspace *ws;
    const float *k, *v;
    size_t n, d, hd;
};

static void store_heads(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct store_job *job = context;

    (void)worker;
    (void)scratch;
    for (size_t i = first; i < last; i++) {
        unsigned char *const k = (unsigned char *)job->ws->heads + 2 * i * job->ws->head_bytes;

        kv_store_k(KV_F32, job->k + i * job->hd, job->n, job->d, job->hd, k, 0);
        kv_store_v(KV_F32, job->v + i * job->hd, job->n, job->d, job->hd, k + job->ws->head_bytes,
                   0);
    }
}

/* Every patch sees all n patches of its view, which begins at row `first`. */
static void attend_exactly(const struct siglip *siglip, const struct vision_workspace *ws,
                           size_t first, size_t n, float *out)
{
    const size_t d = siglip->shape.n_hidden, n_head = siglip->shape.n_head, hd = d / n_head;
    struct store_job store = {ws, ws->k + first * d, ws->v + first * d, n, d, hd};
    const struct attend job = {
        .type = KV_F32,
        .n_head = n_head,
        .n_head_kv = n_head,
        .head_dim = hd,
        .q = ws->q + first * d,
        .n = n,
        .k = ws->heads,
        .v = (unsigned char *)ws->heads + ws->head_bytes,
        .n_kv = n,
        .stride_bytes = 2 * ws->head_bytes,
        .out = out + first * d,
    };

    pool_run(ws->pass.pool, store_heads, &store, n_head, 1);
    attend(&job, ws->pass.pool);
}

static void attend_view(const struct siglip *siglip, const struct vision_workspace *ws,
                        enum matrix_form form, size_t first, size_t n, float *out)
{
    const size_t d = siglip->shape.n_hidden, n_head = siglip->shape.n_head;
    const struct attend_wide job = {
        .n_head = n_head,
        .head_dim = d / n_head,
        .q = ws->q + first * d,
        .k = ws->k + first * d,
        .v = ws->v + first * d,
        .n = n,
        .memory = ws->heads,
        .out = out + first * d,
    };

    if (form == MATRIX_WIDE && n <= ATTEND_WIDE_MAX)
        attend_wide(&job, ws->pass.pool);
    else
        attend_exactly(siglip, ws, first, n, out);
}

void siglip_layer(const struct siglip *siglip, unsigned i_layer, const struct vision_workspace *ws,
                  const struct picture_view *views, size_t n_views, size_t n)
{
    const struct siglip_layer *const layer = &siglip->layers[i_layer];
    const size_t d = siglip->shape.n_hidden;
    const float eps = siglip->shape.norm_eps;

    norm_rows(&ws->pass, &layer->ln1, eps, ws->x, n, d, ws->h);
    linear_rows_n(&ws->pass, (const struct linear *const[]){&layer->q, &layer->k, &layer->v},
                  (float *const[]){ws->q, ws->k, ws->v}, 3, ws->h, n);
    for (size_t i = 0, first = 0; i < n_views; first += patches_count(&views[i++].view))
        attend_view(siglip, ws, layer->q.w.form, first, patches_count(&views[i].view), ws->h);
    linear_rows(&ws->pass, &layer->out, ACTIVATION_NONE, ws->h, n, ws->q);
    add_rows(&ws->pass, ws->x, ws->q, 1, n, d);

    norm_rows(&ws->pass, &layer->ln2, eps, ws->x, n, d, ws->h);
    mlp_rows(&ws->pass, &layer->up, ACTIVATION_GELU_TANH, &layer->down, ws->h, n, ws->q);
    add_rows(&ws->pass, ws->x, ws->q, 1, n, d);
}

int siglip_begin(const struct siglip *siglip, const struct vision_workspace *ws,
                 const struct patches_norm *pixels, const struct picture_view *views,
                 size_t n_views, struct error *err)
{
    size_t n = 0;

    for (size_t i = 0; i < n_views; i++) {
        const int r = embed(siglip, ws, pixels, &views[i], ws->x + n * siglip->shape.n_hidden, err);

        if (r < 0)
            return r;
        n += patches_count(&views[i].view);
    }
    return 0;
}

void siglip_end(const struct siglip *siglip, const struct vision_workspace *ws, size_t n,
                float *hidden)
{
    norm_rows(&ws->pass, &siglip->post, siglip->shape.norm_eps, ws->x, n, siglip->shape.n_hidden,
              hidden);
}
