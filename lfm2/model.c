/* SPDX-License-Identifier: MIT */
#include "lfm2/model.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "lfm2/hparams.h"
#include "lfm2/layers.h"
#include "tensor/kernels.h"

/*
 * One walk over the weights serves twice: without an arena it checks names and shapes and adds up
 * the bytes, with one it loads. So the plan cannot differ from the load.
 */
struct loader {
    const struct gguf *gguf;
    const struct lfm2_hparams *hparams;
    bool precise;
    struct pool *pool;
    struct arena *arena; /* NULL: only plan */
    size_t bytes;        /* planned so far */
    uint8_t *used;       /* [n_tensors] tensors that the model has asked for */
    struct error *err;
};

/* NULL while planning. */
static void *take(struct loader *loader, size_t size)
{
    if (loader->arena)
        return arena_take(loader->arena, size);
    loader->bytes += arena_need(size);
    return NULL;
}

static int wrong_shape(struct loader *loader, const struct gguf_tensor *tensor, const char *name,
                       const uint64_t expected[3])
{
    return error_set(loader->err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', tensor '%s': expected shape {%" PRIu64 ", %" PRIu64 ", %" PRIu64
                     "}, found {%" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64 "}.",
                     gguf_path(loader->gguf), name, expected[0], expected[1], expected[2],
                     tensor->ne[0], tensor->ne[1], tensor->ne[2], tensor->ne[3]);
}

/* The tensor of this name, with exactly this shape (1 for dimensions that it has not). */
static const struct gguf_tensor *find(struct loader *loader, const char *name, uint64_t ne0,
                                      uint64_t ne1, uint64_t ne2)
{
    const struct gguf_tensor *tensor = gguf_tensor(loader->gguf, name);
    const uint64_t expected[3] = {ne0, ne1, ne2};

    if (!tensor) {
        error_set(loader->err, ERROR_UNSUPPORTED_FORMAT,
                  "In '%s', tensor '%s': expected it in a model of this kind, found none.",
                  gguf_path(loader->gguf), name);
        return NULL;
    }
    loader->used[tensor - gguf_tensor_at(loader->gguf, 0)] = 1;
    if (memcmp(tensor->ne, expected, sizeof(expected)) != 0 || tensor->ne[3] != 1) {
        wrong_shape(loader, tensor, name, expected);
        return NULL;
    }
    return tensor;
}

static bool load_matrix(struct loader *loader, const char *name, size_t out, size_t in,
                        struct matrix *ret)
{
    const struct gguf_tensor *tensor = find(loader, name, in, out, 1);

    if (!tensor)
        return false;
    if (loader->arena)
        matrix_load(ret, tensor, 0, loader->precise, loader->arena, loader->pool);
    else
        loader->bytes += arena_need(matrix_plan(tensor, loader->precise));
    return true;
}

/* Norms, taps, biases: small, always f32, copied out of the file. */
static bool load_f32(struct loader *loader, const char *name, size_t rows, size_t in,
                     const float **ret)
{
    const struct gguf_tensor *tensor = find(loader, name, in, rows, 1);
    float *values;

    if (!tensor)
        return false;
    values = take(loader, rows * in * sizeof(*values));
    if (!values)
        return true;
    dtype_to_f32(tensor->type, tensor->data, values, rows * in);
    *ret = values;
    return true;
}

__attribute__((format(printf, 2, 3))) static const char *name_of(char name[64], const char *format,
                                                                 ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(name, 64, format, args);
    va_end(args);
    return name;
}

static bool load_conv(struct loader *loader, unsigned i, struct lfm2_conv *conv)
{
    const size_t h = loader->hparams->n_embd;
    char name[64];

    return load_matrix(loader, name_of(name, "blk.%u.shortconv.in_proj.weight", i), 3 * h, h,
                       &conv->in_proj) &&
           load_f32(loader, name_of(name, "blk.%u.shortconv.conv.weight", i), h,
                    loader->hparams->conv_kernel, &conv->taps) &&
           load_matrix(loader, name_of(name, "blk.%u.shortconv.out_proj.weight", i), h, h,
                       &conv->out_proj);
}

static bool load_attention(struct loader *loader, unsigned i, struct lfm2_attention *attention)
{
    const size_t h = loader->hparams->n_embd;
    const size_t hd = loader->hparams->head_dim;
    const size_t q = loader->hparams->n_head * hd;
    const size_t kv = loader->hparams->n_head_kv[i] * hd;
    char name[64];

    return load_matrix(loader, name_of(name, "blk.%u.attn_q.weight", i), q, h, &attention->q) &&
           load_matrix(loader, name_of(name, "blk.%u.attn_k.weight", i), kv, h, &attention->k) &&
           load_matrix(loader, name_of(name, "blk.%u.attn_v.weight", i), kv, h, &attention->v) &&
           load_matrix(loader, name_of(name, "blk.%u.attn_output.weight", i), h, q,
                       &attention->out) &&
           load_f32(loader, name_of(name, "blk.%u.attn_q_norm.weight", i), 1, hd,
                    &attention->q_norm) &&
           load_f32(loader, name_of(name, "blk.%u.attn_k_norm.weight", i), 1, hd,
                    &attention->k_norm);
}

