/* SPDX-License-Identifier: MIT */
#include "text/constraint.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "text/constraint_new.h"

enum mode {
    MODE_ANSWER,    /* within the grammar of the answer */
    MODE_FREE,      /* text outside of calls */
    MODE_MUST_CALL, /* a call must begin now */
    MODE_CALL,      /* within the grammar of the calls */
    MODE_DONE,      /* an end token was taken */
};

struct position {
    enum mode mode;
    grammar_state state; /* MODE_ANSWER, MODE_CALL */
};

struct mask {
    grammar_state state; /* 0: unused */
    uint64_t last_use;
    uint8_t *bits;
};

struct constraint {
    const struct vocabulary *vocabulary; /* borrowed */
    struct grammar *grammar;
    enum mode first_mode;
    struct position now;

    size_t mask_bytes;
    uint8_t *bits; /* of all masks */
    uint8_t *free_bits, *end_bits, *call_bits;
    struct mask masks[CONSTRAINT_MASKS];
    uint64_t n_uses;
};

static void set_bit(uint8_t *bits, uint32_t id)
{
    bits[id / 8] |= (uint8_t)(1u << id % 8);
}

/* Without every byte of UTF-8 as a token of its own, some state might have no way on. */
static int check_bytes(const struct vocabulary *vocabulary, struct error *err)
{
    bool has[256] = {false};

    for (size_t id = 0; id < vocabulary->n_tokens; id++) {
        if (vocabulary->tokens[id].kind == VOCABULARY_TEXT && vocabulary->tokens[id].length == 1)
            has[(uint8_t)vocabulary->tokens[id].text[0]] = true;
    }
    for (unsigned byte = 0x20; byte <= 0xf4; byte++) {
        if (!has[byte] && byte != 0x7f && byte != 0xc0 && byte != 0xc1)
            return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                             "The vocabulary has no token for the byte 0x%02x, so its replies "
                             "cannot be constrained.",
                             byte);
    }
    return 0;
}

struct constraint *constraint_new(const struct vocabulary *vocabulary, struct grammar *grammar,
                                  enum constraint_form form, struct error *err)
{
    struct constraint *constraint = NULL;
    uint8_t *bits;

    if (!grammar || check_bytes(vocabulary, err) < 0)
        goto failed;
    if (form != CONSTRAINT_ANSWER &&
        (vocabulary->call_start == UINT32_MAX || vocabulary->call_end == UINT32_MAX)) {
        error_set(err, ERROR_UNSUPPORTED_FORMAT,
                  "The vocabulary has no tokens that begin and end tool calls.");
        goto failed;
    }
    constraint = calloc(1, sizeof(*constraint));
    if (!constraint)
        goto no_memory;
    constraint->vocabulary = vocabulary;
    constraint->mask_bytes = (vocabulary->n_tokens + 7) / 8;
    constraint->bits = calloc(CONSTRAINT_MASKS + 3, constraint->mask_bytes);
    if (!constraint->bits)
        goto no_memory;

    bits = constraint->bits;
    for (size_t i = 0; i < CONSTRAINT_MASKS; i++, bits += constraint->mask_bytes)
        constraint->masks[i].bits = bits;
    constraint->free_bits = bits;
    constraint->end_bits = bits + constraint->mask_bytes;
    constraint->call_bits = bits + 2 * constraint->mask_bytes;
    for (uint32_t id = 0; id < vocabulary->n_tokens; id++) {
        if (vocabulary->tokens[id].kind == VOCABULARY_END)
            set_bit(constraint->end_bits, id);
        if (vocabulary->tokens[id].kind != VOCABULARY_CALL_END)
            set_bit(constraint->free_bits, id);
    }
    if (form != CONSTRAINT_ANSWER)
        set_bit(constraint->call_bits, vocabulary->call_start);

    constraint->grammar = grammar;
    constraint->first_mode = form == CONSTRAINT_ANSWER         ? MODE_ANSWER
                             : form == CONSTRAINT_CALL_FIRST ? MODE_MUST_CALL
                                                             : MODE_FREE;
    constraint_reset(constraint);
    return constraint;

no_memory:
    error_set(err, ERROR_NO_MEMORY, "There is no memory for the masks of a constraint.");
    constraint_free(constraint);
failed:
    grammar_free(grammar);
    return NULL;
}

