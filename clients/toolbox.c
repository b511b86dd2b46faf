/* SPDX-License-Identifier: MIT */
/* lfmctl tools: what a model may do on this desktop, what it has done, and taking that back. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "clients/bus.h"
#include "clients/tools.h"
#include "clients/verbs.h"

#define LOG_LINES 50

static void print_json(struct json_object *object)
{
    puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_NOSLASHESCAPE));
}

static void add_text(struct json_object *object, const char *key, const char *text)
{
    json_object_object_add(object, key, json_object_new_string(text));
}

static int list(const struct options *options)
{
    _cleanup_(freep) char *text = tools_list(NULL); /* files are read, servers started */
    struct desktop_tool tool;

    for (size_t i = 0; desktop_tool_at(tools_desktop(), i, &tool); i++) {
        const char *way = tool.harmless ? "not asked" : tool.allowed ? "allowed" : "asked";

        if (options->json) {
            _cleanup_(bus_jsonp) struct json_object *object = json_object_new_object();

            add_text(object, "name", tool.name);
            add_text(object, "description", tool.description);
            json_object_object_add(object, "parameters", json_object_get(tool.parameters));
            add_text(object, "origin", tool.origin);
            add_text(object, "consent", way);
            print_json(object);
        } else {
            printf("%-20s %-10s ", tool.name, way);
            terminal_text(stdout, tool.description, strlen(tool.description));
            printf("%s%s%s\n", strcmp(tool.origin, "built in") ? " (" : "",
                   strcmp(tool.origin, "built in") ? tool.origin : "",
                   strcmp(tool.origin, "built in") ? ")" : "");
        }
    }
    return STATUS_OK;
}

/* They end with this program, which is how they are undone. */
static bool timers_run(void)
{
    _cleanup_(bus_jsonp) struct json_object *timers = desktop_timers(tools_desktop());

    return json_object_array_length(timers) > 0;
}

/* What came of it; the timer that it may have set is waited for. */
static int outcome(const struct options *options, struct tools_result *result)
{
    const bool ok = result->ok;

    if (options->json)
        puts(result->text);
    else if (!ok)
        terminal_error("%s", result->sentence);
    else
        terminal_note("%s", result->sentence);
    if (!options->json && ok)
        puts(result->text);
    if (result->undo && !timers_run())
        terminal_note("(lfmctl tools undo %s)", result->undo);
    tools_result_done(result);
    return ok ? tools_wait_for_timers() : STATUS_ERROR;
}

static int run(const struct options *options, const char *name, const char *arguments)
{
    _cleanup_(bus_jsonp) struct json_object *object = json_tokener_parse(arguments);
    _cleanup_(freep) char *text = NULL;
    struct tools_result result;

    if (!json_object_is_type(object, json_type_object)) {
        terminal_error("The arguments must be a JSON object, such as '{\"minutes\": 10}'.");
        return STATUS_USAGE;
    }
    text = tools_list(NULL);
    tools_call(name, object, &result);
    return outcome(options, &result);
}

static int undo(const struct options *options, const char *id)
{
    struct tools_result result;

    tools_undo(id, &result);
    return outcome(options, &result);
}

static void print_record(struct json_object *record)
{
    const time_t at = (time_t)bus_number(record, "time");
    char when[32] = "";
    struct tm local;

    if (localtime_r(&at, &local))
        strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &local);
    printf("%s %s  %-14s %-9s ", bus_text(record, "id"), when, bus_text(record, "program"),
           bus_text(record, "decision"));
    terminal_text(stdout, bus_text(record, "sentence"), strlen(bus_text(record, "sentence")));
    printf("%s\n", bus_flag(record, "undoable") ? " (can be undone)" : "");
}

static int show_log(const struct options *options)
{
    struct error err = ERROR_INIT;
    _cleanup_(bus_jsonp) struct json_object *records =
        desktop_log(tools_desktop(), options->all ? SIZE_MAX : LOG_LINES, &err);

    if (!records) {
        terminal_error("%s", err.text);
        return STATUS_ERROR;
    }
    for (size_t i = 0; i < json_object_array_length(records); i++) {
        if (options->json)
            print_json(json_object_array_get_idx(records, i));
        else
            print_record(json_object_array_get_idx(records, i));
    }
    return STATUS_OK;
}

static int decide(const char *name, bool allow)
{
    _cleanup_(freep) char *text = tools_list(NULL);
    struct error err = ERROR_INIT;
    const int r = allow ? desktop_allow(tools_desktop(), name, &err)
                        : desktop_revoke(tools_desktop(), name, &err);

    if (r < 0)
        terminal_error("%s", err.text);
    return r < 0 ? STATUS_ERROR : STATUS_OK;
}

int toolbox_run(const struct options *options)
{
    const char *verb = options->n_arguments ? options->arguments[0] : "list";
    const char *name = options->n_arguments > 1 ? options->arguments[1] : NULL;
    const unsigned n = options->n_arguments;

    if (strcmp(verb, "list") == 0 && n <= 1)
        return list(options);
    if (strcmp(verb, "run") == 0 && (n == 2 || n == 3))
        return run(options, name, n == 3 ? options->arguments[2] : "{}");
    if (strcmp(verb, "allow") == 0 && n == 2)
        return decide(name, true);
    if (strcmp(verb, "revoke") == 0 && n <= 2 && (name || options->all))
        return decide(name, false);
    if (strcmp(verb, "log") == 0 && n == 1)
        return show_log(options);
    if (strcmp(verb, "undo") == 0 && n <= 2)
        return undo(options, name);
    terminal_error("What shall be done with tools? list, run NAME [JSON], allow NAME, revoke NAME "
                   "(or --all), log, undo [ID].");
    return STATUS_USAGE;
}
