/* SPDX-License-Identifier: MIT */
/* lfmctl image and describe: how a picture would be looked at, and what it shows. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/bus.h"
#include "clients/lines.h"
#include "clients/picture.h"
#include "clients/verbs.h"

/* Manager.METHOD(h image, a{sv} options) for one picture. */
static int call_with_picture(sd_bus *bus, const struct options *options, const char *method,
                             const char *path, sd_bus_message **ret_reply)
{
    _cleanup_(bus_messagep) sd_bus_message *call = NULL;
    _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
    struct pictures picture = {0};
    int r, status = pictures_add(&picture, path);

    if (status != STATUS_OK)
        return status;
    r = sd_bus_message_new_method_call(bus, &call, BUS_NAME, BUS_ROOT, BUS_MANAGER, method);
    if (r >= 0)
        r = sd_bus_message_append_basic(call, 'h', &picture.fds[0]);
    if (r >= 0)
        r = sd_bus_message_open_container(call, 'a', "{sv}");
    if (r >= 0 && options->model)
        r = bus_option(call, "model", "s", options->model);
    if (r >= 0)
        r = pictures_append_settings(call, options);
    if (r >= 0)
        r = sd_bus_message_close_container(call);
    if (r >= 0)
        r = bus_send(bus, call, &error, ret_reply);
    pictures_done(&picture);
    bus_report_file(path);
    status = r < 0 ? bus_failure(&error, r) : STATUS_OK;
    bus_report_file(NULL);
    return status;
}

