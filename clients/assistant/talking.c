/* SPDX-License-Identifier: MIT */
#include <glib/gi18n.h>
#include <string.h>

#include "clients/assistant/parts.h"
#include "clients/gtk/transcript.h"

#define CLICK_USEC 100000 /* the button tells of a click so long after it was let go */
#define HOLD_USEC  400000 /* what is held longer ends the turn when it is let go */

/* --- talking -------------------------------------------------------------------------------- */

static void on_voice_state(enum voice_state state, const char *trouble, void *userdata)
{
    AssistantWindow *self = userdata;
    const bool push = !self->settings.open_microphone;
    const char *const labels[] = {
        [VOICE_OPENING] = _("Opening the microphone; a notification may ask you first"),
        [VOICE_READY] = push ? _("One moment") : _("Speak"),
        [VOICE_HEARING] = _("I hear you"),
        [VOICE_THINKING] = _("Thinking"),
        [VOICE_SPEAKING] = _("Speaking"),
        [VOICE_CLOSING] = _("Closing the microphone"),
    };

    gtk_label_set_text(self->voice_state, trouble ? trouble : labels[state]);
    gtk_widget_set_visible(self->voice_place, TRUE);
    if (state == VOICE_READY)
        kept_refresh(&self->kept);
}

static void on_voice_model(const char *id, void *userdata)
{
    AssistantWindow *self = userdata;

    self->spoken = true;
    for (guint i = 0; i < self->models->len; i++) {
        const struct installed_model *model = self->models->pdata[i];

        if (strcmp(model->id, id) == 0)
            cost_watch(&self->cost, self->bus, model->path);
    }
}

static void on_level(int db, void *userdata)
{
    meter_add(&((AssistantWindow *)userdata)->meter, db);
}

static void on_spoke(unsigned turn, void *userdata)
{
    AssistantWindow *self = userdata;

    window_show_talk(self);
    transcript_spoken(self->transcript, turn);
}

static void on_said(unsigned turn, const char *text, void *userdata)
{
    AssistantWindow *self = userdata;

    transcript_words(self->transcript, turn, text[0] ? text : _("(nothing was understood)"));
}

static void on_voice_text(const char *text, void *userdata)
{
    AssistantWindow *self = userdata;

    transcript_answer(self->transcript, text);
    window_update(self);
}

static void on_first_sound(unsigned after_ms, void *userdata)
{
    cost_first_sound(&((AssistantWindow *)userdata)->cost, after_ms);
}

static void on_interrupted(void *userdata)
{
    window_remark(userdata, _("Interrupted."));
}

static void on_voice_call(const char *id, const char *name, struct json_object *arguments,
                          void *userdata)
{
    deeds_call(&((AssistantWindow *)userdata)->deeds, id, name, arguments, true);
}

void talking_off(AssistantWindow *self)
{
    self->voice = voice_close(self->voice);
    self->talk_usec = 0;
    gtk_widget_set_visible(self->voice_place, FALSE);
    meter_clear(&self->meter);
}

static void on_voice_ended(const char *sentence, void *userdata)
{
    AssistantWindow *self = userdata;

    talking_off(self);
    if (sentence) {
        deeds_cancel(&self->deeds);
        window_tell(self, GTK_MESSAGE_ERROR, true, sentence);
        self->pending = PENDING_NONE;
    }
    kept_refresh(&self->kept);
    window_update(self);
}

static const struct voice_events voice_events = {
    .state = on_voice_state,
    .model = on_voice_model,
    .level = on_level,
    .spoke = on_spoke,
    .said = on_said,
    .text = on_voice_text,
    .first_sound = on_first_sound,
    .interrupted = on_interrupted,
    .call = on_voice_call,
    .ended = on_voice_ended,
};

void talking_begin(AssistantWindow *self)
{
    if (!choices_able(self, false, true))
        return;
    exchange_need(self);
    self->voice =
        voice_new(self->bus, self->conversation,
                  self->settings.open_microphone ? VOICE_OPEN : VOICE_PUSH, &voice_events, self);
    voice_press(self->voice);
    window_update(self);
}

/* --- the key -------------------------------------------------------------------------------- */

/* The key, the button or the shortcut of the desktop goes down. */
void talking_down(AssistantWindow *self)
{
    if (self->voice && voice_mode(self->voice) == VOICE_OPEN) {
        voice_stop(self->voice);
    } else if (self->voice && voice_pressed(self->voice)) {
        voice_release(self->voice);
    } else if (self->voice) {
        self->talk_usec = g_get_monotonic_time();
        voice_press(self->voice);
    } else {
        self->talk_usec = g_get_monotonic_time();
        window_hide_notice(self);
        self->pending = PENDING_TALK;
        window_proceed(self);
    }
}

/* And up: the end of a turn, if it was held. */
void talking_up(AssistantWindow *self)
{
    const bool held = self->talk_usec > 0 && g_get_monotonic_time() - self->talk_usec > HOLD_USEC;

    self->talk_usec = 0;
    self->talked_usec = g_get_monotonic_time();
    if (held && self->voice && voice_mode(self->voice) == VOICE_PUSH)
        voice_release(self->voice);
}

void talking_toggle(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                    gpointer userdata)
{
    AssistantWindow *self = userdata;

    talking_down(self);
    self->talk_usec = 0;
}

/* By the keyboard or a screen reader; a pointer has been seen already. */
static void on_talk_clicked(AssistantWindow *self)
{
    if (self->talk_usec == 0 && g_get_monotonic_time() - self->talked_usec > CLICK_USEC)
        g_action_group_activate_action(G_ACTION_GROUP(self), "toggle-listening", NULL);
}

static void on_talk_pressed(GtkGestureClick *click G_GNUC_UNUSED, int n_press G_GNUC_UNUSED,
                            double x G_GNUC_UNUSED, double y G_GNUC_UNUSED, AssistantWindow *self)
{
    talking_down(self);
}

void talking_add_gesture(AssistantWindow *self)
{
    GtkGesture *click = gtk_gesture_click_new();

    gtk_event_controller_set_propagation_phase(GTK_EVENT_CONTROLLER(click), GTK_PHASE_CAPTURE);
    g_signal_connect(click, "pressed", G_CALLBACK(on_talk_pressed), self);
    g_signal_connect_swapped(click, "released", G_CALLBACK(talking_up), self);
    g_signal_connect_swapped(click, "cancel", G_CALLBACK(talking_up), self);
    gtk_widget_add_controller(self->talk, GTK_EVENT_CONTROLLER(click));
    g_signal_connect_swapped(self->talk, "clicked", G_CALLBACK(on_talk_clicked), self);
}
