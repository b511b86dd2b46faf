/* SPDX-License-Identifier: MIT */
#include "audio/out/depthformer.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tensor/gguf.h"
#include "tensor/kernels.h"
#include "tensor/loader.h"
#include "tensor/ops.h"

/* The files do not say these. */
#define HEADS      32
#define KV_HEADS   8
#define GROUP      (HEADS / KV_HEADS)
#define NORM_EPS   1e-5f
#define ROPE_THETA 1e6

/* Larger than any model has, small enough for every product of sizes below. */
#define WIDTH_MAX  32768
#define LAYERS_MAX 512
#define CODES_MAX  ((uint64_t)1 << 20)

struct layer {
    const float *mix_norm;          /* [D]              ...operator_norm.weight */
    struct matrix qkv;              /* [D + D / 2][D]   ...operator.qkv_proj.weight, q | k | v */
    const float *q_norm, *k_norm;   /* [hd]             ...operator.attention.q_layernorm.weight */
    struct matrix out;              /* [D][D]           ...operator.out_proj.weight */
    const float *ffn_norm;          /* [D]              ...ffn_norm.weight */
    struct matrix gate, up, down;   /* [F][D] w1, w3; [D][F] w2  ...feed_forward.w1.weight */
    float *k, *v;                   /* [CODEBOOKS][KV_HEADS * hd] of this frame */
};

struct book {
    const float *norm;       /* [D]         depth_embeddings.%u.embedding_norm.weight */
    struct matrix to_logits; /* [V + 1][D]  depth_embeddings.%u.to_logits.weight */
    struct matrix embedding; /* [V + 1][D]  depth_embeddings.%u.embedding.weight */
};

struct depthformer {
    struct depthformer_info info;
    size_t hd, n_ff; /* width of a head; F */
    enum matrix_form form;
    struct gguf *gguf;
    struct pool *pool;
    struct arena arena;

    struct matrix linear;      /* [CODEBOOKS * D][H]        depth_linear.weight */
    const float *linear_bias;  /* [CODEBOOKS * D]           depth_linear.bias */
    struct layer *layers;      /* [n_layer] */
    struct book books[CODEBOOKS];
    struct matrix code_rows;   /* [CODEBOOKS * (V + 1)][H]  audio_embedding.embedding.weight */

    float *slices; /* [CODEBOOKS][D] */
    float *x, *h;  /* [D] residual stream; normed input of a step */
    float *wide;   /* [max(D + D / 2, 2 F)]  q | k | v;  gate, up */
    float *y;      /* [max(D, H)] output of a step; a row of code_rows */
    float *logits; /* [V + 1] */
    float *cos, *sin; /* [CODEBOOKS][hd / 2] */
    struct rows rows;
};

/* --- loading ---------------------------------------------------------------------------------- */

/* The file may hold a table twice under two names; then it is loaded once. */
static bool same_table(const struct gguf *gguf, const char *a, const char *b)
{
    const struct gguf_tensor *const x = gguf_tensor(gguf, a), *const y = gguf_tensor(gguf, b);
    bool same;

    if (!x || !y || x->type != y->type || memcmp(x->ne, y->ne, sizeof(x->ne)) != 0)
        return false;
    same = memcmp(x->data, y->data, x->size_bytes) == 0;
    gguf_tensor_drop(y);
    return same;
}

static bool load_book(struct loader *loader, const struct depthformer_info *info, unsigned i,
                      struct book *book)
{
    char norm[64], to_logits[64], embedding[64];
    bool tied;

    loader_name(norm, "depth_embeddings.%u.embedding_norm.weight", i);
    loader_name(to_logits, "depth_embeddings.%u.to_logits.weight", i);
    loader_name(embedding, "depth_embeddings.%u.embedding.weight", i);
    tied = loader->arena && same_table(loader->gguf, to_logits, embedding); /* a plan is the same */
    if (!loader_f32(loader, norm, 1, info->dim, &book->norm) ||
        !loader_matrix(loader, to_logits, info->n_codes + 1, info->dim, &book->to_logits))
        return false;
    book->embedding = book->to_logits;
    return tied ||
           loader_table(loader, embedding, info->n_codes + 1, info->dim, &book->embedding);
}

static bool load_layer(struct loader *loader, const struct depthformer *df, unsigned i,
                       struct layer *layer)
{
    const size_t d = df->info.dim, hd = df->hd, f = df->n_ff;
    char name[64], prefix[32];

