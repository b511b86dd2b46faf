/* SPDX-License-Identifier: MIT */
#include "clients/assistant/window.h"

#include <glib/gi18n.h>
#include <string.h>

#include "clients/assistant/parts.h"
#include "clients/gtk/program.h"
#include "clients/gtk/tell.h"
#include "clients/gtk/transcript.h"

G_DEFINE_TYPE(AssistantWindow, assistant_window, ADW_TYPE_APPLICATION_WINDOW)

/* --- what can be done now ------------------------------------------------------------------- */

static void enable(AssistantWindow *self, const char *action, bool enabled)
{
    program_enable(G_ACTION_MAP(self), action, enabled);
}

bool window_busy(AssistantWindow *self)
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

void window_update(AssistantWindow *self)
{
    const bool stoppable = window_busy(self) || self->voice || deeds_asking(&self->deeds);
    g_autofree char *text = g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(self->entry))));
    g_autofree char *answer = transcript_last_answer(self->transcript);

    enable(self, "answer", deeds_asking(&self->deeds));
    enable(self, "ask", text[0] && !window_busy(self));
    enable(self, "undo", self->deeds.undoable);
    enable(self, "stop", stoppable);
    enable(self, "copy", answer[0]);
    gtk_widget_set_visible(self->ask, !window_busy(self));
    gtk_widget_set_visible(self->stop, window_busy(self));
    update_talk(self);
}

void window_tell(AssistantWindow *self, GtkMessageType type, bool can_retry, const char *sentence)
{
    tell_notice(self->notice, self->notice_text, self->retry, type, can_retry, sentence);
}

void window_tell_error(AssistantWindow *self, const GError *error)
{
    g_autofree char *sentence = assistant_sentence(error);

    window_tell(self, GTK_MESSAGE_ERROR, true, sentence);
}

void window_hide_notice(AssistantWindow *self)
{
    gtk_widget_set_visible(GTK_WIDGET(self->notice), FALSE);
}

void window_show_talk(AssistantWindow *self)
{
    gtk_stack_set_visible_child_name(self->stage, "talk");
}

void window_remark(AssistantWindow *self, const char *sentence)
{
    window_show_talk(self);
    transcript_remark(self->transcript, sentence);
}

/* --- the microphone's light ----------------------------------------------------------------- */

/* The daemon says whether the microphone is open; no button does. */
void window_show_light(AssistantWindow *self)
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

/* --- deeds ---------------------------------------------------------------------------------- */

static void on_result(const char *id, const char *text, bool spoken, void *userdata)
{
    AssistantWindow *self = userdata;

    if (spoken && self->voice)
        voice_result(self->voice, id, text);
    else if (!spoken && self->conversation)
        conversation_result(self->conversation, id, text);
    window_update(self);
}

static void on_deed(const char *sentence, void *userdata)
{
    window_remark(userdata, sentence);
}

