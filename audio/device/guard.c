/* SPDX-License-Identifier: MIT */
#include "audio/device/guard.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

struct call {
    const struct guarded *calls;
    void *job;

    pthread_mutex_t lock;
    pthread_cond_t returns;
    bool returned, left; /* protected by lock */
};

static atomic_uint n_left;

static void call_free(struct call *call)
{
    pthread_cond_destroy(&call->returns);
    pthread_mutex_destroy(&call->lock);
    free(call);
}

static void *call_main(void *argument)
{
    struct call *call = argument;
    bool left;

    pthread_setname_np(pthread_self(), "sound device");
    call->calls->run(call->job);
    pthread_mutex_lock(&call->lock);
    call->returned = true;
    left = call->left;
    pthread_cond_signal(&call->returns);
    pthread_mutex_unlock(&call->lock);
    if (left) { /* else the call is the waiting thread's */
        call->calls->late(call->job);
        call_free(call);
        atomic_fetch_sub(&n_left, 1);
    }
    return NULL;
}

static struct call *call_new(const struct guarded *calls, void *job)
{
    struct call *call = calloc(1, sizeof(*call));
    pthread_condattr_t monotonic;

    if (!call)
        return NULL;
    *call = (struct call){.calls = calls, .job = job};
    pthread_mutex_init(&call->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&call->returns, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return call;
}

/* False: it is left behind. */
static bool wait_for(struct call *call, unsigned limit_msec)
{
    struct timespec until;
    bool returned;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += limit_msec / 1000;
    until.tv_nsec += limit_msec % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&call->lock);
    while (!call->returned)
        if (pthread_cond_timedwait(&call->returns, &call->lock, &until) != 0)
            break;
    returned = call->returned;
    call->left = !returned;
    if (!returned) {
        atomic_fetch_add(&n_left, 1);
        if (call->calls->leave)
            call->calls->leave(call->job);
    }
    pthread_mutex_unlock(&call->lock);
    return returned;
}

enum guard_end guard_run(const struct guarded *calls, void *job, unsigned limit_msec)
{
    struct call *call = guard_n_left() < GUARD_LEFT_MAX ? call_new(calls, job) : NULL;
    pthread_t thread;

    if (!call)
        return GUARD_REFUSED;
    if (pthread_create(&thread, NULL, call_main, call) != 0) {
        call_free(call);
        return GUARD_REFUSED;
    }
    if (!wait_for(call, limit_msec)) {
        pthread_detach(thread);
        return GUARD_LEFT;
    }
    pthread_join(thread, NULL);
    call_free(call);
    return GUARD_RETURNED;
}

unsigned guard_n_left(void)
{
    return atomic_load(&n_left);
}
