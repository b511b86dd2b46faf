/* SPDX-License-Identifier: MIT */
/* Holds the pair of files of this repository that sees, run by this engine, to
 * its published figures: every question of models/eval/vision.jsonl is asked about its picture and
 * the greedy reply compared with what is expected; all of them may fall at most 3 points below
 * models/lfmd-see.json. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "session/layout.h"
#include "tests/greedy.h"
#include "text/lm.h"
#include "vision/decoder.h"
#include "vision/vision.h"

#define MODELS    LFMD_SOURCE_ROOT "/models/"
#define CONTEXT   512
#define TOLERANCE 3.0
#define REPLY_MAX 100
#define ROWS_MAX  64
#define WIDTH_MAX 256

struct shown {
    struct picture_layout layout;
    float rows[ROWS_MAX][WIDTH_MAX];
    const float *pointers[ROWS_MAX];
};

static struct pool *pool;
static struct lm *lm;
static struct vision *vision;
static struct sequence *sequence;
static struct image_markers markers;

static void show(const char *name, struct shown *shown)
{
    const size_t width = vision_info(vision)->shape.n_embd;
    const uint64_t key[2] = {1, 2};
    float *rows = malloc(sizeof(float) * ROWS_MAX * width);
    struct image image;
    struct tile_plan plan;
    struct error err = ERROR_INIT;
    char path[512];
    size_t bytes;
    int fd, source;

    assert_non_null(rows);
    snprintf(path, sizeof(path), MODELS "eval/%s", name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    if (image_source(fd, &decode_limits_default, &source, &bytes, &err) < 0 ||
        image_decode(image_decoder_path(), source, &decode_limits_default, NULL, &image, &err) < 0)
        fail_msg("%s: %s", path, err.text);
    close(fd);
    close(source);
    assert_int_equal(tiles_plan_capped(&vision_info(vision)->settings, image.width, image.height,
                                       &plan, &err), 0);
    assert_true(plan.n_image_tokens <= ROWS_MAX && width <= WIDTH_MAX);
    struct picture *picture = picture_new(&image, &plan, pool, &err);
    assert_non_null(picture);
    assert_int_equal(vision_encode(vision, picture, 0, plan.n_views, NULL, rows, NULL, &err), 0);
    assert_int_equal(picture_layout_init(&shown->layout, &plan, key, &err), 0);
    for (size_t i = 0; i < plan.n_image_tokens; i++) {
        memcpy(shown->rows[i], rows + i * width, width * sizeof(float));
        shown->pointers[i] = shown->rows[i];
    }
    picture_free(picture);
    image_done(&image);
    free(rows);
}

static struct json_object *part(const char *type, struct json_object *text)
{
    struct json_object *made = json_object_new_object();

    json_object_object_add(made, "type", json_object_new_string(type));
    if (text)
        json_object_object_add(made, "text", json_object_get(text));
    return made;
}

/* [{"role": "user", "content": [image, question]}] */
static struct json_object *asked(struct json_object *item)
{
    struct json_object *messages = json_object_new_array();
    struct json_object *message = json_object_new_object();
    struct json_object *content = json_object_new_array();

    if (json_object_object_get_ex(item, "picture", NULL))
        json_object_array_add(content, part("image", NULL));
    json_object_array_add(content, part("text", json_object_object_get(item, "question")));
    json_object_object_add(message, "role", json_object_new_string("user"));
    json_object_object_add(message, "content", content);
    json_object_array_add(messages, message);
    return messages;
}

static bool item_is_right(struct json_object *item)
{
    const char *picture = json_object_get_string(json_object_object_get(item, "picture"));
    const char *expected = json_object_get_string(json_object_object_get(item, "expect"));
    struct json_object *messages = asked(item);
    const struct chat_request request = {.messages = messages, .add_generation_prompt = true};
    struct shown *shown = calloc(1, sizeof(*shown));
    struct token_list plain = {0}, ids = {0};
    struct error err = ERROR_INIT;
    struct chat_prompt prompt;
    float *logits = NULL;
    char reply[4096];

    assert_non_null(shown);
    if (picture)
        show(picture, shown);
    if (chat_render(lm->form, &request, &prompt, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(tokenizer_encode(lm->tokenizer, prompt.spans, prompt.n_spans, &plain, &err),
                     0);
    assert_int_equal(images_expand(&markers, plain.ids, plain.n, &shown->layout.layout,
                                   picture ? 1 : 0, &ids, &err), 0);
    assert_int_equal(sequence_rewind(sequence, ids.ids, 0), 0);
    for (size_t n = 0, rows = 0; n < ids.n;) {
        const size_t chunk = MIN(ids.n - n, lm->n_rows_max);

        assert_int_equal(sequence_feed_rows(sequence, ids.ids + n, chunk, shown->pointers + rows,
                                              NULL, &logits), 0);
        for (size_t i = 0; i < chunk; i++)
            rows += is_row_id(ids.ids[n + i]);
        n += chunk;
    }
    greedy_reply(sequence, lm->tokenizer, logits, REPLY_MAX, reply,
                 sizeof(reply));
    if (strcmp(reply, expected) != 0)
        print_message("%s: %s -> \"%s\", expected \"%s\"\n", picture ? picture : "no picture",
                      json_object_get_string(json_object_object_get(item, "question")), reply,
                      expected);
    token_list_done(&plain);
    token_list_done(&ids);
    chat_prompt_done(&prompt);
    picture_layout_done(&shown->layout);
    free(shown);
    json_object_put(messages);
    return strcmp(reply, expected) == 0;
}

static void test_the_sample_reaches_its_published_figure(void **state)
{
    struct json_object *published = json_object_from_file(MODELS "lfmd-see.json"), *all;
    FILE *file = fopen(MODELS "eval/vision.jsonl", "r");
    size_t n = 0, right = 0, capacity = 0;
    char *line = NULL;

    (void)state;
    assert_non_null(published);
    assert_non_null(file);
    while (getline(&line, &capacity, file) > 0) {
        struct json_object *item = json_tokener_parse(line);

        assert_non_null(item);
        n++;
        right += item_is_right(item);
        json_object_put(item);
    }
    assert_true(json_object_object_get_ex(published, "all", &all));
    assert_int_equal(n, json_object_get_int(json_object_object_get(all, "n")));
    const double reached = 100.0 * (double)right / (double)n;
    const double wanted = json_object_get_double(json_object_object_get(all, "exact"));
    print_message("%zu of %zu replies are right: %.1f %%, published %.1f %%\n", right, n, reached,
                  wanted);
    assert_true(reached >= wanted - TOLERANCE);
    free(line);
    fclose(file);
    json_object_put(published);
}

static int load(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    pool = pool_new(2, &err);
    lm = pool ? lm_load(MODELS "lfmd-see-q8_0.gguf", false, pool, &err) : NULL;
    vision = lm ? vision_load(MODELS "mmproj-lfmd-see-q8_0.gguf", false, pool, &err) : NULL;
    sequence = vision ? sequence_new(lm, CONTEXT, KV_F16, &err) : NULL;
    if (!sequence || image_markers_find(lm->tokenizer, &markers, &err) < 0) {
        print_error("%s\n", err.text);
        return -1;
    }
    return 0;
}

static int unload(void **state)
{
    (void)state;
    sequence_free(sequence);
    vision_free(vision);
    lm_free(lm);
    pool_free(pool);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_sample_reaches_its_published_figure),
    };

    return cmocka_run_group_tests(tests, load, unload);
}
