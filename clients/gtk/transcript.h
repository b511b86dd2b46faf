/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The conversation in a read-only text view, where a screen reader finds it: questions in bold,
 * answers as they come, remarks in small print. It stays at its end while a person is there.
 *
 * Threads: main thread
 */

#include <gtk/gtk.h>

/* Make the view's buffer ready; once. */
void transcript_init(GtkTextView *view);

void transcript_question(GtkTextView *view, const char *text);
/* A question that was spoken: its words come later, and take the place that it has now. */
void transcript_spoken(GtkTextView *view, unsigned turn);
void transcript_words(GtkTextView *view, unsigned turn, const char *text);
/* More of the answer to the last question. */
void transcript_answer(GtkTextView *view, const char *text);
/* "cat.png, dog.png" (of struct picture), a remark in front of the question they go with. */
void transcript_pictures(GtkTextView *view, const GPtrArray *pictures);
void transcript_remark(GtkTextView *view, const char *text);
void transcript_clear(GtkTextView *view);

/* The answer to the last question; "" when there is none. g_free */
char *transcript_last_answer(GtkTextView *view);
