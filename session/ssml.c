/* SPDX-License-Identifier: MIT */
#include "session/ssml.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/utf8.h"

#define ENTITY_MAX 10 /* bytes between "&" and ";" */

static bool begins(const struct ssml *ssml, const char *with)
{
    const size_t n = strlen(with);

    return ssml->length - ssml->at >= n && memcmp(ssml->text + ssml->at, with, n) == 0;
}

/* Behind the next `end`; without one all that is left belongs to what has begun. */
static void skip_past(struct ssml *ssml, const char *end)
{
    const char *from = ssml->text + ssml->at;
    const char *found = memmem(from, ssml->length - ssml->at, end, strlen(end));

    ssml->at = found ? (size_t)(found - ssml->text) + strlen(end) : ssml->length;
}

/* "&NAME;" at text: its character, and how many bytes it takes; 0: it is none. */
static size_t entity(const char *text, size_t length, uint32_t *ret)
{
    static const struct {
        const char *name;
        uint32_t character;
    } names[] = {{"lt", '<'}, {"gt", '>'}, {"amp", '&'}, {"quot", '"'}, {"apos", '\''}};
    const char *semicolon = memchr(text, ';', MIN(length, ENTITY_MAX + 2));
    const size_t n = semicolon ? (size_t)(semicolon - text) - 1 : 0;
    char name[ENTITY_MAX + 1], *end;
    unsigned long number;

    if (n == 0 || n > ENTITY_MAX)
        return 0;
    memcpy(name, text + 1, n);
    name[n] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(name, names[i].name) == 0) {
            *ret = names[i].character;
            return n + 2;
        }
    if (name[0] != '#' || !isxdigit((unsigned char)name[name[1] == 'x' ? 2 : 1]))
        return 0;
    number = name[1] == 'x' ? strtoul(name + 2, &end, 16) : strtoul(name + 1, &end, 10);
    if (*end || number == 0 || number > 0x10ffff || (number >= 0xd800 && number < 0xe000))
        return 0;
    *ret = (uint32_t)number;
    return n + 2;
}

/* The end of the tag that begins at `at`: its ">"; 0: it is no tag. */
static size_t tag_end(const struct ssml *ssml)
{
    const char *text = ssml->text + ssml->at;
    const size_t n = MIN(ssml->length - ssml->at, SSML_TAG_MAX);
    const size_t name = n > 1 && text[1] == '/' ? 2 : 1;
    char quote = 0;

    if (name >= n || !isalpha((unsigned char)text[name]))
        return 0;
    for (size_t i = name; i < n; i++) {
        if (quote)
            quote = text[i] == quote ? 0 : quote;
        else if (text[i] == '"' || text[i] == '\'')
            quote = text[i];
        else if (text[i] == '<')
            return 0;
        else if (text[i] == '>')
            return ssml->at + i;
    }
    return 0;
}

static void take_tag(struct ssml *ssml, size_t end, struct ssml_token *ret)
{
    const char *text = ssml->text;
    const bool close = text[ssml->at + 1] == '/';
    size_t at = ssml->at + 1 + close, name = at, n;

    while (at < end && !isspace((unsigned char)text[at]) && text[at] != '/') {
        if (text[at++] == ':')
            name = at;
    }
    n = MIN(at - name, SSML_NAME_MAX - 1);
    *ret = (struct ssml_token){.type = close ? SSML_CLOSE : SSML_OPEN,
                               .text = text + at, .length = end - at};
    memcpy(ret->name, text + name, n);
    ssml->closes = !close && text[end - 1] == '/';
    memcpy(ssml->name, ret->name, sizeof(ssml->name));
    ssml->at = end + 1;
}

static void take_text(struct ssml *ssml, size_t n, struct ssml_token *ret)
{
    *ret = (struct ssml_token){.type = SSML_TEXT, .text = ssml->text + ssml->at, .length = n};
    ssml->at += n;
}

/* What begins with "<" or "&". False: it was skipped. */
static bool take_markup(struct ssml *ssml, struct ssml_token *ret)
{
    const char *text = ssml->text + ssml->at;
    const size_t left = ssml->length - ssml->at;
    uint32_t character;
    size_t n;

    if (*text == '&') {
        n = entity(text, left, &character);
        if (n == 0) {
            take_text(ssml, 1, ret);
            return true;
        }
        *ret = (struct ssml_token){.type = SSML_TEXT, .text = ssml->decoded,
                                   .length = utf8_encode(character, ssml->decoded)};
        ssml->at += n;
        return true;
    }
    if (begins(ssml, "<!--")) {
        skip_past(ssml, "-->");
        return false;
    }
    if (begins(ssml, "<![CDATA[")) {
        const size_t start = ssml->at + strlen("<![CDATA[");

        skip_past(ssml, "]]>");
        n = ssml->at - start;
        n -= n >= 3 && memcmp(ssml->text + ssml->at - 3, "]]>", 3) == 0 ? 3 : 0;
        *ret = (struct ssml_token){.type = SSML_TEXT, .text = ssml->text + start, .length = n};
        return true;
    }
    if (begins(ssml, "<?") || begins(ssml, "<!")) {
        skip_past(ssml, ">");
        return false;
    }
    n = tag_end(ssml);
    if (n > 0)
        take_tag(ssml, n, ret);
    else
        take_text(ssml, 1, ret);
    return true;
}

void ssml_next(struct ssml *ssml, struct ssml_token *ret)
{
    if (ssml->closes) {
        *ret = (struct ssml_token){.type = SSML_CLOSE};
        memcpy(ret->name, ssml->name, sizeof(ret->name));
        ssml->closes = false;
        return;
    }
    while (ssml->at < ssml->length) {
        const char *text = ssml->text + ssml->at;
        size_t n = 0;

        while (n < ssml->length - ssml->at && text[n] != '<' && text[n] != '&')
            n++;
        if (n > 0) {
            take_text(ssml, n, ret);
            return;
        }
        if (take_markup(ssml, ret))
            return;
    }
    *ret = (struct ssml_token){.type = SSML_END};
}

/* The value between its quotes at text[*at], decoded. */
static void read_value(const char *text, size_t end, char *value, size_t size)
{
    size_t used = 0;

    for (size_t at = 0; at < end && used + 5 <= size;) {
        uint32_t character;
        const size_t n = text[at] == '&' ? entity(text + at, end - at, &character) : 0;

        if (n > 0)
            used += utf8_encode(character, value + used);
        else
            value[used++] = text[at];
        at += n > 0 ? n : 1;
    }
    value[used] = '\0';
}

bool ssml_attribute(const struct ssml_token *token, const char *name, char *value, size_t size)
{
    const char *text = token->text, *const end = text + token->length;

    while (text < end) {
        const char *start, *close;
        size_t n;

        text += strspn(text, " \t\r\n/"); /* ends at the tag's ">" */
        if (text >= end)
            break;
        start = text;
        while (text < end && *text != '=' && !isspace((unsigned char)*text))
            text++;
        n = (size_t)(text - start);
        while (text < end && (*text == '=' || isspace((unsigned char)*text)))
            text++;
        if (text >= end || (*text != '"' && *text != '\''))
            continue;
        close = memchr(text + 1, *text, (size_t)(end - text - 1));
        if (!close)
            break;
        if (n == strlen(name) && memcmp(start, name, n) == 0) {
            read_value(text + 1, (size_t)(close - text - 1), value, size);
            return true;
        }
        text = close + 1;
    }
    return false;
}
