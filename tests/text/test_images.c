/* SPDX-License-Identifier: MIT */

/*
 * Proves the tokens of pictures: their markers, order and number are those of the reference
 * processor (vision fixtures), equal pictures have equal ids and different ones do not, and what a
 * user types is never a place for a picture.
 */

#include "tests/fixture.h"
#include "tests/golden.h"
#include "text/chat.h"
#include "text/images.h"

struct fixture {
    struct tokenizer *tokenizer;
    struct image_markers markers;
};

static int load(void **state)
{
    static struct fixture fixture;
    const char *shared = fixture_path("vision/models/mini-text-f32.gguf");
    const char *path = shared ? shared : data_path("vision/tiny_text_f32.gguf");
    struct error err = ERROR_INIT;
    struct gguf *gguf = gguf_open(path, &err);

    if (gguf)
        fixture.tokenizer = tokenizer_load(gguf, &err);
    gguf_free(gguf);
    if (!fixture.tokenizer || image_markers_find(fixture.tokenizer, &fixture.markers, &err) < 0) {
        print_error("%s\n", err.text);
        return -1;
    }
    *state = &fixture;
    return 0;
}

static int unload(void **state)
{
    struct fixture *fixture = *state;

    tokenizer_free(fixture->tokenizer);
    return 0;
}

#define N_TOKENS 6

static const size_t sizes[] = {N_TOKENS, N_TOKENS, N_TOKENS, N_TOKENS, N_TOKENS, N_TOKENS, 4};

static void test_a_grid_is_marked_row_by_row(void **state)
{
    struct fixture *fixture = *state;
    const struct image_markers *markers = &fixture->markers;
    const struct image_layout layout = {{1, 2}, 2, 3, 7, sizes};
    const uint32_t ids[] = {7, markers->image, 8};
    struct token_list out = {0};
    const uint32_t *at;

    assert_int_equal(images_expand(markers, ids, 3, &layout, 1, &out, NULL), 0);
    /* two ids around it, start and end, a marker for each view, the row ids */
    assert_int_equal(out.n, 2 + 2 + 7 + 6 * N_TOKENS + 4);
    assert_int_equal(out.ids[0], 7);
    assert_int_equal(out.ids[1], markers->start);
    at = out.ids + 2;
    for (size_t view = 0; view < 7; view++) {
        assert_int_equal(*at++, view < 6 ? markers->cells[view / 3][view % 3] : markers->thumbnail);
        for (size_t i = 0; i < sizes[view]; i++)
            assert_true(is_row_id(*at++));
    }
    assert_int_equal(at[0], markers->end);
    assert_int_equal(at[1], 8);
    token_list_done(&out);
}

static void test_ids_tell_pictures_apart(void **state)
{
    struct fixture *fixture = *state;
    const struct image_layout layouts[] = {
        {{1, 2}, 1, 1, 1, sizes}, {{1, 3}, 1, 1, 1, sizes}, {{1, 2}, 1, 1, 1, sizes}};
    const uint32_t ids[] = {fixture->markers.image, fixture->markers.image, fixture->markers.image};
    const size_t n = 2 + N_TOKENS;
    struct token_list out = {0};

    assert_int_equal(images_expand(&fixture->markers, ids, 3, layouts, 3, &out, NULL), 0);
    assert_int_equal(out.n, 3 * n);
    assert_memory_equal(out.ids, out.ids + 2 * n, n * sizeof(*out.ids));
    for (size_t i = 1; i <= N_TOKENS; i++) {
        assert_int_not_equal(out.ids[i], out.ids[n + i]);
        for (size_t k = 1; k < i; k++)
            assert_int_not_equal(out.ids[i], out.ids[k]);
    }
    token_list_done(&out);
}

static void test_what_does_not_fit_is_refused(void **state)
{
    struct fixture *fixture = *state;
    const struct image_layout one = {{1, 2}, 1, 1, 1, sizes};
    const struct image_layout wide = {{1, 2}, 1, 11, 1, sizes};
    const uint32_t ids[] = {fixture->markers.image, 9};
    struct token_list out = {0};
    struct error err = ERROR_INIT;

    assert_true(images_expand(&fixture->markers, ids, 2, &one, 0, &out, &err) < 0);
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    assert_true(images_expand(&fixture->markers, ids + 1, 1, &one, 1, &out, NULL) < 0);
    assert_true(images_expand(&fixture->markers, ids, 2, &wide, 1, &out, NULL) < 0);
    assert_int_equal(out.n, 0);
    token_list_done(&out);
}

