/* SPDX-License-Identifier: MIT */
/* lfmctl sessions: kept conversations. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "clients/bus.h"
#include "clients/verbs.h"

static void show_line(struct json_object *session)
{
    time_t used = (time_t)(bus_number(session, "used_timestamp") / 1000000);
    struct tm local;
    char date[32];

    localtime_r(&used, &local);
    strftime(date, sizeof(date), "%Y-%m-%d %H:%M", &local);
    printf("%-32s  %s  %5" PRIu64 "  %-24s  ", bus_text(session, "id"), date,
           bus_number(session, "turns"), bus_text(session, "model"));
    terminal_text(stdout, bus_text(session, "title"), strlen(bus_text(session, "title")));
    putchar('\n');
}

static int list(sd_bus *bus, const struct options *options)
{
    _cleanup_(bus_messagep) sd_bus_message *reply = NULL;
    _cleanup_(bus_jsonp) struct json_object *sessions = NULL;
    int status = bus_call(bus, BUS_ROOT, BUS_MANAGER, "ListSessions", &reply, NULL);

    if (status != STATUS_OK)
        return status;
    sessions = bus_value(reply);
    if (!options->json && json_object_array_length(sessions) > 0)
        printf("%s%-32s  %-16s  %5s  %-24s  %s%s\n", terminal_style(1, STYLE_BOLD), "ID", "USED",
               "TURNS", "MODEL", "TITLE", terminal_style(1, STYLE_PLAIN));
    for (size_t i = 0; i < json_object_array_length(sessions); i++) {
        struct json_object *session = json_object_array_get_idx(sessions, i);

        if (options->json)
            puts(json_object_to_json_string_ext(session, JSON_C_TO_STRING_NOSLASHESCAPE));
        else
            show_line(session);
    }
    return STATUS_OK;
}

/* Text, or parts of which some are pictures. */
static void show_content(struct json_object *content)
{
    const char *text;

    if (!json_object_is_type(content, json_type_array)) {
        text = content ? json_object_get_string(content) : "";
        terminal_text(stdout, text, strlen(text));
        return;
    }
    for (size_t i = 0; i < json_object_array_length(content); i++) {
        struct json_object *part = json_object_array_get_idx(content, i);

        text = bus_text(part, "text");
        if (strcmp(bus_text(part, "type"), "image") == 0)
            printf("[picture, %" PRIu64 "x%" PRIu64 "] ", bus_number(part, "width"),
                   bus_number(part, "height"));
        else
            terminal_text(stdout, text, strlen(text));
    }
}

static void show_message(struct json_object *message)
{
    const char *role = bus_text(message, "role");
    struct json_object *content = NULL;

    json_object_object_get_ex(message, "content", &content);
    printf("%s%s:%s ", terminal_style(1, STYLE_BOLD), role, terminal_style(1, STYLE_PLAIN));
    show_content(content);
    fputs("\n", stdout);
    if (json_object_object_get_ex(message, "tool_calls", &content) &&
        json_object_array_length(content) > 0) {
        const char *calls =
            json_object_to_json_string_ext(content, JSON_C_TO_STRING_NOSLASHESCAPE);

        terminal_text(stdout, calls, strlen(calls));
        fputs("\n", stdout);
    }
}

static int show(sd_bus *bus, const struct options *options, const char *id)
{
    _cleanup_(bus_messagep) sd_bus_message *reply = NULL;
    _cleanup_(bus_messagep) sd_bus_message *history = NULL;
    _cleanup_(bus_jsonp) struct json_object *messages = NULL;
    const char *path, *text;
    int status;

    status = bus_call(bus, BUS_ROOT, BUS_MANAGER, "OpenSession", &reply, "sa{sv}", id, 0);
    if (status != STATUS_OK)
        return status;
    sd_bus_message_read(reply, "o", &path);
    status = bus_call(bus, path, BUS_SESSION, "History", &history, NULL);
    if (status == STATUS_OK && sd_bus_message_read(history, "s", &text) > 0)
        messages = json_tokener_parse(text);
    for (size_t i = 0; messages && i < json_object_array_length(messages); i++) {
        struct json_object *message = json_object_array_get_idx(messages, i);

        if (options->json)
            puts(json_object_to_json_string_ext(message, JSON_C_TO_STRING_NOSLASHESCAPE));
        else
            show_message(message);
    }
    if (status == STATUS_OK)
        status = bus_call(bus, path, BUS_SESSION, "Close", NULL, NULL);
    return status;
}

int sessions_run(sd_bus *bus, const struct options *options)
{
    const char *verb = options->n_arguments ? options->arguments[0] : "list";

    if (strcmp(verb, "list") == 0 && options->n_arguments <= 1)
        return list(bus, options);
    if (options->n_arguments == 2 && strcmp(verb, "show") == 0)
        return show(bus, options, options->arguments[1]);
    if (options->n_arguments == 2 && strcmp(verb, "remove") == 0)
        return bus_call(bus, BUS_ROOT, BUS_MANAGER, "ForgetSession", NULL, "s",
                        options->arguments[1]);
    terminal_error("\"lfmctl sessions\" knows list, show ID and remove ID.");
    return STATUS_USAGE;
}
