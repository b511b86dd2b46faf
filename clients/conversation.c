/* SPDX-License-Identifier: MIT */
#include "clients/conversation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/bus.h"
#include "clients/lines.h"
#include "clients/terminal.h"
#include "clients/tools.h"

#define FILE_MAX       ((size_t)1 << 20)
#define PROGRESS_AFTER_USEC 700000

/* --- opening -------------------------------------------------------------------------------- */

/* A whole file as text, malloc; NULL after a sentence. */
static char *read_file(const char *path)
{
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    _cleanup_(freep) char *text = malloc(FILE_MAX + 1);
    size_t length = 0;
    ssize_t n = -1;

    if (fd >= 0 && text) {
        while ((n = read(fd, text + length, FILE_MAX - length)) > 0)
            length += (size_t)n;
    }
    if (n < 0) {
        terminal_error("'%s' cannot be read: %s.", path, strerror(errno));
        return NULL;
    }
    if (length == FILE_MAX) {
        terminal_error("'%s' is larger than %zu bytes.", path, FILE_MAX);
        return NULL;
    }
    text[length] = '\0';
    return TAKE_PTR(text);
}

/* "Now: Monday, 23 November 2026, 14:05.": the words are English everywhere. */
static void clock_line(char *out, size_t size)
{
    time_t now = time(NULL);
    struct tm local;

    localtime_r(&now, &local);
    strftime(out, size, "Now: %A, %-d %B %Y, %H:%M.", &local);
}

/* Which model the session will have; "": none, and the daemon will say so. NULL after a
 * sentence. */
static char *model_id(sd_bus *bus, const struct options *options)
{
    _cleanup_(bus_jsonp) struct json_object *manager = NULL, *model = NULL;
    const char *path;

    if (options->model)
        return strdup(options->model);
    if (bus_properties(bus, BUS_ROOT, BUS_MANAGER, &manager) != STATUS_OK)
        return NULL;
    path = bus_text(manager, "DefaultModel");
    if (strcmp(path, "/") == 0)
        return strdup("");
    return bus_properties(bus, path, BUS_MODEL, &model) == STATUS_OK
               ? strdup(bus_text(model, "Id"))
               : NULL;
}

/* malloc, NULL: none */
static char *system_text(const struct options *options, bool own_model)
{
    char clock[96] = "", *text = NULL;

    if (own_model && !options->no_clock)
        clock_line(clock, sizeof(clock));
    if (!options->system && !clock[0])
        return NULL;
    if (asprintf(&text, "%s%s%s", options->system ? options->system : "",
                 options->system && clock[0] ? "\n" : "", clock) < 0)
        return NULL;
    return text;
}

/* -1 after a sentence; *ret NULL: none. own_model NULL: another one. */
static int tools_text(const struct options *options, const char *own_model, char **ret)
{
    *ret = NULL;
    if (options->no_tools || (!options->tools && !own_model))
        return 0;
    if (options->tools && strcmp(options->tools, "desktop") != 0)
        *ret = read_file(options->tools);
    else
        *ret = tools_list(own_model);
    return *ret ? 0 : -1;
}

static int append_options(sd_bus_message *call, const struct options *options, const char *system,
                          const char *tools)
{
    int r = sd_bus_message_open_container(call, 'a', "{sv}");

    /* Without a name the daemon may still take another, when a picture comes with the first
     * turn. */
    if (r >= 0 && options->model)
        r = bus_option(call, "model", "s", options->model);
    if (r >= 0 && system)
        r = bus_option(call, "system", "s", system);
    if (r >= 0 && tools)
        r = bus_option(call, "tools", "s", tools);
    if (r >= 0 && options->title)
        r = bus_option(call, "title", "s", options->title);
    if (r >= 0 && options->context)
        r = bus_option(call, "context", "u", &options->context);
    if (r >= 0 && options->background)
        r = bus_option(call, "priority", "s", "background");
    if (r >= 0 && options->keep)
        r = bus_option(call, "keep", "b", &(int){1});
    return r < 0 ? r : sd_bus_message_close_container(call);
}