/* One object a line, with the name of the file in front. */
static void print_json(const char *path, struct json_object *object)
{
    struct json_object *line = json_object_new_object();

    json_object_object_add(line, "file", json_object_new_string(path));
    json_object_object_foreach(object, key, value)
        json_object_object_add(line, key, json_object_get(value));
    puts(json_object_to_json_string_ext(line, JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(line);
    fflush(stdout);
}

/* Which of several files the sentence before was about. */
static void note_file(const struct options *options, unsigned n_files, const char *path)
{
    if (n_files > 1 && !options->json)
        terminal_note("(%s)", path);
}

/* Names of files are text of somebody else. */
static void print_name(const char *path)
{
    terminal_text(stdout, path, strlen(path));
    putchar('\n');
}

/* --- image plan ----------------------------------------------------------------------------- */

static void print_head(void)
{
    printf("%s%11s  %9s  %5s  %5s  %6s  %8s  %s%s\n", terminal_style(1, STYLE_BOLD), "SIZE", "VIEW",
           "TILES", "VIEWS", "TOKENS", "TIME", "FILE", terminal_style(1, STYLE_PLAIN));
}

static void print_plan(const char *path, struct json_object *plan)
{
    const uint64_t cols = bus_number(plan, "cols"), rows = bus_number(plan, "rows");
    const uint64_t msec = bus_number(plan, "predicted_ms");
    char size[32], view[32], grid[32] = "-", time[32] = "-";

    snprintf(size, sizeof(size), "%" PRIu64 "x%" PRIu64, bus_number(plan, "width"),
             bus_number(plan, "height"));
    snprintf(view, sizeof(view), "%" PRIu64 "x%" PRIu64, bus_number(plan, "resized_width"),
             bus_number(plan, "resized_height"));
    if (cols * rows > 1)
        snprintf(grid, sizeof(grid), "%" PRIu64 "x%" PRIu64, cols, rows);
    if (msec >= 1000)
        snprintf(time, sizeof(time), "%.1f s", (double)msec / 1e3);
    else if (msec)
        snprintf(time, sizeof(time), "%" PRIu64 " ms", msec);
    printf("%11s  %9s  %5s  %5" PRIu64 "  %6" PRIu64 "  %8s  ", size, view, grid,
           bus_number(plan, "views"),
           bus_number(plan, "image_tokens") + bus_number(plan, "special_tokens"), time);
    print_name(path);
}

static int plan(sd_bus *bus, const struct options *options, const char *path, bool *has_head)
{
    _cleanup_(bus_messagep) sd_bus_message *reply = NULL;
    _cleanup_(bus_jsonp) struct json_object *values = NULL;
    int status = call_with_picture(bus, options, "PlanImage", path, &reply);

    if (status != STATUS_OK)
        return status;
    values = bus_value(reply);
    if (options->json) {
        print_json(path, values);
        return STATUS_OK;
    }
    if (!*has_head)
        print_head();
    *has_head = true;
    print_plan(path, values);
    return STATUS_OK;
}

int image_run(sd_bus *bus, const struct options *options)
{
    int status = STATUS_OK, result = STATUS_OK;
    bool has_head = false;

    if (options->n_arguments < 2 || strcmp(options->arguments[0], "plan") != 0) {
        terminal_error("\"lfmctl image\" knows plan FILE...");
        return STATUS_USAGE;
    }
    for (unsigned i = 1; i < options->n_arguments && status != STATUS_DAEMON; i++) {
        status = plan(bus, options, options->arguments[i], &has_head);
        if (status == STATUS_OK)
            continue;
        note_file(options, options->n_arguments - 1, options->arguments[i]);
        result = status; /* the others are planned all the same */
    }
    return result;
}

/* --- describe ------------------------------------------------------------------------------- */

struct description {
    const struct options *options;
    const char *path;
    struct progress progress;
    bool *has_text; /* from the files before: an empty line comes between */
    int status;
};

static void print_description(const struct description *d, struct json_object *event)
{
    const char *const parts[] = {bus_text(event, "short"), bus_text(event, "long"),
                                 bus_text(event, "text")};
    bool any = false;

    if (d->options->json) {
        print_json(d->path, event);
        return;
    }
    if (*d->has_text)
        putchar('\n');
    *d->has_text = true;
    if (d->options->n_arguments > 1) {
        fputs(terminal_style(1, STYLE_BOLD), stdout);
        print_name(d->path);
        fputs(terminal_style(1, STYLE_PLAIN), stdout);
    }
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (!*parts[i])
            continue;
        if (any)
            putchar('\n');
        terminal_text(stdout, parts[i], strlen(parts[i]));
        putchar('\n');
        any = true;
    }
    fflush(stdout);
    if (bus_flag(event, "unsure"))
        terminal_note("The model is not sure of this.");
}

static void on_error(struct description *d, struct json_object *event)
{
    char name[128];
    sd_bus_error error = SD_BUS_ERROR_NULL;

    snprintf(name, sizeof(name), "org.lfmd.Assistant1.Error.%.60s", bus_text(event, "name"));
    error.name = name;
    d->status = bus_status_of(&error);
    if (d->options->json)
        print_json(d->path, event);
    else
        terminal_error("%s", bus_text(event, "message"));
}

static bool on_line(void *userdata, const char *line)
{
    struct description *d = userdata;
    _cleanup_(bus_jsonp) struct json_object *event = json_tokener_parse(line);
    const char *type = bus_text(event, "event");

    if (strcmp(type, "progress") == 0) {
        if (!d->options->json && strcmp(bus_text(event, "stage"), "image") == 0)
            progress_show(&d->progress, "looking", bus_number(event, "done"),
                          bus_number(event, "total"), PROGRESS_COUNT);
        return true;
    }
    if (strcmp(type, "description") != 0 && strcmp(type, "error") != 0)
        return true;
    progress_clear(&d->progress);
    if (strcmp(type, "error") == 0)
        on_error(d, event);
    else
        print_description(d, event);
    return false;
}

static int describe(sd_bus *bus, const struct options *options, const char *path, bool *has_text)
{
    static const struct lines_sink sink = {.line = on_line}; /* Ctrl-C: closing it cancels */
    _cleanup_(bus_messagep) sd_bus_message *reply = NULL;
    struct description d = {
        .options = options, .path = path, .has_text = has_text, .status = STATUS_OK};
    int r, fd, status = call_with_picture(bus, options, "Describe", path, &reply);

    if (status != STATUS_OK)
        return status;
    r = sd_bus_message_read(reply, "h", &fd); /* the reply's */
    if (r < 0)
        return bus_failure(NULL, r);
    status = lines_read(fd, &sink, &d);
    progress_clear(&d.progress);
    if (status == STATUS_DAEMON)
        terminal_error("The daemon ended before it had described the picture.");
    return status == STATUS_OK ? d.status : status;
}

int describe_run(sd_bus *bus, const struct options *options)
{
    int status = STATUS_OK, result = STATUS_OK;
    bool has_text = false;

    if (!options->n_arguments) {
        terminal_error("Which picture? \"lfmctl describe FILE...\"; \"-\" is standard input.");
        return STATUS_USAGE;
    }
    for (unsigned i = 0; i < options->n_arguments && status != STATUS_DAEMON; i++) {
        status = describe(bus, options, options->arguments[i], &has_text);
        if (status == STATUS_INTERRUPTED)
            return status;
        if (status == STATUS_OK)
            continue;
        note_file(options, options->n_arguments, options->arguments[i]);
        result = status; /* the others are described all the same */
    }
    return result;
}
