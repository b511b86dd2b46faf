/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What systemd sees: readiness, state, watchdog, reload, stop, and the exit when nobody needs us.
 *
 * The watchdog is fed only while the engine's heartbeat goes on. The idle exit gives the name back
 * first and leaves when the bus has confirmed it: every call that came before is answered, and one
 * that made us busy again lets us stay.
 *
 * SIGTERM and SIGINT end the loop with 0, SIGHUP reads the configuration again.
 *
 * Threads: bus thread. The three signals must be blocked in all threads.
 */

#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"

struct bus;
struct engine;
struct models;

struct lifecycle;

struct lifecycle *lifecycle_new(sd_event *event, struct bus *bus, const struct models *models,
                                struct engine *engine, int64_t idle_exit_sec,
                                int (*reload)(void *, struct error *), void *userdata,
                                struct error *err);
struct lifecycle *lifecycle_free(struct lifecycle *lifecycle);

void lifecycle_set_idle_exit(struct lifecycle *lifecycle, int64_t idle_exit_sec);

/* The hooks of the bus. */
void lifecycle_ready(struct lifecycle *lifecycle);
void lifecycle_refused(struct lifecycle *lifecycle, const struct error *error);
void lifecycle_released(struct lifecycle *lifecycle);
void lifecycle_models_changed(struct lifecycle *lifecycle); /* for the line in "systemctl status" */

/* Around reading the configuration again. */
void lifecycle_reloading(void);
void lifecycle_reloaded(void);
