/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Text into the window that has the keyboard, and into the clipboard, by what this desktop offers.
 *
 *   X11       xdotool (XTest)
 *   Wayland   wtype, where the compositor gives programs a virtual keyboard (Sway, Hyprland, ...);
 *             the portal RemoteDesktop, where the desktop has it (GNOME, KDE; it asks the user);
 *             ydotool, where it may write to /dev/uinput
 *   clipboard xclip; wl-copy
 *
 * What cannot be done is said with what was looked for.
 *
 * Threads: main thread.
 */

#include <systemd/sd-bus.h>

struct typing;

/* Find the way; the portal may ask the user now. An enum status, after a sentence if not 0. */
int typing_open(sd_bus *bus, struct typing **ret);
struct typing *typing_close(struct typing *typing); /* accepts and returns NULL */

/* Characters that are keys of their own, like the line feed, are typed as spaces. */
int typing_type(struct typing *typing, const char *text);

/* A program for the clipboard is there. */
int clipboard_check(void);
int clipboard_set(const char *text);
