/* SPDX-License-Identifier: MIT */
#include "ipc/bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "ipc/client.h"
#include "ipc/errors.h"
#include "ipc/objects.h"
#include "ipc/permissions.h"

#define DRAIN_USEC UINT64_C(1000000) /* at the end, for readers that are slow */

static uint64_t clock_usec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void bus_touch(struct bus *bus)
{
    bus->active_usec = clock_usec();
}

/* what models and engine say */

static void on_model_changed(struct bus *bus, const char *id)
{
    bus_touch(bus);
    if (!bus->models)
        return;
    model_object_changed(bus, id);
    speech_provider_changed(bus);
    bus->hooks->models_changed(bus->userdata);
}

static void on_models_changed(void *userdata, const struct model *model)
{
    on_model_changed(userdata, model->id);
}

static void on_models_removed(void *userdata, const char *id)
{
    struct bus *bus = userdata;

    bus_touch(bus);
    if (!bus->models)
        return;
    model_object_removed(bus, id);
    speech_provider_changed(bus);
    bus->hooks->models_changed(bus->userdata);
}

static void on_engine_changed(void *userdata, const char *model_id)
{
    on_model_changed(userdata, model_id);
}

const struct models_sink bus_models_sink = {
    .changed = on_models_changed,
    .removed = on_models_removed,
};
const struct engine_sink bus_engine_sink = {.model_changed = on_engine_changed};

static int on_engine_fd(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct bus *bus = userdata;

    (void)source, (void)fd, (void)revents;
    engine_dispatch(bus->engine);
    return 0;
}

static int on_models_fd(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct bus *bus = userdata;

    (void)source, (void)fd, (void)revents;
    models_dispatch(bus->models);
    return 0;
}

/* what comes from the bus */

static int on_message(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    (void)ret_error;
    if (sd_bus_message_is_method_call(message, NULL, NULL) > 0)
        bus_touch(userdata);
    return 0;
}

struct bus *bus_new(sd_event *event, sd_bus *connection, const struct bus_hooks *hooks,
                    void *userdata, struct error *err)
{
    struct bus *bus = calloc(1, sizeof(*bus));

    if (!bus) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory to start.");
        return NULL;
    }
    bus->event = sd_event_ref(event);
    bus->connection = sd_bus_ref(connection);
    bus->hooks = hooks;
    bus->userdata = userdata;
    bus_touch(bus);
    return bus;
}

/* The last is what clients wait for. */
static const char *const names[] = {BUS_SPEECH_NAME, BUS_NAME};

static int request_next(struct bus *bus);

/* One handler for both answers: the name is ours, or it is not. */
static int on_name(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    struct bus *bus = userdata;
    const char *name = names[bus->n_names];
    struct error err = ERROR_INIT;
    uint32_t result = 0;
    int r;

    (void)ret_error;
    if (sd_bus_message_is_method_error(reply, NULL))
        error_set(&err, ERROR_NOT_ALLOWED, "The bus refuses the name %s: %s.", name,
                  sd_bus_message_get_error(reply)->message);
    else if (sd_bus_message_read_basic(reply, 'u', &result) < 0 || (result != 1 && result != 4))
        error_set(&err, ERROR_BUSY,
                  "The name %s belongs to another program; is lfmd running already?", name);
    else if (++bus->n_names < ARRAY_LEN(names) && (r = request_next(bus)) < 0)
        errors_message(&err, r);
    if (err.code)
        bus->hooks->refused(bus->userdata, &err);
    else if (bus->n_names == ARRAY_LEN(names))
        bus->hooks->ready(bus->userdata);
    return 1;
}

static int request_next(struct bus *bus)
{
    bus->name_slot = sd_bus_slot_unref(bus->name_slot);
    return sd_bus_request_name_async(bus->connection, &bus->name_slot, names[bus->n_names], 0,
                                     on_name, bus);
}

int bus_request(struct bus *bus, struct error *err)
{
    const int r = request_next(bus);

    return r < 0 ? errors_message(err, r) : 0;
}

/* Messages that were sent to a name before come before this answer. */
static int on_released(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    struct bus *bus = userdata;

    (void)reply, (void)ret_error;
    bus->n_names--;
    if (bus->n_names == 0 || bus_release(bus, NULL) < 0)
        bus->hooks->released(bus->userdata);
    return 1;
}

int bus_release(struct bus *bus, struct error *err)
{
    int r;

    bus->name_slot = sd_bus_slot_unref(bus->name_slot);
    r = sd_bus_release_name_async(bus->connection, &bus->name_slot, names[bus->n_names - 1],
                                  on_released, bus);
    return r < 0 ? errors_message(err, r) : 0;
}

int bus_start(struct bus *bus, struct models *models, struct engine *engine, const char *state,
              struct error *err)
{
    int r;

    bus->permissions = permissions_new(bus, state, err);
    if (!bus->permissions)
        return error_errno(err->code);

    bus->models = models;
    bus->engine = engine;
    r = sd_event_add_io(bus->event, &bus->engine_source, engine_fd(engine), EPOLLIN, on_engine_fd,
                        bus);
    if (r >= 0)
        r = sd_event_add_io(bus->event, &bus->models_source, models_fd(models), EPOLLIN,
                            on_models_fd, bus);
    if (r >= 0)
        r = sd_bus_add_filter(bus->connection, &bus->filter_slot, on_message, bus);
    if (r >= 0)
        r = manager_attach(bus);
    if (r >= 0)
        r = model_object_attach(bus);
    if (r >= 0)
        r = session_object_attach(bus);
    if (r >= 0)
        r = speech_provider_attach(bus);
    if (r < 0)
        return errors_message(err, r);
    manager_default_changed(bus);
    speech_provider_changed(bus);
    return bus_request(bus, err);
}

bool bus_busy(const struct bus *bus)
{
    return bus->clients || !engine_idle(bus->engine) || models_busy(bus->models);
}

uint64_t bus_active_usec(const struct bus *bus)
{
    return bus->active_usec;
}

void bus_stop(struct bus *bus)
{
    uint64_t until = clock_usec() + DRAIN_USEC;

    while (bus->clients)
        client_drop(bus->clients, "The daemon is stopping.", until);
    if (bus->models)
        model_object_detach(bus);
    bus->engine_source = sd_event_source_disable_unref(bus->engine_source);
    bus->models_source = sd_event_source_disable_unref(bus->models_source);
    /* What follows, such as cancelled downloads, nobody is told. */
    bus->models = NULL;
}

struct bus *bus_free(struct bus *bus)
{
    if (!bus)
        return NULL;
    for (int i = 0; i < 2; i++) {
        sd_bus_slot_unref(bus->manager_slots[i]);
        sd_bus_slot_unref(bus->session_slots[i]);
        sd_bus_slot_unref(bus->model_slots[i]);
    }
    sd_bus_slot_unref(bus->speech_slot);
    sd_bus_slot_unref(bus->filter_slot);
    sd_bus_slot_unref(bus->name_slot);
    permissions_free(bus->permissions);
    sd_bus_unref(bus->connection);
    sd_event_unref(bus->event);
    free(bus->default_model);
    free(bus->voices);
    free(bus);
    return NULL;
}
