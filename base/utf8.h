/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * UTF-8: strict decoding (no surrogates, no overlong forms, up to U+10FFFF).
 *
 * Threads: any; no state.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Decode the code point at text[0..length), length > 0.
 *
 * Returns its length in bytes (1 to 4); 0 when the bytes are the beginning of a character that
 * needs more bytes than there are; -1 when they cannot begin a character.
 */
int utf8_decode(const char *text, size_t length, uint32_t *ret_code_point);

/* Write a code point as UTF-8; returns its length in bytes. */
size_t utf8_encode(uint32_t code_point, char out[4]);

bool utf8_valid(const char *text, size_t length);

/*
 * Length of the longest prefix that ends at a character boundary, looking only at the last three
 * bytes: what a stream may show now. Invalid bytes count as whole characters.
 */
size_t utf8_complete(const char *text, size_t length);

/*
 * Make a string valid in place, after a cut that looked at bytes: half a character at the end goes,
 * other bytes that begin none become '?'.
 */
void utf8_repair(char *text);

/* The same, and every control character becomes '?': one line that a terminal only shows. */
void utf8_plain(char *text);
