/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Sentences of a text that comes in pieces, so that the first is heard while the last is thought
 * of.
 *
 * Threads: any; no state.
 */

#include <stdbool.h>
#include <stddef.h>

/*
 * Length of the first sentence, with the space after it; 0: its end has not come. What ends one is
 * a full stop, question or exclamation mark (with closing quotes and brackets) before white space,
 * their CJK forms, or a new line.
 */
size_t sentence_length(const char *text, size_t length);

/* There is a letter or a digit in it. */
bool sentence_has_words(const char *text, size_t length);
