/* SPDX-License-Identifier: MIT */

/*
 * Plans of pictures, with numbers in place of a machine: what was asked for, what it costs, and
 * what is chosen when there is less time than that.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <float.h>
#include <string.h>

#include "base/cleanup.h"
#include "session/image_plan.h"

#define SPEED 2e5 /* floating-point operations in a microsecond */

static struct vision_info vision; /* as the published 86M encoder */

static const uint32_t sizes[][2] = {
    {1, 1},       {64, 64},     {200, 300},  {512, 512},   {500, 400},  {640, 480},
    {724, 724},   {725, 725},   {800, 600},  {1024, 1024}, {1000, 300}, {300, 2000},
    {1920, 1080}, {4000, 3000}, {3000, 4000}, {10000, 100}, {40, 4000},  {8192, 8192},
};

#define FOR_EACH_SIZE(w, h)                                                                        \
    for (uint32_t i_ = 0, w, h; i_ < ARRAY_LEN(sizes) && (w = sizes[i_][0], h = sizes[i_][1], 1);  \
         i_++)

static int setup(void **state)
{
    (void)state;
    vision = (struct vision_info){
        .shape = {.n_layer = 12, .n_hidden = 768, .n_ff = 3072, .n_head = 12,
                  .n_projector = 2560, .n_embd = 1024, .n_grid = 16},
        .settings = tile_settings_default,
    };
    return 0;
}

static struct image_choice choose_within(const struct image_settings *settings, uint32_t width,
                                         uint32_t height, double flops)
{
    struct image_choice choice;
    struct error err = ERROR_INIT;

    if (image_plan_choose(settings, &vision, width, height, flops / SPEED, flops > 0 ? SPEED : 0,
                          &choice, &err) < 0)
        fail_msg("%ux%u: %s", width, height, err.text);
    assert_int_equal(choice.plan.width, width);
    assert_int_equal(choice.plan.height, height);
    assert_true(choice.cost == tiles_cost(&choice.plan, &vision.shape));
    return choice;
}

static struct image_choice choose(const struct image_settings *settings, uint32_t width,
                                  uint32_t height)
{
    const struct image_choice choice = choose_within(settings, width, height, 0);

    assert_false(choice.shortened);
    return choice;
}

static bool is_single(const struct image_choice *choice)
{
    return choice->plan.cols * choice->plan.rows == 1;
}

static bool same_plan(const struct tile_plan *a, const struct tile_plan *b)
{
    return a->resized_w == b->resized_w && a->resized_h == b->resized_h && a->cols == b->cols &&
           a->rows == b->rows && a->thumbnail == b->thumbnail && a->n_views == b->n_views &&
           a->n_image_tokens == b->n_image_tokens && a->n_special_tokens == b->n_special_tokens;
}

static void test_nothing_asked_for_is_what_the_file_says(void **state)
{
    const struct image_settings nothing = {0};
    struct tile_plan plan;

    (void)state;
    for (int own = 0; own < 2; own++) {
        if (own) {
            vision.settings.tiling = false;
            vision.settings.min_image_tokens = 16;
            vision.settings.max_image_tokens = 36;
        }
        FOR_EACH_SIZE(w, h)
        {
            const struct image_choice choice = choose(&nothing, w, h);

            assert_int_equal(tiles_plan_capped(&vision.settings, w, h, &plan, NULL), 0);
            assert_true(same_plan(&choice.plan, &plan));
        }
    }
}

static void test_low_is_one_view_of_few_tokens(void **state)
{
    const struct image_settings low = {.detail = IMAGE_LOW}, nothing = {0};

    (void)state;
    FOR_EACH_SIZE(w, h)
    {
        const struct image_choice choice = choose(&low, w, h);

        assert_true(is_single(&choice));
        assert_in_range(choice.plan.n_image_tokens, 1, 64);
        assert_true(choice.cost <= choose(&nothing, w, h).cost);
    }
}

static void test_what_is_named_wins_over_the_preset(void **state)
{
    const struct image_settings low = {.detail = IMAGE_LOW, .max_image_tokens = 200};
    const struct image_settings tiled = {.detail = IMAGE_LOW, .tiling = IMAGE_ON};
    const struct image_settings bare = {.thumbnail = IMAGE_OFF, .min_tiles = 4, .max_tiles = 4};
    const struct image_settings whole = {.tiling = IMAGE_OFF};
    struct image_choice choice = choose(&low, 1024, 1024);

    (void)state;
    assert_true(is_single(&choice));
    assert_in_range(choice.plan.n_image_tokens, 65, 200);
    choice = choose(&tiled, 1024, 1024);
    assert_false(is_single(&choice));
    choice = choose(&bare, 1024, 1024);
    assert_int_equal(choice.plan.n_views, 4);
    assert_false(choice.plan.thumbnail);
    choice = choose(&whole, 4000, 3000);
    assert_true(is_single(&choice));
    assert_in_range(choice.plan.n_image_tokens, 200, 256);
}

/* A smaller budget moves the border above which a picture is cut: 512 x 512 at 64 tokens would be
 * four tiles of 256. */
