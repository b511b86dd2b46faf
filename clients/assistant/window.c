/* SPDX-License-Identifier: MIT */
#include "clients/assistant/window.h"

#include <glib/gi18n.h>
#include <string.h>

#include "clients/assistant/cost.h"
#include "clients/assistant/deeds.h"
#include "clients/assistant/history.h"
#include "clients/assistant/kept.h"
#include "clients/assistant/meter.h"
#include "clients/assistant/settings.h"
#include "clients/assistant/shortcut.h"
#include "clients/assistant/strip.h"
#include "clients/assistant/voice.h"
#include "clients/gtk/assistant.h"
#include "clients/gtk/conversation.h"
#include "clients/gtk/events.h"
#include "clients/gtk/intake.h"
#include "clients/gtk/program.h"
#include "clients/gtk/tell.h"
#include "clients/gtk/transcript.h"

#define CLICK_USEC 100000 /* the button tells of a click so long after it was let go */
#define HOLD_USEC  400000 /* what is held longer ends the turn when it is let go */
#define DETAIL     "auto"

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
    GDBusConnection *bus;
    guint watch;
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

G_DEFINE_TYPE(AssistantWindow, assistant_window, ADW_TYPE_APPLICATION_WINDOW)

static void proceed(AssistantWindow *self);
static void refresh_models(AssistantWindow *self);

/* --- what can be done now ------------------------------------------------------------------- */

static void enable(AssistantWindow *self, const char *action, bool enabled)
{
    program_enable(G_ACTION_MAP(self), action, enabled);
}

static bool busy(AssistantWindow *self)
{
    return self->conversation && conversation_busy(self->conversation);
}

static void set_label(void *widget, const char *label)
{
    gtk_accessible_update_property(GTK_ACCESSIBLE(widget), GTK_ACCESSIBLE_PROPERTY_LABEL, label,
                                   -1);
    gtk_widget_set_tooltip_text(GTK_WIDGET(widget), label);
}

/* The button says what it does now. */
static void update_talk(AssistantWindow *self)
{
    const bool open =
        self->voice ? voice_mode(self->voice) == VOICE_OPEN : self->settings.open_microphone;

    if (!self->voice)
        set_label(self->talk, open ? _("Open the microphone (Ctrl+T)")
                                   : _("Talk: hold, or press and press again (Ctrl+T)"));
    else
        set_label(self->talk,
                  open ? _("Close the microphone (Ctrl+T)") : _("End your turn (Ctrl+T)"));
    if (self->voice)
        gtk_widget_add_css_class(self->talk, "suggested-action");
    else
        gtk_widget_remove_css_class(self->talk, "suggested-action");
}

static void update_actions(AssistantWindow *self)
{
    const bool stoppable = busy(self) || self->voice || deeds_asking(&self->deeds);
    g_autofree char *text = g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(self->entry))));
    g_autofree char *answer = transcript_last_answer(self->transcript);

    enable(self, "answer", deeds_asking(&self->deeds));
    enable(self, "ask", text[0] && !busy(self));
    enable(self, "undo", self->deeds.undoable);
    enable(self, "stop", stoppable);
    enable(self, "copy", answer[0]);
    gtk_widget_set_visible(self->ask, !busy(self));
    gtk_widget_set_visible(self->stop, busy(self));
    update_talk(self);
}

static void tell(AssistantWindow *self, GtkMessageType type, bool can_retry, const char *sentence)
{
    tell_notice(self->notice, self->notice_text, self->retry, type, can_retry, sentence);
}

static void tell_error(AssistantWindow *self, const GError *error)
{
    g_autofree char *sentence = assistant_sentence(error);

    tell(self, GTK_MESSAGE_ERROR, true, sentence);
}

static void hide_notice(AssistantWindow *self)
{
    gtk_widget_set_visible(GTK_WIDGET(self->notice), FALSE);
}

static void show_talk(AssistantWindow *self)
{
    gtk_stack_set_visible_child_name(self->stage, "talk");
}

static void remark(AssistantWindow *self, const char *sentence)
{
    show_talk(self);
    transcript_remark(self->transcript, sentence);
}

/* --- the microphone's light ----------------------------------------------------------------- */

/* The daemon says whether the microphone is open; no button does. */
static void show_light(AssistantWindow *self)
{
    g_autoptr(GVariant) listening =
        self->conversation ? conversation_property(self->conversation, "Listening") : NULL;
    const bool on = listening && g_variant_get_boolean(listening);

    gtk_image_set_from_icon_name(self->light, on ? "microphone-sensitivity-high-symbolic"
                                                 : "microphone-disabled-symbolic");
    set_label(self->light, on ? _("The microphone is on") : _("The microphone is off"));
    if (on)
        gtk_widget_add_css_class(GTK_WIDGET(self->light), "error");
    else
        gtk_widget_remove_css_class(GTK_WIDGET(self->light), "error");
}

