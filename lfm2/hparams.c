/* SPDX-License-Identifier: MIT */
#include "lfm2/hparams.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "tensor/attend.h"

#define STRINGIFY_(x) #x
#define STRINGIFY(x)  STRINGIFY_(x)

/*
 * Larger numbers than any model has, small enough that no product of three overflows 64 bits. The
 * width of a row that meets a matrix is also bounded by the scratch of a worker (packing.h).
 */
#define WIDTH_MAX   32768
#define OUT_MAX     ((uint32_t)1 << 20) /* rows of dense_2 */
#define VOCAB_MAX   ((uint32_t)1 << 24)
#define CONTEXT_MAX ((uint32_t)1 << 24)
#define HEADS_MAX   4096
#define EXPERTS_MAX 4096
#define KERNEL_MAX  64

#define HEAD_DIM_EXPECTED "a multiple of 8 up to " STRINGIFY(ATTEND_HEAD_DIM_MAX)

struct reader {
    const struct gguf *gguf;
    const char *architecture;
    char key[96];
    struct error *err;
};

/* "attention.causal" -> "lfm2.attention.causal", valid until the next call. */
static const char *full_key(struct reader *reader, const char *key)
{
    snprintf(reader->key, sizeof(reader->key), "%s.%s", reader->architecture, key);
    return reader->key;
}

static int missing(struct reader *reader, const char *key)
{
    return error_set(reader->err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', key '%s': expected it in a model of this kind, found none.",
                     gguf_path(reader->gguf), full_key(reader, key));
}

static int wrong(struct reader *reader, const char *key, const char *expected, uint64_t found)
{
    return error_set(reader->err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', key '%s': expected %s, found %" PRIu64 ".", gguf_path(reader->gguf),
                     full_key(reader, key), expected, found);
}

static int check_range(struct reader *reader, const char *key, uint32_t value, uint32_t min,
                       uint32_t max)
{
    char expected[64];

    if (value >= min && value <= max)
        return 0;
    snprintf(expected, sizeof(expected), "a number from %" PRIu32 " to %" PRIu32, min, max);
    return wrong(reader, key, expected, value);
}

static int need_u32(struct reader *reader, const char *key, uint32_t min, uint32_t max,
                    uint32_t *ret)
{
    int r = gguf_u32(reader->gguf, full_key(reader, key), ret, reader->err);

    if (r == -ENOENT)
        return missing(reader, key);
    return r < 0 ? r : check_range(reader, key, *ret, min, max);
}

/* *ret keeps its value when the key is absent. */
static int want_u32(struct reader *reader, const char *key, uint32_t min, uint32_t max,
                    uint32_t *ret)
{
    int r = gguf_u32(reader->gguf, full_key(reader, key), ret, reader->err);

    if (r == -ENOENT)
        return 0;
    return r < 0 ? r : check_range(reader, key, *ret, min, max);
}

static int want_f32(struct reader *reader, const char *key, float *ret)
{
    int r = gguf_f32(reader->gguf, full_key(reader, key), ret, reader->err);

    if (r < 0 && r != -ENOENT)
        return r;
    if (!(*ret > 0) || !isfinite(*ret))
        return error_set(reader->err, ERROR_UNSUPPORTED_FORMAT,
                         "In '%s', key '%s': expected a positive number, found %g.",
                         gguf_path(reader->gguf), full_key(reader, key), (double)*ret);
    return 0;
}

static int read_architecture(struct reader *reader, bool *ret_moe, bool *ret_bidirectional)
{
    struct gguf_string name;
    int r;

    static const struct {
        const char *name;
        bool moe, bidirectional;
    } known[] = {
        {"lfm2", false, false},
        {"lfm2moe", true, false},
        {"lfm2-bidir", false, true},
    };

    r = gguf_str(reader->gguf, "general.architecture", &name, reader->err);
    if (r == -ENOENT) {
        return error_set(reader->err, ERROR_UNSUPPORTED_FORMAT,
                         "In '%s', key 'general.architecture': expected it, found none.",
                         gguf_path(reader->gguf));
    }
    if (r < 0)
        return r;
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (name.length != strlen(known[i].name) ||
            memcmp(name.text, known[i].name, name.length) != 0)
            continue;
        reader->architecture = known[i].name;
        *ret_moe = known[i].moe;
        *ret_bidirectional = known[i].bidirectional;
        return 0;
    }

    char found[32];
    size_t n = 0;

    for (; n < name.length && n < sizeof(found) - 1; n++)
        found[n] = name.text[n] >= ' ' && name.text[n] <= '~' ? name.text[n] : '?';
    found[n] = 0;
    return error_set(reader->err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', key 'general.architecture': expected lfm2, lfm2moe or lfm2-bidir, "
                     "found '%s'.",
                     gguf_path(reader->gguf), found);
}

