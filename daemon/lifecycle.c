/* SPDX-License-Identifier: MIT */
#include "daemon/lifecycle.h"

#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/utf8.h"
#include "ipc/bus.h"

#define ACCURACY_USEC UINT64_C(250000)
#define STOP_USEC_MAX UINT64_C(120000000)
#define STATUS_MAX    512

struct lifecycle {
    struct bus *bus;
    const struct models *models;
    struct engine *engine;
    int (*reload)(void *userdata, struct error *err);
    void *userdata;

    sd_event *event;
    sd_event_source *signals[3], *idle, *watchdog;
    uint64_t idle_exit_usec; /* UINT64_MAX: stay */
    uint64_t watchdog_usec;  /* between two looks at the heartbeat */
    uint64_t heartbeat;      /* at the last look */
    bool leaving;            /* the name is being given back */
    char status[STATUS_MAX]; /* as told last */
};

static uint64_t now_usec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* signals */

/* A model that is being loaded is loaded first: that is waited for. */
static void tell_stopping(void)
{
    sd_notifyf(false, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRIu64, STOP_USEC_MAX);
}

static int on_stop(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
    (void)info, (void)userdata;
    tell_stopping();
    return sd_event_exit(sd_event_source_get_event(source), 0);
}

/* What is wrong has been logged; the old configuration stays. */
static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
    struct lifecycle *lifecycle = userdata;

    (void)source, (void)info;
    lifecycle->reload(lifecycle->userdata, NULL);
    return 0;
}

void lifecycle_reloading(void)
{
    sd_notifyf(false, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, now_usec());
}

void lifecycle_reloaded(void)
{
    sd_notify(false, "READY=1");
}

/* watchdog */

