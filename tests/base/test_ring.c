/* SPDX-License-Identifier: MIT */
/* Proves that two threads hand items over whole, in order and without loss, that full and empty are
 * told apart at every fill and across the wrap, and that impossible sizes are refused. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/ring.h"

#define ITEMS 20000
#define WORDS 7 /* an item that is not written at once */

struct item {
    uint64_t words[WORDS];
};

static void *write_all(void *argument)
{
    struct ring *ring = argument;

    for (uint64_t i = 0; i < ITEMS;) {
        struct item *item = ring_write_begin(ring);

        if (!item) {
            sched_yield();
            continue;
        }
        for (uint64_t w = 0; w < WORDS; w++)
            item->words[w] = i * WORDS + w;
        ring_write_end(ring);
        i++;
    }
    return NULL;
}

static void test_two_threads_lose_and_tear_nothing(void **state)
{
    struct error err = ERROR_INIT;
    struct ring ring;
    pthread_t writer;
    size_t most = 0;

    (void)state;
    assert_int_equal(ring_init(&ring, 5, sizeof(struct item), &err), 0);
    assert_int_equal(pthread_create(&writer, NULL, write_all, &ring), 0);
    for (uint64_t i = 0; i < ITEMS;) {
        const struct item *item = ring_read_begin(&ring);
        const size_t n = ring_n_items(&ring);

        most = n > most ? n : most;
        if (!item) {
            sched_yield();
            continue;
        }
        for (uint64_t w = 0; w < WORDS; w++)
            assert_int_equal(item->words[w], i * WORDS + w);
        ring_read_end(&ring);
        i++;
    }
    pthread_join(writer, NULL);
    assert_null(ring_read_begin(&ring));
    assert_in_range(most, 1, 8);
    ring_done(&ring);
}

static void test_full_and_empty_are_told_apart_at_every_fill(void **state)
{
    struct error err = ERROR_INIT;
    struct ring ring;
    unsigned next_in = 0, next_out = 0;

    (void)state;
    assert_int_equal(ring_init(&ring, 4, sizeof(unsigned), &err), 0);
    /* Indices that wrap on the way. */
    atomic_store(&ring.n_written, SIZE_MAX - 5);
    atomic_store(&ring.n_read, SIZE_MAX - 5);
    ring.n_read_seen = ring.n_written_seen = SIZE_MAX - 5;
    for (unsigned fill = 0; fill <= 4; fill++) {
        for (unsigned turn = 0; turn < 9; turn++) {
            for (unsigned i = 0; i < fill; i++) {
                unsigned *item = ring_write_begin(&ring);

                assert_non_null(item);
                *item = next_in++;
                ring_write_end(&ring);
            }
            assert_int_equal(ring_n_items(&ring), fill);
            assert_true((ring_write_begin(&ring) == NULL) == (fill == 4));
            for (unsigned i = 0; i < fill; i++) {
                const unsigned *item = ring_read_begin(&ring);

                assert_non_null(item);
                assert_ptr_equal(item, ring_read_begin(&ring)); /* until it is given back */
                assert_int_equal(*item, next_out++);
                ring_read_end(&ring);
            }
            assert_null(ring_read_begin(&ring));
        }
    }
    ring_done(&ring);
}

static void test_impossible_sizes_are_refused(void **state)
{
    static const struct {
        size_t n_items, item_bytes;
    } cases[] = {{0, 8}, {8, 0}, {SIZE_MAX, 1}, {1, SIZE_MAX}, {SIZE_MAX / 4, SIZE_MAX / 4}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = ERROR_INIT;
        struct ring ring;

        assert_true(ring_init(&ring, cases[i].n_items, cases[i].item_bytes, &err) < 0);
        assert_int_not_equal(err.code, ERROR_NONE);
        ring_done(&ring);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_threads_lose_and_tear_nothing),
        cmocka_unit_test(test_full_and_empty_are_told_apart_at_every_fill),
        cmocka_unit_test(test_impossible_sizes_are_refused),
    };

    return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
