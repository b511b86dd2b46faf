/* SPDX-License-Identifier: MIT */
/* Proves that nothing is lost or reordered between several writers and one reader, and that the
 * descriptor is readable exactly while the queue holds something. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/queue.h"

#define WRITERS 4
#define NODES   5000

struct item {
    struct queue_node node;
    unsigned writer, number;
};

static struct queue queue;
static struct item items[WRITERS][NODES];

static void *write_all(void *argument)
{
    const unsigned writer = (unsigned)(uintptr_t)argument;

    for (unsigned i = 0; i < NODES; i++) {
        items[writer][i].writer = writer;
        items[writer][i].number = i;
        queue_push(&queue, &items[writer][i].node);
    }
    return NULL;
}

static void test_several_writers_lose_nothing(void **state)
{
    struct error err = ERROR_INIT;
    unsigned next[WRITERS] = {0};
    pthread_t threads[WRITERS];
    size_t n = 0;

    (void)state;
    assert_int_equal(queue_init(&queue, &err), 0);
    for (uintptr_t w = 0; w < WRITERS; w++)
        pthread_create(&threads[w], NULL, write_all, (void *)w);
    while (n < (size_t)WRITERS * NODES) {
        struct item *item;

        assert_true(queue_wait(&queue, 10000000));
        while ((item = (struct item *)queue_pop(&queue))) {
            assert_int_equal(item->number, next[item->writer]++);
            n++;
        }
    }
    for (unsigned w = 0; w < WRITERS; w++)
        pthread_join(threads[w], NULL);
    assert_false(queue_wait(&queue, 0));
    queue_done(&queue);
}

static void test_descriptor_follows_the_list(void **state)
{
    struct error err = ERROR_INIT;
    struct queue_node a, b;
    struct pollfd pfd = {.events = POLLIN};

    (void)state;
    assert_int_equal(queue_init(&queue, &err), 0);
    pfd.fd = queue.fd;
    assert_int_equal(poll(&pfd, 1, 0), 0);
    queue_push(&queue, &a);
    queue_push(&queue, &b);
    assert_int_equal(poll(&pfd, 1, 0), 1);
    assert_ptr_equal(queue_pop(&queue), &a);
    assert_int_equal(poll(&pfd, 1, 0), 1);
    assert_ptr_equal(queue_pop(&queue), &b);
    assert_int_equal(poll(&pfd, 1, 0), 0);
    assert_null(queue_pop(&queue));
    queue_done(&queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_several_writers_lose_nothing),
        cmocka_unit_test(test_descriptor_follows_the_list),
    };

    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