/* --- pictures ------------------------------------------------------------------------------- */

static void on_picture(struct picture *picture, void *userdata)
{
    AssistantWindow *self = userdata;
    g_autofree char *sentence = g_strdup_printf(
        _("“%s” was left out: there is room for %d pictures."), picture->name, STRIP_MAX);

    if (!strip_add(&self->strip, picture))
        tell(self, GTK_MESSAGE_WARNING, false, sentence);
}

static void on_trouble(GtkMessageType type, const char *sentence, void *userdata)
{
    tell(userdata, type, false, sentence);
}

static const struct intake_events intake_events = {on_picture, on_trouble};

static void on_strip(void *userdata)
{
    AssistantWindow *self = userdata;

    gtk_widget_grab_focus(GTK_WIDGET(self->entry));
}

/* --- the conversation ----------------------------------------------------------------------- */

static void on_progress(double fraction, const char *label, void *userdata)
{
    AssistantWindow *self = userdata;

    tell_progress(self->progress, fraction, label);
}

static void on_text(const char *text, void *userdata)
{
    AssistantWindow *self = userdata;

    gtk_widget_set_visible(GTK_WIDGET(self->progress), FALSE);
    transcript_answer(self->transcript, text);
    if (!self->answered) {
        self->answered = true;
        update_actions(self);
    }
}

static void forget_asked(AssistantWindow *self)
{
    g_clear_pointer(&self->asked, g_free);
    g_clear_pointer(&self->asked_with, g_ptr_array_unref);
}

static void on_ended(enum ending ending, const char *note, void *userdata)
{
    AssistantWindow *self = userdata;

    gtk_widget_set_visible(GTK_WIDGET(self->progress), FALSE);
    deeds_cancel(&self->deeds);
    if (ending == ENDING_FAILED) {
        tell(self, GTK_MESSAGE_ERROR, true, note);
    } else {
        if (ending == ENDING_STOPPED)
            note = _("Stopped.");
        if (note)
            remark(self, note);
        forget_asked(self);
        kept_refresh(&self->kept);
    }
    update_actions(self);
}

static void on_call(const char *id, const char *name, struct json_object *arguments, void *userdata)
{
    deeds_call(&((AssistantWindow *)userdata)->deeds, id, name, arguments, false);
}

static void on_usage(struct json_object *usage, void *userdata)
{
    cost_usage(&((AssistantWindow *)userdata)->cost, usage);
}

static guint32 number_of(AssistantWindow *self, const char *property)
{
    g_autoptr(GVariant) value = conversation_property(self->conversation, property);

    return value ? g_variant_get_uint32(value) : 0;
}

static void on_changed(void *userdata)
{
    AssistantWindow *self = userdata;
    g_autoptr(GVariant) id = conversation_property(self->conversation, "Id");
    g_autoptr(GVariant) kept = conversation_property(self->conversation, "Kept");
    g_autoptr(GVariant) model = conversation_property(self->conversation, "Model");

    if (id && kept && g_variant_get_boolean(kept) && !self->id) {
        self->id = g_variant_dup_string(id, NULL);
        kept_set_open(&self->kept, self->id);
    }
    if (model && !self->spoken)
        cost_watch(&self->cost, self->bus, g_variant_get_string(model, NULL));
    cost_context(&self->cost, number_of(self, "ContextUsed"), number_of(self, "ContextLimit"));
    show_light(self);
}

static const struct conversation_events conversation_events = {
    .text = on_text,
    .progress = on_progress,
    .ended = on_ended,
    .call = on_call,
    .usage = on_usage,
    .changed = on_changed,
};

static void show_voice_off(AssistantWindow *self)
{
    self->voice = voice_close(self->voice);
    self->talk_usec = 0;
    gtk_widget_set_visible(self->voice_place, FALSE);
    meter_clear(&self->meter);
}

/* The daemon's side of it is given up; what is kept there can be opened again by its id. */
static void leave_conversation(AssistantWindow *self)
{
    show_voice_off(self);
    deeds_cancel(&self->deeds);
    self->conversation = conversation_close(self->conversation);
    self->spoken = false;
    gtk_widget_set_visible(GTK_WIDGET(self->progress), FALSE);
    cost_context(&self->cost, 0, 0);
    show_light(self);
    update_actions(self);
}

static void forget_id(AssistantWindow *self)
{
    g_clear_pointer(&self->id, g_free);
    kept_set_open(&self->kept, NULL);
}

static const struct installed_model *chosen_model(AssistantWindow *self)
{
    for (guint i = 0; self->settings.model && i < self->models->len; i++) {
        const struct installed_model *model = self->models->pdata[i];

        if (strcmp(model->id, self->settings.model) == 0)
            return model;
    }
    return NULL; /* the daemon's choice */
}

