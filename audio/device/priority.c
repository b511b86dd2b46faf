/* SPDX-License-Identifier: MIT */
#include "audio/device/priority.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "base/cleanup.h"

#define TIME_USEC    200000  /* RLIMIT_RTTIME, RealtimeKit's usual maximum */
#define TIMEOUT_USEC 1000000 /* for an answer */

static const char service[] = "org.freedesktop.RealtimeKit1";
static const char object[] = "/org/freedesktop/RealtimeKit1";

static void limit_time(uint64_t most_usec)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_RTTIME, &limit) < 0)
        return;
    limit.rlim_max = MIN(limit.rlim_max, most_usec);
    limit.rlim_cur = MIN(limit.rlim_cur, limit.rlim_max);
    setrlimit(RLIMIT_RTTIME, &limit);
}

static int ask_realtime_kit(pid_t thread_id, char *ret_reason, size_t reason_bytes)
{
    __attribute__((cleanup(sd_bus_flush_close_unrefp))) sd_bus *bus = NULL;
    __attribute__((cleanup(sd_bus_error_free))) sd_bus_error bus_error = SD_BUS_ERROR_NULL;
    int64_t time_usec = TIME_USEC;
    int priority = PRIORITY_WANTED, r;

    r = sd_bus_open_system(&bus);
    if (r < 0) {
        snprintf(ret_reason, reason_bytes, "no system bus: %s", strerror(-r));
        return r;
    }
    sd_bus_set_method_call_timeout(bus, TIMEOUT_USEC);
    r = sd_bus_get_property_trivial(bus, service, object, service, "MaxRealtimePriority",
                                    &bus_error, 'i', &priority);
    if (r >= 0)
        r = sd_bus_get_property_trivial(bus, service, object, service, "RTTimeUSecMax", &bus_error,
                                        'x', &time_usec);
    if (r >= 0) {
        if (time_usec > 0)
            limit_time(MIN((uint64_t)time_usec, (uint64_t)TIME_USEC));
        r = sd_bus_call_method(bus, service, object, service, "MakeThreadRealtimeWithPID",
                               &bus_error, NULL, "ttu", (uint64_t)getpid(), (uint64_t)thread_id,
                               (uint32_t)MAX(1, MIN(priority, PRIORITY_WANTED)));
    }
    if (r < 0)
        snprintf(ret_reason, reason_bytes, "%s",
                 bus_error.message ? bus_error.message : strerror(-r));
    return r;
}

/* As many as it takes, in their order; returns how many. */
static size_t ask_for_nice(const pid_t *thread_ids, size_t n)
{
    __attribute__((cleanup(sd_bus_flush_close_unrefp))) sd_bus *bus = NULL;
    int nice_min = PRIORITY_NICE;
    size_t n_done = 0;

    if (sd_bus_open_system(&bus) < 0)
        return 0;
    sd_bus_set_method_call_timeout(bus, TIMEOUT_USEC);
    if (sd_bus_get_property_trivial(bus, service, object, service, "MinNiceLevel", NULL, 'i',
                                    &nice_min) < 0)
        return 0;
    while (n_done < n &&
           sd_bus_call_method(bus, service, object, service, "MakeThreadHighPriorityWithPID", NULL,
                              NULL, "tti", (uint64_t)getpid(), (uint64_t)thread_ids[n_done],
                              (int32_t)MAX(nice_min, PRIORITY_NICE)) >= 0)
        n_done++;
    return n_done;
}

int priority_raise(pid_t thread_id, struct error *err)
{
    const struct sched_param param = {.sched_priority = PRIORITY_WANTED};
    char reason[200];

    if (ask_realtime_kit(thread_id, reason, sizeof(reason)) >= 0)
        return PRIORITY_REALTIME_KIT;
    limit_time(TIME_USEC);
    if (sched_setscheduler(thread_id, SCHED_RR | SCHED_RESET_ON_FORK, &param) == 0)
        return PRIORITY_KERNEL;
    return error_set(err, ERROR_NOT_ALLOWED,
                     "The sound device's thread gets no real-time priority: from RealtimeKit (%s), "
                     "nor from the kernel (%s).",
                     reason, strerror(errno));
}

size_t priority_lift(const pid_t *thread_ids, size_t n)
{
    size_t n_done;

    if (getpriority(PRIO_PROCESS, 0) != 0)
        return 0;
    n = MIN(n, (size_t)PRIORITY_THREADS_MAX);
    n_done = ask_for_nice(thread_ids, n);
    while (n_done < n && setpriority(PRIO_PROCESS, (id_t)thread_ids[n_done], PRIORITY_NICE) == 0)
        n_done++;
    return n_done;
}

void priority_drop(const pid_t *thread_ids, size_t n)
{
    const int nice_level = getpriority(PRIO_PROCESS, 0);

    for (size_t i = 0; i < n; i++)
        if (getpriority(PRIO_PROCESS, (id_t)thread_ids[i]) < nice_level)
            setpriority(PRIO_PROCESS, (id_t)thread_ids[i], nice_level);
}
