/* SPDX-License-Identifier: MIT */
/* lfmctl listen, toggle, devices and permissions: speech to speech in the terminal or in the
 * window, through what, and who may. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/bus.h"
#include "clients/conversation.h"
#include "clients/recorded.h"
#include "clients/tools.h"
#include "clients/verbs.h"

#define LINE_MAX_BYTES 65536
#define METER_WIDTH    20
#define METER_DB       50 /* from silence to full */

struct ear {
    sd_bus *bus;
    const struct options *options;
    struct conversation conversation; /* the session */
    struct json_object *calls;        /* of the turn: array of events */
    unsigned n_rounds;                /* of calls, since somebody has spoken */
    int fd;                           /* its events */
    char line[LINE_MAX_BYTES];
    size_t length;
    bool has_terminal; /* for keys */
    bool in_text, has_meter, speaking, push;
    struct json_object *said; /* transcript that came in the middle of the answer's text, or NULL */
    bool one_turn; /* of a recording: until it is answered and written down */
    bool answered, understood;
    int status;
    bool ended;
};

/* --- what is seen --------------------------------------------------------------------------- */

static void clear_meter(struct ear *ear)
{
    if (ear->has_meter)
        fputs("\r\033[K", stderr);
    ear->has_meter = false;
}

static void end_text(struct ear *ear)
{
    if (ear->in_text)
        putchar('\n');
    ear->in_text = false;
    fflush(stdout);
}

static void show_meter(struct ear *ear, struct json_object *event)
{
    struct json_object *value;
    int db = -METER_DB, n;

    if (!isatty(STDERR_FILENO) || ear->options->quiet || ear->in_text)
        return;
    if (json_object_object_get_ex(event, "db", &value))
        db = json_object_get_int(value);
    n = MIN(MAX((db + METER_DB) * METER_WIDTH / METER_DB, 0), METER_WIDTH);
    fprintf(stderr, "\r%s%-*.*s%s %s", terminal_style(2, STYLE_DIM), METER_WIDTH, n,
            "||||||||||||||||||||", terminal_style(2, STYLE_PLAIN),
            ear->speaking ? "listening" : "         ");
    ear->has_meter = true;
}

static void show_text(struct ear *ear, struct json_object *event)
{
    const char *text = bus_text(event, "text");

    clear_meter(ear);
    ear->in_text = true;
    terminal_text(stdout, text, strlen(text));
    fflush(stdout);
}

/* What the user has said, as it was understood. */
static void show_said(const struct ear *ear, struct json_object *event)
{
    const char *text = bus_text(event, "text");

    if (ear->options->quiet)
        return;
    printf("%s> ", terminal_style(1, STYLE_DIM));
    terminal_text(stdout, text, strlen(text));
    printf("%s\n", terminal_style(1, STYLE_PLAIN));
    fflush(stdout);
}

static void show_call(struct json_object *event)
{
    struct json_object *arguments = NULL;
    _cleanup_(freep) char *text = NULL;

    json_object_object_get_ex(event, "arguments", &arguments);
    text = tools_call_text(bus_text(event, "name"), arguments);
    fputs(terminal_style(1, STYLE_TOOL), stdout);
    if (text)
        terminal_text(stdout, text, strlen(text));
    printf("%s\n", terminal_style(1, STYLE_PLAIN));
    fflush(stdout);
}

static void show_listening(struct json_object *event)
{
    if (bus_flag(event, "on"))
        terminal_note("The microphone is open.");
    else
        terminal_note("The microphone is closed. %s", bus_text(event, "message"));
}

/* Who was asked for may be a model of another kind, which then answers what is typed alone. */
static void show_model(const struct ear *ear, const char *id)
{
    const char *wanted = ear->options->model;

    if (wanted && strncasecmp(id, wanted, strlen(wanted)) != 0)
        terminal_note("%s does not hear and speak; %s listens.", wanted, id);
}