static void need_conversation(AssistantWindow *self)
{
    const struct installed_model *model = chosen_model(self);

    if (self->conversation)
        return;
    self->conversation = conversation_new(self->bus,
                                          &(struct conversation_options){
                                              .model = model ? model->id : NULL,
                                              .tools = self->tools,
                                              .id = self->id,
                                              .keep = self->settings.keep,
                                          },
                                          &conversation_events, self);
}

/* False: its model has no eyes. True where that is not known. */
static bool can_see(AssistantWindow *self)
{
    g_autoptr(GVariant) path = conversation_property(self->conversation, "Model");

    for (guint i = 0; path && i < self->models->len; i++) {
        const struct installed_model *model = self->models->pdata[i];

        if (strcmp(model->path, g_variant_get_string(path, NULL)) == 0)
            return model->sees;
    }
    return true;
}

static bool somebody(AssistantWindow *self, bool (*is)(const struct installed_model *model))
{
    for (guint i = 0; i < self->models->len; i++) {
        if (is(self->models->pdata[i]))
            return true;
    }
    return false;
}

static bool is_any(const struct installed_model *model G_GNUC_UNUSED)
{
    return true;
}

static bool is_seeing(const struct installed_model *model)
{
    return model->sees;
}

static bool is_talking(const struct installed_model *model)
{
    return model->hears && model->speaks;
}

/* False after a notice: nobody can do what is asked. */
static bool able(AssistantWindow *self, bool pictures, bool talk)
{
    const char *sentence = NULL;

    if (!somebody(self, is_any))
        sentence = _("No model is installed. To fetch one, run this in a terminal:\n"
                     "lfmctl pull lfm2.5-1.2b-instruct");
    else if (pictures && !somebody(self, is_seeing))
        sentence = _("No model that can look at pictures is installed. To fetch one, run this in a "
                     "terminal:\nlfmctl pull lfm2.5-vl-450m");
    else if (talk && !somebody(self, is_talking))
        sentence = _("No model that hears and speaks is installed. To fetch one, run this in a "
                     "terminal:\nlfmctl pull lfm2.5-audio-1.5b");
    if (sentence)
        tell(self, GTK_MESSAGE_WARNING, true, sentence);
    return !sentence;
}

/* asked and asked_with go to the model. */
static void send_asked(AssistantWindow *self)
{
    if (!able(self, self->asked_with->len > 0, false)) {
        gtk_editable_set_text(GTK_EDITABLE(self->entry), self->asked);
        strip_put(&self->strip, self->asked_with);
        forget_asked(self);
        self->unable = true;
        return;
    }
    if (self->conversation && self->asked_with->len > 0 && !can_see(self)) {
        leave_conversation(self);
        forget_id(self);
        remark(self, _("The model of this conversation has no eyes: another one begins here."));
    }
    need_conversation(self);
    show_talk(self);
    transcript_pictures(self->transcript, self->asked_with);
    transcript_question(self->transcript, self->asked);
    self->answered = self->spoken = false;
    gtk_progress_bar_set_fraction(self->progress, 0);
    on_progress(0, _("Waiting for the assistant"), self);
    conversation_ask(self->conversation, self->asked_with, DETAIL, self->asked);
    update_actions(self);
}

/* What is typed is what is asked next. */
static void take_message(AssistantWindow *self)
{
    forget_asked(self);
    hide_notice(self);
    self->unable = false;
    self->asked = g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(self->entry))));
    self->asked_with = strip_take(&self->strip);
    gtk_editable_set_text(GTK_EDITABLE(self->entry), "");
    gtk_widget_grab_focus(GTK_WIDGET(self->entry));
    self->pending = PENDING_ASK;
}

static void ask(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                gpointer userdata)
{
    take_message(userdata);
    proceed(userdata);
}

static void on_enter(AssistantWindow *self)
{
    g_action_group_activate_action(G_ACTION_GROUP(self), "ask", NULL);
}

/* --- talking -------------------------------------------------------------------------------- */

static void on_voice_state(enum voice_state state, const char *trouble, void *userdata)
{
    AssistantWindow *self = userdata;
    const bool push = !self->settings.open_microphone;
    const char *const labels[] = {
        [VOICE_OPENING] = _("Opening the microphone"),
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

    show_talk(self);
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
    update_actions(self);
}

static void on_first_sound(unsigned after_ms, void *userdata)
{
    cost_first_sound(&((AssistantWindow *)userdata)->cost, after_ms);
}

static void on_interrupted(void *userdata)
{
    remark(userdata, _("Interrupted."));
}

static void on_voice_call(const char *id, const char *name, struct json_object *arguments,
                          void *userdata)
{
    deeds_call(&((AssistantWindow *)userdata)->deeds, id, name, arguments, true);
}

static void on_voice_ended(const char *sentence, void *userdata)
{
    AssistantWindow *self = userdata;

    show_voice_off(self);
    if (sentence) {
        deeds_cancel(&self->deeds);
        tell(self, GTK_MESSAGE_ERROR, true, sentence);
        self->pending = PENDING_NONE;
    }
    kept_refresh(&self->kept);
    update_actions(self);
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

static void begin_to_talk(AssistantWindow *self)
{
    if (!able(self, false, true))
        return;
    need_conversation(self);
    self->voice =
        voice_new(self->bus, self->conversation,
                  self->settings.open_microphone ? VOICE_OPEN : VOICE_PUSH, &voice_events, self);
    voice_press(self->voice);
    update_actions(self);
}

/* The key, the button or the shortcut of the desktop goes down. */
static void talk_down(AssistantWindow *self)
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
        hide_notice(self);
        self->pending = PENDING_TALK;
        proceed(self);
    }
}

