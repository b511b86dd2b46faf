/* SPDX-License-Identifier: MIT */

/*
 * org.lfmd.Assistant1.Manager: the root object, /org/lfmd/Assistant1, with its ObjectManager.
 *
 * Makes, lists and reopens sessions. Anybody may call; what is made belongs to the caller.
 */

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "ipc/bus.h"
#include "ipc/errors.h"
#include "ipc/objects.h"
#include "ipc/permissions.h"
#include "ipc/vardict.h"
#include "session/session.h"
#include "session/task.h"

#define MODEL_ID_MAX 4096 /* bytes: it may be a path */
#define TITLE_MAX    1024
#define SYSTEM_MAX   ((size_t)1 << 20)
#define TOOLS_MAX    ((size_t)1 << 20)
#define DEVICES_MAX  64

/* sessions */

struct create_arguments {
    const char *model, *system, *tools, *title, *priority;
    uint32_t context;
    bool keep;
    int64_t keep_alive;
    char *sampling, *image;
};

static int read_create(sd_bus_message *message, struct create_arguments *arguments,
                       struct session_options *ret, struct error *err)
{
    static const struct vardict_key keys[] = {
        {"model", "s", offsetof(struct create_arguments, model), MODEL_ID_MAX, NULL},
        {"system", "s", offsetof(struct create_arguments, system), SYSTEM_MAX, NULL},
        {"tools", "s", offsetof(struct create_arguments, tools), TOOLS_MAX, NULL},
        {"title", "s", offsetof(struct create_arguments, title), TITLE_MAX, NULL},
        {"context", "u", offsetof(struct create_arguments, context), 0, NULL},
        {"priority", "s", offsetof(struct create_arguments, priority), 32, NULL},
        {"keep", "b", offsetof(struct create_arguments, keep), 0, NULL},
        {"keep_alive", "x", offsetof(struct create_arguments, keep_alive), 0, NULL},
        {"sampling", "a{sv}", offsetof(struct create_arguments, sampling), 0,
         objects_sampling_keys},
        {"image", "a{sv}", offsetof(struct create_arguments, image), 0, objects_image_keys},
        {0},
    };
    int r;

    arguments->keep_alive = INT64_MIN;
    r = vardict_read(message, "option", keys, arguments, err);
    if (r < 0)
        return r;
    *ret = (struct session_options){
        .model = arguments->model,
        .system = arguments->system,
        .tools = arguments->tools,
        .title = arguments->title,
        .n_context = arguments->context,
        .keep = arguments->keep,
        .keep_alive_sec = arguments->keep_alive,
        .sampling = arguments->sampling,
        .image = arguments->image,
    };
    if (!arguments->priority || !strcmp(arguments->priority, "interactive"))
        return 0;
    if (strcmp(arguments->priority, "background"))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The option 'priority' must be interactive or background, not '%s'.",
                         arguments->priority);
    ret->background = true;
    return 0;
}

/* Make, reopen or, with an object, move a session to the sender and answer with its path. */
static int give_session(struct bus *bus, sd_bus_message *message,
                        const struct session_options *options, const char *id,
                        struct session_object *object, struct error *err)
{
    struct client *client = client_get(bus, message, err);
    int r;

    if (!client)
        return error_errno(err->code);
    r = object ? session_object_move(object, client, err)
               : session_object_new(client, options, id, &object, err);
    if (r < 0) {
        client_settle(client);
        return r;
    }
    return sd_bus_reply_method_return(message, "o", session_object_path(object));
}

static int method_create_session(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct create_arguments arguments = {0};
    struct session_options options;
    struct error err = ERROR_INIT;
    int r;

    r = read_create(message, &arguments, &options, &err);
    if (r >= 0)
        r = give_session(userdata, message, &options, NULL, NULL, &err);
    free(arguments.sampling);
    free(arguments.image);
    return errors_return(ret_error, r, &err);
}

static struct session_object *find_open(struct bus *bus, const char *id)
{
    struct session_object *object = NULL;

    while ((object = session_object_next(bus, object)))
        if (!strcmp(session_id(session_object_session(object)), id))
            return object;
    return NULL;
}

static bool owned_by_sender(const struct session_object *object, sd_bus_message *message)
{
    const char *sender = sd_bus_message_get_sender(message);

    return sender && !strcmp(sender, session_object_owner(object)->name);
}

/* To its owner an open session is given again; one that is not kept is nobody else's. */
static int method_open_session(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    static const struct vardict_key no_keys[] = {{0}};
    struct bus *bus = userdata;
    struct session_object *object;
    struct error err = ERROR_INIT;
    const char *id;
    int r;

    r = sd_bus_message_read_basic(message, 's', &id);
    if (r >= 0)
        r = vardict_read(message, "option", no_keys, NULL, &err);
    if (r < 0)
        return errors_return(ret_error, r, &err);

    object = find_open(bus, id);
    if (object && owned_by_sender(object, message))
        return sd_bus_reply_method_return(message, "o", session_object_path(object));
    if (object && !session_kept(session_object_session(object)))
        object = NULL; /* session_open() says that it is open */
    r = give_session(bus, message, NULL, id, object, &err);
    return errors_return(ret_error, r, &err);
}

