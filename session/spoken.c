/* SPDX-License-Identifier: MIT */
#include "session/spoken.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/cleanup.h"
#include "base/utf8.h"

#define LETTERS_MAX 48 /* of a word */
#define DIGITS_MAX  12 /* of a number; what is longer is said digit by digit */

/* In words that are said often, so that a small model knows them. */
static const char *const letters[26] = {
    "ay",  "be",  "see", "dee", "e",          "eff", "gee", "aitch", "i",
    "jay", "kay", "el",  "em",  "en",         "oh",  "pea", "cue",   "are",
    "ess", "tea", "you", "vee", "double you", "ex",  "why", "zed",
};

static const char *const units[20] = {
    "zero", "one",    "two",    "three",    "four",     "five",    "six",
    "seven", "eight", "nine",   "ten",      "eleven",   "twelve",  "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
};

static const char *const tens[10] = {
    "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
};

/* name: alone; said: in a text, NULL: not. */
static const struct sign {
    uint32_t character;
    const char *name, *said;
} signs[] = {
    {'\n', "new line", NULL},
    {'\t', "tab", NULL},
    {' ', "space", NULL},
    {'!', "exclamation mark", NULL},
    {'"', "quote", NULL},
    {'#', "hash", "number"},
    {'$', "dollar", "dollars"},
    {'%', "percent", "percent"},
    {'&', "and", "and"},
    {'\'', "apostrophe", NULL},
    {'(', "left bracket", NULL},
    {')', "right bracket", NULL},
    {'*', "star", NULL},
    {'+', "plus", "plus"},
    {',', "comma", NULL},
    {'-', "dash", NULL},
    {'.', "dot", NULL},
    {'/', "slash", "slash"},
    {':', "colon", NULL},
    {';', "semicolon", NULL},
    {'<', "less than", "less than"},
    {'=', "equals", "equals"},
    {'>', "greater than", "greater than"},
    {'?', "question mark", NULL},
    {'@', "at", "at"},
    {'[', "left square bracket", NULL},
    {'\\', "backslash", "backslash"},
    {']', "right square bracket", NULL},
    {'^', "caret", NULL},
    {'_', "underscore", NULL},
    {'`', "back quote", NULL},
    {'{', "left brace", NULL},
    {'|', "bar", NULL},
    {'}', "right brace", NULL},
    {'~', "tilde", NULL},
    {0xa0, "space", NULL},
    {0xa3, "pound", NULL},
    {0xb0, "degrees", NULL},
    {0x2013, "dash", NULL},
    {0x2014, "dash", NULL},
    {0x2018, "quote", NULL},
    {0x2019, "apostrophe", NULL},
    {0x201c, "quote", NULL},
    {0x201d, "quote", NULL},
    {0x2026, "dot dot dot", NULL},
    {0x20ac, "euro", NULL},
};

static const struct sign *find_sign(uint32_t character)
{
    for (size_t i = 0; i < ARRAY_LEN(signs); i++)
        if (signs[i].character == character)
            return &signs[i];
    return NULL;
}

/* What is written short. */
static const struct {
    const char *word, *said;
} abbreviations[] = {
    {"ctrl", "control"}, {"dr", "doctor"},  {"etc", "and so on"},
    {"mr", "mister"},    {"mrs", "missis"}, {"vs", "against"},
};

static void add(char out[SPOKEN_MAX], const char *words)
{
    const size_t used = strlen(out);

    snprintf(out + used, SPOKEN_MAX - used, "%s%s", used > 0 ? " " : "", words);
}

/* --- numbers --------------------------------------------------------------------------------- */

static void add_below_hundred(char out[SPOKEN_MAX], unsigned n)
{
    if (n >= 20) {
        add(out, tens[n / 10]);
        if (n % 10 == 0)
            return;
        n %= 10;
    }
    add(out, units[n]);
}

static void add_below_thousand(char out[SPOKEN_MAX], unsigned n)
{
    if (n >= 100) {
        add(out, units[n / 100]);
        add(out, "hundred");
        if (n % 100 == 0)
            return;
        add(out, "and");
    }
    add_below_hundred(out, n % 100);
}

static void add_number(char out[SPOKEN_MAX], uint64_t n)
{
    static const struct {
        uint64_t value;
        const char *name;
    } scales[] = {{1000000000, "billion"}, {1000000, "million"}, {1000, "thousand"}};

    if (n == 0)
        add(out, "zero");
    for (size_t i = 0; i < ARRAY_LEN(scales); i++) {
        if (n < scales[i].value)
            continue;
        add_below_thousand(out, (unsigned)(n / scales[i].value));
        add(out, scales[i].name);
        n %= scales[i].value;
    }
    if (n > 0)
        add_below_thousand(out, (unsigned)n);
}

static void add_digits(char out[SPOKEN_MAX], const char *digits, size_t n)
{
    for (size_t i = 0; i < n; i++)
        add(out, units[digits[i] - '0']);
}

