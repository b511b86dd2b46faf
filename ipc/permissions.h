/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Which programs may use the microphone: decided by the user once for each, kept in a file.
 *
 * A program is known by its application id (the systemd unit that a desktop starts it in), else by
 * the path of its executable. One that was not decided about is asked about in a desktop
 * notification; without a notification service, or an answer within a minute, it is refused with
 * the command that allows it. Programs in a sandbox of Flatpak or Snap cannot decide for themselves
 * or others.
 *
 * Threads: bus thread; a decision writes a small file.
 */

#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "base/error.h"

#define PERMISSIONS_APP_MAX 512 /* bytes of a name */
#define PERMISSIONS_MAX     1024

enum permission { PERMISSION_UNDECIDED, PERMISSION_ALLOWED, PERMISSION_DENIED };

struct bus;
struct permissions;

/* folder: where permissions.json is kept; NULL: nothing is kept. A damaged file is none. */
struct permissions *permissions_new(struct bus *bus, const char *folder, struct error *err);
struct permissions *permissions_free(struct permissions *permissions); /* drops what waits */

/* The sender's name here. */
int permissions_app(sd_bus_message *message, char app[PERMISSIONS_APP_MAX], struct error *err);

enum permission permissions_microphone(const struct permissions *permissions, const char *app);

/*
 * Ask the user. `decided` is called once, later, unless permissions_forget() comes first; with
 * PERMISSION_UNDECIDED when nobody could be asked or nobody answered.
 */
int permissions_ask(struct permissions *permissions, const char *app,
                    void (*decided)(void *userdata, enum permission permission), void *userdata,
                    struct error *err);
void permissions_forget(struct permissions *permissions, void *userdata);

/* Who uses the microphone: `denied` is called when the user decides so, and it is none any more. */
struct permissions_user {
    char app[PERMISSIONS_APP_MAX];
    void (*denied)(void *userdata);
    void *userdata;
    struct permissions_user *next; /* permissions.c's */
};
void permissions_use(struct permissions *permissions, struct permissions_user *user);
/* Accepts one that has left, and no permissions. */
void permissions_leave(struct permissions *permissions, struct permissions_user *user);

/* Decide, for a caller that may. PERMISSION_UNDECIDED forgets. */
int permissions_set(struct permissions *permissions, sd_bus_message *message, const char *app,
                    enum permission permission, struct error *err);

/* The program and the decision at place i, from 0 on; NULL: there are no more. */
const char *permissions_at(const struct permissions *permissions, size_t i, enum permission *ret);
