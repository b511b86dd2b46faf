/* SPDX-License-Identifier: MIT */

/*
 * lfmd: Liquid AI's LFM2 models for every program of one user, over D-Bus. See lfmd(1).
 *
 * Exit: 0 done, 1 no bus, no name or no memory, 2 usage, 78 the configuration is wrong.
 */

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/config.h"
#include "daemon/journal.h"
#include "daemon/lifecycle.h"
#include "daemon/paths.h"
#include "ipc/bus.h"

struct daemon {
    const char *config_file; /* NULL: the files of the search path */
    struct config *config;
    sd_event *event;
    sd_bus *connection;
    struct bus *bus;
    struct models *models;
    struct engine *engine;
    struct lifecycle *lifecycle;
    char **directories, *state;
};

/* configuration */

static struct engine_config engine_config(const struct daemon *daemon)
{
    const struct config *config = daemon->config;

    return (struct engine_config){
        .n_threads = config->threads,
        .memory_max_bytes = config->memory_max_bytes,
        .keep_alive_sec = config->keep_alive_sec,
        .n_context = config->context,
        .kv = config->kv,
        .prefix_cache_bytes = config->prefix_cache_bytes,
        .state_directory = daemon->state,
        .image_cache_bytes = config->image_cache_bytes,
        .max_encode_ms = config->max_encode_ms,
        .image_bytes_max = config->image_bytes_max,
        .image_pixels_max = (uint64_t)config->image_megapixels * 1000000,
        .capture_device = config->microphone,
        .playback_device = config->loudspeaker,
        .keep_echo = config->keep_echo,
        .latency_msec = config->audio_latency_ms,
    };
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

static bool same_list(char *const *a, char *const *b)
{
    for (; a && b && *a && *b; a++, b++)
        if (strcmp(*a, *b))
            return false;
    return (!a || !*a) && (!b || !*b);
}

/* What is read only once keeps its effect until the next start, and that is said. */
static void tell_what_waits(const struct config *old, const struct config *new)
{
    if (old->threads != new->threads || old->kv != new->kv ||
        old->image_bytes_max != new->image_bytes_max ||
        old->image_megapixels != new->image_megapixels ||
        !same_text(old->default_model, new->default_model) ||
        !same_text(old->mirror, new->mirror) || !same_list(old->directories, new->directories))
        log_write(LOG_NOTICE, NULL,
                  "Changes of threads, kv, max_bytes, max_megapixels and of the section [models] "
                  "take effect at the next start.");
}

static int reload(void *userdata, struct error *err)
{
    struct daemon *daemon = userdata;
    struct config_report report = {0};
    struct config *config;
    struct engine_config changed;
    int r = 0;

    lifecycle_reloading();
    config = config_read(daemon->config_file, &report);
    if (config) {
        tell_what_waits(daemon->config, config);
        config_free(daemon->config);
        daemon->config = config;
        changed = engine_config(daemon);
        engine_reconfigure(daemon->engine, &changed);
        journal_setup(config->log_level);
        lifecycle_set_idle_exit(daemon->lifecycle, config->idle_exit_sec);
        log_info("The configuration was read again.");
    } else {
        log_warning("The configuration stays as it was:\n%s", report.text ? report.text : "");
        r = error_set(err, ERROR_INVALID_ARGUMENT, "The configuration stays as it was. %.400s",
                      report.text ? report.text : "");
    }
    config_report_done(&report);
    lifecycle_reloaded();
    return r;
}

/* the bus's hooks */

static void on_ready(void *userdata)
{
    lifecycle_ready(((struct daemon *)userdata)->lifecycle);
}

static void on_refused(void *userdata, const struct error *error)
{
    lifecycle_refused(((struct daemon *)userdata)->lifecycle, error);
}

static void on_released(void *userdata)
{
    lifecycle_released(((struct daemon *)userdata)->lifecycle);
}

static void on_models_changed(void *userdata)
{
    lifecycle_models_changed(((struct daemon *)userdata)->lifecycle);
}

static const struct bus_hooks hooks = {
    .ready = on_ready,
    .refused = on_refused,
    .released = on_released,
    .models_changed = on_models_changed,
    .reload = reload,
};

/* start and end */

/* Before threads exist: signals come to the loop, and a reader that left is an error of write(). */
static void setup_process(void)
{
    struct rlimit files;
    sigset_t mask;

    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGHUP);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    signal(SIGPIPE, SIG_IGN);
    umask(0077);
    /* Each stream is a descriptor; nothing here uses select(). */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < 4096) {
        files.rlim_cur = MIN((rlim_t)4096, files.rlim_max);
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static int connect_bus(struct daemon *daemon, struct error *err)
{
    int r = sd_event_default(&daemon->event);

    if (r >= 0)
        r = sd_bus_open_user(&daemon->connection);
    if (r >= 0)
        r = sd_bus_set_exit_on_disconnect(daemon->connection, true);
    if (r >= 0)
        r = sd_bus_attach_event(daemon->connection, daemon->event, SD_EVENT_PRIORITY_NORMAL);
    if (r < 0)
        return error_set(err, ERROR_IO, "There is no session bus to serve on: %s.", strerror(-r));
    return 0;
}

static int start(struct daemon *daemon, struct error *err)
{
    const char *fetch = getenv("LFMD_FETCH");
    struct engine_config engine;
    int r;

    r = connect_bus(daemon, err);
    if (r < 0)
        return r;
    daemon->directories = paths_models(daemon->config->directories);
    daemon->state = paths_state();
    if (!daemon->directories)
        return error_set(err, ERROR_IO, "HOME is not set, so there is no place for models.");
    if (!daemon->state)
        log_warning("There is no folder for state, so no session can be kept: %s.",
                    strerror(errno));

    if (!(daemon->bus = bus_new(daemon->event, daemon->connection, &hooks, daemon, err)))
        return -1;
    daemon->models = models_new(
        &(struct models_config){
            .directories = (const char *const *)daemon->directories,
            .default_model = daemon->config->default_model,
            .mirror = daemon->config->mirror,
            .fetch_program = fetch && *fetch ? fetch : LFMD_LIBEXECDIR "/lfmd-fetch",
        },
        &bus_models_sink, daemon->bus, err);
    if (!daemon->models)
        return -1;
    engine = engine_config(daemon);
    daemon->engine = engine_new(&engine, daemon->models, &bus_engine_sink, daemon->bus, err);
    if (!daemon->engine)
        return -1;
    daemon->lifecycle =
        lifecycle_new(daemon->event, daemon->bus, daemon->models, daemon->engine,
                      daemon->config->idle_exit_sec, reload, daemon, err);
    if (!daemon->lifecycle)
        return -1;
    return bus_start(daemon->bus, daemon->models, daemon->engine, daemon->state, err);
}

/* In reverse order; what was said before goes out before the connection closes. */
static void stop(struct daemon *daemon)
{
    if (daemon->bus)
        bus_stop(daemon->bus);
    lifecycle_free(daemon->lifecycle);
    if (daemon->engine)
        engine_free(daemon->engine);
    if (daemon->models)
        models_free(daemon->models);
    bus_free(daemon->bus);
    sd_bus_flush_close_unref(daemon->connection);
    sd_event_unref(daemon->event);
    paths_free(daemon->directories);
    free(daemon->state);
    config_free(daemon->config);
}

static void help(void)
{
    puts("usage: lfmd [--config FILE]\n"
         "\n"
         "Serves LFM2 models to the programs of one user as org.lfmd.Assistant1 on the session "
         "bus.\n"
         "Stays in the foreground; usually started by the bus or by systemd.\n"
         "\n"
         "  --config FILE  read this file instead of lfmd.conf(5) in its usual places\n"
         "  --help         this text\n"
         "  --version      the version");
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    struct daemon daemon = {0};
    struct config_report report = {0};
    struct error err = ERROR_INIT;
    int r, option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        switch (option) {
        case 'c':
            daemon.config_file = optarg;
            break;
        case 'h':
            help();
            return 0;
        case 'v':
            puts("lfmd " LFMD_VERSION);
            return 0;
        default:
            return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "lfmd: '%s' is not an option; see lfmd --help.\n", argv[optind]);
        return 2;
    }

    daemon.config = config_read(daemon.config_file, &report);
    if (!daemon.config) {
        fprintf(stderr, "%s\n", report.text ? report.text : "There is not enough memory.");
        config_report_done(&report);
        return EX_CONFIG;
    }
    journal_setup(daemon.config->log_level);
    setup_process();

    r = start(&daemon, &err);
    if (r >= 0)
        r = sd_event_loop(daemon.event);
    else
        log_error("%s", err.text);
    stop(&daemon);
    return r < 0 ? EXIT_FAILURE : r;
}