static void show_loudspeaker(struct json_object *event)
{
    if (bus_flag(event, "on"))
        terminal_note("The loudspeaker is there again.");
    else
        terminal_note("%s", bus_text(event, "message"));
}

static void on_error(struct ear *ear, struct json_object *event)
{
    char name[128];
    sd_bus_error error = SD_BUS_ERROR_NULL;

    snprintf(name, sizeof(name), "org.lfmd.Assistant1.Error.%.60s", bus_text(event, "name"));
    error.name = name;
    ear->status = bus_status_of(&error);
    if (!ear->options->json)
        terminal_error("%s", bus_text(event, "message"));
}

/* What the turn has called is done, and what comes of it said. True: so the turn goes on. */
static bool answer_calls(struct ear *ear, struct json_object *done)
{
    _cleanup_(bus_jsonp) struct json_object *calls = ear->calls;
    _cleanup_(bus_jsonp) struct json_object *parts = NULL;

    ear->calls = json_object_new_array();
    if (strcmp(bus_text(done, "reason"), "tool_calls") != 0)
        return false;
    if (ear->n_rounds++ == ROUNDS_MAX) {
        terminal_note("(the model does not stop calling tools)");
        return false;
    }
    parts = conversation_answers(&ear->conversation, (uint32_t)bus_number(done, "turn"), calls);
    return parts && conversation_go_on(&ear->conversation, parts) == STATUS_OK;
}

static void on_event(struct ear *ear, const char *line)
{
    _cleanup_(bus_jsonp) struct json_object *event = json_tokener_parse(line);
    const char *type = bus_text(event, "event");

    if (ear->options->json) {
        puts(line);
        fflush(stdout);
    } else if (strcmp(type, "level") == 0) {
        show_meter(ear, event);
        return;
    } else if (strcmp(type, "text") == 0) {
        show_text(ear, event);
    } else if (strcmp(type, "transcript") == 0 && ear->in_text) {
        json_object_put(ear->said);
        ear->said = json_object_get(event);
    } else if (strcmp(type, "audio_start") != 0) { /* which comes in the middle of the text */
        clear_meter(ear);
        end_text(ear);
        if (ear->said)
            show_said(ear, ear->said);
        json_object_put(ear->said);
        ear->said = NULL;
        if (strcmp(type, "listening") == 0 && !ear->one_turn)
            show_listening(event);
        else if (strcmp(type, "loudspeaker") == 0)
            show_loudspeaker(event);
        else if (strcmp(type, "interrupted") == 0)
            terminal_note("(interrupted after %.1f s)",
                          (double)bus_number(event, "heard_ms") / 1e3);
        else if (strcmp(type, "start") == 0)
            show_model(ear, bus_text(event, "model"));
        else if (strcmp(type, "transcript") == 0)
            show_said(ear, event);
        else if (strcmp(type, "tool_call") == 0)
            show_call(event);
        else if (strcmp(type, "waited") == 0)
            terminal_note("Nobody has said anything.");
    }
    if (strcmp(type, "tool_call") == 0)
        json_object_array_add(ear->calls, json_object_get(event));
    if (strcmp(type, "speech_start") == 0) {
        ear->speaking = true;
        ear->n_rounds = 0;
    } else if (strcmp(type, "speech_end") == 0) {
        ear->speaking = false;
    }
    if (strcmp(type, "error") == 0)
        on_error(ear, event);
    ear->ended = ear->ended || strcmp(type, "error") == 0 || strcmp(type, "done") == 0 ||
                 strcmp(type, "waited") == 0;
    if (strcmp(type, "turn_done") == 0) {
        if (!ear->options->json && *bus_text(event, "message"))
            terminal_error("%s", bus_text(event, "message"));
        ear->answered = !answer_calls(ear, event);
    }
    ear->understood = ear->understood || strcmp(type, "transcript") == 0;
    ear->ended = ear->ended || (ear->one_turn && ear->answered && ear->understood);
}

