/* SPDX-License-Identifier: MIT */
#include "audio/out/mimi.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audio/out/conv.h"
#include "base/cleanup.h"
#include "tensor/attend.h"
#include "tensor/kernels.h"
#include "tensor/ops.h"
#include "tensor/steps.h"

#define STAGES      4
#define TAIL        (3 * STAGES + 2) /* number of the last convolution */
#define UPSAMPLE    2 /* rows of a frame, before the stages */
#define NORM_EPS    1e-5f
#define ROPE_PERIOD 10000
#define USAGE_MIN   1e-5f
#define HALVES      2 /* of the quantiser: the first book, the rest */
#define PARTS       3 /* queries, keys, values */

/* Larger than any model has, small enough for every product of sizes below. */
#define WIDTH_MAX   8192
#define LAYERS_MAX  512
#define CONTEXT_MAX 4096
#define CODES_MAX   ((uint64_t)1 << 20)

/* One of two sets of names for the same tensors. */
struct naming {
    const char *halves[HALVES], *books, *book, *usage; /* usage NULL: rows are ready */
    const char *repeat;

    const char *layers, *mix_norm, *ffn_norm; /* LAYERS.%u.PART */
    const char *parts[PARTS], *out, *mix_scale, *ffn_scale, *up, *down;

    const char *model, *conv, *conv_up, *mix, *add; /* MODEL.%u.CONV */

    size_t n_parts;         /* matrices that queries, keys and values come from */
    size_t n_head, context; /* 0: in keys */
};

/* Of Kyutai's checkpoint, in a file of architecture "mimi". */
static const struct naming kyutai = {
    .halves = {"quantizer.rvq_first", "quantizer.rvq_rest"},
    .books = "vq.layers",
    .book = "cb.embedding_sum",
    .usage = "cb.cluster_usage",
    .repeat = "upsample.convtr.convtr.convtr",
    .layers = "dec_tfm.layers",
    .mix_norm = "norm1",
    .ffn_norm = "norm2",
    .parts = {"self_attn.in_projs.0.weight"},
    .out = "self_attn.out_projs.0.weight",
    .mix_scale = "layer_scale_1.scale",
    .ffn_scale = "layer_scale_2.scale",
    .up = "linear1.weight",
    .down = "linear2.weight",
    .model = "decoder.model",
    .conv = "conv.conv",
    .conv_up = "convtr.convtr",
    .mix = "block.1.conv.conv",
    .add = "block.3.conv.conv",
    .n_parts = 1,
};

/* Of the transformers library, in the files that llama.cpp's converters write: "audiodecoder" of
 * LFM2-Audio, which has the depthformer beside it, and "kyutai-mimi". */
static const struct naming transformers = {
    .halves = {"quantizer.semantic_rvq", "quantizer.acoustic_rvq"},
    .books = "layers",
    .book = "codebook",
    .repeat = "upsample.conv",
    .layers = "decoder_transformer.layers",
    .mix_norm = "input_layernorm",
    .ffn_norm = "post_attention_layernorm",
    .parts = {"self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"},
    .out = "self_attn.o_proj.weight",
    .mix_scale = "self_attn_layer_scale.scale",
    .ffn_scale = "mlp_layer_scale.scale",
    .up = "mlp.fc1.weight",
    .down = "mlp.fc2.weight",
    .model = "decoder.layers",
    .conv = "conv",
    .conv_up = "conv",
    .mix = "block.1.conv",
    .add = "block.3.conv",
    .n_parts = 3,
    .n_head = 8,
    .context = 250,
};

struct codebook {
    struct matrix rows; /* [n_codes][width] */
    const float *usage; /* [n_codes] that the rows are divided by, or NULL */
};

struct layer {
    struct layer_norm mix_norm, ffn_norm; /* [D] */
    struct matrix parts[PARTS];           /* [3D][D] q | k | v; or [D][D] each */
    struct matrix out;                    /* [D][D] */
    const float *mix_scale, *ffn_scale;   /* [D] */
    struct matrix up, down;               /* [F][D], [D][F] */
    void *k, *v;                          /* of head 0 */
};