/* And up: the end of a turn, if it was held. */
static void talk_up(AssistantWindow *self)
{
    const bool held = self->talk_usec > 0 && g_get_monotonic_time() - self->talk_usec > HOLD_USEC;

    self->talk_usec = 0;
    self->talked_usec = g_get_monotonic_time();
    if (held && self->voice && voice_mode(self->voice) == VOICE_PUSH)
        voice_release(self->voice);
}

static void toggle_listening(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                             gpointer userdata)
{
    AssistantWindow *self = userdata;

    talk_down(self);
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
    talk_down(self);
}

static void add_talk_gesture(AssistantWindow *self)
{
    GtkGesture *click = gtk_gesture_click_new();

    gtk_event_controller_set_propagation_phase(GTK_EVENT_CONTROLLER(click), GTK_PHASE_CAPTURE);
    g_signal_connect(click, "pressed", G_CALLBACK(on_talk_pressed), self);
    g_signal_connect_swapped(click, "released", G_CALLBACK(talk_up), self);
    g_signal_connect_swapped(click, "cancel", G_CALLBACK(talk_up), self);
    gtk_widget_add_controller(self->talk, GTK_EVENT_CONTROLLER(click));
    g_signal_connect_swapped(self->talk, "clicked", G_CALLBACK(on_talk_clicked), self);
}

/* --- deeds ---------------------------------------------------------------------------------- */

static void on_result(const char *id, const char *text, bool spoken, void *userdata)
{
    AssistantWindow *self = userdata;

    if (spoken && self->voice)
        voice_result(self->voice, id, text);
    else if (!spoken && self->conversation)
        conversation_result(self->conversation, id, text);
    update_actions(self);
}

static void on_deed(const char *sentence, void *userdata)
{
    remark(userdata, sentence);
}

static void on_deeds(void *userdata)
{
    AssistantWindow *self = userdata;

    if (deeds_asking(&self->deeds))
        gtk_widget_set_visible(GTK_WIDGET(self->progress), FALSE);
    else if (gtk_widget_get_visible(self->question)) /* it has been answered */
        gtk_widget_grab_focus(GTK_WIDGET(self->entry));
    update_actions(self);
}

static gboolean go_unseen(void *window)
{
    if (!gtk_widget_get_visible(window))
        gtk_window_destroy(window);
    return G_SOURCE_REMOVE;
}

/* A window that was closed stays for its timers, and goes with the last. */
static void on_timers(void *userdata)
{
    AssistantWindow *self = userdata;
    struct json_object *timers = desktop_timers(self->deeds.desktop);

    /* Not from within: the tools go with the window. */
    if (json_object_array_length(timers) == 0 && !gtk_widget_get_visible(GTK_WIDGET(self)))
        g_idle_add_full(G_PRIORITY_DEFAULT, go_unseen, g_object_ref(self), g_object_unref);
    json_object_put(timers);
}

static const struct deeds_events deeds_events = {on_result, on_deed, on_deeds, on_timers};

static void answer(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter, gpointer userdata)
{
    AssistantWindow *self = userdata;
    const char *word = g_variant_get_string(parameter, NULL);

    deeds_answer(&self->deeds, strcmp(word, "once") == 0     ? DESKTOP_ONCE
                               : strcmp(word, "always") == 0 ? DESKTOP_ALWAYS
                                                             : DESKTOP_REFUSE);
}

static void undo(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                 gpointer userdata)
{
    AssistantWindow *self = userdata;

    deeds_undo(&self->deeds);
    gtk_widget_grab_focus(GTK_WIDGET(self->entry));
}

/* --- kept conversations --------------------------------------------------------------------- */

static void begin_anew(AssistantWindow *self)
{
    leave_conversation(self);
    forget_id(self);
    forget_asked(self);
    hide_notice(self);
    self->pending = PENDING_NONE;
    transcript_clear(self->transcript);
    adw_window_title_set_subtitle(self->title, "");
    gtk_stack_set_visible_child_name(self->stage, "empty");
    gtk_widget_set_visible(self->done, FALSE);
    gtk_widget_grab_focus(GTK_WIDGET(self->entry));
    update_actions(self);
}