static int create(struct conversation *c, const char *system, const char *tools)
{
    _cleanup_(bus_messagep) sd_bus_message *call = NULL;
    _cleanup_(bus_messagep) sd_bus_message *reply = NULL;
    _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
    const char *path;
    int r;

    r = sd_bus_message_new_method_call(c->bus, &call, BUS_NAME, BUS_ROOT, BUS_MANAGER,
                                       c->options->session ? "OpenSession" : "CreateSession");
    if (r >= 0 && c->options->session) {
        r = sd_bus_message_append(call, "s", c->options->session);
        if (r >= 0)
            r = sd_bus_message_append(call, "a{sv}", 0);
    } else if (r >= 0) {
        r = append_options(call, c->options, system, tools);
    }
    if (r >= 0)
        r = bus_send(c->bus, call, &error, &reply);
    if (r >= 0)
        r = sd_bus_message_read(reply, "o", &path);
    if (r < 0)
        return bus_failure(&error, r);
    c->path = strdup(path);
    return STATUS_OK;
}

int conversation_open(struct conversation *c, sd_bus *bus, const struct options *options)
{
    _cleanup_(bus_jsonp) struct json_object *properties = NULL;
    _cleanup_(freep) char *system = NULL, *tools = NULL;
    struct json_object *value;
    int status;

    c->bus = bus;
    c->options = options;
    if (!options->session) {
        bool own_model = false; /* clock and tools are of no use for pictures */

        if (!options->n_images) {
            c->model = model_id(bus, options);
            if (!c->model)
                return STATUS_DAEMON;
            own_model = strncmp(c->model, "lfmd-", 5) == 0;
        }
        system = system_text(options, own_model);
        if (tools_text(options, own_model ? c->model : NULL, &tools) < 0)
            return STATUS_ERROR;
    }
    status = create(c, system, tools);
    if (status != STATUS_OK)
        return status;
    status = bus_properties(bus, c->path, BUS_SESSION, &properties);
    if (status == STATUS_OK && json_object_object_get_ex(properties, "Id", &value))
        c->id = strdup(json_object_get_string(value));
    return status;
}

void conversation_close(struct conversation *c)
{
    if (c->path) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;

        /* A daemon that is gone has closed it already. */
        sd_bus_call_method(c->bus, BUS_NAME, c->path, BUS_SESSION, "Close", &error, NULL, NULL);
    }
    free(c->path);
    free(c->id);
    free(c->model);
    c->path = c->id = c->model = NULL;
}

/* --- asking --------------------------------------------------------------------------------- */

static int append_sampling(sd_bus_message *call, const struct options *o)
{
    int r;

    if (!o->has_temperature && !o->has_top_p && !o->has_min_p && !o->has_top_k && !o->has_seed)
        return 0;
    r = sd_bus_message_open_container(call, 'e', "sv");
    if (r >= 0)
        r = sd_bus_message_append(call, "s", "sampling");
    if (r >= 0)
        r = sd_bus_message_open_container(call, 'v', "a{sv}");
    if (r >= 0)
        r = sd_bus_message_open_container(call, 'a', "{sv}");
    if (r >= 0 && o->has_temperature)
        r = bus_option(call, "temperature", "d", &o->temperature);
    if (r >= 0 && o->has_top_p)
        r = bus_option(call, "top_p", "d", &o->top_p);
    if (r >= 0 && o->has_min_p)
        r = bus_option(call, "min_p", "d", &o->min_p);
    if (r >= 0 && o->has_top_k)
        r = bus_option(call, "top_k", "u", &o->top_k);
    if (r >= 0 && o->has_seed)
        r = bus_option(call, "seed", "t", &o->seed);
    for (int i = 0; i < 3 && r >= 0; i++)
        r = sd_bus_message_close_container(call);
    return r;
}

