/* SPDX-License-Identifier: MIT */
#include "vision/vision.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tensor/gguf.h"
#include "tensor/kernels.h"
#include "vision/projector.h"
#include "vision/siglip.h"

struct vision {
    struct vision_info info;
    enum matrix_form form;
    struct gguf *gguf;
    struct pool *pool;
    struct arena arena;
    struct siglip siglip;
    struct projector projector;
    struct patches_norm pixels;
    struct vision_workspace ws;
    uint64_t n_encodings; /* begun; the last one has the workspace */
};

/* --- loading ---------------------------------------------------------------------------------- */

/* A loader_walk of a vision whose shape is known. */
static bool load_weights(struct loader *loader, void *userdata)
{
    struct vision *vision = userdata;

    return siglip_load(loader, &vision->siglip) &&
           projector_load(loader, &vision->info.shape, &vision->projector);
}

/* What the file says of the pictures that it wants. */
static int read_settings(const struct gguf *gguf, struct tile_settings *ret, struct error *err)
{
    struct error cause = ERROR_INIT;
    int r;

    *ret = tile_settings_default;
    r = gguf_u32(gguf, "lfmd.vision.min_image_tokens", &ret->min_image_tokens, err);
    if (r == 0 || r == -ENOENT)
        r = gguf_u32(gguf, "lfmd.vision.max_image_tokens", &ret->max_image_tokens, err);
    if (r == 0 || r == -ENOENT)
        r = gguf_bool(gguf, "lfmd.vision.tiling", &ret->tiling, err);
    if (r < 0 && r != -ENOENT)
        return r;
    if (tile_settings_check(ret, &cause) < 0)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT, "In '%s', keys 'lfmd.vision': %s",
                         gguf_path(gguf), cause.text);
    return 0;
}

/* Check the file as far as it can be without loading it. */
static int plan(const struct gguf *gguf, bool precise, struct vision *vision,
                size_t *ret_weight_bytes, struct error *err)
{
    struct vision_info *info = &vision->info;
    int r = vision_shape_read(gguf, &info->shape, err);

    if (r == 0)
        r = read_settings(gguf, &info->settings, err);
    if (r < 0)
        return r;
    vision->siglip.shape = info->shape;
    vision->form = precise ? MATRIX_PRECISE : MATRIX_WIDE;
    r = loader_plan(gguf, vision->form, "an LFM2 vision encoder", load_weights, vision,
                    ret_weight_bytes, err);
    if (r == 0)
        info->bytes =
            *ret_weight_bytes + vision_workspace_plan(&info->shape, vision->form, VISION_PATCHES);
    return r;
}

int vision_plan(const char *path, bool precise, struct vision_info *ret, struct error *err)
{
    struct gguf *gguf = gguf_open(path, err);
    struct vision unused = {0};
    size_t weight_bytes;
    int r;

    if (!gguf)
        return -EINVAL;
    r = plan(gguf, precise, &unused, &weight_bytes, err);
    if (r == 0)
        *ret = unused.info;
    gguf_free(gguf);
    return r;
}

struct vision *vision_load(const char *path, bool precise, struct pool *pool, struct error *err)
{
    struct vision *vision = calloc(1, sizeof(*vision));
    size_t weight_bytes;

    if (!vision) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for a vision encoder.");
        return NULL;
    }
    vision->pool = pool;
    vision->gguf = gguf_open(path, err);
    if (!vision->gguf || kernels_check(err) < 0 ||
        plan(vision->gguf, precise, vision, &weight_bytes, err) < 0 ||
        arena_init(&vision->arena, weight_bytes, "the weights of a vision encoder", err) < 0 ||
        loader_load(vision->gguf, vision->form, load_weights, vision, &vision->arena, pool, err) <
            0 ||
        vision_workspace_init(&vision->ws, &vision->info.shape, vision->form, VISION_PATCHES, pool,
                       err) < 0)
        return vision_free(vision);
    patches_norm_init(&vision->pixels, vision->info.shape.pixel_mean, vision->info.shape.pixel_std);
    return vision;
}

struct vision *vision_free(struct vision *vision)
{
    if (!vision)
        return NULL;
    vision_workspace_done(&vision->ws);
    arena_done(&vision->arena);
    gguf_free(vision->gguf);
    free(vision);
    return NULL;
}

const struct vision_info *vision_info(const struct vision *vision)
{
    return &vision->info;
}

/* --- encoding --------------------------------------------------------------------------------- */

/* Views from `first` to before `last` that fit into n_max patches; one always counts. */
static size_t batch(const struct picture *picture, size_t first, size_t last, size_t n_max)
{
    size_t n = 0, n_patches = 0;

    while (first + n < last) {
        const struct tile_view view = tile_view(&picture->plan, first + n);

        n_patches += patches_count(&view);
        if (n > 0 && n_patches > n_max)
            break;
        n++;
    }
    return n;
}