static void new_conversation(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                             gpointer userdata)
{
    begin_anew(userdata);
}

static void got_history(GObject *source, GAsyncResult *result, void *userdata)
{
    g_autoptr(AssistantWindow) self = userdata;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);
    const char *text;

    if (g_cancellable_is_cancelled(self->life))
        return;
    if (!reply) {
        tell_error(self, error);
        return;
    }
    g_variant_get(reply, "(&s)", &text);
    history_show(self->transcript, text);
    update_actions(self);
}

static void on_reopened(const char *path, const GError *error, void *userdata)
{
    g_autoptr(AssistantWindow) self = userdata;

    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
        g_cancellable_is_cancelled(self->life))
        return;
    if (error) {
        tell_error(self, error);
        begin_anew(self);
        return;
    }
    g_dbus_connection_call(self->bus, ASSISTANT_NAME, path, ASSISTANT_SESSION, "History", NULL,
                           G_VARIANT_TYPE("(s)"), G_DBUS_CALL_FLAGS_NO_AUTO_START,
                           ASSISTANT_CALL_MSEC, self->life, got_history, g_object_ref(self));
}

static void on_kept_open(const char *id, const char *title, void *userdata)
{
    AssistantWindow *self = userdata;
    g_autofree char *opened = g_strdup(id), *named = g_strdup(title);

    if (adw_flap_get_folded(self->flap))
        adw_flap_set_reveal_flap(self->flap, FALSE);
    if (g_strcmp0(id, self->id) == 0 && self->conversation)
        return;
    begin_anew(self);
    self->id = g_steal_pointer(&opened);
    kept_set_open(&self->kept, self->id);
    adw_window_title_set_subtitle(self->title, named);
    show_talk(self);
    need_conversation(self);
    conversation_open(self->conversation, on_reopened, g_object_ref(self));
}

static void on_kept_leave(const char *id, void *userdata)
{
    AssistantWindow *self = userdata;

    if (g_strcmp0(id, self->id) == 0)
        begin_anew(self);
}

static void on_kept_trouble(const char *sentence, void *userdata)
{
    tell(userdata, GTK_MESSAGE_ERROR, false, sentence);
}

static const struct kept_events kept_events = {on_kept_open, on_kept_leave, on_kept_trouble};

/* --- settings ------------------------------------------------------------------------------- */

static void save(AssistantWindow *self)
{
    if (!settings_write(&self->settings))
        tell(self, GTK_MESSAGE_WARNING, false,
             _("The settings could not be written; they hold until the window is closed."));
}

static void on_keep(GSimpleAction *action, GVariant *parameter, gpointer userdata)
{
    AssistantWindow *self = userdata;

    g_simple_action_set_state(action, parameter);
    self->settings.keep = g_variant_get_boolean(parameter);
    save(self);
}

static void on_microphone(GSimpleAction *action, GVariant *parameter, gpointer userdata)
{
    AssistantWindow *self = userdata;
    const char *mode = g_variant_get_string(parameter, NULL);

    g_simple_action_set_state(action, parameter);
    self->settings.open_microphone = strcmp(mode, "open") == 0;
    save(self);
    update_actions(self);
}

static void on_shortcut(GSimpleAction *action, GVariant *parameter, gpointer userdata)
{
    AssistantWindow *self = userdata;

    g_simple_action_set_state(action, parameter);
    self->settings.shortcut = g_variant_get_boolean(parameter);
    if (self->settings.shortcut)
        shortcut_bind(self->shortcut);
    else
        shortcut_unbind(self->shortcut);
    save(self);
}

static void on_shortcut_available(bool available, void *userdata)
{
    static const GActionEntry action = {
        .name = "shortcut", .state = "false", .change_state = on_shortcut};
    AssistantWindow *self = userdata;

    if (!available)
        return;
    g_action_map_add_action_entries(G_ACTION_MAP(self), &action, 1, self);
    if (self->settings.shortcut)
        g_action_group_change_action_state(G_ACTION_GROUP(self), "shortcut",
                                           g_variant_new_boolean(TRUE));
}

static void on_shortcut_bound(const char *trigger, const char *sentence, void *userdata)
{
    AssistantWindow *self = userdata;
    g_autofree char *told = NULL;

    if (trigger) {
        told = g_strdup_printf(_("Talk from everywhere with %s."),
                               trigger[0] ? trigger : _("the key that you chose"));
        remark(self, told);
        return;
    }
    g_simple_action_set_state(
        G_SIMPLE_ACTION(g_action_map_lookup_action(G_ACTION_MAP(self), "shortcut")),
        g_variant_new_boolean(FALSE));
    self->settings.shortcut = false;
    save(self);
    if (sentence)
        tell(self, GTK_MESSAGE_WARNING, false, sentence);
}