static bool load_ffn(struct loader *loader, unsigned i, struct lfm2_ffn *ffn)
{
    const size_t h = loader->hparams->n_embd;
    const size_t f = loader->hparams->n_ff;
    char name[64];

    return load_matrix(loader, name_of(name, "blk.%u.ffn_gate.weight", i), f, h, &ffn->gate) &&
           load_matrix(loader, name_of(name, "blk.%u.ffn_up.weight", i), f, h, &ffn->up) &&
           load_matrix(loader, name_of(name, "blk.%u.ffn_down.weight", i), h, f, &ffn->down);
}

/* The stacked matrices of all experts, one matrix for each. */
static bool load_experts(struct loader *loader, const char *name, size_t out, size_t in,
                         struct matrix **ret)
{
    const size_t n = loader->hparams->n_expert;
    const struct gguf_tensor *tensor = find(loader, name, in, out, n);

    if (!tensor)
        return false;
    *ret = take(loader, n * sizeof(**ret));
    for (size_t e = 0; e < n; e++) {
        if (loader->arena)
            matrix_load(*ret + e, tensor, e, loader->precise, loader->arena, loader->pool);
        else
            loader->bytes += arena_need(matrix_plan(tensor, loader->precise));
    }
    return true;
}

/*
 * The router decides in f32 whatever its type is in the file: close scores must not change places
 * by a rounding. So its values are widened once, and the matrix is made of those.
 */
static bool load_router(struct loader *loader, const char *name, struct matrix *ret)
{
    const size_t n = loader->hparams->n_expert;
    const size_t h = loader->hparams->n_embd;
    const float *values = NULL;
    struct gguf_tensor tensor = {
        .type = DTYPE_F32,
        .n_dims = 2,
        .ne = {h, n, 1, 1},
        .size_bytes = n * h * sizeof(*values),
    };

    if (!load_f32(loader, name, n, h, &values))
        return false;
    tensor.data = values;
    if (loader->arena)
        matrix_load(ret, &tensor, 0, loader->precise, loader->arena, loader->pool);
    else
        loader->bytes += arena_need(matrix_plan(&tensor, loader->precise));
    return true;
}

static bool load_moe(struct loader *loader, unsigned i, struct lfm2_moe *moe)
{
    const size_t n = loader->hparams->n_expert;
    const size_t h = loader->hparams->n_embd;
    const size_t f = loader->hparams->n_ff_expert;
    char name[64];

    name_of(name, "blk.%u.exp_probs_b.bias", i);
    if (gguf_tensor(loader->gguf, name)) {
        if (!load_f32(loader, name, 1, n, &moe->bias))
            return false;
    } else {
        moe->bias = take(loader, n * sizeof(*moe->bias)); /* zeros */
    }
    return load_router(loader, name_of(name, "blk.%u.ffn_gate_inp.weight", i), &moe->router) &&
           load_experts(loader, name_of(name, "blk.%u.ffn_gate_exps.weight", i), f, h,
                        &moe->gate) &&
           load_experts(loader, name_of(name, "blk.%u.ffn_up_exps.weight", i), f, h, &moe->up) &&
           load_experts(loader, name_of(name, "blk.%u.ffn_down_exps.weight", i), h, f, &moe->down);
}

static bool load_layer(struct loader *loader, unsigned i, struct lfm2_layer *layer)
{
    const struct lfm2_hparams *hparams = loader->hparams;
    char name[64];

    layer->n_head_kv = hparams->n_head_kv[i];
    layer->is_conv = layer->n_head_kv == 0;
    layer->is_moe = i >= hparams->n_layer_dense;

    return load_f32(loader, name_of(name, "blk.%u.attn_norm.weight", i), 1, hparams->n_embd,
                    &layer->mix_norm) &&
           load_f32(loader, name_of(name, "blk.%u.ffn_norm.weight", i), 1, hparams->n_embd,
                    &layer->ffn_norm) &&
           (layer->is_conv ? load_conv(loader, i, &layer->conv)
                           : load_attention(loader, i, &layer->attention)) &&
           (layer->is_moe ? load_moe(loader, i, &layer->moe) : load_ffn(loader, i, &layer->ffn));
}

