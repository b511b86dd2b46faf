/* SPDX-License-Identifier: MIT */
/* Proves what RealtimeKit is asked (on a bus of the test's own, by a service that answers as the
 * real one does: that needs a system bus and polkit), that its limits are kept, and that without
 * it, or when it refuses, the kernel is asked and the outcome is told. The same for nice levels,
 * which are given back. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <systemd/sd-bus.h>

#include <cmocka.h>

#include "audio/device/priority.h"
#include "server.h"

static pid_t bus_pid;
static pthread_t service;
static atomic_bool ready, stop, refuse;
static atomic_int max_priority, min_nice;
static _Atomic pid_t service_id;

/* What was asked last. */
static atomic_uint n_asked, asked_priority;
static atomic_int asked_nice;
static atomic_uint_least64_t asked_pid, asked_thread;

static int get_max_priority(sd_bus *bus, const char *path, const char *interface,
                            const char *property, sd_bus_message *reply, void *userdata,
                            sd_bus_error *ret_error)
{
    (void)bus, (void)path, (void)interface, (void)property, (void)userdata, (void)ret_error;
    return sd_bus_message_append(reply, "i", atomic_load(&max_priority));
}

static int get_max_time(sd_bus *bus, const char *path, const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    (void)bus, (void)path, (void)interface, (void)property, (void)userdata, (void)ret_error;
    return sd_bus_message_append(reply, "x", (int64_t)200000);
}

static int make_realtime(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    uint64_t pid, thread;
    uint32_t priority;
    struct rlimit limit;

    (void)userdata;
    if (sd_bus_message_read(message, "ttu", &pid, &thread, &priority) < 0)
        return -EINVAL;
    atomic_store(&asked_pid, pid);
    atomic_store(&asked_thread, thread);
    atomic_store(&asked_priority, priority);
    atomic_fetch_add(&n_asked, 1);
    /* As the real one: a process without the limit is refused. */
    getrlimit(RLIMIT_RTTIME, &limit);
    if (atomic_load(&refuse) || limit.rlim_max > 200000)
        return sd_bus_error_set_const(ret_error, "org.freedesktop.DBus.Error.AccessDenied",
                                      "Not today");
    return sd_bus_reply_method_return(message, "");
}

static int get_min_nice(sd_bus *bus, const char *path, const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    (void)bus, (void)path, (void)interface, (void)property, (void)userdata, (void)ret_error;
    return sd_bus_message_append(reply, "i", atomic_load(&min_nice));
}

static int make_high(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    uint64_t pid, thread;
    int32_t nice_level;

    (void)userdata;
    if (sd_bus_message_read(message, "tti", &pid, &thread, &nice_level) < 0)
        return -EINVAL;
    atomic_store(&asked_pid, pid);
    atomic_store(&asked_thread, thread);
    atomic_store(&asked_nice, nice_level);
    atomic_fetch_add(&n_asked, 1);
    if (atomic_load(&refuse))
        return sd_bus_error_set_const(ret_error, "org.freedesktop.DBus.Error.AccessDenied",
                                      "Not today");
    return sd_bus_reply_method_return(message, "");
}

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY("MaxRealtimePriority", "i", get_max_priority, 0, 0),
    SD_BUS_PROPERTY("RTTimeUSecMax", "x", get_max_time, 0, 0),
    SD_BUS_METHOD("MakeThreadRealtimeWithPID", "ttu", "", make_realtime,
                  SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_PROPERTY("MinNiceLevel", "i", get_min_nice, 0, 0),
    SD_BUS_METHOD("MakeThreadHighPriorityWithPID", "tti", "", make_high,
                  SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END,
};

static void *serve(void *argument)
{
    sd_bus *bus = NULL;

    atomic_store(&service_id, gettid());
    if (sd_bus_open_system(&bus) < 0 ||
        sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/RealtimeKit1",
                                 "org.freedesktop.RealtimeKit1", vtable, NULL) < 0 ||
        sd_bus_request_name(bus, "org.freedesktop.RealtimeKit1", 0) < 0)
        return argument;
    atomic_store(&ready, true);
    while (!atomic_load(&stop))
        if (sd_bus_process(bus, NULL) == 0)
            sd_bus_wait(bus, 50000);
    sd_bus_flush_close_unref(bus);
    return argument;
}