static int append_ask_options(sd_bus_message *call, const struct options *o, const char *format)
{
    int r = sd_bus_message_open_container(call, 'a', "{sv}");

    if (r >= 0 && o->max_tokens)
        r = bus_option(call, "max_tokens", "u", &o->max_tokens);
    if (r >= 0 && format)
        r = bus_option(call, "format", "s", format);
    if (r >= 0 && o->n_stop) {
        r = sd_bus_message_open_container(call, 'e', "sv");
        if (r >= 0)
            r = sd_bus_message_append(call, "s", "stop");
        if (r >= 0)
            r = sd_bus_message_open_container(call, 'v', "as");
        if (r >= 0)
            r = sd_bus_message_append_strv(call, (char **)o->stop);
        for (int i = 0; i < 2 && r >= 0; i++)
            r = sd_bus_message_close_container(call);
    }
    if (r >= 0)
        r = append_sampling(call, o);
    return r < 0 ? r : sd_bus_message_close_container(call);
}

static int append_picture(sd_bus_message *call, int fd, const struct options *options)
{
    int r = sd_bus_message_open_container(call, 'a', "{sv}");

    if (r >= 0)
        r = bus_option(call, "type", "s", "image");
    if (r >= 0)
        r = bus_option(call, "fd", "h", &fd);
    if (r >= 0)
        r = pictures_append_settings(call, options);
    return r < 0 ? r : sd_bus_message_close_container(call);
}

/* parts: array of {"type", "text"[, "id"]}; pictures come before them. */
static int append_parts(sd_bus_message *call, struct json_object *parts,
                        const struct pictures *pictures, const struct options *options)
{
    int r = sd_bus_message_open_container(call, 'a', "a{sv}");

    for (unsigned i = 0; i < pictures->n && r >= 0; i++)
        r = append_picture(call, pictures->fds[i], options);
    for (size_t i = 0; i < json_object_array_length(parts) && r >= 0; i++) {
        r = sd_bus_message_open_container(call, 'a', "{sv}");
        json_object_object_foreach(json_object_array_get_idx(parts, i), key, value)
        {
            if (r >= 0)
                r = bus_option(call, key, "s", json_object_get_string(value));
        }
        if (r >= 0)
            r = sd_bus_message_close_container(call);
    }
    return r < 0 ? r : sd_bus_message_close_container(call);
}

static void add_part(struct json_object *parts, const char *type, const char *id, const char *text)
{
    struct json_object *part = json_object_new_object();

    json_object_object_add(part, "type", json_object_new_string(type));
    if (id)
        json_object_object_add(part, "id", json_object_new_string(id));
    json_object_object_add(part, "text", json_object_new_string(text));
    json_object_array_add(parts, part);
}

/* A turn that streams. */
struct turn {
    struct conversation *conversation;
    int fd;
    uint32_t number;
    struct json_object *calls; /* array of the tool_call events */
    struct progress progress;
    uint64_t begun_usec, topic; /* topic: of the progress; 0: the prompt, else a picture */
    bool on_new_line, thinking, finished;
    int status;
};

static uint64_t now_usec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void end_thinking(struct turn *t)
{
    if (t->thinking)
        fprintf(stderr, "%s\n\n", terminal_style(2, STYLE_PLAIN));
    t->thinking = false;
}

static void show_thinking(struct turn *t, const char *text)
{
    progress_clear(&t->progress);
    if (!t->conversation->options->thinking)
        return;
    if (!t->thinking)
        fputs(terminal_style(2, STYLE_DIM), stderr);
    t->thinking = true;
    terminal_text(stderr, text, strlen(text));
}

static void show_text(struct turn *t, const char *text)
{
    size_t length = strlen(text);

    progress_clear(&t->progress);
    end_thinking(t);
    if (length == 0)
        return;
    terminal_text(stdout, text, length);
    fflush(stdout);
    t->on_new_line = text[length - 1] == '\n';
}

static void begin_line(struct turn *t)
{
    progress_clear(&t->progress);
    end_thinking(t);
    if (!t->on_new_line)
        putchar('\n');
    t->on_new_line = true;
    fflush(stdout);
}