struct stage {
    size_t stride, in, out, inner;
    struct conv_up up;    /* in -> out */
    struct conv mix, add; /* out -> inner -> out */
};

struct mimi {
    struct mimi_info info;
    const struct naming *naming;
    size_t n_layer, n_head, context; /* rows that a layer looks back, itself included */
    size_t d, n_ff, width;           /* D; F; of a codebook's row */
    size_t n_rows_max, n_taps_max;   /* values of the widest rows and taps of the stages */
    enum matrix_form form;
    struct gguf *gguf;
    struct pool *pool;
    struct arena arena;

    struct codebook books[CODEBOOKS];
    struct conv first, rest; /* width -> D */
    struct conv_own repeat;  /* D */
    struct layer *layers;    /* [n_layer] */
    struct conv head, tail;
    struct stage stages[STAGES];

    size_t position, n_past;   /* of the transformer: rows so far; rows in its cache */
    float *row, *sum;          /* [width] */
    float *latent;             /* [2][D] */
    float *x, *h, *q, *y;      /* [UPSAMPLE][D] */
    float *qkv;                /* [UPSAMPLE][3D]; or [3][UPSAMPLE][D], one matrix after the other */
    float *wide;               /* [UPSAMPLE][F] */
    const float *zeros;        /* [F] */
    float *cos, *sin;          /* [UPSAMPLE][hd / 2] */
    float *a, *b, *c;          /* [n_rows_max] */
    float *taps;               /* [n_taps_max] */
    struct rows rows;
};

/* --- loading ---------------------------------------------------------------------------------- */

static size_t head_dim(const struct mimi *mimi)
{
    return mimi->d / mimi->n_head;
}

/* Rows that the cache must have room for. */
static size_t n_cache(const struct mimi *mimi)
{
    return mimi->context - 1 + KV_DROP_REST + UPSAMPLE;
}

static size_t kv_stride(const struct mimi *mimi)
{
    return kv_bytes(KV_F32, head_dim(mimi), n_cache(mimi));
}

/* "decoder.model.0.conv.conv" */
static const char *numbered(char name[64], const char *folder, unsigned i, const char *what)
{
    return loader_name(name, "%s.%u.%s", folder, i, what);
}

static bool load_book(struct loader *loader, const struct mimi *mimi, size_t i,
                      struct codebook *book)
{
    const struct naming *naming = mimi->naming;
    const unsigned n = i == 0 ? 0 : (unsigned)i - 1;
    char folder[64], name[64];

    loader_name(folder, "%s.%s", naming->halves[i > 0], naming->books);
    return loader_table(loader, numbered(name, folder, n, naming->book), mimi->info.n_codes,
                        mimi->width, &book->rows) &&
           (!naming->usage || loader_f32(loader, numbered(name, folder, n, naming->usage), 1,
                                         mimi->info.n_codes, &book->usage));
}

static bool load_layer(struct loader *loader, const struct mimi *mimi, unsigned i,
                       struct layer *layer)
{
    const struct naming *naming = mimi->naming;
    const size_t d = mimi->d, f = mimi->n_ff;
    char name[64];

    layer->k = loader_take(loader, mimi->n_head * kv_stride(mimi));
    layer->v = loader_take(loader, mimi->n_head * kv_stride(mimi));
    for (size_t k = 0; k < naming->n_parts; k++)
        if (!loader_matrix(loader, numbered(name, naming->layers, i, naming->parts[k]),
                           PARTS / naming->n_parts * d, d, &layer->parts[k]))
            return false;
    return layer_norm_load(loader, numbered(name, naming->layers, i, naming->mix_norm), d,
                           &layer->mix_norm) &&
           loader_matrix(loader, numbered(name, naming->layers, i, naming->out), d, d,
                         &layer->out) &&
           loader_f32(loader, numbered(name, naming->layers, i, naming->mix_scale), 1, d,
                      &layer->mix_scale) &&
           layer_norm_load(loader, numbered(name, naming->layers, i, naming->ffn_norm), d,
                           &layer->ffn_norm) &&
           loader_matrix(loader, numbered(name, naming->layers, i, naming->up), f, d, &layer->up) &&
           loader_matrix(loader, numbered(name, naming->layers, i, naming->down), d, f,
                         &layer->down) &&
           loader_f32(loader, numbered(name, naming->layers, i, naming->ffn_scale), 1, d,
                      &layer->ffn_scale);
}

