/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Grammars over bytes: a recursive transition network, and the deterministic automaton that is
 * built from it lazily, state by state, while it is used.
 *
 *     struct grammar *g = grammar_new();
 *     end = grammar_text(g, "]", 1, GRAMMAR_END);
 *     start = grammar_text(g, "[", 1, grammar_call(g, value, end));
 *     grammar_seal(g, start, ...);
 *     state = grammar_step(g, GRAMMAR_START, '[');
 *
 * Networks are built back to front: every node is made with the node that follows it. A rule is a
 * part that can be called, also by itself; it must not match the empty text, and must consume
 * something before it calls itself.
 *
 * Nesting: every node carries how many brackets are open at it within its rule
 * (grammar_set_nesting), and the automaton never goes where more than GRAMMAR_NESTING_MAX would
 * have to be open at once. From every state that is reached, a complete text can be reached.
 *
 * Bounds: a network has at most GRAMMAR_NODES_MAX nodes, the automaton GRAMMAR_STATES_MAX states at
 * a time. When a text can be read in more than GRAMMAR_ITEMS_MAX ways, the ways above are dropped,
 * which makes the language smaller, and never leads into a dead end.
 *
 * Memory: taken by grammar_new() and grammar_seal(); the automaton's tables are reserved at their
 * full size and take real pages only as they fill.
 * Threads: one owner.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define GRAMMAR_NODES_MAX   200000
#define GRAMMAR_RULES_MAX   4096
#define GRAMMAR_STATES_MAX  16384
#define GRAMMAR_ITEMS_MAX   1024
#define GRAMMAR_NESTING_MAX 28 /* below 32, where json-c and others stop by default */
#define GRAMMAR_UNBOUNDED   UINT32_MAX

struct grammar;

struct grammar *grammar_new(void); /* NULL: no memory */
struct grammar *grammar_free(struct grammar *grammar);

/* --- building --------------------------------------------------------------------------------- */

typedef uint32_t grammar_node;

#define GRAMMAR_END     ((grammar_node)0) /* the end of a rule, or of the text */
#define GRAMMAR_NOTHING ((grammar_node)1) /* matches no text at all */

/* Brackets open within the rule at the nodes that are made from now on. */
void grammar_set_nesting(struct grammar *grammar, unsigned nesting);

/* One byte in [low, high], then next. */
grammar_node grammar_byte(struct grammar *grammar, uint8_t low, uint8_t high, grammar_node next);
grammar_node grammar_text(struct grammar *grammar, const char *text, size_t length,
                          grammar_node next);
grammar_node grammar_either(struct grammar *grammar, grammar_node a, grammar_node b);

/* For loops: a place to be joined with its target later. */
grammar_node grammar_forward(struct grammar *grammar);
void grammar_join(struct grammar *grammar, grammar_node forward, grammar_node target);

/* Texts that each go on at a node of their own, as a tree of their common beginnings. Sorts. */
struct grammar_choice {
    char *text; /* malloc; belongs to the caller */
    size_t length;
    grammar_node next;
};
grammar_node grammar_choices(struct grammar *grammar, struct grammar_choice *choices, size_t n);

typedef uint32_t grammar_rule;

grammar_rule grammar_declare(struct grammar *grammar);
void grammar_define(struct grammar *grammar, grammar_rule rule, grammar_node start);
grammar_node grammar_call(struct grammar *grammar, grammar_rule rule, grammar_node next);
/* min to max calls one after the other; max may be GRAMMAR_UNBOUNDED. */
grammar_node grammar_repeat(struct grammar *grammar, grammar_rule rule, uint32_t min, uint32_t max,
                            grammar_node next);

/* More nodes or rules were asked for than a grammar may have; what is built now is of no use. */
bool grammar_is_full(const struct grammar *grammar);

/*
 * End building. Returns 0; -ENOMEM; -E2BIG when it is full; -ELOOP when *ret_rule calls itself
 * before it has consumed a byte; -EDOM when no text within the nesting matches.
 */
int grammar_seal(struct grammar *grammar, grammar_node start, grammar_rule *ret_rule);

/* --- the automaton ---------------------------------------------------------------------------- */

typedef uint32_t grammar_state;

#define GRAMMAR_DEAD  ((grammar_state)1) /* no text of the language begins like this */
#define GRAMMAR_START ((grammar_state)2)

/* The state after one more byte. */
grammar_state grammar_step(struct grammar *grammar, grammar_state state, uint8_t byte);

/* The text may end here. */
bool grammar_is_complete(const struct grammar *grammar, grammar_state state);

/* The one byte that must come next; -1 when there is a choice, or the text may end. */
int grammar_forced_byte(const struct grammar *grammar, grammar_state state);

/*
 * The tables are full: a step has answered GRAMMAR_DEAD for want of room since the last
 * grammar_forget(). That answer is not remembered.
 */
bool grammar_ran_out(const struct grammar *grammar);

/* Forget all states but GRAMMAR_START and `kept`, which may get a new number: it is returned. */
grammar_state grammar_forget(struct grammar *grammar, grammar_state kept);
