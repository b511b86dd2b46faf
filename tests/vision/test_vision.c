/* SPDX-License-Identifier: MIT */

/*
 * Proves the encoder and the projector: position tables, patches, hidden rows and embeddings
 * against the reference's tensors for every type of file; and that neither grouping of views nor
 * threads change a bit.
 */

#include <errno.h>

#include "tensor/gguf.h"
#include "tests/vision/reference.h"
#include "vision/projector.h"
#include "vision/siglip.h"

static struct vision *load(const char *path, bool precise, struct pool *pool)
{
    struct error err = ERROR_INIT;
    struct vision *vision = vision_load(path, precise, pool, &err);

    if (!vision)
        fail_msg("%s", err.text);
    return vision;
}

/* --- positions -------------------------------------------------------------------------------- */

struct parts {
    struct siglip siglip;
    struct projector projector;
};

static bool load_parts(struct loader *loader, void *userdata)
{
    struct parts *parts = userdata;

    return siglip_load(loader, &parts->siglip) &&
           projector_load(loader, &parts->siglip.shape, &parts->projector);
}

static void test_position_tables_are_those_of_the_reference(void **state)
{
    struct error err = ERROR_INIT;
    struct parts parts = {0};
    struct arena arena = {0};
    struct json_object *json, *tables;
    struct gguf *gguf;
    struct pool *pool;
    size_t bytes;

    (void)state;
    if (!fixture_path("vision/expect/common.json"))
        skip();
    pool = reference_pool(2);
    gguf = gguf_open(fixture_path("vision/models/mini-mmproj-ln-f32.gguf"), &err);
    assert_int_equal(vision_shape_read(gguf, &parts.siglip.shape, &err), 0);
    assert_int_equal(loader_plan(gguf, MATRIX_FAST, "a test", load_parts, &parts, &bytes, &err), 0);
    assert_int_equal(arena_init(&arena, bytes, "a test", &err), 0);
    assert_int_equal(loader_load(gguf, MATRIX_FAST, load_parts, &parts, &arena, pool, &err), 0);

    json = golden_json(fixture_path("vision/expect/common.json"));
    tables = golden_get(json, "posembed");
    assert_true(json_object_array_length(tables) >= 6);
    for (size_t i = 0; i < json_object_array_length(tables); i++) {
        struct json_object *table = json_object_array_get_idx(tables, i);
        const size_t rows = reference_size(table, "h"), cols = reference_size(table, "w");
        const size_t n = rows * cols * parts.siglip.shape.n_hidden;
        _cleanup_(freep) float *expected = NULL;
        _cleanup_(freep) float *found = malloc(n * sizeof(*found));
        char path[256];

        snprintf(path, sizeof(path), "vision/%s", golden_str(table, "file"));
        expected = golden_floats(fixture_path(path), n);
        assert_int_equal(siglip_positions(&parts.siglip, rows, cols, pool, found, &err), 0);
        golden_close(path, found, expected, n, 1e-5);
    }
    json_object_put(json);
    arena_done(&arena);
    gguf_free(gguf);
    pool_free(pool);
}

/* --- runs of the reference -------------------------------------------------------------------- */

struct limits {
    double encoder, projector; /* largest difference; 0: not asked */
    double relative;           /* L2 of the difference over L2, of the projector; 0: not asked */
    size_t n_views;            /* of each run at most; 0: all */
};

/* The tensor of a view that the reference kept, or NULL: malloc. */
static float *kept(struct json_object *tile, const char *key, size_t n)
{
    struct json_object *file;
    char path[256];

    if (!json_object_object_get_ex(tile, key, &file))
        return NULL;
    snprintf(path, sizeof(path), "vision/%s", golden_str(file, "file"));
    return golden_floats(fixture_path(path), n);
}

static double relative(const float *found, const float *expected, size_t n)
{
    double difference = 0, length = 0;

    for (size_t i = 0; i < n; i++) {
        const double d = (double)found[i] - (double)expected[i];

        difference += d * d;
        length += (double)expected[i] * (double)expected[i];
    }
    return sqrt(difference / length);
}