static int on_watchdog(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct lifecycle *lifecycle = userdata;
    uint64_t heartbeat = engine_heartbeat(lifecycle->engine);

    if (heartbeat != lifecycle->heartbeat)
        sd_notify(false, "WATCHDOG=1");
    lifecycle->heartbeat = heartbeat;
    sd_event_source_set_time(source, usec + lifecycle->watchdog_usec);
    return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* idle exit */

static void wait_until(struct lifecycle *lifecycle, uint64_t usec)
{
    sd_event_source_set_time(lifecycle->idle, usec);
    sd_event_source_set_enabled(lifecycle->idle, SD_EVENT_ONESHOT);
}

static int on_idle(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct lifecycle *lifecycle = userdata;
    uint64_t due = bus_active_usec(lifecycle->bus) + lifecycle->idle_exit_usec;

    (void)source;
    if (bus_busy(lifecycle->bus)) {
        wait_until(lifecycle, usec + lifecycle->idle_exit_usec);
    } else if (due > usec) {
        wait_until(lifecycle, due);
    } else if (bus_release(lifecycle->bus, NULL) >= 0) {
        lifecycle->leaving = true;
        log_debug("Nobody needs the daemon, it ends.");
    }
    return 0;
}

void lifecycle_released(struct lifecycle *lifecycle)
{
    struct error err = ERROR_INIT;

    if (!bus_busy(lifecycle->bus)) {
        tell_stopping();
        sd_event_exit(lifecycle->event, 0);
    } else if (bus_request(lifecycle->bus, &err) < 0) {
        lifecycle_refused(lifecycle, &err);
    }
}

void lifecycle_set_idle_exit(struct lifecycle *lifecycle, int64_t idle_exit_sec)
{
    if (idle_exit_sec < 0) {
        lifecycle->idle_exit_usec = UINT64_MAX;
        sd_event_source_set_enabled(lifecycle->idle, SD_EVENT_OFF);
    } else {
        lifecycle->idle_exit_usec = (uint64_t)idle_exit_sec * 1000000;
        wait_until(lifecycle, now_usec() + lifecycle->idle_exit_usec);
    }
}

/* status */

/* What is going on with a model; NULL: nothing. */
static const char *doing(const struct lifecycle *lifecycle, const struct model *model,
                         char text[32])
{
    struct model_memory memory = engine_model_memory(lifecycle->engine, model->id);

    if (model->download == DOWNLOAD_RUNNING) {
        snprintf(text, 32, "being fetched (%.0f %%)",
                 100.0 * (double)model->download_bytes / (double)MAX(model->size_bytes, 1));
        return text;
    }
    return model->download == DOWNLOAD_VERIFYING ? "being verified"
           : memory.loading                      ? "being loaded"
           : memory.loaded                       ? "in memory"
                                                 : NULL;
}

/* "Serving NAME: lfm2-1.2b is in memory, lfm2-350m is being fetched (12 %)." */
static void describe(const struct lifecycle *lifecycle, char status[STATUS_MAX])
{
    size_t used = (size_t)snprintf(status, STATUS_MAX, "Serving " BUS_NAME);
    const char *before = ": ";
    char text[32];

    for (size_t i = 0; i < models_n(lifecycle->models); i++) {
        const struct model *model = models_at(lifecycle->models, i);
        const char *what = doing(lifecycle, model, text);

        if (!what)
            continue;
        used += (size_t)snprintf(status + used, STATUS_MAX - used, "%s%.100s is %s", before,
                                 model->id, what);
        used = MIN(used, STATUS_MAX - sizeof("."));
        before = ", ";
    }
    strcpy(status + used, ".");
    /* An id is a file's name: a line of its own in it would be another message to systemd. */
    utf8_plain(status);
}

void lifecycle_models_changed(struct lifecycle *lifecycle)
{
    char status[STATUS_MAX];

    describe(lifecycle, status);
    if (!strcmp(status, lifecycle->status))
        return;
    strcpy(lifecycle->status, status);
    sd_notifyf(false, "STATUS=%s", status);
}

/* the name */

void lifecycle_ready(struct lifecycle *lifecycle)
{
    lifecycle->leaving = false;
    lifecycle_set_idle_exit(lifecycle, lifecycle->idle_exit_usec == UINT64_MAX
                                           ? -1
                                           : (int64_t)(lifecycle->idle_exit_usec / 1000000));
    sd_notify(false, "READY=1");
    lifecycle_models_changed(lifecycle);
    log_info("Serving " BUS_NAME ".");
}

/* While leaving, another instance may have been started in our place: then that one serves. */
void lifecycle_refused(struct lifecycle *lifecycle, const struct error *error)
{
    if (!lifecycle->leaving)
        log_error("%s", error->text);
    sd_event_exit(lifecycle->event, lifecycle->leaving ? 0 : EXIT_FAILURE);
}

struct lifecycle *lifecycle_new(sd_event *event, struct bus *bus, const struct models *models,
                                struct engine *engine, int64_t idle_exit_sec,
                                int (*reload)(void *, struct error *), void *userdata,
                                struct error *err)
{
    struct lifecycle *lifecycle = calloc(1, sizeof(*lifecycle));
    uint64_t watchdog_usec;
    int r = 0;

    if (!lifecycle) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory to start.");
        return NULL;
    }
    lifecycle->event = event;
    lifecycle->bus = bus;
    lifecycle->models = models;
    lifecycle->engine = engine;
    lifecycle->reload = reload;
    lifecycle->userdata = userdata;

    if ((r = sd_event_add_signal(event, &lifecycle->signals[0], SIGTERM, on_stop, NULL)) < 0 ||
        (r = sd_event_add_signal(event, &lifecycle->signals[1], SIGINT, on_stop, NULL)) < 0 ||
        (r = sd_event_add_signal(event, &lifecycle->signals[2], SIGHUP, on_hangup, lifecycle)) <
            0 ||
        (r = sd_event_add_time(event, &lifecycle->idle, CLOCK_MONOTONIC, UINT64_MAX, ACCURACY_USEC,
                               on_idle, lifecycle)) < 0)
        goto fail;
    if (sd_watchdog_enabled(false, &watchdog_usec) > 0) {
        lifecycle->watchdog_usec = watchdog_usec / 3;
        r = sd_event_add_time(event, &lifecycle->watchdog, CLOCK_MONOTONIC,
                              now_usec() + lifecycle->watchdog_usec, ACCURACY_USEC, on_watchdog,
                              lifecycle);
        if (r < 0)
            goto fail;
    }
    lifecycle_set_idle_exit(lifecycle, idle_exit_sec);
    return lifecycle;

fail:
    error_set(err, ERROR_INTERNAL, "The signals and timers cannot be set up.");
    return lifecycle_free(lifecycle);
}

struct lifecycle *lifecycle_free(struct lifecycle *lifecycle)
{
    if (!lifecycle)
        return NULL;
    for (int i = 0; i < 3; i++)
        sd_event_source_disable_unref(lifecycle->signals[i]);
    sd_event_source_disable_unref(lifecycle->idle);
    sd_event_source_disable_unref(lifecycle->watchdog);
    free(lifecycle);
    return NULL;
}
