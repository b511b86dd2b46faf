/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the model does on the desktop: its calls go to clients/desktop; the user is asked in the
 * window, one question after the other; what was done is told, with a button that undoes it.
 *
 * Threads: main thread; nothing is told after deeds_done()
 */

#include <gtk/gtk.h>
#include <json-c/json.h>
#include <stdbool.h>

#include "clients/desktop/desktop.h"

struct deeds_events {
    void (*result)(const char *id, const char *text, bool spoken, void *userdata);
    /* What was done, refused or failed; what a timer says. */
    void (*remark)(const char *sentence, void *userdata);
    void (*changed)(void *userdata); /* what can be answered or undone */
    void (*timers_changed)(void *userdata);
};

struct deeds {
    GtkWidget *question; /* with text, detail, and a button for each answer */
    GtkLabel *question_text, *question_detail;
    GtkWidget *done; /* the last deed, and a button that undoes it */
    GtkLabel *done_text;

    struct desktop *desktop;
    const struct deeds_events *events;
    void *userdata;
    GCancellable *calls;
    GQueue questions; /* of desktop_question; the first is shown */
    char *undoable;   /* id of the last deed; NULL: there is no way back */
};

/* The widgets of `deeds` are set, and outlive it. */
void deeds_init(struct deeds *deeds, const struct deeds_events *events, void *userdata);
void deeds_done(struct deeds *deeds);

/* A call of the model; result() follows, unless deeds_cancel() comes first. */
void deeds_call(struct deeds *deeds, const char *id, const char *name,
                struct json_object *arguments, bool spoken);
/* Nobody waits for what is under way. */
void deeds_cancel(struct deeds *deeds);

/* To the question that is shown. */
void deeds_answer(struct deeds *deeds, enum desktop_decision decision);
void deeds_undo(struct deeds *deeds);
bool deeds_asking(const struct deeds *deeds);
