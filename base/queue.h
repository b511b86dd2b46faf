/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A queue of nodes from any thread to one reader, with a file descriptor that an event loop can
 * watch. Used for jobs (bus thread -> engine thread) and events (engine thread -> bus thread).
 *
 * Nodes are embedded in the caller's struct; the queue allocates nothing and never blocks a writer
 * for longer than a pointer swap.
 *
 * Threads: queue_push() any thread; queue_pop(), queue_wait() the reader.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct queue_node {
    struct queue_node *next;
};

struct queue {
    pthread_mutex_t lock;
    struct queue_node *head, *tail; /* protected by lock */
    int fd;                         /* eventfd: readable while the queue is not empty */
};

int queue_init(struct queue *queue, struct error *err);
void queue_done(struct queue *queue); /* the queue must be empty */

void queue_push(struct queue *queue, struct queue_node *node);

/* The oldest node, or NULL. */
struct queue_node *queue_pop(struct queue *queue);

/* Whether there is nothing to pop. Any thread. */
bool queue_is_empty(struct queue *queue);

/* Sleep until the queue holds a node or timeout_usec is over (UINT64_MAX: for ever). */
bool queue_wait(struct queue *queue, unsigned long timeout_usec);
