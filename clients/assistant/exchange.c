/* SPDX-License-Identifier: MIT */
#include <glib/gi18n.h>
#include <string.h>

#include "clients/assistant/parts.h"
#include "clients/gtk/tell.h"
#include "clients/gtk/transcript.h"

#define DETAIL "auto"

/* --- pictures ------------------------------------------------------------------------------- */

static void on_picture(struct picture *picture, void *userdata)
{
    AssistantWindow *self = userdata;
    g_autofree char *sentence = g_strdup_printf(
        _("“%s” was left out: there is room for %d pictures."), picture->name, STRIP_MAX);

    if (!strip_add(&self->strip, picture))
        window_tell(self, GTK_MESSAGE_WARNING, false, sentence);
}

static void on_trouble(GtkMessageType type, const char *sentence, void *userdata)
{
    window_tell(userdata, type, false, sentence);
}

const struct intake_events exchange_intake = {on_picture, on_trouble};

void exchange_on_strip(void *userdata)
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
        window_update(self);
    }
}

void exchange_forget_asked(AssistantWindow *self)
{
    g_clear_pointer(&self->asked, g_free);
    g_clear_pointer(&self->asked_with, g_ptr_array_unref);
}

void exchange_on_ended(enum ending ending, const char *note, void *userdata)
{
    AssistantWindow *self = userdata;

    gtk_widget_set_visible(GTK_WIDGET(self->progress), FALSE);
    deeds_cancel(&self->deeds);
    if (ending == ENDING_FAILED) {
        window_tell(self, GTK_MESSAGE_ERROR, true, note);
    } else {
        if (ending == ENDING_STOPPED)
            note = _("Stopped.");
        if (note)
            window_remark(self, note);
        exchange_forget_asked(self);
        kept_refresh(&self->kept);
    }
    window_update(self);
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
    window_show_light(self);
}

static const struct conversation_events conversation_events = {
    .text = on_text,
    .progress = on_progress,
    .ended = exchange_on_ended,
    .call = on_call,
    .usage = on_usage,
    .changed = on_changed,
};

/* The daemon's side of it is given up; what is kept there can be opened again by its id. */
void exchange_leave(AssistantWindow *self)
{
    talking_off(self);
    deeds_cancel(&self->deeds);
    self->conversation = conversation_close(self->conversation);
    self->spoken = false;
    gtk_widget_set_visible(GTK_WIDGET(self->progress), FALSE);
    cost_context(&self->cost, 0, 0);
    window_show_light(self);
    window_update(self);
}

void exchange_forget_id(AssistantWindow *self)
{
    g_clear_pointer(&self->id, g_free);
    kept_set_open(&self->kept, NULL);
}

void exchange_need(AssistantWindow *self)
{
    const struct installed_model *model = choices_model(self);

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

void exchange_anew(AssistantWindow *self)
{
    exchange_leave(self);
    exchange_forget_id(self);
    exchange_forget_asked(self);
    window_hide_notice(self);
    self->pending = PENDING_NONE;
    transcript_clear(self->transcript);
    adw_window_title_set_subtitle(self->title, "");
    gtk_stack_set_visible_child_name(self->stage, "empty");
    gtk_widget_set_visible(self->done, FALSE);
    gtk_widget_grab_focus(GTK_WIDGET(self->entry));
    window_update(self);
}

/* --- asking --------------------------------------------------------------------------------- */

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

/* asked and asked_with go to the model. */
void exchange_send(AssistantWindow *self)
{
    if (!choices_able(self, self->asked_with->len > 0, false)) {
        gtk_editable_set_text(GTK_EDITABLE(self->entry), self->asked);
        strip_put(&self->strip, self->asked_with);
        exchange_forget_asked(self);
        self->unable = true;
        return;
    }
    if (self->conversation && self->asked_with->len > 0 && !can_see(self)) {
        exchange_leave(self);
        exchange_forget_id(self);
        window_remark(self,
                      _("The model of this conversation has no eyes: another one begins here."));
    }
    exchange_need(self);
    window_show_talk(self);
    transcript_pictures(self->transcript, self->asked_with);
    transcript_question(self->transcript, self->asked);
    self->answered = self->spoken = false;
    gtk_progress_bar_set_fraction(self->progress, 0);
    on_progress(0, _("Waiting for the assistant"), self);
    conversation_ask(self->conversation, self->asked_with, DETAIL, self->asked);
    window_update(self);
}

/* What is typed is what is asked next. */
void exchange_take(AssistantWindow *self)
{
    exchange_forget_asked(self);
    window_hide_notice(self);
    self->unable = false;
    self->asked = g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(self->entry))));
    self->asked_with = strip_take(&self->strip);
    gtk_editable_set_text(GTK_EDITABLE(self->entry), "");
    gtk_widget_grab_focus(GTK_WIDGET(self->entry));
    self->pending = PENDING_ASK;
}

void exchange_ask(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                  gpointer userdata)
{
    exchange_take(userdata);
    window_proceed(userdata);
}

void exchange_on_enter(AssistantWindow *self)
{
    g_action_group_activate_action(G_ACTION_GROUP(self), "ask", NULL);
}

void exchange_new(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                  gpointer userdata)
{
    exchange_anew(userdata);
}
