/* SPDX-License-Identifier: MIT */
/*
 * codes-to-wave: frames of codes to samples at 24 kHz, all at once or frame by frame.
 */

#include <errno.h>
#include <stdlib.h>

#include <json-c/json.h>

#include "audio/out/vocoder.h"
#include "base/cleanup.h"
#include "tools/run.h"

static void poolp(struct pool **pool)
{
    pool_free(*pool);
}

static void vocoderp(struct vocoder **vocoder)
{
    vocoder_free(*vocoder);
}

/* --mimi, or --vocoder and --tokenizer */
static struct vocoder *load(const struct run_options *options, struct pool *pool,
                            struct error *err)
{
    const char *mimi = run_value(options, "mimi"), *vocoder = run_value(options, "vocoder");
    const char *tokenizer = run_value(options, "tokenizer");
    const bool precise = run_flag(options, "precise");

    if (mimi && !vocoder && !tokenizer)
        return vocoder_load(NULL, mimi, precise, pool, err);
    if (!mimi && vocoder && tokenizer)
        return vocoder_load(vocoder, tokenizer, precise, pool, err);
    error_set(err, ERROR_INVALID_ARGUMENT,
              "codes-to-wave needs either --mimi or both --vocoder and --tokenizer.");
    return NULL;
}

/* samples: [n_frames * VOCODER_FRAME]; n_step frames at a time */
static int decode(struct vocoder *vocoder, const int32_t (*codes)[CODEBOOKS], size_t n_frames,
                  size_t n_step, float *samples, size_t *ret_n)
{
    size_t n = 0;

    for (size_t i = 0; i < n_frames; i += n_step) {
        size_t n_new;
        int r = vocoder_push(vocoder, codes + i, MIN(n_step, n_frames - i), NULL, samples + n,
                             &n_new);

        if (r < 0)
            return r;
        n += n_new;
    }
    *ret_n = n + vocoder_flush(vocoder, samples + n);
    return 0;
}

static int run_wave(const struct run_options *options, struct error *err)
{
    _cleanup_(poolp) struct pool *pool = NULL;
    _cleanup_(vocoderp) struct vocoder *vocoder = NULL;
    _cleanup_(run_json_putp) struct json_object *json = NULL;
    _cleanup_(freep) int32_t *codes = NULL;
    _cleanup_(freep) float *samples = NULL;
    const char *out, *path;
    size_t n_frames, n;
    int r = run_need(options, "out", &out, err);

    if (r == 0)
        r = run_need(options, "codes", &path, err);
    if (r == 0)
        r = run_json(path, &json, err);
    if (r < 0)
        return r;
    pool = pool_new(options->n_threads, err);
    vocoder = pool ? load(options, pool, err) : NULL;
    if (!vocoder)
        return -EINVAL;
    r = run_json_codes(json, (int32_t)vocoder_info(vocoder)->n_codes, &codes, &n_frames, err);
    if (r < 0)
        return r;
    samples = run_take_floats(MAX(n_frames, (size_t)1), VOCODER_FRAME, err);
    if (!samples)
        return -ENOMEM;
    r = decode(vocoder, (const int32_t(*)[CODEBOOKS])codes, n_frames,
               run_flag(options, "stream") ? 1 : MAX(n_frames, (size_t)1), samples, &n);
    return r < 0 ? r : run_write_floats(out, samples, n, err);
}

const struct run_verb run_wave_verbs[] = {
    {"codes-to-wave", "vocoder= tokenizer= mimi= codes= stream out=", run_wave},
    {NULL, NULL, NULL},
};