static bool load_stage(struct loader *loader, const struct naming *naming, unsigned i,
                       struct stage *stage)
{
    char name[64];

    return conv_up_load(loader, numbered(name, naming->model, 3 * i + 2, naming->conv_up),
                        stage->stride, stage->in, stage->out, &stage->up) &&
           conv_load(loader, numbered(name, naming->model, 3 * i + 3, naming->mix), 3, stage->out,
                     stage->inner, true, &stage->mix) &&
           conv_load(loader, numbered(name, naming->model, 3 * i + 3, naming->add), 1,
                     stage->inner, stage->out, true, &stage->add);
}

static float *take_floats(struct loader *loader, size_t n)
{
    return loader_take(loader, n * sizeof(float));
}

/* A loader_walk of a mimi whose sizes are known. */
static bool load_weights(struct loader *loader, void *userdata)
{
    struct mimi *mimi = userdata;
    const struct naming *naming = mimi->naming;
    const size_t d = mimi->d;
    struct layer unused = {0};
    char name[64];

    mimi->layers = loader_take(loader, mimi->n_layer * sizeof(*mimi->layers));
    mimi->row = take_floats(loader, mimi->width);
    mimi->sum = take_floats(loader, mimi->width);
    mimi->latent = take_floats(loader, 2 * d);
    mimi->x = take_floats(loader, UPSAMPLE * d);
    mimi->h = take_floats(loader, UPSAMPLE * d);
    mimi->q = take_floats(loader, UPSAMPLE * d);
    mimi->y = take_floats(loader, UPSAMPLE * d);
    mimi->qkv = take_floats(loader, UPSAMPLE * 3 * d);
    mimi->wide = take_floats(loader, UPSAMPLE * mimi->n_ff);
    mimi->zeros = take_floats(loader, mimi->n_ff);
    mimi->cos = take_floats(loader, UPSAMPLE * head_dim(mimi) / 2);
    mimi->sin = take_floats(loader, UPSAMPLE * head_dim(mimi) / 2);
    mimi->a = take_floats(loader, mimi->n_rows_max);
    mimi->b = take_floats(loader, mimi->n_rows_max);
    mimi->c = take_floats(loader, mimi->n_rows_max);
    mimi->taps = take_floats(loader, mimi->n_taps_max);

    for (size_t i = 0; i < CODEBOOKS; i++)
        if (!load_book(loader, mimi, i, &mimi->books[i]))
            return false;
    if (!conv_load(loader, loader_name(name, "%s.output_proj", naming->halves[0]), 1, mimi->width,
                   d, false, &mimi->first) ||
        !conv_load(loader, loader_name(name, "%s.output_proj", naming->halves[1]), 1, mimi->width,
                   d, false, &mimi->rest) ||
        !conv_own_load(loader, naming->repeat, UPSAMPLE, d, &mimi->repeat))
        return false;
    for (unsigned i = 0; i < mimi->n_layer; i++)
        if (!load_layer(loader, mimi, i, mimi->layers ? &mimi->layers[i] : &unused))
            return false;
    if (!conv_load(loader, numbered(name, naming->model, 0, naming->conv), mimi->head.kernel, d,
                   mimi->head.out, true, &mimi->head))
        return false;
    for (unsigned i = 0; i < STAGES; i++)
        if (!load_stage(loader, naming, i, &mimi->stages[i]))
            return false;
    return conv_load(loader, numbered(name, naming->model, TAIL, naming->conv), mimi->tail.kernel,
                     mimi->stages[STAGES - 1].out, 1, true, &mimi->tail);
}

