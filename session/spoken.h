/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * English text as it is said: numbers, times, signs and single letters in lower-case words, for a
 * model that knows words alone; and the names of characters, for every model.
 *
 * Threads: any; no state.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPOKEN_MAX ((size_t)512) /* bytes of what one call gives */

/* How much of a pause stands behind a word. */
enum spoken_border { SPOKEN_NONE, SPOKEN_CLAUSE, SPOKEN_SENTENCE };

/*
 * The words of the next piece of a text: a word, a number, a sign, or none where it is not said.
 *
 * text:  ASCII; other bytes are not said (spoken_fold() makes the best of them)
 * out:   lower-case words with spaces between them, "" for none; *ret_n counts them
 * Returns how many bytes of the text they stand for; 0 at its end.
 */
size_t spoken_next(const char *text, size_t length, size_t at, char out[SPOKEN_MAX], size_t *ret_n,
                   enum spoken_border *ret_border);

/* A copy without accents and ligatures, typographic signs as plain ones; malloc, NULL without
 * memory, *ret_length its length. */
char *spoken_fold(const char *text, size_t length, size_t *ret_length);

/*
 * The name of a character: "comma", "space", of a letter "B" or, in words, "bee". One that has no
 * name stands for itself, in words it is "unknown".
 */
void spoken_character(uint32_t character, bool in_words, char out[SPOKEN_MAX]);
