/* SPDX-License-Identifier: MIT */
#include "text/schema.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "text/schema_compiler.h"

/* What a keyword belongs to: a schema uses one group, beside annotations. */
enum group {
    GROUP_TYPED,        /* type and what narrows it */
    GROUP_VALUES,       /* enum, const */
    GROUP_REFERENCE,    /* $ref */
    GROUP_ALTERNATIVES, /* anyOf, oneOf, allOf */
    GROUP_UNSUPPORTED,
};

static const struct keyword {
    const char *name;
    enum group group;
    int kinds; /* the types that it narrows */
} keywords[] = {
    {"type", GROUP_TYPED, 0},
    {"properties", GROUP_TYPED, KIND_OBJECT},
    {"required", GROUP_TYPED, KIND_OBJECT},
    {"additionalProperties", GROUP_TYPED, KIND_OBJECT},
    {"items", GROUP_TYPED, KIND_ARRAY},
    {"prefixItems", GROUP_TYPED, KIND_ARRAY},
    {"additionalItems", GROUP_TYPED, KIND_ARRAY},
    {"minItems", GROUP_TYPED, KIND_ARRAY},
    {"maxItems", GROUP_TYPED, KIND_ARRAY},
    {"minLength", GROUP_TYPED, KIND_STRING},
    {"maxLength", GROUP_TYPED, KIND_STRING},
    {"minimum", GROUP_TYPED, KIND_NUMBER},
    {"maximum", GROUP_TYPED, KIND_NUMBER},
    {"exclusiveMinimum", GROUP_TYPED, KIND_NUMBER},
    {"exclusiveMaximum", GROUP_TYPED, KIND_NUMBER},
    {"enum", GROUP_VALUES, 0},
    {"const", GROUP_VALUES, 0},
    {"$ref", GROUP_REFERENCE, 0},
    {"anyOf", GROUP_ALTERNATIVES, 0},
    {"oneOf", GROUP_ALTERNATIVES, 0},
    {"allOf", GROUP_ALTERNATIVES, 0},
    {"not", GROUP_UNSUPPORTED, 0},
    {"if", GROUP_UNSUPPORTED, 0},
    {"then", GROUP_UNSUPPORTED, 0},
    {"else", GROUP_UNSUPPORTED, 0},
    {"pattern", GROUP_UNSUPPORTED, 0},
    {"multipleOf", GROUP_UNSUPPORTED, 0},
    {"uniqueItems", GROUP_UNSUPPORTED, 0},
    {"contains", GROUP_UNSUPPORTED, 0},
    {"minContains", GROUP_UNSUPPORTED, 0},
    {"maxContains", GROUP_UNSUPPORTED, 0},
    {"unevaluatedItems", GROUP_UNSUPPORTED, 0},
    {"patternProperties", GROUP_UNSUPPORTED, 0},
    {"propertyNames", GROUP_UNSUPPORTED, 0},
    {"minProperties", GROUP_UNSUPPORTED, 0},
    {"maxProperties", GROUP_UNSUPPORTED, 0},
    {"unevaluatedProperties", GROUP_UNSUPPORTED, 0},
    {"dependentRequired", GROUP_UNSUPPORTED, 0},
    {"dependentSchemas", GROUP_UNSUPPORTED, 0},
    {"dependencies", GROUP_UNSUPPORTED, 0},
    {"$dynamicRef", GROUP_UNSUPPORTED, 0},
    {"$recursiveRef", GROUP_UNSUPPORTED, 0},
};

static const struct place root_place = {.key = "#"};

static size_t write_place(const struct place *place, char *out, size_t size)
{
    size_t n;

    n = place->up ? write_place(place->up, out, size) : 0;
    if (n + 1 >= size)
        return n;
    if (!place->up)
        n = (size_t)snprintf(out, size, "%s", place->key);
    else if (place->key)
        n += (size_t)snprintf(out + n, size - n, "/%s", place->key);
    else
        n += (size_t)snprintf(out + n, size - n, "/%zu", place->index);
    return MIN(n, size - 1);
}

/* Names in a schema may hold any bytes, and sentences are cut to their buffers. */
static void make_printable(char *text)
{
    const size_t n = utf8_complete(text, strlen(text));
    const bool valid = utf8_valid(text, n);

    text[n] = '\0';
    for (; *text; text++) {
        if (iscntrl((unsigned char)*text) || (!valid && (*text & 0x80)))
            *text = '?';
    }
}

grammar_node schema_refuse(struct compiler *c, const struct place *place, const char *format, ...)
{
    char where[160], what[240];
    va_list args;

    write_place(place, where, sizeof(where));
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    make_printable(where);
    make_printable(what);
    if (!c->failed)
        error_set(c->err, ERROR_INVALID_ARGUMENT, "%s at %s: %s", c->subject, where, what);
    c->failed = true;
    return GRAMMAR_NOTHING;
}

