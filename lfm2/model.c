/* SPDX-License-Identifier: MIT */
#include "lfm2/model.h"

#include <stdlib.h>

#include "lfm2/hparams.h"
#include "lfm2/layers.h"
#include "tensor/kernels.h"
#include "tensor/loader.h"

static bool load_conv(struct loader *loader, const struct lfm2_hparams *hparams, unsigned i,
                      struct lfm2_conv *conv)
{
    const size_t h = hparams->n_embd;
    char name[64];

    return loader_matrix(loader, loader_name(name, "blk.%u.shortconv.in_proj.weight", i), 3 * h, h,
                         &conv->in_proj) &&
           loader_f32(loader, loader_name(name, "blk.%u.shortconv.conv.weight", i), h,
                      hparams->conv_kernel, &conv->taps) &&
           loader_matrix(loader, loader_name(name, "blk.%u.shortconv.out_proj.weight", i), h, h,
                         &conv->out_proj);
}

static bool load_attention(struct loader *loader, const struct lfm2_hparams *hparams, unsigned i,
                           struct lfm2_attention *attention)
{
    const size_t h = hparams->n_embd;
    const size_t hd = hparams->head_dim;
    const size_t q = hparams->n_head * hd;
    const size_t kv = hparams->n_head_kv[i] * hd;
    char name[64];

    return loader_matrix(loader, loader_name(name, "blk.%u.attn_q.weight", i), q, h,
                         &attention->q) &&
           loader_matrix(loader, loader_name(name, "blk.%u.attn_k.weight", i), kv, h,
                         &attention->k) &&
           loader_matrix(loader, loader_name(name, "blk.%u.attn_v.weight", i), kv, h,
                         &attention->v) &&
           loader_matrix(loader, loader_name(name, "blk.%u.attn_output.weight", i), h, q,
                         &attention->out) &&
           loader_f32(loader, loader_name(name, "blk.%u.attn_q_norm.weight", i), 1, hd,
                      &attention->q_norm) &&
           loader_f32(loader, loader_name(name, "blk.%u.attn_k_norm.weight", i), 1, hd,
                      &attention->k_norm);
}

static bool load_ffn(struct loader *loader, const struct lfm2_hparams *hparams, unsigned i,
                     struct lfm2_ffn *ffn)
{
    const size_t h = hparams->n_embd;
    const size_t f = hparams->n_ff;
    char name[64];

    return loader_matrix(loader, loader_name(name, "blk.%u.ffn_gate.weight", i), f, h,
                         &ffn->gate) &&
           loader_matrix(loader, loader_name(name, "blk.%u.ffn_up.weight", i), f, h, &ffn->up) &&
           loader_matrix(loader, loader_name(name, "blk.%u.ffn_down.weight", i), h, f, &ffn->down);
}

/* The stacked matrices of all experts, one matrix for each. */
static bool load_experts(struct loader *loader, const char *name, size_t out, size_t in, size_t n,
                         struct matrix **ret)
{
    const struct gguf_tensor *tensor =
        loader_tensor(loader, name, (const uint64_t[]){in, out, n, 1});
    struct matrix unused;

    if (!tensor)
        return false;
    *ret = loader_take(loader, n * sizeof(**ret));
    for (size_t e = 0; e < n; e++)
        loader_slice(loader, tensor, e, *ret ? *ret + e : &unused);
    return true;
}

/*
 * The router decides in f32 whatever its type is in the file: close scores must not change places
 * by a rounding. So its values are widened once, and the matrix is made of those.
 */
static bool load_router(struct loader *loader, const char *name, size_t n, size_t h,
                        struct matrix *ret)
{
    const float *values = NULL;
    struct gguf_tensor tensor = {
        .type = DTYPE_F32,
        .n_dims = 2,
        .ne = {h, n, 1, 1},
        .size_bytes = n * h * sizeof(*values),
    };

    if (!loader_f32(loader, name, n, h, &values))
        return false;
    tensor.data = values;
    loader_slice(loader, &tensor, 0, ret);
    return true;
}

static bool load_moe(struct loader *loader, const struct lfm2_hparams *hparams, unsigned i,
                     struct lfm2_moe *moe)
{
    const size_t n = hparams->n_expert;
    const size_t h = hparams->n_embd;
    const size_t f = hparams->n_ff_expert;
    char name[64];

    loader_name(name, "blk.%u.exp_probs_b.bias", i);
    if (gguf_tensor(loader->gguf, name)) {
        if (!loader_f32(loader, name, 1, n, &moe->bias))
            return false;
    } else {
        moe->bias = loader_take(loader, n * sizeof(*moe->bias)); /* zeros */
    }
    return load_router(loader, loader_name(name, "blk.%u.ffn_gate_inp.weight", i), n, h,
                       &moe->router) &&
           load_experts(loader, loader_name(name, "blk.%u.ffn_gate_exps.weight", i), f, h, n,
                        &moe->gate) &&
           load_experts(loader, loader_name(name, "blk.%u.ffn_up_exps.weight", i), f, h, n,
                        &moe->up) &&
           load_experts(loader, loader_name(name, "blk.%u.ffn_down_exps.weight", i), h, f, n,
                        &moe->down);
}

static bool load_layer(struct loader *loader, const struct lfm2_hparams *hparams, unsigned i,
                       struct lfm2_layer *layer)
{
    char name[64];

    layer->n_head_kv = hparams->n_head_kv[i];
    layer->is_conv = layer->n_head_kv == 0;
    layer->is_moe = i >= hparams->n_layer_dense;