    snprintf(prefix, sizeof(prefix), "depthformer.layers.%u", i);
    layer->k = loader_take(loader, CODEBOOKS * KV_HEADS * hd * sizeof(*layer->k));
    layer->v = loader_take(loader, CODEBOOKS * KV_HEADS * hd * sizeof(*layer->v));
    return loader_f32(loader, loader_name(name, "%s.operator_norm.weight", prefix), 1, d,
                      &layer->mix_norm) &&
           loader_matrix(loader, loader_name(name, "%s.operator.qkv_proj.weight", prefix),
                         (HEADS + 2 * KV_HEADS) * hd, d, &layer->qkv) &&
           loader_f32(loader,
                      loader_name(name, "%s.operator.attention.q_layernorm.weight", prefix), 1, hd,
                      &layer->q_norm) &&
           loader_f32(loader,
                      loader_name(name, "%s.operator.attention.k_layernorm.weight", prefix), 1, hd,
                      &layer->k_norm) &&
           loader_matrix(loader, loader_name(name, "%s.operator.out_proj.weight", prefix), d, d,
                         &layer->out) &&
           loader_f32(loader, loader_name(name, "%s.ffn_norm.weight", prefix), 1, d,
                      &layer->ffn_norm) &&
           loader_matrix(loader, loader_name(name, "%s.feed_forward.w1.weight", prefix), f, d,
                         &layer->gate) &&
           loader_matrix(loader, loader_name(name, "%s.feed_forward.w3.weight", prefix), f, d,
                         &layer->up) &&
           loader_matrix(loader, loader_name(name, "%s.feed_forward.w2.weight", prefix), d, f,
                         &layer->down);
}

/* A loader_walk of a depthformer whose sizes are known. */
static bool load_weights(struct loader *loader, void *userdata)
{
    struct depthformer *df = userdata;
    const size_t d = df->info.dim, n_embd = df->info.n_embd, n_logits = df->info.n_codes + 1;
    struct layer unused = {0};

    df->layers = loader_take(loader, df->info.n_layer * sizeof(*df->layers));
    df->slices = loader_take(loader, CODEBOOKS * d * sizeof(float));
    df->x = loader_take(loader, d * sizeof(float));
    df->h = loader_take(loader, d * sizeof(float));
    df->wide = loader_take(loader, MAX(d + d / 2, 2 * df->n_ff) * sizeof(float));
    df->y = loader_take(loader, MAX(d, n_embd) * sizeof(float));
    df->logits = loader_take(loader, n_logits * sizeof(float));
    df->cos = loader_take(loader, CODEBOOKS * df->hd / 2 * sizeof(float));
    df->sin = loader_take(loader, CODEBOOKS * df->hd / 2 * sizeof(float));

    if (!loader_matrix(loader, "depth_linear.weight", CODEBOOKS * d, n_embd, &df->linear) ||
        !loader_f32(loader, "depth_linear.bias", 1, CODEBOOKS * d, &df->linear_bias))
        return false;
    for (unsigned i = 0; i < df->info.n_layer; i++)
        if (!load_layer(loader, df, i, df->layers ? &df->layers[i] : &unused))
            return false;
    for (unsigned i = 0; i < CODEBOOKS; i++)
        if (!load_book(loader, &df->info, i, &df->books[i]))
            return false;
    return loader_table(loader, "audio_embedding.embedding.weight", CODEBOOKS * n_logits, n_embd,
                        &df->code_rows);
}

static int wrong(const struct gguf *gguf, const char *kind, const char *name, const char *expected,
                 uint64_t found, struct error *err)
{
    return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', %s '%s': expected %s, found %" PRIu64 ".", gguf_path(gguf), kind,
                     name, expected, found);
}

/* otherwise: what the tensors say, which files of LFM2-Audio may leave it to; 0: nothing */
static int read_key(const struct gguf *gguf, const char *key, uint64_t otherwise, uint64_t *ret,
                    struct error *err)
{
    int r = gguf_u64(gguf, key, ret, err);

    if (r == -ENOENT && otherwise > 0) {
        *ret = otherwise;
        return 0;
    }
    return r != -ENOENT ? r
                        : error_set(err, ERROR_UNSUPPORTED_FORMAT,
                                    "In '%s', key '%s': expected it in a vocoder file, found none.",
                                    gguf_path(gguf), key);
}

static uint64_t count_layers(const struct gguf *gguf)
{
    char name[64];
    unsigned n = 0;

    while (n <= LAYERS_MAX &&
           gguf_tensor(gguf, loader_name(name, "depthformer.layers.%u.operator_norm.weight", n)))
        n++;
    return n;
}

/* A size that a tensor tells; a tensor that is not there is missed by the walk. */
static uint64_t tensor_size(const struct gguf *gguf, const char *name, size_t dimension)
{
    const struct gguf_tensor *tensor = gguf_tensor(gguf, name);

    return tensor ? tensor->ne[dimension] : 1;
}

