/* SPDX-License-Identifier: MIT */
/*
 * tokenize, detokenize, render, parse: they read the vocabulary and the chat template only, so that
 * a GGUF without tensors is enough.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "text/tokenizer.h"
#include "tools/run.h"

static void tokenizer_freep(struct tokenizer **tokenizer)
{
    tokenizer_free(*tokenizer);
}

static struct tokenizer *open_tokenizer(const struct run_options *options, struct error *err)
{
    struct tokenizer *tokenizer;
    struct gguf *gguf;
    const char *path;

    if (run_need(options, "model", &path, err) < 0)
        return NULL;
    gguf = gguf_open(path, err);
    if (!gguf)
        return NULL;
    tokenizer = tokenizer_load(gguf, err);
    gguf_free(gguf);
    return tokenizer;
}

static int run_tokenize(const struct run_options *options, struct error *err)
{
    _cleanup_(tokenizer_freep) struct tokenizer *tokenizer = open_tokenizer(options, err);
    _cleanup_(token_list_done) struct token_list ids = {0};
    _cleanup_(freep) char *text = NULL;
    struct text_span span = {.markup = run_flag(options, "special")};
    int r;

    if (!tokenizer)
        return -EINVAL;
    r = run_stdin(&text, &span.length, err);
    if (r < 0)
        return r;
    span.text = text;
    r = tokenizer_encode(tokenizer, &span, 1, &ids, err);
    if (r < 0)
        return r;
    return run_print_ids(ids.ids, ids.n, err);
}

static int run_detokenize(const struct run_options *options, struct error *err)
{
    _cleanup_(tokenizer_freep) struct tokenizer *tokenizer = open_tokenizer(options, err);
    _cleanup_(freep) uint32_t *ids = NULL;
    size_t n;
    int r;

    if (!tokenizer)
        return -EINVAL;
    r = run_ids(options, tokenizer_n_vocab(tokenizer), &ids, &n, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        size_t length;
        const char *piece = tokenizer_piece(tokenizer, ids[i], &length);

        fwrite(piece, 1, length, stdout);
    }
    return run_print("", 0, err);
}

const struct run_verb run_text_verbs[] = {
    {"tokenize", "special", run_tokenize},
    {"detokenize", "ids=", run_detokenize},
    {0},
};
