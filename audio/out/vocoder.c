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

static bool means_mimi(const char *vocoder_path, const char *tokenizer_path)
{
    return !vocoder_path || mimi_is_in(tokenizer_path);
}

int vocoder_plan(const char *vocoder_path, const char *tokenizer_path, bool precise,
                 struct vocoder_info *ret, struct error *err)
{
    struct detok_info detok;
    struct mimi_info mimi;
    int r;

    if (means_mimi(vocoder_path, tokenizer_path)) {
        r = mimi_plan(tokenizer_path, precise, &mimi, err);
        if (r == 0)
            *ret = (struct vocoder_info){mimi.n_codes, mimi.bytes};
    } else {
        r = detok_plan(vocoder_path, tokenizer_path, precise, &detok, err);
        if (r == 0)
            *ret = (struct vocoder_info){detok.n_codes, detok.bytes};
    }
    return r;
}

struct vocoder *vocoder_load(const char *vocoder_path, const char *tokenizer_path, bool precise,
                             struct pool *pool, struct error *err)
{
    struct vocoder *vocoder = calloc(1, sizeof(*vocoder));

    if (!vocoder) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for a vocoder.");
        return NULL;
    }
    if (means_mimi(vocoder_path, tokenizer_path))
        vocoder->mimi = mimi_load(tokenizer_path, precise, pool, err);
    else
        vocoder->detok = detok_load(vocoder_path, tokenizer_path, precise, pool, err);
    if (vocoder->mimi)
        vocoder->info = (struct vocoder_info){mimi_info(vocoder->mimi)->n_codes,
                                              mimi_info(vocoder->mimi)->bytes};
    else if (vocoder->detok)
        vocoder->info = (struct vocoder_info){detok_info(vocoder->detok)->n_codes,
                                              detok_info(vocoder->detok)->bytes};
    else
        return vocoder_free(vocoder);
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
