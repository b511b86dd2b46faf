/* SPDX-License-Identifier: MIT */
/*
 * A job is published by one 64-bit word, `claim`: its number above, the next unclaimed chunk below.
 * Claiming is a compare-and-swap on that word, so a chunk can only be claimed together with the
 * knowledge of which job it belongs to. The job's fields are read before the swap; they cannot have
 * changed when the swap succeeds, because the next job is published only when every claimed chunk
 * of this one is done, and `claim` is closed before its fields are written: a worker that has read
 * the word of a finished job cannot swap it any more. A worker that was away during whole jobs
 * simply fails to claim from them.
 */
#include "tensor/pool.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

/* How long to look for the next job, or for the last chunk of one, before sleeping. A decode step
 * leaves gaps of some microseconds between jobs; a futex wake costs about as much as it saves. */
#define SPIN_NSEC 50000

#define CHUNK_BITS   32
#define CHUNK_MASK   (((uint64_t)1 << CHUNK_BITS) - 1)
#define CLAIM_CLOSED UINT64_MAX /* no job has a chunk of this number */

struct worker {
    struct pool *pool;
    unsigned index;
    pthread_t thread;
    _Atomic pid_t thread_id; /* 0: it has not begun */
};

struct pool {
    unsigned n_threads;
    unsigned char *scratch; /* [n_threads wanted][POOL_SCRATCH_BYTES] */
    size_t scratch_bytes;
    struct worker *workers; /* [n_threads], 0 is the caller and has no thread */

    /* fields of the current job; written by the caller, read by everyone */
    _Atomic(pool_fn *) fn;
    _Atomic(void *) context;
    atomic_size_t n_units, chunk;

    _Alignas(64) _Atomic uint64_t claim;
    _Alignas(64) atomic_size_t n_done; /* chunks of the current job */
    _Alignas(64) _Atomic uint32_t job; /* futex of the workers: changes with each job */
    _Atomic uint32_t n_sleeping;
    _Atomic uint32_t done; /* futex of the caller: number of the last whole job */
    _Atomic uint32_t caller_sleeps;
    atomic_bool stop;
};

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int n)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

static uint64_t now_nsec(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Spin while *word == value, for SPIN_NSEC at most. Returns false when it still is. */
static bool spin_until_changed(_Atomic uint32_t *word, uint32_t value)
{
    const uint64_t start = now_nsec();

    do {
        for (int i = 0; i < 64; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != value)
                return true;
            relax();
        }
    } while (now_nsec() - start < SPIN_NSEC);
    return false;
}

/* Claim and run chunks until the current job has none left. */
static void work(struct pool *pool, unsigned index)
{
    void *const scratch = pool->scratch + index * POOL_SCRATCH_BYTES;
    uint64_t claim = atomic_load_explicit(&pool->claim, memory_order_acquire);

    for (;;) {
        pool_fn *const fn = atomic_load_explicit(&pool->fn, memory_order_relaxed);
        void *const context = atomic_load_explicit(&pool->context, memory_order_relaxed);
        const size_t n_units = atomic_load_explicit(&pool->n_units, memory_order_relaxed);
        const size_t chunk = atomic_load_explicit(&pool->chunk, memory_order_relaxed);
        const size_t first = (size_t)(claim & CHUNK_MASK) * chunk;
        size_t n_chunks;

        if (claim == CLAIM_CLOSED || first >= n_units)
            return;
        if (!atomic_compare_exchange_weak_explicit(&pool->claim, &claim, claim + 1,
                                                   memory_order_acq_rel, memory_order_acquire))
            continue;

        fn(context, first, MIN(first + chunk, n_units), index, scratch);

        n_chunks = (n_units + chunk - 1) / chunk;
        if (atomic_fetch_add_explicit(&pool->n_done, 1, memory_order_acq_rel) + 1 == n_chunks) {
            /* From here on the caller may return; only words of the pool are touched. */
            atomic_store(&pool->done, (uint32_t)(claim >> CHUNK_BITS));
            if (index > 0 && atomic_load(&pool->caller_sleeps))
                futex_wake(&pool->done, 1);
            return;
        }
        claim = atomic_load_explicit(&pool->claim, memory_order_acquire);
    }
}

static void *worker_main(void *userdata)
{
    struct worker *const worker = userdata;
    struct pool *const pool = worker->pool;
    uint32_t seen = 0;

    atomic_store(&worker->thread_id, gettid());
    for (;;) {
        if (!spin_until_changed(&pool->job, seen)) {
            atomic_fetch_add(&pool->n_sleeping, 1);
            while (atomic_load(&pool->job) == seen)
                futex_wait(&pool->job, seen);
            atomic_fetch_sub(&pool->n_sleeping, 1);
        }
        seen = atomic_load_explicit(&pool->job, memory_order_acquire);
        if (atomic_load(&pool->stop))
            return NULL;
        work(pool, worker->index);
    }
}