/* --- sizes ------------------------------------------------------------------------------------ */

static int wrong(const struct gguf *gguf, const char *kind, const char *name, const char *expected,
                 uint64_t found, struct error *err)
{
    return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', %s '%s': expected %s, found %" PRIu64 ".", gguf_path(gguf), kind,
                     name, expected, found);
}

static int read_key(const struct gguf *gguf, const char *key, uint64_t max, size_t *ret,
                    struct error *err)
{
    uint64_t value;
    int r = gguf_u64(gguf, key, &value, err);

    if (r == -ENOENT)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "In '%s', key '%s': expected it in a Mimi file, found none.",
                         gguf_path(gguf), key);
    if (r == 0 && (value < 1 || value > max))
        return wrong(gguf, "key", key, "a number of a usual size", value, err);
    if (r == 0)
        *ret = (size_t)value;
    return r;
}

/* A size that a tensor tells; a tensor that is not there is missed by the walk. */
static int read_size(const struct gguf *gguf, const char *name, size_t dimension, uint64_t max,
                     size_t *ret, struct error *err)
{
    const struct gguf_tensor *tensor = gguf_tensor(gguf, name);
    const uint64_t size = tensor ? tensor->ne[dimension] : 1;

    if (size > max)
        return wrong(gguf, "tensor", name, "a shape of a usual size", size, err);
    *ret = (size_t)size;
    return 0;
}

static size_t count_layers(const struct gguf *gguf, const struct naming *naming)
{
    char part[64], name[64];
    size_t n = 0;

    loader_name(part, "%s.weight", naming->mix_norm);
    while (n < LAYERS_MAX &&
           gguf_tensor(gguf, numbered(name, naming->layers, (unsigned)n, part)))
        n++;
    return n;
}

static int read_keys(const struct gguf *gguf, struct mimi *mimi, struct error *err)
{
    size_t rate;
    int r = read_key(gguf, "mimi.sample_rate", UINT32_MAX, &rate, err);

    if (r == 0 && rate != 24000)
        r = wrong(gguf, "key", "mimi.sample_rate", "24000", rate, err);
    if (r == 0)
        r = read_key(gguf, "mimi.transformer_context", CONTEXT_MAX, &mimi->context, err);
    if (r == 0)
        r = read_key(gguf, "mimi.transformer_heads", WIDTH_MAX, &mimi->n_head, err);
    return r;
}

static int read_transformer(const struct gguf *gguf, struct mimi *mimi, struct error *err)
{
    const struct naming *naming = mimi->naming;
    char repeat[64], up[64];
    int r = 0;

    loader_name(repeat, "%s.weight", naming->repeat);
    mimi->n_head = naming->n_head;
    mimi->context = naming->context;
    if (mimi->n_head == 0)
        r = read_keys(gguf, mimi, err);
    if (r == 0)
        r = read_size(gguf, repeat, 2, WIDTH_MAX, &mimi->d, err);
    if (r == 0)
        r = read_size(gguf, numbered(up, naming->layers, 0, naming->up), 1, WIDTH_MAX,
                      &mimi->n_ff, err);
    if (r < 0)
        return r;
    if (mimi->d % mimi->n_head || head_dim(mimi) % 8 || head_dim(mimi) > ATTEND_HEAD_DIM_MAX)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "In '%s', tensor '%s': expected %zu heads whose width is a multiple of 8 "
                         "up to 256, found a width of %zu for all.",
                         gguf_path(gguf), repeat, mimi->n_head, mimi->d);
    mimi->n_layer = count_layers(gguf, naming);
    return 0;
}