/* The projection of retrieval models, and of the audio detokeniser. */
static bool load_dense_2(struct loader *loader, struct lfm2_model *model)
{
    const size_t out = loader->hparams->n_embd_out;

    if (out == 0)
        return true;
    if (!load_matrix(loader, "dense_2.weight", out, loader->hparams->n_embd, &model->dense_2))
        return false;
    return !gguf_tensor(loader->gguf, "dense_2.bias") ||
           load_f32(loader, "dense_2.bias", 1, out, &model->dense_2_bias);
}

/* A tensor that the model did not ask for means a model that works in another way. */
static bool all_used(struct loader *loader)
{
    for (size_t i = 0; i < gguf_n_tensors(loader->gguf); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(loader->gguf, i);
        char name[64];
        size_t n = 0;

        if (loader->used[i])
            continue;
        for (; n < tensor->name.length && n < sizeof(name) - 1; n++)
            name[n] = tensor->name.text[n] >= ' ' && tensor->name.text[n] <= '~'
                          ? tensor->name.text[n]
                          : '?';
        name[n] = 0;
        error_set(loader->err, ERROR_UNSUPPORTED_FORMAT,
                  "In '%s', tensor '%s': expected only tensors of the lfm2 architecture, found one "
                  "that has no place in it.",
                  gguf_path(loader->gguf), name);
        return false;
    }
    return true;
}

static bool load_weights(struct loader *loader, struct lfm2_model *model)
{
    const struct lfm2_hparams *hparams = loader->hparams;
    struct lfm2_layer unused = {0};

    model->layers = take(loader, hparams->n_layer * sizeof(*model->layers));
    if (!load_matrix(loader, "token_embd.weight", hparams->n_vocab, hparams->n_embd,
                     &model->token_embd))
        return false;
    for (unsigned i = 0; i < hparams->n_layer; i++) {
        struct lfm2_layer *layer = model->layers ? &model->layers[i] : &unused;

        if (!load_layer(loader, i, layer))
            return false;
        layer->index = layer->is_conv ? model->n_conv++ : model->n_attention++;
    }
    if (!load_f32(loader, "token_embd_norm.weight", 1, hparams->n_embd, &model->output_norm))
        return false;
    if (gguf_tensor(loader->gguf, "output.weight")) {
        if (!load_matrix(loader, "output.weight", hparams->n_vocab, hparams->n_embd,
                         &model->output))
            return false;
    } else {
        model->output = model->token_embd;
    }
    return load_dense_2(loader, model) && all_used(loader);
}

static int plan(struct loader *loader, struct lfm2_hparams *hparams)
{
    _cleanup_(freep) uint8_t *used = calloc(gguf_n_tensors(loader->gguf) + 1, 1);
    struct lfm2_model unused = {0};
    bool loads;
    int r;

    if (!used)
        return error_set(loader->err, ERROR_NO_MEMORY, "Cannot take memory for the tensor table.");
    r = lfm2_hparams_read(loader->gguf, hparams, loader->err);
    if (r < 0)
        return r;
    loader->hparams = hparams;
    loader->used = used;
    loads = load_weights(loader, &unused);
    loader->used = NULL;
    return loads ? 0 : error_errno(ERROR_UNSUPPORTED_FORMAT);
}

int lfm2_model_plan(const struct gguf *gguf, bool precise, struct lfm2_hparams *ret_hparams,
                    size_t *ret_bytes, struct error *err)
{
    struct loader loader = {.gguf = gguf, .precise = precise, .err = err};
    struct lfm2_hparams hparams;
    int r;

    r = plan(&loader, &hparams);
    if (r < 0)
        return r;
    *ret_hparams = hparams;
    *ret_bytes = loader.bytes;
    return 0;
}

struct lfm2_model *lfm2_model_load(const struct gguf *gguf, bool precise, struct pool *pool,
                                   struct error *err)
{
    struct loader loader = {.gguf = gguf, .precise = precise, .pool = pool, .err = err};
    struct lfm2_model *model = calloc(1, sizeof(*model));

    if (!model) {
        error_set(err, ERROR_NO_MEMORY, "Cannot take memory for a model.");
        return NULL;
    }
    if (kernels_check(err) < 0 || plan(&loader, &model->hparams) < 0 ||
        arena_init(&model->arena, loader.bytes, "the weights of a model", err) < 0)
        return lfm2_model_free(model);

    loader.arena = &model->arena;
    loader.used = calloc(gguf_n_tensors(gguf) + 1, 1);
    if (!loader.used) {
        error_set(err, ERROR_NO_MEMORY, "Cannot take memory for the tensor table.");
        return lfm2_model_free(model);
    }
    const bool loaded = load_weights(&loader, model);
    free(loader.used);
    assert(loaded); /* the plan has gone the same way */
    return model;
}

struct lfm2_model *lfm2_model_free(struct lfm2_model *model)
{
    if (!model)
        return NULL;
    arena_done(&model->arena);
    free(model);
    return NULL;
}
