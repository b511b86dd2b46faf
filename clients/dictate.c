/* SPDX-License-Identifier: MIT */
/* lfmctl dictate: what is said, to standard output, the clipboard or the window with the
 * keyboard. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/bus.h"
#include "clients/typing.h"
#include "clients/verbs.h"

/* Held by the dictation under way; whoever takes it over, ends it: one shortcut does both. */
#define DICTATION_NAME "org.lfmd.Dictation1"

#define LINE_MAX_BYTES 65536
#define TEXT_MAX       ((size_t)1 << 20) /* of a dictation that is kept for the clipboard */
#define SILENCE_MSEC   5000

struct dictation {
    sd_bus *bus;
    const struct options *options;
    const char *path; /* of the session */
    int fd;           /* its events */
    char line[LINE_MAX_BYTES];
    size_t length;
    struct typing *typing; /* into a window; NULL: not */
    char *text;            /* for the clipboard; NULL: not */
    size_t text_length;
    bool has_keys, has_guess, said, stopping, ended;
    int status;
};

/* --- what is seen --------------------------------------------------------------------------- */

static void clear_guess(struct dictation *d)
{
    if (d->has_guess)
        fputs("\r\033[K", stderr);
    d->has_guess = false;
}

/* The words so far, on one line of the terminal. */
static void show_guess(struct dictation *d, struct json_object *event)
{
    const char *text = bus_text(event, "text"), *tail = bus_text(event, "tail");

    if (!isatty(STDERR_FILENO) || d->options->quiet)
        return;
    clear_guess(d);
    fputs("\033[?7l", stderr); /* what is too long is not wrapped */
    terminal_text(stderr, text, strlen(text));
    fputs(terminal_style(2, STYLE_DIM), stderr);
    terminal_text(stderr, tail, strlen(tail));
    fprintf(stderr, "%s\033[?7h", terminal_style(2, STYLE_PLAIN));
    d->has_guess = true;
}

static void keep(struct dictation *d, const char *text)
{
    const size_t length = strlen(text);

    if (d->text_length + length + 2 > TEXT_MAX)
        return;
    d->text_length += (size_t)sprintf(d->text + d->text_length, "%s%s",
                                      d->text_length > 0 ? " " : "", text);
}

static int type(struct dictation *d, const char *text)
{
    const int status = d->said ? typing_type(d->typing, " ") : STATUS_OK;

    return status == STATUS_OK ? typing_type(d->typing, text) : status;
}

/* A turn, as it stays. */
static void take_text(struct dictation *d, const char *text)
{
    clear_guess(d);
    if (!*text)
        return;
    if (d->typing && d->status == STATUS_OK)
        d->status = type(d, text);
    if (d->text)
        keep(d, text);
    if (!d->options->json && (!d->typing || !d->options->quiet)) {
        FILE *out = d->typing || d->text ? stderr : stdout;

        terminal_text(out, text, strlen(text));
        putc('\n', out);
        fflush(out);
    }
    d->said = true;
}

/* --- what is done --------------------------------------------------------------------------- */

/* What is being said is the end. */
static void stop(struct dictation *d)
{
    if (!d->stopping && !d->ended)
        bus_call(d->bus, d->path, BUS_SESSION, "StopListening", NULL, "");
    d->stopping = true;
}

static void on_error(struct dictation *d, struct json_object *event)
{
    char name[128];
    sd_bus_error error = SD_BUS_ERROR_NULL;

    snprintf(name, sizeof(name), "org.lfmd.Assistant1.Error.%.60s", bus_text(event, "name"));
    error.name = name;
    d->status = bus_status_of(&error);
    if (!d->options->json)
        terminal_error("%s", bus_text(event, "message"));
}

static void on_listening(const struct dictation *d, struct json_object *event)
{
    if (!bus_flag(event, "on") && !d->stopping)
        terminal_note("Nothing is heard. %s", bus_text(event, "message"));
    else if (bus_flag(event, "on") && d->has_keys)
        terminal_note("Speak. Any key ends it.");
}

static void on_event(struct dictation *d, const char *line)
{
    _cleanup_(bus_jsonp) struct json_object *event = json_tokener_parse(line);
    const char *type = bus_text(event, "event");

    if (d->options->json) {
        puts(line);
        fflush(stdout);
    } else if (strcmp(type, "listening") == 0) {
        on_listening(d, event);
    } else if (strcmp(type, "partial") == 0) {
        show_guess(d, event);
    }
    if (strcmp(type, "transcript") == 0)
        take_text(d, bus_text(event, "text"));
    else if (strcmp(type, "waited") == 0)
        stop(d);
    else if (strcmp(type, "error") == 0)
        on_error(d, event);
    d->ended = d->ended || strcmp(type, "error") == 0 || strcmp(type, "done") == 0;
    if (d->status != STATUS_OK)
        stop(d);
}

/* False: the daemon has closed the stream. */
static bool take_lines(struct dictation *d)
{
    const ssize_t n = read(d->fd, d->line + d->length, sizeof(d->line) - 1 - d->length);
    char *newline;

    if (n <= 0)
        return false;
    d->length += (size_t)n;
    d->line[d->length] = '\0';
    while ((newline = strchr(d->line, '\n'))) {
        *newline = '\0';
        on_event(d, d->line);
        d->length -= (size_t)(newline + 1 - d->line);
        memmove(d->line, newline + 1, d->length + 1);
    }
    if (d->length == sizeof(d->line) - 1)
        d->length = 0; /* no line of the daemon's is that long */
    return true;
}

