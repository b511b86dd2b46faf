/* SPDX-License-Identifier: MIT */

/*
 *     x = subsample(features);  hidden = conformer(x)
 *     embeddings = down(gelu(up(norm(hidden))))
 */

#include "audio/in/encoder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "audio/in/conformer.h"
#include "audio/in/subsample.h"
#include "base/cleanup.h"
#include "tensor/kernels.h"

#define ADAPTER_EPS 1e-5f /* not in the file */

struct audio_encoder {
    struct audio_encoder_info info;
    enum matrix_form form;
    struct gguf *gguf;
    struct pool *pool;
    struct arena arena;
    struct subsample subsample;
    struct conformer conformer;
    struct layer_norm adapter_norm; /* [d]               mm.a.mlp.0 */
    struct linear adapter_up;       /* [n_adapter][d]    mm.a.mlp.1 */
    struct linear adapter_down;     /* [n_embd][n_adapter]  mm.a.mlp.3 */
    struct audio_workspace ws;
};

/* --- loading ---------------------------------------------------------------------------------- */

/*
 * A loader_walk of an encoder whose shape is known. Of a file of bytes, what all of a row goes
 * through is multiplied as 16-bit integers all the same: the first and the last maps, values and
 * results of attention. That takes a tenth longer and leaves less than half of the error.
 */
static bool load_weights(struct loader *loader, void *userdata)
{
    struct audio_encoder *encoder = userdata;
    const struct audio_shape *shape = &encoder->info.shape;

    /* The table of code embeddings, which the file of the vocoder has too. */
    loader_skip(loader, "a.position_embd.weight");
    loader_skip(loader, "a.position_embd_norm.weight");
    loader_skip(loader, "a.embd_to_logits.weight");

    return subsample_load(loader, shape, &encoder->subsample) &&
           conformer_load(loader, shape, &encoder->conformer) &&
           layer_norm_load(loader, "mm.a.mlp.0", shape->n_hidden, &encoder->adapter_norm) &&
           linear_load_wide(loader, "mm.a.mlp.1", shape->n_adapter, shape->n_hidden,
                            &encoder->adapter_up) &&
           linear_load_wide(loader, "mm.a.mlp.3", shape->n_embd, shape->n_adapter,
                            &encoder->adapter_down);
}

/* A file of exact weights is multiplied exactly. */
static enum matrix_form form_of(const struct gguf *gguf)
{
    for (size_t i = 0; i < gguf_n_tensors(gguf); i++)
        if (gguf_tensor_at(gguf, i)->type != DTYPE_F32)
            return MATRIX_ROUNDED;
    return MATRIX_FAST;
}

/* Check the file as far as it can be without loading it. */
static int plan(const struct gguf *gguf, bool precise, struct audio_encoder *encoder,
                size_t *ret_weight_bytes, struct error *err)
{
    struct audio_encoder_info *info = &encoder->info;
    int r = audio_shape_read(gguf, &info->shape, err);

    if (r < 0)
        return r;
    encoder->form = precise ? MATRIX_PRECISE : form_of(gguf);
    r = loader_plan(gguf, encoder->form, "an LFM2 audio encoder", load_weights, encoder,
                    ret_weight_bytes, err);
    if (r == 0)
        info->bytes = *ret_weight_bytes +
                      audio_workspace_plan(&info->shape, encoder->form, AUDIO_ENCODER_ROWS);
    return r;
}

int audio_encoder_plan(const char *path, bool precise, struct audio_encoder_info *ret,
                       struct error *err)
{
    struct gguf *gguf = gguf_open(path, err);
    struct audio_encoder unused = {0};
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

struct audio_encoder *audio_encoder_load(const char *path, bool precise, struct pool *pool,
                                         struct error *err)
{
    struct audio_encoder *encoder = calloc(1, sizeof(*encoder));
    size_t weight_bytes;

    if (!encoder) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for an audio encoder.");
        return NULL;
    }
    encoder->pool = pool;
    encoder->gguf = gguf_open(path, err);
    if (!encoder->gguf || kernels_check(err) < 0 ||
        plan(encoder->gguf, precise, encoder, &weight_bytes, err) < 0 ||
        arena_init(&encoder->arena, weight_bytes, "the weights of an audio encoder", err) < 0 ||
        loader_load(encoder->gguf, encoder->form, load_weights, encoder, &encoder->arena, pool,
                    err) < 0 ||
        audio_workspace_init(&encoder->ws, &encoder->info.shape, encoder->form, AUDIO_ENCODER_ROWS,
                             pool, err) < 0)
        return audio_encoder_free(encoder);
    return encoder;
}

struct audio_encoder *audio_encoder_free(struct audio_encoder *encoder)
{
    if (!encoder)
        return NULL;
    audio_workspace_done(&encoder->ws);
    arena_done(&encoder->arena);
    gguf_free(encoder->gguf);
    free(encoder);
    return NULL;
}

const struct audio_encoder_info *audio_encoder_info(const struct audio_encoder *encoder)
{
    return &encoder->info;
}

/* --- encoding --------------------------------------------------------------------------------- */

static int make_room(struct audio_encoder *encoder, size_t n_frames, struct error *err)
{
    if (n_frames < AUDIO_FRAMES_MIN || n_frames > AUDIO_FRAMES_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "A clip of %zu ms cannot be encoded, only %zu ms to %zu s.",
                         (n_frames - 1) * 10, (AUDIO_FRAMES_MIN - 1) * 10,
                         (AUDIO_FRAMES_MAX - 1) / 100);
    if (audio_eighth(n_frames) <= encoder->ws.n_max)
        return 0;
    audio_workspace_done(&encoder->ws);
    return audio_workspace_init(&encoder->ws, &encoder->info.shape, encoder->form,
                                audio_eighth(n_frames), encoder->pool, err);
}

int audio_encode(struct audio_encoder *encoder, const float *features, size_t n_frames,
                 const atomic_bool *cancel, float *embeddings, float *hidden, struct error *err)
{
    const struct audio_workspace *ws = &encoder->ws;
    const size_t n = audio_eighth(n_frames), d = encoder->info.shape.n_hidden;
    int r = make_room(encoder, n_frames, err);

    if (r == 0)
        r = subsample_forward(&encoder->subsample, ws, features, n_frames, cancel, ws->x);
    if (r == 0)
        r = conformer_forward(&encoder->conformer, ws, n, cancel);
    if (r < 0)
        return r;
    if (hidden)
        memcpy(hidden, ws->x, n * d * sizeof(*hidden));
    if (embeddings) {
        norm_rows(&ws->pass, &encoder->adapter_norm, ADAPTER_EPS, ws->x, n, d, ws->h);
        mlp_rows(&ws->pass, &encoder->adapter_up, ACTIVATION_GELU_ERF, &encoder->adapter_down,
                 ws->h, n, embeddings);
    }
    return 0;
}