/* The first and last eight values, which the reference gives for every view. */
static void check_ends(const char *what, struct json_object *statistics, const float *found,
                       size_t n, double limit)
{
    static const char *const ends[] = {"first8", "last8"};

    for (size_t e = 0; e < 2; e++)
        for (size_t i = 0; i < 8; i++) {
            const double expected = json_object_get_double(
                json_object_array_get_idx(golden_get(statistics, ends[e]), i));
            const double value = (double)found[e == 0 ? i : n - 8 + i];

            if (!(fabs(value - expected) <= limit))
                fail_msg("%s, %s[%zu]: expected %.9g, found %.9g", what, ends[e], i, expected,
                         value);
        }
}

static void check_patches(const char *what, struct json_object *tile,
                          const struct picture_view *view)
{
    static const float half[3] = {0.5f, 0.5f, 0.5f};
    const size_t n = patches_count(&view->view);
    _cleanup_(freep) float *found = malloc(n * PATCHES_VALUES * sizeof(*found));
    _cleanup_(freep) float *expected = kept(tile, "patch_file", n * PATCHES_VALUES);
    struct patches_norm norm;

    patches_norm_init(&norm, half, half);
    patches_cut(view, &norm, PATCHES_PIXELS, 0, n, found);
    check_ends(what, golden_get(tile, "patches"), found, n * PATCHES_VALUES, 1e-6);
    if (expected)
        golden_close(what, found, expected, n * PATCHES_VALUES, 1e-6);
}

/* Tensors of one run; the relative difference of its projector rows is the worst of its views. */
static double check_run(struct json_object *run, struct vision *vision, struct pool *pool,
                        const struct limits *limits, size_t *n_tensors)
{
    const struct vision_shape *shape = &vision_info(vision)->shape;
    const struct tile_settings settings = reference_settings(golden_get(run, "settings"));
    struct json_object *tiles = golden_get(run, "tiles");
    struct image image = reference_picture(golden_str(run, "name"));
    struct picture *picture = reference_views(&image, &settings, pool);
    const size_t n_views =
        limits->n_views ? MIN(limits->n_views, picture->plan.n_views) : picture->plan.n_views;
    double worst = 0;

    image_done(&image);
    for (size_t i = 0; i < n_views; i++) {
        struct json_object *tile = json_object_array_get_idx(tiles, i);
        const struct picture_view view = picture_view(picture, i);
        const size_t n_hidden = 4 * view.view.n_tokens * shape->n_hidden;
        const size_t n_embd = view.view.n_tokens * shape->n_embd;
        _cleanup_(freep) float *hidden = malloc(n_hidden * sizeof(*hidden));
        _cleanup_(freep) float *embeddings = malloc(n_embd * sizeof(*embeddings));
        _cleanup_(freep) float *encoder = kept(tile, "encoder_file", n_hidden);
        _cleanup_(freep) float *projector = kept(tile, "projector_file", n_embd);
        struct error err = ERROR_INIT;
        char what[128];

        snprintf(what, sizeof(what), "%s, view %zu", golden_str(run, "name"), i);
        check_patches(what, tile, &view);
        if (vision_encode(vision, picture, i, 1, NULL, embeddings, hidden, &err) < 0)
            fail_msg("%s: %s", what, err.text);
        if (limits->encoder > 0) {
            check_ends(what, golden_get(tile, "encoder"), hidden, n_hidden, limits->encoder);
            if (encoder)
                golden_close(what, hidden, encoder, n_hidden, limits->encoder);
        }
        if (limits->projector > 0) {
            check_ends(what, golden_get(tile, "projector"), embeddings, n_embd, limits->projector);
            if (projector)
                golden_close(what, embeddings, projector, n_embd, limits->projector);
        }
        if (projector) {
            const double found = relative(embeddings, projector, n_embd);

            worst = MAX(worst, found);
            ++*n_tensors;
        }
    }
    picture_free(picture);
    return worst;
}

static void check_file(const char *model, const char *runs_file, size_t n_runs_max, bool precise,
                       struct limits limits)
{
    char path[256];
    struct json_object *runs;
    struct pool *pool = reference_pool(2);
    struct vision *vision;
    size_t n_tensors = 0;
    double worst = 0;

