/* SPDX-License-Identifier: MIT */
#include "text/pretokenizer.h"

#include <stdint.h>
#include <string.h>

#include <utf8proc.h>

#include "base/cleanup.h"
#include "base/utf8.h"

enum kind {
    KIND_LETTER,  /* \p{L} */
    KIND_NUMBER,  /* \p{N} */
    KIND_NEWLINE, /* \r or \n */
    KIND_SPACE,   /* \s without them */
    KIND_OTHER,   /* marks, punctuation, symbols, control characters, bytes that are not UTF-8 */
    KIND_END,
};

/*
 * Letters and numbers of Unicode 15.1 and 16, which utf8proc 2.8 does not know yet: the reference
 * library does, and ids must not depend on the installed version.
 */
static enum kind kind_of_newer(uint32_t c)
{
    static const struct {
        uint32_t first, last;
        enum kind kind;
    } ranges[] = {
        {0x1c89, 0x1c8a, KIND_LETTER},   {0xa7cb, 0xa7cd, KIND_LETTER},
        {0xa7da, 0xa7dc, KIND_LETTER},   {0x105c0, 0x105f3, KIND_LETTER},
        {0x10d40, 0x10d49, KIND_NUMBER}, {0x10d4a, 0x10d65, KIND_LETTER},
        {0x10d6f, 0x10d85, KIND_LETTER}, {0x10ec2, 0x10ec4, KIND_LETTER},
        {0x11380, 0x11389, KIND_LETTER}, {0x1138b, 0x1138b, KIND_LETTER},
        {0x1138e, 0x1138e, KIND_LETTER}, {0x11390, 0x113b5, KIND_LETTER},
        {0x113b7, 0x113b7, KIND_LETTER}, {0x113d1, 0x113d1, KIND_LETTER},
        {0x113d3, 0x113d3, KIND_LETTER}, {0x116d0, 0x116e3, KIND_NUMBER},
        {0x11bc0, 0x11be0, KIND_LETTER}, {0x11bf0, 0x11bf9, KIND_NUMBER},
        {0x13460, 0x143fa, KIND_LETTER}, {0x16100, 0x1611d, KIND_LETTER},
        {0x16130, 0x16139, KIND_NUMBER}, {0x16d40, 0x16d6c, KIND_LETTER},
        {0x16d70, 0x16d79, KIND_NUMBER}, {0x18cff, 0x18cff, KIND_LETTER},
        {0x1ccf0, 0x1ccf9, KIND_NUMBER}, {0x1e5d0, 0x1e5ed, KIND_LETTER},
        {0x1e5f0, 0x1e5f0, KIND_LETTER}, {0x1e5f1, 0x1e5fa, KIND_NUMBER},
        {0x2ebf0, 0x2ee5d, KIND_LETTER},
    };

    for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
        if (c >= ranges[i].first && c <= ranges[i].last)
            return ranges[i].kind;
    return KIND_OTHER;
}

static enum kind kind_of(uint32_t c)
{
    if (c == '\r' || c == '\n')
        return KIND_NEWLINE;
    if ((c >= 0x09 && c <= 0x0c) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
        (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
        c == 0x3000)
        return KIND_SPACE;

    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return KIND_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return KIND_NUMBER;
    case UTF8PROC_CATEGORY_CN: /* unassigned */
        return kind_of_newer(c);
    default:
        return KIND_OTHER;
    }
}

/* The kind and the length of the character at text[at]; 0 at the end. */
static size_t look(const char *text, size_t n, size_t at, enum kind *ret_kind)
{
    uint32_t code_point;
    int length;

    if (at == n) {
        *ret_kind = KIND_END;
        return 0;
    }
    length = utf8_decode(text + at, n - at, &code_point);
    if (length <= 0) {
        *ret_kind = KIND_OTHER;
        return 1;
    }
    *ret_kind = kind_of(code_point);
    return (size_t)length;
}

/* Where the run of `kind` that begins at `at` ends. */
static size_t run_end(const char *text, size_t n, size_t at, enum kind kind)
{
    enum kind found;

    for (;;) {
        const size_t length = look(text, n, at, &found);

        if (found != kind)
            return at;
        at += length;
    }
}

/* Length of s, t, re, ve, m, ll or d at text, in either case; U+017F is another s. */
static size_t contraction(const char *text, size_t n)
{
    static const char *const pairs[] = {"re", "ve", "ll"};

    if (n >= 1 && strchr("stmdSTMD", text[0]) && text[0])
        return 1;
    if (n >= 2 && memcmp(text, "\xc5\xbf", 2) == 0)
        return 2;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
        if (n >= 2 && (text[0] | 0x20) == pairs[i][0] && (text[1] | 0x20) == pairs[i][1])
            return 2;
    return 0;
}

size_t pretokenizer_next(const char *text, size_t n)
{
    enum kind kind;
    const size_t first = look(text, n, 0, &kind);
    size_t end, last = 0, after_newline = 0;

    if (text[0] == '\'') {
        const size_t length = contraction(text + 1, n - 1);

        if (length)
            return 1 + length;
    }

    if (kind == KIND_LETTER)
        return run_end(text, n, first, KIND_LETTER);
    if (kind == KIND_NUMBER) {
        end = first;
        for (unsigned i = 1; i < 3; i++) {
            const size_t length = look(text, n, end, &kind);

            if (kind != KIND_NUMBER)
                break;
            end += length;
        }
        return end;
    }
    if (kind != KIND_NEWLINE) {
        end = run_end(text, n, first, KIND_LETTER);
        if (end > first)
            return end;
    }

    end = run_end(text, n, text[0] == ' ', KIND_OTHER);
    if (end > (text[0] == ' '))
        return run_end(text, n, end, KIND_NEWLINE);

    /* White space: through its last newline, else all at the end of the text, else all but one. */
    for (end = 0;;) {
        const size_t length = look(text, n, end, &kind);

        if (kind != KIND_SPACE && kind != KIND_NEWLINE)
            break;
        last = end;
        end += length;
        if (kind == KIND_NEWLINE)
            after_newline = end;
    }
    if (after_newline)
        return after_newline;
    return end == n || last == 0 ? end : last;
}
