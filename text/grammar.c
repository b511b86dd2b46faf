/* SPDX-License-Identifier: MIT */
#include "text/grammar.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"

/*
 * A state is a set of items, an item is a node that reads a byte (or the end) and the frames that
 * are open there. Frames are kept once for each distinct {where to return, count, parent}, so equal
 * sets are equal arrays.
 */

enum node_kind {
    NODE_END,
    NODE_NOTHING,
    NODE_BYTE,    /* low..high, then next */
    NODE_EITHER,  /* next or other */
    NODE_FORWARD, /* next */
    NODE_CALL,    /* rule `other`, then next */
    NODE_REPEAT,  /* repeats[other], then next */
};

struct node {
    uint8_t kind;
    uint8_t low, high;
    uint8_t nesting; /* brackets open within the rule */
    uint32_t next, other;
};

struct repeat {
    grammar_rule rule;
    uint32_t min, max;
};

struct frame {
    uint32_t node;    /* where to go on */
    uint32_t count;   /* PLAIN_CALL; or the rounds that the NODE_REPEAT `node` has done */
    uint32_t parent;  /* frame; 0: none */
    uint32_t nesting; /* brackets open outside of the called rule */
};

struct item {
    uint32_t node, frame;
};

struct state {
    uint32_t first, n; /* items */
    bool complete;
};

#define FRAMES_MAX       (1u << 18)
#define ITEMS_TOTAL_MAX  (1u << 19)
#define CLOSURE_STEPS    65536u
#define STATE_HASH_SIZE  (4u * GRAMMAR_STATES_MAX)
#define FRAME_HASH_SIZE  (2u * FRAMES_MAX)
#define NESTING_INFINITE UINT8_MAX
#define STATE_UNKNOWN    0u
#define PLAIN_CALL       UINT32_MAX

struct grammar {
    struct node *nodes; /* [GRAMMAR_NODES_MAX] */
    uint32_t n_nodes;
    uint32_t *rules; /* [GRAMMAR_RULES_MAX] start nodes */
    uint32_t n_rules;
    struct repeat *repeats; /* [GRAMMAR_RULES_MAX] */
    uint32_t n_repeats;
    unsigned nesting;
    bool full, sealed;
    grammar_node start;

    /* after sealing */
    uint8_t *need; /* [n_nodes] brackets that must be open at once to get from here to the end */
    uint8_t byte_class[256];
    unsigned n_classes;

    struct state *states; /* [GRAMMAR_STATES_MAX] */
    uint32_t *moves;      /* [GRAMMAR_STATES_MAX][n_classes] state; 0: not computed */
    uint32_t n_states;
    struct item *items; /* [ITEMS_TOTAL_MAX] */
    uint32_t n_items;
    struct frame *frames; /* [FRAMES_MAX]; 0: the outermost */
    uint32_t n_frames;
    uint32_t *state_hash, *frame_hash; /* open addressing; 0: empty */

    /* a closure in the making */
    struct item *found; /* [GRAMMAR_ITEMS_MAX] */
    uint32_t n_found, n_steps;
    bool ran_out;
};

struct grammar *grammar_new(void)
{
    struct grammar *g = calloc(1, sizeof(*g));

    if (!g)
        return NULL;
    g->nodes = calloc(GRAMMAR_NODES_MAX, sizeof(*g->nodes));
    g->rules = calloc(GRAMMAR_RULES_MAX, sizeof(*g->rules));
    g->repeats = calloc(GRAMMAR_RULES_MAX, sizeof(*g->repeats));
    if (!g->nodes || !g->rules || !g->repeats)
        return grammar_free(g);
    g->nodes[GRAMMAR_END].kind = NODE_END;
    g->nodes[GRAMMAR_NOTHING].kind = NODE_NOTHING;
    g->n_nodes = 2;
    return g;
}

struct grammar *grammar_free(struct grammar *g)
{
    if (!g)
        return NULL;
    free(g->nodes);
    free(g->rules);
    free(g->repeats);
    free(g->need);
    free(g->states);
    free(g->moves);
    free(g->items);
    free(g->frames);
    free(g->state_hash);
    free(g->frame_hash);
    free(g->found);
    free(g);
    return NULL;
}

/* --- building --------------------------------------------------------------------------------- */

