/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The captions in a read-only text view, where a screen reader finds them: what stands, and below
 * it the present sentence as far as it goes. It stays at its end while a person is there.
 *
 * The oldest sentences go when there are more than HISTORY_MAX.
 *
 * Threads: main thread
 */

#include <gtk/gtk.h>

#define HISTORY_MAX 20000 /* sentences: some days of talk */

struct history;

/* Borrows the view. */
struct history *history_new(GtkTextView *view);
struct history *history_free(struct history *history); /* accepts and returns NULL */

/* The present sentence: all of it each time. */
void history_partial(struct history *history, const char *text, const char *tail);
/* It is over; "": forget it. */
void history_final(struct history *history, const char *text);
void history_clear(struct history *history);
gboolean history_is_empty(const struct history *history);

/* Every sentence that stands on a line with its time, for a file. g_free */
char *history_export(const struct history *history);