/* "twenty one" becomes "twenty first". */
static void make_ordinal(char out[SPOKEN_MAX])
{
    static const char *const odd[][2] = {
        {"one", "first"}, {"two", "second"},  {"three", "third"},  {"five", "fifth"},
        {"eight", "eighth"}, {"nine", "ninth"}, {"twelve", "twelfth"},
    };
    char *last = strrchr(out, ' ');
    size_t n = strlen(out);

    last = last ? last + 1 : out;
    for (size_t i = 0; i < ARRAY_LEN(odd); i++)
        if (strcmp(last, odd[i][0]) == 0) {
            snprintf(last, SPOKEN_MAX - (size_t)(last - out), "%s", odd[i][1]);
            return;
        }
    if (out[n - 1] == 'y')
        snprintf(out + n - 1, SPOKEN_MAX - n + 1, "ieth");
    else
        snprintf(out + n, SPOKEN_MAX - n, "th");
}

/* More than DIGITS_MAX are not counted: a text may be nothing but digits. */
static size_t n_digits(const char *text, size_t length, size_t at)
{
    size_t n = 0;

    while (n <= DIGITS_MAX && at + n < length && isdigit((unsigned char)text[at + n]))
        n++;
    return n;
}

static bool word_ends(const char *text, size_t length, size_t at)
{
    return at >= length || !isalnum((unsigned char)text[at]);
}

/* "10:30". Returns its length, or 0. */
static size_t take_time(const char *text, size_t length, size_t at, char out[SPOKEN_MAX])
{
    const size_t n = n_digits(text, length, at);
    unsigned hour = 0, minute;

    if (n < 1 || n > 2 || at + n + 3 > length || text[at + n] != ':' ||
        n_digits(text, length, at + n + 1) != 2)
        return 0;
    for (size_t i = 0; i < n; i++)
        hour = 10 * hour + (unsigned)(text[at + i] - '0');
    minute = 10 * (unsigned)(text[at + n + 1] - '0') + (unsigned)(text[at + n + 2] - '0');
    if (hour > 24 || minute > 59)
        return 0;
    add_below_hundred(out, hour);
    if (minute == 0) {
        add(out, "o'clock");
    } else {
        if (minute < 10)
            add(out, "oh");
        add_below_hundred(out, minute);
    }
    return n + 3;
}

/* Digits, with "," between groups of three: their number, and how many bytes of text they take. */
static size_t read_integer(const char *text, size_t length, size_t at, char digits[DIGITS_MAX],
                           size_t *ret_n)
{
    const size_t first = n_digits(text, length, at);
    size_t end = at + MIN(first, DIGITS_MAX), n = end - at;

    memcpy(digits, text + at, n);
    while (first <= 3 && n + 3 <= DIGITS_MAX && end + 4 <= length && text[end] == ',' &&
           n_digits(text, length, end + 1) == 3) {
        memcpy(digits + n, text + end + 1, 3);
        n += 3;
        end += 4;
    }
    *ret_n = n;
    return end - at;
}

static size_t take_number(const char *text, size_t length, size_t at, char out[SPOKEN_MAX])
{
    char digits[DIGITS_MAX];
    uint64_t value = 0;
    size_t n, taken = take_time(text, length, at, out), end;

    if (taken > 0)
        return taken;
    taken = read_integer(text, length, at, digits, &n);
    end = at + taken;
    if (n == DIGITS_MAX || (n > 1 && digits[0] == '0')) {
        add_digits(out, digits, n);
        return taken;
    }
    for (size_t i = 0; i < n; i++)
        value = 10 * value + (uint64_t)(digits[i] - '0');
    if (n == 4 && value > 2000 && value < 2100 && taken == 4) { /* a year */
        add(out, "twenty");
        if (value % 100 < 10)
            add(out, "oh");
        add_below_hundred(out, (unsigned)(value % 100));
    } else {
        add_number(out, value);
    }
    if (end + 1 < length && text[end] == '.' && isdigit((unsigned char)text[end + 1])) {
        const size_t decimals = MIN(n_digits(text, length, end + 1), DIGITS_MAX);

        add(out, "point");
        add_digits(out, text + end + 1, decimals);
        return taken + 1 + decimals;
    }
    if (end + 2 <= length && word_ends(text, length, end + 2) &&
        (strncmp(text + end, "st", 2) == 0 || strncmp(text + end, "nd", 2) == 0 ||
         strncmp(text + end, "rd", 2) == 0 || strncmp(text + end, "th", 2) == 0)) {
        make_ordinal(out);
        return taken + 2;
    }
    return taken;
}

/* --- words and signs ------------------------------------------------------------------------- */

static void spell(char out[SPOKEN_MAX], const char *word)
{
    for (; *word; word++)
        if (isalpha((unsigned char)*word))
            add(out, letters[tolower((unsigned char)*word) - 'a']);
}

