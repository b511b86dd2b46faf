/* SPDX-License-Identifier: MIT */

/*
 * org.lfmd.Assistant1.Model: a model that is installed or can be, /org/lfmd/Assistant1/models/ID.
 *
 * Anybody may call: models belong to the user, not to a client. Load() and Verify() are answered
 * when their work is done.
 */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "ipc/bus.h"
#include "ipc/errors.h"
#include "ipc/objects.h"

#define PREFIX BUS_PATH "/models"

/* A call that is answered later. */
struct waiter {
    struct waiter *next;
    enum { WAIT_LOAD, WAIT_VERIFY } what;
    sd_bus_message *call;
    struct client *client;
};

/* The changing properties as they were told last. */
struct view {
    char title[256], licence[256], sha256[65]; /* another file of the same name may have come */
    enum model_role role;
    bool installed, loaded, sees, hears, speaks;
    uint64_t size_bytes, memory_bytes, expires_usec, download_bytes;
    enum download_state download;
    enum error_code download_error;
};

struct model_object {
    struct model_object *next;
    struct bus *bus;
    char *id, *path;
    struct view told;
    struct waiter *waiters;
};

/* lookup */

static const struct model *find_model(const struct bus *bus, const char *id)
{
    for (size_t i = 0; i < models_n(bus->models); i++) {
        const struct model *model = models_at(bus->models, i);

        if (!strcmp(model->id, id))
            return model;
    }
    return NULL;
}

static struct model_memory memory_of(const struct model_object *object)
{
    return engine_model_memory(object->bus->engine, object->id);
}

char *model_object_path(const char *id)
{
    char *path;

    if (!id)
        return strdup("/");
    return sd_bus_path_encode(PREFIX, id, &path) < 0 ? NULL : path;
}

static int find_object(sd_bus *connection, const char *path, const char *interface, void *userdata,
                       void **ret_found, sd_bus_error *ret_error)
{
    struct bus *bus = userdata;

    (void)connection, (void)interface, (void)ret_error;
    for (struct model_object *object = bus->model_objects; object; object = object->next) {
        if (!strcmp(object->path, path)) {
            *ret_found = object;
            return 1;
        }
    }
    return 0;
}

static int list_objects(sd_bus *connection, const char *prefix, void *userdata, char ***ret_nodes,
                        sd_bus_error *ret_error)
{
    struct bus *bus = userdata;
    size_t n = 0;
    char **nodes;

    (void)connection, (void)prefix, (void)ret_error;
    for (struct model_object *object = bus->model_objects; object; object = object->next)
        n++;
    nodes = calloc(n + 1, sizeof(*nodes));
    if (!nodes)
        return -ENOMEM;
    n = 0;
    for (struct model_object *object = bus->model_objects; object; object = object->next)
        if ((nodes[n] = strdup(object->path)))
            n++;
    *ret_nodes = nodes;
    return 0;
}

/* calls that wait */

static int wait_for(struct model_object *object, int what, sd_bus_message *call, struct error *err)
{
    struct client *client = client_get(object->bus, call, err);
    struct waiter *waiter, **link = &object->waiters;

    if (!client)
        return error_errno(err->code);
    if (client->n_waiting >= CLIENT_WAITING_MAX)
        return error_set(err, ERROR_BUSY,
                         "%u calls of this program wait for an answer, which is the limit.",
                         client->n_waiting);
    waiter = calloc(1, sizeof(*waiter));
    if (!waiter) {
        client_settle(client);
        return errors_message(err, -ENOMEM);
    }
    waiter->what = what;
    waiter->call = sd_bus_message_ref(call);
    waiter->client = client;
    client->n_waiting++;
    while (*link)
        link = &(*link)->next;
    *link = waiter;
    return 1;
}

/* Take *link out of its list; the client stays until client_settle(). */
static void forget(struct waiter **link)
{
    struct waiter *waiter = *link;

    *link = waiter->next;
    waiter->client->n_waiting--;
    sd_bus_message_unref(waiter->call);
    free(waiter);
}

void model_object_drop(struct client *client)
{
    for (struct model_object *object = client->bus->model_objects; object; object = object->next) {
        struct waiter **link = &object->waiters;

        while (*link) {
            if ((*link)->client == client)
                forget(link);
            else
                link = &(*link)->next;
        }
    }
}

/* Returns false while the work goes on. */
static bool answer_load(struct model_object *object, sd_bus_message *call)
{
    struct model_memory memory = memory_of(object);

    if (memory.loading)
        return false;
    if (memory.loaded) {
        sd_bus_reply_method_return(call, NULL);
    } else {
        error_set(&memory.last_error, ERROR_CANCELLED,
                  "The model '%s' was unloaded before it was in memory.", object->id);
        errors_reply(call, &memory.last_error);
    }
    return true;
}