/* --- what is done --------------------------------------------------------------------------- */

static int command(struct ear *ear, const char *method)
{
    return bus_call(ear->bus, ear->conversation.path, BUS_SESSION, method, NULL, "");
}

/* Space: the turn begins or ends (push to talk), or ends now. Escape: silence. q: the end. */
static void on_key(struct ear *ear)
{
    char key;

    if (read(STDIN_FILENO, &key, 1) != 1) {
        ear->has_terminal = false;
        return;
    }
    switch (key) {
    case ' ':
    case '\r':
    case '\n':
        command(ear, ear->push && !ear->speaking ? "Press" : "EndOfTurn");
        break;
    case '\033':
    case 's':
        command(ear, "Interrupt");
        break;
    case 'q':
    case 4:
        command(ear, "StopListening");
        break;
    }
}

static void take_keys(struct ear *ear)
{
    ear->has_terminal = terminal_take_keys();
    if (!ear->has_terminal)
        return;
    terminal_note("%s, s to silence it, q to end.",
                  ear->push ? "Space to speak and to end your turn" : "Space to end your turn");
}

/* False: the daemon has closed the stream. */
static bool take_lines(struct ear *ear)
{
    const ssize_t n = read(ear->fd, ear->line + ear->length, sizeof(ear->line) - 1 - ear->length);
    char *newline;

    if (n <= 0)
        return false;
    ear->length += (size_t)n;
    ear->line[ear->length] = '\0';
    while ((newline = strchr(ear->line, '\n'))) {
        *newline = '\0';
        on_event(ear, ear->line);
        ear->length -= (size_t)(newline + 1 - ear->line);
        memmove(ear->line, newline + 1, ear->length + 1);
    }
    if (ear->length == sizeof(ear->line) - 1)
        ear->length = 0; /* no line of the daemon's is that long */
    return true;
}

static int run(struct ear *ear)
{
    const int keys = ear->has_terminal ? STDIN_FILENO : -1;

    while (!ear->ended) {
        struct pollfd fds[] = {{.fd = ear->fd, .events = POLLIN},
                               {.fd = ear->has_terminal ? keys : -1, .events = POLLIN}};

        if (terminal_poll(fds, ARRAY_LEN(fds), -1) < 0) {
            if (terminal_interrupts() > 0)
                return STATUS_INTERRUPTED;
            continue;
        }
        if (fds[1].revents)
            on_key(ear);
        if (fds[0].revents && !take_lines(ear)) {
            terminal_error("The daemon has gone.");
            return STATUS_DAEMON;
        }
    }
    return ear->status;
}

static int start(sd_bus *bus, const struct options *options, const char *path,
                 sd_bus_message **ret_reply, int *ret_fd)
{
    _cleanup_(bus_messagep) sd_bus_message *call = NULL;
    _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
    int r = sd_bus_message_new_method_call(bus, &call, BUS_NAME, path, BUS_SESSION,
                                           "StartListening");

    if (r >= 0)
        r = sd_bus_message_open_container(call, 'a', "{sv}");
    if (r >= 0)
        r = bus_option(call, "levels", "b", &(int){!options->json});
    if (r >= 0)
        r = bus_option(call, "transcripts", "b", &(int){1});
    if (r >= 0 && options->mode)
        r = bus_option(call, "mode", "s", options->mode);
    if (r >= 0 && options->system)
        r = bus_option(call, "system", "s", options->system);
    if (r >= 0 && options->hangover_ms)
        r = bus_option(call, "hangover_ms", "u", &options->hangover_ms);
    if (r >= 0)
        r = sd_bus_message_close_container(call);
    if (r >= 0)
        r = bus_send(bus, call, &error, ret_reply);
    if (r >= 0)
        r = sd_bus_message_read(*ret_reply, "h", ret_fd);
    return r < 0 ? bus_failure(&error, r) : STATUS_OK;
}

