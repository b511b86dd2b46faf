/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The verbs of lfmctl, one file for each group. Each returns an enum status.
 *
 * Threads: main thread.
 */

#include <systemd/sd-bus.h>

#include "clients/options.h"

int ask_run(sd_bus *bus, const struct options *options);      /* ask.c */
int chat_run(sd_bus *bus, const struct options *options);     /* chat.c */
int sessions_run(sd_bus *bus, const struct options *options); /* sessions.c */
int models_run(sd_bus *bus, const struct options *options);   /* models.c: models, pull */
int ps_run(sd_bus *bus, const struct options *options);       /* models.c */
int image_run(sd_bus *bus, const struct options *options);    /* image.c */
int describe_run(sd_bus *bus, const struct options *options); /* image.c */
int transcribe_run(sd_bus *bus, const struct options *options); /* voice.c */
int say_run(sd_bus *bus, const struct options *options);        /* voice.c */
int silence_run(sd_bus *bus, const struct options *options);    /* voice.c */
int dictate_run(sd_bus *bus, const struct options *options);    /* dictate.c */
int listen_run(sd_bus *bus, const struct options *options);     /* listen.c */
int devices_run(sd_bus *bus, const struct options *options);    /* listen.c */
int permissions_run(sd_bus *bus, const struct options *options); /* listen.c */
int toggle_run(sd_bus *bus, const struct options *options);       /* listen.c */
int toolbox_run(const struct options *options);                  /* toolbox.c: tools */
int status_run(sd_bus *bus, const struct options *options);   /* status.c */