static bool answer_verify(struct model_object *object, sd_bus_message *call)
{
    const struct model *model = find_model(object->bus, object->id);
    struct error err = ERROR_INIT;

    if (model && (model->download == DOWNLOAD_VERIFYING || model->download == DOWNLOAD_RUNNING))
        return false;
    if (model && model->download == DOWNLOAD_DONE) {
        sd_bus_reply_method_return(call, "b", 1);
    } else if (model && model->download == DOWNLOAD_FAILED &&
               model->download_error.code == ERROR_UNSUPPORTED_FORMAT) {
        sd_bus_reply_method_return(call, "b", 0);
    } else {
        if (model && model->download == DOWNLOAD_FAILED)
            err = model->download_error;
        error_set(&err, ERROR_CANCELLED, "The check of model '%s' was stopped.", object->id);
        errors_reply(call, &err);
    }
    return true;
}

static void answer_waiters(struct model_object *object)
{
    struct waiter **link = &object->waiters;

    while (*link) {
        struct waiter *waiter = *link;
        struct client *client = waiter->client;

        if (waiter->what == WAIT_LOAD ? answer_load(object, waiter->call)
                                      : answer_verify(object, waiter->call)) {
            forget(link);
            client_settle(client);
        } else {
            link = &waiter->next;
        }
    }
}

/* methods */

static int method_load(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct model_object *object = userdata;
    struct error err = ERROR_INIT;
    int r;

    r = engine_load(object->bus->engine, object->id, &err);
    if (r >= 0 && memory_of(object).loaded)
        return sd_bus_reply_method_return(message, NULL);
    if (r >= 0)
        r = wait_for(object, WAIT_LOAD, message, &err);
    return errors_return(ret_error, r, &err);
}

/* A call that is done at once: `call` is the one of models.h or engine.h. */
static int reply_done(sd_bus_message *message, int r, const struct error *err,
                      sd_bus_error *ret_error)
{
    if (r < 0)
        return errors_return(ret_error, r, err);
    return sd_bus_reply_method_return(message, NULL);
}

static int method_unload(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct model_object *object = userdata;
    struct error err = ERROR_INIT;

    return reply_done(message, engine_unload(object->bus->engine, object->id, &err), &err,
                      ret_error);
}

static int method_download(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct model_object *object = userdata;
    struct error err = ERROR_INIT;

    return reply_done(message, models_download(object->bus->models, object->id, &err), &err,
                      ret_error);
}

static int method_cancel_download(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct model_object *object = userdata;
    struct error err = ERROR_INIT;

    return reply_done(message, models_download_cancel(object->bus->models, object->id, &err), &err,
                      ret_error);
}

static int method_verify(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct model_object *object = userdata;
    struct error err = ERROR_INIT;
    int r;

    r = models_verify(object->bus->models, object->id, &err);
    if (r >= 0)
        r = wait_for(object, WAIT_VERIFY, message, &err);
    return errors_return(ret_error, r, &err);
}

/* Out of memory first: ERROR_BUSY while a turn uses it. The object may be gone after it. */
static int method_remove(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct model_object *object = userdata;
    struct error err = ERROR_INIT;
    int r = 0;

    if (memory_of(object).loaded)
        r = engine_unload(object->bus->engine, object->id, &err);
    if (r >= 0)
        r = models_remove(object->bus->models, object->id, &err);
    return reply_done(message, r, &err, ret_error);
}

/* properties */

static int get_text(sd_bus *connection, const char *path, const char *interface,
                    const char *property, sd_bus_message *reply, void *userdata,
                    sd_bus_error *ret_error)
{
    static const char *const roles[] = {[MODEL_CHAT] = "chat", [MODEL_RETRIEVAL] = "retrieval"};
    static const char *const states[] = {
        [DOWNLOAD_NONE] = "none",     [DOWNLOAD_RUNNING] = "running",
        [DOWNLOAD_DONE] = "done",     [DOWNLOAD_VERIFYING] = "verifying",
        [DOWNLOAD_FAILED] = "failed", [DOWNLOAD_CANCELLED] = "cancelled",
    };
    struct model_object *object = userdata;
    const struct model *model = find_model(object->bus, object->id);
    const char *text = NULL;

    (void)connection, (void)path, (void)interface, (void)ret_error;
    if (!strcmp(property, "Id"))
        text = object->id;
    else if (!model)
        text = "";
    else if (!strcmp(property, "Title"))
        text = model->title;
    else if (!strcmp(property, "Role"))
        text = roles[model->role];
    else if (!strcmp(property, "License"))
        text = model->licence;
    else if (!strcmp(property, "Sha256"))
        text = model->sha256;
    else if (!strcmp(property, "DownloadState"))
        text = states[model->download];
    else if (!strcmp(property, "DownloadError") && model->download == DOWNLOAD_FAILED)
        text = model->download_error.text;
    return sd_bus_message_append_basic(reply, 's', text ? text : "");
}