static void start_service(void)
{
    atomic_store(&stop, false);
    atomic_store(&ready, false);
    assert_int_equal(pthread_create(&service, NULL, serve, NULL), 0);
    for (unsigned i = 0; i < 1000 && !atomic_load(&ready); i++)
        server_sleep(10);
    assert_true(atomic_load(&ready));
}

static void stop_service(void)
{
    atomic_store(&stop, true);
    pthread_join(service, NULL);
}

/* Returns whether it may, and undoes it. */
static bool kernel_allows_nice(void)
{
    return setpriority(PRIO_PROCESS, 0, PRIORITY_NICE) == 0 && setpriority(PRIO_PROCESS, 0, 0) == 0;
}

static void skip_when_nice(void)
{
    if (getpriority(PRIO_PROCESS, 0) == 0 || setpriority(PRIO_PROCESS, 0, 0) == 0)
        return;
    print_message("skipped: the test was started with a nice level of its own\n");
    skip();
}

/* Whether the kernel gives real time to this process at all. */
static bool kernel_allows(void)
{
    const struct sched_param high = {.sched_priority = 1}, normal = {0};

    if (sched_setscheduler(0, SCHED_RR, &high) < 0)
        return false;
    sched_setscheduler(0, SCHED_OTHER, &normal);
    return true;
}

static void assert_kernel_was_asked(const char *reason)
{
    const struct sched_param normal = {0};
    const bool allowed = kernel_allows();
    struct error err = ERROR_INIT;
    const int r = priority_raise(gettid(), &err);

    if (allowed) {
        assert_int_equal(r, PRIORITY_KERNEL);
        assert_int_equal(sched_getscheduler(0) & ~SCHED_RESET_ON_FORK, SCHED_RR);
        sched_setscheduler(0, SCHED_OTHER, &normal);
    } else {
        assert_int_equal(r, error_errno(ERROR_NOT_ALLOWED));
        assert_non_null(strstr(err.text, reason));
    }
}

static void test_realtime_kit_is_asked_for_the_thread(void **state)
{
    struct error err = ERROR_INIT;
    struct rlimit limit;

    (void)state;
    start_service();
    atomic_store(&refuse, false);
    atomic_store(&max_priority, 20);
    assert_int_equal(priority_raise(gettid(), &err), PRIORITY_REALTIME_KIT);
    assert_int_equal(atomic_load(&asked_pid), getpid());
    assert_int_equal(atomic_load(&asked_thread), gettid());
    assert_int_equal(atomic_load(&asked_priority), PRIORITY_WANTED);
    getrlimit(RLIMIT_RTTIME, &limit);
    assert_true(limit.rlim_cur <= 200000 && limit.rlim_max <= 200000);

    atomic_store(&max_priority, 5); /* of this machine */
    assert_int_equal(priority_raise(gettid(), &err), PRIORITY_REALTIME_KIT);
    assert_int_equal(atomic_load(&asked_priority), 5);
    stop_service();
}

static void test_a_refusal_asks_the_kernel(void **state)
{
    const unsigned n = atomic_load(&n_asked);

    (void)state;
    start_service();
    atomic_store(&refuse, true);
    atomic_store(&max_priority, 20);
    assert_kernel_was_asked("Not today");
    assert_int_equal(atomic_load(&n_asked), n + 1);
    stop_service();
}

