/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A vocabulary as constraints see it: a tree over the bytes of its text tokens, laid out in
 * depth-first order, so that all tokens that an automaton accepts are found in one pass forward.
 *
 * Memory: about 2 MB for 65536 tokens; the texts stay with the tokenizer.
 * Threads: any after building.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define VOCABULARY_PIECE_MAX 128 /* longer tokens are not in the tree: never allowed as text */

enum vocabulary_kind {
    VOCABULARY_TEXT,
    VOCABULARY_CONTROL, /* writes nothing */
    VOCABULARY_END,     /* ends a reply */
    VOCABULARY_CALL_START,
    VOCABULARY_CALL_END,
};

struct vocabulary_token {
    const char *text;
    size_t length;
    enum vocabulary_kind kind;
};

/* A node stands for one byte behind the nodes above it. */
struct vocabulary_node {
    uint32_t next;     /* node behind all those below this one */
    uint32_t first_id; /* ids[first_id .. first_id of the next node) end here */
    uint8_t byte;
    uint8_t depth; /* 0: first byte of a token */
};

struct vocabulary {
    size_t n_tokens;
    struct vocabulary_token *tokens; /* [n_tokens] */
    struct vocabulary_node *nodes;   /* [n_nodes + 1]; the last one closes the list */
    uint32_t n_nodes;
    uint32_t *ids;    /* in order of their bytes */
    uint32_t call_start, call_end; /* UINT32_MAX: none */
};

/* Copies tokens, but not their texts. */
struct vocabulary *vocabulary_new(const struct vocabulary_token *tokens, size_t n_tokens,
                                  struct error *err);
struct vocabulary *vocabulary_free(struct vocabulary *vocabulary);

/* The id of the longest token that text begins with; UINT32_MAX: none. */
uint32_t vocabulary_longest(const struct vocabulary *vocabulary, const char *text, size_t length,
                            size_t *ret_length);