/* One number for all layers, or one for each: 0 marks a convolution. */
static int read_heads_kv(struct reader *reader, struct lfm2_hparams *hparams)
{
    static const char name[] = "attention.head_count_kv";
    const char *key = full_key(reader, name);
    struct gguf_array array;
    uint32_t all = hparams->n_head;
    int r;

    if (!gguf_has(reader->gguf, key) || gguf_u32(reader->gguf, key, &all, NULL) == 0) {
        for (uint32_t i = 0; i < hparams->n_layer; i++)
            hparams->n_head_kv[i] = all;
    } else {
        r = gguf_array(reader->gguf, key, &array, reader->err);
        if (r < 0)
            return r;
        if (array.n != hparams->n_layer)
            return wrong(reader, name, "one number for each layer", array.n);
        for (uint32_t i = 0; i < hparams->n_layer; i++) {
            int64_t value;

            if (!gguf_array_i64(&array, i, &value) || value < 0 || value > HEADS_MAX)
                return wrong(reader, name, "numbers of KV heads, none below 0, in layer", i);
            hparams->n_head_kv[i] = (uint32_t)value;
        }
    }

    for (uint32_t i = 0; i < hparams->n_layer; i++) {
        const uint32_t n = hparams->n_head_kv[i];

        if (n == 0)
            continue;
        if (hparams->n_head % n)
            return wrong(reader, name, "a divisor of the number of heads", n);
        if (hparams->n_head / n > ATTEND_GROUP_MAX)
            return wrong(reader, name,
                         "at most " STRINGIFY(ATTEND_GROUP_MAX) " heads for a KV head",
                         hparams->n_head / n);
    }
    return 0;
}

static int read_head_dim(struct reader *reader, struct lfm2_hparams *hparams)
{
    uint32_t value_length, rope_length;
    int r;

    hparams->head_dim = hparams->n_embd / hparams->n_head;
    r = want_u32(reader, "attention.key_length", 1, WIDTH_MAX, &hparams->head_dim);
    if (r < 0)
        return r;
    if (hparams->head_dim == 0 || hparams->head_dim % 8 || hparams->head_dim > ATTEND_HEAD_DIM_MAX)
        return wrong(reader, "attention.key_length", HEAD_DIM_EXPECTED, hparams->head_dim);
    if ((uint64_t)hparams->n_head * hparams->head_dim > WIDTH_MAX)
        return wrong(reader, "attention.head_count",
                     "heads that together are at most " STRINGIFY(WIDTH_MAX) " wide",
                     hparams->n_head);

    value_length = rope_length = hparams->head_dim;
    r = want_u32(reader, "attention.value_length", 1, WIDTH_MAX, &value_length);
    if (r < 0)
        return r;
    if (value_length != hparams->head_dim)
        return wrong(reader, "attention.value_length", "the key length", value_length);
    r = want_u32(reader, "rope.dimension_count", 1, WIDTH_MAX, &rope_length);
    if (r < 0)
        return r;
    if (rope_length != hparams->head_dim)
        return wrong(reader, "rope.dimension_count", "the whole head", rope_length);
    return 0;
}

static int refuse_rope_scaling(struct reader *reader)
{
    struct gguf_string scaling;
    int r = gguf_str(reader->gguf, full_key(reader, "rope.scaling.type"), &scaling, reader->err);

    if (r < 0)
        return r == -ENOENT ? 0 : r;
    if (scaling.length == 4 && memcmp(scaling.text, "none", 4) == 0)
        return 0;
    return error_set(reader->err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', key '%s': expected no scaling of positions, found some.",
                     gguf_path(reader->gguf), full_key(reader, "rope.scaling.type"));
}