static grammar_node add(struct grammar *g, enum node_kind kind, uint32_t next, uint32_t other)
{
    assert(!g->sealed);
    if (g->n_nodes == GRAMMAR_NODES_MAX) {
        g->full = true;
        return GRAMMAR_NOTHING;
    }
    g->nodes[g->n_nodes] = (struct node){
        .kind = (uint8_t)kind,
        .nesting = (uint8_t)g->nesting,
        .next = next,
        .other = other,
    };
    return g->n_nodes++;
}

void grammar_set_nesting(struct grammar *g, unsigned nesting)
{
    g->nesting = MIN(nesting, (unsigned)GRAMMAR_NESTING_MAX + 1);
}

grammar_node grammar_byte(struct grammar *g, uint8_t low, uint8_t high, grammar_node next)
{
    const grammar_node node = next == GRAMMAR_NOTHING ? next : add(g, NODE_BYTE, next, 0);

    if (node != GRAMMAR_NOTHING) {
        g->nodes[node].low = low;
        g->nodes[node].high = high;
    }
    return node;
}

grammar_node grammar_text(struct grammar *g, const char *text, size_t length, grammar_node next)
{
    while (length-- > 0 && !g->full)
        next = grammar_byte(g, (uint8_t)text[length], (uint8_t)text[length], next);
    return next;
}

grammar_node grammar_either(struct grammar *g, grammar_node a, grammar_node b)
{
    if (a == GRAMMAR_NOTHING || a == b)
        return b;
    if (b == GRAMMAR_NOTHING)
        return a;
    return add(g, NODE_EITHER, a, b);
}

grammar_node grammar_forward(struct grammar *g)
{
    return add(g, NODE_FORWARD, GRAMMAR_NOTHING, 0);
}

void grammar_join(struct grammar *g, grammar_node forward, grammar_node target)
{
    if (!g->full)
        g->nodes[forward].next = target;
}

static int compare_choices(const void *a, const void *b)
{
    const struct grammar_choice *x = a, *y = b;
    const int order = memcmp(x->text, y->text, MIN(x->length, y->length));

    if (order != 0)
        return order;
    return (x->length > y->length) - (x->length < y->length);
}

/* All choices are equal in their first `at` bytes. */
static grammar_node choice_tree(struct grammar *g, const struct grammar_choice *choices, size_t n,
                                size_t at)
{
    const struct grammar_choice *last = &choices[n - 1];
    grammar_node node = GRAMMAR_NOTHING;
    size_t common = at;

    if (n == 1)
        return grammar_text(g, last->text + at, last->length - at, last->next);
    while (common < choices[0].length && choices[0].text[common] == last->text[common])
        common++;
    if (common > at) {
        node = choice_tree(g, choices, n, common);
        return grammar_text(g, last->text + at, common - at, node);
    }

    while (n > 0 && choices[n - 1].length > at && !g->full) {
        size_t first = n - 1;

        while (first > 0 && choices[first - 1].length > at &&
               choices[first - 1].text[at] == choices[n - 1].text[at])
            first--;
        node = grammar_either(
            g,
            grammar_byte(g, (uint8_t)choices[first].text[at], (uint8_t)choices[first].text[at],
                         choice_tree(g, choices + first, n - first, at + 1)),
            node);
        n = first;
    }
    while (n-- > 0)
        node = grammar_either(g, choices[n].next, node); /* complete here */
    return node;
}

grammar_node grammar_choices(struct grammar *g, struct grammar_choice *choices, size_t n)
{
    if (n == 0)
        return GRAMMAR_NOTHING;
    qsort(choices, n, sizeof(*choices), compare_choices);
    return choice_tree(g, choices, n, 0);
}

grammar_rule grammar_declare(struct grammar *g)
{
    if (g->n_rules == GRAMMAR_RULES_MAX) {
        g->full = true;
        return 0;
    }
    g->rules[g->n_rules] = GRAMMAR_NOTHING;
    return g->n_rules++;
}

void grammar_define(struct grammar *g, grammar_rule rule, grammar_node start)
{
    assert(start != GRAMMAR_END);
    if (!g->full)
        g->rules[rule] = start;
}

grammar_node grammar_call(struct grammar *g, grammar_rule rule, grammar_node next)
{
    return next == GRAMMAR_NOTHING ? next : add(g, NODE_CALL, next, rule);
}

