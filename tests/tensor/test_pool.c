/* SPDX-License-Identifier: MIT */
/* Proves that every unit runs exactly once, for many small jobs in a row and odd sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tensor/pool.h"

#define UNITS 1000

static unsigned char count[UNITS];
static atomic_uint bad_worker;

static void count_units(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const unsigned n_threads = *(const unsigned *)context;

    if (worker >= n_threads)
        atomic_fetch_add(&bad_worker, 1);
    memset(scratch, (int)worker, 4096);
    for (size_t i = first; i < last; i++)
        count[i]++;
}

static void test_every_unit_runs_once(void **state)
{
    (void)state;
    for (unsigned n_threads = 1; n_threads <= 5; n_threads += 2) {
        struct error err = ERROR_INIT;
        struct pool *pool = pool_new(n_threads, &err);

        assert_non_null(pool);
        assert_int_equal(pool_n_threads(pool), n_threads);
        for (size_t job = 0; job < 3000; job++) {
            const size_t n = job % UNITS, chunk = 1 + job % 7;

            memset(count, 0, sizeof(count));
            pool_run(pool, count_units, &n_threads, n, chunk);
            for (size_t i = 0; i < UNITS; i++)
                assert_int_equal(count[i], i < n);
        }
        pool_free(pool);
    }
    assert_int_equal(bad_worker, 0);
}

/* A context that is gone when pool_run() has returned, and jobs that differ much in size: a worker
 * that was scheduled out with the word of a finished job must not claim from the next one. */
static void note_context(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    atomic_uint *n_run = *(atomic_uint **)context;

    (void)worker;
    (void)scratch;
    atomic_fetch_add(n_run, (unsigned)(last - first));
}

static void test_a_late_worker_claims_nothing_from_the_next_job(void **state)
{
    struct error err = ERROR_INIT;
    struct pool *pool = pool_new(8, &err);

    (void)state;
    for (unsigned job = 0; job < 300000; job++) {
        const size_t n = job % 2 ? 2 + job % 3 : 40 + job % 50;
        atomic_uint n_run = 0;
        atomic_uint *context = &n_run;

        pool_run(pool, note_context, &context, n, 1);
        assert_int_equal(n_run, n);
    }
    pool_free(pool);
}

static void test_workers_that_fell_asleep_wake_up(void **state)
{
    struct error err = ERROR_INIT;
    unsigned n_threads = 3;
    struct pool *pool = pool_new(n_threads, &err);

    (void)state;
    for (int round = 0; round < 20; round++) {
        memset(count, 0, sizeof(count));
        pool_run(pool, count_units, &n_threads, UNITS, 1);
        for (size_t i = 0; i < UNITS; i++)
            assert_int_equal(count[i], 1);
        usleep(2000);
    }
    pool_free(pool);
    assert_null(pool_free(NULL));
}

static void test_too_many_threads_are_refused(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_null(pool_new(POOL_THREADS_MAX + 1, &err));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
}

static void test_workers_tell_their_threads(void **state)
{
    struct error err = ERROR_INIT;
    struct pool *pool = pool_new(3, &err);
    pid_t ids[3] = {0};

    (void)state;
    assert_non_null(pool);
    for (unsigned i = 0; i < 1000 && pool_thread_ids(pool, ids, 3) < 2; i++)
        usleep(10000);
    assert_int_equal(pool_thread_ids(pool, ids, 3), 2);
    assert_true(ids[0] > 0 && ids[1] > 0 && ids[0] != ids[1]);
    assert_true(ids[0] != gettid() && ids[1] != gettid());
    assert_int_equal(pool_thread_ids(pool, ids, 1), 1);
    pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_unit_runs_once),
        cmocka_unit_test(test_a_late_worker_claims_nothing_from_the_next_job),
        cmocka_unit_test(test_workers_that_fell_asleep_wake_up),
        cmocka_unit_test(test_too_many_threads_are_refused),
        cmocka_unit_test(test_workers_tell_their_threads),
    };

    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