static void on_shortcut_pressed(void *userdata)
{
    talk_down(userdata);
}

static void on_shortcut_released(void *userdata)
{
    talk_up(userdata);
}

static const struct shortcut_events shortcut_events = {on_shortcut_available, on_shortcut_bound,
                                                       on_shortcut_pressed, on_shortcut_released};

/* --- models and tools ----------------------------------------------------------------------- */

static void got_tools(struct json_object *tools, const char *const *problems, void *userdata)
{
    AssistantWindow *self = userdata;

    g_free(self->tools);
    self->tools = g_strdup(json_object_to_json_string_ext(tools, JSON_C_TO_STRING_PLAIN));
    for (; problems && *problems; problems++)
        remark(self, *problems);
    proceed(self);
}

/* Those for the model of new conversations. */
static void list_tools(AssistantWindow *self)
{
    const struct installed_model *model = chosen_model(self);

    g_clear_pointer(&self->tools, g_free);
    if (!model && self->models->len > 0)
        model = self->models->pdata[0];
    desktop_list(self->deeds.desktop, model ? model->id : NULL, got_tools, self);
}

static void on_model(AssistantWindow *self)
{
    const guint index = gtk_drop_down_get_selected(self->models_list);

    g_free(self->settings.model);
    self->settings.model =
        index == 0 || index > self->models->len
            ? NULL
            : g_strdup(((struct installed_model *)self->models->pdata[index - 1])->id);
    save(self);
    list_tools(self);
    begin_anew(self);
}

static void show_models(AssistantWindow *self)
{
    g_autoptr(GtkStringList) names = gtk_string_list_new(NULL);
    guint index = 0;

    gtk_string_list_append(names, _("Automatic"));
    for (guint i = 0; i < self->models->len; i++) {
        const struct installed_model *model = self->models->pdata[i];

        gtk_string_list_append(names, model->id);
        if (g_strcmp0(model->id, self->settings.model) == 0)
            index = i + 1;
    }
    g_signal_handlers_block_by_func(self->models_list, on_model, self);
    gtk_drop_down_set_model(self->models_list, G_LIST_MODEL(names));
    gtk_drop_down_set_selected(self->models_list, index);
    g_signal_handlers_unblock_by_func(self->models_list, on_model, self);
}

static void got_models(GObject *source G_GNUC_UNUSED, GAsyncResult *result, void *userdata)
{
    g_autoptr(AssistantWindow) self = userdata;
    g_autoptr(GError) error = NULL;
    GPtrArray *models = assistant_models_finish(result, &error);
    const struct installed_model *model;

    if (g_cancellable_is_cancelled(self->life)) {
        g_clear_pointer(&models, g_ptr_array_unref);
        return;
    }
    if (!models) {
        self->pending = PENDING_NONE;
        tell_error(self, error);
        return;
    }
    g_clear_pointer(&self->models, g_ptr_array_unref);
    self->models = models;
    show_models(self);
    model = chosen_model(self);
    if (!model && models->len > 0)
        model = models->pdata[0];
    if (!self->conversation)
        cost_watch(&self->cost, self->bus, model ? model->path : NULL);
    able(self, false, false);
    list_tools(self);
    kept_refresh(&self->kept);
}

/* What was asked for, as soon as all is known that it takes. */
static void proceed(AssistantWindow *self)
{
    const enum pending pending = self->pending;

    if (!self->models) {
        refresh_models(self);
        return;
    }
    if (!self->tools)
        return;
    self->pending = PENDING_NONE;
    if (pending == PENDING_ASK && self->asked && !busy(self))
        send_asked(self);
    else if (pending == PENDING_TALK && !self->voice)
        begin_to_talk(self);
}

static void retry(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                  gpointer userdata)
{
    AssistantWindow *self = userdata;

    hide_notice(self);
    if (self->asked)
        self->pending = PENDING_ASK;
    else if (self->unable)
        take_message(self);
    if (self->bus)
        assistant_rescan(self->bus);
    g_clear_pointer(&self->models, g_ptr_array_unref);
    proceed(self);
}

static void unload(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                   gpointer userdata)
{
    AssistantWindow *self = userdata;

    if (self->cost.path)
        g_dbus_connection_call(self->bus, ASSISTANT_NAME, self->cost.path, ASSISTANT_MODEL,
                               "Unload", NULL, NULL, G_DBUS_CALL_FLAGS_NO_AUTO_START,
                               ASSISTANT_CALL_MSEC, NULL, NULL, NULL);
    gtk_menu_button_popdown(self->model_button);
}

/* --- the daemon ----------------------------------------------------------------------------- */

/* Also when it ended while nobody talked to it. What it has kept is opened again with the next
 * question. */