/* --- types ------------------------------------------------------------------------------------ */

static grammar_node value(struct compiler *c, struct json_object *schema, const struct place *place,
                          grammar_node next);

/* A count keyword: a whole number that is not negative; `missing` when absent. */
static uint32_t read_count(struct compiler *c, struct json_object *schema, const char *key,
                           uint32_t missing, const struct place *place)
{
    struct json_object *count = get(schema, key);

    if (!has(schema, key))
        return missing;
    if (schema_kind_of(count) != KIND_INTEGER || json_object_get_double(count) < 0) {
        schema_refuse(c, place, "%s must be a whole number that is not negative.", key);
        return missing;
    }
    return json_object_get_double(count) < GRAMMAR_UNBOUNDED
               ? (uint32_t)json_object_get_int64(count)
               : GRAMMAR_UNBOUNDED;
}

struct member {
    const char *key;
    struct json_object *schema; /* NULL: anything */
    bool required;
};

/*
 * Members in their order, separated by commas, those that are not required may be left out.
 * Two chains go over them: at `first` nothing has been written yet, at `more` a comma is due.
 */
static grammar_node members(struct compiler *c, const struct member *list, size_t n,
                            bool keyword_arguments, const struct place *place, grammar_node close)
{
    grammar_node first = close, more = close;

    while (n-- > 0 && !c->failed && !grammar_is_full(c->g)) {
        const struct member *member = &list[n];
        const struct place inner = below(place, member->key, 0);
        grammar_node written = value(c, member->schema, &inner, more);

        if (keyword_arguments)
            written = literal(c, member->key, byte(c, '=', written));
        else
            written = schema_fixed_string(c, member->key, strlen(member->key), &inner,
                                          separator(c, ':', written));
        more = either(c, separator(c, ',', written), member->required ? GRAMMAR_NOTHING : more);
        first = either(c, written, member->required ? GRAMMAR_NOTHING : first);
    }
    return first;
}

static bool is_member(const struct member *list, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i].key, key) == 0)
            return true;
    }
    return false;
}

/* The declared properties, then required ones without a declaration. malloc; NULL: refused. */
static struct member *read_members(struct compiler *c, struct json_object *schema,
                                   const struct place *place, size_t *ret_n)
{
    struct json_object *properties = get(schema, "properties");
    struct json_object *required = get(schema, "required");
    struct json_object *others = get(schema, "additionalProperties");
    const bool no_others = json_object_is_type(others, json_type_boolean) &&
                           !json_object_get_boolean(others);
    size_t n = 0, n_required = 0;
    struct member *list;

    if (has(schema, "properties") && !json_object_is_type(properties, json_type_object)) {
        schema_refuse(c, place, "properties must be an object.");
        return NULL;
    }
    if (has(schema, "required") && !json_object_is_type(required, json_type_array) &&
        !json_object_is_type(required, json_type_boolean)) {
        schema_refuse(c, place, "required must be a list of names.");
        return NULL;
    }
    if (json_object_is_type(required, json_type_array))
        n_required = json_object_array_length(required);
    list = calloc((properties ? (size_t)json_object_object_length(properties) : 0) + n_required + 1,
                  sizeof(*list));
    if (!list) {
        schema_refuse(c, place, "There is no memory.");
        return NULL;
    }
    if (properties) {
        json_object_object_foreach(properties, key, property)
        {
            list[n++] = (struct member){.key = key, .schema = property};
            if (!property && !c->failed)
                schema_refuse(c, place, "The property %s has null where a schema must be.", key);
        }
    }
    for (size_t i = 0; i < n_required; i++) {
        struct json_object *name = json_object_array_get_idx(required, i);
        const char *key = json_object_get_string(name);

        if (!json_object_is_type(name, json_type_string)) {
            schema_refuse(c, place, "required must be a list of names.");
            break;
        }
        if (!is_member(list, n, key)) {
            if (no_others)
                schema_refuse(c, place,
                              "%s is required, but it is no property and no others may be.", key);
            list[n++] = (struct member){.key = key, .schema = others};
        }
        for (size_t k = 0; k < n; k++) {
            if (strcmp(list[k].key, key) == 0)
                list[k].required = true;
        }
    }
    if (c->failed) {
        free(list);
        return NULL;
    }
    *ret_n = n;
    return list;
}