static void on_deeds(void *userdata)
{
    AssistantWindow *self = userdata;

    if (deeds_asking(&self->deeds))
        gtk_widget_set_visible(GTK_WIDGET(self->progress), FALSE);
    else if (gtk_widget_get_visible(self->question)) /* it has been answered */
        gtk_widget_grab_focus(GTK_WIDGET(self->entry));
    window_update(self);
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

/* --- the daemon ----------------------------------------------------------------------------- */

/* What was asked for, as soon as all is known that it takes. */
void window_proceed(AssistantWindow *self)
{
    const enum pending pending = self->pending;

    if (!self->models) {
        link_ask_models(self->link);
        return;
    }
    if (!self->tools)
        return;
    self->pending = PENDING_NONE;
    if (pending == PENDING_ASK && self->asked && !window_busy(self))
        exchange_send(self);
    else if (pending == PENDING_TALK && !self->voice)
        talking_begin(self);
}

static void retry(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                  gpointer userdata)
{
    AssistantWindow *self = userdata;

    window_hide_notice(self);
    if (self->asked)
        self->pending = PENDING_ASK;
    else if (self->unable)
        exchange_take(self);
    link_rescan(self->link);
    g_clear_pointer(&self->models, g_ptr_array_unref);
    window_proceed(self);
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

/* Also when it ended while nobody talked to it. What it has kept is opened again with the next
 * question. */
static void on_vanished(void *userdata)
{
    AssistantWindow *self = userdata;
    const bool talked = self->voice != NULL;

    if (!self->conversation)
        return;
    if (!kept_has(&self->kept, self->id))
        exchange_forget_id(self);
    if (window_busy(self))
        exchange_on_ended(ENDING_FAILED, _("The assistant ended in the middle of the answer."),
                          self);
    else if (talked)
        window_tell(self, GTK_MESSAGE_ERROR, true,
                    _("The assistant ended while you talked to it."));
    else
        window_remark(self, self->id
                                ? _("The assistant was ended. The next question goes on from here.")
                                : _("The assistant was ended. The next question begins a new "
                                    "conversation."));
    exchange_leave(self);
}

static void on_reached(GDBusConnection *bus, void *userdata)
{
    AssistantWindow *self = userdata;

    self->bus = g_object_ref(bus);
    kept_init(&self->kept, self->kept_list, bus, &past_kept, self);
    self->shortcut = shortcut_new(bus, &choices_shortcut, self);
}

static void on_failed(const char *sentence, void *userdata)
{
    AssistantWindow *self = userdata;

    self->pending = PENDING_NONE;
    window_tell(self, GTK_MESSAGE_ERROR, true, sentence);
}

static const struct link_events link_events = {on_reached, choices_on_models, on_failed,
                                               on_vanished};

/* --- the window ----------------------------------------------------------------------------- */

/* What is under way, from the nearest on: a question, an answer, the microphone. */
static void stop(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                 gpointer userdata)
{
    AssistantWindow *self = userdata;

    if (deeds_asking(&self->deeds))
        deeds_answer(&self->deeds, DESKTOP_REFUSE);
    else if (window_busy(self))
        conversation_stop(self->conversation);
    else if (self->voice && voice_mode(self->voice) == VOICE_OPEN &&
             voice_state(self->voice) == VOICE_SPEAKING)
        voice_interrupt(self->voice);
    else if (self->voice)
        voice_stop(self->voice);
    window_update(self);
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
        exchange_leave(self);
        gtk_widget_set_visible(GTK_WIDGET(self), FALSE);
    }
    return stays;
}

static void add_actions(AssistantWindow *self)
{
    static const GActionEntry actions[] = {
        {.name = "answer", .activate = answer, .parameter_type = "s"},
        {.name = "ask", .activate = exchange_ask},
        {.name = "copy", .activate = copy},
        {.name = "keep", .state = "true", .change_state = choices_on_keep},
        {.name = "microphone",
         .parameter_type = "s",
         .state = "'push'",
         .change_state = choices_on_microphone},
        {.name = "model", .activate = show_model},
        {.name = "new", .activate = exchange_new},
        {.name = "open", .activate = choose_files},
        {.name = "paste", .activate = paste},
        {.name = "retry", .activate = retry},
        {.name = "sidebar", .activate = toggle_sidebar},
        {.name = "stop", .activate = stop},
        {.name = "toggle-listening", .activate = talking_toggle},
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
    strip_init(&self->strip, self->strip_place, self->strip_box, exchange_on_strip, self);
    self->deeds = (struct deeds){
        .question = self->question,
        .question_text = self->question_text,
        .question_detail = self->question_detail,
        .done = self->done,
        .done_text = self->done_text,
    };
    deeds_init(&self->deeds, &deeds_events, self);
    self->intake = intake_new(GTK_WINDOW(self), &exchange_intake, self);
    self->link = link_new(&link_events, self);
    talking_add_gesture(self);
    g_object_bind_property(self->sidebar, "active", self->flap, "reveal-flap",
                           G_BINDING_BIDIRECTIONAL);
    g_signal_connect_swapped(self->entry, "activate", G_CALLBACK(exchange_on_enter), self);
    g_signal_connect_swapped(self->entry, "changed", G_CALLBACK(window_update), self);
    g_signal_connect_swapped(self->models_list, "notify::selected", G_CALLBACK(choices_on_model),
                             self);
    g_signal_connect_swapped(self->notice, "response", G_CALLBACK(window_hide_notice), self);
    g_signal_connect(self, "close-request", G_CALLBACK(on_close), NULL);
    /* Focus goes to the button within, which has no name of its own in GTK 4.8. */
    set_label(gtk_widget_get_first_child(GTK_WIDGET(self->menu_button)), _("Menu"));
    window_show_light(self);
    window_update(self);
    gtk_window_set_focus(GTK_WINDOW(self), GTK_WIDGET(self->entry));
    link_ask_models(self->link);
}

static void assistant_window_dispose(GObject *object)
{
    AssistantWindow *self = ASSISTANT_WINDOW(object);

    g_cancellable_cancel(self->life);
    self->link = link_free(self->link);
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
    exchange_forget_asked(self);
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
