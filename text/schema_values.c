/* SPDX-License-Identifier: MIT */
#include "text/schema_compiler.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "text/decimal.h"
#include "text/schema.h"

/* --- strings ---------------------------------------------------------------------------------- */

/* n hexadecimal digits */
static grammar_node hex(struct compiler *c, unsigned n, grammar_node next)
{
    for (; n > 0; n--)
        next = either(c, range(c, '0', '9', next),
                      either(c, range(c, 'a', 'f', next), range(c, 'A', 'F', next)));
    return next;
}

/* The four digits after \u: no NUL, and surrogates in pairs only. */
static grammar_node unicode_escape(struct compiler *c, grammar_node next)
{
    const grammar_node one = hex(c, 1, next), two = hex(c, 1, one), three = hex(c, 1, two);
    const grammar_node not_00 = either(
        c, range(c, '1', '9', next), either(c, range(c, 'a', 'f', next), range(c, 'A', 'F', next)));
    const grammar_node not_0 = either(c, range(c, '1', '9', one),
                                      either(c, range(c, 'a', 'f', one), range(c, 'A', 'F', one)));
    const grammar_node not_ = either(c, range(c, '1', '9', two),
                                     either(c, range(c, 'a', 'f', two), range(c, 'A', 'F', two)));
    const grammar_node zero = either(c, not_, byte(c, '0', either(c, not_0, byte(c, '0', not_00))));
    const grammar_node low_half = either(c, range(c, 'c', 'f', two), range(c, 'C', 'F', two));
    const grammar_node low_pair =
        literal(c, "\\u", either(c, byte(c, 'd', low_half), byte(c, 'D', low_half)));
    const grammar_node high_tail = hex(c, 2, low_pair);
    const grammar_node d_tail =
        either(c, range(c, '0', '7', two),
               either(c, range(c, '8', '9', high_tail),
                      either(c, range(c, 'a', 'b', high_tail), range(c, 'A', 'B', high_tail))));
    grammar_node first = either(c, byte(c, 'd', d_tail), byte(c, 'D', d_tail));

    first = either(c, byte(c, '0', zero), first);
    first = either(c, range(c, '1', '9', three), first);
    first = either(c, range(c, 'a', 'c', three), first);
    first = either(c, range(c, 'e', 'f', three), first);
    first = either(c, range(c, 'A', 'C', three), first);
    return either(c, range(c, 'E', 'F', three), first);
}

static grammar_node escape(struct compiler *c, grammar_node next)
{
    const char *const letters = c->python ? "\\\"'nt" : "\\\"/bfnrt";
    grammar_node node = c->python ? GRAMMAR_NOTHING : byte(c, 'u', unicode_escape(c, next));

    for (const char *letter = letters; *letter; letter++)
        node = either(c, byte(c, *letter, next), node);
    return byte(c, '\\', node);
}

/* One character between quotes: strict UTF-8, no control characters, escapes. */
static grammar_node character(struct compiler *c, char quote, grammar_node next)
{
    const grammar_node last = range(c, 0x80, 0xbf, next);
    const grammar_node last_two = range(c, 0x80, 0xbf, last);
    grammar_node node = escape(c, next);

    node = either(c, range(c, 0xf4, 0xf4, range(c, 0x80, 0x8f, last_two)), node);
    node = either(c, range(c, 0xf1, 0xf3, range(c, 0x80, 0xbf, last_two)), node);
    node = either(c, range(c, 0xf0, 0xf0, range(c, 0x90, 0xbf, last_two)), node);
    node = either(c, range(c, 0xee, 0xef, last_two), node);
    node = either(c, range(c, 0xed, 0xed, range(c, 0x80, 0x9f, last)), node);
    node = either(c, range(c, 0xe1, 0xec, last_two), node);
    node = either(c, range(c, 0xe0, 0xe0, range(c, 0xa0, 0xbf, last)), node);
    node = either(c, range(c, 0xc2, 0xdf, last), node);
    node = either(c, range(c, 0x5d, 0x7f, next), node);
    node = either(c, range(c, (uint8_t)(quote + 1), 0x5b, next), node);
    return either(c, range(c, 0x20, (uint8_t)(quote - 1), next), node);
}

static grammar_node quoted(struct compiler *c, char quote, uint32_t min, uint32_t max,
                           grammar_node next)
{
    const grammar_node close = byte(c, quote, next);
    grammar_rule *rule = &c->character[quote == '"'];

    if (min == 0 && max == GRAMMAR_UNBOUNDED) {
        const grammar_node loop = grammar_forward(c->g);

        grammar_join(c->g, loop, either(c, character(c, quote, loop), close));
        return byte(c, quote, loop);
    }
    if (*rule == NO_RULE) {
        const struct rule_scope scope = rule_begin(c);

        *rule = scope.rule;
        rule_end(c, scope, character(c, quote, GRAMMAR_END));
    }
    return byte(c, quote, grammar_repeat(c->g, *rule, min, max, close));
}