grammar_node grammar_repeat(struct grammar *g, grammar_rule rule, uint32_t min, uint32_t max,
                            grammar_node next)
{
    if (max == 0)
        return next;
    if (min > max || next == GRAMMAR_NOTHING)
        return GRAMMAR_NOTHING;
    if (g->n_repeats == GRAMMAR_RULES_MAX) {
        g->full = true;
        return GRAMMAR_NOTHING;
    }
    g->repeats[g->n_repeats] = (struct repeat){.rule = rule, .min = min, .max = max};
    return add(g, NODE_REPEAT, next, g->n_repeats++);
}

bool grammar_is_full(const struct grammar *g)
{
    return g->full;
}

/* --- sealing ---------------------------------------------------------------------------------- */

static uint32_t rule_of(const struct grammar *g, const struct node *node)
{
    return node->kind == NODE_CALL ? node->other : g->repeats[node->other].rule;
}

static bool is_call(const struct grammar *g, uint32_t at)
{
    return g->nodes[at].kind == NODE_CALL || g->nodes[at].kind == NODE_REPEAT;
}

/*
 * The nodes that a node leads to without consuming a byte, for the search for loops: at most two.
 * Rules never match the empty text, so what follows a call is not among them.
 */
static unsigned silent_moves(const struct grammar *g, uint32_t at, uint32_t out[2])
{
    const struct node *node = &g->nodes[at];

    switch ((enum node_kind)node->kind) {
    case NODE_EITHER:
        out[0] = node->next;
        out[1] = node->other;
        return 2;
    case NODE_FORWARD:
        out[0] = node->next;
        return 1;
    case NODE_CALL:
        out[0] = g->rules[node->other];
        return 1;
    case NODE_REPEAT:
        out[0] = g->rules[rule_of(g, node)];
        out[1] = node->next;
        return g->repeats[node->other].min == 0 ? 2 : 1;
    default:
        return 0;
    }
}

/* Depth-first over silent moves; a way back onto the present path is a loop, through a rule. */
static int find_loop(const struct grammar *g, grammar_rule *ret_rule)
{
    enum { NEW, ON_PATH, DONE };
    _cleanup_(freep) uint8_t *mark = calloc(g->n_nodes, 1);
    _cleanup_(freep) uint8_t *tried = calloc(g->n_nodes, 1);
    _cleanup_(freep) uint32_t *path = calloc(g->n_nodes, sizeof(*path));

    if (!mark || !tried || !path)
        return -ENOMEM;
    for (uint32_t root = 0; root < g->n_nodes; root++) {
        size_t n = 0;

        if (mark[root] != NEW)
            continue;
        path[n++] = root;
        mark[root] = ON_PATH;
        while (n > 0) {
            const uint32_t at = path[n - 1];
            uint32_t moves[2];
            const unsigned n_moves = silent_moves(g, at, moves);

            if (tried[at] == n_moves) {
                mark[at] = DONE;
                n--;
                continue;
            }
            const uint32_t to = moves[tried[at]++];

            if (mark[to] == ON_PATH) {
                while (n > 1 && path[n - 1] != to && !is_call(g, path[n - 1]))
                    n--;
                assert(is_call(g, path[n - 1])); /* other loops are made with grammar_byte() */
                *ret_rule = rule_of(g, &g->nodes[path[n - 1]]);
                return -ELOOP;
            }
            if (mark[to] == NEW) {
                mark[to] = ON_PATH;
                path[n++] = to;
            }
        }
    }
    return 0;
}

static bool is_within(const struct grammar *g, uint32_t at, unsigned level)
{
    const struct node *node = &g->nodes[at];
    uint32_t start;

    switch ((enum node_kind)node->kind) {
    case NODE_END:
        return true;
    case NODE_NOTHING:
        return false;
    case NODE_BYTE:
        return node->nesting <= level && g->need[node->next] <= level;
    case NODE_EITHER:
        return g->need[node->next] <= level || g->need[node->other] <= level;
    case NODE_FORWARD:
        return g->need[node->next] <= level;
    case NODE_CALL:
    case NODE_REPEAT:
        if (g->need[node->next] > level)
            return false;
        if (node->kind == NODE_REPEAT && g->repeats[node->other].min == 0)
            return true;
        start = g->rules[rule_of(g, node)];
        return node->nesting <= level && g->need[start] <= level - node->nesting;
    }
    return false;
}