struct constraint *constraint_answer(const struct tokenizer *tokenizer, struct json_object *schema,
                                     struct error *err)
{
    const struct vocabulary *vocabulary = tokenizer_vocabulary(tokenizer, err);

    if (!vocabulary)
        return NULL;
    return constraint_new(vocabulary, schema_answer(schema, err), CONSTRAINT_ANSWER, err);
}

struct constraint *constraint_tools(const struct tokenizer *tokenizer, struct json_object *tools,
                                    bool required, struct error *err)
{
    const struct vocabulary *vocabulary = tokenizer_vocabulary(tokenizer, err);

    if (!vocabulary)
        return NULL;
    return constraint_new(vocabulary, schema_calls(tools, err),
                          required ? CONSTRAINT_CALL_FIRST : CONSTRAINT_CALLS, err);
}

struct constraint *constraint_free(struct constraint *constraint)
{
    if (!constraint)
        return NULL;
    grammar_free(constraint->grammar);
    free(constraint->bits);
    free(constraint);
    return NULL;
}

void constraint_reset(struct constraint *constraint)
{
    constraint->now = (struct position){.mode = constraint->first_mode, .state = GRAMMAR_START};
}

/* --- masks ------------------------------------------------------------------------------------ */

/* The tree is walked in its order; states[depth] is the state before the byte of that depth. */
static void find_tokens(struct constraint *constraint, grammar_state from, uint8_t *bits)
{
    const struct vocabulary *vocabulary = constraint->vocabulary;
    const struct vocabulary_node *nodes = vocabulary->nodes;
    grammar_state states[VOCABULARY_PIECE_MAX + 1] = {from};

    for (uint32_t i = 0; i < vocabulary->n_nodes;) {
        const uint8_t depth = nodes[i].depth;
        const grammar_state state =
            grammar_step(constraint->grammar, states[depth], nodes[i].byte);

        if (state == GRAMMAR_DEAD) {
            i = nodes[i].next;
            continue;
        }
        states[depth + 1] = state;
        for (uint32_t k = nodes[i].first_id; k < nodes[i + 1].first_id; k++)
            set_bit(bits, vocabulary->ids[k]);
        i++;
    }
}

/* Forget all states but the present one, and the masks with them. */
static void make_room(struct constraint *constraint)
{
    constraint->now.state = grammar_forget(constraint->grammar, constraint->now.state);
    for (size_t i = 0; i < CONSTRAINT_MASKS; i++)
        constraint->masks[i].state = 0;
}

static struct mask *find_mask(struct constraint *constraint, grammar_state state)
{
    struct mask *oldest = &constraint->masks[0];

    for (size_t i = 0; i < CONSTRAINT_MASKS; i++) {
        struct mask *mask = &constraint->masks[i];

        if (mask->state == state)
            return mask;
        if (mask->state == 0 || (oldest->state != 0 && mask->last_use < oldest->last_use))
            oldest = mask;
    }
    return oldest;
}

static void fill_mask(struct constraint *constraint, struct mask *mask)
{
    const struct vocabulary *vocabulary = constraint->vocabulary;
    const grammar_state state = constraint->now.state;

    memset(mask->bits, 0, constraint->mask_bytes);
    find_tokens(constraint, state, mask->bits);
    if (grammar_is_complete(constraint->grammar, state)) {
        if (constraint->now.mode == MODE_CALL)
            set_bit(mask->bits, vocabulary->call_end);
        for (size_t i = 0; constraint->now.mode == MODE_ANSWER && i < constraint->mask_bytes; i++)
            mask->bits[i] |= constraint->end_bits[i];
    }
    mask->state = state;
}

