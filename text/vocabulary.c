/* SPDX-License-Identifier: MIT */
#include "text/vocabulary.h"

#include <string.h>

#include "base/cleanup.h"

struct vocabulary *vocabulary_free(struct vocabulary *vocabulary)
{
    if (!vocabulary)
        return NULL;
    free(vocabulary->tokens);
    free(vocabulary->nodes);
    free(vocabulary->ids);
    free(vocabulary);
    return NULL;
}

static int compare_ids(const void *a, const void *b, void *userdata)
{
    const struct vocabulary *vocabulary = userdata;
    const uint32_t id_a = *(const uint32_t *)a, id_b = *(const uint32_t *)b;
    const struct vocabulary_token *x = &vocabulary->tokens[id_a];
    const struct vocabulary_token *y = &vocabulary->tokens[id_b];
    const int order = memcmp(x->text, y->text, MIN(x->length, y->length));

    if (order != 0)
        return order;
    if (x->length != y->length)
        return x->length < y->length ? -1 : 1;
    return (id_a > id_b) - (id_a < id_b);
}

static size_t common_length(const struct vocabulary_token *a, const struct vocabulary_token *b)
{
    const size_t n = MIN(a->length, b->length);
    size_t i = 0;

    while (i < n && a->text[i] == b->text[i])
        i++;
    return i;
}

/* In order of their bytes, a token adds the nodes that it does not share with the one before. */
static void build(struct vocabulary *vocabulary, size_t n_ids)
{
    uint32_t path[VOCABULARY_PIECE_MAX]; /* nodes whose `next` is open */
    size_t depth = 0;
    uint32_t n = 0;

    for (size_t i = 0; i < n_ids; i++) {
        const struct vocabulary_token *token = &vocabulary->tokens[vocabulary->ids[i]];
        const size_t shared =
            i == 0 ? 0 : common_length(token, &vocabulary->tokens[vocabulary->ids[i - 1]]);

        while (depth > shared)
            vocabulary->nodes[path[--depth]].next = n;
        while (depth < token->length) {
            vocabulary->nodes[n] = (struct vocabulary_node){
                .byte = (uint8_t)token->text[depth],
                .depth = (uint8_t)depth,
                .first_id = (uint32_t)i,
            };
            path[depth++] = n++;
        }
    }
    while (depth > 0)
        vocabulary->nodes[path[--depth]].next = n;
    vocabulary->nodes[n].first_id = (uint32_t)n_ids;
    vocabulary->n_nodes = n;
}

struct vocabulary *vocabulary_new(const struct vocabulary_token *tokens, size_t n_tokens,
                                  struct error *err)
{
    struct vocabulary *vocabulary = calloc(1, sizeof(*vocabulary));
    struct vocabulary_node *nodes;
    size_t n_ids = 0, n_bytes = 0;

    if (!vocabulary)
        goto no_memory;
    vocabulary->n_tokens = n_tokens;
    vocabulary->call_start = vocabulary->call_end = UINT32_MAX;
    vocabulary->tokens = malloc((n_tokens + 1) * sizeof(*vocabulary->tokens));
    vocabulary->ids = malloc((n_tokens + 1) * sizeof(*vocabulary->ids));
    if (!vocabulary->tokens || !vocabulary->ids)
        goto no_memory;
    memcpy(vocabulary->tokens, tokens, n_tokens * sizeof(*tokens));

    for (size_t id = 0; id < n_tokens; id++) {
        if (tokens[id].kind == VOCABULARY_CALL_START)
            vocabulary->call_start = (uint32_t)id;
        if (tokens[id].kind == VOCABULARY_CALL_END)
            vocabulary->call_end = (uint32_t)id;
        if (tokens[id].kind == VOCABULARY_TEXT && tokens[id].length > 0 &&
            tokens[id].length <= VOCABULARY_PIECE_MAX) {
            vocabulary->ids[n_ids++] = (uint32_t)id;
            n_bytes += tokens[id].length;
        }
    }
    qsort_r(vocabulary->ids, n_ids, sizeof(*vocabulary->ids), compare_ids, vocabulary);

    vocabulary->nodes = malloc((n_bytes + 1) * sizeof(*vocabulary->nodes));
    if (!vocabulary->nodes)
        goto no_memory;
    build(vocabulary, n_ids);
    nodes = realloc(vocabulary->nodes, (vocabulary->n_nodes + 1) * sizeof(*nodes));
    if (nodes)
        vocabulary->nodes = nodes;
    return vocabulary;

no_memory:
    error_set(err, ERROR_NO_MEMORY, "There is no memory for a tree of %zu tokens.", n_tokens);
    return vocabulary_free(vocabulary);
}

uint32_t vocabulary_longest(const struct vocabulary *vocabulary, const char *text, size_t length,
                            size_t *ret_length)
{
    const struct vocabulary_node *nodes = vocabulary->nodes;
    uint32_t found = UINT32_MAX;
    size_t depth = 0;

    for (uint32_t i = 0; i < vocabulary->n_nodes && depth < length && nodes[i].depth == depth;) {
        if (nodes[i].byte != (uint8_t)text[depth]) {
            i = nodes[i].next;
            continue;
        }
        depth++;
        if (nodes[i].first_id < nodes[i + 1].first_id) {
            found = vocabulary->ids[nodes[i].first_id];
            *ret_length = depth;
        }
        i++;
    }
    return found;
}
