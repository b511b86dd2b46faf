/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Byte-level BPE with the pre-tokeniser `lfm2`, read from a GGUF file (also a vocabulary-only one).
 *
 * Text from outside is cut into spans: only a span marked as markup may become control tokens, so a
 * user who types "<|im_end|>" has typed ten characters. User-defined tokens (type 4) match anywhere.
 *
 * Memory: tables are built once; encoding allocates only while its output grows.
 * Threads: any after loading; struct detokenizer belongs to its caller.
 * Source: text.md section 9; llama.cpp src/llama-vocab.cpp.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor/gguf.h"

#define TOKEN_NONE UINT32_MAX

struct tokenizer;

struct tokenizer *tokenizer_load(const struct gguf *gguf, struct error *err);
struct tokenizer *tokenizer_free(struct tokenizer *tokenizer);

size_t tokenizer_n_vocab(const struct tokenizer *tokenizer);
uint32_t tokenizer_bos(const struct tokenizer *tokenizer); /* TOKEN_NONE when the file has none */
bool tokenizer_add_bos(const struct tokenizer *tokenizer);
bool tokenizer_is_end(const struct tokenizer *tokenizer, uint32_t id); /* end of generation */
bool tokenizer_is_control(const struct tokenizer *tokenizer, uint32_t id);
uint32_t tokenizer_find(const struct tokenizer *tokenizer, const char *text); /* special by text */

struct token_list {
    uint32_t *ids; /* [n], malloc */
    size_t n, capacity;
};

int token_list_push(struct token_list *list, uint32_t id); /* 0 or -ENOMEM */
void token_list_done(struct token_list *list);

/* A stretch of one text; contiguous spans are tokenised as one text. */
struct text_span {
    const char *text;
    size_t length;
    bool markup; /* special tokens spelled here become their ids */
};

/* Appends to `out`. No BOS is added. Any bytes are accepted. */
int tokenizer_encode(const struct tokenizer *tokenizer, const struct text_span *spans,
                     size_t n_spans, struct token_list *out, struct error *err);

/* The bytes of one token, inside the tokenizer's memory. Empty for ids out of range. */
const char *tokenizer_piece(const struct tokenizer *tokenizer, uint32_t id, size_t *ret_length);

/*
 * Streaming: bytes come in with each token, whole characters go out.
 * A token may end in the middle of a character; the rest is held back (at most 3 bytes).
 */
struct detokenizer {
    char held[4];
    size_t n_held;
};

/* Append the characters that are complete now to out (at least piece length + 4 bytes long). */
size_t detokenizer_push(struct detokenizer *detokenizer, const char *piece, size_t length,
                        char *out);
/* The held bytes at the end of a reply, each as U+FFFD when incomplete; out: 12 bytes. */
size_t detokenizer_finish(struct detokenizer *detokenizer, char *out);