/*
 * need = the smallest level at which a node leads to an end, for level 0, 1, 2 ...: the least
 * fixed point of is_within(). Nodes mostly come after those they lead to, so few sweeps suffice.
 */
static void find_needs(struct grammar *g)
{
    memset(g->need, NESTING_INFINITE, g->n_nodes);
    for (unsigned level = 0; level <= GRAMMAR_NESTING_MAX; level++) {
        for (bool changed = true; changed;) {
            changed = false;
            for (uint32_t at = 0; at < g->n_nodes; at++) {
                if (g->need[at] == NESTING_INFINITE && is_within(g, at, level)) {
                    g->need[at] = (uint8_t)level;
                    changed = true;
                }
            }
        }
    }
}

/* Bytes that no node tells apart are of one class. */
static void find_byte_classes(struct grammar *g)
{
    bool begins[257] = {true};
    unsigned class = 0;

    for (uint32_t at = 0; at < g->n_nodes; at++) {
        if (g->nodes[at].kind == NODE_BYTE) {
            begins[g->nodes[at].low] = true;
            begins[g->nodes[at].high + 1] = true;
        }
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        if (byte > 0 && begins[byte])
            class++;
        g->byte_class[byte] = (uint8_t)class;
    }
    g->n_classes = class + 1;
}

/* --- the automaton ---------------------------------------------------------------------------- */

static uint32_t mix(uint32_t hash, uint32_t value)
{
    hash = (hash ^ value) * 0x9e3779b1u;
    return hash ^ hash >> 15;
}

/* The one frame of this content; false without room. */
static bool push(struct grammar *g, uint32_t node, uint32_t nesting, uint32_t count,
                 uint32_t parent, uint32_t *ret_frame)
{
    const struct frame wanted = {
        .node = node,
        .count = count,
        .parent = parent,
        .nesting = g->frames[parent].nesting + nesting,
    };
    uint32_t slot = mix(mix(mix(0, node), count), parent) % FRAME_HASH_SIZE;

    for (uint32_t i; (i = g->frame_hash[slot]) != 0; slot = (slot + 1) % FRAME_HASH_SIZE) {
        if (memcmp(&g->frames[i], &wanted, sizeof(wanted)) == 0) {
            *ret_frame = i;
            return true;
        }
    }
    if (g->n_frames == FRAMES_MAX) {
        g->ran_out = true;
        return false;
    }
    g->frames[g->n_frames] = wanted;
    g->frame_hash[slot] = g->n_frames;
    *ret_frame = g->n_frames++;
    return true;
}

static int compare_items(const void *a, const void *b)
{
    const struct item *x = a, *y = b;

    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    return (x->frame > y->frame) - (x->frame < y->frame);
}

static void sort_found(struct grammar *g)
{
    uint32_t n = 0;

    if (g->n_found < 2)
        return;
    qsort(g->found, g->n_found, sizeof(*g->found), compare_items);
    for (uint32_t i = 1; i < g->n_found; i++) {
        if (compare_items(&g->found[n], &g->found[i]) != 0)
            g->found[++n] = g->found[i];
    }
    g->n_found = n + 1;
}

static void add_found(struct grammar *g, uint32_t node, uint32_t frame)
{
    if (g->n_found == GRAMMAR_ITEMS_MAX) {
        sort_found(g);
        if (g->n_found > GRAMMAR_ITEMS_MAX / 2)
            g->n_steps = CLOSURE_STEPS; /* enough of them */
    }
    if (g->n_found < GRAMMAR_ITEMS_MAX)
        g->found[g->n_found++] = (struct item){.node = node, .frame = frame};
}

/* An end is within reach of this node without more brackets than there may be. */
static bool is_alive(const struct grammar *g, uint32_t at, uint32_t frame)
{
    return g->need[at] + g->frames[frame].nesting <= GRAMMAR_NESTING_MAX;
}

static void close_over(struct grammar *g, uint32_t at, uint32_t frame);