    snprintf(path, sizeof(path), "vision/models/%s.gguf", model);
    vision = load(fixture_path(path), precise, pool);
    snprintf(path, sizeof(path), "vision/expect/%s.json", runs_file);
    runs = golden_json(fixture_path(path));
    for (size_t i = 0; i < MIN(json_object_array_length(runs), n_runs_max); i++) {
        const double found =
            check_run(json_object_array_get_idx(runs, i), vision, pool, &limits, &n_tensors);

        worst = MAX(worst, found);
    }
    print_message("%s%s, %s: %zu tensors, relative %.2g\n", model, precise ? " precise" : "",
                  runs_file, n_tensors, worst);
    if (limits.relative > 0) {
        assert_true(n_tensors > 0);
        assert_true(worst < limits.relative);
    }
    json_object_put(runs);
    vision_free(vision);
    pool_free(pool);
}

static void test_f32_files_give_the_reference_with_either_arithmetic(void **state)
{
    const struct limits all = {.encoder = 5e-5, .projector = 2e-5};
    const struct limits first = {.encoder = 5e-5, .projector = 2e-5, .n_views = 1};

    (void)state;
    if (!fixture_path("vision/expect/runs_default.json"))
        skip();

    check_file("mini-mmproj-ln-f32", "runs_default", SIZE_MAX, false, all);
    check_file("mini-mmproj-ln-f32", "runs_default", 8, true, first);
    check_file("mini-mmproj-ln-f32", "runs_settings", SIZE_MAX, false, first);
    check_file("mini-mmproj-noln-f32", "runs_noln", SIZE_MAX, false, first);
    check_file("mini-mmproj-noln-f32", "runs_noln", 2, true, first);
}

static void test_rounded_files_keep_their_limits(void **state)
{
    const struct limits f16 = {.relative = 2e-3, .n_views = 1};
    const struct limits q8_0 = {.relative = 3e-2, .n_views = 1};
    const struct limits f16_fast = {.relative = 1e-2, .n_views = 1};
    const struct limits q8_0_fast = {.relative = 5e-2, .n_views = 1};

    (void)state;
    if (!fixture_path("vision/expect/runs_default.json"))
        skip();
    check_file("mini-mmproj-ln-f16", "runs_default", 8, true, f16);
    check_file("mini-mmproj-ln-q8_0", "runs_default", 8, true, q8_0);
    check_file("mini-mmproj-ln-f16", "runs_default", SIZE_MAX, false, f16_fast);
    check_file("mini-mmproj-ln-q8_0", "runs_default", SIZE_MAX, false, q8_0_fast);
}

/* --- grouping --------------------------------------------------------------------------------- */

/* A picture of our own: edges, a gradient, and noise. */
static struct image drawn(uint32_t width, uint32_t height)
{
    struct image image = {.width = width, .height = height};

    image.rgb = malloc(image_bytes(width, height));
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++) {
            uint8_t *pixel = image.rgb + ((size_t)y * width + x) * 3;

            pixel[0] = (uint8_t)((x / 23 + y / 31) % 2 ? 220 : 40);
            pixel[1] = (uint8_t)(x * 255 / width);
            pixel[2] = (uint8_t)(((x * 73856093u) ^ (y * 19349663u)) >> 9);
        }
    return image;
}

/* Embeddings and hidden rows, in groups of n views: malloc. */
static float *encode_in_groups(const char *path, bool precise, const struct image *image,
                               const struct tile_settings *settings, unsigned n_threads,
                               size_t n_group, size_t *ret_n)
{
    struct pool *pool = reference_pool(n_threads);
    struct vision *vision = load(path, precise, pool);
    struct picture *picture = reference_views(image, settings, pool);
    const struct vision_shape *shape = &vision_info(vision)->shape;
    const size_t n_tokens = picture->plan.n_image_tokens;
    const size_t n_embd = n_tokens * shape->n_embd, n_hidden = 4 * n_tokens * shape->n_hidden;
    float *rows = malloc((n_embd + n_hidden) * sizeof(*rows));
    float *embeddings = rows, *hidden = rows + n_embd;

    for (size_t i = 0; i < picture->plan.n_views; i += n_group) {
        const size_t n = MIN(n_group, picture->plan.n_views - i);
        struct error err = ERROR_INIT;

        if (vision_encode(vision, picture, i, n, NULL, embeddings, hidden, &err) < 0)
            fail_msg("%s", err.text);
        for (size_t k = i; k < i + n; k++) {
            const struct tile_view view = tile_view(&picture->plan, k);

            embeddings += view.n_tokens * shape->n_embd;
            hidden += 4 * view.n_tokens * shape->n_hidden;
        }
    }
    *ret_n = n_embd + n_hidden;
    picture_free(picture);
    vision_free(vision);
    pool_free(pool);
    return rows;
}

