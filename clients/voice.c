/* SPDX-License-Identifier: MIT */
/* lfmctl transcribe, say and silence: recordings to text, text to sound. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "clients/bus.h"
#include "clients/lines.h"
#include "clients/verbs.h"
#include "clients/wav.h"

#define TEXT_MAX ((size_t)256 << 10) /* bytes: the limit of the daemon */

/* --- transcribe ----------------------------------------------------------------------------- */

/* What a pipe brings, in a file without a name. */
static int copy_pipe(int from)
{
    _cleanup_(closep) int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char chunk[65536];
    ssize_t n = -1;

    while (fd >= 0) {
        if (terminal_wait(from, -1) < 0) {
            if (terminal_interrupts() > 0)
                return -1;
            continue;
        }
        n = read(from, chunk, sizeof(chunk));
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0 || write(fd, chunk, (size_t)n) != n)
            break;
    }
    if (fd >= 0 && n == 0)
        return TAKE_FD(fd);
    terminal_error("The recording cannot be read: %s.", strerror(errno));
    return -1;
}

/* "-" is standard input. -1 after a sentence. */
static int open_recording(const char *path)
{
    const bool is_stdin = strcmp(path, "-") == 0;
    _cleanup_(closep) int fd =
        is_stdin ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        terminal_error("'%s' cannot be read: %s.", path, strerror(errno));
        return -1;
    }
    if (S_ISDIR(st.st_mode)) {
        terminal_error("'%s' is a folder, not a recording.", path);
        return -1;
    }
    return S_ISREG(st.st_mode) ? TAKE_FD(fd) : copy_pipe(fd);
}

struct transcript {
    const struct options *options;
    const char *path;
    struct progress progress;
    bool understood; /* something of it */
    int status;
};


static void print_json_line(const struct transcript *t, struct json_object *event)
{
    json_object_object_add(event, "file", json_object_new_string(t->path));
    puts(json_object_to_json_string_ext(event, JSON_C_TO_STRING_PLAIN |
                                                   JSON_C_TO_STRING_NOSLASHESCAPE));
    fflush(stdout);
}

static void print_segment(struct transcript *t, struct json_object *event)
{
    const char *text = bus_text(event, "text");
    const uint64_t from = bus_number(event, "start_ms"), to = bus_number(event, "end_ms");
    char start[24], end[24];

    t->understood = true;
    if (t->options->times)
        printf("%s[%s.%" PRIu64 " - %s.%" PRIu64 "]%s ", terminal_style(1, STYLE_DIM),
               terminal_clock(from, start), from / 100 % 10, terminal_clock(to, end),
               to / 100 % 10, terminal_style(1, STYLE_PLAIN));
    terminal_text(stdout, text, strlen(text));
    putchar('\n');
    fflush(stdout);
}

static void on_error(struct transcript *t, struct json_object *event)
{
    char name[128];
    sd_bus_error error = SD_BUS_ERROR_NULL;

    snprintf(name, sizeof(name), "org.lfmd.Assistant1.Error.%.60s", bus_text(event, "name"));
    error.name = name;
    t->status = bus_status_of(&error);
    if (!t->options->json && t->path)
        terminal_error("%s: %s", t->path, bus_text(event, "message"));
    else if (!t->options->json)
        terminal_error("%s", bus_text(event, "message"));
}

static bool on_line(void *userdata, const char *line)
{
    struct transcript *t = userdata;
    _cleanup_(bus_jsonp) struct json_object *event = json_tokener_parse(line);
    const char *type = bus_text(event, "event");
    const bool is_error = strcmp(type, "error") == 0;
    const uint64_t total = bus_number(event, "total_ms");

    if (t->options->json)
        print_json_line(t, event);
    if (strcmp(type, "progress") == 0 && total > 0 && !t->options->json)
        progress_show(&t->progress, "listening", bus_number(event, "done_ms"), total,
                      PROGRESS_MSEC);
    if (strcmp(type, "segment") == 0 && !t->options->json) {
        progress_clear(&t->progress);
        print_segment(t, event);
    }
    if (is_error)
        on_error(t, event);
    return !is_error && strcmp(type, "done") != 0;
}