static void test_fewer_tokens_never_cost_more(void **state)
{
    const struct image_settings nothing = {0};
    unsigned n_traps = 0;

    (void)state;
    FOR_EACH_SIZE(w, h)
    {
        const double usual = choose(&nothing, w, h).cost;

        for (uint32_t tokens = 16; tokens < 256; tokens += 16) {
            const struct image_settings fewer = {.max_image_tokens = tokens};
            struct tile_settings formula = vision.settings;
            struct tile_plan plan;
            const struct image_choice choice = choose(&fewer, w, h);

            if (choice.cost > usual)
                fail_msg("%ux%u costs %.3g at %u tokens, %.3g without", w, h, choice.cost, tokens,
                         usual);
            formula.max_image_tokens = tokens;
            formula.min_image_tokens = MIN(formula.min_image_tokens, tokens);
            assert_int_equal(tiles_plan_capped(&formula, w, h, &plan, NULL), 0);
            n_traps += tiles_cost(&plan, &vision.shape) > usual;
        }
    }
    assert_true(n_traps > 10); /* which the formula alone walks into */
}

static void test_tiles_that_are_asked_for_are_made(void **state)
{
    const struct image_settings settings = {.max_image_tokens = 64, .tiling = IMAGE_ON};
    const struct image_choice choice = choose(&settings, 512, 512);

    (void)state;
    assert_false(is_single(&choice));
}

static void test_a_plan_fits_into_its_time_or_is_the_cheapest(void **state)
{
    const struct image_settings nothing = {0};

    (void)state;
    FOR_EACH_SIZE(w, h)
    {
        const struct image_choice wanted = choose(&nothing, w, h);
        const struct image_choice least = choose_within(&nothing, w, h, 1);
        double before = 0;

        assert_true(least.shortened || least.cost == wanted.cost);
        assert_true(least.plan.n_image_tokens >= 1);
        for (double part = 1.0 / 4096; part < 1.5; part *= 1.25) {
            const double limit = part * wanted.cost;
            const struct image_choice choice = choose_within(&nothing, w, h, limit);

            assert_true(choice.cost <= MAX(limit * (1 + DBL_EPSILON * 8), least.cost));
            assert_true(choice.cost >= before); /* more time, never less detail */
            assert_int_equal(choice.shortened, choice.cost < wanted.cost);
            if (limit >= wanted.cost)
                assert_true(same_plan(&choice.plan, &wanted.plan));
            before = choice.cost;
        }
    }
}

/* Nothing that the settings allow would have used the time much better. */
static void test_the_time_is_used(void **state)
{
    const struct image_settings nothing = {0};
    const double view = 1e11; /* about half of what 512 x 512 pixels take */

    (void)state;
    FOR_EACH_SIZE(w, h)
    {
        const struct image_choice wanted = choose(&nothing, w, h);

        for (double limit = view / 16; limit < 16 * view; limit *= 2) {
            const struct image_choice choice = choose_within(&nothing, w, h, limit);

            for (uint32_t tokens = 1; tokens <= 256; tokens++) {
                const struct image_settings single = {.tiling = IMAGE_OFF,
                                                      .max_image_tokens = tokens};
                const double cost = choose(&single, w, h).cost;

                if (cost <= limit && cost <= wanted.cost)
                    assert_true(cost <= 1.35 * choice.cost);
            }
            for (uint32_t tiles = 2; !is_single(&wanted) && tiles <= 10; tiles++) {
                const struct image_settings grid = {.max_tiles = tiles};
                const double cost = choose(&grid, w, h).cost;

                if (cost <= limit)
                    assert_true(cost <= choice.cost);
            }
        }
    }
}

static void test_an_unknown_speed_limits_nothing(void **state)
{
    const struct image_settings nothing = {0};
    const struct image_choice wanted = choose(&nothing, 4000, 3000);
    struct image_choice choice;

    (void)state;
    assert_int_equal(
        image_plan_choose(&nothing, &vision, 4000, 3000, 1, 0, &choice, NULL), 0);
    assert_true(same_plan(&choice.plan, &wanted.plan));
    assert_int_equal(
        image_plan_choose(&nothing, &vision, 4000, 3000, 0, SPEED, &choice, NULL), 0);
    assert_true(same_plan(&choice.plan, &wanted.plan));
}

static void test_a_picture_that_is_too_long_is_refused(void **state)
{
    const struct image_settings nothing = {0};
    struct image_choice choice;
    struct error err = ERROR_INIT;

    (void)state;
    assert_true(image_plan_choose(&nothing, &vision, 20100, 100, 0, 0, &choice, &err) < 0);
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "200"));
}