/* What the loader cannot know: the sizes. */
static int read_sizes(const struct gguf *gguf, struct depthformer *df, struct error *err)
{
    static const char linear[] = "depth_linear.weight";
    static const char w1[] = "depthformer.layers.0.feed_forward.w1.weight";
    static const char table[] = "depth_embeddings.0.to_logits.weight";
    uint64_t n_layer, dim, n_embd, n_ff, n_logits;
    int r = read_key(gguf, "depthformer_n_layer", count_layers(gguf), &n_layer, err);

    if (r == 0)
        r = read_key(gguf, "depthformer_n_embd", tensor_size(gguf, linear, 1) / CODEBOOKS, &dim,
                     err);
    if (r < 0)
        return r;
    if (n_layer < 1 || n_layer > LAYERS_MAX)
        return wrong(gguf, "key", "depthformer_n_layer", "1 to 512 layers", n_layer, err);
    if (dim < 1 || dim > WIDTH_MAX || dim % (2 * HEADS))
        return wrong(gguf, "key", "depthformer_n_embd", "a multiple of 64 up to 32768", dim, err);
    n_embd = tensor_size(gguf, linear, 0);
    if (n_embd < 1 || n_embd > WIDTH_MAX)
        return wrong(gguf, "tensor", linear, "rows of 1 to 32768 values", n_embd, err);
    n_ff = tensor_size(gguf, w1, 1);
    if (n_ff < 1 || n_ff > WIDTH_MAX)
        return wrong(gguf, "tensor", w1, "1 to 32768 rows", n_ff, err);
    n_logits = tensor_size(gguf, table, 1);
    if (n_logits < 1 || n_logits > CODES_MAX)
        return wrong(gguf, "tensor", table, "1 to 1048576 rows", n_logits, err);

    df->info.n_layer = (size_t)n_layer;
    df->info.dim = (size_t)dim;
    df->info.n_embd = (size_t)n_embd;
    df->info.n_codes = (size_t)n_logits - 1;
    df->n_ff = (size_t)n_ff;
    df->hd = df->info.dim / HEADS;
    return 0;
}

static size_t row_values(const struct depthformer *df)
{
    return MAX(MAX(df->info.n_embd, df->info.dim), df->n_ff);
}

static int plan(const struct gguf *gguf, bool precise, struct depthformer *df, struct error *err)
{
    int r = read_sizes(gguf, df, err);

    df->form = precise ? MATRIX_PRECISE : MATRIX_FAST;
    if (r == 0)
        r = loader_plan(gguf, df->form, NULL, load_weights, df, &df->info.bytes, err);
    if (r == 0)
        df->info.bytes += rows_plan(df->form, row_values(df));
    return r;
}

int depthformer_plan(const char *path, bool precise, struct depthformer_info *ret,
                     struct error *err)
{
    struct gguf *gguf = gguf_open(path, err);
    struct depthformer unused = {0};
    int r;

    if (!gguf)
        return -EINVAL;
    r = plan(gguf, precise, &unused, err);
    if (r == 0)
        *ret = unused.info;
    gguf_free(gguf);
    return r;
}

static void fill_angles(struct depthformer *df)
{
    for (size_t p = 0; p < CODEBOOKS; p++)
        op_rope_table(p, df->hd, ROPE_THETA, df->cos + p * df->hd / 2, df->sin + p * df->hd / 2);
}

struct depthformer *depthformer_load(const char *path, bool precise, struct pool *pool,
                                     struct error *err)
{
    struct depthformer *df = calloc(1, sizeof(*df));

    if (!df) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for a depthformer.");
        return NULL;
    }
    df->pool = pool;
    df->gguf = gguf_open(path, err);
    if (!df->gguf || kernels_check(err) < 0 || plan(df->gguf, precise, df, err) < 0 ||
        arena_init(&df->arena, df->info.bytes, "a depthformer", err) < 0 ||
        loader_load(df->gguf, df->form, load_weights, df, &df->arena, pool, err) < 0)
        return depthformer_free(df);
    rows_init(&df->rows, df->form, row_values(df), &df->arena);
    fill_angles(df);
    return df;
}

struct depthformer *depthformer_free(struct depthformer *df)
{
    if (!df)
        return NULL;
    arena_done(&df->arena);
    gguf_free(df->gguf);
    free(df);
    return NULL;
}

const struct depthformer_info *depthformer_info(const struct depthformer *df)
{
    return &df->info;
}

/* --- one step --------------------------------------------------------------------------------- */

static void product(struct depthformer *df, const struct matrix *matrix, const float *x, float *y)
{
    rows_set(&df->rows, x, 1, matrix->in, df->pool);
    matmul(matrix, &df->rows, y, df->pool);
}