static int read_experts(struct reader *reader, struct lfm2_hparams *hparams)
{
    uint32_t gating = 2;
    int r;

    r = need_u32(reader, "expert_count", 1, EXPERTS_MAX, &hparams->n_expert);
    if (r < 0)
        return r;
    r = need_u32(reader, "expert_used_count", 1, hparams->n_expert, &hparams->n_expert_used);
    if (r < 0)
        return r;
    r = need_u32(reader, "expert_feed_forward_length", 1, WIDTH_MAX, &hparams->n_ff_expert);
    if (r < 0)
        return r;
    hparams->n_layer_dense = 0;
    r = want_u32(reader, "leading_dense_block_count", 0, hparams->n_layer, &hparams->n_layer_dense);
    if (r < 0)
        return r;
    r = want_u32(reader, "expert_gating_func", 1, 2, &gating);
    hparams->gate_softmax = gating == 1;
    return r;
}

static int read_layers(struct reader *reader, struct lfm2_hparams *hparams)
{
    int r = need_u32(reader, "block_count", 1, LFM2_LAYERS_MAX, &hparams->n_layer);

    if (r == 0)
        r = need_u32(reader, "embedding_length", 1, WIDTH_MAX, &hparams->n_embd);
    if (r == 0)
        r = need_u32(reader, "feed_forward_length", 1, WIDTH_MAX, &hparams->n_ff);
    if (r == 0)
        r = need_u32(reader, "context_length", 1, CONTEXT_MAX, &hparams->n_context);
    if (r == 0)
        r = need_u32(reader, "attention.head_count", 1, HEADS_MAX, &hparams->n_head);
    if (r == 0)
        r = read_head_dim(reader, hparams);
    if (r == 0)
        r = read_heads_kv(reader, hparams);
    return r;
}

static int read_settings(struct reader *reader, struct lfm2_hparams *hparams)
{
    int r = want_f32(reader, "attention.layer_norm_rms_epsilon", &hparams->norm_eps);

    if (r == 0)
        r = want_f32(reader, "rope.freq_base", &hparams->rope_theta);
    if (r == 0)
        r = refuse_rope_scaling(reader);
    if (r == 0)
        r = want_u32(reader, "shortconv.l_cache", 1, KERNEL_MAX, &hparams->conv_kernel);
    if (r == 0)
        r = want_u32(reader, "attention.sliding_window", 0, CONTEXT_MAX, &hparams->sliding_window);
    if (r < 0)
        return r;
    r = gguf_bool(reader->gguf, full_key(reader, "attention.causal"), &hparams->causal,
                  reader->err);
    return r == -ENOENT ? 0 : r;
}

/* What the tables themselves say of their rows is not to be contradicted by the keys. */
static int read_tables(struct reader *reader, struct lfm2_hparams *hparams)
{
    const struct gguf_tensor *dense_2 = gguf_tensor(reader->gguf, "dense_2.weight");
    const struct gguf_tensor *embedding = gguf_tensor(reader->gguf, "token_embd.weight");
    int r = want_u32(reader, "pooling_type", 0, 4, &hparams->pooling);

    if (dense_2)
        hparams->n_embd_out = (uint32_t)MIN(dense_2->ne[1], (uint64_t)UINT32_MAX);
    if (r == 0)
        r = want_u32(reader, "embedding_length_out", 0, OUT_MAX, &hparams->n_embd_out);
    if (r == 0 && hparams->n_embd_out > OUT_MAX)
        r = wrong(reader, "embedding_length_out", "at most a million", hparams->n_embd_out);
    if (embedding)
        hparams->n_vocab = (uint32_t)MIN(embedding->ne[1], (uint64_t)UINT32_MAX);
    if (r == 0)
        r = want_u32(reader, "vocab_size", 1, VOCAB_MAX, &hparams->n_vocab);
    if (r == 0)
        r = check_range(reader, "vocab_size", hparams->n_vocab, embedding ? 1 : 0, VOCAB_MAX);
    return r;
}

int lfm2_hparams_read(const struct gguf *gguf, struct lfm2_hparams *ret, struct error *err)
{
    struct reader reader = {.gguf = gguf, .err = err};
    /* The defaults of the reference implementations for keys that a file may lack. */
    struct lfm2_hparams hparams = {.conv_kernel = 3, .norm_eps = 1e-5f, .rope_theta = 10000};
    bool moe = false, bidirectional = false;
    int r = read_architecture(&reader, &moe, &bidirectional);

    hparams.causal = !bidirectional;
    if (r == 0)
        r = read_layers(&reader, &hparams);
    if (r == 0)
        r = read_settings(&reader, &hparams);
    hparams.n_layer_dense = hparams.n_layer;
    if (r == 0 && moe)
        r = read_experts(&reader, &hparams);
    if (r == 0)
        r = read_tables(&reader, &hparams);
    if (r == 0)
        *ret = hparams;
    return r;
}