/* The widths of the stages, and what working on one frame takes. */
static int read_stages(const struct gguf *gguf, struct mimi *mimi, struct error *err)
{
    const struct naming *naming = mimi->naming;
    size_t n_rows = UPSAMPLE;
    char conv[64], up[64], mix[64], head[64], name[64];
    int r;

    loader_name(conv, "%s.weight", naming->conv);
    loader_name(up, "%s.weight", naming->conv_up);
    loader_name(mix, "%s.weight", naming->mix);
    numbered(head, naming->model, 0, conv);
    r = read_size(gguf, head, 0, 64, &mimi->head.kernel, err);
    if (r == 0)
        r = read_size(gguf, numbered(name, naming->model, TAIL, conv), 0, 64, &mimi->tail.kernel,
                      err);
    if (r == 0)
        r = read_size(gguf, head, 2, WIDTH_MAX, &mimi->head.out, err);
    mimi->n_rows_max = UPSAMPLE * mimi->head.out;
    mimi->n_taps_max = 0;
    for (unsigned i = 0; r == 0 && i < STAGES; i++) {
        struct stage *stage = &mimi->stages[i];
        size_t kernel = 0;

        numbered(name, naming->model, 3 * i + 2, up);
        r = read_size(gguf, name, 0, 2 * MIMI_FRAME, &kernel, err);
        if (r == 0)
            r = read_size(gguf, name, 1, WIDTH_MAX, &stage->out, err);
        numbered(name, naming->model, 3 * i + 3, mix);
        if (r == 0)
            r = read_size(gguf, name, 2, WIDTH_MAX, &stage->inner, err);
        if (r < 0)
            return r;
        stage->in = i == 0 ? mimi->head.out : mimi->stages[i - 1].out;
        stage->stride = MAX(kernel / 2, (size_t)1);
        mimi->n_taps_max = MAX(mimi->n_taps_max, n_rows * 2 * stage->stride * stage->out);
        n_rows *= stage->stride;
        if (n_rows > MIMI_FRAME)
            break;
        mimi->n_rows_max = MAX(mimi->n_rows_max, n_rows * MAX(stage->out, stage->inner));
        if (2 * stage->stride * stage->out > CONV_VALUES_MAX || 3 * stage->out > CONV_VALUES_MAX)
            return wrong(gguf, "tensor", name, "a smaller convolution", stage->out, err);
    }
    if (r == 0 && n_rows != MIMI_FRAME)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "In '%s', tensors '%s': expected 1920 samples for a frame, found %zu.",
                         gguf_path(gguf), naming->model, n_rows);
    if (r == 0 && (mimi->head.kernel * mimi->d > CONV_VALUES_MAX ||
                   mimi->tail.kernel * mimi->stages[STAGES - 1].out > CONV_VALUES_MAX))
        r = wrong(gguf, "tensor", head, "a smaller convolution", mimi->head.kernel * mimi->d, err);
    return r;
}

static bool has_prefix(const struct gguf_tensor *tensor, const char *prefix)
{
    const size_t n = strlen(prefix);

    return tensor->name.length > n && memcmp(tensor->name.text, prefix, n) == 0;
}

/* A file of which a part is missing still counts: it shall be told what that is. */
static bool holds(const struct gguf *gguf, const struct naming *naming)
{
    for (size_t i = 0; i < gguf_n_tensors(gguf); i++)
        if (has_prefix(gguf_tensor_at(gguf, i), naming->halves[0]) ||
            has_prefix(gguf_tensor_at(gguf, i), naming->layers))
            return true;
    return false;
}

bool mimi_is_in(const char *path)
{
    struct error unused = ERROR_INIT;
    struct gguf *gguf = gguf_open(path, &unused);
    const bool is = gguf && (holds(gguf, &kyutai) || holds(gguf, &transformers));

    gguf_free(gguf);
    return is;
}

