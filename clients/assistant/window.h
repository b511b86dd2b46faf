/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The window: a conversation that is typed and spoken, pictures for it, what the model asks to do
 * on the desktop, the kept conversations, and what all this costs.
 *
 * Flow:     person -> here -> conversation, voice -> daemon; their events -> transcript, deeds,
 *           cost
 * Threads:  main thread
 */

#include <adwaita.h>

#define ASSISTANT_TYPE_WINDOW (assistant_window_get_type())
G_DECLARE_FINAL_TYPE(AssistantWindow, assistant_window, ASSISTANT, WINDOW, AdwApplicationWindow)

AssistantWindow *assistant_window_new(GtkApplication *application);
