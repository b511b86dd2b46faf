/* SPDX-License-Identifier: MIT */
#include "clients/speech-dispatcher/markup.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/utf8.h"

#define NAMED "<say-as interpret-as=\"characters\">"
#define NAMED_END "</say-as>"

/* Parts of the names of keys, as X and SSIP write them. */
static const struct {
    const char *key, *said;
} keys[] = {
    {"alt", "alt"},          {"alt_l", "left alt"},       {"alt_r", "right alt"},
    {"backspace", "backspace"}, {"caps", "caps"},         {"control", "control"},
    {"control_l", "left control"}, {"control_r", "right control"}, {"ctrl", "control"},
    {"del", "delete"},       {"esc", "escape"},           {"ins", "insert"},
    {"iso_level3_shift", "alt graph"}, {"kp", "keypad"},  {"l", "left"},
    {"menu", "menu"},        {"next", "page down"},       {"num", "num"},
    {"pgdn", "page down"},   {"pgup", "page up"},         {"prior", "page up"},
    {"print", "print screen"}, {"return", "return"},      {"shift_l", "left shift"},
    {"shift_r", "right shift"}, {"super_l", "left super"}, {"super_r", "right super"},
};

struct reader {
    const struct settings *settings;
    FILE *out;
    bool in_word, in_spelling;
};

static void put_escaped(FILE *out, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        const char *entity = text[i] == '<' ? "&lt;" : text[i] == '>' ? "&gt;" : NULL;

        if (text[i] == '&')
            entity = "&amp;";
        if (entity)
            fputs(entity, out);
        else
            fputc(text[i], out);
    }
}

/* --- text ------------------------------------------------------------------------------------ */

/* Signs and such; other scripts' too. */
static bool is_punctuation(const char *character, size_t n)
{
    uint32_t code;

    if (n == 1)
        return ispunct((unsigned char)*character);
    return utf8_decode(character, n, &code) > 0 &&
           ((code >= 0xa1 && code <= 0xbf && code != 0xaa && code != 0xba) ||
            (code >= 0x2010 && code <= 0x205e) || (code >= 0x20a0 && code <= 0x20cf) ||
            (code >= 0x2190 && code <= 0x2bff) || (code >= 0x3001 && code <= 0x3003));
}

static bool is_named(const struct settings *settings, const char *character, size_t n)
{
    char text[8] = "";

    if (settings->punctuation == PUNCTUATION_NONE || !is_punctuation(character, n))
        return false;
    memcpy(text, character, n);
    if (settings->punctuation == PUNCTUATION_ALL)
        return true;
    return strstr(settings->punctuation == PUNCTUATION_SOME ? settings->some : settings->most,
                  text);
}

/* Latin, Greek and Cyrillic; ASCII's are those that count. */
static bool is_capital(const char *character, size_t n)
{
    uint32_t code;

    if (n == 1)
        return isupper((unsigned char)*character);
    return utf8_decode(character, n, &code) > 0 &&
           ((code >= 0xc0 && code <= 0xde && code != 0xd7) || (code >= 0x391 && code <= 0x3a9) ||
            (code >= 0x400 && code <= 0x42f));
}

/* As an icon where there is one. */
static void put_capital(FILE *out, const struct settings *settings)
{
    char path[SETTINGS_PATH_MAX];

    if (settings->capitals == CAPITALS_ICON && settings_icon(settings, "capital", path))
        fputs("<mark name=\"" MARKUP_ICON "capital\"/>", out);
    else if (settings->capitals != CAPITALS_NONE)
        fputs("capital ", out);
}

static void put_character(struct reader *reader, const char *character, size_t n)
{
    FILE *out = reader->out;
    const bool is_letter = n > 1 || isalnum((unsigned char)*character);

    if (is_capital(character, n) && (reader->settings->spelling || !reader->in_word)) {
        if (reader->in_spelling)
            fputs(NAMED_END, out);
        put_capital(out, reader->settings);
        if (reader->in_spelling)
            fputs(NAMED, out);
    }
    reader->in_word = is_letter;
    if (reader->in_spelling || !is_named(reader->settings, character, n)) {
        put_escaped(out, character, n);
        return;
    }
    fputs(" " NAMED, out);
    put_escaped(out, character, n);
    fputs(NAMED_END, out);
    if (n == 1 && strchr(".,;:!?", *character)) /* what parts sentences goes on doing so */
        fputc(*character, out);
    fputc(' ', out);
}

