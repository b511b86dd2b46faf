/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The window: a picture, what it shows, more of that on a key, questions about it. All that it
 * tells is read aloud too, unless it is to be silent.
 *
 * Flow:     pick or clipboard -> here -> description, then conversation -> transcript and voice
 * Threads:  main thread
 */

#include <adwaita.h>

#include "clients/describe/screen.h"

#define DESCRIBE_TYPE_WINDOW (describe_window_get_type())
G_DECLARE_FINAL_TYPE(DescribeWindow, describe_window, DESCRIBE, WINDOW, AdwApplicationWindow)

DescribeWindow *describe_window_new(GtkApplication *application, GDBusConnection *bus,
                                    const char *model, gboolean silent);

/* Describe this one, in place of the one before. Takes the picture. */
void describe_window_show(DescribeWindow *window, struct screen_shot shot);
/* Describe what the clipboard holds, once that is known. */
void describe_window_paste(DescribeWindow *window);
/* There is no picture, and why. */
void describe_window_fail(DescribeWindow *window, const char *sentence);