size_t vision_batch(const struct picture *picture, size_t first_view)
{
    return batch(picture, first_view, picture->plan.n_views, VISION_PATCHES);
}

static int make_room(struct vision *vision, size_t n_patches, struct error *err)
{
    if (n_patches <= vision->ws.n_max)
        return 0;
    if (n_patches > VISION_PATCHES_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "With these settings a view has %zu patches; at most %zu can be encoded.",
                         n_patches, VISION_PATCHES_MAX);
    vision_workspace_done(&vision->ws);
    return vision_workspace_init(&vision->ws, &vision->info.shape, vision->form, n_patches,
                                 vision->pool, err);
}

#define BATCH_MAX (VISION_PATCHES / 4) /* a view has one token at least */

/* What an encoding is of: views [n_views]. Returns their patches. */
static size_t look_at(const struct vision_encoding *encoding, struct picture_view *views)
{
    size_t n_patches = 0;

    for (size_t i = 0; i < encoding->n_views; i++) {
        views[i] = picture_view(encoding->picture, encoding->first_view + i);
        n_patches += patches_count(&views[i].view);
    }
    return n_patches;
}

int vision_begin(struct vision *vision, const struct picture *picture, size_t first_view,
                 size_t n_views, struct vision_encoding *ret, struct error *err)
{
    const struct vision_encoding encoding = {
        .picture = picture,
        .first_view = first_view,
        .n_views = n_views,
        .number = ++vision->n_encodings,
    };
    struct picture_view views[BATCH_MAX];
    int r;

    assert(n_views <= BATCH_MAX);
    r = make_room(vision, look_at(&encoding, views), err);
    if (r == 0)
        r = siglip_begin(&vision->siglip, &vision->ws, &vision->pixels, views, n_views, err);
    if (r == 0)
        *ret = encoding;
    return r;
}

static void finish(struct vision *vision, const struct picture_view *views, size_t n_views,
                   float *embeddings, float *hidden)
{
    const size_t d = vision->info.shape.n_hidden;
    float *rows = vision->ws.h;
    size_t n = 0;

    for (size_t i = 0; i < n_views; i++)
        n += patches_count(&views[i].view);
    siglip_end(&vision->siglip, &vision->ws, n, rows);
    if (hidden)
        memcpy(hidden, rows, n * d * sizeof(*hidden));
    for (size_t i = 0; embeddings && i < n_views; i++) {
        projector_forward(&vision->projector, &vision->ws, &views[i].view, rows, embeddings);
        rows += patches_count(&views[i].view) * d;
        embeddings += views[i].view.n_tokens * vision->info.shape.n_embd;
    }
}

int vision_step(struct vision *vision, struct vision_encoding *encoding, float *embeddings,
                float *hidden)
{
    struct picture_view views[BATCH_MAX];
    const size_t n = look_at(encoding, views);

    if (encoding->number != vision->n_encodings)
        return -ESTALE;
    if (encoding->n_layers < vision->info.shape.n_layer) {
        siglip_layer(&vision->siglip, encoding->n_layers++, &vision->ws, views, encoding->n_views,
                     n);
        return 0;
    }
    finish(vision, views, encoding->n_views, embeddings, hidden);
    return 1;
}

/* All steps. */
static int encode_batch(struct vision *vision, struct vision_encoding *encoding,
                        const atomic_bool *cancel, float *embeddings, float *hidden)
{
    int r = 0;

    while (r == 0) {
        if (cancel && atomic_load_explicit(cancel, memory_order_relaxed))
            return -ECANCELED;
        r = vision_step(vision, encoding, embeddings, hidden);
    }
    return 0;
}

int vision_encode(struct vision *vision, const struct picture *picture, size_t first_view,
                  size_t n_views, const atomic_bool *cancel, float *embeddings, float *hidden,
                  struct error *err)
{
    const struct vision_shape *shape = &vision->info.shape;
    const size_t last = first_view + n_views;
    size_t n;

    for (size_t first = first_view; first < last; first += n) {
        struct vision_encoding encoding;
        int r;

        n = batch(picture, first, last, VISION_PATCHES);
        r = vision_begin(vision, picture, first, n, &encoding, err);
        if (r == 0)
            r = encode_batch(vision, &encoding, cancel, embeddings, hidden);
        if (r < 0)
            return r;
        for (size_t i = first; i < first + n; i++) {
            const struct tile_view view = tile_view(&picture->plan, i);

            if (embeddings)
                embeddings += (size_t)view.n_tokens * shape->n_embd;
            if (hidden)
                hidden += patches_count(&view) * shape->n_hidden;
        }
    }
    return 0;
}
