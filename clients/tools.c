/* SPDX-License-Identifier: MIT */
#include "clients/tools.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/bus.h"
#include "clients/terminal.h"
#include "clients/status.h"

#define RESULT_MAX ((size_t)1 << 18) /* bytes of what a program may answer */

char *tools_call_text(const char *name, struct json_object *arguments)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    bool first = true;

    if (!out)
        return NULL;
    fprintf(out, "%s(", name);
    if (json_object_is_type(arguments, json_type_object)) {
        json_object_object_foreach(arguments, key, value)
        {
            fprintf(out, "%s%s=%s", first ? "" : ", ", key,
                    json_object_to_json_string_ext(value, JSON_C_TO_STRING_NOSLASHESCAPE));
            first = false;
        }
    }
    fputc(')', out);
    fclose(out);
    return text;
}

/* {"error": "..."}, malloc */
static char *error_text(const char *sentence)
{
    _cleanup_(bus_jsonp) struct json_object *string = json_object_new_string(sentence);
    char *text = NULL;

    if (asprintf(&text, "{\"error\": %s}",
                 json_object_to_json_string_ext(string, JSON_C_TO_STRING_NOSLASHESCAPE)) < 0)
        return NULL;
    return text;
}

/* Feed a child; it may end without reading. The pipe is given back as closed. */
static void write_all(int fd, const char *text)
{
    size_t length = strlen(text);

    while (length > 0) {
        ssize_t n = write(fd, text, length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        text += n;
        length -= (size_t)n;
    }
}

static char *read_all(int fd)
{
    char *text = malloc(RESULT_MAX + 1);
    size_t length = 0;
    ssize_t n;

    while (text && length < RESULT_MAX &&
           ((n = read(fd, text + length, RESULT_MAX - length)) > 0 || (n < 0 && errno == EINTR)))
        length += n > 0 ? (size_t)n : 0;
    if (!text)
        return NULL;
    while (length > 0 && strchr("\n\r \t", text[length - 1]))
        length--;
    text[length] = '\0';
    return text;
}

static void child(const char *program, const char *name, int in, int out)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    execlp(program, program, name, (char *)NULL);
    fprintf(stderr, "lfmctl: %s cannot be started: %s.\n", program, strerror(errno));
    _exit(127);
}

static char *answer_program(const char *program, const char *name, struct json_object *arguments)
{
    _cleanup_(closep) int in_read = -1, in_write = -1, out_read = -1, out_write = -1;
    _cleanup_(freep) char *text = NULL;
    int in[2], out[2], status = 0;
    char sentence[200];
    pid_t pid;

    if (pipe2(in, O_CLOEXEC) < 0)
        return NULL;
    in_read = in[0];
    in_write = in[1];
    if (pipe2(out, O_CLOEXEC) < 0)
        return NULL;
    out_read = out[0];
    out_write = out[1];
    fflush(NULL);
    pid = fork();
    if (pid < 0)
        return NULL;
    if (pid == 0)
        child(program, name, in_read, out_write);
    close(TAKE_FD(in_read));
    close(TAKE_FD(out_write));
    write_all(in_write, json_object_to_json_string_ext(arguments, JSON_C_TO_STRING_NOSLASHESCAPE));
    close(TAKE_FD(in_write));
    text = read_all(out_read);
    close(TAKE_FD(out_read));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return TAKE_PTR(text);
    snprintf(sentence, sizeof(sentence), "%.100s failed", name);
    return error_text(sentence);
}

/* --- the desktop's tools --------------------------------------------------------------------- */

static struct desktop *desktop; /* NULL: not needed yet */
static bool asks;               /* there is a terminal to ask at */
static struct desktop_question *question; /* waits for the user */

static void on_confirm(struct desktop_question *asked, void *userdata)
{
    (void)userdata;
    question = asked;
}

static void on_withdrawn(struct desktop_question *asked, void *userdata)
{
    (void)asked;
    (void)userdata;
    question = NULL;
}

static void on_rang(const char *sentence, bool notified, void *userdata)
{
    (void)notified;
    (void)userdata;
    fprintf(stderr, "%s\a%s%s%s\n", isatty(STDERR_FILENO) ? "\r\033[J" : "",
            terminal_style(2, STYLE_BOLD), sentence, terminal_style(2, STYLE_PLAIN));
    raise(SIGCONT); /* the line that is edited is drawn anew */
}

