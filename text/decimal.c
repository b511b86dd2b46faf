/* SPDX-License-Identifier: MIT */
#include "text/decimal.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define DIGITS_MAX 512 /* in the text of a number */

int decimal_parse(const char *text, struct decimal *ret)
{
    struct decimal decimal = {.negative = *text == '-'};
    uint8_t digits[DIGITS_MAX];
    long n = 0, point = -1, exponent = 0, first = 0;

    if (*text == '-')
        text++;
    for (; isdigit((unsigned char)*text) || (*text == '.' && point < 0); text++) {
        if (*text == '.')
            point = n;
        else if (n < DIGITS_MAX)
            digits[n++] = (uint8_t)(*text - '0');
        else
            return -ERANGE;
    }
    if (n == 0)
        return -EINVAL;
    if (point < 0)
        point = n;
    if (*text == 'e' || *text == 'E') {
        char *end;

        exponent = strtol(text + 1, &end, 10);
        if (end == text + 1 || exponent > 100000 || exponent < -100000)
            return -EINVAL;
        text = end;
    }
    if (*text != '\0')
        return -EINVAL;

    /* The value is 0.digits * 10^point without leading and trailing zeros. */
    point += exponent;
    for (; first < n && digits[first] == 0; first++)
        point--;
    while (n > first && digits[n - 1] == 0)
        n--;
    n -= first;
    if (n == 0) {
        decimal.negative = false;
        point = 1;
    }
    if (n - point > DECIMAL_FRACTION_MAX)
        return -ERANGE;
    if (point > DECIMAL_WHOLE_MAX) {
        decimal.n_whole = DECIMAL_WHOLE_MAX + 1;
        memset(decimal.digits, 9, decimal.n_whole);
        *ret = decimal;
        return 0;
    }
    decimal.n_whole = (uint8_t)MAX(point, 1L);
    decimal.n_fraction = (uint8_t)MAX(n - point, 0L);
    for (long i = 0; i < n; i++)
        decimal.digits[decimal.n_whole - point + i] = (char)digits[first + i];
    *ret = decimal;
    return 0;
}

/* --- comparing -------------------------------------------------------------------------------- */

static int compare_magnitudes(const struct decimal *a, const struct decimal *b)
{
    if (a->n_whole != b->n_whole)
        return a->n_whole < b->n_whole ? -1 : 1;
    return memcmp(a->digits, b->digits, sizeof(a->digits)); /* zeros behind the fraction */
}

static int compare(const struct decimal *a, const struct decimal *b)
{
    if (a->negative != b->negative)
        return a->negative ? -1 : 1;
    return a->negative ? -compare_magnitudes(a, b) : compare_magnitudes(a, b);
}

void decimal_raise(struct decimal *low, const struct decimal *bound)
{
    const int order = compare(bound, low);

    if (order > 0 || (order == 0 && bound->exclusive))
        *low = *bound;
}

void decimal_lower(struct decimal *high, const struct decimal *bound)
{
    const int order = compare(bound, high);

    if (order < 0 || (order == 0 && bound->exclusive))
        *high = *bound;
}

/* --- the grammar ------------------------------------------------------------------------------ */

/*
 * Numbers of n_whole digits before the point, digit by digit. on_low: the digits so far are those
 * of the lower bound, so the next one must not be below; on_high likewise.
 */
struct digits_job {
    struct grammar *g;
    const struct decimal *low, *high;
    unsigned n_whole, n_fraction;
    unsigned low_end, high_end; /* where the bound's trailing zeros begin */
    grammar_node next;
    grammar_node made[DECIMAL_WHOLE_MAX + DECIMAL_FRACTION_MAX + 1][2][2];
    bool is_made[DECIMAL_WHOLE_MAX + DECIMAL_FRACTION_MAX + 1][2][2];
};

static grammar_node after_digits(struct digits_job *job, unsigned n, bool on_low, bool on_high);

