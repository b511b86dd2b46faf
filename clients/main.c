/* SPDX-License-Identifier: MIT */
/* lfmctl: lfmd from the command line, over D-Bus only. */
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/bus.h"
#include "clients/tools.h"
#include "clients/verbs.h"

static int run(const struct options *options)
{
    static const struct {
        const char *verb;
        int (*run)(sd_bus *bus, const struct options *options);
    } table[] = {
        {"ask", ask_run},       {"chat", chat_run}, {"sessions", sessions_run},
        {"models", models_run}, {"pull", models_run}, {"ps", ps_run},
        {"image", image_run},   {"describe", describe_run},
        {"transcribe", transcribe_run}, {"say", say_run},
        {"silence", silence_run}, {"listen", listen_run}, {"dictate", dictate_run},
        {"devices", devices_run},
        {"permissions", permissions_run},
        {"status", status_run}, {"toggle", toggle_run},
    };
    _cleanup_(bus_closep) sd_bus *bus = NULL;
    int status;

    if (strcmp(options->verb, "help") == 0) {
        options_help();
        return STATUS_OK;
    }
    if (strcmp(options->verb, "tools") == 0)
        return toolbox_run(options); /* no daemon is needed */
    status = bus_open(&bus);
    for (size_t i = 0; i < ARRAY_LEN(table) && status == STATUS_OK; i++) {
        if (strcmp(table[i].verb, options->verb) == 0)
            return table[i].run(bus, options);
    }
    return status;
}

/* Was everything written? A reader that had enough, like head, knows; a full disk must be told. */
static int finish_output(int status)
{
    struct pollfd out = {.fd = STDOUT_FILENO};

    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    if (poll(&out, 1, 0) < 1 || !(out.revents & POLLERR))
        terminal_error("Standard output could not be written.");
    return status == STATUS_OK ? STATUS_ERROR : status;
}

int main(int argc, char **argv)
{
    struct options options;
    int status;

    /* Texts are UTF-8 whatever the locale says; only editing a line has to know. */
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
    signal(SIGPIPE, SIG_IGN);
    terminal_setup(COLOUR_AUTO, false);
    status = options_read(&options, argc, argv);
    if (status != STATUS_OK)
        return status < 0 ? STATUS_OK : status;
    terminal_setup(options.colour, options.quiet);
    bus_report_json(options.json);
    terminal_catch_interrupts();

    status = finish_output(run(&options));
    tools_close();
    return terminal_interrupts() > 0 && status == STATUS_OK && strcmp(options.verb, "chat") != 0
               ? STATUS_INTERRUPTED
               : status;
}
