/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The window: pictures, a question, the answer as it comes, follow-ups.
 *
 * Flow:     person -> here -> conversation -> daemon; conversation -> transcript
 * Threads:  main thread
 */

#include <adwaita.h>

#define ASK_TYPE_WINDOW (ask_window_get_type())
G_DECLARE_FINAL_TYPE(AskWindow, ask_window, ASK, WINDOW, AdwApplicationWindow)

AskWindow *ask_window_new(GtkApplication *application);

/* What cannot be opened is told in the window. */
void ask_window_open(AskWindow *window, GFile *file);
