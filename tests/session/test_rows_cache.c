/* SPDX-License-Identifier: MIT */

/*
 * Rows of encoded pictures: what is kept, what goes, and when.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "session/rows_cache.h"

#define WIDTH     8
#define ROW_BYTES (WIDTH * sizeof(float))

static struct rows_cache cache;

static int teardown(void **state)
{
    (void)state;
    rows_cache_done(&cache);
    assert_int_equal(cache.bytes, 0);
    return 0;
}

static struct tile_plan plan_of(uint32_t width, uint32_t height)
{
    struct tile_plan plan;

    assert_int_equal(tiles_plan_capped(&tile_settings_default, width, height, &plan, NULL), 0);
    return plan;
}

static struct picture_rows *use(uint64_t key, const struct tile_plan *plan)
{
    struct picture_rows *rows = rows_cache_use(&cache, (uint64_t[]){key, key}, plan, WIDTH);

    assert_non_null(rows);
    return rows;
}

static void fill(struct picture_rows *rows)
{
    for (size_t i = 0; i < rows->n_views; i++)
        rows->done[i] = true;
    rows->n_done = rows->n_views;
}

static bool has(uint64_t key)
{
    const struct picture_rows *rows;

    TAILQ_FOREACH(rows, &cache.entries, link)
    if (rows->key[0] == key && rows->n_done == rows->n_views)
        return true;
    return false;
}

static void test_views_lie_one_after_the_other(void **state)
{
    const struct tile_plan plan = plan_of(1024, 1536); /* 2 x 3 tiles and a thumbnail */
    struct picture_rows *rows;
    size_t n = 0;

    (void)state;
    rows_cache_init(&cache, 1 << 20);
    rows = use(1, &plan);
    assert_int_equal(rows->n_views, plan.n_views);
    assert_true(rows->n_views > 2);
    for (size_t i = 0; i < rows->n_views; i++) {
        assert_int_equal(rows->first[i], n);
        n += tile_view(&plan, i).n_tokens;
    }
    assert_int_equal(rows->bytes, n * ROW_BYTES);
    assert_int_equal(rows->bytes, cache.bytes);
    rows_cache_release(&cache, rows);
}

static void test_what_is_not_complete_is_not_found_and_does_not_stay(void **state)
{
    const struct tile_plan plan = plan_of(512, 512);
    struct picture_rows *rows, *same;

    (void)state;
    rows_cache_init(&cache, 1 << 20);
    rows = use(1, &plan);
    assert_false(has(1));
    same = use(1, &plan); /* two turns may fill it together */
    assert_ptr_equal(same, rows);
    rows_cache_release(&cache, same);
    assert_int_equal(cache.bytes, rows->bytes);
    rows_cache_release(&cache, rows);
    assert_int_equal(cache.bytes, 0);

    rows = use(1, &plan);
    fill(rows);
    assert_true(has(1));
    rows_cache_release(&cache, rows);
    assert_true(has(1));
    rows_cache_release(&cache, NULL);
}

static void test_what_was_used_longest_ago_goes_first(void **state)
{
    const struct tile_plan plan = plan_of(512, 512);
    const size_t one = plan.n_image_tokens * ROW_BYTES;

    (void)state;
    rows_cache_init(&cache, 3 * one);
    for (uint64_t key = 1; key <= 3; key++) {
        struct picture_rows *rows = use(key, &plan);

        fill(rows);
        rows_cache_release(&cache, rows);
    }
    rows_cache_release(&cache, use(1, &plan)); /* used again */
    rows_cache_release(&cache, use(4, &plan));
    assert_true(has(1));
    assert_false(has(2));
    assert_true(has(3));
    rows_cache_limit(&cache, one);
    assert_true(has(1));
    assert_false(has(3));
    assert_int_equal(cache.bytes, one);
}

static void test_what_is_in_use_stays_whatever_the_limit(void **state)
{
    const struct tile_plan plan = plan_of(512, 512);
    struct picture_rows *rows[3];

    (void)state;
    rows_cache_init(&cache, 1);
    for (uint64_t key = 0; key < 3; key++) {
        rows[key] = use(key, &plan);
        fill(rows[key]);
    }
    for (uint64_t key = 0; key < 3; key++)
        assert_true(has(key));
    for (uint64_t key = 0; key < 3; key++) {
        rows_cache_release(&cache, rows[key]);
        assert_false(has(key));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_views_lie_one_after_the_other, teardown),
        cmocka_unit_test_teardown(test_what_is_not_complete_is_not_found_and_does_not_stay,
                                  teardown),
        cmocka_unit_test_teardown(test_what_was_used_longest_ago_goes_first, teardown),
        cmocka_unit_test_teardown(test_what_is_in_use_stays_whatever_the_limit, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
