/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A reader of SSML that takes what screen readers really send: text that has lost its first tag
 * after a pause, a "<" that was not escaped, elements that are closed in the wrong order. What is
 * no tag is text; nothing is refused. No entity but the five of XML and character numbers is known.
 *
 * Memory: no copies; tokens point into the text, or into the reader until the next call.
 * Threads: any; no global state.
 */

#include <stdbool.h>
#include <stddef.h>

#define SSML_TAG_MAX  ((size_t)4096) /* bytes; what is longer is text */
#define SSML_NAME_MAX ((size_t)32)

enum ssml_type { SSML_END, SSML_TEXT, SSML_OPEN, SSML_CLOSE };

struct ssml_token {
    enum ssml_type type;
    const char *text; /* TEXT: some of it, entities decoded; OPEN: its attributes as they stand */
    size_t length;
    char name[SSML_NAME_MAX]; /* OPEN, CLOSE: without the namespace's prefix, cut */
};

/* Zeroed but for text and length is the beginning. */
struct ssml {
    const char *text;
    size_t length, at;
    bool closes; /* the element that was opened is empty: its CLOSE comes next */
    char name[SSML_NAME_MAX];
    char decoded[4];
};

void ssml_next(struct ssml *ssml, struct ssml_token *ret);

/* The value of an attribute of an OPEN token, decoded and cut to the buffer; false: it has none. */
bool ssml_attribute(const struct ssml_token *token, const char *name, char *value, size_t size);
