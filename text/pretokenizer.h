/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How a text is cut into the pieces that byte-pair encoding works on, each for itself: the
 * pre-tokeniser "lfm2".
 *
 *   (?i:'s|'t|'re|'ve|'m|'ll|'d) | [^\r\n\p{L}\p{N}]?\p{L}+ | \p{N}{1,3} |
 *    ?[^\s\p{L}\p{N}]+[\r\n]* | \s*[\r\n]+ | \s+(?!\S) | \s+
 *
 * Bytes that are not UTF-8 count as signs.
 *
 * Threads: any; no state.
 * Source:  text.md section 9; letters and numbers are those of Unicode 16
 */

#include <stddef.h>

/* Length of the piece that the text begins with; n > 0. */
size_t pretokenizer_next(const char *text, size_t n);