static void show_call(struct turn *t, struct json_object *event)
{
    _cleanup_(freep) char *text = NULL;
    struct json_object *arguments = NULL;

    json_object_object_get_ex(event, "arguments", &arguments);
    text = tools_call_text(bus_text(event, "name"), arguments);
    begin_line(t);
    fputs(terminal_style(1, STYLE_TOOL), stdout);
    if (text)
        terminal_text(stdout, text, strlen(text));
    printf("%s\n", terminal_style(1, STYLE_PLAIN));
    fflush(stdout);
}

/* "12 ms", "3.45 s" */
static const char *span(uint64_t usec, char text[24])
{
    if (usec < 1000000)
        snprintf(text, 24, "%u ms", (unsigned)((usec + 500) / 1000));
    else
        snprintf(text, 24, "%.2f s", (double)usec / 1e6);
    return text;
}

static double per_second(uint64_t n, uint64_t usec)
{
    return usec > 0 ? (double)n * 1e6 / (double)usec : 0;
}

static void show_stats(struct json_object *event)
{
    struct json_object *usage = NULL;
    uint64_t n_prompt, n_cached, n_completion;
    char first[24], load[24], queue[24];

    if (!json_object_object_get_ex(event, "usage", &usage))
        return;
    n_prompt = bus_number(usage, "prompt_tokens");
    n_cached = bus_number(usage, "cached_tokens");
    n_completion = bus_number(usage, "completion_tokens");
    terminal_note("%s%s (load %s, wait %s); prompt %ju tokens, %ju from memory, %.0f/s; "
                  "answer %ju tokens, %.1f/s",
                  n_completion ? "first token after " : "no token",
                  n_completion ? span(bus_number(usage, "first_token_usec"), first) : "",
                  span(bus_number(usage, "load_usec"), load),
                  span(bus_number(usage, "queue_usec"), queue), (uintmax_t)n_prompt,
                  (uintmax_t)n_cached,
                  per_second(n_prompt - n_cached, bus_number(usage, "prompt_usec")),
                  (uintmax_t)n_completion,
                  per_second(n_completion, bus_number(usage, "completion_usec")));
}

/* Tokens that were read, or views of the pictures that were looked at. */
static void show_progress(struct turn *t, struct json_object *event)
{
    const bool looking = strcmp(bus_text(event, "stage"), "image") == 0;
    const uint64_t image = bus_number(event, "image"), topic = looking ? image + 1 : 0;
    char what[48] = "reading";

    if (topic != t->topic) {
        progress_clear(&t->progress);
        t->progress = (struct progress){0}; /* it begins at its own 0 */
        t->topic = topic;
    }
    if (now_usec() - t->begun_usec < PROGRESS_AFTER_USEC)
        return;
    if (looking && image && bus_number(event, "images") > 1)
        snprintf(what, sizeof(what), "looking at picture %ju of %ju", (uintmax_t)image,
                 (uintmax_t)bus_number(event, "images"));
    else if (looking)
        snprintf(what, sizeof(what), "looking");
    progress_show(&t->progress, what, bus_number(event, "done"), bus_number(event, "total"),
                  PROGRESS_COUNT);
}

/* How a picture was looked at. */
static void show_picture(struct turn *t, struct json_object *event)
{
    const uint64_t cols = bus_number(event, "cols"), rows = bus_number(event, "rows");
    const uint64_t predicted = bus_number(event, "predicted_ms");
    char grid[32] = "one view", times[2][24], predicted_text[48] = "";

    progress_clear(&t->progress);
    if (!t->conversation->options->stats)
        return;
    if (cols * rows > 1)
        snprintf(grid, sizeof(grid), "%jux%ju tiles", (uintmax_t)cols, (uintmax_t)rows);
    if (predicted && !bus_flag(event, "cached"))
        snprintf(predicted_text, sizeof(predicted_text), ", %s were expected",
                 span(predicted * 1000, times[1]));
    terminal_note("picture %ju, %jux%ju: %s%s, %ju tokens, %s%s",
                  (uintmax_t)bus_number(event, "image"), (uintmax_t)bus_number(event, "width"),
                  (uintmax_t)bus_number(event, "height"), grid,
                  bus_flag(event, "shortened") ? " (to be in time)" : "",
                  (uintmax_t)bus_number(event, "tokens"),
                  bus_flag(event, "cached") ? "from memory"
                                            : span(bus_number(event, "encode_ms") * 1000, times[0]),
                  predicted_text);
}