    return loader_f32(loader, loader_name(name, "blk.%u.attn_norm.weight", i), 1, hparams->n_embd,
                      &layer->mix_norm) &&
           loader_f32(loader, loader_name(name, "blk.%u.ffn_norm.weight", i), 1, hparams->n_embd,
                      &layer->ffn_norm) &&
           (layer->is_conv ? load_conv(loader, hparams, i, &layer->conv)
                           : load_attention(loader, hparams, i, &layer->attention)) &&
           (layer->is_moe ? load_moe(loader, hparams, i, &layer->moe)
                          : load_ffn(loader, hparams, i, &layer->ffn));
}

/* The projection of retrieval models, and of the audio detokeniser. */
static bool load_dense_2(struct loader *loader, struct lfm2_model *model)
{
    const size_t out = model->hparams.n_embd_out;

    if (out == 0)
        return true;
    if (!loader_matrix(loader, "dense_2.weight", out, model->hparams.n_embd, &model->dense_2))
        return false;
    return !gguf_tensor(loader->gguf, "dense_2.bias") ||
           loader_f32(loader, "dense_2.bias", 1, out, &model->dense_2_bias);
}

/* A tensor that may be in the file and has no use here. */
static bool pass_over(struct loader *loader, const char *name)
{
    const struct gguf_tensor *tensor = gguf_tensor(loader->gguf, name);

    return !tensor || loader_tensor(loader, name, tensor->ne);
}

static bool load_embedding(struct loader *loader, struct lfm2_model *model)
{
    return loader_matrix(loader, "token_embd.weight", model->hparams.n_vocab,
                         model->hparams.n_embd, &model->token_embd);
}

static bool load_output(struct loader *loader, struct lfm2_model *model)
{
    if (gguf_tensor(loader->gguf, "output.weight"))
        return loader_matrix(loader, "output.weight", model->hparams.n_vocab,
                             model->hparams.n_embd, &model->output);
    model->output = model->token_embd;
    return true;
}

static bool load_layers(struct loader *loader, struct lfm2_model *model)
{
    const struct lfm2_hparams *hparams = &model->hparams;
    struct lfm2_layer unused = {0};

    model->layers = loader_take(loader, hparams->n_layer * sizeof(*model->layers));
    for (unsigned i = 0; i < hparams->n_layer; i++) {
        struct lfm2_layer *layer = model->layers ? &model->layers[i] : &unused;

        if (!load_layer(loader, hparams, i, layer))
            return false;
        layer->index = layer->is_conv ? model->n_conv++ : model->n_attention++;
    }
    return loader_f32(loader, "token_embd_norm.weight", 1, hparams->n_embd, &model->output_norm);
}

/* The loader_walks of a model whose hparams are known: every weight; those between rows. */
static bool load_weights(struct loader *loader, void *userdata)
{
    struct lfm2_model *model = userdata;

    return load_embedding(loader, model) && load_layers(loader, model) &&
           load_output(loader, model) && load_dense_2(loader, model);
}

static bool load_rows_weights(struct loader *loader, void *userdata)
{
    struct lfm2_model *model = userdata;

    return pass_over(loader, "token_embd.weight") && load_layers(loader, model) &&
           pass_over(loader, "output.weight") && load_dense_2(loader, model);
}

static enum matrix_form form_of(bool precise)
{
    return precise ? MATRIX_PRECISE : MATRIX_FAST;
}

static int plan(const struct gguf *gguf, bool precise, loader_walk *walk,
                struct lfm2_hparams *ret_hparams, size_t *ret_bytes, struct error *err)
{
    struct lfm2_model unused = {0};
    int r = lfm2_hparams_read(gguf, &unused.hparams, err);

    if (r == 0)
        r = loader_plan(gguf, form_of(precise), "the lfm2 architecture", walk, &unused, ret_bytes,
                        err);
    if (r == 0)
        *ret_hparams = unused.hparams;
    if (r == 0)
        ret_hparams->fine = walk == load_rows_weights;
    return r;
}

static struct lfm2_model *load(const struct gguf *gguf, bool precise, loader_walk *walk,
                               struct pool *pool, struct error *err)
{
    struct lfm2_model *model = calloc(1, sizeof(*model));
    size_t bytes;

    if (!model) {
        error_set(err, ERROR_NO_MEMORY, "Cannot take memory for a model.");
        return NULL;
    }
    if (kernels_check(err) < 0 || plan(gguf, precise, walk, &model->hparams, &bytes, err) < 0 ||
        arena_init(&model->arena, bytes, "the weights of a model", err) < 0 ||
        loader_load(gguf, form_of(precise), walk, model, &model->arena, pool, err) < 0)
        return lfm2_model_free(model);
    return model;
}

int lfm2_model_plan(const struct gguf *gguf, bool precise, struct lfm2_hparams *ret_hparams,
                    size_t *ret_bytes, struct error *err)
{
    return plan(gguf, precise, load_weights, ret_hparams, ret_bytes, err);
}

struct lfm2_model *lfm2_model_load(const struct gguf *gguf, bool precise, struct pool *pool,
                                   struct error *err)
{
    return load(gguf, precise, load_weights, pool, err);
}

int lfm2_rows_model_plan(const struct gguf *gguf, bool precise, struct lfm2_hparams *ret_hparams,
                         size_t *ret_bytes, struct error *err)
{
    return plan(gguf, precise, load_rows_weights, ret_hparams, ret_bytes, err);
}

struct lfm2_model *lfm2_rows_model_load(const struct gguf *gguf, bool precise, struct pool *pool,
                                        struct error *err)
{
    return load(gguf, precise, load_rows_weights, pool, err);
}

struct lfm2_model *lfm2_model_free(struct lfm2_model *model)
{
    if (!model)
        return NULL;
    arena_done(&model->arena);
    free(model);
    return NULL;
}
