/* SPDX-License-Identifier: MIT */
/*
 * lfm-wyoming: lfmd for Home Assistant, over the Wyoming protocol on one side and D-Bus on the
 * other.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "base/cleanup.h"
#include "clients/bus.h"
#include "clients/terminal.h"
#include "clients/wyoming/intents.h"
#include "clients/wyoming/server.h"

#define DEFAULT_URI "tcp://127.0.0.1:10300"

static const char help[] =
    "usage: lfm-wyoming [OPTION...]\n"
    "\n"
    "Speech recognition, speech and answers of lfmd for Home Assistant (Wyoming protocol).\n"
    "\n"
    "  -u, --uri URI       where to listen: tcp://HOST:PORT or unix:///PATH; may be given several\n"
    "                      times. By default " DEFAULT_URI "\n"
    "  -m, --model MODEL   the model that answers; see \"lfmctl models\"\n"
    "  -s, --system TEXT   what it is told before every conversation\n"
    "  -i, --intents FILE  what it may ask Home Assistant to do\n"
    "      --help, --version\n";

struct arguments {
    const char *uris[SERVER_ADDRESSES_MAX];
    unsigned n_uris;
    const char *intents;
    struct server_options server;
};

/* STATUS_OK, a status after a sentence, or -1: it is done with that. */
static int read_arguments(struct arguments *a, int argc, char **argv)
{
    static const struct option options[] = {
        {"uri", required_argument, NULL, 'u'},   {"model", required_argument, NULL, 'm'},
        {"system", required_argument, NULL, 's'}, {"intents", required_argument, NULL, 'i'},
        {"help", no_argument, NULL, 'h'},        {"version", no_argument, NULL, 'v'},
        {0},
    };
    int c, status = STATUS_OK;

    while (status == STATUS_OK && (c = getopt_long(argc, argv, "u:m:s:i:", options, NULL)) >= 0) {
        if (c == 'u' && a->n_uris < ARRAY_LEN(a->uris))
            a->uris[a->n_uris++] = optarg;
        else if (c == 'm')
            a->server.model = optarg;
        else if (c == 's')
            a->server.system = optarg;
        else if (c == 'i')
            a->intents = optarg;
        else if (c == 'h' || c == 'v')
            return puts(c == 'h' ? help : "lfm-wyoming " LFMD_VERSION) < 0 ? STATUS_ERROR : -1;
        else
            status = STATUS_USAGE;
    }
    if (status == STATUS_OK && optind < argc)
        status = STATUS_USAGE;
    if (status == STATUS_USAGE)
        terminal_error("\"lfm-wyoming --help\" tells how it is used.");
    return status;
}

static int start(struct server *server, const struct arguments *arguments, struct error *err)
{
    int r = sd_event_default(&server->event);

    if (r >= 0)
        r = sd_event_add_signal(server->event, NULL, SIGTERM, NULL, NULL);
    if (r >= 0)
        r = sd_event_add_signal(server->event, NULL, SIGINT, NULL, NULL);
    if (r >= 0)
        r = sd_bus_attach_event(server->bus, server->event, SD_EVENT_PRIORITY_NORMAL);
    if (r >= 0)
        r = sd_bus_set_exit_on_disconnect(server->bus, true);
    if (r >= 0)
        r = conversations_init(&server->conversations, server->bus);
    if (r < 0)
        return error_set(err, ERROR_INTERNAL, "The event loop cannot be set up: %s.", strerror(-r));
    if (arguments->n_uris == 0)
        return server_listen(server, DEFAULT_URI, err);
    for (unsigned i = 0; i < arguments->n_uris && r >= 0; i++)
        r = server_listen(server, arguments->uris[i], err);
    return r;
}

static int run(struct arguments *arguments)
{
    struct server server = {.options = &arguments->server};
    struct error err = ERROR_INIT;
    sigset_t signals;
    int r, status = bus_open(&server.bus);

    if (status != STATUS_OK)
        return status;
    if (arguments->intents) {
        arguments->server.intents = intents_read(arguments->intents, &err);
        if (!arguments->server.intents) {
            terminal_error("%s", err.text);
            sd_bus_unref(server.bus);
            return STATUS_ERROR;
        }
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    r = start(&server, arguments, &err);
    if (r >= 0) {
        sd_notify(false, "READY=1");
        r = sd_event_loop(server.event);
    } else {
        terminal_error("%s", err.text);
    }
    server_done(&server);
    intents_free(arguments->server.intents);
    sd_bus_flush_close_unref(server.bus);
    sd_event_unref(server.event);
    return r == 0 ? STATUS_OK : STATUS_ERROR;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {0};
    int status;

    terminal_setup(COLOUR_AUTO, false);
    status = read_arguments(&arguments, argc, argv);
    if (status != STATUS_OK)
        return status < 0 ? STATUS_OK : status;
    return run(&arguments);
}
