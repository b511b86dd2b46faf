/* SPDX-License-Identifier: MIT */
/* lfmctl models, pull and ps: model files, their downloads, and what is in memory. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/cleanup.h"
#include "clients/bus.h"
#include "clients/verbs.h"

/* Array of the models' properties, each with "Path" and "Default" added; in the daemon's order. */
static int read_models(sd_bus *bus, struct json_object **ret)
{
    _cleanup_(bus_jsonp) struct json_object *objects = NULL, *manager = NULL;
    const char *chosen;
    int status;

    status = bus_properties(bus, BUS_ROOT, BUS_MANAGER, &manager);
    if (status == STATUS_OK)
        status = bus_objects(bus, &objects);
    if (status != STATUS_OK)
        return status;
    chosen = bus_text(manager, "DefaultModel");
    *ret = json_object_new_array();
    json_object_object_foreach(objects, path, interfaces)
    {
        struct json_object *model;

        if (!json_object_object_get_ex(interfaces, BUS_MODEL, &model))
            continue;
        json_object_object_add(model, "Path", json_object_new_string(path));
        json_object_object_add(model, "Default",
                               json_object_new_boolean(strcmp(path, chosen) == 0));
        json_object_array_add(*ret, json_object_get(model));
    }
    return STATUS_OK;
}

/* Installed ones first, then by name. */
static int compare_models(const void *a, const void *b)
{
    struct json_object *x = *(struct json_object *const *)a, *y = *(struct json_object *const *)b;

    if (bus_flag(x, "Installed") != bus_flag(y, "Installed"))
        return bus_flag(x, "Installed") ? -1 : 1;
    return strcasecmp(bus_text(x, "Id"), bus_text(y, "Id"));
}

static void print_json(struct json_object *object)
{
    puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_NOSLASHESCAPE));
}

/* Names come from files that somebody else may have made. */
static void __attribute__((format(printf, 1, 2))) print_row(const char *format, ...)
{
    _cleanup_(freep) char *row = NULL;
    va_list args;
    int n;

    va_start(args, format);
    n = vasprintf(&row, format, args);
    va_end(args);
    if (n >= 0)
        terminal_text(stdout, row, (size_t)n);
    else
        row = NULL;
}

static const char *state_of(struct json_object *model, char text[48])
{
    const char *download = bus_text(model, "DownloadState");

    if (bus_flag(model, "Loaded"))
        return "in memory";
    if (bus_flag(model, "Installed"))
        return "installed";
    if (strcmp(download, "running") != 0)
        return "-";
    snprintf(text, 48, "fetching %2.0f%%",
             100.0 * (double)bus_number(model, "DownloadedBytes") /
                 (double)MAX(bus_number(model, "SizeBytes"), 1));
    return text;
}

/* "chat, images, speech" */
static const char *uses_of(struct json_object *model, char text[80])
{
    const bool hears = bus_flag(model, "Hears"), speaks = bus_flag(model, "Speaks");

    snprintf(text, 80, "%.40s%s%s", bus_text(model, "Role"),
             bus_flag(model, "Vision") ? ", images" : "",
             hears && speaks ? ", speech" : hears ? ", hearing" : speaks ? ", speaking" : "");
    return text;
}

static int list(sd_bus *bus, const struct options *options)
{
    _cleanup_(bus_jsonp) struct json_object *models = NULL;
    char size[24], state[48], uses[80];
    int status = read_models(bus, &models);

    if (status != STATUS_OK)
        return status;
    json_object_array_sort(models, compare_models);
    if (!options->json)
        printf("%s%-28s  %8s  %-14s  %-12s  %s%s\n", terminal_style(1, STYLE_BOLD), "MODEL", "SIZE",
               "STATE", "FOR", "LICENCE", terminal_style(1, STYLE_PLAIN));
    for (size_t i = 0; i < json_object_array_length(models); i++) {
        struct json_object *model = json_object_array_get_idx(models, i);
        const char *id = bus_text(model, "Id");

        /* Other quantisations of the same model are many. */
        if (!options->all && !bus_flag(model, "Installed") && strchr(id, ':') &&
            strcmp(bus_text(model, "DownloadState"), "running") != 0)
            continue;
        if (options->json) {
            print_json(model);
            continue;
        }
        print_row("%-28s  %8s  %-14s  %-12s  %s%s\n", id,
                  terminal_size(bus_number(model, "SizeBytes"), size), state_of(model, state),
                  uses_of(model, uses), bus_text(model, "License"),
                  bus_flag(model, "Default") ? "  (default)" : "");
    }
    return STATUS_OK;
}

