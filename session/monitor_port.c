/* SPDX-License-Identifier: MIT */
#include "session/monitor_port.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"
#include "base/cleanup.h"
#include "session/internal.h"

#define RETRY_MSEC 1000

struct monitor {
    /* immutable once it is open */
    int wake; /* an eventfd */
    struct task *task;
    pthread_t thread;
    bool is_open;

    /* the thread */
    pid_t pid; /* 0: no child runs */
    int pipe;
    bool delivers, told;
    int16_t read[LISTENER_FRAME];
    size_t n_bytes; /* of it */
};

/* --- the thread ------------------------------------------------------------------------------ */

/* What is told last stays true until something else is. */
static void tell(struct monitor *m, bool on, const char *reason)
{
    struct error err = ERROR_INIT;

    if (m->told && m->delivers == on)
        return;
    m->told = true;
    m->delivers = on;
    if (!on)
        error_set(&err, ERROR_AUDIO_UNAVAILABLE, "What the computer plays cannot be heard: %s.",
                  reason);
    ear_tell_listening(m->task, on, &err);
}

static void start(struct monitor *m)
{
    const char *program = child_path("LFMD_MONITOR", "audio/monitor/lfmd-monitor", LFMD_LIBEXECDIR);
    char *const arguments[] = {(char *)"lfmd-monitor", NULL};
    _cleanup_(closep) int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int ends[2], r;

    m->n_bytes = 0;
    if (pipe2(ends, O_CLOEXEC) < 0) {
        tell(m, false, strerror(errno));
        return;
    }
    r = child_spawn(program, arguments, environ, null, ends[1], &m->pid);
    close(ends[1]);
    m->pipe = ends[0];
    if (r < 0) {
        m->pid = 0;
        close(m->pipe);
        tell(m, false, r == -ENOENT ? "lfmd-monitor is not installed" : strerror(-r));
    }
}

static void end(struct monitor *m)
{
    if (m->pid == 0)
        return;
    kill(m->pid, SIGKILL);
    while (waitpid(m->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    m->pid = 0;
    close(m->pipe);
}

/* False: the child has ended. */
static bool take_input(struct monitor *m)
{
    const ssize_t n = read(m->pipe, (char *)m->read + m->n_bytes, sizeof(m->read) - m->n_bytes);
    float frame[LISTENER_FRAME];

    if (n <= 0)
        return n < 0 && errno == EINTR;
    tell(m, true, NULL);
    m->n_bytes += (size_t)n;
    if (m->n_bytes < sizeof(m->read))
        return true;
    m->n_bytes = 0;
    for (size_t i = 0; i < LISTENER_FRAME; i++)
        frame[i] = (float)m->read[i] / 32768;
    listener_frame(ear_listener(m->task), frame, clock_usec());
    return true;
}

static void *monitor_main(void *userdata)
{
    struct monitor *m = userdata;

    pthread_setname_np(pthread_self(), "monitor");
    for (;;) {
        struct pollfd fds[] = {{.fd = m->wake, .events = POLLIN}, {.fd = -1, .events = POLLIN}};

        if (m->pid == 0)
            start(m);
        if (m->pid > 0)
            fds[1].fd = m->pipe;
        if (poll(fds, ARRAY_LEN(fds), m->pid > 0 ? -1 : RETRY_MSEC) < 0)
            continue;
        if (fds[0].revents)
            break;
        if (fds[1].revents && !take_input(m)) {
            end(m);
            tell(m, false, "no PulseAudio or PipeWire server answers");
            if (poll(fds, 1, RETRY_MSEC) > 0)
                break;
        }
    }
    end(m);
    return NULL;
}

/* --- the port -------------------------------------------------------------------------------- */

static int monitor_open(void *userdata, struct task *task, struct error *err)
{
    struct monitor *m = userdata;
    sigset_t all, before;
    int r;

    m->task = task;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&m->thread, NULL, monitor_main, m);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    m->is_open = r == 0;
    return r == 0 ? 0
                  : error_set(err, ERROR_INTERNAL, "Cannot start a thread to listen: %s.",
                              strerror(r));
}

static void monitor_close(void *userdata)
{
    struct monitor *m = userdata;

    if (!m->is_open)
        return;
    (void)!write(m->wake, &(uint64_t){1}, sizeof(uint64_t));
    pthread_join(m->thread, NULL);
    m->is_open = false;
}

static void monitor_free(void *userdata)
{
    struct monitor *m = userdata;

    monitor_close(m);
    close(m->wake);
    free(m);
}

const struct voice_port monitor_port = {
    .open = monitor_open,
    .close = monitor_close,
    .free = monitor_free,
};

void *monitor_port_new(struct error *err)
{
    struct monitor *m = calloc(1, sizeof(*m));

    if (!m) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory to listen.");
        return NULL;
    }
    m->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (m->wake >= 0)
        return m;
    error_set(err, ERROR_INTERNAL, "Nothing can be listened to: %s.", strerror(errno));
    free(m);
    return NULL;
}
