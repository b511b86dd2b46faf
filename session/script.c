/* SPDX-License-Identifier: MIT */
#include "session/script.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "session/spoken.h"
#include "session/ssml.h"

#define SENTENCE_MIN 40 /* bytes; what is shorter is joined with the next */
#define SENTENCE_MAX 300
#define BREAK_MAX    10000 /* ms */
#define DEPTH_MAX    32    /* of elements; what stands deeper is said as what is around it */
#define VALUE_MAX    128   /* bytes of an attribute; of a mark's name, too */

/* What an element says about what stands in it. */
struct scope {
    char name[SSML_NAME_MAX];
    struct script_style style;
    bool characters, silent;
};

struct reader {
    struct script *script;
    size_t n_words_max;
    struct scope scopes[DEPTH_MAX]; /* [depth]; the first is the text's */
    size_t depth;
    char *run; /* [n_run]: text of one style that has not been cut yet */
    size_t n_run, run_max;
    /* in words: where the piece begins that is being filled */
    size_t piece, n_words;
};

/* --- lists ----------------------------------------------------------------------------------- */

static int grow(void *array, size_t *max, size_t wanted, size_t size)
{
    char **items = array;
    const size_t n = MAX(2 * *max, wanted);
    char *grown;

    if (wanted <= *max)
        return 0;
    grown = realloc(*items, n * size);
    if (!grown)
        return -ENOMEM;
    *items = grown;
    *max = n;
    return 0;
}

static int add_text(struct script *script, const char *text, size_t length)
{
    if (length == 0)
        return 0;
    if (length > SCRIPT_BYTES_MAX - script->length)
        return -E2BIG;
    if (grow(&script->text, &script->capacity, script->length + length, 1) < 0)
        return -ENOMEM;
    memcpy(script->text + script->length, text, length);
    script->length += length;
    return 0;
}

static int add_item(struct script *script, const struct script_item *item)
{
    if (grow(&script->items, &script->n_max, script->n + 1, sizeof(*item)) < 0)
        return -ENOMEM;
    script->items[script->n++] = *item;
    return 0;
}

static const struct scope *scope(const struct reader *reader)
{
    return &reader->scopes[reader->depth - 1];
}

static int add_piece(struct reader *reader, const char *text, size_t length)
{
    const struct script_item item = {.kind = SCRIPT_TEXT, .at = reader->script->length,
                                     .length = length, .style = scope(reader)->style};
    int r = add_text(reader->script, text, length);

    return r < 0 ? r : add_item(reader->script, &item);
}

/* --- cutting --------------------------------------------------------------------------------- */

/* Where the sentence that begins at `at` ends. */
static size_t sentence_end(const char *text, size_t at, size_t length)
{
    const size_t last = MIN(length, at + SENTENCE_MAX);
    size_t space = 0, end;

    for (end = at; end < last; end++) {
        const bool is_space = isspace((unsigned char)text[end]);

        if (is_space)
            space = end;
        if (is_space && end > at && end - at >= SENTENCE_MIN && strchr(".!?;:\n", text[end - 1]))
            return end;
    }
    if (end == length)
        return length;
    if (space > at)
        return space;
    while (end > at && ((unsigned char)text[end] & 0xc0) == 0x80)
        end--;
    return end;
}

static int cut_sentences(struct reader *reader)
{
    const char *text = reader->run;
    size_t at = 0, length = reader->n_run, end;
    int r = 0;

    while (length > 0 && isspace((unsigned char)text[length - 1]))
        length--;
    while (r == 0) {
        while (at < length && isspace((unsigned char)text[at]))
            at++;
        if (at == length)
            break;
        end = sentence_end(text, at, length);
        r = add_piece(reader, text + at, end - at);
        at = end;
    }
    return r;
}

/* The words since reader->piece become an item. */
static int end_piece(struct reader *reader)
{
    struct script *script = reader->script;
    const struct script_item item = {.kind = SCRIPT_TEXT, .at = reader->piece,
                                     .length = script->length - reader->piece,
                                     .style = scope(reader)->style};

    reader->n_words = 0;
    reader->piece = script->length;
    return item.length > 0 ? add_item(script, &item) : 0;
}