static int on_name_lost(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    const char *name;

    (void)error;
    if (sd_bus_message_read_basic(message, 's', &name) >= 0 && strcmp(name, DICTATION_NAME) == 0)
        stop(userdata);
    return 0;
}

/* True: another one was under way, and ends now. */
static bool end_other(sd_bus *bus)
{
    if (sd_bus_request_name(bus, DICTATION_NAME, SD_BUS_NAME_ALLOW_REPLACEMENT) != -EEXIST)
        return false;
    sd_bus_request_name(bus, DICTATION_NAME, SD_BUS_NAME_REPLACE_EXISTING);
    return true;
}

static int run(struct dictation *d)
{
    while (!d->ended) {
        struct pollfd fds[] = {{.fd = d->fd, .events = POLLIN},
                               {.fd = d->has_keys ? STDIN_FILENO : -1, .events = POLLIN},
                               {.fd = sd_bus_get_fd(d->bus), .events = POLLIN}};
        char key;

        while (sd_bus_process(d->bus, NULL) > 0)
            ;
        if (d->ended)
            break;
        if (terminal_poll(fds, ARRAY_LEN(fds), -1) < 0) {
            if (terminal_interrupts() > 1)
                return STATUS_INTERRUPTED;
            if (terminal_interrupts() > 0)
                stop(d);
            continue;
        }
        if (fds[1].revents) {
            d->has_keys = read(STDIN_FILENO, &key, 1) == 1;
            stop(d);
        }
        if (fds[0].revents && !take_lines(d)) {
            terminal_error("The daemon has gone.");
            return STATUS_DAEMON;
        }
    }
    return d->status;
}

static int start(struct dictation *d, sd_bus_message **ret_reply)
{
    const struct options *options = d->options;
    const uint32_t wait_ms = !options->silence_ms               ? SILENCE_MSEC
                             : options->silence_ms == UINT32_MAX ? 0
                                                                 : options->silence_ms;
    _cleanup_(bus_messagep) sd_bus_message *call = NULL;
    _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
    int r = sd_bus_message_new_method_call(d->bus, &call, BUS_NAME, d->path, BUS_SESSION,
                                           "StartListening");

    if (r >= 0)
        r = sd_bus_message_open_container(call, 'a', "{sv}");
    if (r >= 0)
        r = bus_option(call, "mode", "s", "transcribe");
    if (r >= 0)
        r = bus_option(call, "max_wait_ms", "u", &wait_ms);
    if (r >= 0 && options->source)
        r = bus_option(call, "source", "s", options->source);
    if (r >= 0 && options->hangover_ms)
        r = bus_option(call, "hangover_ms", "u", &options->hangover_ms);
    if (r >= 0)
        r = sd_bus_message_close_container(call);
    if (r >= 0)
        r = bus_send(d->bus, call, &error, ret_reply);
    if (r >= 0)
        r = sd_bus_message_read(*ret_reply, "h", &d->fd);
    return r < 0 ? bus_failure(&error, r) : STATUS_OK;
}

/* Where the text goes; before anybody speaks. */
static int take_place(struct dictation *d)
{
    const char *to = d->options->to ? d->options->to : "stdout";

    if (strcmp(to, "window") == 0)
        return typing_open(d->bus, &d->typing);
    if (strcmp(to, "clipboard") != 0)
        return STATUS_OK;
    d->text = calloc(1, TEXT_MAX);
    if (d->text)
        return clipboard_check();
    terminal_error("There is not enough memory.");
    return STATUS_ERROR;
}

static int dictate(struct dictation *d)
{
    _cleanup_(bus_messagep) sd_bus_message *session = NULL, *stream = NULL;
    int status = take_place(d);

    if (status == STATUS_OK)
        status = bus_create_session(d->bus, d->options->model, &session, &d->path);
    if (status == STATUS_OK)
        status = sd_bus_match_signal(d->bus, NULL, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                     "org.freedesktop.DBus", "NameLost", on_name_lost, d) < 0
                     ? bus_failure(NULL, -EIO)
                     : start(d, &stream);
    if (status != STATUS_OK)
        return status;
    d->has_keys = terminal_take_keys();
    status = run(d);
    clear_guess(d);
    terminal_give_keys_back();
    if (d->text && d->said && clipboard_set(d->text) != STATUS_OK && status == STATUS_OK)
        status = STATUS_ERROR;
    if (!d->said && status == STATUS_OK)
        terminal_note("Nothing was said.");
    return status;
}

int dictate_run(sd_bus *bus, const struct options *options)
{
    struct dictation *d;
    int status;

    if (options->n_arguments) {
        terminal_error("\"lfmctl dictate\" takes no argument.");
        return STATUS_USAGE;
    }
    if (end_other(bus))
        return STATUS_OK;
    d = calloc(1, sizeof(*d));
    if (!d) {
        terminal_error("There is not enough memory.");
        return STATUS_ERROR;
    }
    d->bus = bus;
    d->options = options;
    status = dictate(d);
    typing_close(d->typing);
    free(d->text);
    free(d);
    return status;
}
