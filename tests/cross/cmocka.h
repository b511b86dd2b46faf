/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The part of cmocka that the tests of kernels use, for a processor that cmocka is not installed
 * for: the first failure ends the program.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

#define cmocka_unit_test(f) {#f, f}

#define fail_msg(...)                                                                              \
    do {                                                                                           \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                            \
        fprintf(stderr, __VA_ARGS__);                                                              \
        fputc('\n', stderr);                                                                       \
        exit(1);                                                                                   \
    } while (0)

#define assert_true(condition)                                                                     \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_msg("%s does not hold", #condition);                                              \
    } while (0)

#define assert_int_equal(a, b)       assert_true((a) == (b))
#define assert_int_not_equal(a, b)   assert_true((a) != (b))
#define assert_non_null(p)           assert_true((p) != NULL)
#define assert_string_equal(a, b)    assert_true(strcmp(a, b) == 0)
#define assert_memory_equal(a, b, n) assert_true(memcmp(a, b, n) == 0)

#define cmocka_run_group_tests_name(group, tests, setup, teardown)                                 \
    run_group(group, tests, sizeof(tests) / sizeof((tests)[0]))

static inline int run_group(const char *group, const struct CMUnitTest *tests, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        void *state = NULL;

        printf("%s: %s\n", group, tests[i].name);
        fflush(stdout);
        tests[i].run(&state);
    }
    return 0;
}