static grammar_node any_quoted(struct compiler *c, uint32_t min, uint32_t max, grammar_node next)
{
    const grammar_node node = quoted(c, '"', min, max, next);

    return c->python ? either(c, node, quoted(c, '\'', min, max, next)) : node;
}

grammar_node schema_string(struct compiler *c, uint32_t min, uint32_t max, grammar_node next)
{
    if (min > 0 || max < GRAMMAR_UNBOUNDED)
        return any_quoted(c, min, max, next);
    if (c->string == NO_RULE) {
        const struct rule_scope scope = rule_begin(c);

        c->string = scope.rule;
        rule_end(c, scope, any_quoted(c, 0, GRAMMAR_UNBOUNDED, GRAMMAR_END));
    }
    return grammar_call(c->g, c->string, next);
}

/* --- numbers ---------------------------------------------------------------------------------- */

static grammar_node digits_up_to(struct compiler *c, unsigned n, grammar_node next)
{
    grammar_node node = next;

    for (; n > 0; n--)
        node = either(c, range(c, '0', '9', node), next);
    return node;
}

static grammar_node digits_from_one(struct compiler *c, unsigned n, grammar_node next)
{
    return range(c, '0', '9', digits_up_to(c, n - 1, next));
}

grammar_node schema_number(struct compiler *c, grammar_node next)
{
    if (c->number == NO_RULE) {
        const struct rule_scope scope = rule_begin(c);
        const grammar_node digits = digits_from_one(c, 2, GRAMMAR_END);
        const grammar_node sign =
            either(c, digits, either(c, byte(c, '-', digits), byte(c, '+', digits)));
        const grammar_node exponent =
            either(c, GRAMMAR_END, either(c, byte(c, 'e', sign), byte(c, 'E', sign)));
        const grammar_node fraction =
            either(c, byte(c, '.', digits_from_one(c, DECIMAL_FRACTION_MAX, exponent)), exponent);
        const grammar_node whole =
            either(c, byte(c, '0', fraction),
                   range(c, '1', '9', digits_up_to(c, DECIMAL_WHOLE_MAX - 1, fraction)));

        c->number = scope.rule;
        rule_end(c, scope, either(c, whole, byte(c, '-', whole)));
    }
    return grammar_call(c->g, c->number, next);
}

static grammar_node integer_value(struct compiler *c, grammar_node next)
{
    if (c->integer == NO_RULE) {
        const struct rule_scope scope = rule_begin(c);
        struct decimal low, high;

        decimal_parse("-9223372036854775808", &low);
        decimal_parse("9223372036854775807", &high);
        c->integer = scope.rule;
        rule_end(c, scope, decimal_range(c->g, &low, &high, 0, GRAMMAR_END));
    }
    return grammar_call(c->g, c->integer, next);
}

/* The bound that `key` gives; false when there is none or it is wrong. */
static bool read_bound(struct compiler *c, struct json_object *schema, const char *key,
                       bool exclusive, const struct place *place, struct decimal *ret)
{
    struct json_object *value = get(schema, key);
    const enum json_type type = json_object_get_type(value);
    const double number = json_object_get_double(value);
    char text[40];

    if (!has(schema, key) || (exclusive && type == json_type_boolean))
        return false;
    if ((type != json_type_int && type != json_type_double) || !isfinite(number)) {
        schema_refuse(c, place, "%s must be a number.", key);
        return false;
    }
    if (type == json_type_int) {
        snprintf(text, sizeof(text), "%s",
                 json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN));
    } else {
        /* The shortest decimal that means this number. */
        for (int digits = 1; digits <= 17; digits++) {
            snprintf(text, sizeof(text), "%.*g", digits, number);
            if (strtod(text, NULL) == number)
                break;
        }
    }
    if (decimal_parse(text, ret) < 0) {
        schema_refuse(c, place, "%s is %s, which has more than %d digits behind the point.", key,
                      text, DECIMAL_FRACTION_MAX);
        return false;
    }
    ret->exclusive = exclusive;
    return true;
}