unsigned pool_n_threads(const struct pool *pool)
{
    return pool->n_threads;
}

size_t pool_thread_ids(const struct pool *pool, pid_t *ret_ids, size_t n_max)
{
    size_t n = 0;

    for (unsigned i = 1; i < pool->n_threads && n < n_max; i++)
        if ((ret_ids[n] = atomic_load(&pool->workers[i].thread_id)) != 0)
            n++;
    return n;
}

void pool_run(struct pool *pool, pool_fn *fn, void *context, size_t n_units, size_t chunk)
{
    const uint32_t job = atomic_load_explicit(&pool->job, memory_order_relaxed) + 1;

    if (n_units == 0)
        return;
    chunk = MAX(chunk, n_units / CHUNK_MASK + 1);
    if (pool->n_threads == 1 || n_units <= chunk) {
        for (size_t first = 0; first < n_units; first += MIN(chunk, n_units - first))
            fn(context, first, first + MIN(chunk, n_units - first), 0, pool->scratch);
        return;
    }

    /* Whoever swapped the word before this has read the old fields; whoever comes later fails. */
    atomic_exchange_explicit(&pool->claim, CLAIM_CLOSED, memory_order_acq_rel);
    atomic_store_explicit(&pool->fn, fn, memory_order_relaxed);
    atomic_store_explicit(&pool->context, context, memory_order_relaxed);
    atomic_store_explicit(&pool->n_units, n_units, memory_order_relaxed);
    atomic_store_explicit(&pool->chunk, chunk, memory_order_relaxed);
    atomic_store_explicit(&pool->n_done, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->claim, (uint64_t)job << CHUNK_BITS, memory_order_release);
    atomic_store(&pool->job, job);
    if (atomic_load(&pool->n_sleeping) > 0)
        futex_wake(&pool->job, (int)pool->n_threads - 1);

    work(pool, 0);

    while (atomic_load_explicit(&pool->done, memory_order_acquire) != job) {
        const uint32_t done = atomic_load(&pool->done);

        if (done == job || spin_until_changed(&pool->done, done))
            continue;
        atomic_store(&pool->caller_sleeps, 1);
        if (atomic_load(&pool->done) == done)
            futex_wait(&pool->done, done);
        atomic_store(&pool->caller_sleeps, 0);
    }
}

static unsigned n_cores(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        return 1;
    return (unsigned)MAX(CPU_COUNT(&set), 1);
}

struct pool *pool_new(unsigned n_threads, struct error *err)
{
    struct pool *pool;
    sigset_t all, old;

    if (n_threads == 0)
        n_threads = MIN(n_cores(), (unsigned)POOL_THREADS_MAX);
    if (n_threads > POOL_THREADS_MAX) {
        error_set(err, ERROR_INVALID_ARGUMENT,
                  "%u threads are wanted, but at most %d are possible.", n_threads,
                  POOL_THREADS_MAX);
        return NULL;
    }

    pool = aligned_alloc(64, round_up(sizeof(*pool), 64));
    if (!pool) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for the thread pool.");
        return NULL;
    }
    memset(pool, 0, sizeof(*pool));
    pool->n_threads = 1;
    pool->workers = calloc(n_threads, sizeof(*pool->workers));
    pool->scratch_bytes = n_threads * POOL_SCRATCH_BYTES;
    pool->scratch =
        mmap(NULL, pool->scratch_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!pool->workers || pool->scratch == MAP_FAILED) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for the scratch of %u threads.",
                  n_threads);
        if (pool->scratch != MAP_FAILED)
            munmap(pool->scratch, pool->scratch_bytes);
        free(pool->workers);
        free(pool);
        return NULL;
    }

    /* Signals belong to the threads that expect them. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (unsigned i = 1; i < n_threads; i++) {
        struct worker *const worker = &pool->workers[i];
        int r;

        *worker = (struct worker){.pool = pool, .index = i};
        r = pthread_create(&worker->thread, NULL, worker_main, worker);
        if (r != 0) {
            error_set(err, ERROR_NO_MEMORY, "Thread %u of %u cannot be started: %s.", i + 1,
                      n_threads, strerror(r));
            pthread_sigmask(SIG_SETMASK, &old, NULL);
            return pool_free(pool);
        }
        pool->n_threads = i + 1;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return pool;
}

struct pool *pool_free(struct pool *pool)
{
    if (!pool)
        return NULL;

    atomic_store(&pool->stop, true);
    atomic_fetch_add(&pool->job, 1);
    futex_wake(&pool->job, (int)pool->n_threads);
    for (unsigned i = 1; i < pool->n_threads; i++)
        pthread_join(pool->workers[i].thread, NULL);
    munmap(pool->scratch, pool->scratch_bytes);
    free(pool->workers);
    free(pool);
    return NULL;
}