static struct view look(const struct model_object *object)
{
    const struct model *model = find_model(object->bus, object->id);
    struct model_memory memory = memory_of(object);
    struct view view = {
        .role = model ? model->role : MODEL_CHAT,
        .installed = model && model->path,
        .loaded = memory.loaded,
        .sees = model && model->sees,
        .hears = model && model->hears,
        .speaks = model && model->speaks,
        .size_bytes = model ? model->size_bytes : 0,
        .memory_bytes = memory.memory_bytes,
        .expires_usec = (uint64_t)memory.expires_usec,
        .download_bytes = model ? model->download_bytes : 0,
        .download = model ? model->download : DOWNLOAD_NONE,
        .download_error = model ? model->download_error.code : ERROR_NONE,
    };

    snprintf(view.title, sizeof(view.title), "%s", model ? model->title : "");
    snprintf(view.licence, sizeof(view.licence), "%s", model ? model->licence : "");
    snprintf(view.sha256, sizeof(view.sha256), "%s", model && model->sha256 ? model->sha256 : "");
    return view;
}

static int get_flag(sd_bus *connection, const char *path, const char *interface,
                    const char *property, sd_bus_message *reply, void *userdata,
                    sd_bus_error *ret_error)
{
    struct view view = look(userdata);
    int flag = !strcmp(property, "Installed") ? view.installed
               : !strcmp(property, "Vision")  ? view.sees
               : !strcmp(property, "Hears")   ? view.hears
               : !strcmp(property, "Speaks")  ? view.speaks
                                              : view.loaded;

    (void)connection, (void)path, (void)interface, (void)ret_error;
    return sd_bus_message_append_basic(reply, 'b', &flag);
}

static int get_number(sd_bus *connection, const char *path, const char *interface,
                      const char *property, sd_bus_message *reply, void *userdata,
                      sd_bus_error *ret_error)
{
    struct view view = look(userdata);
    uint64_t number = !strcmp(property, "SizeBytes")          ? view.size_bytes
                      : !strcmp(property, "MemoryBytes")      ? view.memory_bytes
                      : !strcmp(property, "ExpiresTimestamp") ? view.expires_usec
                                                              : view.download_bytes;

    (void)connection, (void)path, (void)interface, (void)ret_error;
    return sd_bus_message_append_basic(reply, 't', &number);
}

#define CONST   SD_BUS_VTABLE_PROPERTY_CONST
#define CHANGES SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
#define METHOD(name, handler)                                                \
    SD_BUS_METHOD_WITH_ARGS(name, SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, handler, \
                            SD_BUS_VTABLE_UNPRIVILEGED)

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    METHOD("Load", method_load),
    METHOD("Unload", method_unload),
    METHOD("Download", method_download),
    METHOD("CancelDownload", method_cancel_download),
    SD_BUS_METHOD_WITH_ARGS("Verify", SD_BUS_NO_ARGS, SD_BUS_RESULT("b", intact), method_verify,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    METHOD("Remove", method_remove),
    SD_BUS_PROPERTY("Id", "s", get_text, 0, CONST),
    SD_BUS_PROPERTY("Title", "s", get_text, 0, CHANGES),
    SD_BUS_PROPERTY("Role", "s", get_text, 0, CHANGES),
    SD_BUS_PROPERTY("License", "s", get_text, 0, CHANGES),
    SD_BUS_PROPERTY("SizeBytes", "t", get_number, 0, CHANGES),
    SD_BUS_PROPERTY("Sha256", "s", get_text, 0, CHANGES),
    SD_BUS_PROPERTY("Installed", "b", get_flag, 0, CHANGES),
    SD_BUS_PROPERTY("Vision", "b", get_flag, 0, CHANGES),
    SD_BUS_PROPERTY("Hears", "b", get_flag, 0, CHANGES),
    SD_BUS_PROPERTY("Speaks", "b", get_flag, 0, CHANGES),
    SD_BUS_PROPERTY("Loaded", "b", get_flag, 0, CHANGES),
    SD_BUS_PROPERTY("MemoryBytes", "t", get_number, 0, CHANGES),
    SD_BUS_PROPERTY("ExpiresTimestamp", "t", get_number, 0, CHANGES),
    SD_BUS_PROPERTY("DownloadState", "s", get_text, 0, CHANGES),
    SD_BUS_PROPERTY("DownloadedBytes", "t", get_number, 0, CHANGES),
    SD_BUS_PROPERTY("DownloadError", "s", get_text, 0, CHANGES),
    SD_BUS_VTABLE_END,
};