static int read_sizes(const struct gguf *gguf, struct mimi *mimi, struct error *err)
{
    char folder[64], book[64];
    int r;

    mimi->naming = holds(gguf, &transformers) ? &transformers : &kyutai;
    loader_name(folder, "%s.%s", mimi->naming->halves[0], mimi->naming->books);
    numbered(book, folder, 0, mimi->naming->book);
    r = read_size(gguf, book, 0, WIDTH_MAX, &mimi->width, err);
    if (r == 0)
        r = read_size(gguf, book, 1, CODES_MAX, &mimi->info.n_codes, err);
    if (r == 0)
        r = read_transformer(gguf, mimi, err);
    if (r == 0)
        r = read_stages(gguf, mimi, err);
    return r;
}

static int plan(const struct gguf *gguf, bool precise, struct mimi *mimi, size_t *ret_row_values,
                struct error *err)
{
    int r = read_sizes(gguf, mimi, err);

    mimi->form = precise ? MATRIX_PRECISE : MATRIX_FINE;
    if (r == 0)
        r = loader_plan(gguf, mimi->form, NULL, load_weights, mimi, &mimi->info.bytes, err);
    if (r == 0) {
        *ret_row_values = rows_values(mimi->form, UPSAMPLE, MAX(mimi->d, mimi->n_ff));
        mimi->info.bytes += rows_plan(mimi->form, *ret_row_values);
    }
    return r;
}

int mimi_plan(const char *path, bool precise, struct mimi_info *ret, struct error *err)
{
    struct gguf *gguf = gguf_open(path, err);
    struct mimi unused = {0};
    size_t row_values;
    int r;

    if (!gguf)
        return error_errno(err ? err->code : ERROR_UNSUPPORTED_FORMAT);
    r = plan(gguf, precise, &unused, &row_values, err);
    if (r == 0)
        *ret = unused.info;
    gguf_free(gguf);
    return r;
}

struct mimi *mimi_load(const char *path, bool precise, struct pool *pool, struct error *err)
{
    struct mimi *mimi = calloc(1, sizeof(*mimi));
    size_t row_values;

    if (!mimi) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for a vocoder.");
        return NULL;
    }
    mimi->pool = pool;
    mimi->gguf = gguf_open(path, err);
    if (!mimi->gguf || kernels_check(err) < 0 ||
        plan(mimi->gguf, precise, mimi, &row_values, err) < 0 ||
        arena_init(&mimi->arena, mimi->info.bytes, "a vocoder", err) < 0 ||
        loader_load(mimi->gguf, mimi->form, load_weights, mimi, &mimi->arena, pool, err) < 0)
        return mimi_free(mimi);
    rows_init(&mimi->rows, mimi->form, row_values, &mimi->arena);
    return mimi;
}

struct mimi *mimi_free(struct mimi *mimi)
{
    if (!mimi)
        return NULL;
    arena_done(&mimi->arena);
    gguf_free(mimi->gguf);
    free(mimi);
    return NULL;
}

const struct mimi_info *mimi_info(const struct mimi *mimi)
{
    return &mimi->info;
}

/* --- transformer ------------------------------------------------------------------------------ */

static void product(struct mimi *mimi, const struct matrix *matrix, const float *x, float *y)
{
    rows_set(&mimi->rows, x, UPSAMPLE, matrix->in, mimi->pool);
    matmul(matrix, &mimi->rows, y, mimi->pool);
}

static void norm(const struct mimi *mimi, const struct layer_norm *norm, const float *x, float *out)
{
    for (size_t t = 0; t < UPSAMPLE; t++)
        op_layernorm(x + t * mimi->d, norm->w, norm->b, mimi->d, NORM_EPS, out + t * mimi->d);
}

/* x += scale * y */
static void add_scaled(const struct mimi *mimi, float *x, const float *scale, const float *y)
{
    for (size_t t = 0; t < UPSAMPLE; t++)
        for (size_t i = 0; i < mimi->d; i++)
            x[t * mimi->d + i] += scale[i] * y[t * mimi->d + i];
}