static int add_words(struct reader *reader, const char *words, size_t n,
                     enum spoken_border border)
{
    int r = 0;

    if (reader->n_words + n > reader->n_words_max)
        r = end_piece(reader);
    if (r == 0 && n > 0 && reader->n_words > 0)
        r = add_text(reader->script, " ", 1);
    if (r == 0)
        r = add_text(reader->script, words, strlen(words));
    reader->n_words += n;
    if (r == 0 && (border == SPOKEN_SENTENCE ||
                   (border == SPOKEN_CLAUSE && 2 * reader->n_words >= reader->n_words_max)))
        r = end_piece(reader);
    return r;
}

static int cut_words(struct reader *reader)
{
    size_t length, at = 0, taken, n;
    _cleanup_(freep) char *text = spoken_fold(reader->run, reader->n_run, &length);
    char words[SPOKEN_MAX];
    enum spoken_border border;
    int r = 0;

    if (!text)
        return -ENOMEM;
    while (r == 0 && (taken = spoken_next(text, length, at, words, &n, &border)) > 0) {
        at += taken;
        if (n > 0 || border != SPOKEN_NONE)
            r = add_words(reader, words, n, border);
    }
    return r;
}

/* What was gathered is said as one. */
static int end_run(struct reader *reader)
{
    int r = 0;

    if (reader->n_run > 0)
        r = reader->n_words_max > 0 ? cut_words(reader) : cut_sentences(reader);
    reader->n_run = 0;
    if (r == 0 && reader->n_words_max > 0)
        r = end_piece(reader);
    return r;
}

/* --- text ------------------------------------------------------------------------------------ */

static int add_run(struct reader *reader, const char *text, size_t length)
{
    if (length == 0)
        return 0;
    if (length > SCRIPT_BYTES_MAX - reader->n_run)
        return -E2BIG;
    if (grow(&reader->run, &reader->run_max, reader->n_run + length, 1) < 0)
        return -ENOMEM;
    memcpy(reader->run + reader->n_run, text, length);
    reader->n_run += length;
    return 0;
}

/* Each character by its name. */
static int add_characters(struct reader *reader, const char *text, size_t length)
{
    char name[SPOKEN_MAX];
    uint32_t character;
    int r = 0, n;

    for (size_t at = 0; r == 0 && at < length; at += (size_t)n) {
        n = utf8_decode(text + at, length - at, &character);
        if (n <= 0)
            return 0; /* cannot be: the whole is UTF-8 */
        spoken_character(character, reader->n_words_max > 0, name);
        r = add_run(reader, " ", 1);
        if (r == 0)
            r = add_run(reader, name, strlen(name));
    }
    return r < 0 ? r : add_run(reader, " ", 1);
}

static int add(struct reader *reader, const char *text, size_t length)
{
    if (scope(reader)->silent)
        return 0;
    return scope(reader)->characters ? add_characters(reader, text, length)
                                     : add_run(reader, text, length);
}

/* --- elements -------------------------------------------------------------------------------- */

/* A word of a table, or -1. */
struct named {
    const char *name;
    float value;
};

static float find(const struct named *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(names[i].name, name) == 0)
            return names[i].value;
    return -1;
}

static float clamp(float x, float low, float high)
{
    return isfinite(x) ? fminf(fmaxf(x, low), high) : 1;
}

/* "+20%", "150%", "1.5" of what is around it. */
static float factor(const char *value, float around)
{
    char *end;
    const float x = strtof(value, &end);

    if (end == value)
        return around;
    if (*end == '%')
        return around * (*value == '+' || *value == '-' ? 1 + x / 100 : x / 100);
    return *end ? around : around * x;
}

