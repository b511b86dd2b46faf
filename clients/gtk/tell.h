/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a window tells beside a conversation: notices in a bar, and how far the work is.
 *
 * Threads: main thread
 */

#include <gtk/gtk.h>
#include <stdbool.h>

/* text and retry, the button "Try again", are in the bar; with can_retry it is there instead of the
 * one that closes the bar. */
void tell_notice(GtkInfoBar *bar, GtkLabel *text, GtkWidget *retry, GtkMessageType type,
                 bool can_retry, const char *sentence);

/* fraction: 0 to 1, negative when it is not known. The caller hides the bar when it is over. */
void tell_progress(GtkProgressBar *bar, double fraction, const char *label);