static size_t take_word(const char *text, size_t length, size_t at, char out[SPOKEN_MAX])
{
    char word[LETTERS_MAX + 1];
    size_t n = 0, end = at;

    while (end < length && n < LETTERS_MAX &&
           (isalpha((unsigned char)text[end]) ||
            (text[end] == '\'' && end + 1 < length && isalpha((unsigned char)text[end + 1]))))
        word[n++] = (char)tolower((unsigned char)text[end++]);
    word[n] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(abbreviations); i++)
        if (strcmp(word, abbreviations[i].word) == 0) {
            add(out, abbreviations[i].said);
            return end - at;
        }
    if (strpbrk(word, "aeiouy") && (n > 1 || *word == 'a' || *word == 'i' || *word == 'o'))
        add(out, word);
    else
        spell(out, word);
    return end - at;
}

/* A sign between words. */
static void take_sign(const char *text, size_t length, size_t at, char out[SPOKEN_MAX],
                      enum spoken_border *border)
{
    const bool after_digit = at > 0 && isdigit((unsigned char)text[at - 1]);
    const bool after_word = at > 0 && isalnum((unsigned char)text[at - 1]);
    const bool before_digit = at + 1 < length && isdigit((unsigned char)text[at + 1]);
    const bool before_word = at + 1 < length && isalnum((unsigned char)text[at + 1]);
    const struct sign *sign = find_sign((unsigned char)text[at]);

    switch (text[at]) {
    case '.':
    case '!':
    case '?':
        if (!before_word)
            *border = SPOKEN_SENTENCE;
        else if (after_word && text[at] == '.')
            add(out, "dot");
        break;
    case ',':
    case ';':
    case ':':
    case '(':
    case ')':
        *border = SPOKEN_CLAUSE;
        break;
    case '\n':
        *border = at + 1 < length && text[at + 1] == '\n' ? SPOKEN_SENTENCE : SPOKEN_CLAUSE;
        break;
    case '-':
        if (before_digit && !(after_word && !after_digit))
            add(out, "minus");
        else if (!before_word)
            *border = SPOKEN_CLAUSE;
        break;
    case '*':
        if (after_digit && before_digit)
            add(out, "times");
        break;
    case '/':
        add(out, after_digit && before_digit ? "divided by" : "slash");
        break;
    default:
        if (sign && sign->said)
            add(out, sign->said);
    }
}

size_t spoken_next(const char *text, size_t length, size_t at, char out[SPOKEN_MAX], size_t *ret_n,
                   enum spoken_border *ret_border)
{
    size_t taken = 1, n = 0;

    *out = '\0';
    *ret_border = SPOKEN_NONE;
    *ret_n = 0;
    if (at >= length)
        return 0;
    if (isdigit((unsigned char)text[at]))
        taken = take_number(text, length, at, out);
    else if (isalpha((unsigned char)text[at]))
        taken = take_word(text, length, at, out);
    else
        take_sign(text, length, at, out, ret_border);
    for (const char *space = *out ? out : NULL; space; space = strchr(space + 1, ' '))
        n++;
    *ret_n = n;
    return taken;
}

/* --- characters ------------------------------------------------------------------------------ */

static bool is_ascii(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (text[i] & 0x80)
            return false;
    return true;
}

static utf8proc_int32_t plain_sign(utf8proc_int32_t character, void *data)
{
    (void)data;
    switch (character) {
    case 0x2018:
    case 0x2019:
        return '\'';
    case 0x2013:
    case 0x2014:
    case 0x2212:
        return '-';
    case 0x201c:
    case 0x201d:
        return '"';
    default:
        return character;
    }
}

char *spoken_fold(const char *text, size_t length, size_t *ret_length)
{
    utf8proc_uint8_t *folded = NULL;
    utf8proc_ssize_t n;

    if (is_ascii(text, length)) {
        *ret_length = length;
        return strndup(text, length);
    }
    n = utf8proc_map_custom((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, &folded,
                            UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT | UTF8PROC_STRIPMARK, plain_sign,
                            NULL);
    if (n < 0)
        return NULL;
    *ret_length = (size_t)n;
    return (char *)folded;
}

void spoken_character(uint32_t character, bool in_words, char out[SPOKEN_MAX])
{
    const struct sign *sign = find_sign(character);
    _cleanup_(freep) char *folded = NULL;
    char utf8[5];
    size_t n = utf8_encode(character, utf8), length;

    utf8[n] = '\0';
    *out = '\0';
    if (!sign && in_words)
        folded = spoken_fold(utf8, n, &length);
    if (sign)
        add(out, sign->name);
    else if (!in_words)
        snprintf(out, SPOKEN_MAX, "%s",
                 character < 0x80 ? (char[2]){(char)toupper((int)character)} : utf8);
    else if (folded && length > 0 && isalpha((unsigned char)folded[0]))
        spell(out, (char[2]){folded[0]});
    else if (folded && length > 0 && isdigit((unsigned char)folded[0]))
        add_digits(out, folded, 1);
    else
        add(out, "unknown");
}