int listen_run(sd_bus *bus, const struct options *options)
{
    _cleanup_(bus_messagep) sd_bus_message *stream = NULL;
    struct recorded *recorded = NULL;
    struct ear *ear;
    int status, saved;

    if (options->output && !options->input) {
        terminal_error("--output is for the answer to a recording: --input FILE.");
        return STATUS_USAGE;
    }
    if (options->output && strcmp(options->output, "-") == 0) {
        terminal_error("--output must be a file: what is said is written to standard output.");
        return STATUS_USAGE;
    }
    if (options->n_arguments > 0) {
        terminal_error(
            "\"lfmctl listen\" takes no argument; --input FILE is one turn of a recording.");
        return STATUS_USAGE;
    }
    ear = calloc(1, sizeof(*ear));
    if (!ear) {
        terminal_error("There is not enough memory.");
        return STATUS_ERROR;
    }
    ear->bus = bus;
    ear->options = options;
    ear->push = options->mode && strcmp(options->mode, "push") == 0;
    ear->calls = json_object_new_array();
    status = conversation_open(&ear->conversation, bus, options);
    if (status == STATUS_OK && options->input)
        status =
            recorded_open(bus, ear->conversation.path, options->input, options->output, &recorded);
    if (status == STATUS_OK)
        status = start(bus, options, ear->conversation.path, &stream, &ear->fd);
    if (status == STATUS_OK) {
        ear->one_turn = options->input != NULL;
        if (options->input)
            status = recorded_start(recorded);
        else
            take_keys(ear);
        if (status == STATUS_OK)
            status = run(ear);
        clear_meter(ear);
        end_text(ear);
        if (ear->said)
            show_said(ear, ear->said);
        terminal_give_keys_back();
        if (options->keep && !options->json)
            terminal_note("kept: lfmctl chat --session %s", ear->conversation.id);
    }
    conversation_close(&ear->conversation);
    saved = recorded_close(recorded);
    json_object_put(ear->calls);
    json_object_put(ear->said);
    free(ear);
    status = status == STATUS_OK ? saved : status;
    return status == STATUS_OK ? tools_wait_for_timers() : status;
}

/* --- toggle --------------------------------------------------------------------------------- */

/* The window lfm-assistant listens, or ends the turn; the bus starts it where it is not open. */
int toggle_run(sd_bus *bus, const struct options *options)
{
    _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
    int r;

    if (options->n_arguments > 0) {
        terminal_error("\"lfmctl toggle\" takes no argument.");
        return STATUS_USAGE;
    }
    r = sd_bus_call_method(bus, "org.lfmd.Assistant", "/org/lfmd/Assistant",
                           "org.freedesktop.Application", "ActivateAction", &error, NULL,
                           "sava{sv}", "toggle-listening", 0, 0);
    if (sd_bus_error_has_name(&error, SD_BUS_ERROR_SERVICE_UNKNOWN)) {
        terminal_error("The assistant's window, lfm-assistant, is not installed.");
        return STATUS_ERROR;
    }
    return r < 0 ? bus_failure(&error, r) : STATUS_OK;
}

/* --- devices -------------------------------------------------------------------------------- */

