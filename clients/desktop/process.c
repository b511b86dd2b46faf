/* SPDX-License-Identifier: MIT */
#include "clients/desktop/process.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/desktop/internal.h"

/* --- starting -------------------------------------------------------------------------------- */

char **process_environment(void)
{
    static const char *const kept[] = {
        "PATH",    "HOME",    "USER",            "LOGNAME",
        "LANG",    "LANGUAGE", "TZ",             "TMPDIR",
        "DISPLAY", "XAUTHORITY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS",
    };
    g_auto(GStrv) all = g_get_environ();
    char **out = g_new0(char *, 1);

    for (size_t i = 0; i < G_N_ELEMENTS(kept); i++) {
        const char *value = g_environ_getenv(all, kept[i]);

        if (value)
            out = g_environ_setenv(out, kept[i], value, TRUE);
    }
    for (size_t i = 0; all[i]; i++) {
        g_autofree char *name = g_strndup(all[i], strcspn(all[i], "="));

        if (g_str_has_prefix(name, "LC_") || g_str_has_prefix(name, "XDG_"))
            out = g_environ_setenv(out, name, g_environ_getenv(all, name), TRUE);
    }
    return out;
}

/* Between fork and exec. */
static void in_child(void *userdata)
{
    const struct rlimit no_core = {0, 0};
    sigset_t none;

    (void)userdata;
    setsid();
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setrlimit(RLIMIT_CORE, &no_core);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

int process_spawn(const char *const *argv, const char *const *environment, const char *folder,
                  struct process *ret, struct error *err)
{
    g_auto(GStrv) all = process_environment();
    g_autoptr(GError) error = NULL;

    signal(SIGPIPE, SIG_IGN); /* as GLib's sockets do: one that has ended is no reason to end */
    for (size_t i = 0; environment && environment[i]; i++) {
        g_autofree char *name = g_strndup(environment[i], strcspn(environment[i], "="));

        all = g_environ_setenv(all, name, environment[i] + strlen(name) + 1, TRUE);
    }
    if (!g_spawn_async_with_pipes(folder ? folder : g_get_home_dir(), (char **)argv, all,
                                  G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, in_child, NULL,
                                  &ret->pid, &ret->in, &ret->out, &ret->err, &error))
        return error_set(err, ERROR_IO, "%s", error->message);
    for (int *fd = &ret->in; fd <= &ret->err; fd++) {
        fcntl(*fd, F_SETFD, FD_CLOEXEC);
        fcntl(*fd, F_SETFL, O_NONBLOCK);
    }
    return 0;
}

void process_kill(GPid pid)
{
    kill(-pid, SIGKILL);
}

/* --- running to the end ---------------------------------------------------------------------- */

struct running {
    struct process process;
    struct process_limits limits;
    char *input;
    size_t written;
    GString *output, *said;
    GSource *sources[5]; /* stdin, stdout, stderr, child, time */
    GCancellable *cancellable;
    gulong watch;
    GSource *over;
    bool exited;
    int status;
    char *why;
    process_ended ended;
    void *userdata;
};

enum { SOURCE_IN, SOURCE_OUT, SOURCE_ERR, SOURCE_CHILD, SOURCE_TIME };

/* GLib has taken it from the table of processes. */
static void reap(GPid pid, int status, void *userdata)
{
    (void)pid;
    (void)status;
    (void)userdata;
}

static gboolean on_over(void *userdata)
{
    struct running *r = userdata;
    struct process_result result = {.output = r->output->str};

    if (!r->why && !(WIFEXITED(r->status) && WEXITSTATUS(r->status) == 0)) {
        g_autofree char *said = desktop_plain(g_strstrip(r->said->str), PROCESS_SAID, false);

        r->why = WIFSIGNALED(r->status)
                     ? g_strdup_printf("it ended by signal %d", WTERMSIG(r->status))
                     : g_strdup_printf("it ended with %d%s%s", WEXITSTATUS(r->status),
                                       *said ? ": " : "", said);
    }
    result.why = r->why;
    result.ok = !r->why;
    desktop_drop(&r->over);
    g_cancellable_disconnect(r->cancellable, r->watch);
    g_clear_object(&r->cancellable);
    r->ended(&result, r->userdata);
    g_string_free(r->output, TRUE);
    g_string_free(r->said, TRUE);
    g_free(r->input);
    g_free(r->why);
    g_free(r);
    return G_SOURCE_REMOVE;
}

/* why NULL: as it ended by itself; else it is killed. */
static void finish(struct running *r, char *why)
{
    if (r->over) {
        g_free(why);
        return;
    }
    r->why = why;
    for (size_t i = 0; i < G_N_ELEMENTS(r->sources); i++)
        desktop_drop(&r->sources[i]);
    if (r->process.pid) {
        if (why || !r->limits.stays)
            process_kill(r->process.pid);
        if (!r->exited) {
            GSource *source = g_child_watch_source_new(r->process.pid);

            desktop_attach(source, G_SOURCE_FUNC(reap), NULL);
            g_source_unref(source);
        }
        for (int *fd = &r->process.in; fd <= &r->process.err; fd++)
            closep(fd);
    }
    r->over = desktop_attach(g_idle_source_new(), on_over, r);
}

static gboolean on_writable(int fd, GIOCondition condition, void *userdata)
{
    struct running *r = userdata;
    const size_t length = strlen(r->input);
    ssize_t n = write(fd, r->input + r->written, length - r->written);

    (void)condition;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return G_SOURCE_CONTINUE;
    r->written += n > 0 ? (size_t)n : 0;
    if (n >= 0 && r->written < length)
        return G_SOURCE_CONTINUE;
    /* All is written, or it does not want to read. */
    close(TAKE_FD(r->process.in));
    desktop_drop(&r->sources[SOURCE_IN]);
    return G_SOURCE_REMOVE;
}

/* What is there, as far as there is room for it. False: nothing comes any more. */
static bool take(int fd, GString *into, size_t max)
{
    char bytes[4096];
    ssize_t n = read(fd, bytes, sizeof(bytes));

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n > 0 && into->len < max)
        g_string_append_len(into, bytes, MIN(n, (ssize_t)(max - into->len)));
    return n > 0;
}