/* Any number of members with any names: "key": value */
static grammar_node map(struct compiler *c, struct json_object *schema, const struct place *place,
                        grammar_node close)
{
    const struct place inner = below(place, "additionalProperties", 0);
    const grammar_node after = grammar_forward(c->g);
    const grammar_node member =
        schema_string(c, 0, GRAMMAR_UNBOUNDED, separator(c, ':', value(c, schema, &inner, after)));

    grammar_join(c->g, after, either(c, close, separator(c, ',', member)));
    return either(c, close, member);
}

static grammar_node object_value(struct compiler *c, struct json_object *schema,
                                 const struct place *place, grammar_node next)
{
    struct json_object *others = get(schema, "additionalProperties");
    const struct place inner = below(place, "properties", 0);
    _cleanup_(freep) struct member *list = NULL;
    grammar_node node;
    size_t n;

    list = read_members(c, schema, place, &n);
    if (!list)
        return GRAMMAR_NOTHING;
    set_nesting(c, c->nesting + 1);
    node = byte(c, '}', next);
    if (n > 0)
        node = members(c, list, n, false, &inner, node);
    else if (!has(schema, "properties") &&
             !(json_object_is_type(others, json_type_boolean) && !json_object_get_boolean(others)))
        node = map(c, others, place, node);
    set_nesting(c, c->nesting - 1);
    return byte(c, '{', node);
}

/* A rule for a schema that is called from several places, made once. */
static grammar_rule rule_for(struct compiler *c, struct json_object *schema,
                             const struct place *place)
{
    struct rule_scope scope;
    char where[160];
    size_t at;

    for (size_t i = 0; i < c->n_known; i++) {
        if (c->known[i].schema == schema)
            return c->known[i].rule;
    }
    if (c->n_known == c->n_known_max) {
        const size_t n_max = MAX((size_t)16, 2 * c->n_known_max);
        struct known_rule *known = reallocarray(c->known, n_max, sizeof(*known));

        if (!known) {
            schema_refuse(c, place, "There is no memory.");
            return 0;
        }
        c->known = known;
        c->n_known_max = n_max;
    }
    write_place(place, where, sizeof(where));
    make_printable(where);
    scope = rule_begin(c);
    at = c->n_known++;
    c->known[at] = (struct known_rule){
        .schema = schema,
        .rule = scope.rule,
        .place = strdup(where),
    };
    rule_end(c, scope, value(c, schema, place, GRAMMAR_END));
    return scope.rule;
}

/* Items after `done` others, then close. The first of them needs a comma when done > 0. */
static grammar_node further_items(struct compiler *c, struct json_object *schema, uint32_t done,
                                  uint32_t min, uint32_t max, const struct place *place,
                                  grammar_node close)
{
    const struct place inner = below(place, "items", 0);
    grammar_node item, more;

    if (min <= done + 1 && max == GRAMMAR_UNBOUNDED) {
        more = grammar_forward(c->g);
        item = value(c, schema, &inner, more);
        grammar_join(c->g, more, either(c, close, separator(c, ',', item)));
        if (done > 0)
            item = separator(c, ',', item);
    } else {
        const grammar_rule one = rule_for(c, schema, &inner);
        const struct rule_scope scope = rule_begin(c);
        const uint32_t wanted = min > done ? min - done : 0;
        const uint32_t room = max == GRAMMAR_UNBOUNDED ? max : max - done;

        rule_end(c, scope, separator(c, ',', grammar_call(c->g, one, GRAMMAR_END)));
        if (done > 0)
            return grammar_repeat(c->g, scope.rule, wanted, room, close);
        more = grammar_repeat(c->g, scope.rule, wanted > 0 ? wanted - 1 : 0,
                              room == GRAMMAR_UNBOUNDED ? room : room - 1, close);
        item = grammar_call(c->g, one, more);
    }
    return either(c, item, min <= done ? close : GRAMMAR_NOTHING);
}

static grammar_node array_value(struct compiler *c, struct json_object *schema,
                                const struct place *place, grammar_node next)
{
    const uint32_t min = read_count(c, schema, "minItems", 0, place);
    const uint32_t max = read_count(c, schema, "maxItems", GRAMMAR_UNBOUNDED, place);
    const bool listed = json_object_is_type(get(schema, "items"), json_type_array);
    const char *const prefix_key = listed ? "items" : "prefixItems";
    const char *const items_key = listed ? "additionalItems" : "items";
    struct json_object *prefix = get(schema, prefix_key), *items = get(schema, items_key);
    const bool no_items = json_object_is_type(items, json_type_boolean) &&
                          !json_object_get_boolean(items);
    const struct place inner = below(place, prefix_key, 0);
    uint32_t n_prefix = 0;
    grammar_node node;

    if (has(schema, prefix_key)) {
        if (!json_object_is_type(prefix, json_type_array))
            return schema_refuse(c, place, "%s must be a list of schemas.", prefix_key);
        n_prefix = (uint32_t)MIN(json_object_array_length(prefix), (size_t)max);
    }
    if (min > max)
        return schema_refuse(c, place, "minItems is above maxItems.");

    set_nesting(c, c->nesting + 1);
    node = byte(c, ']', next);
    if (max == n_prefix || no_items)
        node = min <= n_prefix ? node : GRAMMAR_NOTHING;
    else
        node = further_items(c, items, n_prefix, min, max, place, node);
    for (uint32_t i = n_prefix; i-- > 0 && !c->failed;) {
        const struct place at = below(&inner, NULL, i);
        const grammar_node end = min <= i ? byte(c, ']', next) : GRAMMAR_NOTHING;

        node = value(c, json_object_array_get_idx(prefix, i), &at, node);
        if (i > 0)
            node = separator(c, ',', node);
        node = either(c, node, end);
    }
    set_nesting(c, c->nesting - 1);
    return byte(c, '[', node);
}

