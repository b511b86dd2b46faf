/* SPDX-License-Identifier: MIT */
#include "clients/sentence.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>

#include "base/utf8.h"

/* The code point at `at` and its length; 0 bytes: the text ends within it. */
static int decode(const char *text, size_t length, size_t at, uint32_t *ret)
{
    int n = at < length ? utf8_decode(text + at, length - at, ret) : 0;

    if (n >= 0)
        return n;
    *ret = 0xfffd;
    return 1;
}

static bool is_one_of(uint32_t c, const uint32_t *set)
{
    while (*set && *set != c)
        set++;
    return *set;
}

static bool is_space(uint32_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r') || c == 0xa0 || c == 0x3000;
}

size_t sentence_length(const char *text, size_t length)
{
    static const uint32_t marks[] = {'.', '!', '?', 0x2026, 0}; /* the last: an ellipsis */
    static const uint32_t wide_marks[] = {0x3002, 0xff01, 0xff1f, 0}; /* no space follows them */
    static const uint32_t closers[] = {'"', '\'', ')', ']', 0x2019, 0x201d, 0xbb, 0x300d, 0};
    bool ends = false, ends_here = false;
    uint32_t c;
    int n;

    for (size_t at = 0; (n = decode(text, length, at, &c)) > 0; at += (size_t)n) {
        if (c == '\n' || (ends && is_space(c)))
            return at + (size_t)n;
        if (ends_here && !is_one_of(c, closers))
            return at;
        if (is_one_of(c, marks))
            ends = true;
        else if (is_one_of(c, wide_marks))
            ends = ends_here = true;
        else if (!is_one_of(c, closers))
            ends = false;
    }
    return 0;
}

bool sentence_has_words(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (isalnum((unsigned char)text[i]) || text[i] & 0x80)
            return true;
    return false;
}
