/* SPDX-License-Identifier: MIT */
/* Holds the model of this repository, run by this engine, to its published figures: every reply of
 * models/eval/core.jsonl is generated greedily and compared with what is expected, and each split
 * may fall at most 3 points below models/lfmd-core.json. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "tests/greedy.h"
#include "text/lm.h"

#define MODELS      LFMD_SOURCE_ROOT "/models/"
#define SPLITS_MAX  32
#define CONTEXT     2048
#define TOLERANCE   3.0
#define REPLY_MAX   200

struct split {
    const char *name;
    size_t n, right;
};

static struct pool *pool;
static struct lm *lm;
static struct sequence *sequence;
static struct json_object *all_tools;

/* The tools of tools.json with the given names, in the order of the file. */
static struct json_object *tools_of(struct json_object *names)
{
    struct json_object *tools = json_object_new_array();

    for (size_t i = 0; i < json_object_array_length(all_tools); i++) {
        struct json_object *tool = json_object_array_get_idx(all_tools, i);
        const char *name = json_object_get_string(json_object_object_get(tool, "name"));

        for (size_t k = 0; k < json_object_array_length(names); k++)
            if (strcmp(json_object_get_string(json_object_array_get_idx(names, k)), name) == 0)
                json_object_array_add(tools, json_object_get(tool));
    }
    return tools;
}

/* Feed the prompt; returns the logits after it. */
static float *feed(const struct token_list *prompt)
{
    size_t n = sequence_rewind(sequence, prompt->ids, prompt->n);
    float *logits = NULL;

    while (n < prompt->n) {
        const size_t chunk = MIN(prompt->n - n, lm->n_rows_max);

        assert_int_equal(sequence_feed(sequence, prompt->ids + n, chunk, NULL, &logits), 0);
        n += chunk;
    }
    return logits;
}

static bool item_is_right(struct json_object *item)
{
    struct json_object *names = json_object_object_get(item, "tools");
    struct json_object *tools = names ? tools_of(names) : NULL;
    const struct chat_request request = {
        .messages = json_object_object_get(item, "messages"),
        .tools = tools,
        .add_generation_prompt = true,
        .as_template = true,
    };
    const char *expected = json_object_get_string(json_object_object_get(item, "expect"));
    struct error err = ERROR_INIT;
    struct chat_prompt prompt;
    struct token_list ids = {0};
    char reply[8192];

    if (chat_render(lm->form, &request, &prompt, &err) < 0)
        fail_msg("%s", err.text);
    /* Earlier calls stand in the contents here, so that all of the text is markup. */
    const struct text_span whole = {.text = prompt.text, .length = prompt.length, .markup = true};
    assert_int_equal(tokenizer_encode(lm->tokenizer, &whole, 1, &ids, &err), 0);
    greedy_reply(sequence, lm->tokenizer, feed(&ids), REPLY_MAX, reply, sizeof(reply));

    token_list_done(&ids);
    chat_prompt_done(&prompt);
    json_object_put(tools);
    return strcmp(reply, expected) == 0;
}

static void test_every_split_reaches_its_published_figure(void **state)
{
    struct json_object *published = json_object_from_file(MODELS "lfmd-core.json");
    FILE *file = fopen(MODELS "eval/core.jsonl", "r");
    struct split splits[SPLITS_MAX];
    size_t n_splits = 0, capacity = 0;
    char *line = NULL;
    bool low = false;

    (void)state;
    assert_non_null(published);
    assert_non_null(file);
    json_object_object_foreach(published, key, unused)
    {
        (void)unused;
        assert_true(n_splits < SPLITS_MAX);
        splits[n_splits++] = (struct split){.name = key};
    }
    while (getline(&line, &capacity, file) > 0) {
        struct json_object *item = json_tokener_parse(line);
        const char *name = json_object_get_string(json_object_object_get(item, "split"));
        struct split *split = NULL;

        for (size_t i = 0; i < n_splits; i++)
            if (strcmp(splits[i].name, name) == 0)
                split = &splits[i];
        assert_non_null(split);
        split->n++;
        split->right += item_is_right(item);
        json_object_put(item);
    }
    for (size_t i = 0; i < n_splits; i++) {
        struct json_object *row = json_object_object_get(published, splits[i].name);
        const double figure = json_object_get_double(json_object_object_get(row, "exact"));
        const double reached = 100.0 * (double)splits[i].right / (double)splits[i].n;

        assert_int_equal(splits[i].n, json_object_get_int(json_object_object_get(row, "n")));
        print_message("%-12s %5.1f, published %5.1f\n", splits[i].name, reached, figure);
        low |= reached < figure - TOLERANCE;
    }
    assert_false(low);
    free(line);
    fclose(file);
    json_object_put(published);
}

static int load(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    pool = pool_new(0, &err);
    lm = pool ? lm_load(MODELS "lfmd-core-q8_0.gguf", false, pool, &err) : NULL;
    sequence = lm ? sequence_new(lm, CONTEXT, KV_F16, &err) : NULL;
    all_tools = json_object_from_file(MODELS "tools.json");
    if (!sequence)
        print_error("%s\n", err.text);
    return sequence && all_tools && lm->has_form ? 0 : -1;
}

static int unload(void **state)
{
    (void)state;
    json_object_put(all_tools);
    sequence_free(sequence);
    lm_free(lm);
    pool_free(pool);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_split_reaches_its_published_figure),
    };

    return cmocka_run_group_tests_name("default_model", tests, load, unload);
}