static grammar_node any_value(struct compiler *c, grammar_node next)
{
    if (c->any == NO_RULE) {
        const struct rule_scope scope = rule_begin(c);
        grammar_node node, loop, item;

        c->any = scope.rule;
        node = literal(c, c->python ? "None" : "null", GRAMMAR_END);
        node = either(c, literal(c, c->python ? "True" : "true", GRAMMAR_END), node);
        node = either(c, literal(c, c->python ? "False" : "false", GRAMMAR_END), node);
        node = either(c, schema_number(c, GRAMMAR_END), node);
        node = either(c, schema_string(c, 0, GRAMMAR_UNBOUNDED, GRAMMAR_END), node);

        set_nesting(c, 1);
        const grammar_node close = byte(c, ']', GRAMMAR_END);
        loop = grammar_forward(c->g);
        item = grammar_call(c->g, c->any, loop);
        grammar_join(c->g, loop, either(c, close, separator(c, ',', item)));
        item = either(c, close, item);
        loop = map(c, NULL, &root_place, byte(c, '}', GRAMMAR_END));
        set_nesting(c, 0);
        node = either(c, byte(c, '[', item), node);
        node = either(c, byte(c, '{', loop), node);
        rule_end(c, scope, node);
    }
    return grammar_call(c->g, c->any, next);
}

static const struct {
    const char *name;
    int kind;
} type_names[] = {
    {"null", KIND_NULL},     {"boolean", KIND_BOOLEAN}, {"integer", KIND_INTEGER},
    {"number", KIND_NUMBER}, {"string", KIND_STRING},   {"array", KIND_ARRAY},
    {"object", KIND_OBJECT},
};

static int kind_by_name(struct json_object *name)
{
    for (size_t i = 0; i < ARRAY_LEN(type_names); i++) {
        if (json_object_is_type(name, json_type_string) &&
            strcmp(json_object_get_string(name), type_names[i].name) == 0)
            return type_names[i].kind;
    }
    return 0;
}

static const struct keyword *find_keyword(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(keywords); i++) {
        if (strcmp(keywords[i].name, name) == 0)
            return &keywords[i];
    }
    return NULL;
}

/* The types that a schema allows: by type, else by the keywords that it has. 0: a wrong type. */
static int kinds_of(struct json_object *schema)
{
    struct json_object *type = get(schema, "type");
    int kinds = 0;

    if (json_object_is_type(type, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(type); i++) {
            const int kind = kind_by_name(json_object_array_get_idx(type, i));

            if (kind == 0)
                return 0;
            kinds |= kind;
        }
        return kinds;
    }
    if (has(schema, "type"))
        return kind_by_name(type);
    json_object_object_foreach(schema, key, unused)
    {
        const struct keyword *keyword = find_keyword(key);

        (void)unused;
        if (keyword)
            kinds |= keyword->kinds;
    }
    return kinds ? kinds : KIND_ANY;
}

static grammar_node typed(struct compiler *c, struct json_object *schema,
                          const struct place *place, grammar_node next)
{
    const int kinds = kinds_of(schema);
    grammar_node node = GRAMMAR_NOTHING;

    if (kinds == 0)
        return schema_refuse(c, place,
                             "type must be one or more of null, boolean, integer, number, "
                             "string, array and object.");
    if (kinds == KIND_ANY && !has(schema, "type"))
        return any_value(c, next);
    if (kinds & KIND_NULL)
        node = either(c, literal(c, c->python ? "None" : "null", next), node);
    if (kinds & KIND_BOOLEAN) {
        node = either(c, literal(c, c->python ? "True" : "true", next), node);
        node = either(c, literal(c, c->python ? "False" : "false", next), node);
    }
    if (kinds & (KIND_INTEGER | KIND_NUMBER))
        node =
            either(c, schema_bounded_number(c, schema, !(kinds & KIND_NUMBER), place, next), node);
    if (kinds & KIND_STRING) {
        const uint32_t min = read_count(c, schema, "minLength", 0, place);
        const uint32_t max = read_count(c, schema, "maxLength", GRAMMAR_UNBOUNDED, place);

        if (min > max)
            return schema_refuse(c, place, "minLength is above maxLength.");
        node = either(c, schema_string(c, min, max, next), node);
    }
    if (kinds & KIND_ARRAY)
        node = either(c, array_value(c, schema, place, next), node);
    if (kinds & KIND_OBJECT)
        node = either(c, object_value(c, schema, place, next), node);
    return node;
}

