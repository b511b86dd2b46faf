/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "base/cleanup.h"
#include "clients/bus.h"
#include "clients/wyoming/assistant.h"
#include "clients/wyoming/server.h"
#include "clients/wyoming/services.h"

/* What LFM2's cards name. The models that hear and speak, and lfmd's own, know English. */
static const char *const lfm2_languages[] = {"en", "ar", "zh", "fr", "de", "ja", "ko", "es"};

/* What every program and model has. */
static struct json_object *artifact(const char *name, const char *description, const char *maker)
{
    struct json_object *object = json_object_new_object();
    struct json_object *attribution = json_object_new_object();

    json_object_object_add(attribution, "name", json_object_new_string(maker));
    json_object_object_add(attribution, "url", json_object_new_string(""));
    json_object_object_add(object, "name", json_object_new_string(name));
    json_object_object_add(object, "description", json_object_new_string(description));
    json_object_object_add(object, "attribution", attribution);
    json_object_object_add(object, "installed", json_object_new_boolean(true));
    json_object_object_add(object, "version", json_object_new_string(LFMD_VERSION));
    return object;
}

static void add_model(struct json_object *models, struct json_object *model, bool every_language)
{
    const char *id = bus_text(model, "Id"), *title = bus_text(model, "Title");
    const bool is_own = strncmp(id, "lfmd-", 5) == 0;
    struct json_object *entry =
        artifact(id, *title ? title : id, is_own ? "The lfmd project" : "Liquid AI");
    struct json_object *languages = json_object_new_array();

    for (size_t i = 0; i < (every_language && !is_own ? ARRAY_LEN(lfm2_languages) : 1); i++)
        json_object_array_add(languages, json_object_new_string(lfm2_languages[i]));
    json_object_object_add(entry, "languages", languages);
    json_object_array_add(models, entry);
}

/* Programs of one kind: ours, or none where it has no model. Takes models. */
static void add_program(struct json_object *info, const char *kind, const char *models_key,
                        struct json_object *models, const char *streams_key, bool streams)
{
    struct json_object *programs = json_object_new_array();

    json_object_object_add(info, kind, programs);
    if (json_object_array_length(models) > 0) {
        struct json_object *program =
            artifact("lfmd", "LFM2 models on this machine", "The lfmd project");

        json_object_object_add(program, models_key, json_object_get(models));
        if (streams_key)
            json_object_object_add(program, streams_key, json_object_new_boolean(streams));
        json_object_array_add(programs, program);
    }
    json_object_put(models);
}

static struct json_object *make_info(struct json_object *objects, const struct server *server)
{
    struct json_object *info = json_object_new_object();
    struct json_object *hear = json_object_new_array(), *speak = json_object_new_array();
    struct json_object *handle = json_object_new_array();
    const bool has_intents = server->options->intents;

    json_object_object_foreach(objects, path, interfaces)
    {
        struct json_object *model;

        (void)path;
        if (!json_object_object_get_ex(interfaces, BUS_MODEL, &model) ||
            !bus_flag(model, "Installed") || strcmp(bus_text(model, "Role"), "chat") != 0)
            continue;
        if (bus_flag(model, "Hears"))
            add_model(hear, model, false);
        if (bus_flag(model, "Speaks"))
            add_model(speak, model, false);
        if (!bus_flag(model, "Hears"))
            add_model(handle, model, true);
    }
    add_program(info, "asr", "models", hear, "supports_transcript_streaming", true);
    add_program(info, "tts", "voices", speak, "supports_synthesize_streaming", true);
    add_program(info, "handle", "models", json_object_get(handle), "supports_handled_streaming",
                !has_intents);
    if (!has_intents) {
        json_object_put(handle);
        handle = json_object_new_array();
    }
    add_program(info, "intent", "models", handle, NULL, false);
    for (size_t i = 0; i < 3; i++)
        json_object_object_add(info, (const char *const[]){"wake", "mic", "snd"}[i],
                               json_object_new_array());
    return info;
}

static int on_objects(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    struct peer *peer = userdata;
    const sd_bus_error *error = sd_bus_message_get_error(reply);
    _cleanup_(bus_jsonp) struct json_object *objects = NULL;

    (void)ret_error;
    info_free(peer);
    if (error) {
        struct error err = ERROR_INIT;

        assistant_error(error, -sd_bus_error_get_errno(error), &err);
        peer_error(peer, &err);
    } else {
        objects = bus_value(reply);
        peer_send(peer, "info", make_info(objects, peer->server));
    }
    peer_done(peer);
    return 0;
}

int info_describe(struct peer *peer, struct error *err)
{
    const int r = sd_bus_call_method_async(peer->server->bus, &peer->describing, BUS_NAME, BUS_ROOT,
                                           "org.freedesktop.DBus.ObjectManager",
                                           "GetManagedObjects", on_objects, peer, NULL);

    if (r < 0) {
        assistant_error(NULL, r, err);
        return r;
    }
    peer_work(peer);
    return 0;
}

void info_free(struct peer *peer)
{
    peer->describing = sd_bus_slot_unref(peer->describing);
}