static void set_spelling(struct reader *reader, bool on)
{
    if (on != reader->in_spelling)
        fputs(on ? NAMED : NAMED_END, reader->out);
    reader->in_spelling = on;
}

/* "&lt;" and the like: the character, and how many bytes it takes; 0: it is none. */
static size_t entity(const char *text, char *ret)
{
    static const struct {
        const char *name;
        char character;
    } names[] = {{"&lt;", '<'}, {"&gt;", '>'}, {"&amp;", '&'}, {"&quot;", '"'}, {"&apos;", '\''}};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strncmp(text, names[i].name, strlen(names[i].name)) == 0) {
            *ret = names[i].character;
            return strlen(names[i].name);
        }
    return 0;
}

/* The length of a tag or comment; 0: it is none. */
static size_t tag(const char *text)
{
    const size_t n = *text == '<' ? strcspn(text + 1, "<>") + 1 : 0;

    return n > 1 && text[n] == '>' && (isalpha((unsigned char)text[1]) || strchr("/!?", text[1]))
               ? n + 1
               : 0;
}

static void write_text(struct reader *reader, const char *text)
{
    const size_t length = strlen(text);
    size_t n;

    for (size_t at = 0; at < length; at += n) {
        uint32_t code;
        char character;
        int size;

        n = tag(text + at);
        if (n > 0) {
            set_spelling(reader, false);
            fwrite(text + at, 1, n, reader->out);
            reader->in_word = false;
            continue;
        }
        set_spelling(reader, reader->settings->spelling);
        n = entity(text + at, &character);
        if (n > 0) {
            put_character(reader, &character, 1);
            continue;
        }
        size = utf8_decode(text + at, length - at, &code);
        n = size > 0 ? (size_t)size : 1;
        if (size > 0)
            put_character(reader, text + at, n);
    }
    set_spelling(reader, false);
}

/* --- characters and keys --------------------------------------------------------------------- */

static void write_character(FILE *out, const char *text, const struct settings *settings)
{
    if (strcmp(text, "space") == 0)
        text = " ";
    if (is_capital(text, MIN(strlen(text), 4)))
        put_capital(out, settings);
    fputs(NAMED, out);
    put_escaped(out, text, strlen(text));
    fputs(NAMED_END, out);
}

static const char *find_key(const char *name, size_t length)
{
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (strlen(keys[i].key) == length && strncasecmp(keys[i].key, name, length) == 0)
            return keys[i].said;
    return NULL;
}

/* "shift_a", "Control_L", "KP_Enter", "F1", "ctrl+c". */
static void write_key(FILE *out, const char *text, const struct settings *settings)
{
    const char *whole = find_key(text, strlen(text));
    size_t n;

    if (whole && strlen(text) > 1) {
        fputs(whole, out);
        return;
    }
    if (utf8_complete(text, strlen(text)) <= 4 && strspn(text, "_-+ ") == strlen(text)) {
        write_character(out, text, settings);
        return;
    }
    for (; *text; text += n) {
        const char *said;

        text += strspn(text, "_-+ ");
        n = strcspn(text, "_-+ ");
        said = n > 1 ? find_key(text, n) : NULL;
        if (said) {
            fputs(said, out);
        } else if (n == 1) {
            char one[2] = {*text};

            write_character(out, one, settings);
        } else {
            put_escaped(out, text, n);
        }
        fputc(' ', out);
    }
}

char *markup_write(enum message_type type, const char *text, const struct settings *settings)
{
    char *ssml = NULL;
    size_t size;
    struct reader reader = {.settings = settings, .out = open_memstream(&ssml, &size)};
    bool failed;

    if (!reader.out)
        return NULL;
    if (type == MESSAGE_TEXT)
        write_text(&reader, text);
    else if (type == MESSAGE_CHAR)
        write_character(reader.out, text, settings);
    else if (type == MESSAGE_KEY)
        write_key(reader.out, text, settings);
    else
        put_escaped(reader.out, text, strlen(text));
    failed = ferror(reader.out);
    if (fclose(reader.out) != 0 || failed) {
        free(ssml);
        return NULL;
    }
    return ssml;
}