grammar_node schema_bounded_number(struct compiler *c, struct json_object *schema, bool whole,
                                   const struct place *place, grammar_node next)
{
    /* Draft 4 wrote exclusiveMinimum as a boolean beside minimum. */
    const bool exclusive_min =
        json_object_is_type(get(schema, "exclusiveMinimum"), json_type_boolean) &&
        json_object_get_boolean(get(schema, "exclusiveMinimum"));
    const bool exclusive_max =
        json_object_is_type(get(schema, "exclusiveMaximum"), json_type_boolean) &&
        json_object_get_boolean(get(schema, "exclusiveMaximum"));
    struct decimal low, high, bound;
    bool bounded = false;

    decimal_parse(whole ? "-9223372036854775808" : "-9999999999999999999", &low);
    decimal_parse(whole ? "9223372036854775807" : "9999999999999999999", &high);
    if (read_bound(c, schema, "minimum", false, place, &bound)) {
        bound.exclusive = exclusive_min;
        decimal_raise(&low, &bound);
        bounded = true;
    }
    if (read_bound(c, schema, "exclusiveMinimum", true, place, &bound)) {
        decimal_raise(&low, &bound);
        bounded = true;
    }
    if (read_bound(c, schema, "maximum", false, place, &bound)) {
        bound.exclusive = exclusive_max;
        decimal_lower(&high, &bound);
        bounded = true;
    }
    if (read_bound(c, schema, "exclusiveMaximum", true, place, &bound)) {
        decimal_lower(&high, &bound);
        bounded = true;
    }
    if (!bounded)
        return whole ? integer_value(c, next) : schema_number(c, next);
    return decimal_range(c->g, &low, &high, whole ? 0 : DECIMAL_FRACTION_MAX, next);
}

/* --- fixed values ----------------------------------------------------------------------------- */

/* Append the text of a string between quotes; false when it cannot be written. */
static bool quote_text(const struct compiler *c, const char *text, size_t length, char quote,
                       struct printbuf *out)
{
    char escaped[8];

    if (!utf8_valid(text, length))
        return false;
    printbuf_memappend(out, &quote, 1);
    for (size_t i = 0; i < length; i++) {
        const unsigned char byte_value = (unsigned char)text[i];

        if (text[i] == quote || text[i] == '\\')
            snprintf(escaped, sizeof(escaped), "\\%c", text[i]);
        else if (text[i] == '\n' || text[i] == '\t')
            snprintf(escaped, sizeof(escaped), text[i] == '\n' ? "\\n" : "\\t");
        else if (byte_value >= 0x20)
            snprintf(escaped, sizeof(escaped), "%c", text[i]);
        else if (!c->python)
            snprintf(escaped, sizeof(escaped), "\\u%04x", byte_value);
        else
            return false;
        printbuf_memappend(out, escaped, (int)strlen(escaped));
    }
    printbuf_memappend(out, &quote, 1);
    return true;
}

static char *quoted_text(const struct compiler *c, const char *text, size_t length, char quote,
                         size_t *ret_length)
{
    struct printbuf *out = printbuf_new();
    char *copy = NULL;

    if (out && quote_text(c, text, length, quote, out)) {
        *ret_length = (size_t)printbuf_length(out);
        copy = malloc(*ret_length + 1);
        if (copy)
            memcpy(copy, out->buf, *ret_length + 1);
    }
    if (out)
        printbuf_free(out);
    return copy;
}

grammar_node schema_fixed_string(struct compiler *c, const char *text, size_t length,
                                 const struct place *place, grammar_node next)
{
    const char quotes[] = {'"', '\''};
    grammar_node node = GRAMMAR_NOTHING;

    for (size_t i = 0; i < (c->python ? 2u : 1u); i++) {
        size_t n;
        _cleanup_(freep) char *out = quoted_text(c, text, length, quotes[i], &n);

        if (!out)
            return schema_refuse(c, place,
                                 "A text holds characters that cannot be written in a reply.");
        node = either(c, grammar_text(c->g, out, n, next), node);
    }
    return node;
}

static const char *scalar_text(const struct compiler *c, struct json_object *value)
{
    switch (json_object_get_type(value)) {
    case json_type_null:
        return c->python ? "None" : "null";
    case json_type_boolean:
        if (json_object_get_boolean(value))
            return c->python ? "True" : "true";
        return c->python ? "False" : "false";
    default:
        return json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN);
    }
}

