/* SPDX-License-Identifier: MIT */
#include "clients/desktop/calculate.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define DEPTH_MAX    64
#define EXPONENT_MAX 1000
#define DECIMALS_MAX 10
#define NUMBER_MAX   ((__int128)(~(unsigned __int128)0 >> 1)) /* and -NUMBER_MAX, both negatable */

/* A fraction in lowest terms, denominator > 0. */
struct fraction {
    __int128 n, d;
};

struct parser {
    const char *p;
    unsigned depth;
    struct error *err;
};

static __int128 gcd(__int128 a, __int128 b)
{
    while (b != 0) {
        __int128 rest = a % b;

        a = b;
        b = rest;
    }
    return a < 0 ? -a : a;
}

static int too_large(struct parser *s)
{
    return error_set(s->err, ERROR_INVALID_ARGUMENT, "The numbers are too large to be exact.");
}

static int add(struct parser *s, struct fraction *a, struct fraction b)
{
    __int128 g = gcd(a->d, b.d), x, y, n, d;

    if (__builtin_mul_overflow(a->n, b.d / g, &x) || __builtin_mul_overflow(b.n, a->d / g, &y) ||
        __builtin_add_overflow(x, y, &n) || __builtin_mul_overflow(a->d, b.d / g, &d) ||
        n < -NUMBER_MAX)
        return too_large(s);
    g = gcd(n, d);
    *a = (struct fraction){n / g, d / g};
    return 0;
}

static int multiply(struct parser *s, struct fraction *a, struct fraction b)
{
    __int128 g = gcd(a->n, b.d), h = gcd(b.n, a->d), n, d;

    if (__builtin_mul_overflow(a->n / g, b.n / h, &n) ||
        __builtin_mul_overflow(a->d / h, b.d / g, &d) || n < -NUMBER_MAX)
        return too_large(s);
    *a = (struct fraction){n, d};
    return 0;
}

static int divide(struct parser *s, struct fraction *a, struct fraction b)
{
    if (b.n == 0)
        return error_set(s->err, ERROR_INVALID_ARGUMENT, "Nothing can be divided by zero.");
    return multiply(s, a, (struct fraction){b.n < 0 ? -b.d : b.d, b.n < 0 ? -b.n : b.n});
}

static int power(struct parser *s, struct fraction *a, struct fraction b)
{
    struct fraction result = {1, 1}, one = {1, 1}, base = *a;
    int r = 0;

    if (b.d != 1 || b.n > EXPONENT_MAX || b.n < -EXPONENT_MAX)
        return error_set(s->err, ERROR_INVALID_ARGUMENT,
                         "An exponent must be a whole number of at most %d.", EXPONENT_MAX);
    for (__int128 i = 0; i < (b.n < 0 ? -b.n : b.n) && r == 0; i++)
        r = multiply(s, &result, base);
    if (r < 0)
        return r;
    if (b.n < 0) {
        r = divide(s, &one, result);
        result = one;
    }
    *a = result;
    return r;
}

static bool take(struct parser *s, const char *token)
{
    s->p += strspn(s->p, " \t");
    if (strncmp(s->p, token, strlen(token)) != 0)
        return false;
    s->p += strlen(token);
    return true;
}

static int number(struct parser *s, struct fraction *ret)
{
    struct fraction value = {0, 1};
    bool point = false, digits = false;

    s->p += strspn(s->p, " \t");
    for (;; s->p++) {
        if (*s->p == '.' && !point) {
            point = true;
        } else if (*s->p >= '0' && *s->p <= '9') {
            digits = true;
            if (__builtin_mul_overflow(value.n, 10, &value.n) ||
                __builtin_add_overflow(value.n, *s->p - '0', &value.n) ||
                (point && __builtin_mul_overflow(value.d, 10, &value.d)))
                return too_large(s);
        } else if (*s->p != ',' || s->p[1] < '0' || s->p[1] > '9' || !digits) {
            break; /* 1,000: the comma groups digits */
        }
    }
    if (!digits)
        return error_set(s->err, ERROR_INVALID_ARGUMENT,
                         *s->p ? "A number was expected before '%.20s'."
                               : "A number was expected at the end%.0s.",
                         s->p);
    *ret = (struct fraction){0, 1};
    return add(s, ret, value);
}

static int sum(struct parser *s, struct fraction *ret);

