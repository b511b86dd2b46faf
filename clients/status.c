/* SPDX-License-Identifier: MIT */
/* lfmctl status: is the daemon there, and what does it do? */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "clients/bus.h"
#include "clients/verbs.h"

/* Number of objects that have an interface; with `flag`, only those where it is true. */
static unsigned count(struct json_object *objects, const char *interface, const char *flag)
{
    unsigned n = 0;

    json_object_object_foreach(objects, path, interfaces)
    {
        struct json_object *properties;

        (void)path;
        if (!json_object_object_get_ex(interfaces, interface, &properties))
            continue;
        n += !flag || bus_flag(properties, flag);
    }
    return n;
}

static const char *id_of(struct json_object *objects, const char *path)
{
    struct json_object *interfaces, *model, *id;

    if (json_object_object_get_ex(objects, path, &interfaces) &&
        json_object_object_get_ex(interfaces, BUS_MODEL, &model) &&
        json_object_object_get_ex(model, "Id", &id))
        return json_object_get_string(id);
    return "none";
}

int status_run(sd_bus *bus, const struct options *options)
{
    _cleanup_(bus_jsonp) struct json_object *manager = NULL, *objects = NULL;
    struct json_object *version = NULL, *chosen = NULL, *features = NULL;
    unsigned installed, loaded, sessions;
    const char *model;
    int status;

    if (options->n_arguments) {
        terminal_error("\"lfmctl status\" takes no argument.");
        return STATUS_USAGE;
    }
    status = bus_properties(bus, BUS_ROOT, BUS_MANAGER, &manager);
    if (status == STATUS_OK)
        status = bus_objects(bus, &objects);
    if (status != STATUS_OK)
        return status;
    json_object_object_get_ex(manager, "Version", &version);
    json_object_object_get_ex(manager, "DefaultModel", &chosen);
    json_object_object_get_ex(manager, "Features", &features);
    installed = count(objects, BUS_MODEL, "Installed");
    loaded = count(objects, BUS_MODEL, "Loaded");
    sessions = count(objects, BUS_SESSION, NULL);
    model = id_of(objects, chosen ? json_object_get_string(chosen) : "/");

    if (options->json) {
        json_object_object_add(manager, "DefaultModelId", json_object_new_string(model));
        json_object_object_add(manager, "ModelsInstalled", json_object_new_int64(installed));
        json_object_object_add(manager, "ModelsLoaded", json_object_new_int64(loaded));
        json_object_object_add(manager, "SessionsOpen", json_object_new_int64(sessions));
        puts(json_object_to_json_string_ext(manager, JSON_C_TO_STRING_NOSLASHESCAPE));
        return STATUS_OK;
    }
    printf("lfmd %s\n", version ? json_object_get_string(version) : "?");
    printf("default model  %s\n", model);
    printf("models         %u installed, %u in memory\n", installed, loaded);
    printf("sessions       %u open\n", sessions);
    if (features && json_object_array_length(features) > 0) {
        printf("features      ");
        for (size_t i = 0; i < json_object_array_length(features); i++)
            printf(" %s", json_object_get_string(json_object_array_get_idx(features, i)));
        putchar('\n');
    }
    return STATUS_OK;
}