static gboolean on_output(int fd, GIOCondition condition, void *userdata)
{
    struct running *r = userdata;

    (void)condition;
    if (!take(fd, r->output, r->limits.output + 1)) {
        desktop_drop(&r->sources[SOURCE_OUT]);
        return G_SOURCE_REMOVE;
    }
    if (r->output->len > r->limits.output) {
        finish(r, g_strdup_printf("it prints more than %zu KB", r->limits.output >> 10));
        return G_SOURCE_REMOVE;
    }
    return G_SOURCE_CONTINUE;
}

static gboolean on_said(int fd, GIOCondition condition, void *userdata)
{
    struct running *r = userdata;

    (void)condition;
    if (!take(fd, r->said, PROCESS_SAID)) {
        desktop_drop(&r->sources[SOURCE_ERR]);
        return G_SOURCE_REMOVE;
    }
    return G_SOURCE_CONTINUE;
}

static void on_exited(GPid pid, int status, void *userdata)
{
    struct running *r = userdata;

    (void)pid;
    r->exited = true;
    r->status = status;
    /* What it has left in the pipes; children of its own may still hold them open. */
    for (size_t before = (size_t)-1;
         !r->limits.stays && r->output->len != before && r->output->len <= r->limits.output;) {
        before = r->output->len;
        take(r->process.out, r->output, r->limits.output + 1);
    }
    if (r->sources[SOURCE_ERR])
        take(r->process.err, r->said, PROCESS_SAID);
    finish(r, r->output->len > r->limits.output
                  ? g_strdup_printf("it prints more than %zu KB", r->limits.output >> 10)
                  : NULL);
}

static gboolean on_time(void *userdata)
{
    struct running *r = userdata;

    finish(r, g_strdup_printf("it took longer than %u s", r->limits.seconds));
    return G_SOURCE_REMOVE;
}

static void on_cancelled(GCancellable *cancellable, void *userdata)
{
    (void)cancellable;
    finish(userdata, g_strdup("cancelled"));
}

void process_run(const char *const *argv, const char *const *environment, const char *folder,
                 const char *input, struct process_limits limits, GCancellable *cancellable,
                 process_ended ended, void *userdata)
{
    struct running *r = g_new0(struct running, 1);
    struct error err = ERROR_INIT;

    r->limits = limits;
    r->input = g_strdup(input ? input : "");
    r->output = g_string_new(NULL);
    r->said = g_string_new(NULL);
    r->ended = ended;
    r->userdata = userdata;
    g_set_object(&r->cancellable, cancellable);
    if (process_spawn(argv, environment, folder, &r->process, &err) < 0) {
        r->process.pid = 0;
        finish(r, g_strdup(err.text));
        return;
    }
    r->sources[SOURCE_IN] =
        desktop_attach(g_unix_fd_source_new(r->process.in, G_IO_OUT | G_IO_ERR),
                       G_SOURCE_FUNC(on_writable), r);
    if (!limits.stays)
        r->sources[SOURCE_OUT] = desktop_watch_output(r->process.out, on_output, r);
    r->sources[SOURCE_ERR] = desktop_watch_output(r->process.err, on_said, r);
    r->sources[SOURCE_CHILD] = desktop_watch_child(r->process.pid, on_exited, r);
    r->sources[SOURCE_TIME] =
        desktop_attach(g_timeout_source_new_seconds(limits.seconds), on_time, r);
    if (cancellable)
        r->watch = g_cancellable_connect(cancellable, G_CALLBACK(on_cancelled), r, NULL);
}
