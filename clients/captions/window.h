/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The window: captions in letters that can be read from afar, and what is done with them.
 *
 * Threads: main thread
 */

#include <adwaita.h>

#define CAPTIONS_TYPE_WINDOW (captions_window_get_type())
G_DECLARE_FINAL_TYPE(CaptionsWindow, captions_window, CAPTIONS, WINDOW, AdwApplicationWindow)

/* source: HEARING_MICROPHONE or HEARING_COMPUTER; NULL: as the last time. It listens at once. */
CaptionsWindow *captions_window_new(GtkApplication *application, const char *source);