/* objects */

static void tell_changes(struct model_object *object)
{
    struct view now = look(object), *told = &object->told;
    const char *names[16];
    size_t n = 0;

    if (strcmp(now.title, told->title))
        names[n++] = "Title";
    if (now.role != told->role)
        names[n++] = "Role";
    if (strcmp(now.licence, told->licence))
        names[n++] = "License";
    if (strcmp(now.sha256, told->sha256))
        names[n++] = "Sha256";
    if (now.installed != told->installed)
        names[n++] = "Installed";
    if (now.sees != told->sees)
        names[n++] = "Vision";
    if (now.hears != told->hears)
        names[n++] = "Hears";
    if (now.speaks != told->speaks)
        names[n++] = "Speaks";
    if (now.loaded != told->loaded)
        names[n++] = "Loaded";
    if (now.size_bytes != told->size_bytes)
        names[n++] = "SizeBytes";
    if (now.memory_bytes != told->memory_bytes)
        names[n++] = "MemoryBytes";
    if (now.expires_usec != told->expires_usec)
        names[n++] = "ExpiresTimestamp";
    if (now.download != told->download)
        names[n++] = "DownloadState";
    if (now.download_bytes != told->download_bytes)
        names[n++] = "DownloadedBytes";
    if (now.download_error != told->download_error)
        names[n++] = "DownloadError";
    names[n] = NULL;
    if (n)
        sd_bus_emit_properties_changed_strv(object->bus->connection, object->path, BUS_MODEL,
                                            (char **)names);
    *told = now;
}

static struct model_object *object_free(struct model_object *object)
{
    free(object->id);
    free(object->path);
    free(object);
    return NULL;
}

static struct model_object *object_new(struct bus *bus, const char *id)
{
    struct model_object *object = calloc(1, sizeof(*object));

    if (!object)
        return NULL;
    object->bus = bus;
    object->id = strdup(id);
    object->path = model_object_path(id);
    if (!object->id || !object->path)
        return object_free(object);
    object->told = look(object);
    object->next = bus->model_objects;
    bus->model_objects = object;
    return object;
}

static struct model_object **find_link(struct bus *bus, const char *id)
{
    struct model_object **link = &bus->model_objects;

    while (*link && strcmp((*link)->id, id))
        link = &(*link)->next;
    return link;
}

void model_object_changed(struct bus *bus, const char *id)
{
    struct model_object *object = *find_link(bus, id);

    if (object) {
        tell_changes(object);
        answer_waiters(object);
    } else if (find_model(bus, id) && (object = object_new(bus, id))) {
        sd_bus_emit_object_added(bus->connection, object->path);
    }
    manager_default_changed(bus);
}

void model_object_removed(struct bus *bus, const char *id)
{
    struct model_object **link = find_link(bus, id), *object = *link;

    if (!object)
        return;
    while (object->waiters) {
        struct client *client = object->waiters->client;
        struct error err = ERROR_INIT;

        error_set(&err, ERROR_MODEL_NOT_FOUND, "The model '%s' is not there any more.", id);
        errors_reply(object->waiters->call, &err);
        forget(&object->waiters);
        client_settle(client);
    }
    sd_bus_emit_object_removed(bus->connection, object->path);
    link = find_link(bus, id);
    *link = object->next;
    object_free(object);
    manager_default_changed(bus);
}

int model_object_attach(struct bus *bus)
{
    int r = sd_bus_add_fallback_vtable(bus->connection, &bus->model_slots[0], PREFIX, BUS_MODEL,
                                       vtable, find_object, bus);

    if (r >= 0)
        r = sd_bus_add_node_enumerator(bus->connection, &bus->model_slots[1], PREFIX, list_objects,
                                       bus);
    for (size_t i = 0; r >= 0 && i < models_n(bus->models); i++)
        if (!object_new(bus, models_at(bus->models, i)->id))
            r = -ENOMEM;
    return r;
}

void model_object_detach(struct bus *bus)
{
    while (bus->model_objects) {
        struct model_object *object = bus->model_objects;

        while (object->waiters)
            forget(&object->waiters);
        bus->model_objects = object->next;
        object_free(object);
    }
}