static void on_done(struct turn *t, struct json_object *event)
{
    const char *reason = bus_text(event, "reason");
    uint64_t dropped = bus_number(event, "dropped_turns");

    t->finished = true;
    if (strcmp(reason, "cancelled") == 0)
        t->status = STATUS_INTERRUPTED;
    if (t->conversation->options->json)
        return;
    begin_line(t);
    if (t->status == STATUS_INTERRUPTED)
        terminal_note("(cancelled)");
    else if (strcmp(reason, "length") == 0)
        terminal_note("(cut off: the limit of tokens is reached)");
    if (dropped > 0)
        terminal_note("(the context is full: the oldest %ju turns were left out)",
                      (uintmax_t)dropped);
    if (t->conversation->options->stats)
        show_stats(event);
}

static void on_error(struct turn *t, struct json_object *event)
{
    char name[128];
    sd_bus_error error = SD_BUS_ERROR_NULL;

    t->finished = true;
    if (!t->conversation->options->json) {
        begin_line(t);
        terminal_error("%s", bus_text(event, "message"));
    }
    snprintf(name, sizeof(name), "org.lfmd.Assistant1.Error.%.60s", bus_text(event, "name"));
    error.name = name;
    t->status = bus_status_of(&error);
}

static void on_event(struct turn *t, const char *line)
{
    _cleanup_(bus_jsonp) struct json_object *event = json_tokener_parse(line);
    const char *type = bus_text(event, "event");

    if (t->conversation->options->json) {
        puts(line);
        fflush(stdout);
    }
    if (strcmp(type, "tool_call") == 0)
        json_object_array_add(t->calls, json_object_get(event));
    if (strcmp(type, "done") == 0)
        on_done(t, event);
    else if (strcmp(type, "error") == 0)
        on_error(t, event);
    else if (t->conversation->options->json)
        return;
    else if (strcmp(type, "text") == 0)
        show_text(t, bus_text(event, "text"));
    else if (strcmp(type, "thinking") == 0)
        show_thinking(t, bus_text(event, "text"));
    else if (strcmp(type, "tool_call") == 0)
        show_call(t, event);
    else if (strcmp(type, "progress") == 0)
        show_progress(t, event);
    else if (strcmp(type, "image") == 0)
        show_picture(t, event);
}

static void cancel(void *userdata)
{
    _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
    struct turn *t = userdata;

    sd_bus_call_method(t->conversation->bus, BUS_NAME, t->conversation->path, BUS_SESSION, "Cancel",
                       &error, NULL, "u", t->number);
}

static bool on_line(void *userdata, const char *line)
{
    struct turn *t = userdata;

    on_event(t, line);
    return !t->finished;
}

static int stream(struct turn *t)
{
    static const struct lines_sink sink = {.line = on_line, .interrupted = cancel};
    int status = lines_read(t->fd, &sink, t);

    if (status == STATUS_DAEMON) {
        begin_line(t);
        terminal_error("The daemon ended in the middle of the answer.");
    }
    return status == STATUS_OK ? t->status : status;
}

static int begin(struct turn *t, struct json_object *parts, const struct pictures *pictures,
                 const char *format)
{
    struct conversation *c = t->conversation;
    _cleanup_(bus_messagep) sd_bus_message *call = NULL;
    _cleanup_(bus_messagep) sd_bus_message *reply = NULL;
    _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
    int r, fd;

    r = sd_bus_message_new_method_call(c->bus, &call, BUS_NAME, c->path, BUS_SESSION, "Ask");
    if (r >= 0)
        r = append_parts(call, parts, pictures, c->options);
    if (r >= 0)
        r = append_ask_options(call, c->options, format);
    if (r >= 0)
        r = bus_send(c->bus, call, &error, &reply);
    if (r >= 0)
        r = sd_bus_message_read(reply, "hu", &fd, &t->number);
    if (r < 0)
        return bus_failure(&error, r);
    t->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    t->begun_usec = now_usec();
    return t->fd < 0 ? bus_failure(NULL, -errno) : STATUS_OK;
}