/* Properties of the model that a name means, with "Path"; NULL after a sentence. */
static struct json_object *find(sd_bus *bus, const char *name, int *status)
{
    _cleanup_(bus_messagep) sd_bus_message *reply = NULL;
    struct json_object *model = NULL;
    const char *path = "/";

    *status = bus_call(bus, BUS_ROOT, BUS_MANAGER, "FindModel", &reply, "s", name);
    if (*status != STATUS_OK)
        return NULL;
    sd_bus_message_read(reply, "o", &path);
    *status = bus_properties(bus, path, BUS_MODEL, &model);
    if (*status == STATUS_OK)
        json_object_object_add(model, "Path", json_object_new_string(path));
    return model;
}

/* --- pull ----------------------------------------------------------------------------------- */

static int on_change(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    (void)message, (void)userdata, (void)error;
    return 0; /* it has woken us up: the properties are read anew */
}

/* Sleep until the bus says something, a second is over, or Ctrl-C comes. */
static void wait_for_change(sd_bus *bus)
{
    while (sd_bus_process(bus, NULL) > 0)
        ;
    terminal_wait(sd_bus_get_fd(bus), 1000);
    while (sd_bus_process(bus, NULL) > 0)
        ;
}

static int pull_ended(const struct options *options, struct json_object *model, const char *state)
{
    const char *id = bus_text(model, "Id");

    if (options->json)
        print_json(model);
    if (strcmp(state, "done") == 0) {
        if (!options->json)
            terminal_note("%s is installed.", id);
        return STATUS_OK;
    }
    if (!options->json && strcmp(state, "cancelled") == 0)
        terminal_note("Stopped; the next \"lfmctl pull %s\" goes on from here.", id);
    else if (!options->json)
        terminal_error("%s", bus_text(model, "DownloadError"));
    return strcmp(state, "cancelled") == 0 ? STATUS_INTERRUPTED : STATUS_ERROR;
}

static int pull_watch(sd_bus *bus, const struct options *options, const char *path)
{
    struct progress progress = {0};
    bool cancelled = false;

    for (;;) {
        _cleanup_(bus_jsonp) struct json_object *model = NULL;
        const char *state;
        int status = bus_properties(bus, path, BUS_MODEL, &model);

        if (status != STATUS_OK)
            return status;
        state = bus_text(model, "DownloadState");
        if (strcmp(state, "running") != 0 && strcmp(state, "verifying") != 0) {
            progress_clear(&progress);
            return pull_ended(options, model, state);
        }
        if (options->json)
            print_json(model);
        else
            progress_show(&progress, bus_text(model, "Id"), bus_number(model, "DownloadedBytes"),
                          bus_number(model, "SizeBytes"), PROGRESS_BYTES);
        if (terminal_interrupts() > 1)
            return STATUS_INTERRUPTED;
        if (terminal_interrupts() == 1 && !cancelled) {
            cancelled = true;
            status = bus_call(bus, path, BUS_MODEL, "CancelDownload", NULL, NULL);
            if (status != STATUS_OK)
                return status;
        }
        wait_for_change(bus);
    }
}

static int pull(sd_bus *bus, const struct options *options, const char *id)
{
    _cleanup_(bus_jsonp) struct json_object *model = NULL;
    char size[24];
    const char *path;
    int status;

    model = find(bus, id, &status);
    if (!model)
        return status;
    path = bus_text(model, "Path");
    sd_bus_match_signal(bus, NULL, BUS_NAME, path, "org.freedesktop.DBus.Properties",
                        "PropertiesChanged", on_change, NULL);
    status = bus_call(bus, path, BUS_MODEL, "Download", NULL, NULL);
    if (status != STATUS_OK)
        return status;
    if (!options->json && !bus_flag(model, "Installed"))
        terminal_note("%s, about %s, %s", bus_text(model, "Title"),
                      terminal_size(bus_number(model, "SizeBytes"), size),
                      bus_text(model, "License"));
    return pull_watch(bus, options, path);
}