static grammar_node digit(struct digits_job *job, unsigned at, bool on_low, bool on_high)
{
    int from = on_low ? job->low->digits[at] : 0;
    int to = on_high ? job->high->digits[at] : 9;
    grammar_node node = GRAMMAR_NOTHING;

    if (at == 0 && job->n_whole > 1)
        from = MAX(from, 1);
    if (from > to)
        return GRAMMAR_NOTHING;
    if (from == to)
        return grammar_byte(job->g, (uint8_t)('0' + from), (uint8_t)('0' + from),
                            after_digits(job, at + 1, on_low, on_high));
    if (on_low) {
        node = grammar_byte(job->g, (uint8_t)('0' + from), (uint8_t)('0' + from),
                            after_digits(job, at + 1, true, false));
        from++;
    }
    if (on_high) {
        node = grammar_either(job->g,
                              grammar_byte(job->g, (uint8_t)('0' + to), (uint8_t)('0' + to),
                                           after_digits(job, at + 1, false, true)),
                              node);
        to--;
    }
    if (from <= to)
        node = grammar_either(job->g,
                              grammar_byte(job->g, (uint8_t)('0' + from), (uint8_t)('0' + to),
                                           after_digits(job, at + 1, false, false)),
                              node);
    return node;
}

static grammar_node make_after_digits(struct digits_job *job, unsigned n, bool on_low, bool on_high)
{
    const bool low_is_kept = !on_low || (n >= job->low_end && !job->low->exclusive);
    const bool high_is_kept = !on_high || !job->high->exclusive || n < job->high_end;
    grammar_node node, more;

    if (n < job->n_whole)
        return digit(job, n, on_low, on_high);
    node = low_is_kept && high_is_kept ? job->next : GRAMMAR_NOTHING;
    if (n == job->n_whole + job->n_fraction)
        return node;
    more = digit(job, n, on_low, on_high);
    if (n == job->n_whole)
        more = grammar_byte(job->g, '.', '.', more);
    return grammar_either(job->g, more, node);
}

static grammar_node after_digits(struct digits_job *job, unsigned n, bool on_low, bool on_high)
{
    if (!job->is_made[n][on_low][on_high]) {
        job->made[n][on_low][on_high] = make_after_digits(job, n, on_low, on_high);
        job->is_made[n][on_low][on_high] = true;
    }
    return job->made[n][on_low][on_high];
}

static unsigned trailing_zeros_begin(const struct decimal *decimal)
{
    unsigned n = sizeof(decimal->digits);

    while (n > 0 && decimal->digits[n - 1] == 0)
        n--;
    return n;
}

/* Magnitudes from low to high, their signs ignored. */
static grammar_node magnitudes(struct grammar *g, const struct decimal *low,
                               const struct decimal *high, unsigned n_fraction, grammar_node next)
{
    grammar_node node = GRAMMAR_NOTHING;

    for (unsigned n = MIN(high->n_whole, DECIMAL_WHOLE_MAX); n >= MAX(low->n_whole, 1u); n--) {
        struct digits_job job = {
            .g = g,
            .low = low,
            .high = high,
            .n_whole = n,
            .n_fraction = n_fraction,
            .low_end = trailing_zeros_begin(low),
            .high_end = trailing_zeros_begin(high),
            .next = next,
        };

        node = grammar_either(g, after_digits(&job, 0, n == low->n_whole, n == high->n_whole),
                              node);
    }
    return node;
}

grammar_node decimal_range(struct grammar *g, const struct decimal *low, const struct decimal *high,
                           unsigned n_fraction, grammar_node next)
{
    const struct decimal zero = {.n_whole = 1};
    const struct decimal above_zero = {.n_whole = 1, .exclusive = true};
    grammar_node node = GRAMMAR_NOTHING;

    assert(n_fraction <= DECIMAL_FRACTION_MAX);
    if (!high->negative)
        node = magnitudes(g, low->negative ? &zero : low, high, n_fraction, next);
    if (low->negative)
        node = grammar_either(
            g,
            grammar_byte(g, '-', '-',
                         magnitudes(g, high->negative ? high : &above_zero, low, n_fraction, next)),
            node);
    return node;
}