static int append_options(sd_bus_message *call, const struct options *options, bool aloud)
{
    int r = sd_bus_message_open_container(call, 'a', "{sv}");

    if (r >= 0 && options->model)
        r = bus_option(call, "model", "s", options->model);
    if (r >= 0 && options->voice)
        r = bus_option(call, "voice", "s", options->voice);
    if (r >= 0 && options->rate > 0)
        r = bus_option(call, "rate", "d", &options->rate);
    if (r >= 0 && options->pitch > 0)
        r = bus_option(call, "pitch", "d", &options->pitch);
    if (r >= 0 && options->background)
        r = bus_option(call, "priority", "s", "background");
    if (r >= 0 && aloud)
        r = bus_option(call, "output", "s", "device");
    if (r >= 0 && aloud && options->now)
        r = bus_option(call, "when", "s", "now");
    return r < 0 ? r : sd_bus_message_close_container(call);
}

/* Manager.METHOD(h or s, a{sv}): *ret_fd is the reply's. */
static int call(sd_bus *bus, const struct options *options, const char *method, char type,
                const void *value, sd_bus_message **ret_reply, int *ret_fd)
{
    _cleanup_(bus_messagep) sd_bus_message *message = NULL;
    _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
    int r = sd_bus_message_new_method_call(bus, &message, BUS_NAME, BUS_ROOT, BUS_MANAGER, method);

    if (r >= 0)
        r = sd_bus_message_append_basic(message, type, value);
    if (r >= 0)
        r = append_options(message, options, type == 's' && !options->output);
    if (r >= 0)
        r = bus_send(bus, message, &error, ret_reply);
    if (r >= 0)
        r = sd_bus_message_read(*ret_reply, "h", ret_fd);
    return r < 0 ? bus_failure(&error, r) : STATUS_OK;
}

static int transcribe(sd_bus *bus, const struct options *options, const char *path)
{
    static const struct lines_sink sink = {.line = on_line}; /* Ctrl-C: closing it cancels */
    _cleanup_(bus_messagep) sd_bus_message *reply = NULL;
    _cleanup_(closep) int recording = open_recording(path);
    struct transcript t = {.options = options, .path = path, .status = STATUS_OK};
    int fd, status;

    if (recording < 0)
        return terminal_interrupts() > 0 ? STATUS_INTERRUPTED : STATUS_ERROR;
    status = call(bus, options, "Transcribe", 'h', &recording, &reply, &fd);
    if (status != STATUS_OK)
        return status;
    status = lines_read(fd, &sink, &t);
    progress_clear(&t.progress);
    if (status == STATUS_DAEMON)
        terminal_error("%s: The daemon ended before it had heard the recording to its end.", path);
    if (status == STATUS_OK && t.status == STATUS_OK && !t.understood && !options->json)
        terminal_note("%s: No words were understood.", path);
    return status == STATUS_OK ? t.status : status;
}

int transcribe_run(sd_bus *bus, const struct options *options)
{
    int status = STATUS_OK, result = STATUS_OK;

    if (!options->n_arguments) {
        terminal_error("Which recording? \"lfmctl transcribe FILE...\"; \"-\" is standard input.");
        return STATUS_USAGE;
    }
    for (unsigned i = 0; i < options->n_arguments && status != STATUS_DAEMON; i++) {
        const char *path = options->arguments[i];

        if (options->n_arguments > 1 && !options->json) {
            printf("%s%s", i > 0 ? "\n" : "", terminal_style(1, STYLE_BOLD));
            terminal_text(stdout, path, strlen(path));
            printf("%s\n", terminal_style(1, STYLE_PLAIN));
        }
        status = transcribe(bus, options, path);
        if (status == STATUS_INTERRUPTED)
            return status;
        if (status != STATUS_OK)
            result = status; /* the others are heard all the same */
    }
    return result;
}