/* One round of GLib's main loop, which also ends when one of the caller's descriptors is ready. */
static int iterate(struct pollfd *fds, size_t n, int timeout_msec)
{
    GMainContext *context = g_main_context_default();
    g_autofree GPollFD *theirs = NULL;
    g_autofree struct pollfd *all = NULL;
    int priority, their_timeout, n_theirs, has = 0, r;

    g_main_context_acquire(context);
    g_main_context_prepare(context, &priority);
    n_theirs = g_main_context_query(context, priority, &their_timeout, NULL, 0);
    do {
        has = n_theirs;
        theirs = g_renew(GPollFD, theirs, (size_t)has);
        n_theirs = g_main_context_query(context, priority, &their_timeout, theirs, has);
    } while (n_theirs > has);
    all = g_new0(struct pollfd, n + (size_t)n_theirs);
    for (size_t i = 0; i < n; i++)
        all[i] = fds[i];
    for (int i = 0; i < n_theirs; i++)
        all[n + (size_t)i] = (struct pollfd){.fd = theirs[i].fd, .events = (short)theirs[i].events};
    if (timeout_msec < 0 || (their_timeout >= 0 && their_timeout < timeout_msec))
        timeout_msec = their_timeout;
    r = terminal_poll_alone(all, n + (size_t)n_theirs, timeout_msec);
    for (int i = 0; i < n_theirs; i++)
        theirs[i].revents = r > 0 ? (gushort)all[n + (size_t)i].revents : 0;
    if (g_main_context_check(context, priority, theirs, n_theirs))
        g_main_context_dispatch(context);
    g_main_context_release(context);
    if (r < 0)
        return r;
    r = 0;
    for (size_t i = 0; i < n; i++) {
        fds[i].revents = all[i].revents;
        r += fds[i].revents != 0;
    }
    return r;
}

/* Timers go on while something else is waited for. */
static int poll_with_desktop(struct pollfd *fds, size_t n, int timeout_msec)
{
    const int64_t end = g_get_monotonic_time() + (int64_t)timeout_msec * 1000;
    int r, left = timeout_msec;

    do {
        r = iterate(fds, n, left);
        if (timeout_msec >= 0)
            left = (int)MAX((end - g_get_monotonic_time()) / 1000, 0);
    } while (r == 0 && left != 0);
    return r;
}

struct desktop *tools_desktop(void)
{
    struct desktop_host host = {.withdrawn = on_withdrawn, .rang = on_rang};
    int fd;

    if (desktop)
        return desktop;
    fd = open("/dev/tty", O_RDWR | O_CLOEXEC);
    asks = fd >= 0 && isatty(STDERR_FILENO);
    closep(&fd);
    if (asks)
        host.confirm = on_confirm;
    desktop = desktop_new("lfmctl", &host, NULL);
    terminal_poll_by(poll_with_desktop);
    return desktop;
}

void tools_close(void)
{
    desktop = desktop_free(desktop);
    terminal_poll_by(NULL);
}

/* A key of the user: 'y', 'n', 'a'; 0: interrupted, or nobody is there any more. */
static char read_choice(int tty)
{
    char key = 0;

    while (!key && terminal_interrupts() == 0) {
        if (terminal_wait(tty, -1) < 0)
            continue;
        if (read(tty, &key, 1) <= 0)
            break;
        key = (char)g_ascii_tolower(key);
        key = strchr("yna", key) ? key : key == '\n' || key == '\033' || key == 4 ? 'n' : 0;
    }
    return key;
}

static enum desktop_decision ask_user(void)
{
    _cleanup_(closep) int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    g_auto(GStrv) lines = g_strsplit(desktop_question_detail(question), "\n", -1);
    const char *origin = desktop_question_origin(question);
    struct termios before, now;
    char choice;

