/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Thread pool for slices of one kernel.
 *
 * The caller is worker 0; n_threads - 1 others spin for some tens of microseconds after a job and
 * then sleep on a futex. Work is claimed dynamically in chunks by an atomic counter, so a worker
 * that was scheduled out delays its own chunk only; the caller never waits for a worker that has
 * not claimed anything. Nothing is allocated, locked or logged in pool_run().
 *
 * Threads: pool_run() by one thread at a time (the engine thread); not reentrant.
 */

#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

#define POOL_THREADS_MAX 64

/* Private memory of each worker for one call of a pool_fn, aligned to ARENA_ALIGN; not cleared. */
#define POOL_SCRATCH_BYTES ((size_t)9 << 17)

/* Do units [first, last). worker < pool_n_threads(); scratch is the worker's own. */
typedef void pool_fn(void *context, size_t first, size_t last, unsigned worker, void *scratch);

struct pool;

/* n_threads 0: one for each core that this process may use. */
struct pool *pool_new(unsigned n_threads, struct error *err);
struct pool *pool_free(struct pool *pool); /* accepts and returns NULL */
unsigned pool_n_threads(const struct pool *pool);
/* Of the workers that have a thread of their own; at most n_max are written. Any thread. */
size_t pool_thread_ids(const struct pool *pool, pid_t *ret_ids, size_t n_max);

/* Cut [0, n_units) into chunks of `chunk` units and run them all; returns when all are done. */
void pool_run(struct pool *pool, pool_fn *fn, void *context, size_t n_units, size_t chunk);