/* --- references and alternatives -------------------------------------------------------------- */

/* The schema that a $ref of this document names; NULL when there is none. */
static struct json_object *resolve(const struct compiler *c, const char *ref)
{
    struct json_object *target = c->root;
    _cleanup_(freep) char *pointer = NULL;
    char *out;

    if (ref[0] != '#')
        return NULL;
    pointer = strdup(ref + 1);
    if (!pointer)
        return NULL;
    /* URI fragments may be percent-encoded. */
    out = pointer;
    for (const char *in = ref + 1; *in; in++) {
        unsigned code;

        if (in[0] == '%' && sscanf(in + 1, "%2x", &code) == 1 && in[2] != '\0') {
            *out++ = (char)code;
            in += 2;
        } else {
            *out++ = *in;
        }
    }
    *out = '\0';
    if (pointer[0] != '\0' && json_pointer_get(c->root, pointer, &target) < 0)
        return NULL;
    return target;
}

static grammar_node reference(struct compiler *c, struct json_object *schema,
                              const struct place *place, grammar_node next)
{
    struct json_object *ref = get(schema, "$ref");
    const char *name = json_object_get_string(ref);
    struct json_object *target;
    struct place inner;

    if (!json_object_is_type(ref, json_type_string))
        return schema_refuse(c, place, "$ref must be a text.");
    target = resolve(c, name);
    if (!target)
        return schema_refuse(c, place, "$ref %s is not in this document.", name);
    inner = (struct place){.key = name, .depth = place->depth + 1};
    return grammar_call(c->g, rule_for(c, target, &inner), next);
}

/* Follow references to a schema that is none. NULL: cannot be told. */
static struct json_object *follow(const struct compiler *c, struct json_object *schema)
{
    for (unsigned i = 0; i < 16; i++) {
        struct json_object *ref = get(schema, "$ref");

        if (!ref)
            return schema;
        if (!json_object_is_type(ref, json_type_string))
            return NULL;
        schema = resolve(c, json_object_get_string(ref));
    }
    return NULL;
}

/* The values that a schema lists, as an array to be put; NULL when it lists none. */
static struct json_object *listed_values(struct json_object *schema)
{
    struct json_object *values = get(schema, "enum");

    if (json_object_is_type(values, json_type_array))
        return json_object_get(values);
    if (json_object_is_type(schema, json_type_object) && has(schema, "const")) {
        values = json_object_new_array();
        json_object_array_add(values, json_object_get(get(schema, "const")));
        return values;
    }
    return NULL;
}

static bool requires(struct json_object *schema, const char *key)
{
    struct json_object *required = get(schema, "required");

    for (size_t i = 0; json_object_is_type(required, json_type_array) &&
                       i < json_object_array_length(required);
         i++) {
        struct json_object *name = json_object_array_get_idx(required, i);

        if (json_object_is_type(name, json_type_string) &&
            strcmp(json_object_get_string(name), key) == 0)
            return true;
    }
    return false;
}

#define DISJOINT_DEPTH_MAX  8
#define DISJOINT_VALUES_MAX 1000

/* No value of one list is in the other. */
static bool values_apart(struct json_object *a, struct json_object *b)
{
    const size_t n_a = json_object_array_length(a), n_b = json_object_array_length(b);

    if (n_a > DISJOINT_VALUES_MAX || n_b > DISJOINT_VALUES_MAX)
        return false;
    for (size_t i = 0; i < n_a * n_b; i++) {
        struct json_object *x = json_object_array_get_idx(a, i / n_b);
        struct json_object *y = json_object_array_get_idx(b, i % n_b);
        const bool numbers = schema_accept(KIND_NUMBER, schema_kind_of(x)) &&
                             schema_accept(KIND_NUMBER, schema_kind_of(y));

        if (numbers ? json_object_get_double(x) == json_object_get_double(y)
                    : json_object_equal(x, y))
            return false;
    }
    return true;
}

