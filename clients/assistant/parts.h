/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the files of the window share: its state, and what each of them does for the others.
 *
 * window.c    the widget, its actions, what can be done now, deeds of the model, the daemon
 * exchange.c  what is typed, with its pictures, and the conversation that it goes to
 * past.c      kept conversations that are opened again
 * talking.c   the microphone's key and button, and what the voice tells
 * choices.c   settings, the desktop's shortcut, models and tools
 *
 * Threads: main thread
 */

#include <stdbool.h>

#include "clients/assistant/cost.h"
#include "clients/assistant/deeds.h"
#include "clients/assistant/kept.h"
#include "clients/assistant/meter.h"
#include "clients/assistant/settings.h"
#include "clients/assistant/shortcut.h"
#include "clients/assistant/strip.h"
#include "clients/assistant/voice.h"
#include "clients/assistant/window.h"
#include "clients/gtk/assistant.h"
#include "clients/gtk/conversation.h"
#include "clients/gtk/intake.h"
#include "clients/gtk/link.h"

/* What waits until the daemon has told its models, and the desktop its tools. */
enum pending { PENDING_NONE, PENDING_ASK, PENDING_TALK };

struct _AssistantWindow {
    AdwApplicationWindow parent;

    AdwWindowTitle *title;
    GtkToggleButton *sidebar;
    AdwFlap *flap;
    GtkListBox *kept_list;
    GtkImage *light;
    GtkInfoBar *notice;
    GtkLabel *notice_text;
    GtkWidget *retry;
    GtkStack *stage;
    GtkTextView *transcript;
    GtkLabel *question_text, *question_detail, *done_text, *voice_state, *cost_line;
    GtkWidget *question, *done, *voice_place, *strip_place, *talk, *ask, *stop;
    GtkBox *strip_box;
    GtkLevelBar *level;
    GtkDrawingArea *wave;
    GtkProgressBar *progress;
    GtkEntry *entry;
    GtkMenuButton *menu_button, *model_button;
    GtkDropDown *models_list;

    GCancellable *life; /* cancelled when the window goes */
    struct link *link;
    GDBusConnection *bus; /* NULL: not reached yet */
    GPtrArray *models; /* of installed_model; NULL: not known yet */
    char *tools;       /* JSON of those for new conversations; NULL: not known yet */
    struct settings settings;

    struct intake *intake;
    struct strip strip;
    struct deeds deeds;
    struct kept kept;
    struct cost cost;
    struct meter meter;
    struct shortcut *shortcut;

    struct conversation *conversation; /* NULL: the next question opens one */
    char *id;                          /* of the kept one that it is, or was */
    struct voice *voice;               /* NULL: nobody talks */
    enum pending pending;
    char *asked;           /* the last question, until it is answered */
    GPtrArray *asked_with; /* its pictures */
    bool unable;           /* what is typed could not be asked: nobody is there who can answer it */
    bool answered;         /* something of the answer has come */
    bool spoken;           /* the last turn was; by a model that may be another */
    gint64 talk_usec;      /* when the key went down; 0: it is not */
    gint64 talked_usec;    /* when it went up */
};

/* --- window.c ------------------------------------------------------------------------------- */

bool window_busy(AssistantWindow *self); /* a typed question is being answered */
void window_update(AssistantWindow *self);
void window_tell(AssistantWindow *self, GtkMessageType type, bool can_retry, const char *sentence);
void window_tell_error(AssistantWindow *self, const GError *error);
void window_hide_notice(AssistantWindow *self);
void window_show_talk(AssistantWindow *self);
void window_remark(AssistantWindow *self, const char *sentence);
void window_show_light(AssistantWindow *self);
/* What is pending, as soon as all is known that it takes. */
void window_proceed(AssistantWindow *self);

/* --- exchange.c ----------------------------------------------------------------------------- */

extern const struct intake_events exchange_intake;
void exchange_on_strip(void *userdata);
void exchange_on_enter(AssistantWindow *self);
void exchange_on_ended(enum ending ending, const char *note, void *userdata);
void exchange_ask(GSimpleAction *action, GVariant *parameter, gpointer userdata);
void exchange_new(GSimpleAction *action, GVariant *parameter, gpointer userdata);
/* What is typed is what is asked next; and it goes to the model. */
void exchange_take(AssistantWindow *self);
void exchange_send(AssistantWindow *self);
/* There is a conversation from here on. */
void exchange_need(AssistantWindow *self);
/* The daemon's side of it is given up; what is kept there can be opened again by its id. */
void exchange_leave(AssistantWindow *self);
void exchange_forget_id(AssistantWindow *self);
void exchange_forget_asked(AssistantWindow *self);
/* All of these, and an empty window. */
void exchange_anew(AssistantWindow *self);

/* --- past.c --------------------------------------------------------------------------------- */

extern const struct kept_events past_kept;

/* --- talking.c ------------------------------------------------------------------------------ */

void talking_add_gesture(AssistantWindow *self);
void talking_toggle(GSimpleAction *action, GVariant *parameter, gpointer userdata);
/* The key, the button or the shortcut of the desktop goes down, and up. */
void talking_down(AssistantWindow *self);
void talking_up(AssistantWindow *self);
void talking_begin(AssistantWindow *self);
void talking_off(AssistantWindow *self);

/* --- choices.c ------------------------------------------------------------------------------ */

extern const struct shortcut_events choices_shortcut;
void choices_on_keep(GSimpleAction *action, GVariant *parameter, gpointer userdata);
void choices_on_microphone(GSimpleAction *action, GVariant *parameter, gpointer userdata);
void choices_on_model(AssistantWindow *self);
void choices_on_models(GPtrArray *models, void *userdata); /* of struct link_events */
/* For new conversations; NULL: the daemon's choice. */
const struct installed_model *choices_model(AssistantWindow *self);
/* False after a notice: nobody can do what is asked. */
bool choices_able(AssistantWindow *self, bool pictures, bool talk);