static float read_rate(const char *value, float around)
{
    static const struct named names[] = {{"x-slow", 0.5f}, {"slow", 0.75f}, {"medium", 1},
                                         {"default", 1},   {"fast", 1.5f},  {"x-fast", 2}};
    const float x = find(names, ARRAY_LEN(names), value);

    return clamp(x > 0 ? x : factor(value, around), SCRIPT_RATE_MIN, SCRIPT_RATE_MAX);
}

static float read_pitch(const char *value, float around)
{
    static const struct named names[] = {{"x-low", 0.6f}, {"low", 0.8f},  {"medium", 1},
                                         {"default", 1},  {"high", 1.25f}, {"x-high", 1.6f}};
    const float x = find(names, ARRAY_LEN(names), value);
    const char *unit = value + strspn(value, "+-.0123456789");

    if (x > 0)
        return x;
    if (strcmp(unit, "st") == 0)
        return clamp(around * exp2f(strtof(value, NULL) / 12), SCRIPT_PITCH_MIN, SCRIPT_PITCH_MAX);
    return clamp(factor(value, around), SCRIPT_PITCH_MIN, SCRIPT_PITCH_MAX);
}

static float read_volume(const char *value, float around)
{
    static const struct named names[] = {{"silent", 0},   {"x-soft", 0.25f}, {"soft", 0.5f},
                                         {"medium", 1},   {"default", 1},    {"loud", 1.5f},
                                         {"x-loud", 2}};
    const float x = find(names, ARRAY_LEN(names), value);
    const char *unit = value + strspn(value, "+-.0123456789");

    if (x >= 0)
        return x;
    if (strcmp(unit, "dB") == 0)
        return clamp(around * powf(10, strtof(value, NULL) / 20), 0, SCRIPT_VOLUME_MAX);
    if (isdigit((unsigned char)*value) && !*unit)
        return clamp(around * strtof(value, NULL) / 100, 0, SCRIPT_VOLUME_MAX);
    return clamp(factor(value, around), 0, SCRIPT_VOLUME_MAX);
}

static int add_silence(struct reader *reader, const struct ssml_token *token)
{
    static const struct named strengths[] = {{"none", 0},     {"x-weak", 50},  {"weak", 100},
                                             {"medium", 200}, {"strong", 400}, {"x-strong", 700}};
    char value[VALUE_MAX], *unit;
    float msec = 200;
    int r = end_run(reader);

    if (ssml_attribute(token, "time", value, sizeof(value))) {
        msec = strtof(value, &unit);
        msec *= strcmp(unit, "s") == 0 ? 1000 : 1;
    } else if (ssml_attribute(token, "strength", value, sizeof(value))) {
        msec = find(strengths, ARRAY_LEN(strengths), value);
    }
    if (r < 0 || !(msec > 0))
        return r;
    return add_item(reader->script,
                    &(struct script_item){.kind = SCRIPT_SILENCE,
                                          .msec = (unsigned)fminf(msec, BREAK_MAX),
                                          .style = scope(reader)->style});
}

static int add_mark(struct reader *reader, const struct ssml_token *token)
{
    char name[VALUE_MAX];
    struct script_item item = {.kind = SCRIPT_MARK};
    int r = 0;

    if (!ssml_attribute(token, "name", name, sizeof(name)) || !*name)
        return 0;
    r = end_run(reader);
    utf8_repair(name);
    item.at = reader->script->length;
    item.length = strlen(name);
    if (r == 0)
        r = add_text(reader->script, name, item.length);
    reader->piece = reader->script->length;
    return r < 0 ? r : add_item(reader->script, &item);
}