static int method_forget_session(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct bus *bus = userdata;
    struct error err = ERROR_INIT;
    const char *id;
    int r;

    r = sd_bus_message_read_basic(message, 's', &id);
    if (r >= 0)
        r = session_forget(bus->engine, id, &err);
    if (r < 0)
        return errors_return(ret_error, r, &err);
    return sd_bus_reply_method_return(message, NULL);
}

/* the list */

static const char *json_string(json_object *object, const char *key)
{
    json_object *value;

    return json_object_object_get_ex(object, key, &value) &&
                   json_object_is_type(value, json_type_string)
               ? json_object_get_string(value)
               : "";
}

static uint64_t json_number(json_object *object, const char *key)
{
    json_object *value;

    return json_object_object_get_ex(object, key, &value) ? json_object_get_uint64(value) : 0;
}

/* {id, title, model, turns, kept, open, created_timestamp, used_timestamp} of a kept session. */
static int append_kept(sd_bus_message *reply, struct bus *bus, sd_bus_message *call,
                       json_object *kept)
{
    const char *id = json_string(kept, "id");
    struct session_object *object = find_open(bus, id);
    int r;

    r = sd_bus_message_open_container(reply, 'a', "{sv}");
    if (r >= 0)
        r = sd_bus_message_append(
            reply, "{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}", "id", "s", id, "title", "s",
            json_string(kept, "title"), "model", "s", json_string(kept, "model"), "turns", "u",
            (uint32_t)json_number(kept, "turns"), "kept", "b", 1, "open", "b", object != NULL,
            "created_timestamp", "t", json_number(kept, "created_usec"), "used_timestamp", "t",
            json_number(kept, "used_usec"));
    if (r >= 0 && object && owned_by_sender(object, call))
        r = sd_bus_message_append(reply, "{sv}", "object", "o", session_object_path(object));
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

/* One of the caller's that is not on disk. */
static int append_open(sd_bus_message *reply, struct session_object *object)
{
    struct session *session = session_object_session(object);
    const struct model *model = session_model(session);
    int r;

    r = sd_bus_message_open_container(reply, 'a', "{sv}");
    if (r >= 0)
        r = sd_bus_message_append(reply, "{sv}{sv}{sv}{sv}{sv}", "id", "s", session_id(session),
                                  "model", "s", model ? model->id : "", "kept", "b",
                                  (int)session_kept(session), "open", "b", 1, "object", "o",
                                  session_object_path(object));
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static bool listed(json_object *kept, const char *id)
{
    for (size_t i = 0; i < json_object_array_length(kept); i++)
        if (!strcmp(json_string(json_object_array_get_idx(kept, i), "id"), id))
            return true;
    return false;
}

static int append_sessions(sd_bus_message *reply, struct bus *bus, sd_bus_message *call,
                           json_object *kept)
{
    struct session_object *object = NULL;
    int r;

    r = sd_bus_message_open_container(reply, 'a', "a{sv}");
    while (r >= 0 && (object = session_object_next(bus, object)))
        if (owned_by_sender(object, call) &&
            !listed(kept, session_id(session_object_session(object))))
            r = append_open(reply, object);
    for (size_t i = 0; r >= 0 && i < json_object_array_length(kept); i++)
        r = append_kept(reply, bus, call, json_object_array_get_idx(kept, i));
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int method_list_sessions(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct bus *bus = userdata;
    struct error err = ERROR_INIT;
    _cleanup_(freep) char *text = session_list_kept(bus->engine, &err);
    json_object *kept = text ? json_tokener_parse(text) : NULL;
    sd_bus_message *reply = NULL;
    int r = -ENOMEM;

    if (json_object_is_type(kept, json_type_array)) {
        r = sd_bus_message_new_method_return(message, &reply);
        if (r >= 0)
            r = append_sessions(reply, bus, message, kept);
        if (r >= 0)
            r = sd_bus_send(bus->connection, reply, NULL);
        sd_bus_message_unref(reply);
    }
    json_object_put(kept);
    return errors_return(ret_error, r, &err);
}

/* the rest */

static int method_find_model(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct bus *bus = userdata;
    struct error err = ERROR_INIT;
    _cleanup_(freep) char *path = NULL;
    const struct model *model;
    const char *name;
    int r;

    r = sd_bus_message_read_basic(message, 's', &name);
    if (r < 0)
        return errors_return(ret_error, r, &err);
    model = models_named(bus->models, name, &err);
    if (!model)
        return errors_return(ret_error, error_errno(err.code), &err);
    path = model_object_path(model->id);
    return path ? sd_bus_reply_method_return(message, "o", path) : -ENOMEM;
}

static int method_rescan(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct bus *bus = userdata;
    struct error err = ERROR_INIT;
    int r = models_rescan(bus->models, &err);

    if (r < 0)
        return errors_return(ret_error, r, &err);
    return sd_bus_reply_method_return(message, NULL);
}

static int method_reload(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct bus *bus = userdata;
    struct error err = ERROR_INIT;
    int r = bus->hooks->reload(bus->userdata, &err);

    if (r < 0)
        return errors_return(ret_error, r, &err);
    return sd_bus_reply_method_return(message, NULL);
}

static int method_plan_image(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct error err = ERROR_INIT;

    return errors_return(ret_error, picture_plan(userdata, message, &err), &err);
}

static int method_describe(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct error err = ERROR_INIT;

    return errors_return(ret_error, picture_describe(userdata, message, &err), &err);
}

static int method_transcribe(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct error err = ERROR_INIT;

    return errors_return(ret_error, voice_transcribe(userdata, message, &err), &err);
}

static int method_speak(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct error err = ERROR_INIT;

    return errors_return(ret_error, voice_speak(userdata, message, &err), &err);
}

static int append_device(sd_bus_message *reply, const struct device *device)
{
    int r = sd_bus_message_open_container(reply, 'a', "{sv}");

    if (r >= 0)
        r = sd_bus_message_append(reply, "{sv}{sv}{sv}{sv}{sv}{sv}{sv}", "name", "s", device->name,
                                  "api", "s", device->api, "inputs", "u",
                                  device->n_channels[DEVICE_CAPTURE], "outputs", "u",
                                  device->n_channels[DEVICE_PLAYBACK], "default_input", "b",
                                  (int)device->is_default[DEVICE_CAPTURE], "default_output", "b",
                                  (int)device->is_default[DEVICE_PLAYBACK], "rate", "u",
                                  device->rate_hz);
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int method_list_devices(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct bus *bus = userdata;
    struct device *devices = calloc(DEVICES_MAX, sizeof(*devices));
    sd_bus_message *reply = NULL;
    struct error err = ERROR_INIT;
    size_t n = 0;
    int r = devices ? engine_devices(bus->engine, devices, DEVICES_MAX, &n, &err) : -ENOMEM;

    if (r >= 0)
        r = sd_bus_message_new_method_return(message, &reply);
    if (r >= 0)
        r = sd_bus_message_open_container(reply, 'a', "a{sv}");
    for (size_t i = 0; i < n && r >= 0; i++)
        r = append_device(reply, &devices[i]);
    if (r >= 0)
        r = sd_bus_message_close_container(reply);
    if (r >= 0)
        r = sd_bus_send(bus->connection, reply, NULL);
    sd_bus_message_unref(reply);
    free(devices);
    return errors_return(ret_error, r, &err);
}

static int method_list_permissions(sd_bus_message *message, void *userdata,
                                   sd_bus_error *ret_error)
{
    const struct bus *bus = userdata;
    sd_bus_message *reply = NULL;
    enum permission permission;
    const char *app;
    int r = sd_bus_message_new_method_return(message, &reply);

    (void)ret_error;
    if (r >= 0)
        r = sd_bus_message_open_container(reply, 'a', "a{sv}");
    for (size_t i = 0; r >= 0 && (app = permissions_at(bus->permissions, i, &permission)); i++)
        r = sd_bus_message_append(reply, "a{sv}", 3, "resource", "s", "microphone", "program", "s",
                                  app, "allowed", "b", (int)(permission == PERMISSION_ALLOWED));
    if (r >= 0)
        r = sd_bus_message_close_container(reply);
    if (r >= 0)
        r = sd_bus_send(bus->connection, reply, NULL);
    sd_bus_message_unref(reply);
    return r;
}

static int method_set_permission(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    static const char *const decisions[] = {[PERMISSION_UNDECIDED] = "ask",
                                            [PERMISSION_ALLOWED] = "allow",
                                            [PERMISSION_DENIED] = "deny"};
    const struct bus *bus = userdata;
    const char *resource, *app, *decision;
    struct error err = ERROR_INIT;
    size_t i = 0;
    int r = sd_bus_message_read(message, "sss", &resource, &app, &decision);

    if (r >= 0 && strcmp(resource, "microphone") != 0)
        r = error_set(&err, ERROR_INVALID_ARGUMENT,
                      "There is a permission for the microphone, none for '%.60s'.", resource);
    while (r >= 0 && i < ARRAY_LEN(decisions) && strcmp(decisions[i], decision) != 0)
        i++;
    if (r >= 0 && i == ARRAY_LEN(decisions))
        r = error_set(&err, ERROR_INVALID_ARGUMENT,
                      "The decision must be allow, deny or ask, not '%.60s'.", decision);
    if (r >= 0)
        r = permissions_set(bus->permissions, message, app, (enum permission)i, &err);
    if (r < 0)
        return errors_return(ret_error, r, &err);
    return sd_bus_reply_method_return(message, NULL);
}

static int method_silence(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct bus *bus = userdata;

    (void)ret_error;
    tasks_silence(bus->engine);
    return sd_bus_reply_method_return(message, NULL);
}

/* properties */

static int get_version(sd_bus *connection, const char *path, const char *interface,
                       const char *property, sd_bus_message *reply, void *userdata,
                       sd_bus_error *ret_error)
{
    (void)connection, (void)path, (void)interface, (void)property, (void)userdata, (void)ret_error;
    return sd_bus_message_append_basic(reply, 's', LFMD_VERSION);
}

static int get_features(sd_bus *connection, const char *path, const char *interface,
                        const char *property, sd_bus_message *reply, void *userdata,
                        sd_bus_error *ret_error)
{
    (void)connection, (void)path, (void)interface, (void)property, (void)userdata, (void)ret_error;
    return sd_bus_message_append(reply, "as", 7, "text", "images", "speech", "tools", "json-schema",
                                 "kept-sessions", "download");
}

/* Path of the default model, "/" while none is installed. malloc. */
static char *default_path(struct bus *bus)
{
    struct error err = ERROR_INIT;
    const struct model *model = bus->models ? models_find(bus->models, NULL, &err) : NULL;

    return model_object_path(model ? model->id : NULL);
}

static int get_default_model(sd_bus *connection, const char *path, const char *interface,
                             const char *property, sd_bus_message *reply, void *userdata,
                             sd_bus_error *ret_error)
{
    _cleanup_(freep) char *model_path = default_path(userdata);

    (void)connection, (void)path, (void)interface, (void)property, (void)ret_error;
    return model_path ? sd_bus_message_append_basic(reply, 'o', model_path) : -ENOMEM;
}

void manager_default_changed(struct bus *bus)
{
    char *path = default_path(bus);

    if (!path || (bus->default_model && !strcmp(path, bus->default_model))) {
        free(path);
        return;
    }
    if (bus->default_model)
        sd_bus_emit_properties_changed(bus->connection, BUS_PATH, BUS_MANAGER, "DefaultModel",
                                       NULL);
    free(bus->default_model);
    bus->default_model = path;
}

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("CreateSession", SD_BUS_ARGS("a{sv}", options),
                            SD_BUS_RESULT("o", session), method_create_session,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ListSessions", SD_BUS_NO_ARGS, SD_BUS_RESULT("aa{sv}", sessions),
                            method_list_sessions, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("OpenSession", SD_BUS_ARGS("s", id, "a{sv}", options),
                            SD_BUS_RESULT("o", session), method_open_session,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ForgetSession", SD_BUS_ARGS("s", id), SD_BUS_NO_RESULT,
                            method_forget_session, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("FindModel", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", model),
                            method_find_model, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("PlanImage", SD_BUS_ARGS("h", image, "a{sv}", options),
                            SD_BUS_RESULT("a{sv}", plan), method_plan_image,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Describe", SD_BUS_ARGS("h", image, "a{sv}", options),
                            SD_BUS_RESULT("h", stream), method_describe,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Transcribe", SD_BUS_ARGS("h", recording, "a{sv}", options),
                            SD_BUS_RESULT("h", stream), method_transcribe,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Speak", SD_BUS_ARGS("s", text, "a{sv}", options),
                            SD_BUS_RESULT("h", stream), method_speak, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ListDevices", SD_BUS_NO_ARGS, SD_BUS_RESULT("aa{sv}", devices),
                            method_list_devices, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ListPermissions", SD_BUS_NO_ARGS, SD_BUS_RESULT("aa{sv}", permissions),
                            method_list_permissions, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("SetPermission",
                            SD_BUS_ARGS("s", resource, "s", program, "s", decision),
                            SD_BUS_NO_RESULT, method_set_permission, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Silence", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_silence,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Rescan", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_rescan,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Reload", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_reload,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("Features", "as", get_features, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("DefaultModel", "o", get_default_model, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_VTABLE_END,
};

int manager_attach(struct bus *bus)
{
    int r = sd_bus_add_object_vtable(bus->connection, &bus->manager_slots[0], BUS_PATH, BUS_MANAGER,
                                     vtable, bus);

    if (r < 0)
        return r;
    return sd_bus_add_object_manager(bus->connection, &bus->manager_slots[1], BUS_PATH);
}