/* None of the values is of a type that the schema names. */
static bool values_and_types_apart(struct json_object *values, struct json_object *schema)
{
    if (!values || !has(schema, "type"))
        return false;
    for (size_t i = 0; i < json_object_array_length(values); i++)
        if (schema_accept(kinds_of(schema), schema_kind_of(json_object_array_get_idx(values, i))))
            return false;
    return true;
}

static bool types_apart(struct json_object *a, struct json_object *b)
{
    int kinds = kinds_of(a);

    if (!has(a, "type") || !has(b, "type"))
        return false;
    if (kinds & KIND_NUMBER)
        kinds |= KIND_INTEGER;
    if (kinds & KIND_INTEGER)
        kinds |= KIND_NUMBER;
    return !(kinds & kinds_of(b));
}

/*
 * No value is valid by both: their types differ, or their listed values, or those of a property
 * that both require. "false" means only that it was not seen.
 */
static bool disjoint(const struct compiler *c, struct json_object *a, struct json_object *b,
                     unsigned depth)
{
    struct json_object *values_a, *values_b, *properties;
    bool result;

    a = follow(c, a);
    b = follow(c, b);
    if (depth == 0 || !json_object_is_type(a, json_type_object) ||
        !json_object_is_type(b, json_type_object))
        return false;

    values_a = listed_values(a);
    values_b = listed_values(b);
    if (values_a && values_b)
        result = values_apart(values_a, values_b);
    else
        result = values_and_types_apart(values_a, b) || values_and_types_apart(values_b, a) ||
                 types_apart(a, b);
    if (values_a)
        json_object_put(values_a);
    if (values_b)
        json_object_put(values_b);
    if (result)
        return true;

    properties = get(a, "properties");
    if (!json_object_is_type(properties, json_type_object) || kinds_of(a) != KIND_OBJECT ||
        kinds_of(b) != KIND_OBJECT)
        return false;
    json_object_object_foreach(properties, key, property)
    {
        if (requires(a, key) && requires(b, key) &&
            disjoint(c, property, get(get(b, "properties"), key), depth - 1))
            return true;
    }
    return false;
}

static grammar_node alternatives(struct compiler *c, struct json_object *schema,
                                 const struct place *place, grammar_node next)
{
    const char *key = has(schema, "anyOf") ? "anyOf" : has(schema, "oneOf") ? "oneOf" : "allOf";
    struct json_object *list = get(schema, key);
    const struct place inner = below(place, key, 0);
    grammar_node node = GRAMMAR_NOTHING;
    size_t n;

    if (has(schema, "anyOf") + has(schema, "oneOf") + has(schema, "allOf") > 1)
        return schema_refuse(c, place,
                             "%s together with another of anyOf, oneOf and allOf is not "
                             "supported.",
                             key);
    if (!json_object_is_type(list, json_type_array) || json_object_array_length(list) == 0)
        return schema_refuse(c, place, "%s must be a list of schemas.", key);
    n = json_object_array_length(list);
    if (key[0] == 'a' && key[1] == 'l' && n > 1)
        return schema_refuse(c, place, "allOf of more than one schema is not supported.");

    for (size_t i = 0; key[0] == 'o' && i < n; i++) {
        for (size_t k = i + 1; k < n; k++) {
            if (!disjoint(c, json_object_array_get_idx(list, i),
                          json_object_array_get_idx(list, k), DISJOINT_DEPTH_MAX))
                return schema_refuse(c, place,
                                     "the alternatives %zu and %zu of oneOf may overlap; anyOf "
                                     "says that this is meant.",
                                     i, k);
        }
    }
    for (size_t i = n; i-- > 0 && !c->failed;) {
        const struct place at = below(&inner, NULL, i);

        node = either(c, value(c, json_object_array_get_idx(list, i), &at, next), node);
    }
    return node;
}

/* The group of a schema's keywords; -1: refused. */
static int group_of(struct compiler *c, struct json_object *schema, const struct place *place)
{
    const struct keyword *chosen = NULL;

    json_object_object_foreach(schema, key, argument)
    {
        const struct keyword *keyword = find_keyword(key);

        if (!keyword)
            continue;
        if (keyword->group == GROUP_UNSUPPORTED) {
            if (strcmp(key, "uniqueItems") == 0 && !json_object_get_boolean(argument))
                continue;
            schema_refuse(c, place, "%s is not supported.", key);
            return -1;
        }
        /* A type beside listed values only chooses among them. */
        if (strcmp(key, "type") == 0 && (has(schema, "enum") || has(schema, "const")))
            continue;
        if (chosen && chosen->group != keyword->group) {
            schema_refuse(c, place, "%s together with %s is not supported.", chosen->name, key);
            return -1;
        }
        chosen = keyword;
    }
    return chosen ? (int)chosen->group : GROUP_TYPED;
}

