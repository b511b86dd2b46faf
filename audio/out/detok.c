/* SPDX-License-Identifier: MIT */
#include "audio/out/detok.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "audio/out/istft.h"
#include "base/cleanup.h"
#include "lfm2/forward.h"
#include "tensor/kernels.h"
#include "tensor/loader.h"
#include "tensor/ops.h"

#define ROWS_MAX (DETOK_REPEAT * DETOK_FRAMES)

#define WINDOW_MAX 4096 /* rows that a layer looks back at most */
#define CODES_MAX  ((uint64_t)1 << 20)

struct detok {
    struct detok_info info;
    struct gguf *vocoder, *tokenizer;
    struct lfm2_hparams hparams;
    struct lfm2_job job;
    struct lfm2_model *model;
    struct lfm2_state *state;
    struct istft *istft;
    struct arena arena;

    struct matrix embedding; /* [CODEBOOKS * n_codes][H]  emb.emb.weight */
    const float *window;     /* [n_fft]                   istft.window */
    float *x, *hidden;       /* [ROWS_MAX][H] */
    float *spectrum;         /* [ROWS_MAX][n_fft + 2] */
};

/* --- loading ---------------------------------------------------------------------------------- */

/* A loader_walk of the vocoder file; the sizes are known. */
static bool load_tables(struct loader *loader, void *userdata)
{
    struct detok *d = userdata;
    const size_t h = d->info.n_embd, n_fft = d->info.n_fft;

    d->x = loader_take(loader, ROWS_MAX * h * sizeof(float));
    d->hidden = loader_take(loader, ROWS_MAX * h * sizeof(float));
    d->spectrum = loader_take(loader, ROWS_MAX * (n_fft + 2) * sizeof(float));
    return loader_table(loader, "emb.emb.weight", CODEBOOKS * d->info.n_codes, h,
                        &d->embedding) &&
           loader_f32(loader, "istft.window", 1, n_fft, &d->window);
}

static int wrong(const struct gguf *gguf, const char *what, const char *expected, uint64_t found,
                 struct error *err)
{
    return error_set(err, ERROR_UNSUPPORTED_FORMAT, "In '%s', %s: expected %s, found %" PRIu64 ".",
                     gguf_path(gguf), what, expected, found);
}

/* What the backbone must be to end in spectra. */
static int check_backbone(struct detok *d, struct error *err)
{
    const struct lfm2_hparams *hp = &d->hparams;

    if (!hp->causal)
        return wrong(d->tokenizer, "key 'lfm2.attention.causal'", "a causal model", 0, err);
    if (hp->sliding_window < 1 || hp->sliding_window > WINDOW_MAX)
        return wrong(d->tokenizer, "key 'lfm2.attention.sliding_window'", "1 to 4096 rows",
                     hp->sliding_window, err);
    if (hp->n_embd_out < DETOK_HOP + 4 || hp->n_embd_out > ISTFT_MAX || hp->n_embd_out % 4 != 2)
        return wrong(d->tokenizer, "tensor 'dense_2.weight'",
                     "rows for the magnitudes and phases of a Fourier transform", hp->n_embd_out,
                     err);
    d->info.n_embd = hp->n_embd;
    d->info.n_fft = hp->n_embd_out - 2;
    return 0;
}

static int read_codes(struct detok *d, struct error *err)
{
    const struct gguf_tensor *table = gguf_tensor(d->vocoder, "emb.emb.weight");
    const uint64_t n_rows = table ? table->ne[1] : CODEBOOKS; /* the walk misses it */

    if (n_rows % CODEBOOKS || n_rows < CODEBOOKS || n_rows / CODEBOOKS > CODES_MAX)
        return wrong(d->vocoder, "tensor 'emb.emb.weight'", "equally many rows for each of 8 books",
                     n_rows, err);
    d->info.n_codes = (size_t)n_rows / CODEBOOKS;
    return 0;
}

/* Rows that the state must have room for. */
static size_t n_context(const struct lfm2_hparams *hparams)
{
    return hparams->sliding_window - 1 + KV_DROP_REST + ROWS_MAX;
}

/* Open and check both files. */
static int open_files(struct detok *d, const char *vocoder_path, const char *tokenizer_path,
                      bool precise, size_t *ret_table_bytes, struct error *err)
{
    size_t model_bytes;
    int r;

    d->vocoder = gguf_open(vocoder_path, err);
    d->tokenizer = d->vocoder ? gguf_open(tokenizer_path, err) : NULL;
    if (!d->tokenizer)
        return error_errno(err ? err->code : ERROR_UNSUPPORTED_FORMAT);
    r = lfm2_rows_model_plan(d->tokenizer, precise, &d->hparams, &model_bytes, err);
    if (r == 0)
        r = check_backbone(d, err);
    if (r == 0)
        r = read_codes(d, err);
    if (r == 0)
        r = loader_plan(d->vocoder, MATRIX_FAST, NULL, load_tables, d, ret_table_bytes, err);
    if (r < 0)
        return r;
    d->info.bytes = model_bytes + lfm2_workspace_plan(&d->hparams, ROWS_MAX) +
                    lfm2_state_plan(&d->hparams, n_context(&d->hparams), KV_F32) +
                    istft_plan(d->info.n_fft, ROWS_MAX) + *ret_table_bytes;
    return 0;
}