/* h -> y */
static void attention(struct mimi *mimi, const struct layer *layer)
{
    const size_t d = mimi->d, hd = head_dim(mimi), stride = kv_stride(mimi);
    /* From one row to the next; from queries to keys, and on to values. */
    const size_t step = mimi->naming->n_parts == 1 ? PARTS * d : d;
    const size_t part = mimi->naming->n_parts == 1 ? d : UPSAMPLE * d;
    const struct attend job = {
        .type = KV_F32,
        .n_head = mimi->n_head,
        .n_head_kv = mimi->n_head,
        .head_dim = hd,
        .q = mimi->q,
        .n = UPSAMPLE,
        .first = mimi->n_past,
        .k = layer->k,
        .v = layer->v,
        .n_kv = mimi->n_past + UPSAMPLE,
        .stride_bytes = stride,
        .window = mimi->context,
        .causal = true,
        .out = mimi->h,
    };

    for (size_t i = 0; i < mimi->naming->n_parts; i++)
        product(mimi, &layer->parts[i], mimi->h, mimi->qkv + i * UPSAMPLE * d);
    for (size_t t = 0; t < UPSAMPLE; t++) {
        float *const row = mimi->qkv + t * step;

        for (size_t i = 0; i < mimi->n_head; i++) {
            op_rope_adjacent(row + i * hd, hd, mimi->cos + t * hd / 2, mimi->sin + t * hd / 2);
            op_rope_adjacent(row + part + i * hd, hd, mimi->cos + t * hd / 2,
                             mimi->sin + t * hd / 2);
        }
        memcpy(mimi->q + t * d, row, d * sizeof(*row));
    }
    for (size_t i = 0; i < mimi->n_head; i++) {
        unsigned char *const k = (unsigned char *)layer->k + i * stride;
        unsigned char *const v = (unsigned char *)layer->v + i * stride;
        const float *const key = mimi->qkv + part + i * hd;

        kv_store_k(KV_F32, key, UPSAMPLE, step, hd, k, mimi->n_past);
        kv_store_v(KV_F32, key + part, UPSAMPLE, step, hd, v, mimi->n_past);
    }
    attend(&job, mimi->pool);
    product(mimi, &layer->out, mimi->h, mimi->y);
}

/* Drop what no layer looks back to any more. */
static void forget(struct mimi *mimi)
{
    const size_t n_drop = kv_droppable(mimi->n_past, mimi->context - 1);
    const size_t hd = head_dim(mimi), stride = kv_stride(mimi);

    for (size_t i = 0; n_drop > 0 && i < mimi->n_layer * mimi->n_head; i++) {
        const struct layer *layer = &mimi->layers[i / mimi->n_head];
        const size_t offset = i % mimi->n_head * stride;

        kv_drop(KV_F32, hd, (unsigned char *)layer->k + offset, n_drop, mimi->n_past);
        kv_drop(KV_F32, hd, (unsigned char *)layer->v + offset, n_drop, mimi->n_past);
    }
    mimi->n_past -= n_drop;
}

/* x -> x */
static void transform(struct mimi *mimi)
{
    const size_t hd = head_dim(mimi);

    forget(mimi);
    for (size_t t = 0; t < UPSAMPLE; t++)
        op_rope_table(mimi->position + t, hd, ROPE_PERIOD, mimi->cos + t * hd / 2,
                      mimi->sin + t * hd / 2);
    for (size_t i = 0; i < mimi->n_layer; i++) {
        const struct layer *layer = &mimi->layers[i];

        norm(mimi, &layer->mix_norm, mimi->x, mimi->h);
        attention(mimi, layer);
        add_scaled(mimi, mimi->x, layer->mix_scale, mimi->y);
        norm(mimi, &layer->ffn_norm, mimi->x, mimi->h);
        product(mimi, &layer->up, mimi->h, mimi->wide);
        for (size_t t = 0; t < UPSAMPLE; t++)
            op_gelu_erf(mimi->wide + t * mimi->n_ff, mimi->zeros, mimi->n_ff);
        product(mimi, &layer->down, mimi->wide, mimi->y);
        add_scaled(mimi, mimi->x, layer->ffn_scale, mimi->y);
    }
    mimi->position += UPSAMPLE;
    mimi->n_past += UPSAMPLE;
}