const uint8_t *constraint_allowed(struct constraint *constraint)
{
    struct mask *mask;

    switch (constraint->now.mode) {
    case MODE_FREE:
        return constraint->free_bits;
    case MODE_MUST_CALL:
        return constraint->call_bits;
    case MODE_DONE:
        return constraint->end_bits;
    case MODE_ANSWER:
    case MODE_CALL:
        break;
    }

    mask = find_mask(constraint, constraint->now.state);
    if (mask->state != constraint->now.state) {
        fill_mask(constraint, mask);
        /* Filled again in empty tables, a mask depends on its state alone. */
        if (grammar_ran_out(constraint->grammar)) {
            make_room(constraint);
            fill_mask(constraint, mask);
        }
    }
    mask->last_use = ++constraint->n_uses;
    return mask->bits;
}

/* --- tokens ----------------------------------------------------------------------------------- */

static grammar_state step_token(struct constraint *constraint, grammar_state state, uint32_t id)
{
    const struct vocabulary_token *token = &constraint->vocabulary->tokens[id];

    if (token->kind != VOCABULARY_TEXT || token->length == 0 ||
        token->length > VOCABULARY_PIECE_MAX)
        return GRAMMAR_DEAD;
    for (size_t i = 0; i < token->length && state != GRAMMAR_DEAD; i++)
        state = grammar_step(constraint->grammar, state, (uint8_t)token->text[i]);
    return state;
}

/* The position after a token; false when it is not allowed, or for want of room. */
static bool follow(struct constraint *constraint, struct position *at, uint32_t id)
{
    const struct vocabulary *vocabulary = constraint->vocabulary;
    enum vocabulary_kind kind;

    if (id >= vocabulary->n_tokens)
        return false;
    kind = vocabulary->tokens[id].kind;
    switch (at->mode) {
    case MODE_DONE:
        return kind == VOCABULARY_END;
    case MODE_MUST_CALL:
    case MODE_FREE:
        if (kind == VOCABULARY_CALL_START)
            *at = (struct position){.mode = MODE_CALL, .state = GRAMMAR_START};
        else if (at->mode == MODE_MUST_CALL || kind == VOCABULARY_CALL_END)
            return false;
        else if (kind == VOCABULARY_END)
            at->mode = MODE_DONE;
        return true;
    case MODE_ANSWER:
    case MODE_CALL:
        if (kind == (at->mode == MODE_CALL ? VOCABULARY_CALL_END : VOCABULARY_END)) {
            if (!grammar_is_complete(constraint->grammar, at->state))
                return false;
            at->mode = at->mode == MODE_CALL ? MODE_FREE : MODE_DONE;
            return true;
        }
        at->state = step_token(constraint, at->state, id);
        return at->state != GRAMMAR_DEAD;
    }
    return false;
}

int constraint_accept(struct constraint *constraint, uint32_t id)
{
    struct position next = constraint->now;

    if (!follow(constraint, &next, id)) {
        if (!grammar_ran_out(constraint->grammar))
            return -EINVAL;
        make_room(constraint);
        next = constraint->now;
        if (!follow(constraint, &next, id))
            return -EINVAL;
    }
    constraint->now = next;
    return 0;
}

size_t constraint_check(struct constraint *constraint, const uint32_t *ids, size_t n)
{
    struct position at = constraint->now;
    size_t i = 0;

    while (i < n && follow(constraint, &at, ids[i]))
        i++;
    return i;
}

size_t constraint_guess(struct constraint *constraint, uint32_t *ids, size_t n_max)
{
    char text[256];
    size_t n_text = 0, n = 0;
    grammar_state state = constraint->now.state;

    if (constraint->now.mode == MODE_MUST_CALL && n_max > 0) {
        ids[n++] = constraint->vocabulary->call_start;
        state = GRAMMAR_START;
    } else if (constraint->now.mode != MODE_ANSWER && constraint->now.mode != MODE_CALL) {
        return 0;
    }
    while (n_text < sizeof(text)) {
        const int byte = grammar_forced_byte(constraint->grammar, state);

        if (byte < 0)
            break;
        text[n_text++] = (char)byte;
        state = grammar_step(constraint->grammar, state, (uint8_t)byte);
        if (state == GRAMMAR_DEAD)
            break;
    }
    for (size_t at = 0, length; n < n_max && at < n_text; at += length) {
        const uint32_t id =
            vocabulary_longest(constraint->vocabulary, text + at, n_text - at, &length);

        if (id == UINT32_MAX)
            break;
        ids[n++] = id;
    }
    return n;
}