int detok_plan(const char *vocoder_path, const char *tokenizer_path, bool precise,
                     struct detok_info *ret, struct error *err)
{
    struct detok unused = {0};
    size_t table_bytes;
    int r = open_files(&unused, vocoder_path, tokenizer_path, precise, &table_bytes, err);

    if (r == 0)
        *ret = unused.info;
    gguf_free(unused.vocoder);
    gguf_free(unused.tokenizer);
    return r;
}

struct detok *detok_load(const char *vocoder_path, const char *tokenizer_path,
                                     bool precise, struct pool *pool, struct error *err)
{
    struct detok *d = calloc(1, sizeof(*d));
    size_t table_bytes;

    if (!d) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for a vocoder.");
        return NULL;
    }
    if (open_files(d, vocoder_path, tokenizer_path, precise, &table_bytes, err) < 0)
        return detok_free(d);
    d->model = lfm2_rows_model_load(d->tokenizer, precise, pool, err);
    if (!d->model ||
        arena_init(&d->arena, table_bytes, "the tables of a vocoder", err) < 0 ||
        loader_load(d->vocoder, MATRIX_FAST, load_tables, d, &d->arena, pool, err) < 0)
        return detok_free(d);
    d->job = (struct lfm2_job){
        .model = d->model,
        .workspace = lfm2_workspace_new(d->model, ROWS_MAX, err),
        .pool = pool,
    };
    if (d->job.workspace)
        d->state = lfm2_state_new(d->model, n_context(&d->hparams), KV_F32, err);
    if (d->state)
        d->istft = istft_new(d->window, d->info.n_fft, DETOK_HOP, ROWS_MAX, pool, err);
    if (!d->istft)
        return detok_free(d);
    if (!precise)
        d->tokenizer = gguf_free(d->tokenizer);
    return d;
}

struct detok *detok_free(struct detok *d)
{
    if (!d)
        return NULL;
    istft_free(d->istft);
    lfm2_state_free(d->state);
    lfm2_workspace_free(d->job.workspace);
    lfm2_model_free(d->model);
    arena_done(&d->arena);
    gguf_free(d->tokenizer);
    gguf_free(d->vocoder);
    free(d);
    return NULL;
}

const struct detok_info *detok_info(const struct detok *d)
{
    return &d->info;
}

/* --- stream ----------------------------------------------------------------------------------- */

void detok_reset(struct detok *d)
{
    lfm2_state_reset(d->state);
    istft_reset(d->istft);
}

/* The rows of one frame: x [DETOK_REPEAT][H] */
static void embed_frame(struct detok *d, const int32_t codes[CODEBOOKS], float *x)
{
    const size_t h = d->info.n_embd;
    float *const row = d->hidden; /* not needed yet */

    memset(x, 0, h * sizeof(*x));
    for (size_t i = 0; i < CODEBOOKS; i++) {
        assert(codes[i] >= 0 && (size_t)codes[i] < d->info.n_codes);
        matrix_row(&d->embedding, i * d->info.n_codes + (size_t)codes[i], row);
        op_add_scaled(x, row, 1.0f / CODEBOOKS, h);
    }
    for (size_t i = 1; i < DETOK_REPEAT; i++)
        memcpy(x + i * h, x, h * sizeof(*x));
}

int detok_spectrum(struct detok *d, const int32_t (*codes)[CODEBOOKS],
                         size_t n_frames, const atomic_bool *cancel, float *hidden,
                         float *spectrum)
{
    const size_t n = DETOK_REPEAT * n_frames;
    int r;

    assert(n_frames <= DETOK_FRAMES);
    for (size_t i = 0; i < n_frames; i++)
        embed_frame(d, codes[i], d->x + i * DETOK_REPEAT * d->info.n_embd);
    lfm2_state_forget(d->state, d->hparams.sliding_window - 1);
    d->job.cancel = cancel;
    r = lfm2_forward(&d->job, d->state, d->x, n, hidden, n);
    if (r == 0)
        lfm2_dense_2(&d->job, hidden, n, spectrum);
    return r;
}

int detok_push(struct detok *d, const int32_t (*codes)[CODEBOOKS], size_t n_frames,
                     const atomic_bool *cancel, float *samples, size_t *ret_n)
{
    size_t n_samples = 0;

    for (size_t done = 0; done < n_frames; done += DETOK_FRAMES) {
        const size_t n = MIN(n_frames - done, DETOK_FRAMES);
        int r = detok_spectrum(d, codes + done, n, cancel, d->hidden, d->spectrum);

        if (r < 0)
            return r;
        n_samples += istft_push(d->istft, d->spectrum, n * DETOK_REPEAT,
                                samples + n_samples);
    }
    *ret_n = n_samples;
    return 0;
}

size_t detok_flush(struct detok *d, float *samples)
{
    return istft_flush(d->istft, samples);
}