/* --- say ------------------------------------------------------------------------------------ */

/* The rest of the text. STATUS_OK, or another after a sentence. */
static int read_text(char *text, size_t *length)
{
    while (*length <= TEXT_MAX) {
        ssize_t n;

        if (terminal_wait(STDIN_FILENO, -1) < 0) {
            if (terminal_interrupts() > 0)
                return STATUS_INTERRUPTED;
            continue;
        }
        n = read(STDIN_FILENO, text + *length, TEXT_MAX + 1 - *length);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0) {
            terminal_error("Standard input cannot be read: %s.", strerror(errno));
            return STATUS_ERROR;
        }
        if (n == 0)
            return STATUS_OK;
        *length += (size_t)n;
    }
    return STATUS_OK;
}

/* The words of the command line, or standard input: *ret, malloc. */
static int text_to_say(const struct options *options, char **ret)
{
    _cleanup_(freep) char *text = malloc(TEXT_MAX + 2);
    size_t length = 0;
    int status = STATUS_OK;

    if (!text) {
        terminal_error("There is no memory for the text.");
        return STATUS_ERROR;
    }
    for (unsigned i = 0; i < options->n_arguments; i++) {
        const char *word = options->arguments[i];

        if (length + strlen(word) + 1 > TEXT_MAX) {
            length = TEXT_MAX + 1;
            break;
        }
        length += (size_t)sprintf(text + length, "%s%s", i > 0 ? " " : "", word);
    }
    if (options->n_arguments == 0)
        status = read_text(text, &length);
    if (status != STATUS_OK)
        return status;
    if (length > TEXT_MAX) {
        terminal_error("The text is longer than %zu bytes, which is the limit.", TEXT_MAX);
        return STATUS_ERROR;
    }
    text[length] = '\0';
    if (strlen(text) < length || !utf8_valid(text, length)) {
        terminal_error("The text is not UTF-8.");
        return STATUS_ERROR;
    }
    *ret = TAKE_PTR(text);
    return STATUS_OK;
}

static bool on_said(void *userdata, const char *line)
{
    struct transcript *t = userdata;
    _cleanup_(bus_jsonp) struct json_object *event = json_tokener_parse(line);
    const char *type = bus_text(event, "event");

    if (strcmp(type, "error") == 0)
        on_error(t, event);
    return strcmp(type, "error") != 0 && strcmp(type, "done") != 0;
}

/* Wait until it was said; Ctrl-C ends it. */
static int say_aloud(int fd, const struct options *options)
{
    static const struct lines_sink sink = {.line = on_said};
    struct transcript t = {.options = options, .status = STATUS_OK};
    const int status = lines_read(fd, &sink, &t);

    if (status == STATUS_DAEMON)
        terminal_error("The daemon ended before it had said all.");
    return status == STATUS_OK ? t.status : status;
}

int say_run(sd_bus *bus, const struct options *options)
{
    _cleanup_(bus_messagep) sd_bus_message *reply = NULL;
    _cleanup_(freep) char *text = NULL;
    int fd, status = text_to_say(options, &text);

    if (status != STATUS_OK)
        return status;
    status = call(bus, options, "Speak", 's', text, &reply, &fd);
    if (status != STATUS_OK)
        return status;
    if (!options->output)
        return say_aloud(fd, options);
    return wav_save(fd, options->output);
}

int silence_run(sd_bus *bus, const struct options *options)
{
    if (options->n_arguments) {
        terminal_error("\"lfmctl silence\" takes no argument.");
        return STATUS_USAGE;
    }
    return bus_call(bus, BUS_ROOT, BUS_MANAGER, "Silence", NULL, "");
}
