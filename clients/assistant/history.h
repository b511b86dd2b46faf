/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a kept conversation was, in the transcript.
 *
 * Threads: main thread
 */

#include <gtk/gtk.h>

/* messages: what History() gives; what is no array of messages shows nothing. */
void history_show(GtkTextView *transcript, const char *messages);
