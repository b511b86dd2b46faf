/* SPDX-License-Identifier: MIT */
/* Proves that a call that ends is waited for, that one that does not is left behind and undone when
 * it ends after all, and that only so many are. */
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "audio/device/guard.h"

static sem_t gate;
static atomic_uint n_run, n_left, n_late;

static void run(void *job)
{
    if (job)
        sem_wait(&gate);
    atomic_fetch_add(&n_run, 1);
}

static void leave(void *job)
{
    (void)job;
    atomic_fetch_add(&n_left, 1);
}

static void late(void *job)
{
    (void)job;
    atomic_fetch_add(&n_late, 1);
}

static const struct guarded calls = {.run = run, .leave = leave, .late = late};

static void test_a_call_that_ends_is_waited_for(void **state)
{
    (void)state;
    assert_int_equal(guard_run(&calls, NULL, 60000), GUARD_RETURNED);
    assert_int_equal(atomic_load(&n_run), 1);
    assert_int_equal(atomic_load(&n_left), 0);
    assert_int_equal(guard_n_left(), 0);
}

static void test_calls_that_do_not_end_are_left_behind(void **state)
{
    const struct timespec step = {.tv_nsec = 10000000};

    (void)state;
    for (unsigned i = 0; i < GUARD_LEFT_MAX; i++)
        assert_int_equal(guard_run(&calls, &gate, 10), GUARD_LEFT);
    assert_int_equal(guard_n_left(), GUARD_LEFT_MAX);
    assert_int_equal(atomic_load(&n_left), GUARD_LEFT_MAX);
    assert_int_equal(guard_run(&calls, NULL, 60000), GUARD_REFUSED);
    assert_int_equal(atomic_load(&n_run), 1);

    for (unsigned i = 0; i < GUARD_LEFT_MAX; i++)
        sem_post(&gate);
    while (guard_n_left() > 0)
        nanosleep(&step, NULL);
    assert_int_equal(atomic_load(&n_late), GUARD_LEFT_MAX);
    assert_int_equal(guard_run(&calls, NULL, 60000), GUARD_RETURNED);
    assert_int_equal(atomic_load(&n_late), GUARD_LEFT_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_that_ends_is_waited_for),
        cmocka_unit_test(test_calls_that_do_not_end_are_left_behind),
    };

    sem_init(&gate, 0, 0);
    return cmocka_run_group_tests_name("guard", tests, NULL, NULL);
}
