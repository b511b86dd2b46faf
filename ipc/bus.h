/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the bus sees: the objects of org.lfmd.Assistant1 and who holds them.
 *
 *     bus = bus_new(event, connection, &hooks, userdata, &err);
 *     models = models_new(&models_config, &bus_models_sink, bus, &err);
 *     engine = engine_new(&engine_config, models, &bus_engine_sink, bus, &err);
 *     bus_start(bus, models, engine, state, &err);    ready or refused follows from the event loop
 *     ...
 *     bus_stop(bus);                           closes sessions and streams
 *     engine_free(engine); models_free(models); bus_free(bus);
 *
 * A session belongs to the client that made or opened it. Only that client may call it, only that
 * client sees it in the object tree, and its signals go to that client alone. When the client
 * leaves the bus its turns are cancelled and its sessions closed. Anybody of the same user can open
 * a kept one, also while another has it open and idle: it moves.
 *
 * Threads: bus thread.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "session/engine.h"
#include "session/models.h"

#define BUS_NAME    "org.lfmd.Assistant1"
#define BUS_PATH    "/org/lfmd/Assistant1"
#define BUS_MANAGER "org.lfmd.Assistant1.Manager"
#define BUS_SESSION "org.lfmd.Assistant1.Session"
#define BUS_MODEL   "org.lfmd.Assistant1.Model"

/* The voice of other programs (Spiel). */
#define BUS_SPEECH_NAME "org.lfmd.Speech.Provider"
#define BUS_SPEECH_PATH "/org/lfmd/Speech/Provider"
#define BUS_SPEECH      "org.freedesktop.Speech.Provider"

#define BUS_CLIENTS_MAX 256 /* that hold something */
#define BUS_TURNS_MAX   512 /* queued, running, or with an unread stream: a descriptor each */

struct bus_hooks {
    void (*ready)(void *userdata);                              /* both names are ours */
    void (*refused)(void *userdata, const struct error *error); /* one belongs to another */
    void (*released)(void *userdata); /* after bus_release(): no new call can come */
    void (*models_changed)(void *userdata); /* a file, a download, or what is in memory */
    int (*reload)(void *userdata, struct error *err);
};

/* The members are for ipc/ only. */
struct bus {
    sd_event *event;
    sd_bus *connection;
    struct models *models; /* NULL before bus_start() */
    struct engine *engine;
    struct permissions *permissions; /* NULL before bus_start() */
    const struct bus_hooks *hooks;
    void *userdata;

    struct client *clients;
    struct session_object *sessions;
    struct model_object *model_objects;
    char *default_model; /* path, as last told */
    char *voices;        /* as last told */
    unsigned n_turns;
    uint64_t active_usec; /* CLOCK_MONOTONIC of the last call, or end of something */

    sd_bus_slot *manager_slots[2], *session_slots[2], *model_slots[2], *speech_slot;
    sd_bus_slot *filter_slot, *name_slot;
    size_t n_names; /* of names[] that are ours */
    sd_event_source *engine_source, *models_source;
};

extern const struct models_sink bus_models_sink; /* userdata: struct bus */
extern const struct engine_sink bus_engine_sink;

struct bus *bus_new(sd_event *event, sd_bus *connection, const struct bus_hooks *hooks,
                    void *userdata, struct error *err);
/* state: folder where decisions of the user are kept, or NULL. */
int bus_start(struct bus *bus, struct models *models, struct engine *engine, const char *state,
              struct error *err);

/* Give up the names or ask for them again. Calls that came before are answered first. */
int bus_release(struct bus *bus, struct error *err);
int bus_request(struct bus *bus, struct error *err);

/* Somebody holds something, or something is under way: no idle exit. */
bool bus_busy(const struct bus *bus);
uint64_t bus_active_usec(const struct bus *bus);

/* End every session; streams get their last line. */
void bus_stop(struct bus *bus);
struct bus *bus_free(struct bus *bus);

/* A sign of life, for the idle timer; ipc/ only. */
void bus_touch(struct bus *bus);