    if (tty < 0 || tcgetattr(tty, &before) < 0)
        return DESKTOP_REFUSE;
    now = before;
    now.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    tcsetattr(tty, TCSAFLUSH, &now); /* a key typed before the question is no answer to it */
    fprintf(stderr, "%s%s%s\n", terminal_style(2, STYLE_BOLD), desktop_question_text(question),
            terminal_style(2, STYLE_PLAIN));
    for (size_t i = 0; lines[i]; i++)
        fprintf(stderr, "  %s\n", lines[i]);
    if (strcmp(origin, "built in") != 0)
        fprintf(stderr, "  (%s)\n", origin);
    fputs("yes, no or always? [y/n/a] ", stderr);
    choice = read_choice(tty);
    tcsetattr(tty, TCSANOW, &before);
    fprintf(stderr, "%s\n", choice == 'y'   ? "yes"
                            : choice == 'a' ? "always"
                                            : "no");
    return choice == 'y' ? DESKTOP_ONCE : choice == 'a' ? DESKTOP_ALWAYS : DESKTOP_REFUSE;
}

struct outcome {
    bool done;
    struct tools_result *result;
};

static void on_done(const struct desktop_result *result, void *userdata)
{
    struct outcome *outcome = userdata;

    outcome->done = true;
    *outcome->result = (struct tools_result){
        .ok = result->ok,
        .text = strdup(result->text),
        .sentence = strdup(result->sentence),
        .undo = result->undo ? strdup(result->undo) : NULL,
    };
}

static void wait_for(struct outcome *outcome, GCancellable *cancellable)
{
    while (!outcome->done) {
        if (question) {
            struct desktop_question *asked = question;
            const enum desktop_decision decision = ask_user();

            if (question) { /* it may have been withdrawn meanwhile */
                question = NULL;
                desktop_answer(asked, decision);
            }
        }
        if (cancellable && terminal_interrupts() > 0)
            g_cancellable_cancel(cancellable);
        iterate(NULL, 0, -1);
    }
}

void tools_call(const char *name, struct json_object *arguments, struct tools_result *ret)
{
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    struct outcome outcome = {.result = ret};

    desktop_call(tools_desktop(), name, arguments, cancellable, on_done, &outcome);
    wait_for(&outcome, cancellable);
}

void tools_undo(const char *id, struct tools_result *ret)
{
    struct outcome outcome = {.result = ret};

    desktop_undo(tools_desktop(), id, on_done, &outcome);
    wait_for(&outcome, NULL);
}

void tools_result_done(struct tools_result *result)
{
    free(result->text);
    free(result->sentence);
    free(result->undo);
    *result = (struct tools_result){0};
}

struct listed {
    bool done;
    char *text;
};

static void on_listed(struct json_object *tools, const char *const *problems, void *userdata)
{
    struct listed *listed = userdata;

    for (size_t i = 0; problems[i]; i++)
        terminal_error("%s", problems[i]);
    listed->done = true;
    listed->text = strdup(json_object_to_json_string_ext(tools, JSON_C_TO_STRING_NOSLASHESCAPE));
}

char *tools_list(const char *model)
{
    struct listed listed = {0};

    desktop_list(tools_desktop(), model, on_listed, &listed);
    while (!listed.done)
        iterate(NULL, 0, -1);
    return listed.text;
}

int tools_wait_for_timers(void)
{
    bool told = false;

    while (desktop) {
        struct json_object *timers = desktop_timers(desktop);
        const size_t n = json_object_array_length(timers);

        json_object_put(timers);
        if (n == 0 && !desktop_busy(desktop))
            break;
        if (terminal_interrupts() > 0)
            return STATUS_INTERRUPTED;
        if (!told && n > 0)
            terminal_note("(waiting for %zu %s; ^C ends)", n, n == 1 ? "timer" : "timers");
        told = true;
        iterate(NULL, 0, -1);
    }
    return STATUS_OK;
}

char *tools_answer(const struct options *options, const char *name, struct json_object *arguments)
{
    struct tools_result result;
    enum desktop_way way;
    char *text;

    if (options->tool_command)
        return answer_program(options->tool_command, name, arguments);
    if (options->dry_run_tools && strcmp(name, "calculate") != 0)
        return strdup("{\"ok\": true}");
    way = desktop_way(tools_desktop(), name);
    if (way == DESKTOP_ASKS && !asks)
        terminal_note("(nobody can be asked here: lfmctl tools allow %s)", name);
    if (way == DESKTOP_UNKNOWN || (way == DESKTOP_ASKS && !asks))
        return NULL;
    tools_call(name, arguments, &result);
    terminal_note("  %s", result.sentence);
    text = TAKE_PTR(result.text);
    tools_result_done(&result);
    return text;
}