int devices_run(sd_bus *bus, const struct options *options)
{
    _cleanup_(bus_messagep) sd_bus_message *reply = NULL;
    _cleanup_(bus_jsonp) struct json_object *devices = NULL;
    int status;

    if (options->n_arguments > 0) {
        terminal_error("\"lfmctl devices\" takes no argument.");
        return STATUS_USAGE;
    }
    status = bus_call(bus, BUS_ROOT, BUS_MANAGER, "ListDevices", &reply, "");
    if (status != STATUS_OK)
        return status;
    devices = bus_value(reply);
    if (options->json) {
        puts(json_object_to_json_string_ext(devices, JSON_C_TO_STRING_PLAIN |
                                                         JSON_C_TO_STRING_NOSLASHESCAPE));
        return STATUS_OK;
    }
    if (json_object_array_length(devices) == 0)
        terminal_note("This machine has no sound devices.");
    for (size_t i = 0; i < json_object_array_length(devices); i++) {
        struct json_object *device = json_object_array_get_idx(devices, i);
        const char *name = bus_text(device, "name");

        if (i == 0)
            printf("%sIN  OUT  RATE    NAME%s\n", terminal_style(1, STYLE_BOLD),
                   terminal_style(1, STYLE_PLAIN));
        printf("%2" PRIu64 "%s %2" PRIu64 "%s  %6" PRIu64 "  ", bus_number(device, "inputs"),
               bus_flag(device, "default_input") ? "*" : " ", bus_number(device, "outputs"),
               bus_flag(device, "default_output") ? "*" : " ", bus_number(device, "rate"));
        terminal_text(stdout, name, strlen(name));
        putchar('\n');
    }
    return STATUS_OK;
}

/* --- permissions ---------------------------------------------------------------------------- */

static int list_permissions(sd_bus *bus, const struct options *options)
{
    _cleanup_(bus_messagep) sd_bus_message *reply = NULL;
    _cleanup_(bus_jsonp) struct json_object *list = NULL;
    int status = bus_call(bus, BUS_ROOT, BUS_MANAGER, "ListPermissions", &reply, "");

    if (status != STATUS_OK)
        return status;
    list = bus_value(reply);
    if (options->json) {
        puts(json_object_to_json_string_ext(list, JSON_C_TO_STRING_PLAIN |
                                                      JSON_C_TO_STRING_NOSLASHESCAPE));
        return STATUS_OK;
    }
    if (json_object_array_length(list) == 0)
        terminal_note("No program has been decided about.");
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *one = json_object_array_get_idx(list, i);
        const char *app = bus_text(one, "program");

        printf("%-10s  %-5s  ", bus_text(one, "resource"),
               bus_flag(one, "allowed") ? "allow" : "deny");
        terminal_text(stdout, app, strlen(app));
        putchar('\n');
    }
    return STATUS_OK;
}

/* As the daemon knows it, malloc: a command is the file that it runs. NULL: there is no such. */
static char *program_name(const char *given)
{
    const char *path = getenv("PATH");
    _cleanup_(freep) char *list = strdup(path ? path : ""), *file = NULL;
    char *rest, *folder;

    if (strpbrk(given, "/.")) /* a path, the id of an application */
        return strdup(given);
    for (folder = list ? strtok_r(list, ":", &rest) : NULL; folder;
         folder = strtok_r(NULL, ":", &rest)) {
        free(file);
        if (asprintf(&file, "%s/%s", folder, given) < 0)
            file = NULL;
        if (file && access(file, X_OK) == 0)
            return realpath(file, NULL);
    }
    return NULL;
}

int permissions_run(sd_bus *bus, const struct options *options)
{
    _cleanup_(freep) char *program = NULL;
    const char *const *words = (const char *const *)options->arguments;

    if (options->n_arguments == 0 ||
        (options->n_arguments == 1 && strcmp(words[0], "list") == 0))
        return list_permissions(bus, options);
    if (options->n_arguments != 2 ||
        (strcmp(words[0], "allow") != 0 && strcmp(words[0], "deny") != 0 &&
         strcmp(words[0], "ask") != 0)) {
        terminal_error("\"lfmctl permissions\" knows list, and allow, deny or ask PROGRAM.");
        return STATUS_USAGE;
    }
    program = program_name(words[1]);
    if (!program) {
        terminal_error(
            "There is no program '%s' here; name it by the path of its file, or by the id "
            "of its desktop file.",
            words[1]);
        return STATUS_ERROR;
    }
    return bus_call(bus, BUS_ROOT, BUS_MANAGER, "SetPermission", NULL, "sss", "microphone", program,
                    words[0]);
}