/* A value that stands in the schema itself. */
static grammar_node fixed(struct compiler *c, struct json_object *value, const struct place *place,
                          grammar_node next)
{
    const enum json_type type = json_object_get_type(value);
    const char brackets[] = {type == json_type_array ? '[' : '{',
                             type == json_type_array ? ']' : '}'};
    grammar_node node;
    struct place inner;

    if (c->failed || grammar_is_full(c->g))
        return GRAMMAR_NOTHING;
    if (place->depth > SCHEMA_DEPTH_MAX)
        return schema_refuse(c, place, "The value is nested too deep.");
    if (type == json_type_string)
        return schema_fixed_string(c, json_object_get_string(value),
                                   (size_t)json_object_get_string_len(value), place, next);
    if (type == json_type_double && !isfinite(json_object_get_double(value)))
        return schema_refuse(c, place, "A number is not finite.");
    if (type != json_type_array && type != json_type_object)
        return literal(c, scalar_text(c, value), next);

    set_nesting(c, c->nesting + 1);
    node = byte(c, brackets[1], next);
    if (type == json_type_array) {
        for (size_t i = json_object_array_length(value); i-- > 0;) {
            inner = below(place, NULL, i);
            node = fixed(c, json_object_array_get_idx(value, i), &inner, node);
            if (i > 0)
                node = separator(c, ',', node);
        }
    } else {
        const size_t n = (size_t)json_object_object_length(value);
        _cleanup_(freep) const char **keys = calloc(n + 1, sizeof(*keys));
        size_t i = 0;

        if (!keys)
            return schema_refuse(c, place, "There is no memory.");
        json_object_object_foreach(value, key, unused)
        {
            keys[i++] = key;
            (void)unused;
        }
        while (i-- > 0) {
            inner = below(place, keys[i], 0);
            node = fixed(c, get(value, keys[i]), &inner, node);
            node =
                schema_fixed_string(c, keys[i], strlen(keys[i]), &inner, separator(c, ':', node));
            if (i > 0)
                node = separator(c, ',', node);
        }
    }
    set_nesting(c, c->nesting - 1);
    return byte(c, brackets[0], node);
}

int schema_kind_of(struct json_object *value)
{
    switch (json_object_get_type(value)) {
    case json_type_null:
        return KIND_NULL;
    case json_type_boolean:
        return KIND_BOOLEAN;
    case json_type_int:
        return KIND_INTEGER;
    case json_type_double: {
        const double number = json_object_get_double(value);

        return isfinite(number) && number == floor(number) ? KIND_INTEGER : KIND_NUMBER;
    }
    case json_type_string:
        return KIND_STRING;
    case json_type_array:
        return KIND_ARRAY;
    case json_type_object:
        return KIND_OBJECT;
    }
    return 0;
}

bool schema_accept(int kinds, int kind)
{
    return kinds & (kind == KIND_INTEGER ? KIND_INTEGER | KIND_NUMBER : kind);
}

/* One of the values; scalars share their common beginnings. */
grammar_node schema_one_of(struct compiler *c, struct json_object *values, int kinds,
                           const struct place *place, grammar_node next)
{
    const size_t n = json_object_array_length(values);
    struct grammar_choice *choices = calloc(2 * n + 1, sizeof(*choices));
    grammar_node node = GRAMMAR_NOTHING;
    size_t n_choices = 0;

    if (!choices)
        return schema_refuse(c, place, "There is no memory for %zu values.", n);
    for (size_t i = 0; i < n && !c->failed; i++) {
        struct json_object *value = json_object_array_get_idx(values, i);
        const struct place inner = below(place, NULL, i);
        const bool is_string = json_object_is_type(value, json_type_string);

        if (!schema_accept(kinds, schema_kind_of(value)))
            continue;
        if (schema_kind_of(value) == KIND_ARRAY || schema_kind_of(value) == KIND_OBJECT) {
            node = either(c, fixed(c, value, &inner, next), node);
            continue;
        }
        if (json_object_is_type(value, json_type_double) &&
            !isfinite(json_object_get_double(value))) {
            schema_refuse(c, &inner, "A number is not finite.");
            break;
        }
        for (int form = 0; form < (is_string && c->python ? 2 : 1); form++) {
            struct grammar_choice *choice = &choices[n_choices];

            if (is_string) {
                choice->text = quoted_text(c, json_object_get_string(value),
                                           (size_t)json_object_get_string_len(value),
                                           form == 0 ? '"' : '\'', &choice->length);
            } else {
                choice->text = strdup(scalar_text(c, value));
                choice->length = choice->text ? strlen(choice->text) : 0;
            }
            if (!choice->text) {
                schema_refuse(c, &inner,
                              "A text holds characters that cannot be written in a reply.");
                break;
            }
            choice->next = next;
            n_choices++;
        }
    }
    if (!c->failed)
        node = either(c, grammar_choices(c->g, choices, n_choices), node);
    for (size_t i = 0; i < n_choices; i++)
        free(choices[i].text);
    free(choices);
    return node;
}