/* The repeat at node `at`, of which `count` rounds are done: one more, or go on. */
static void close_over_repeat(struct grammar *g, uint32_t at, uint32_t count, uint32_t frame)
{
    const struct node *node = &g->nodes[at];
    const struct repeat *repeat = &g->repeats[node->other];
    uint32_t inner;

    if (count < repeat->max && push(g, at, node->nesting, count, frame, &inner))
        close_over(g, g->rules[repeat->rule], inner);
    if (count >= repeat->min)
        close_over(g, node->next, frame);
}

/*
 * Add the items that are reached from here without a byte. Every node that is alive leads to at
 * least one, and there are no loops, so the first is found before the budget is asked.
 */
static void close_over(struct grammar *g, uint32_t at, uint32_t frame)
{
    for (;;) {
        const struct node *node = &g->nodes[at];

        if (!is_alive(g, at, frame) || (g->n_steps++ >= CLOSURE_STEPS && g->n_found > 0))
            return;
        switch ((enum node_kind)node->kind) {
        case NODE_NOTHING:
            return;
        case NODE_BYTE:
            add_found(g, at, frame);
            return;
        case NODE_EITHER:
            close_over(g, node->next, frame);
            at = node->other;
            break;
        case NODE_FORWARD:
            at = node->next;
            break;
        case NODE_CALL:
            if (!push(g, node->next, node->nesting, PLAIN_CALL, frame, &frame))
                return;
            at = g->rules[node->other];
            break;
        case NODE_REPEAT:
            close_over_repeat(g, at, 0, frame);
            return;
        case NODE_END:
            if (frame == 0) {
                add_found(g, GRAMMAR_END, 0);
                return;
            }
            const struct frame done = g->frames[frame];
            const struct node *after = &g->nodes[done.node];

            frame = done.parent;
            at = done.node;
            if (done.count != PLAIN_CALL) {
                const struct repeat *repeat = &g->repeats[after->other];
                uint32_t count = done.count + 1;

                if (repeat->max == GRAMMAR_UNBOUNDED)
                    count = MIN(count, repeat->min); /* what lies above makes no difference */
                close_over_repeat(g, at, count, frame);
                return;
            }
            break;
        }
    }
}

/* The state of the found items. */
static grammar_state intern_found(struct grammar *g)
{
    uint32_t hash = 0, slot;
    struct state *state;

    sort_found(g);
    if (g->n_found == 0)
        return GRAMMAR_DEAD;
    for (uint32_t i = 0; i < g->n_found; i++)
        hash = mix(mix(hash, g->found[i].node), g->found[i].frame);

    slot = hash % STATE_HASH_SIZE;
    for (uint32_t i; (i = g->state_hash[slot]) != 0; slot = (slot + 1) % STATE_HASH_SIZE) {
        state = &g->states[i];
        if (state->n == g->n_found &&
            memcmp(&g->items[state->first], g->found, g->n_found * sizeof(*g->found)) == 0)
            return i;
    }
    if (g->n_states == GRAMMAR_STATES_MAX || g->n_found > ITEMS_TOTAL_MAX - g->n_items) {
        g->ran_out = true;
        return GRAMMAR_DEAD;
    }
    state = &g->states[g->n_states];
    state->first = g->n_items;
    state->n = g->n_found;
    state->complete = g->found[0].node == GRAMMAR_END;
    memcpy(&g->items[g->n_items], g->found, g->n_found * sizeof(*g->found));
    g->n_items += g->n_found;
    g->state_hash[slot] = g->n_states;
    return g->n_states++;
}

/* Into empty tables: states 0 and 1 have no items, the next one is GRAMMAR_START. */
static void make_start(struct grammar *g)
{
    grammar_state state;

    g->n_states = GRAMMAR_START;
    g->n_items = 0;
    g->n_frames = 1;
    g->ran_out = false;
    g->n_found = 0;
    g->n_steps = 0;
    close_over(g, g->start, 0);
    state = intern_found(g);
    assert(state == GRAMMAR_START);
}

