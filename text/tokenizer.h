/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Byte-level BPE with the pre-tokeniser `lfm2`, read from a GGUF file (also a vocabulary-only one).
 *
 * Text from outside is cut into spans: only a span marked as markup may become control tokens, so a
 * user who types "<|im_end|>" has typed ten characters. User-defined tokens (type 4) match
 * anywhere.
 *
 * Memory: tables of its own, the gguf may be freed; encoding takes scratch in proportion to the
 *         text.
 * Threads: any after loading; struct detokenizer belongs to its caller.
 * Source: text.md section 9; llama.cpp src/llama-vocab.cpp.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor/gguf.h"
#include "text/vocabulary.h"

#define TOKEN_NONE UINT32_MAX

#define TOKENIZER_TOKENS_MAX  ((size_t)1 << 22)
#define TOKENIZER_MERGES_MAX  ((size_t)1 << 22)
#define TOKENIZER_SPECIAL_MAX ((size_t)256)     /* bytes of a control or user-defined token */
#define TOKENIZER_TEXT_MAX    ((size_t)1 << 30) /* bytes of one text */

struct tokenizer;

/*
 * Refuses: another model or pre-tokeniser, lists of unequal length, types out of range, two tokens
 * of the same text, a byte without a token, a bos or eos that is no token. A merge whose parts or
 * result are no tokens can never apply and is left out.
 */
struct tokenizer *tokenizer_load(const struct gguf *gguf, struct error *err);
struct tokenizer *tokenizer_free(struct tokenizer *tokenizer);

size_t tokenizer_n_vocab(const struct tokenizer *tokenizer);
uint32_t tokenizer_bos(const struct tokenizer *tokenizer); /* TOKEN_NONE when the file has none */
bool tokenizer_add_bos(const struct tokenizer *tokenizer);

/* End of generation: the file's eos, <|im_end|>, <|endoftext|>. */
bool tokenizer_is_end(const struct tokenizer *tokenizer, uint32_t id);
/* Prints nothing in a reply: control, unknown and unused tokens, ids out of range. */
bool tokenizer_is_control(const struct tokenizer *tokenizer, uint32_t id);
/* The control or user-defined token that is spelled so, or TOKEN_NONE. */
uint32_t tokenizer_find(const struct tokenizer *tokenizer, const char *text);

struct token_list {
    uint32_t *ids; /* [n], malloc */
    size_t n, capacity;
};

int token_list_push(struct token_list *list, uint32_t id); /* 0 or -ENOMEM */
void token_list_done(struct token_list *list);

/*
 * A stretch of a text. All spans of a call are tokenised as one text; a control token must lie
 * wholly inside one markup span, a user-defined one may lie anywhere, the longest match wins.
 */
struct text_span {
    const char *text;
    size_t length;
    bool markup; /* control tokens spelled here become their ids */
};

/*
 * Appends to `out`. No BOS is added. Any bytes are accepted: those that are not UTF-8 count as
 * punctuation and keep their value, so the pieces of the ids are always the text again.
 */
int tokenizer_encode(const struct tokenizer *tokenizer, const struct text_span *spans,
                     size_t n_spans, struct token_list *out, struct error *err);

/* The bytes of one token, inside the tokenizer's memory. Empty for unused ids and out of range. */
const char *tokenizer_piece(const struct tokenizer *tokenizer, uint32_t id, size_t *ret_length);

/*
 * The tree of the text tokens, for constraints. Made on first use, by one of the threads that ask;
 * lives as long as the tokenizer. NULL: no memory.
 */
const struct vocabulary *tokenizer_vocabulary(const struct tokenizer *tokenizer, struct error *err);

/*
 * Streaming: bytes come in with each token, whole characters go out, always valid UTF-8. A token
 * may end in the middle of a character; that beginning is held back. Bytes that cannot be part of a
 * character become U+FFFD.
 */
struct detokenizer {
    char held[4];
    size_t n_held;
};

/* Room that detokenizer_push() needs for a piece. */
#define DETOKENIZER_ROOM(length) (3 * ((length) + 4))

/* Append the characters that are complete now to out; returns their bytes. */
size_t detokenizer_push(struct detokenizer *detokenizer, const char *piece, size_t length,
                        char *out);
/* At the end of a reply: the beginning that is held back, as U+FFFD; out: 3 bytes. */
size_t detokenizer_finish(struct detokenizer *detokenizer, char *out);
