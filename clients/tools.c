/* SPDX-License-Identifier: MIT */
#include "clients/tools.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/bus.h"
#include "clients/calculate.h"

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

static char *answer_calculate(struct json_object *arguments)
{
    struct json_object *expr;
    char result[CALCULATE_RESULT];
    struct error err = ERROR_INIT;
    char *text = NULL;

    if (!json_object_object_get_ex(arguments, "expr", &expr) &&
        !json_object_object_get_ex(arguments, "expression", &expr))
        return error_text("calculate needs expr");
    if (calculate(json_object_get_string(expr), result, &err) < 0)
        return error_text(err.text);
    return asprintf(&text, "{\"result\": %s}", result) < 0 ? NULL : text;
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

char *tools_answer(const struct options *options, const char *name, struct json_object *arguments)
{
    if (options->tool_command)
        return answer_program(options->tool_command, name, arguments);
    if (strcmp(name, "calculate") == 0)
        return answer_calculate(arguments);
    return options->dry_run_tools ? strdup("{\"ok\": true}") : NULL;
}
