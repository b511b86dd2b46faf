/* SPDX-License-Identifier: MIT */

/*
 * Proves that a picture gets the views that the reference processor gives it: rows of its own
 * functions (tests/data/vision/geometry.json, with grids that only the order of a Python set
 * decides), and all rows of the shared table where it is present. What sessions add (limits, caps)
 * is checked over many sizes.
 */

#include "tests/vision/reference.h"

static void check_rows(const char *path)
{
    struct json_object *rows = golden_json(path);

    assert_true(json_object_array_length(rows) > 100);
    for (size_t i = 0; i < json_object_array_length(rows); i++) {
        struct json_object *row = json_object_array_get_idx(rows, i);
        const struct tile_settings settings = reference_settings(golden_get(row, "settings"));
        struct error err = ERROR_INIT;
        struct tile_plan plan;

        if (tiles_plan(&settings, (uint32_t)reference_size(row, "w"),
                       (uint32_t)reference_size(row, "h"), &plan, &err) < 0)
            fail_msg("%s: %s", json_object_to_json_string(row), err.text);
        if (plan.resized_w != reference_size(row, "resized_w") ||
            plan.resized_h != reference_size(row, "resized_h") ||
            plan.cols != reference_size(row, "cols") || plan.rows != reference_size(row, "rows") ||
            plan.n_image_tokens != reference_size(row, "image_tokens") ||
            plan.n_special_tokens != reference_size(row, "special_tokens"))
            fail_msg("%s: found %ux%u, %u x %u tiles, %zu and %zu tokens",
                     json_object_to_json_string(row), plan.resized_w, plan.resized_h, plan.cols,
                     plan.rows, plan.n_image_tokens, plan.n_special_tokens);
    }
    json_object_put(rows);
}

static void test_plans_are_those_of_the_reference(void **state)
{
    (void)state;
    check_rows(data_path("vision/geometry.json"));
}

static void test_plans_are_those_of_the_shared_table(void **state)
{
    const char *path = fixture_path("vision/expect/geometry.json");

    (void)state;
    if (!path)
        skip();
    check_rows(path);
}

static void test_views_are_tiles_row_by_row_and_then_the_thumbnail(void **state)
{
    struct error err = ERROR_INIT;
    struct tile_plan plan;
    struct tile_view view;

    (void)state;
    assert_int_equal(tiles_plan(&tile_settings_default, 1000, 700, &plan, &err), 0);
    assert_int_equal(plan.n_views, 7);
    view = tile_view(&plan, 4);
    assert_int_equal(view.row, 2);
    assert_int_equal(view.col, 2);
    assert_int_equal(view.x, 512);
    assert_int_equal(view.y, 512);
    assert_int_equal(view.n_tokens, 256);
    view = tile_view(&plan, 6);
    assert_true(view.thumbnail);
    assert_int_equal(view.row, 0);
    assert_int_equal(view.width, 608);
    assert_int_equal(view.height, 416);

    assert_int_equal(tiles_plan(&tile_settings_default, 640, 480, &plan, &err), 0);
    assert_int_equal(plan.n_views, 1);
    view = tile_view(&plan, 0);
    assert_false(view.thumbnail);
    assert_int_equal(view.width, 576);
}

/* Whatever the formula says, a session's plan keeps its budget, and its tokens add up. */
static void test_capped_plans_keep_their_budget(void **state)
{
    static const uint32_t sides[] = {1, 2, 31, 64, 112, 144, 700, 1000, 2085, 5000, 9000, 32768};
    static const struct {
        uint32_t min, max, min_tiles, max_tiles;
    } budgets[] = {{1, 1, 2, 10},     {64, 64, 1, 1},    {64, 256, 2, 10},
                   {256, 256, 2, 40}, {1, 1024, 2, 100}, {1024, 1024, 100, 100}};

    (void)state;
    for (size_t b = 0; b < ARRAY_LEN(budgets); b++)
        for (size_t i = 0; i < ARRAY_LEN(sides) * ARRAY_LEN(sides); i++) {
            const uint32_t w = sides[i / ARRAY_LEN(sides)], h = sides[i % ARRAY_LEN(sides)];
            struct tile_settings settings = tile_settings_default;
            struct error err = ERROR_INIT;
            struct tile_plan plan;
            size_t n_tokens = 0;
            int r;

            settings.min_image_tokens = budgets[b].min;
            settings.max_image_tokens = budgets[b].max;
            settings.min_tiles = budgets[b].min_tiles;
            settings.max_tiles = budgets[b].max_tiles;
            assert_int_equal(tile_settings_check(&settings, &err), 0);
            r = tiles_plan_capped(&settings, w, h, &plan, &err);
            if (MAX(w, h) > 200 * MIN(w, h)) {
                assert_true(r < 0);
                assert_non_null(strstr(err.text, "200 times"));
                continue;
            }
            assert_int_equal(r, 0);
            assert_true(plan.n_views <= TILES_VIEWS_MAX);
            assert_true(plan.cols <= TILES_LINE_MAX && plan.rows <= TILES_LINE_MAX);
            for (size_t v = 0; v < plan.n_views; v++) {
                const struct tile_view view = tile_view(&plan, v);

                assert_true(view.width > 0 && view.width % TILES_TOKEN == 0);
                assert_true(view.height > 0 && view.height % TILES_TOKEN == 0);
                if (view.row == 0 && view.n_tokens > budgets[b].max)
                    fail_msg("%ux%u with %u tokens: a view of %ux%u", w, h, budgets[b].max,
                             view.width, view.height);
                n_tokens += view.n_tokens;
            }
            assert_int_equal(n_tokens, plan.n_image_tokens);
        }
}

