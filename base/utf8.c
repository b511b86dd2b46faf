/* SPDX-License-Identifier: MIT */
#include "base/utf8.h"

#include <string.h>

int utf8_decode(const char *text, size_t length, uint32_t *ret_code_point)
{
    const unsigned char *s = (const unsigned char *)text;
    uint32_t code_point, minimum;
    size_t n;

    if (s[0] < 0x80) {
        *ret_code_point = s[0];
        return 1;
    }
    if (s[0] >= 0xc2 && s[0] <= 0xdf) {
        n = 2, minimum = 0x80, code_point = s[0] & 0x1fu;
    } else if (s[0] >= 0xe0 && s[0] <= 0xef) {
        n = 3, minimum = 0x800, code_point = s[0] & 0x0fu;
    } else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        n = 4, minimum = 0x10000, code_point = s[0] & 0x07u;
    } else {
        return -1;
    }

    for (size_t i = 1; i < n; i++) {
        if (i == length)
            return 0;
        if ((s[i] & 0xc0) != 0x80)
            return -1;
        code_point = code_point << 6 | (s[i] & 0x3fu);
        /* The second byte already decides overlong forms, surrogates and the upper end. */
        if (i == 1) {
            const uint32_t low = code_point << (6 * (n - 2));
            const uint32_t high = low | ((1u << (6 * (n - 2))) - 1);

            if (high < minimum || low > 0x10ffff || (low >= 0xd800 && low <= 0xdfff))
                return -1;
        }
    }

    *ret_code_point = code_point;
    return (int)n;
}

size_t utf8_encode(uint32_t code_point, char out[4])
{
    if (code_point < 0x80) {
        out[0] = (char)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        out[0] = (char)(0xc0 | code_point >> 6);
        out[1] = (char)(0x80 | (code_point & 0x3f));
        return 2;
    }
    if (code_point < 0x10000) {
        out[0] = (char)(0xe0 | code_point >> 12);
        out[1] = (char)(0x80 | (code_point >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code_point & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code_point >> 18);
    out[1] = (char)(0x80 | (code_point >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code_point >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code_point & 0x3f));
    return 4;
}

bool utf8_valid(const char *text, size_t length)
{
    uint32_t code_point;

    for (size_t i = 0; i < length;) {
        const int n = utf8_decode(text + i, length - i, &code_point);

        if (n <= 0)
            return false;
        i += (size_t)n;
    }
    return true;
}

size_t utf8_complete(const char *text, size_t length)
{
    uint32_t code_point;

    for (size_t back = 1; back <= 3 && back <= length; back++) {
        const unsigned char byte = (unsigned char)text[length - back];

        if ((byte & 0xc0) == 0x80)
            continue;
        if (byte >= 0xc0 && utf8_decode(text + length - back, back, &code_point) == 0)
            return length - back;
        break;
    }
    return length;
}

void utf8_repair(char *text)
{
    size_t length = utf8_complete(text, strlen(text));
    uint32_t code_point;

    text[length] = '\0';
    for (size_t i = 0; i < length;) {
        const int n = utf8_decode(text + i, length - i, &code_point);

        if (n <= 0)
            text[i] = '?';
        i += n <= 0 ? 1 : (size_t)n;
    }
}

void utf8_plain(char *text)
{
    utf8_repair(text);
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        if (*c == 0xc2 && c[1] < 0xa0) /* U+0080 to U+009F */
            c[0] = c[1] = '?';
        else if (*c < ' ' || *c == 0x7f)
            *c = '?';
    }
}