/* --- the rest ------------------------------------------------------------------------------- */

static int verify(sd_bus *bus, const struct options *options, struct json_object *model)
{
    _cleanup_(bus_messagep) sd_bus_message *reply = NULL;
    const char *id = bus_text(model, "Id");
    int intact = 0;
    int status = bus_call(bus, bus_text(model, "Path"), BUS_MODEL, "Verify", &reply, NULL);

    if (status != STATUS_OK)
        return status;
    sd_bus_message_read(reply, "b", &intact);
    if (options->json)
        printf("{\"Id\":\"%s\",\"Intact\":%s}\n", id, intact ? "true" : "false");
    else if (intact)
        printf("%s is intact.\n", id);
    else
        terminal_error(
            "%s is damaged. Install it again; where it was pulled, \"lfmctl models remove "
            "%s\" and \"lfmctl pull %s\" do that.",
            id, id, id);
    return intact ? STATUS_OK : STATUS_ERROR;
}

static int with_model(sd_bus *bus, const struct options *options, const char *verb, const char *id)
{
    static const struct {
        const char *verb, *method; /* NULL: see verify() */
    } table[] = {{"verify", NULL}, {"remove", "Remove"}, {"load", "Load"}, {"unload", "Unload"}};

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        _cleanup_(bus_jsonp) struct json_object *model = NULL;
        int status;

        if (strcmp(table[i].verb, verb) != 0)
            continue;
        model = find(bus, id, &status);
        if (!model)
            return status;
        return table[i].method
                   ? bus_call(bus, bus_text(model, "Path"), BUS_MODEL, table[i].method, NULL, NULL)
                   : verify(bus, options, model);
    }
    terminal_error("\"lfmctl models\" knows list, pull, verify, remove, load and unload.");
    return STATUS_USAGE;
}

int models_run(sd_bus *bus, const struct options *options)
{
    const char *verb = options->n_arguments ? options->arguments[0] : "list";

    if (strcmp(options->verb, "pull") == 0) {
        if (options->n_arguments == 1)
            return pull(bus, options, verb);
        terminal_error("Which model? \"lfmctl pull MODEL\"; \"lfmctl models\" lists them.");
        return STATUS_USAGE;
    }
    if (strcmp(verb, "list") == 0 && options->n_arguments <= 1)
        return list(bus, options);
    if (options->n_arguments != 2) {
        terminal_error("\"lfmctl models\" knows list, and pull, verify, remove, load and unload "
                       "with one MODEL.");
        return STATUS_USAGE;
    }
    if (strcmp(verb, "pull") == 0)
        return pull(bus, options, options->arguments[1]);
    return with_model(bus, options, verb, options->arguments[1]);
}

static const char *until(uint64_t expires_usec, char text[32])
{
    int64_t left = (int64_t)(expires_usec / 1000000) - (int64_t)time(NULL);

    if (expires_usec == 0)
        return "in use";
    if (expires_usec >= INT64_MAX)
        return "for ever";
    if (left < 60)
        snprintf(text, 32, "%" PRId64 " s", MAX(left, 0));
    else
        snprintf(text, 32, "%" PRId64 " min", (left + 30) / 60);
    return text;
}

int ps_run(sd_bus *bus, const struct options *options)
{
    _cleanup_(bus_jsonp) struct json_object *models = NULL;
    char size[24], left[32];
    int status;

    if (options->n_arguments) {
        terminal_error("\"lfmctl ps\" takes no argument.");
        return STATUS_USAGE;
    }
    status = read_models(bus, &models);
    if (status != STATUS_OK)
        return status;
    if (!options->json)
        printf("%s%-28s  %9s  %s%s\n", terminal_style(1, STYLE_BOLD), "MODEL", "MEMORY", "STAYS",
               terminal_style(1, STYLE_PLAIN));
    for (size_t i = 0; i < json_object_array_length(models); i++) {
        struct json_object *model = json_object_array_get_idx(models, i);

        if (!bus_flag(model, "Loaded"))
            continue;
        if (options->json)
            print_json(model);
        else
            print_row("%-28s  %9s  %s\n", bus_text(model, "Id"),
                      terminal_size(bus_number(model, "MemoryBytes"), size),
                      until(bus_number(model, "ExpiresTimestamp"), left));
    }
    return STATUS_OK;
}