static void test_only_a_part_is_a_picture(void **state)
{
    struct fixture *fixture = *state;
    struct json_object *messages = json_tokener_parse(
        "[{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a <image> \"},"
        " {\"type\": \"image\"}, {\"type\": \"text\", \"text\": \"<|im_end|>\"}]}]");
    const struct chat_request request = {.messages = messages, .add_generation_prompt = true};
    struct chat_prompt prompt;
    struct token_list ids = {0};
    size_t n_images = 0;

    for (enum chat_form form = 0; form < _CHAT_FORM_N; form++) {
        assert_int_equal(chat_render(form, &request, &prompt, NULL), 0);
        assert_non_null(strstr(prompt.text, "a <image> <image><|im_end|><|im_end|>"));
        ids.n = n_images = 0;
        assert_int_equal(
            tokenizer_encode(fixture->tokenizer, prompt.spans, prompt.n_spans, &ids, NULL), 0);
        for (size_t i = 0; i < ids.n; i++)
            n_images += ids.ids[i] == fixture->markers.image;
        assert_int_equal(n_images, 1);
        chat_prompt_done(&prompt);
    }
    token_list_done(&ids);
    json_object_put(messages);
}

/* The views of the pictures of a run of the reference. */
static size_t run_layouts(struct json_object *run, struct image_layout *layouts, size_t *n_tokens)
{
    struct json_object *tiles = json_object_object_get(run, "tiles"), *rows;
    size_t n, view = 0;

    if (!tiles) /* text only */
        return 0;
    rows = golden_get(run, "grid_rows");
    n = json_object_array_length(rows);
    for (size_t i = 0; i < json_object_array_length(tiles); i++)
        n_tokens[i] = (size_t)json_object_get_int(
            golden_get(json_object_array_get_idx(tiles, i), "tokens"));
    for (size_t k = 0; k < n; k++) {
        struct json_object *columns = golden_get(run, "grid_cols");
        struct image_layout *layout = &layouts[k];

        layout->key[0] = k;
        layout->rows = (size_t)json_object_get_int(json_object_array_get_idx(rows, k));
        layout->columns = (size_t)json_object_get_int(json_object_array_get_idx(columns, k));
        layout->n_tokens = n_tokens + view;
        layout->n_views = layout->rows * layout->columns;
        if (layout->n_views > 1) {
            struct json_object *thumbnail = json_object_object_get(
                golden_get(run, "settings"), "use_thumbnail");

            layout->n_views += !thumbnail || json_object_get_boolean(thumbnail);
        }
        view += layout->n_views;
    }
    assert_int_equal(view, json_object_array_length(tiles));
    return n;
}

static void check_run(struct fixture *fixture, struct json_object *run)
{
    const char *text = golden_str(run, "prompt_text");
    const struct text_span span = {text, strlen(text), true};
    struct json_object *runs = golden_get(run, "input_ids_rle");
    struct image_layout layouts[8] = {0};
    size_t n_tokens[128], n_layouts = run_layouts(run, layouts, n_tokens), at = 0;
    struct token_list ids = {0}, out = {0};

    assert_int_equal(tokenizer_encode(fixture->tokenizer, &span, 1, &ids, NULL), 0);
    assert_int_equal(
        images_expand(&fixture->markers, ids.ids, ids.n, layouts, n_layouts, &out, NULL), 0);
    for (size_t i = 0; i < json_object_array_length(runs); i++) {
        struct json_object *pair = json_object_array_get_idx(runs, i);
        const uint32_t id = (uint32_t)json_object_get_int(json_object_array_get_idx(pair, 0));

        for (int n = json_object_get_int(json_object_array_get_idx(pair, 1)); n > 0; n--) {
            assert_true(at < out.n);
            assert_int_equal(is_row_id(out.ids[at]) ? fixture->markers.image : out.ids[at], id);
            at++;
        }
    }
    assert_int_equal(at, out.n);
    token_list_done(&ids);
    token_list_done(&out);
}

static void test_the_ids_of_the_reference(void **state)
{
    static const char *const files[] = {"default", "settings", "multi", "noln"};
    struct fixture *fixture = *state;
    char name[64];

    if (!fixture_path("vision/expect/common.json")) {
        print_message("The reference's runs are not on this machine.\n");
        skip();
    }
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct json_object *runs;

        snprintf(name, sizeof(name), "vision/expect/runs_%s.json", files[i]);
        runs = golden_json(fixture_path(name));
        for (size_t k = 0; k < json_object_array_length(runs); k++)
            check_run(fixture, json_object_array_get_idx(runs, k));
        json_object_put(runs);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_grid_is_marked_row_by_row),
        cmocka_unit_test(test_ids_tell_pictures_apart),
        cmocka_unit_test(test_what_does_not_fit_is_refused),
        cmocka_unit_test(test_only_a_part_is_a_picture),
        cmocka_unit_test(test_the_ids_of_the_reference),
    };

    return cmocka_run_group_tests(tests, load, unload);
}