static void test_neither_grouping_nor_threads_change_a_bit(void **state)
{
    const char *const models[] = {data_path("vision/mmproj-tiny_text_f32.gguf"),
                                  data_path("vision/mmproj-tiny_text_q8_0.gguf"),
                                  fixture_path("vision/models/mini-mmproj-ln-f16.gguf")};
    static const struct {
        unsigned n_threads;
        size_t n_group;
    } ways[] = {{1, 1}, {3, 2}, {2, 100}};
    struct tile_settings settings = tile_settings_default;
    struct image image = drawn(500, 377);

    (void)state;
    settings.min_image_tokens = 16;
    settings.max_image_tokens = 30;
    settings.tile_size = 96;
    for (size_t m = 0; m < 2 * ARRAY_LEN(models); m++) {
        const char *path = models[m / 2];
        _cleanup_(freep) float *expected = NULL;
        size_t n;

        for (size_t w = 0; path && w < ARRAY_LEN(ways); w++) {
            _cleanup_(freep) float *found = encode_in_groups(
                path, m % 2 == 1, &image, &settings, ways[w].n_threads, ways[w].n_group, &n);

            if (expected)
                golden_same(path, found, expected, n);
            else
                expected = TAKE_PTR(found);
        }
    }
    image_done(&image);
}

static void test_small_views_are_worth_one_pass_and_large_ones_are_not(void **state)
{
    struct tile_settings settings = tile_settings_default;
    struct image image = drawn(1000, 700);
    struct pool *pool = reference_pool(1);
    struct picture *picture;

    (void)state;
    picture = reference_views(&image, &settings, pool);
    assert_int_equal(vision_batch(picture, 0), 1);
    assert_int_equal(vision_batch(picture, 6), 1);
    picture_free(picture);
    settings.tile_size = 128; /* 64 patches; the thumbnail of 608x416 has 988 */
    picture = reference_views(&image, &settings, pool);
    assert_int_equal(picture->plan.n_views, 7);
    assert_int_equal(vision_batch(picture, 0), 6);
    assert_int_equal(vision_batch(picture, 6), 1);
    picture_free(picture);
    image_done(&image);
    pool_free(pool);
}

static void test_a_cancelled_encoding_stops_and_the_next_one_is_whole(void **state)
{
    struct tile_settings settings = tile_settings_default;
    struct image image = drawn(300, 200);
    const atomic_bool cancel = true;
    struct error err = ERROR_INIT;
    struct vision *vision;
    struct picture *picture;
    struct pool *pool;
    _cleanup_(freep) float *first = NULL, *second = NULL;
    size_t n;

    (void)state;
    pool = reference_pool(2);
    vision = load(data_path("vision/mmproj-tiny_text_f32.gguf"), false, pool);
    picture = reference_views(&image, &settings, pool);
    n = picture->plan.n_image_tokens * vision_info(vision)->shape.n_embd;
    first = malloc(n * sizeof(*first));
    second = malloc(n * sizeof(*second));
    assert_int_equal(vision_encode(vision, picture, 0, 1, NULL, first, NULL, &err), 0);
    assert_int_equal(vision_encode(vision, picture, 0, 1, &cancel, second, NULL, &err), -ECANCELED);
    assert_int_equal(vision_encode(vision, picture, 0, 1, NULL, second, NULL, &err), 0);
    golden_same("after a cancel", second, first, n);
    picture_free(picture);
    vision_free(vision);
    image_done(&image);
    pool_free(pool);
}

