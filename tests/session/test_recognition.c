/* SPDX-License-Identifier: MIT */
/* A phrase that repeats itself at the end is found and said once; what merely recurs is left
 * alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "session/recognition.h"

static void test_a_loop_is_said_once(void **state)
{
    static const struct {
        uint32_t ids[24];
        size_t n, left;
    } cases[] = {
        {.n = 0, .left = 0},
        {{1, 2, 3}, 3, 3},
        {{1, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7}, 12, 12}, /* eleven of one token */
        {{1, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7}, 13, 2},
        {{1, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3}, 13, 3},
        {{9, 8, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3}, 12, 12},             /* five times, ten tokens */
        {{5, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4}, 13, 13},          /* three times */
        {{5, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4}, 17, 5}, /* four times */
        {{7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 1}, 14, 14},        /* not at the end */
        /* A loop that stops within the phrase has been one from a later token on. */
        {{5, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1}, 14, 4},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(recognition_loop(cases[i].ids, cases[i].n), cases[i].left);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_loop_is_said_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