static void test_realtime_kit_is_asked_for_a_nice_level(void **state)
{
    pid_t ids[PRIORITY_THREADS_MAX + 2];
    unsigned n;

    (void)state;
    skip_when_nice();
    start_service();
    for (size_t i = 0; i < PRIORITY_THREADS_MAX + 2; i++)
        ids[i] = gettid();
    ids[0] = service_id;
    atomic_store(&refuse, false);
    atomic_store(&min_nice, -15);
    assert_int_equal(priority_lift(ids, 1), 1);
    assert_int_equal(atomic_load(&asked_pid), getpid());
    assert_int_equal(atomic_load(&asked_thread), service_id);
    assert_int_equal(atomic_load(&asked_nice), PRIORITY_NICE);

    atomic_store(&min_nice, -5); /* of this machine */
    n = atomic_load(&n_asked);
    assert_int_equal(priority_lift(ids, PRIORITY_THREADS_MAX + 2), PRIORITY_THREADS_MAX);
    assert_int_equal(atomic_load(&n_asked), n + PRIORITY_THREADS_MAX);
    assert_int_equal(atomic_load(&asked_nice), -5);
    stop_service();
}

static void test_a_refused_nice_level_asks_the_kernel_and_is_given_back(void **state)
{
    const unsigned n = atomic_load(&n_asked);
    bool allowed;
    pid_t id;

    (void)state;
    skip_when_nice();
    allowed = kernel_allows_nice();
    start_service();
    id = service_id;
    atomic_store(&refuse, true);
    assert_int_equal(priority_lift(&id, 1), allowed);
    assert_int_equal(atomic_load(&n_asked), n + 1);
    assert_int_equal(getpriority(PRIO_PROCESS, (id_t)id), allowed ? PRIORITY_NICE : 0);
    priority_drop(&id, 1);
    assert_int_equal(getpriority(PRIO_PROCESS, (id_t)id), 0);
    stop_service();
}

static void *lift_as_a_nice_one(void *argument)
{
    const pid_t id = gettid();

    setpriority(PRIO_PROCESS, 0, 1);
    *(size_t *)argument = priority_lift(&id, 1);
    return NULL;
}

static void test_a_chosen_nice_level_is_kept(void **state)
{
    const unsigned n = atomic_load(&n_asked);
    pthread_t thread;
    size_t n_lifted = 1;

    (void)state;
    skip_when_nice();
    start_service();
    atomic_store(&refuse, false);
    assert_int_equal(pthread_create(&thread, NULL, lift_as_a_nice_one, &n_lifted), 0);
    pthread_join(thread, NULL);
    assert_int_equal(n_lifted, 0);
    assert_int_equal(atomic_load(&n_asked), n);
    stop_service();
}

static void test_without_the_service_or_the_bus_the_kernel_is_asked(void **state)
{
    (void)state;
    assert_kernel_was_asked("RealtimeKit1");
    kill(bus_pid, SIGKILL);
    waitpid(bus_pid, NULL, 0);
    bus_pid = 0;
    assert_kernel_was_asked("no system bus");
}

static int set_up(void **state)
{
    char path[sizeof(server_folder) + 16], address[sizeof(path) + 16], option[sizeof(address) + 16];
    const char *argv[] = {"dbus-daemon", "--session", "--nofork", option, NULL};
    struct stat st;

    (void)state;
    if (!server_prepare())
        return -1;
    snprintf(path, sizeof(path), "%s/bus", server_folder);
    snprintf(address, sizeof(address), "unix:path=%s", path);
    snprintf(option, sizeof(option), "--address=%s", address);
    setenv("DBUS_SYSTEM_BUS_ADDRESS", address, 1);
    bus_pid = server_spawn(argv);
    for (unsigned i = 0; i < 1000 && stat(path, &st) < 0; i++)
        server_sleep(10);
    return stat(path, &st);
}

static int tear_down(void **state)
{
    (void)state;
    if (bus_pid > 0)
        kill(bus_pid, SIGKILL);
    server_clean();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_realtime_kit_is_asked_for_the_thread),
        cmocka_unit_test(test_a_refusal_asks_the_kernel),
        cmocka_unit_test(test_realtime_kit_is_asked_for_a_nice_level),
        cmocka_unit_test(test_a_refused_nice_level_asks_the_kernel_and_is_given_back),
        cmocka_unit_test(test_a_chosen_nice_level_is_kept),
        cmocka_unit_test(test_without_the_service_or_the_bus_the_kernel_is_asked),
    };

    return cmocka_run_group_tests_name("priority", tests, set_up, tear_down);
}
