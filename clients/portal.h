/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A keyboard through the desktop's portal org.freedesktop.portal.RemoteDesktop, which asks the user
 * whether this program may have one.
 *
 *     CreateSession -> SelectDevices -> Start (the question) -> NotifyKeyboardKeysym ...
 *
 * Threads: main thread; waits for the user.
 * Source:  xdg-desktop-portal, org.freedesktop.portal.RemoteDesktop, .Request, .Session
 */

#include <systemd/sd-bus.h>

struct portal;

/* *ret is NULL where this desktop has no such portal. Not STATUS_OK: after a sentence. */
int portal_open(sd_bus *bus, struct portal **ret);
struct portal *portal_close(struct portal *portal); /* accepts and returns NULL */

/* Key by key; those that a layout does not have are left to the compositor. */
int portal_type(struct portal *portal, const char *text);