static grammar_node listed(struct compiler *c, struct json_object *schema,
                           const struct place *place, grammar_node next)
{
    const int kinds = has(schema, "type") ? kinds_of(schema) : KIND_ANY;
    const struct place inner = below(place, "enum", 0);
    struct json_object *values = get(schema, "enum");
    grammar_node node;

    if (has(schema, "enum") && has(schema, "const"))
        return schema_refuse(c, place, "enum together with const is not supported.");
    if (has(schema, "enum") && !json_object_is_type(values, json_type_array))
        return schema_refuse(c, place, "enum must be a list.");
    values = listed_values(schema);
    if (!values)
        return schema_refuse(c, place, "There is no memory.");
    node = schema_one_of(c, values, kinds, &inner, next);
    json_object_put(values);
    return node;
}

/* schema -> its texts, then next */
static grammar_node value(struct compiler *c, struct json_object *schema, const struct place *place,
                          grammar_node next)
{
    if (c->failed || grammar_is_full(c->g))
        return GRAMMAR_NOTHING;
    if (place->depth > SCHEMA_DEPTH_MAX)
        return schema_refuse(c, place, "Schemas are nested more than %d deep.", SCHEMA_DEPTH_MAX);
    if (!schema)
        return any_value(c, next);
    if (json_object_is_type(schema, json_type_boolean))
        return json_object_get_boolean(schema) ? any_value(c, next) : GRAMMAR_NOTHING;
    if (!json_object_is_type(schema, json_type_object))
        return schema_refuse(c, place, "A schema must be an object, true or false.");

    switch (group_of(c, schema, place)) {
    case GROUP_TYPED:
        return typed(c, schema, place, next);
    case GROUP_VALUES:
        return listed(c, schema, place, next);
    case GROUP_REFERENCE:
        return reference(c, schema, place, next);
    case GROUP_ALTERNATIVES:
        return alternatives(c, schema, place, next);
    default:
        return GRAMMAR_NOTHING;
    }
}

/* --- the two forms of a reply ----------------------------------------------------------------- */

static void forget_rules(struct compiler *c)
{
    for (size_t i = 0; i < c->n_known; i++)
        free(c->known[i].place);
    free(c->known);
    c->known = NULL;
    c->n_known = c->n_known_max = 0;
}

/* Seal, with a sentence for each way to fail. */
static struct grammar *finish(struct compiler *c, grammar_node start)
{
    const char *loop = "#";
    grammar_rule rule = 0;
    int r;

    if (!c->failed) {
        r = grammar_seal(c->g, start, &rule);
        for (size_t i = 0; r == -ELOOP && i < c->n_known; i++) {
            if (c->known[i].rule == rule && c->known[i].place)
                loop = c->known[i].place;
        }
        c->failed = r < 0;
        if (r == -ENOMEM)
            error_set(c->err, ERROR_NO_MEMORY, "There is no memory for a grammar.");
        else if (r == -E2BIG)
            error_set(c->err, ERROR_INVALID_ARGUMENT,
                      "%s is too large: it takes more than %d states or %d rules.", c->subject,
                      GRAMMAR_NODES_MAX, GRAMMAR_RULES_MAX);
        else if (r == -ELOOP)
            error_set(c->err, ERROR_INVALID_ARGUMENT,
                      "%s at %s: A schema refers to itself with nothing in between.", c->subject,
                      loop);
        else if (r == -EDOM)
            error_set(c->err, ERROR_INVALID_ARGUMENT,
                      "%s allows no value that is nested at most %d deep.", c->subject,
                      GRAMMAR_NESTING_MAX);
    }
    forget_rules(c);
    if (c->failed)
        c->g = grammar_free(c->g);
    return c->g;
}

static bool begin(struct compiler *c, bool python, struct error *err)
{
    *c = (struct compiler){
        .g = grammar_new(),
        .python = python,
        .err = err,
        .any = NO_RULE,
        .integer = NO_RULE,
        .number = NO_RULE,
        .string = NO_RULE,
        .character = {NO_RULE, NO_RULE},
    };
    if (!c->g)
        error_set(err, ERROR_NO_MEMORY, "There is no memory for a grammar.");
    return c->g;
}

struct grammar *schema_answer(struct json_object *schema, struct error *err)
{
    struct compiler c;

    if (!begin(&c, false, err))
        return NULL;
    c.root = schema;
    snprintf(c.subject, sizeof(c.subject), "The answer schema");
    return finish(&c, value(&c, schema, &root_place, GRAMMAR_END));
}

/* --- calls ------------------------------------------------------------------------------------ */

static bool is_name(const char *name, const char *also)
{
    if (!name || !(isalpha((unsigned char)name[0]) || name[0] == '_'))
        return false;
    while (isalnum((unsigned char)*name) || *name == '_' || (*name && strchr(also, *name)))
        name++;
    return *name == '\0';
}

