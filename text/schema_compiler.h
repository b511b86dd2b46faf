/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What schema.c and schema_values.c share: the state of a compilation, and the smallest parts of a
 * grammar. Everything is built back to front: `next` is what follows.
 *
 * Threads: one owner.
 */

#include <json-c/json.h>
#include <string.h>

#include "base/error.h"
#include "text/grammar.h"

enum json_kind {
    KIND_NULL = 1,
    KIND_BOOLEAN = 2,
    KIND_INTEGER = 4,
    KIND_NUMBER = 8, /* includes integers */
    KIND_STRING = 16,
    KIND_ARRAY = 32,
    KIND_OBJECT = 64,
    KIND_ANY = 127 & ~KIND_INTEGER,
};

/* Where we are in the document, for error sentences and for cutting recursion. */
struct place {
    const struct place *up; /* NULL: key is the beginning of the pointer */
    const char *key;        /* NULL: index */
    size_t index;
    unsigned depth;
};

/* The target of a $ref, or the schema of repeated items: compiled once. */
struct known_rule {
    struct json_object *schema;
    grammar_rule rule;
    char *place;
};

#define NO_RULE UINT32_MAX

struct compiler {
    struct grammar *g;
    struct json_object *root; /* of $ref */
    char subject[96];         /* begins error sentences */
    bool python;
    bool failed;
    struct error *err;
    unsigned nesting; /* brackets open in the rule being made */
    struct known_rule *known;
    size_t n_known, n_known_max;
    /* rules made on first use */
    grammar_rule any, integer, number, string, character[2];
};

static inline struct place below(const struct place *up, const char *key, size_t index)
{
    return (struct place){.up = up, .key = key, .index = index, .depth = up->depth + 1};
}

/*
 * The sentence of why a schema cannot be used: "The answer schema at #/properties/age: ..." The
 * first one stays. Returns GRAMMAR_NOTHING, so that callers return it.
 */
grammar_node schema_refuse(struct compiler *c, const struct place *place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static inline struct json_object *get(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;

    if (json_object_is_type(object, json_type_object))
        json_object_object_get_ex(object, key, &value);
    return value;
}

static inline bool has(struct json_object *object, const char *key)
{
    return json_object_object_get_ex(object, key, NULL);
}

static inline void set_nesting(struct compiler *c, unsigned nesting)
{
    c->nesting = nesting;
    grammar_set_nesting(c->g, nesting);
}

static inline grammar_node literal(struct compiler *c, const char *text, grammar_node next)
{
    return grammar_text(c->g, text, strlen(text), next);
}

static inline grammar_node byte(struct compiler *c, char value, grammar_node next)
{
    return grammar_byte(c->g, (uint8_t)value, (uint8_t)value, next);
}

static inline grammar_node either(struct compiler *c, grammar_node a, grammar_node b)
{
    return grammar_either(c->g, a, b);
}

/* A separator and at most one space. */
static inline grammar_node separator(struct compiler *c, char value, grammar_node next)
{
    return byte(c, value, either(c, byte(c, ' ', next), next));
}

static inline grammar_node range(struct compiler *c, uint8_t low, uint8_t high, grammar_node next)
{
    return grammar_byte(c->g, low, high, next);
}

/* Make a rule with `nesting` starting anew. Used as: rule_begin, build, rule_end. */
struct rule_scope {
    grammar_rule rule;
    unsigned nesting;
};

static inline struct rule_scope rule_begin(struct compiler *c)
{
    const struct rule_scope scope = {.rule = grammar_declare(c->g), .nesting = c->nesting};

    set_nesting(c, 0);
    return scope;
}

static inline void rule_end(struct compiler *c, struct rule_scope scope, grammar_node start)
{
    grammar_define(c->g, scope.rule, start);
    set_nesting(c, scope.nesting);
}

/* --- schema_values.c: values that need no schema of their own --------------------------------- */

/* A string of min to max characters; GRAMMAR_UNBOUNDED: any number. */
grammar_node schema_string(struct compiler *c, uint32_t min, uint32_t max, grammar_node next);
/* Any number; one within the bounds of the schema, `whole`: an integer. */
grammar_node schema_number(struct compiler *c, grammar_node next);
grammar_node schema_bounded_number(struct compiler *c, struct json_object *schema, bool whole,
                                   const struct place *place, grammar_node next);

/* A text, and one of the values that stand in the schema itself, of those that `kinds` allow. */
grammar_node schema_fixed_string(struct compiler *c, const char *text, size_t length,
                                 const struct place *place, grammar_node next);
grammar_node schema_one_of(struct compiler *c, struct json_object *values, int kinds,
                           const struct place *place, grammar_node next);

int schema_kind_of(struct json_object *value); /* enum json_kind */
bool schema_accept(int kinds, int kind);       /* whether a value of this kind is of these kinds */