static void on_vanished(GDBusConnection *bus G_GNUC_UNUSED, const char *name G_GNUC_UNUSED,
                        gpointer userdata)
{
    AssistantWindow *self = userdata;
    const bool talked = self->voice != NULL;

    if (!self->conversation)
        return;
    if (!kept_has(&self->kept, self->id))
        forget_id(self);
    if (busy(self))
        on_ended(ENDING_FAILED, _("The assistant ended in the middle of the answer."), self);
    else if (talked)
        tell(self, GTK_MESSAGE_ERROR, true, _("The assistant ended while you talked to it."));
    else
        remark(self, self->id ? _("The assistant was ended. The next question goes on from here.")
                              : _("The assistant was ended. The next question begins a new "
                                  "conversation."));
    leave_conversation(self);
}

static void got_bus(GObject *source G_GNUC_UNUSED, GAsyncResult *result, void *userdata)
{
    g_autoptr(AssistantWindow) self = userdata;
    g_autoptr(GError) error = NULL;
    GDBusConnection *bus = assistant_bus_finish(result, &error);

    if (g_cancellable_is_cancelled(self->life)) {
        g_clear_object(&bus);
        return;
    }
    if (!bus) {
        self->pending = PENDING_NONE;
        tell(self, GTK_MESSAGE_ERROR, true, error->message);
        return;
    }
    self->bus = bus;
    self->watch = g_bus_watch_name_on_connection(bus, ASSISTANT_NAME, G_BUS_NAME_WATCHER_FLAGS_NONE,
                                                 NULL, on_vanished, self, NULL);
    kept_init(&self->kept, self->kept_list, bus, &kept_events, self);
    self->shortcut = shortcut_new(bus, &shortcut_events, self);
    refresh_models(self);
}

static void refresh_models(AssistantWindow *self)
{
    if (self->bus)
        assistant_models_async(self->bus, self->life, got_models, g_object_ref(self));
    else
        g_bus_get(G_BUS_TYPE_SESSION, self->life, got_bus, g_object_ref(self));
}

/* --- the window ----------------------------------------------------------------------------- */

/* What is under way, from the nearest on: a question, an answer, the microphone. */
static void stop(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                 gpointer userdata)
{
    AssistantWindow *self = userdata;

    if (deeds_asking(&self->deeds))
        deeds_answer(&self->deeds, DESKTOP_REFUSE);
    else if (busy(self))
        conversation_stop(self->conversation);
    else if (self->voice && voice_mode(self->voice) == VOICE_OPEN &&
             voice_state(self->voice) == VOICE_SPEAKING)
        voice_interrupt(self->voice);
    else if (self->voice)
        voice_stop(self->voice);
    update_actions(self);
}

static void copy(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                 gpointer userdata)
{
    AssistantWindow *self = userdata;
    g_autofree char *text = transcript_last_answer(self->transcript);

    gdk_clipboard_set_text(gtk_widget_get_clipboard(GTK_WIDGET(self)), text);
}

static void choose_files(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                         gpointer userdata)
{
    intake_choose(((AssistantWindow *)userdata)->intake);
}

static void paste(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                  gpointer userdata)
{
    intake_paste(((AssistantWindow *)userdata)->intake);
}

static void show_model(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                       gpointer userdata)
{
    gtk_menu_button_popup(((AssistantWindow *)userdata)->model_button);
}

static void toggle_sidebar(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                           gpointer userdata)
{
    AssistantWindow *self = userdata;
    const bool show = !adw_flap_get_reveal_flap(self->flap);

    GtkListBoxRow *first = gtk_list_box_get_row_at_index(self->kept_list, 0);

    adw_flap_set_reveal_flap(self->flap, show);
    /* The list itself would not take the focus before it can be seen. */
    gtk_window_set_focus(GTK_WINDOW(self),
                         show && first ? GTK_WIDGET(first) : GTK_WIDGET(self->entry));
}

static gboolean on_close(AssistantWindow *self)
{
    struct json_object *timers = desktop_timers(self->deeds.desktop);
    const bool stays = json_object_array_length(timers) > 0;

    json_object_put(timers);
    if (stays) {
        leave_conversation(self);
        gtk_widget_set_visible(GTK_WIDGET(self), FALSE);
    }
    return stays;
}