/* "key=value, ...)", then next */
static grammar_node arguments(struct compiler *c, struct json_object *schema, grammar_node next)
{
    const struct place inner = below(&root_place, "properties", 0);
    _cleanup_(freep) struct member *list = NULL;
    grammar_node node = byte(c, ')', next);
    size_t n;
    int group;

    c->root = schema;
    if (!schema)
        return node;
    if (!json_object_is_type(schema, json_type_object))
        return schema_refuse(c, &root_place, "A schema must be an object.");
    group = group_of(c, schema, &root_place);
    if (group != GROUP_TYPED || !(kinds_of(schema) & KIND_OBJECT))
        return schema_refuse(c, &root_place,
                             "The parameters of a tool must be of the type object.");
    list = read_members(c, schema, &root_place, &n);
    for (size_t i = 0; i < n && list; i++) {
        if (!is_name(list[i].key, ""))
            return schema_refuse(c, &inner,
                                 "\"%s\" cannot be the name of an argument: it is not made of "
                                 "letters, digits and underscores.",
                                 list[i].key);
    }
    if (!list)
        return GRAMMAR_NOTHING;
    set_nesting(c, 1);
    node = members(c, list, n, true, &inner, node);
    set_nesting(c, 0);
    return node;
}

/* "[name(...), name(...)]" of the choices, each "name(" and what follows up to GRAMMAR_END. */
static grammar_node call_list(struct compiler *c, struct grammar_choice *choices, size_t n)
{
    const grammar_rule call = grammar_declare(c->g), next_call = grammar_declare(c->g);

    grammar_define(c->g, call, grammar_choices(c->g, choices, n));
    grammar_define(c->g, next_call, separator(c, ',', grammar_call(c->g, call, GRAMMAR_END)));
    return byte(c, '[', grammar_call(c->g, call,
                                     grammar_repeat(c->g, next_call, 0, SCHEMA_CALLS_MAX - 1,
                                                    byte(c, ']', GRAMMAR_END))));
}

struct grammar *schema_calls(struct json_object *tools, struct error *err)
{
    const size_t n = json_object_is_type(tools, json_type_array) ? json_object_array_length(tools)
                                                                 : 0;
    struct grammar_choice *choices = NULL;
    grammar_node start = GRAMMAR_NOTHING;
    struct compiler c;
    size_t n_choices = 0;

    if (n == 0) {
        error_set(err, ERROR_INVALID_ARGUMENT, "tools must be a list with at least one tool.");
        return NULL;
    }
    if (!begin(&c, true, err))
        return NULL;
    snprintf(c.subject, sizeof(c.subject), "The list of tools");
    choices = calloc(n, sizeof(*choices));
    if (!choices)
        schema_refuse(&c, &root_place, "There is no memory for %zu tools.", n);

    for (size_t i = 0; i < n && !c.failed; i++) {
        const struct place at = below(&root_place, NULL, i);
        struct json_object *tool = json_object_array_get_idx(tools, i);
        const char *name;

        if (get(tool, "function"))
            tool = get(tool, "function");
        name = json_object_is_type(get(tool, "name"), json_type_string)
                   ? json_object_get_string(get(tool, "name"))
                   : NULL;
        if (!name) {
            schema_refuse(&c, &at, "A tool must be an object with a name.");
        } else if (!is_name(name, ".-") || strlen(name) > 64) {
            schema_refuse(&c, &at,
                          "\"%.80s\" cannot be the name of a tool: it is not made of at most 64 "
                          "letters, digits, underscores, dots and dashes.",
                          name);
        } else {
            struct grammar_choice *choice = &choices[n_choices];

            choice->length = strlen(name) + 1;
            choice->text = malloc(choice->length + 1);
            if (!choice->text) {
                schema_refuse(&c, &at, "There is no memory.");
                break;
            }
            n_choices++;
            memcpy(choice->text, name, choice->length);
            strcpy(choice->text + choice->length - 1, "(");
            for (size_t k = 0; k + 1 < n_choices; k++) {
                if (strcmp(choices[k].text, choice->text) == 0)
                    schema_refuse(&c, &at, "There are two tools with the name %s.", name);
            }
            snprintf(c.subject, sizeof(c.subject), "The schema of the tool %s", name);
            choice->next = arguments(&c, get(tool, "parameters"), GRAMMAR_END);
            snprintf(c.subject, sizeof(c.subject), "The list of tools");
        }
    }
    if (!c.failed)
        start = call_list(&c, choices, n_choices);
    for (size_t i = 0; i < n_choices; i++)
        free(choices[i].text);
    free(choices);
    return finish(&c, start);
}