static int atom(struct parser *s, struct fraction *ret)
{
    int r;

    if (!take(s, "("))
        return number(s, ret);
    if (++s->depth > DEPTH_MAX)
        return error_set(s->err, ERROR_INVALID_ARGUMENT, "There are too many parentheses.");
    r = sum(s, ret);
    if (r == 0 && !take(s, ")"))
        return error_set(s->err, ERROR_INVALID_ARGUMENT, "A ')' is missing.");
    s->depth--;
    return r;
}

static int factor(struct parser *s, struct fraction *ret)
{
    struct fraction exponent;
    int r;

    if (++s->depth > DEPTH_MAX)
        return error_set(s->err, ERROR_INVALID_ARGUMENT, "The expression is too deep.");
    if (take(s, "-")) {
        r = factor(s, ret);
        if (r == 0)
            ret->n = -ret->n;
        s->depth--;
        return r;
    }
    r = atom(s, ret);
    if (r == 0 && (take(s, "^") || take(s, "**"))) {
        r = factor(s, &exponent);
        if (r == 0)
            r = power(s, ret, exponent);
    }
    while (r == 0 && take(s, "%"))
        r = divide(s, ret, (struct fraction){100, 1});
    s->depth--;
    return r;
}

static int product(struct parser *s, struct fraction *ret)
{
    struct fraction next;
    int r = factor(s, ret);

    while (r == 0) {
        bool times = take(s, "*") || take(s, "×") || take(s, "x") || take(s, "·");

        if (!times && !take(s, "/") && !take(s, "÷") && !take(s, ":"))
            break;
        r = factor(s, &next);
        if (r == 0)
            r = times ? multiply(s, ret, next) : divide(s, ret, next);
    }
    return r;
}

static int sum(struct parser *s, struct fraction *ret)
{
    struct fraction next;
    int r = product(s, ret);

    while (r == 0) {
        bool minus = take(s, "-") || take(s, "−");

        if (!minus && !take(s, "+"))
            break;
        r = product(s, &next);
        if (r < 0)
            break;
        if (minus)
            next.n = -next.n;
        r = add(s, ret, next);
    }
    return r;
}

/* |n| as decimal digits, at the end of text[size]; returns where they begin. */
static char *digits_of(unsigned __int128 n, char *text, size_t size)
{
    char *p = text + size - 1;

    *p = '\0';
    do {
        *--p = (char)('0' + (int)(n % 10));
        n /= 10;
    } while (n > 0);
    return p;
}

/* As a fraction of 10^decimals, rounded half away from zero; false when that does not fit. */
static bool decimals_of(struct fraction value, int decimals, __int128 *ret, bool *ret_exact)
{
    __int128 n = value.n < 0 ? -value.n : value.n;

    for (int i = 0; i < decimals; i++) {
        if (__builtin_mul_overflow(n, 10, &n))
            return false;
    }
    *ret_exact = n % value.d == 0;
    *ret = n / value.d + (n % value.d >= value.d - n % value.d);
    return true;
}

static int print(struct parser *s, struct fraction value, char *ret)
{
    char text[64], *p;
    int decimals = 0, length;
    __int128 n = 0;
    bool exact = false;

    while (!exact && decimals <= DECIMALS_MAX) {
        if (!decimals_of(value, decimals, &n, &exact))
            break;
        if (!exact)
            decimals++;
    }
    if (!exact) {
        for (decimals = 4; decimals < 30; decimals++) {
            if (!decimals_of(value, decimals, &n, &exact))
                return too_large(s);
            if (n >= 1000)
                break;
        }
        while (decimals > 0 && n % 10 == 0) {
            n /= 10;
            decimals--;
        }
    }
    p = digits_of((unsigned __int128)n, text, sizeof(text));
    length = (int)strlen(p);
    while (length <= decimals) { /* 5 in thousandths is 0.005 */
        *--p = '0';
        length++;
    }
    snprintf(ret, CALCULATE_RESULT, "%s%.*s%s%s", value.n < 0 && n != 0 ? "-" : "",
             length - decimals, p, decimals ? "." : "", p + length - decimals);
    return 0;
}

int calculate(const char *text, char *ret, struct error *err)
{
    struct parser s = {.p = text, .err = err};
    struct fraction value;
    int r;

    if (strlen(text) > CALCULATE_TEXT_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "The expression is too long.");
    r = sum(&s, &value);
    if (r < 0)
        return r;
    take(&s, "=");
    s.p += strspn(s.p, " \t?");
    if (*s.p)
        return error_set(err, ERROR_INVALID_ARGUMENT, "'%.20s' cannot be calculated.", s.p);
    return print(&s, value, ret);
}
