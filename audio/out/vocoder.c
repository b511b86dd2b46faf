/* SPDX-License-Identifier: MIT */
#include "audio/out/vocoder.h"

#include <errno.h>
#include <stdlib.h>

#include "audio/out/detok.h"
#include "audio/out/mimi.h"

_Static_assert(VOCODER_FRAME == DETOK_HOP * DETOK_REPEAT, "frames are equally long");
_Static_assert(VOCODER_FRAME == MIMI_FRAME, "frames are equally long");

struct vocoder {
    struct vocoder_info info;
    struct detok *detok; /* or */
    struct mimi *mimi;
};

int vocoder_plan(const char *vocoder_path, const char *tokenizer_path, bool precise,
                 struct vocoder_info *ret, struct error *err)
{
    struct detok_info info;
    int r = detok_plan(vocoder_path, tokenizer_path, precise, &info, err);

    if (r == 0)
        *ret = (struct vocoder_info){info.n_codes, info.bytes};
    return r;
}

int vocoder_plan_mimi(const char *path, bool precise, struct vocoder_info *ret, struct error *err)
{
    struct mimi_info info;
    int r = mimi_plan(path, precise, &info, err);

    if (r == 0)
        *ret = (struct vocoder_info){info.n_codes, info.bytes};
    return r;
}

static struct vocoder *take(struct error *err)
{
    struct vocoder *vocoder = calloc(1, sizeof(*vocoder));

    if (!vocoder)
        error_set(err, ERROR_NO_MEMORY, "There is no memory for a vocoder.");
    return vocoder;
}

struct vocoder *vocoder_load(const char *vocoder_path, const char *tokenizer_path, bool precise,
                             struct pool *pool, struct error *err)
{
    struct vocoder *vocoder = take(err);
    const struct detok_info *info;

    if (!vocoder)
        return NULL;
    vocoder->detok = detok_load(vocoder_path, tokenizer_path, precise, pool, err);
    if (!vocoder->detok)
        return vocoder_free(vocoder);
    info = detok_info(vocoder->detok);
    vocoder->info = (struct vocoder_info){info->n_codes, info->bytes};
    return vocoder;
}

struct vocoder *vocoder_load_mimi(const char *path, bool precise, struct pool *pool,
                                  struct error *err)
{
    struct vocoder *vocoder = take(err);
    const struct mimi_info *info;

    if (!vocoder)
        return NULL;
    vocoder->mimi = mimi_load(path, precise, pool, err);
    if (!vocoder->mimi)
        return vocoder_free(vocoder);
    info = mimi_info(vocoder->mimi);
    vocoder->info = (struct vocoder_info){info->n_codes, info->bytes};
    return vocoder;
}

struct vocoder *vocoder_free(struct vocoder *vocoder)
{
    if (!vocoder)
        return NULL;
    detok_free(vocoder->detok);
    mimi_free(vocoder->mimi);
    free(vocoder);
    return NULL;
}

const struct vocoder_info *vocoder_info(const struct vocoder *vocoder)
{
    return &vocoder->info;
}

void vocoder_reset(struct vocoder *vocoder)
{
    if (vocoder->mimi)
        mimi_reset(vocoder->mimi);
    else
        detok_reset(vocoder->detok);
}

int vocoder_push(struct vocoder *vocoder, const int32_t (*codes)[CODEBOOKS], size_t n_frames,
                 const atomic_bool *cancel, float *samples, size_t *ret_n)
{
    int r;

    for (size_t i = 0; i < n_frames; i++)
        for (size_t k = 0; k < CODEBOOKS; k++)
            if (codes[i][k] < 0 || (size_t)codes[i][k] >= vocoder->info.n_codes)
                return -EINVAL;
    if (!vocoder->mimi)
        return detok_push(vocoder->detok, codes, n_frames, cancel, samples, ret_n);
    r = mimi_push(vocoder->mimi, codes, n_frames, cancel, samples);
    if (r == 0)
        *ret_n = n_frames * MIMI_FRAME;
    return r;
}

size_t vocoder_flush(struct vocoder *vocoder, float *samples)
{
    return vocoder->mimi ? 0 : detok_flush(vocoder->detok, samples);
}