/* --- samples ---------------------------------------------------------------------------------- */

struct elu_job {
    float *x;
    size_t width;
};

static void elu_some(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct elu_job *job = context;

    (void)worker;
    (void)scratch;
    op_elu(job->x + first * job->width, (last - first) * job->width);
}

static void elu_rows(const struct mimi *mimi, float *x, size_t n, size_t width)
{
    struct elu_job job = {x, width};

    pool_run(mimi->pool, elu_some, &job, n, MAX(16384 / width, (size_t)1));
}

/* The codes' rows, summed within each half of the quantiser and projected: latent [D] */
static void embed(struct mimi *mimi, const int32_t codes[CODEBOOKS], float *latent)
{
    const size_t width = mimi->width;
    float *const second = latent + mimi->d;

    memset(mimi->sum, 0, width * sizeof(*mimi->sum));
    for (size_t i = 0; i < CODEBOOKS; i++) {
        const struct codebook *book = &mimi->books[i];
        const size_t code = (size_t)codes[i];

        assert(codes[i] >= 0 && code < mimi->info.n_codes);
        matrix_row(&book->rows, code, mimi->row);
        for (size_t k = 0; book->usage && k < width; k++)
            mimi->row[k] /= MAX(book->usage[code], USAGE_MIN);
        if (i == 0)
            conv_rows(&mimi->first, mimi->row, 1, latent, mimi->pool);
        else
            op_add(mimi->sum, mimi->row, width);
    }
    conv_rows(&mimi->rest, mimi->sum, 1, second, mimi->pool);
    op_add(latent, second, mimi->d);
}

/* x [UPSAMPLE][D] -> samples [MIMI_FRAME] */
static void decode(struct mimi *mimi, const float *x, float *samples)
{
    float *a = mimi->a, *b = mimi->b;
    size_t n = UPSAMPLE;

    conv_rows(&mimi->head, x, n, a, mimi->pool);
    for (size_t i = 0; i < STAGES; i++) {
        const struct stage *stage = &mimi->stages[i];

        elu_rows(mimi, a, n, stage->in);
        conv_up_rows(&stage->up, a, n, mimi->taps, b, mimi->pool);
        n *= stage->stride;
        memcpy(a, b, n * stage->out * sizeof(*a));
        elu_rows(mimi, b, n, stage->out);
        conv_rows(&stage->mix, b, n, mimi->c, mimi->pool);
        elu_rows(mimi, mimi->c, n, stage->inner);
        conv_rows(&stage->add, mimi->c, n, b, mimi->pool);
        op_add(a, b, n * stage->out);
    }
    elu_rows(mimi, a, n, mimi->tail.in);
    conv_rows(&mimi->tail, a, n, samples, mimi->pool);
}

void mimi_reset(struct mimi *mimi)
{
    mimi->position = 0;
    mimi->n_past = 0;
    conv_own_reset(&mimi->repeat);
    conv_reset(&mimi->head);
    conv_reset(&mimi->tail);
    for (size_t i = 0; i < STAGES; i++) {
        conv_up_reset(&mimi->stages[i].up);
        conv_reset(&mimi->stages[i].mix);
    }
}

int mimi_push(struct mimi *mimi, const int32_t (*codes)[CODEBOOKS], size_t n_frames,
              const atomic_bool *cancel, float *samples)
{
    for (size_t i = 0; i < n_frames; i++) {
        if (cancel && atomic_load_explicit(cancel, memory_order_relaxed))
            return -ECANCELED;
        embed(mimi, codes[i], mimi->latent);
        conv_own_rows(&mimi->repeat, mimi->latent, 1, mimi->x);
        transform(mimi);
        decode(mimi, mimi->x, samples + i * MIMI_FRAME);
    }
    return 0;
}