/* One query against the books 0 .. `book`: a few keys, so plain sums. */
static void attend_head(const float *q, const float *k, const float *v, size_t hd, unsigned book,
                        float *out)
{
    const float scale = 1 / sqrtf((float)hd);
    float p[CODEBOOKS], largest = -INFINITY, sum = 0;

    for (unsigned t = 0; t <= book; t++) {
        float score = 0;

        for (size_t i = 0; i < hd; i++)
            score += q[i] * k[t * KV_HEADS * hd + i];
        p[t] = score * scale;
        largest = fmaxf(largest, p[t]);
    }
    for (unsigned t = 0; t <= book; t++) {
        p[t] = expf(p[t] - largest);
        sum += p[t];
    }
    memset(out, 0, hd * sizeof(*out));
    for (unsigned t = 0; t <= book; t++)
        op_add_scaled(out, v + t * KV_HEADS * hd, p[t] / sum, hd);
}

/* h [D] -> y [D] */
static void attention(struct depthformer *df, const struct layer *layer, unsigned book)
{
    const size_t hd = df->hd, width = KV_HEADS * hd;
    const float *cos = df->cos + book * hd / 2, *sin = df->sin + book * hd / 2;
    float *q = df->wide, *k = q + HEADS * hd, *v = k + width;

    product(df, &layer->qkv, df->h, df->wide);
    for (size_t i = 0; i < HEADS; i++) {
        op_rmsnorm(q + i * hd, layer->q_norm, hd, NORM_EPS, q + i * hd);
        op_rope_adjacent(q + i * hd, hd, cos, sin);
    }
    for (size_t i = 0; i < KV_HEADS; i++) {
        op_rmsnorm(k + i * hd, layer->k_norm, hd, NORM_EPS, k + i * hd);
        op_rope_adjacent(k + i * hd, hd, cos, sin);
    }
    memcpy(layer->k + book * width, k, width * sizeof(*k));
    memcpy(layer->v + book * width, v, width * sizeof(*v));
    for (size_t i = 0; i < HEADS; i++)
        attend_head(q + i * hd, layer->k + i / GROUP * hd, layer->v + i / GROUP * hd, hd, book,
                    df->h + i * hd);
    product(df, &layer->out, df->h, df->y);
}

/* h [D] -> y [D] */
static void swiglu(struct depthformer *df, const struct layer *layer)
{
    float *gate = df->wide, *up = gate + df->n_ff;

    rows_set(&df->rows, df->h, 1, df->info.dim, df->pool);
    matmul_n((const struct matrix *const[]){&layer->gate, &layer->up}, (float *const[]){gate, up},
             2, &df->rows, df->pool);
    op_silu_mul(gate, up, df->n_ff);
    product(df, &layer->down, gate, df->y);
}

void depthformer_begin(struct depthformer *df, const float *hidden)
{
    product(df, &df->linear, hidden, df->slices);
    op_add(df->slices, df->linear_bias, CODEBOOKS * df->info.dim);
}

float *depthformer_logits(struct depthformer *df, unsigned book, int32_t previous)
{
    const size_t d = df->info.dim;

    assert(book < CODEBOOKS);
    memcpy(df->x, df->slices + book * d, d * sizeof(*df->x));
    if (book > 0) {
        assert(previous >= 0 && (size_t)previous <= df->info.n_codes);
        matrix_row(&df->books[book - 1].embedding, (size_t)previous, df->y);
        op_add(df->x, df->y, d);
    }
    for (size_t i = 0; i < df->info.n_layer; i++) {
        const struct layer *layer = &df->layers[i];

        op_rmsnorm(df->x, layer->mix_norm, d, NORM_EPS, df->h);
        attention(df, layer, book);
        op_add(df->x, df->y, d);
        op_rmsnorm(df->x, layer->ffn_norm, d, NORM_EPS, df->h);
        swiglu(df, layer);
        op_add(df->x, df->y, d);
    }
    op_rmsnorm(df->x, df->books[book].norm, d, NORM_EPS, df->h);
    product(df, &df->books[book].to_logits, df->h, df->logits);
    return df->logits;
}

void depthformer_code_row(const struct depthformer *df, const int32_t codes[CODEBOOKS], float *row)
{
    const size_t n_logits = df->info.n_codes + 1;

    memset(row, 0, df->info.n_embd * sizeof(*row));
    for (size_t i = 0; i < CODEBOOKS; i++) {
        assert(codes[i] >= 0 && (size_t)codes[i] < n_logits);
        matrix_row(&df->code_rows, i * n_logits + (size_t)codes[i], df->y);
        op_add(row, df->y, df->info.n_embd);
    }
}