static void add_actions(AssistantWindow *self)
{
    static const GActionEntry actions[] = {
        {.name = "answer", .activate = answer, .parameter_type = "s"},
        {.name = "ask", .activate = ask},
        {.name = "copy", .activate = copy},
        {.name = "keep", .state = "true", .change_state = on_keep},
        {.name = "microphone",
         .parameter_type = "s",
         .state = "'push'",
         .change_state = on_microphone},
        {.name = "model", .activate = show_model},
        {.name = "new", .activate = new_conversation},
        {.name = "open", .activate = choose_files},
        {.name = "paste", .activate = paste},
        {.name = "retry", .activate = retry},
        {.name = "sidebar", .activate = toggle_sidebar},
        {.name = "stop", .activate = stop},
        {.name = "toggle-listening", .activate = toggle_listening},
        {.name = "undo", .activate = undo},
        {.name = "unload", .activate = unload},
    };

    g_action_map_add_action_entries(G_ACTION_MAP(self), actions, G_N_ELEMENTS(actions), self);
    g_simple_action_set_state(
        G_SIMPLE_ACTION(g_action_map_lookup_action(G_ACTION_MAP(self), "keep")),
        g_variant_new_boolean(self->settings.keep));
    g_simple_action_set_state(
        G_SIMPLE_ACTION(g_action_map_lookup_action(G_ACTION_MAP(self), "microphone")),
        g_variant_new_string(self->settings.open_microphone ? "open" : "push"));
}

static void assistant_window_init(AssistantWindow *self)
{
    self->life = g_cancellable_new();
    settings_read(&self->settings);
    add_actions(self);
    gtk_widget_init_template(GTK_WIDGET(self));
    transcript_init(self->transcript);
    meter_init(&self->meter, self->wave, self->level);
    cost_init(&self->cost, self->cost_line, GTK_WIDGET(self->model_button));
    strip_init(&self->strip, self->strip_place, self->strip_box, on_strip, self);
    self->deeds = (struct deeds){
        .question = self->question,
        .question_text = self->question_text,
        .question_detail = self->question_detail,
        .done = self->done,
        .done_text = self->done_text,
    };
    deeds_init(&self->deeds, &deeds_events, self);
    self->intake = intake_new(GTK_WINDOW(self), &intake_events, self);
    add_talk_gesture(self);
    g_object_bind_property(self->sidebar, "active", self->flap, "reveal-flap",
                           G_BINDING_BIDIRECTIONAL);
    g_signal_connect_swapped(self->entry, "activate", G_CALLBACK(on_enter), self);
    g_signal_connect_swapped(self->entry, "changed", G_CALLBACK(update_actions), self);
    g_signal_connect_swapped(self->models_list, "notify::selected", G_CALLBACK(on_model), self);
    g_signal_connect_swapped(self->notice, "response", G_CALLBACK(hide_notice), self);
    g_signal_connect(self, "close-request", G_CALLBACK(on_close), NULL);
    /* Focus goes to the button within, which has no name of its own in GTK 4.8. */
    set_label(gtk_widget_get_first_child(GTK_WIDGET(self->menu_button)), _("Menu"));
    show_light(self);
    update_actions(self);
    gtk_window_set_focus(GTK_WINDOW(self), GTK_WIDGET(self->entry));
    refresh_models(self);
}

static void assistant_window_dispose(GObject *object)
{
    AssistantWindow *self = ASSISTANT_WINDOW(object);

    g_cancellable_cancel(self->life);
    if (self->watch)
        g_bus_unwatch_name(self->watch);
    self->watch = 0;
    self->voice = voice_close(self->voice);
    self->conversation = conversation_close(self->conversation);
    self->shortcut = shortcut_free(self->shortcut);
    self->intake = intake_free(self->intake);
    deeds_done(&self->deeds);
    kept_done(&self->kept);
    cost_done(&self->cost);
    strip_done(&self->strip);
    G_OBJECT_CLASS(assistant_window_parent_class)->dispose(object);
}

static void assistant_window_finalize(GObject *object)
{
    AssistantWindow *self = ASSISTANT_WINDOW(object);

    g_clear_object(&self->life);
    g_clear_object(&self->bus);
    g_clear_pointer(&self->models, g_ptr_array_unref);
    forget_asked(self);
    g_free(self->tools);
    g_free(self->id);
    settings_done(&self->settings);
    G_OBJECT_CLASS(assistant_window_parent_class)->finalize(object);
}

static void assistant_window_class_init(AssistantWindowClass *class)
{
    GtkWidgetClass *widget_class = GTK_WIDGET_CLASS(class);

    G_OBJECT_CLASS(class)->dispose = assistant_window_dispose;
    G_OBJECT_CLASS(class)->finalize = assistant_window_finalize;
    gtk_widget_class_set_template_from_resource(widget_class, "/org/lfmd/Assistant/window.ui");
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, ask);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, cost_line);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, done);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, done_text);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, entry);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, flap);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, kept_list);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, level);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, light);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, menu_button);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, model_button);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, models_list);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, notice);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, notice_text);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, progress);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, question);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, question_detail);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, question_text);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, retry);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, sidebar);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, stage);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, stop);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, strip_box);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, strip_place);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, talk);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, title);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, transcript);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, voice_place);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, voice_state);
    gtk_widget_class_bind_template_child(widget_class, AssistantWindow, wave);
}

AssistantWindow *assistant_window_new(GtkApplication *application)
{
    return g_object_new(ASSISTANT_TYPE_WINDOW, "application", application, NULL);
}