static void test_settings_of_a_turn_lie_over_those_of_the_session(void **state)
{
    const struct image_settings session = {
        .detail = IMAGE_LOW, .max_tiles = 6, .tiling = IMAGE_OFF, .max_encode_ms = 500};
    const struct image_settings turn = {
        .detail = IMAGE_HIGH, .tiling = IMAGE_ON, .max_image_tokens = 128};
    const struct image_settings both = image_settings_over(&session, &turn);
    const struct image_settings nothing = {0};
    const struct image_settings alone = image_settings_over(&session, &nothing);

    (void)state;
    assert_int_equal(both.detail, IMAGE_HIGH);
    assert_int_equal(both.max_tiles, 6);
    assert_int_equal(both.tiling, IMAGE_ON);
    assert_int_equal(both.max_image_tokens, 128);
    assert_int_equal(both.max_encode_ms, 500);
    assert_memory_equal(&alone, &session, sizeof(alone));
}

static void test_settings_out_of_range_are_refused_by_name(void **state)
{
    static const struct {
        struct image_settings settings;
        const char *name;
    } wrong[] = {
        {{.max_image_tokens = 1025}, "max_image_tokens"},
        {{.min_image_tokens = 300}, "min_image_tokens"},
        {{.max_tiles = 101}, "max_tiles"},
        {{.min_tiles = 11}, "min_tiles"},
        {{.min_tiles = 1}, "min_tiles"},
        {{.max_encode_ms = 3600001}, "max_encode_ms"},
    };
    static const struct image_settings right[] = {
        {0},
        {.min_image_tokens = 1, .max_image_tokens = 1024, .min_tiles = 2, .max_tiles = 100},
        {.max_image_tokens = 1},
        {.max_tiles = 1},
        {.detail = IMAGE_LOW, .max_encode_ms = 1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct error err = ERROR_INIT;

        assert_true(image_settings_check(&wrong[i].settings, &err) < 0);
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
        assert_non_null(strstr(err.text, wrong[i].name));
    }
    for (size_t i = 0; i < ARRAY_LEN(right); i++) {
        struct error err = ERROR_INIT;

        if (image_settings_check(&right[i], &err) < 0)
            fail_msg("%s", err.text);
        choose(&right[i], 1000, 700);
    }
}

static void test_settings_are_read_from_json(void **state)
{
    static const char all[] =
        "{\"detail\": \"high\", \"min_image_tokens\": 2, \"max_image_tokens\": 3, \"min_tiles\": 4,"
        " \"max_tiles\": 5, \"tiling\": false, \"thumbnail\": true, \"max_encode_ms\": 6}";
    static const struct {
        const char *json, *says;
    } wrong[] = {
        {"[]", "settings"},
        {"{\"detail\": \"best\"}", "detail"},
        {"{\"detail\": 1}", "detail"},
        {"{\"max_tiles\": \"5\"}", "max_tiles"},
        {"{\"max_tiles\": 0}", "max_tiles"},
        {"{\"max_tiles\": -1}", "max_tiles"},
        {"{\"max_tiles\": 4294967298}", "max_tiles"},
        {"{\"max_tiles\": 2.5}", "max_tiles"},
        {"{\"max_tiles\": 101}", "max_tiles"},
        {"{\"tiling\": 1}", "tiling"},
        {"{\"thumbnail\": null}", "thumbnail"},
        {"{\"sharpness\": 1}", "sharpness"},
    };
    struct image_settings settings;

    (void)state;
    assert_int_equal(image_settings_read(NULL, &settings, NULL), 0);
    assert_memory_equal(&settings, &(struct image_settings){0}, sizeof(settings));
    assert_int_equal(image_settings_read(all, &settings, NULL), 0);
    assert_int_equal(settings.detail, IMAGE_HIGH);
    assert_int_equal(settings.min_image_tokens, 2);
    assert_int_equal(settings.max_image_tokens, 3);
    assert_int_equal(settings.min_tiles, 4);
    assert_int_equal(settings.max_tiles, 5);
    assert_int_equal(settings.tiling, IMAGE_OFF);
    assert_int_equal(settings.thumbnail, IMAGE_ON);
    assert_int_equal(settings.max_encode_ms, 6);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct error err = ERROR_INIT;

        assert_true(image_settings_read(wrong[i].json, &settings, &err) < 0);
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
        if (!strstr(err.text, wrong[i].says))
            fail_msg("%s: %s", wrong[i].json, err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_nothing_asked_for_is_what_the_file_says, setup),
        cmocka_unit_test_setup(test_low_is_one_view_of_few_tokens, setup),
        cmocka_unit_test_setup(test_what_is_named_wins_over_the_preset, setup),
        cmocka_unit_test_setup(test_fewer_tokens_never_cost_more, setup),
        cmocka_unit_test_setup(test_tiles_that_are_asked_for_are_made, setup),
        cmocka_unit_test_setup(test_a_plan_fits_into_its_time_or_is_the_cheapest, setup),
        cmocka_unit_test_setup(test_the_time_is_used, setup),
        cmocka_unit_test_setup(test_an_unknown_speed_limits_nothing, setup),
        cmocka_unit_test_setup(test_a_picture_that_is_too_long_is_refused, setup),
        cmocka_unit_test_setup(test_settings_of_a_turn_lie_over_those_of_the_session, setup),
        cmocka_unit_test_setup(test_settings_out_of_range_are_refused_by_name, setup),
        cmocka_unit_test_setup(test_settings_are_read_from_json, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
