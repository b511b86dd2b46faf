/* SPDX-License-Identifier: MIT */
#include "session/fetcher.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "session/json.h"

#define LINE_MAX_BYTES 4096

struct fetcher {
    pid_t pid; /* 0: it has ended */
    int fd;    /* its stdout */
    struct json_object *result; /* its "done" or "error", which counts when it has ended */
    size_t length;
    char line[LINE_MAX_BYTES]; /* what was read and not yet taken */
};

static int spawn(const char *program, int in, int out, pid_t *ret_pid)
{
    char *const arguments[] = {(char *)"lfmd-fetch", NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    extern char **environ;
    int r;

    /* The daemon blocks the signals that it reads from a descriptor; the helper must not. */
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    r = posix_spawn(ret_pid, program, &actions, &attributes, arguments, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return -r;
}

/* Start the process and write its request. */
static int start(struct fetcher *fetcher, const char *program, const char *request,
                 struct error *err)
{
    _cleanup_(closep) int in_read = -1, in_write = -1, out_read = -1, out_write = -1;
    int in[2], out[2], r;

    if (pipe2(in, O_CLOEXEC) < 0)
        return error_set(err, ERROR_IO, "No pipe to the download helper: %s.", strerror(errno));
    in_read = in[0];
    in_write = in[1];
    if (pipe2(out, O_CLOEXEC) < 0)
        return error_set(err, ERROR_IO, "No pipe to the download helper: %s.", strerror(errno));
    out_read = out[0];
    out_write = out[1];
    r = spawn(program, in_read, out_write, &fetcher->pid);
    if (r < 0) {
        fetcher->pid = 0;
        return error_set(err, ERROR_INTERNAL, "The download helper %.200s cannot be started: %s.",
                         program, strerror(-r));
    }
    if (write(in_write, request, strlen(request)) < 0)
        log_debug("The download helper took no request.");
    fcntl(out_read, F_SETFL, O_NONBLOCK);
    fetcher->fd = TAKE_FD(out_read);
    return 0;
}

struct fetcher *fetcher_new(const char *program, struct json_object *request, struct error *err)
{
    _cleanup_(json_putp) struct json_object *taken = request;
    _cleanup_(freep) char *text = json_write(taken);
    struct fetcher *fetcher = calloc(1, sizeof(*fetcher));

    if (!fetcher || !text) {
        free(fetcher);
        error_set(err, ERROR_NO_MEMORY, "There is no memory for a download.");
        return NULL;
    }
    fetcher->fd = -1;
    return start(fetcher, program, text, err) < 0 ? fetcher_free(fetcher) : fetcher;
}

struct fetcher *fetcher_free(struct fetcher *fetcher)
{
    if (!fetcher)
        return NULL;
    if (fetcher->pid) {
        kill(fetcher->pid, SIGTERM);
        waitpid(fetcher->pid, NULL, 0);
    }
    closep(&fetcher->fd);
    json_object_put(fetcher->result);
    free(fetcher);
    return NULL;
}

int fetcher_fd(const struct fetcher *fetcher)
{
    return fetcher->fd;
}

bool fetcher_read(struct fetcher *fetcher)
{
    ssize_t n;

    if (fetcher->length == sizeof(fetcher->line) - 1)
        fetcher->length = 0; /* no line of ours is that long */
    n = read(fetcher->fd, fetcher->line + fetcher->length,
             sizeof(fetcher->line) - 1 - fetcher->length);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    fetcher->length += (size_t)n;
    fetcher->line[fetcher->length] = '\0';
    return n > 0;
}

/* Take the first line. NULL: it is not complete. */
static struct json_object *take_line(struct fetcher *fetcher, bool *ret_any)
{
    char *newline = strchr(fetcher->line, '\n');
    struct json_object *event = NULL;

    *ret_any = newline != NULL;
    if (newline) {
        *newline = '\0';
        event = json_read(fetcher->line, json_type_object, "What the download helper said", NULL);
        fetcher->length -= (size_t)(newline + 1 - fetcher->line);
        memmove(fetcher->line, newline + 1, fetcher->length + 1);
    }
    return event;
}

struct json_object *fetcher_next(struct fetcher *fetcher)
{
    for (;;) {
        bool any;
        _cleanup_(json_putp) struct json_object *event = take_line(fetcher, &any);
        const char *name = event ? json_member_text(event, "event") : NULL;

        if (!any)
            return NULL;
        if (!name || fetcher->result)
            continue;
        if (strcmp(name, "done") != 0 && strcmp(name, "error") != 0)
            return TAKE_PTR(event);
        fetcher->result = TAKE_PTR(event);
    }
}

void fetcher_cancel(struct fetcher *fetcher)
{
    kill(fetcher->pid, SIGTERM);
}

static enum error_code code_of_name(const char *name)
{
    for (int code = ERROR_NONE + 1; code < _ERROR_N; code++) {
        if (name && strcmp(error_name((enum error_code)code), name) == 0)
            return (enum error_code)code;
    }
    return ERROR_INTERNAL;
}

struct json_object *fetcher_end(struct fetcher *fetcher, struct error *err)
{
    const char *message;
    int status = 0;

    waitpid(fetcher->pid, &status, 0);
    fetcher->pid = 0;
    if (!fetcher->result) {
        error_set(err, ERROR_INTERNAL,
                  WIFEXITED(status) && WEXITSTATUS(status) == 127
                      ? "The download helper lfmd-fetch cannot be started."
                      : "The download helper lfmd-fetch ended without a result.");
        return NULL;
    }
    if (strcmp(json_member_text(fetcher->result, "event"), "done") == 0)
        return TAKE_PTR(fetcher->result);
    message = json_member_text(fetcher->result, "message");
    error_set(err, code_of_name(json_member_text(fetcher->result, "name")), "%s",
              message ? message : "The download failed without a word.");
    return NULL;
}