static bool is_any(const char *name, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* Texts in it are sentences of their own. */
static bool is_block(const char *name)
{
    static const char *const blocks[] = {"p", "paragraph", "s", "sentence", "speak"};

    return is_any(name, blocks, ARRAY_LEN(blocks));
}

static void read_say_as(const struct ssml_token *token, struct scope *scope)
{
    static const char *const characters[] = {"characters", "spell-out", "digits"};
    char value[VALUE_MAX];

    if (ssml_attribute(token, "interpret-as", value, sizeof(value)))
        scope->characters = is_any(value, characters, ARRAY_LEN(characters));
}

static void read_prosody(const struct ssml_token *token, struct script_style *style)
{
    char value[VALUE_MAX];

    if (strcmp(token->name, "prosody") != 0)
        return;
    if (ssml_attribute(token, "rate", value, sizeof(value)))
        style->rate = read_rate(value, style->rate);
    if (ssml_attribute(token, "pitch", value, sizeof(value)))
        style->pitch = read_pitch(value, style->pitch);
    if (ssml_attribute(token, "volume", value, sizeof(value)))
        style->volume = read_volume(value, style->volume);
}

/* What is said in place of what stands there. */
static int add_alias(struct reader *reader, const struct ssml_token *token, struct scope *inner)
{
    char alias[VALUE_MAX];

    if (!ssml_attribute(token, "alias", alias, sizeof(alias)))
        return 0;
    utf8_repair(alias);
    inner->silent = true;
    return add(reader, alias, strlen(alias));
}

static int open_element(struct reader *reader, const struct ssml_token *token)
{
    static const char *const silent[] = {"audio", "desc", "metadata"};
    struct scope inner = *scope(reader);
    int r = 0;

    if (strcmp(token->name, "break") == 0 && !inner.silent)
        r = add_silence(reader, token);
    else if (strcmp(token->name, "mark") == 0 && !inner.silent)
        r = add_mark(reader, token);
    else if (strcmp(token->name, "prosody") == 0)
        r = end_run(reader);
    else if (strcmp(token->name, "say-as") == 0)
        read_say_as(token, &inner);
    else if (strcmp(token->name, "sub") == 0)
        r = add_alias(reader, token, &inner);
    else if (is_any(token->name, silent, ARRAY_LEN(silent)))
        inner.silent = true;
    else if (is_block(token->name))
        r = end_run(reader);
    read_prosody(token, &inner.style);
    memcpy(inner.name, token->name, sizeof(inner.name));
    if (reader->depth < DEPTH_MAX)
        reader->scopes[reader->depth++] = inner;
    return r;
}

/* What is closed was opened somewhere around; else it says nothing. */
static int close_element(struct reader *reader, const char *name)
{
    size_t depth = reader->depth - 1;
    int r = 0;

    while (depth > 0 && strcmp(reader->scopes[depth].name, name) != 0)
        depth--;
    if (is_block(name) || (depth > 0 && strcmp(name, "prosody") == 0))
        r = end_run(reader);
    if (depth > 0)
        reader->depth = depth;
    return r;
}

static int read_ssml(struct reader *reader, const char *text, size_t length)
{
    struct ssml ssml = {.text = text, .length = length};
    struct ssml_token token;
    int r = 0;

    while (r == 0) {
        ssml_next(&ssml, &token);
        if (token.type == SSML_END)
            break;
        r = token.type == SSML_TEXT   ? add(reader, token.text, token.length)
            : token.type == SSML_OPEN ? open_element(reader, &token)
                                      : close_element(reader, token.name);
    }
    return r;
}

int script_read(struct script *script, const char *text, size_t length,
                const struct script_options *options, struct error *err)
{
    struct reader reader = {.script = script, .n_words_max = options->n_words_max, .depth = 1};
    int r;

    reader.scopes[0].style = (struct script_style){
        .rate = clamp(options->style.rate, SCRIPT_RATE_MIN, SCRIPT_RATE_MAX),
        .pitch = clamp(options->style.pitch, SCRIPT_PITCH_MIN, SCRIPT_PITCH_MAX),
        .volume = clamp(options->style.volume, 0, SCRIPT_VOLUME_MAX),
    };
    r = options->ssml ? read_ssml(&reader, text, length) : add(&reader, text, length);
    if (r == 0)
        r = end_run(&reader);
    free(reader.run);
    if (r == -E2BIG)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The text has more than %zu bytes when its characters are named.",
                         SCRIPT_BYTES_MAX);
    return r < 0 ? error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a text.") : 0;
}

void script_done(struct script *script)
{
    free(script->text);
    free(script->items);
    *script = (struct script){0};
}
