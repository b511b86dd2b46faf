/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Decimal numbers as they are written, and the grammar of all those within two bounds.
 *
 * Threads: any; no state.
 */

#include "text/grammar.h"

#define DECIMAL_WHOLE_MAX    19 /* digits before the point: every 64-bit integer */
#define DECIMAL_FRACTION_MAX 17

struct decimal {
    bool negative;  /* never for zero */
    bool exclusive; /* as a bound: the number itself is outside */
    uint8_t n_whole, n_fraction;
    char digits[DECIMAL_WHOLE_MAX + 1 + DECIMAL_FRACTION_MAX]; /* 0..9, whole then fraction */
};

/*
 * "-12.5e3". A magnitude of more than DECIMAL_WHOLE_MAX digits becomes one that is above all
 * others. Returns -EINVAL when text is no number, -ERANGE when its fraction is too long.
 */
int decimal_parse(const char *text, struct decimal *ret);

/* low = the narrower of the lower bounds low and bound; high likewise. */
void decimal_raise(struct decimal *low, const struct decimal *bound);
void decimal_lower(struct decimal *high, const struct decimal *bound);

/* Numbers from low to high with at most n_fraction digits behind the point, without exponent. */
grammar_node decimal_range(struct grammar *grammar, const struct decimal *low,
                           const struct decimal *high, unsigned n_fraction, grammar_node next);
