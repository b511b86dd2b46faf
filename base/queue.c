/* SPDX-License-Identifier: MIT */
#include "base/queue.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int queue_init(struct queue *queue, struct error *err)
{
    *queue = (struct queue){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (queue->fd < 0)
        return error_set(err, ERROR_INTERNAL, "Cannot create an event descriptor: %s.",
                         strerror(errno));
    pthread_mutex_init(&queue->lock, NULL);
    return 0;
}

void queue_done(struct queue *queue)
{
    close(queue->fd);
    pthread_mutex_destroy(&queue->lock);
}

void queue_push(struct queue *queue, struct queue_node *node)
{
    const uint64_t one = 1;
    bool was_empty;

    node->next = NULL;
    pthread_mutex_lock(&queue->lock);
    was_empty = !queue->head;
    if (was_empty)
        queue->head = node;
    else
        queue->tail->next = node;
    queue->tail = node;
    /* Under the lock, so that the descriptor never disagrees with the list. */
    if (was_empty)
        while (write(queue->fd, &one, sizeof(one)) < 0 && errno == EINTR)
            ;
    pthread_mutex_unlock(&queue->lock);
}

struct queue_node *queue_pop(struct queue *queue)
{
    struct queue_node *node;
    uint64_t count;

    pthread_mutex_lock(&queue->lock);
    node = queue->head;
    if (node) {
        queue->head = node->next;
        if (!queue->head)
            while (read(queue->fd, &count, sizeof(count)) < 0 && errno == EINTR)
                ;
    }
    pthread_mutex_unlock(&queue->lock);
    return node;
}

bool queue_is_empty(struct queue *queue)
{
    bool empty;

    pthread_mutex_lock(&queue->lock);
    empty = !queue->head;
    pthread_mutex_unlock(&queue->lock);
    return empty;
}

bool queue_wait(struct queue *queue, unsigned long timeout_usec)
{
    struct pollfd pfd = {.fd = queue->fd, .events = POLLIN};
    const unsigned long msec = timeout_usec / 1000 + (timeout_usec % 1000 > 0);

    return poll(&pfd, 1, msec > INT_MAX ? -1 : (int)msec) > 0;
}
