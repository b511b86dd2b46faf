/* SPDX-License-Identifier: MIT */
/* Proves that a planned arena holds exactly what was planned, aligned and zeroed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"

static void test_pieces_fit_the_plan(void **state)
{
    const size_t sizes[] = {1, 64, 65, 4096, 3 << 20};
    struct error err = ERROR_INIT;
    struct arena arena;
    size_t plan = 0;

    (void)state;
    for (size_t i = 0; i < 5; i++)
        plan += arena_need(sizes[i]);
    assert_int_equal(arena_init(&arena, plan, "the test", &err), 0);
    for (size_t i = 0; i < 5; i++) {
        unsigned char *piece = arena_take(&arena, sizes[i]);

        assert_int_equal((uintptr_t)piece % ARENA_ALIGN, 0);
        assert_int_equal(piece[0], 0);
        assert_int_equal(piece[sizes[i] - 1], 0);
        piece[0] = piece[sizes[i] - 1] = 0xff;
    }
    assert_int_equal(arena.used, plan);
    arena_done(&arena);
    arena_done(&arena);
}

static void test_an_impossible_size_is_an_error_with_the_figure(void **state)
{
    struct error err = ERROR_INIT;
    struct arena arena;

    (void)state;
    assert_int_equal(arena_init(&arena, (size_t)1 << 60, "a giant", &err), -ENOMEM);
    assert_non_null(strstr(err.text, "a giant"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_fit_the_plan),
        cmocka_unit_test(test_an_impossible_size_is_an_error_with_the_figure),
    };

    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