static void test_a_cap_changes_only_what_exceeds_it(void **state)
{
    struct error err = ERROR_INIT;
    struct tile_settings settings = tile_settings_default;
    struct tile_plan plan, capped;

    (void)state;
    assert_int_equal(tiles_plan(&settings, 1920, 1080, &plan, &err), 0);
    assert_int_equal(tiles_plan_capped(&settings, 1920, 1080, &capped, &err), 0);
    assert_memory_equal(&plan, &capped, sizeof(plan));

    settings.min_image_tokens = settings.max_image_tokens = 64;
    assert_int_equal(tiles_plan(&settings, 112, 144, &plan, &err), 0);
    assert_int_equal(plan.n_image_tokens, 80);
    assert_int_equal(tiles_plan_capped(&settings, 112, 144, &capped, &err), 0);
    assert_int_equal(capped.resized_w, 256);
    assert_int_equal(capped.resized_h, 256);
}

static void test_settings_out_of_range_are_refused_by_name(void **state)
{
    static const struct {
        struct tile_settings settings;
        const char *name;
    } wrong[] = {
        {{0, 256, 2, 10, 512, true, true, 2.0}, "min_image_tokens"},
        {{300, 256, 2, 10, 512, true, true, 2.0}, "min_image_tokens"},
        {{64, 1025, 2, 10, 512, true, true, 2.0}, "max_image_tokens"},
        {{64, 256, 1, 10, 512, true, true, 2.0}, "min_tiles"},
        {{64, 256, 5, 4, 512, true, true, 2.0}, "min_tiles"},
        {{64, 256, 2, 101, 512, true, true, 2.0}, "max_tiles"},
        {{64, 256, 2, 10, 500, true, true, 2.0}, "tile_size"},
        {{64, 256, 2, 10, 2048, true, true, 2.0}, "tile_size"},
        {{64, 256, 2, 10, 512, true, true, 0}, "max_pixels_tolerance"},
        {{64, 256, 2, 10, 512, true, true, (double)NAN}, "max_pixels_tolerance"},
    };
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(tile_settings_check(&tile_settings_default, &err), 0);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        err = (struct error)ERROR_INIT;
        assert_true(tile_settings_check(&wrong[i].settings, &err) < 0);
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
        if (!strstr(err.text, wrong[i].name))
            fail_msg("%s: \"%s\"", wrong[i].name, err.text);
    }
}

static void test_sizes_without_a_meaning_are_refused(void **state)
{
    static const uint32_t wrong[][2] = {{0, 5}, {5, 0}, {TILES_SIDE_MAX + 1, 5}, {5, UINT32_MAX}};
    struct tile_settings settings = tile_settings_default;
    struct tile_plan plan;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct error err = ERROR_INIT;

        assert_true(tiles_plan(&settings, wrong[i][0], wrong[i][1], &plan, &err) < 0);
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    }
    settings.min_image_tokens = settings.max_image_tokens = UINT32_MAX;
    struct error err = ERROR_INIT;
    assert_true(tiles_plan(&settings, TILES_SIDE_MAX, 1, &plan, &err) < 0);
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
}

/* The figures of vision.md 5.3, without patches and projector. */
static void test_costs_are_those_of_the_encoders_products(void **state)
{
    static const struct vision_shape base = {.n_layer = 12, .n_hidden = 768, .n_ff = 3072};
    static const struct vision_shape large = {.n_layer = 27, .n_hidden = 1152, .n_ff = 4304};
    const struct tile_view small = {.n_tokens = 64}, tile = {.n_tokens = 256};
    struct error err = ERROR_INIT;
    struct tile_plan plan, untiled;
    struct tile_settings settings = tile_settings_default;

    (void)state;
    assert_true(fabs(tile_view_cost(&small, &base) * 1e-9 - 46) < 1);
    assert_true(fabs(tile_view_cost(&tile, &base) * 1e-9 - 213) < 2);
    assert_true(fabs(tile_view_cost(&small, &large) * 1e-9 - 219) < 1);
    assert_true(fabs(tile_view_cost(&tile, &large) * 1e-9 - 972) < 3);

    /* A lower budget alone makes this picture dearer; without tiles it is cheaper. */
    assert_int_equal(tiles_plan(&settings, 640, 480, &plan, &err), 0);
    const double normal = tiles_cost(&plan, &base);
    settings.max_image_tokens = 64;
    assert_int_equal(tiles_plan(&settings, 640, 480, &plan, &err), 0);
    settings.tiling = false;
    assert_int_equal(tiles_plan(&settings, 640, 480, &untiled, &err), 0);
    assert_true(tiles_cost(&plan, &base) > 3 * normal);
    assert_true(tiles_cost(&untiled, &base) < normal / 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plans_are_those_of_the_reference),
        cmocka_unit_test(test_plans_are_those_of_the_shared_table),
        cmocka_unit_test(test_views_are_tiles_row_by_row_and_then_the_thumbnail),
        cmocka_unit_test(test_capped_plans_keep_their_budget),
        cmocka_unit_test(test_a_cap_changes_only_what_exceeds_it),
        cmocka_unit_test(test_settings_out_of_range_are_refused_by_name),
        cmocka_unit_test(test_sizes_without_a_meaning_are_refused),
        cmocka_unit_test(test_costs_are_those_of_the_encoders_products),
    };

    return cmocka_run_group_tests_name("tiles", tests, NULL, NULL);
}