struct json_object *conversation_answers(struct conversation *c, uint32_t turn,
                                         struct json_object *calls)
{
    struct json_object *parts = json_object_new_array();

    for (size_t i = 0; i < json_object_array_length(calls); i++) {
        struct json_object *call = json_object_array_get_idx(calls, i), *arguments = NULL;
        const char *name = bus_text(call, "name"), *id = bus_text(call, "id");
        _cleanup_(freep) char *text = NULL;

        json_object_object_get_ex(call, "arguments", &arguments);
        text = tools_answer(c->options, name, arguments);
        if (!text && c->ask_person)
            text = c->ask_person(c->userdata, name);
        if (!text) {
            json_object_put(parts);
            return NULL;
        }
        add_part(parts, "tool_result", id, text);
        if (c->options->json) {
            _cleanup_(bus_jsonp) struct json_object *event = json_object_new_object();

            json_object_object_add(event, "event", json_object_new_string("tool_result"));
            json_object_object_add(event, "turn", json_object_new_int64(turn));
            json_object_object_add(event, "id", json_object_new_string(id));
            json_object_object_add(event, "text", json_object_new_string(text));
            puts(json_object_to_json_string_ext(event, JSON_C_TO_STRING_NOSLASHESCAPE));
            fflush(stdout);
        } else {
            terminal_note("  = %s", text);
        }
    }
    return parts;
}

/* *ret: the parts of the turn that must follow, or NULL. */
static int one_turn(struct conversation *c, struct json_object *parts,
                    const struct pictures *pictures, const char *format, struct json_object **ret)
{
    struct turn t = {.conversation = c, .fd = -1, .on_new_line = true};
    int status;

    *ret = NULL;
    t.calls = json_object_new_array();
    status = begin(&t, parts, pictures, format);
    if (status == STATUS_OK) {
        status = stream(&t);
        progress_clear(&t.progress);
    }
    closep(&t.fd);
    if (status == STATUS_OK && json_object_array_length(t.calls) > 0)
        *ret = conversation_answers(c, t.number, t.calls);
    json_object_put(t.calls);
    return status;
}

int conversation_go_on(struct conversation *c, struct json_object *parts)
{
    static const struct pictures none;
    struct options options = *c->options;
    struct conversation silent = *c;
    struct json_object *next;
    int status;

    options.json = options.stats = false; /* what there is to tell comes elsewhere */
    silent.options = &options;
    status = one_turn(&silent, parts, &none, NULL, &next);
    json_object_put(next);
    return status;
}

int conversation_ask(struct conversation *c, const char *text, const struct pictures *pictures)
{
    static const struct pictures none;
    struct json_object *parts = json_object_new_array(), *next;
    _cleanup_(freep) char *format = NULL;
    int status = STATUS_OK;

    if (c->options->format && strcmp(c->options->format, "json") == 0)
        format = strdup("");
    else if (c->options->format)
        format = read_file(c->options->format);
    if (c->options->format && !format) {
        json_object_put(parts);
        return STATUS_ERROR;
    }
    terminal_forget_interrupts();
    if (*text)
        add_part(parts, "text", NULL, text);
    for (unsigned i = 0; parts && i < ROUNDS_MAX && status == STATUS_OK; i++) {
        status = one_turn(c, parts, i == 0 ? pictures : &none, format, &next);
        json_object_put(parts);
        parts = next;
    }
    if (parts && status == STATUS_OK)
        terminal_note("(the model does not stop calling tools)");
    json_object_put(parts);
    return status;
}