int grammar_seal(struct grammar *g, grammar_node start, grammar_rule *ret_rule)
{
    int r;

    if (g->full)
        return -E2BIG;
    r = find_loop(g, ret_rule);
    if (r < 0)
        return r;

    g->sealed = true;
    g->need = malloc(g->n_nodes);
    if (!g->need)
        return -ENOMEM;
    find_needs(g);
    if (g->need[start] == NESTING_INFINITE)
        return -EDOM;
    find_byte_classes(g);

    g->states = calloc(GRAMMAR_STATES_MAX, sizeof(*g->states));
    g->moves = calloc((size_t)GRAMMAR_STATES_MAX * g->n_classes, sizeof(*g->moves));
    g->items = calloc(ITEMS_TOTAL_MAX, sizeof(*g->items));
    g->frames = calloc(FRAMES_MAX, sizeof(*g->frames));
    g->state_hash = calloc(STATE_HASH_SIZE, sizeof(*g->state_hash));
    g->frame_hash = calloc(FRAME_HASH_SIZE, sizeof(*g->frame_hash));
    g->found = calloc(GRAMMAR_ITEMS_MAX, sizeof(*g->found));
    if (!g->states || !g->moves || !g->items || !g->frames || !g->state_hash || !g->frame_hash ||
        !g->found)
        return -ENOMEM;

    g->start = start;
    make_start(g);
    return 0;
}

grammar_state grammar_step(struct grammar *g, grammar_state from, uint8_t byte)
{
    const struct state *state = &g->states[from];
    grammar_state to;
    uint32_t *move;

    if (from == GRAMMAR_DEAD)
        return GRAMMAR_DEAD;
    move = &g->moves[(size_t)from * g->n_classes + g->byte_class[byte]];
    if (*move != STATE_UNKNOWN)
        return *move;

    g->n_found = 0;
    g->n_steps = 0;
    for (uint32_t i = 0; i < state->n; i++) {
        const struct item item = g->items[state->first + i];
        const struct node *node = &g->nodes[item.node];

        if (node->kind == NODE_BYTE && node->low <= byte && byte <= node->high)
            close_over(g, node->next, item.frame);
    }
    to = intern_found(g);
    if (!g->ran_out)
        *move = to;
    return to;
}

bool grammar_is_complete(const struct grammar *g, grammar_state state)
{
    return g->states[state].complete;
}

int grammar_forced_byte(const struct grammar *g, grammar_state state)
{
    const struct item *items = &g->items[g->states[state].first];
    int forced = -1;

    for (uint32_t i = 0; i < g->states[state].n; i++) {
        const struct node *node = &g->nodes[items[i].node];

        if (node->kind != NODE_BYTE || node->low != node->high ||
            (forced >= 0 && forced != node->low))
            return -1;
        forced = node->low;
    }
    return forced;
}

/* --- room ------------------------------------------------------------------------------------- */

bool grammar_ran_out(const struct grammar *g)
{
    return g->ran_out;
}

/* The same frame in the emptied table, from a copy of the old one. */
static bool keep_frame(struct grammar *g, const struct frame *old, uint32_t frame, uint32_t *ret)
{
    const struct frame *content = &old[frame];
    uint32_t parent;

    if (frame == 0) {
        *ret = 0;
        return true;
    }
    return keep_frame(g, old, content->parent, &parent) &&
           push(g, content->node, content->nesting - old[content->parent].nesting, content->count,
                parent, ret);
}

grammar_state grammar_forget(struct grammar *g, grammar_state kept)
{
    const struct state *state = &g->states[kept];
    const uint32_t n = state->n;
    _cleanup_(freep) struct item *items = malloc((size_t)n * sizeof(*items) + 1);
    _cleanup_(freep) struct frame *frames = malloc((size_t)g->n_frames * sizeof(*frames));

    if (!items || !frames)
        return kept; /* goes on without room, and tries again */
    memcpy(items, &g->items[state->first], (size_t)n * sizeof(*items));
    memcpy(frames, g->frames, (size_t)g->n_frames * sizeof(*frames));

    memset(g->moves, 0, (size_t)g->n_states * g->n_classes * sizeof(*g->moves));
    memset(g->state_hash, 0, STATE_HASH_SIZE * sizeof(*g->state_hash));
    memset(g->frame_hash, 0, FRAME_HASH_SIZE * sizeof(*g->frame_hash));
    make_start(g);

    g->n_found = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t frame;

        if (keep_frame(g, frames, items[i].frame, &frame))
            add_found(g, items[i].node, frame);
    }
    return n > 0 ? intern_found(g) : kept;
}