static void test_layers_one_by_one_are_the_same_and_another_encoding_ends_them(void **state)
{
    struct tile_settings settings = tile_settings_default;
    struct image image = drawn(300, 200);
    struct vision_encoding encoding, other;
    struct error err = ERROR_INIT;
    struct vision *vision;
    struct picture *picture;
    struct pool *pool;
    _cleanup_(freep) float *whole = NULL, *found = NULL;
    unsigned n_steps = 0;
    size_t n;

    (void)state;
    pool = reference_pool(2);
    vision = load(data_path("vision/mmproj-tiny_text_f32.gguf"), false, pool);
    picture = reference_views(&image, &settings, pool);
    n = picture->plan.n_image_tokens * vision_info(vision)->shape.n_embd;
    whole = malloc(n * sizeof(*whole));
    found = malloc(n * sizeof(*found));
    assert_int_equal(vision_encode(vision, picture, 0, 1, NULL, whole, NULL, &err), 0);
    assert_int_equal(vision_begin(vision, picture, 0, 1, &encoding, &err), 0);
    while (vision_step(vision, &encoding, found, NULL) == 0)
        n_steps++;
    assert_int_equal(n_steps, vision_info(vision)->shape.n_layer);
    golden_same("layer by layer", found, whole, n);

    assert_int_equal(vision_begin(vision, picture, 0, 1, &encoding, &err), 0);
    assert_int_equal(vision_step(vision, &encoding, found, NULL), 0);
    assert_int_equal(vision_begin(vision, picture, 0, 1, &other, &err), 0);
    assert_int_equal(vision_step(vision, &encoding, found, NULL), -ESTALE);
    while (vision_step(vision, &other, found, NULL) == 0)
        ;
    golden_same("in the place of another", found, whole, n);
    picture_free(picture);
    vision_free(vision);
    image_done(&image);
    pool_free(pool);
}

/* A developer may ask for a view that no session does: the workspace grows, within a limit. */
static void test_views_beyond_the_workspace_are_encoded_up_to_a_limit(void **state)
{
    struct tile_settings settings = tile_settings_default;
    struct image image = drawn(600, 500);
    struct error err = ERROR_INIT;
    struct vision *vision;
    struct picture *picture;
    struct pool *pool;
    _cleanup_(freep) float *large = NULL, *again = NULL;
    size_t n;

    (void)state;
    pool = reference_pool(2);
    vision = load(data_path("vision/mmproj-tiny_text_f32.gguf"), false, pool);
    settings.tiling = false;
    settings.min_image_tokens = settings.max_image_tokens = 600;
    picture = reference_views(&image, &settings, pool);
    assert_true(4 * picture->plan.n_image_tokens > VISION_PATCHES);
    n = picture->plan.n_image_tokens * vision_info(vision)->shape.n_embd;
    large = malloc(n * sizeof(*large));
    again = malloc(n * sizeof(*again));
    assert_int_equal(vision_encode(vision, picture, 0, 1, NULL, large, NULL, &err), 0);
    assert_int_equal(vision_encode(vision, picture, 0, 1, NULL, again, NULL, &err), 0);
    golden_same("in a larger workspace", again, large, n);
    picture_free(picture);

    settings.min_image_tokens = settings.max_image_tokens = VISION_PATCHES_MAX / 4 + 100;
    picture = reference_views(&image, &settings, pool);
    assert_true(vision_encode(vision, picture, 0, 1, NULL, NULL, NULL, &err) < 0);
    assert_non_null(strstr(err.text, "patches"));
    picture_free(picture);
    vision_free(vision);
    image_done(&image);
    pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_position_tables_are_those_of_the_reference),
        cmocka_unit_test(test_f32_files_give_the_reference_with_either_arithmetic),
        cmocka_unit_test(test_rounded_files_keep_their_limits),
        cmocka_unit_test(test_neither_grouping_nor_threads_change_a_bit),
        cmocka_unit_test(test_small_views_are_worth_one_pass_and_large_ones_are_not),
        cmocka_unit_test(test_a_cancelled_encoding_stops_and_the_next_one_is_whole),
        cmocka_unit_test(test_layers_one_by_one_are_the_same_and_another_encoding_ends_them),
        cmocka_unit_test(test_views_beyond_the_workspace_are_encoded_up_to_a_limit),
    };

    return cmocka_run_group_tests_name("vision", tests, NULL, NULL);
}
