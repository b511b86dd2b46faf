/* SPDX-License-Identifier: MIT */
#include "clients/ask-window/window.h"

#include <glib/gi18n.h>
#include <string.h>

#include "clients/ask-window/plan.h"
#include "clients/gtk/assistant.h"
#include "clients/gtk/conversation.h"
#include "clients/gtk/intake.h"
#include "clients/gtk/link.h"
#include "clients/gtk/picture.h"
#include "clients/gtk/preview.h"
#include "clients/gtk/program.h"
#include "clients/gtk/tell.h"
#include "clients/gtk/transcript.h"

#define PICTURES_MAX   16
#define THUMBNAIL_SIDE 56
#define WIDE           900 /* pixels: from here on the picture stands beside the conversation, */
#define WIDE_TEXT      400 /* which then has this much at least */

struct _AskWindow {
    AdwApplicationWindow parent;

    AdwWindowTitle *title;
    GtkInfoBar *notice;
    GtkLabel *notice_text;
    GtkWidget *retry;
    GtkPaned *panes;
    GtkStack *stage;
    GtkPicture *picture;
    AdwStatusPage *hidden;
    GtkWidget *strip_place;
    GtkBox *strip;
    GtkLabel *cost;
    GtkDropDown *models;
    GtkTextView *transcript;
    GtkProgressBar *progress;
    GtkEntry *question;
    GtkWidget *ask, *stop;

    GCancellable *life; /* cancelled when the window goes */
    struct intake *intake;
    struct link *link;
    GDBusConnection *bus; /* NULL: not reached yet */
    GPtrArray *seeing;   /* of installed_model, those that see; NULL: not known yet */
    GPtrArray *pictures; /* of picture */
    guint shown;         /* index of the large one */

    struct conversation *conversation; /* NULL: the next question opens one */
    char *asked;                       /* the last question, until it is answered */
    bool answered;                     /* something of the answer has come */
    bool again;                        /* ask it again once the models are known */

    GCancellable *planning; /* NULL: nothing to plan */
    GPtrArray *unplanned;   /* of picture */
    struct plan plan;       /* the sum so far */
};

G_DEFINE_TYPE(AskWindow, ask_window, ADW_TYPE_APPLICATION_WINDOW)

static void update_cost(AskWindow *self);

/* --- what can be done now ------------------------------------------------------------------- */

static void enable(AskWindow *self, const char *action, bool enabled)
{
    program_enable(G_ACTION_MAP(self), action, enabled);
}

static bool busy(AskWindow *self)
{
    return self->conversation && conversation_busy(self->conversation);
}

static struct picture *shown_picture(AskWindow *self)
{
    return self->shown < self->pictures->len ? self->pictures->pdata[self->shown] : NULL;
}

static void update_actions(AskWindow *self)
{
    const struct picture *picture = shown_picture(self);
    g_autofree char *question =
        g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(self->question))));
    g_autofree char *answer = transcript_last_answer(self->transcript);

    enable(self, "ask", question[0] && !busy(self));
    enable(self, "stop", busy(self));
    enable(self, "copy", answer[0]);
    enable(self, "remove", picture && !picture->sent && !busy(self));
    gtk_widget_set_visible(self->ask, !busy(self));
    gtk_widget_set_visible(self->stop, busy(self));
    gtk_widget_set_sensitive(GTK_WIDGET(self->models), !busy(self));
}

static void tell(AskWindow *self, GtkMessageType type, bool can_retry, const char *sentence)
{
    tell_notice(self->notice, self->notice_text, self->retry, type, can_retry, sentence);
}

static void hide_notice(AskWindow *self)
{
    gtk_info_bar_set_revealed(self->notice, FALSE);
}

/* --- pictures ------------------------------------------------------------------------------- */

static void show_stage(AskWindow *self)
{
    const struct picture *picture = shown_picture(self);

    if (!picture) {
        gtk_stack_set_visible_child_name(self->stage, "empty");
    } else if (picture->trouble) {
        adw_status_page_set_description(self->hidden, picture->trouble);
        gtk_stack_set_visible_child_name(self->stage, "hidden");
    } else {
        gtk_picture_set_paintable(self->picture, GDK_PAINTABLE(picture->texture));
        gtk_accessible_update_property(GTK_ACCESSIBLE(self->picture), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                       picture->name, -1);
        gtk_stack_set_visible_child_name(self->stage, "picture");
    }
}

static void show_title(AskWindow *self)
{
    const struct picture *picture = shown_picture(self);
    g_autofree char *title = NULL, *subtitle = NULL;

    if (picture)
        title = g_strdup_printf(_("%s – Ask"), picture->name);
    if (self->pictures->len > 1)
        subtitle = g_strdup_printf(_("Picture %u of %u"), self->shown + 1, self->pictures->len);
    gtk_window_set_title(GTK_WINDOW(self), title ? title : _("Ask about a picture"));
    adw_window_title_set_title(self->title, picture ? picture->name : _("Ask about a picture"));
    adw_window_title_set_subtitle(self->title, subtitle ? subtitle : "");
}

static void show_picture(AskWindow *self, guint index)
{
    self->shown = index;
    show_stage(self);
    show_title(self);
    update_actions(self);
}

static GtkWidget *thumbnail(AskWindow *self, guint index)
{
    GtkWidget *child = gtk_widget_get_first_child(GTK_WIDGET(self->strip));

    while (child && index-- > 0)
        child = gtk_widget_get_next_sibling(child);
    return child;
}

static void on_thumbnail(AskWindow *self, GtkToggleButton *button)
{
    if (!gtk_toggle_button_get_active(button))
        return;
    for (guint i = 0; i < self->pictures->len; i++) {
        if (thumbnail(self, i) == GTK_WIDGET(button))
            show_picture(self, i);
    }
}

static void add_thumbnail(AskWindow *self, const struct picture *picture)
{
    GtkWidget *button = gtk_toggle_button_new();
    /* The button has the name. */
    GtkWidget *image =
        g_object_new(GTK_TYPE_IMAGE, "accessible-role", GTK_ACCESSIBLE_ROLE_PRESENTATION,
                     "pixel-size", THUMBNAIL_SIDE, NULL);
    GtkWidget *first = gtk_widget_get_first_child(GTK_WIDGET(self->strip));

    gtk_button_set_child(GTK_BUTTON(button), image);
    gtk_widget_set_tooltip_text(button, picture->name);
    gtk_accessible_update_property(GTK_ACCESSIBLE(button), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                   picture->name, -1);
    gtk_toggle_button_set_group(GTK_TOGGLE_BUTTON(button), first ? GTK_TOGGLE_BUTTON(first) : NULL);
    g_signal_connect_swapped(button, "toggled", G_CALLBACK(on_thumbnail), self);
    gtk_box_append(self->strip, button);
}

/* What a picture of the list carries to its preview and back. */
struct previewing {
    AskWindow *window;
    struct picture *picture;
};

static void got_preview(GObject *source G_GNUC_UNUSED, GAsyncResult *result, void *userdata)
{
    g_autofree struct previewing *previewing = userdata;
    g_autoptr(AskWindow) self = previewing->window;
    struct picture *picture = previewing->picture;
    g_autoptr(GError) error = NULL;
    guint index;

    picture->texture = preview_finish(result, &error);
    if (!picture->texture)
        picture->trouble = g_strdup(error->message);
    if (!g_cancellable_is_cancelled(self->life) &&
        g_ptr_array_find(self->pictures, picture, &index)) {
        gtk_image_set_from_paintable(
            GTK_IMAGE(gtk_button_get_child(GTK_BUTTON(thumbnail(self, index)))),
            GDK_PAINTABLE(picture->texture));
        if (picture == shown_picture(self))
            show_stage(self);
    }
    picture_unref(picture);
}

/* Takes the reference. */
static void add_picture(AskWindow *self, struct picture *picture)
{
    struct previewing *previewing;
    GtkWidget *button;

    if (self->pictures->len == PICTURES_MAX) {
        g_autofree char *sentence = g_strdup_printf(
            _("“%s” was left out: there is room for %d pictures."), picture->name, PICTURES_MAX);

        tell(self, GTK_MESSAGE_WARNING, false, sentence);
        picture_unref(picture);
        return;
    }
    g_ptr_array_add(self->pictures, picture);
    add_thumbnail(self, picture);
    button = thumbnail(self, self->pictures->len - 1);
    gtk_toggle_button_set_active(GTK_TOGGLE_BUTTON(button), TRUE);
    gtk_widget_set_visible(self->strip_place, self->pictures->len > 1);

    previewing = g_new(struct previewing, 1);
    *previewing = (struct previewing){g_object_ref(self), picture_ref(picture)};
    preview_async(picture->fd, self->life, got_preview, previewing);
    update_cost(self);
}

static void remove_picture(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                           gpointer userdata)
{
    AskWindow *self = userdata;
    const guint index = self->shown;

    gtk_box_remove(self->strip, thumbnail(self, index));
    g_ptr_array_remove_index(self->pictures, index);
    gtk_widget_set_visible(self->strip_place, self->pictures->len > 1);
    show_picture(self, index == 0 ? 0 : index - 1);
    if (self->pictures->len > 0)
        gtk_toggle_button_set_active(GTK_TOGGLE_BUTTON(thumbnail(self, self->shown)), TRUE);
    gtk_widget_grab_focus(GTK_WIDGET(self->question));
    update_cost(self);
}

/* Those that the conversation does not have yet. */
static GPtrArray *unsent(AskWindow *self)
{
    GPtrArray *pictures = g_ptr_array_new();

    for (guint i = 0; i < self->pictures->len; i++) {
        struct picture *picture = self->pictures->pdata[i];

        if (!picture->sent)
            g_ptr_array_add(pictures, picture);
    }
    return pictures;
}

static void set_sent(AskWindow *self, bool sent)
{
    for (guint i = 0; i < self->pictures->len; i++)
        ((struct picture *)self->pictures->pdata[i])->sent = sent;
}

/* --- where pictures come from --------------------------------------------------------------- */

static void on_picture(struct picture *picture, void *userdata)
{
    add_picture(userdata, picture);
}

static void on_trouble(GtkMessageType type, const char *sentence, void *userdata)
{
    tell(userdata, type, false, sentence);
}

static const struct intake_events intake_events = {on_picture, on_trouble};

void ask_window_open(AskWindow *self, GFile *file)
{
    intake_open(self->intake, file);
}

static void choose_files(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                         gpointer userdata)
{
    intake_choose(((AskWindow *)userdata)->intake);
}

static void paste(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                  gpointer userdata)
{
    intake_paste(((AskWindow *)userdata)->intake);
}

/* --- detail, model and what they cost ------------------------------------------------------- */

static const char *chosen_model(AskWindow *self)
{
    const guint index = gtk_drop_down_get_selected(self->models);

    if (!self->seeing || index >= self->seeing->len)
        return NULL; /* the daemon's choice */
    return ((struct installed_model *)self->seeing->pdata[index])->id;
}

static const char *chosen_detail(AskWindow *self)
{
    g_autoptr(GVariant) state = g_action_group_get_action_state(G_ACTION_GROUP(self), "detail");

    return g_variant_get_string(state, NULL);
}

/* Nothing is there for a screen reader when there is nothing to tell; the place stays. */
static void tell_cost(AskWindow *self, const char *text)
{
    gtk_label_set_text(self->cost, text[0] ? text : " ");
}

/* "about 3 s · 4 parts" */
static void show_cost(AskWindow *self)
{
    const struct plan *plan = &self->plan;
    g_autoptr(GString) text = g_string_new(NULL);

    if (plan->predicted_ms >= 90000)
        g_string_printf(text, _("about %u min"), (plan->predicted_ms + 30000) / 60000);
    else if (plan->predicted_ms >= 1000)
        g_string_printf(text, _("about %u s"), (plan->predicted_ms + 500) / 1000);
    else if (plan->predicted_ms > 0)
        g_string_assign(text, _("less than 1 s"));
    if (text->len > 0 && plan->views > 1)
        g_string_append(text, " · ");
    if (plan->views > 1)
        g_string_append_printf(text, g_dngettext(NULL, "%u part", "%u parts", plan->views),
                               plan->views);
    tell_cost(self, text->str);
}

static void plan_next(AskWindow *self);

static void got_plan(GObject *source G_GNUC_UNUSED, GAsyncResult *result, void *userdata)
{
    g_autoptr(AskWindow) self = userdata;
    g_autoptr(GError) error = NULL;
    struct plan plan;

    if (!plan_finish(result, &plan, &error)) {
        g_autofree char *sentence = assistant_sentence(error);

        if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
            tell_cost(self, sentence);
        return;
    }
    self->plan.views += plan.views;
    self->plan.predicted_ms += plan.predicted_ms;
    plan_next(self);
}

/* One after the other: the daemon looks at a few pictures at a time. */
static void plan_next(AskWindow *self)
{
    struct picture *picture;

    if (self->unplanned->len == 0) {
        show_cost(self);
        return;
    }
    picture = g_ptr_array_steal_index(self->unplanned, 0);
    plan_async(self->bus, picture->fd, chosen_detail(self), chosen_model(self), self->planning,
               got_plan, g_object_ref(self));
    picture_unref(picture);
}

/* Of the pictures that go with the next question. */
static void update_cost(AskWindow *self)
{
    g_autoptr(GPtrArray) pictures = unsent(self);

    if (self->planning)
        g_cancellable_cancel(self->planning);
    g_clear_object(&self->planning);
    tell_cost(self, "");
    if (!self->bus || !self->seeing || self->seeing->len == 0)
        return;
    self->planning = g_cancellable_new();
    self->plan = (struct plan){0};
    g_ptr_array_set_size(self->unplanned, 0);
    for (guint i = 0; i < pictures->len; i++)
        g_ptr_array_add(self->unplanned, picture_ref(pictures->pdata[i]));
    plan_next(self);
}

static void on_detail(GSimpleAction *action, GVariant *parameter, gpointer userdata)
{
    g_simple_action_set_state(action, parameter);
    update_cost(userdata);
}

/* --- the conversation ----------------------------------------------------------------------- */

/* What follows begins a new one. */
static void forget_conversation(AskWindow *self)
{
    self->conversation = conversation_close(self->conversation);
    set_sent(self, false);
    gtk_widget_set_visible(GTK_WIDGET(self->progress), FALSE);
    update_cost(self);
    update_actions(self);
}

static void on_text(const char *text, void *userdata)
{
    AskWindow *self = userdata;

    gtk_widget_set_visible(GTK_WIDGET(self->progress), FALSE);
    transcript_answer(self->transcript, text);
    if (!self->answered) {
        self->answered = true;
        update_actions(self);
    }
}

static void on_progress(double fraction, const char *label, void *userdata)
{
    AskWindow *self = userdata;

    tell_progress(self->progress, fraction, label);
}

static void on_ended(enum ending ending, const char *note, void *userdata)
{
    AskWindow *self = userdata;

    gtk_widget_set_visible(GTK_WIDGET(self->progress), FALSE);
    if (ending == ENDING_FAILED) {
        tell(self, GTK_MESSAGE_ERROR, true, note);
    } else {
        /* The daemon keeps what was stopped if something had been said. */
        if (ending == ENDING_DONE || self->answered)
            set_sent(self, true);
        if (ending == ENDING_STOPPED)
            note = _("Stopped.");
        if (note)
            transcript_remark(self->transcript, note);
        g_clear_pointer(&self->asked, g_free);
        update_cost(self);
    }
    update_actions(self);
}

static const struct conversation_events conversation_events = {
    .text = on_text, .progress = on_progress, .ended = on_ended};

/* False after a notice: there are pictures, and nobody to look at them. */
static bool can_see(AskWindow *self)
{
    if (!self->seeing || self->seeing->len > 0 || self->pictures->len == 0)
        return true;
    tell(self, GTK_MESSAGE_WARNING, true,
         _("No model that can look at pictures is installed. To fetch one, run this in a "
           "terminal:\nlfmctl pull lfm2.5-vl-450m"));
    return false;
}

static void ask_question(AskWindow *self, const char *question)
{
    g_autoptr(GPtrArray) pictures = unsent(self);
    g_autofree char *kept = g_strdup(question);

    g_free(self->asked);
    self->asked = g_steal_pointer(&kept);
    hide_notice(self);
    if (!self->bus || (pictures->len > 0 && !self->seeing)) {
        self->again = true;
        link_ask_models(self->link);
        return;
    }
    if (!can_see(self))
        return;
    if (!self->conversation)
        self->conversation = conversation_new(
            self->bus, &(struct conversation_options){.model = chosen_model(self)},
            &conversation_events, self);
    transcript_pictures(self->transcript, pictures);
    transcript_question(self->transcript, self->asked);
    gtk_editable_set_text(GTK_EDITABLE(self->question), "");
    self->answered = false;
    gtk_progress_bar_set_fraction(self->progress, 0);
    on_progress(0, _("Waiting for the assistant"), self);
    conversation_ask(self->conversation, pictures, chosen_detail(self), self->asked);
    gtk_widget_grab_focus(GTK_WIDGET(self->question));
    update_actions(self);
}

static void ask(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                gpointer userdata)
{
    AskWindow *self = userdata;
    g_autofree char *question =
        g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(self->question))));

    ask_question(self, question);
}

static void on_enter(AskWindow *self)
{
    g_action_group_activate_action(G_ACTION_GROUP(self), "ask", NULL);
}

static void stop(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                 gpointer userdata)
{
    conversation_stop(((AskWindow *)userdata)->conversation);
}

static void retry(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                  gpointer userdata)
{
    AskWindow *self = userdata;

    self->again = self->asked;
    hide_notice(self);
    link_rescan(self->link);
    link_ask_models(self->link);
}

static void begin_anew(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                       gpointer userdata)
{
    AskWindow *self = userdata;

    g_clear_pointer(&self->asked, g_free);
    hide_notice(self);
    transcript_clear(self->transcript);
    forget_conversation(self);
    gtk_widget_grab_focus(GTK_WIDGET(self->question));
}

static void copy(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                 gpointer userdata)
{
    AskWindow *self = userdata;
    g_autofree char *answer = transcript_last_answer(self->transcript);

    gdk_clipboard_set_text(gtk_widget_get_clipboard(GTK_WIDGET(self)), answer);
}

/* --- the daemon ----------------------------------------------------------------------------- */

static void on_model(AskWindow *self)
{
    if (self->conversation) {
        transcript_remark(self->transcript,
                          _("Another model answers from here on. It does not know "
                            "what is above."));
        forget_conversation(self);
    } else {
        update_cost(self);
    }
}

static void show_models(AskWindow *self, const char *chosen)
{
    g_autoptr(GtkStringList) ids = gtk_string_list_new(NULL);
    guint index = 0;

    for (guint i = 0; i < self->seeing->len; i++) {
        const struct installed_model *model = self->seeing->pdata[i];

        gtk_string_list_append(ids, model->id);
        if (g_strcmp0(model->id, chosen) == 0)
            index = i;
    }
    g_signal_handlers_block_by_func(self->models, on_model, self);
    gtk_drop_down_set_model(self->models, G_LIST_MODEL(ids));
    gtk_drop_down_set_selected(self->models, index);
    g_signal_handlers_unblock_by_func(self->models, on_model, self);
    gtk_widget_set_visible(GTK_WIDGET(self->models), self->seeing->len > 1);
}

static void keep_seeing(GPtrArray *models)
{
    for (guint i = models->len; i-- > 0;)
        if (!((struct installed_model *)models->pdata[i])->sees)
            g_ptr_array_remove_index(models, i);
}

static void on_models(GPtrArray *models, void *userdata)
{
    AskWindow *self = userdata;
    g_autofree char *chosen = g_strdup(chosen_model(self)), *question = NULL;

    keep_seeing(models);
    g_clear_pointer(&self->seeing, g_ptr_array_unref);
    self->seeing = models;
    show_models(self, chosen);
    update_cost(self);
    if (can_see(self) && self->again && !busy(self)) {
        question = g_strdup(self->asked);
        ask_question(self, question);
    }
    self->again = false;
}

static void on_reached(GDBusConnection *bus, void *userdata)
{
    ((AskWindow *)userdata)->bus = g_object_ref(bus);
}

static void on_failed(const char *sentence, void *userdata)
{
    AskWindow *self = userdata;

    self->again = false;
    tell(self, GTK_MESSAGE_ERROR, true, sentence);
}

/* Also when it ended while nobody talked to it; what it knew of this conversation is gone. */
static void on_vanished(void *userdata)
{
    AskWindow *self = userdata;

    if (!self->conversation)
        return;
    if (busy(self))
        on_ended(ENDING_FAILED, _("The assistant ended in the middle of the answer."), self);
    else
        transcript_remark(self->transcript, _("The assistant was ended. The next question begins a "
                                              "new conversation."));
    forget_conversation(self);
}

static const struct link_events link_events = {on_reached, on_models, on_failed, on_vanished};

/* --- the window ----------------------------------------------------------------------------- */

static void on_layout(AskWindow *self, int width, int height G_GNUC_UNUSED)
{
    const GtkOrientation wanted =
        width >= WIDE ? GTK_ORIENTATION_HORIZONTAL : GTK_ORIENTATION_VERTICAL;

    if (gtk_orientable_get_orientation(GTK_ORIENTABLE(self->panes)) == wanted)
        return;
    gtk_orientable_set_orientation(GTK_ORIENTABLE(self->panes), wanted);
    gtk_widget_set_size_request(gtk_paned_get_end_child(self->panes),
                                wanted == GTK_ORIENTATION_HORIZONTAL ? WIDE_TEXT : -1, -1);
}

static void on_realize(AskWindow *self)
{
    g_signal_connect_object(gtk_native_get_surface(GTK_NATIVE(self)), "layout",
                            G_CALLBACK(on_layout), self, G_CONNECT_SWAPPED);
}

static void ask_window_init(AskWindow *self)
{
    static const GActionEntry actions[] = {
        {.name = "ask", .activate = ask},
        {.name = "copy", .activate = copy},
        {.name = "detail", .parameter_type = "s", .state = "'auto'", .change_state = on_detail},
        {.name = "new", .activate = begin_anew},
        {.name = "open", .activate = choose_files},
        {.name = "paste", .activate = paste},
        {.name = "remove", .activate = remove_picture},
        {.name = "retry", .activate = retry},
        {.name = "stop", .activate = stop},
    };

    self->life = g_cancellable_new();
    self->pictures = g_ptr_array_new_with_free_func((GDestroyNotify)picture_unref);
    self->unplanned = g_ptr_array_new_with_free_func((GDestroyNotify)picture_unref);
    g_action_map_add_action_entries(G_ACTION_MAP(self), actions, G_N_ELEMENTS(actions), self);
    gtk_widget_init_template(GTK_WIDGET(self));
    transcript_init(self->transcript);
    self->intake = intake_new(GTK_WINDOW(self), &intake_events, self);
    self->link = link_new(&link_events, self);
    g_signal_connect_swapped(self->question, "activate", G_CALLBACK(on_enter), self);
    g_signal_connect_swapped(self->question, "changed", G_CALLBACK(update_actions), self);
    g_signal_connect_swapped(self->models, "notify::selected", G_CALLBACK(on_model), self);
    g_signal_connect_swapped(self->notice, "response", G_CALLBACK(hide_notice), self);
    g_signal_connect(self, "realize", G_CALLBACK(on_realize), NULL);
    show_picture(self, 0);
    gtk_window_set_focus(GTK_WINDOW(self), GTK_WIDGET(self->question));
    link_ask_models(self->link);
}

static void ask_window_dispose(GObject *object)
{
    AskWindow *self = ASK_WINDOW(object);

    g_cancellable_cancel(self->life);
    if (self->planning)
        g_cancellable_cancel(self->planning);
    self->link = link_free(self->link);
    self->conversation = conversation_close(self->conversation);
    self->intake = intake_free(self->intake);
    G_OBJECT_CLASS(ask_window_parent_class)->dispose(object);
}

static void ask_window_finalize(GObject *object)
{
    AskWindow *self = ASK_WINDOW(object);

    g_clear_object(&self->life);
    g_clear_object(&self->planning);
    g_clear_object(&self->bus);
    g_clear_pointer(&self->seeing, g_ptr_array_unref);
    g_clear_pointer(&self->pictures, g_ptr_array_unref);
    g_clear_pointer(&self->unplanned, g_ptr_array_unref);
    g_free(self->asked);
    G_OBJECT_CLASS(ask_window_parent_class)->finalize(object);
}

static void ask_window_class_init(AskWindowClass *class)
{
    GtkWidgetClass *widget_class = GTK_WIDGET_CLASS(class);

    G_OBJECT_CLASS(class)->dispose = ask_window_dispose;
    G_OBJECT_CLASS(class)->finalize = ask_window_finalize;
    gtk_widget_class_set_template_from_resource(widget_class, "/org/lfmd/Ask/window.ui");
    gtk_widget_class_bind_template_child(widget_class, AskWindow, ask);
    gtk_widget_class_bind_template_child(widget_class, AskWindow, cost);
    gtk_widget_class_bind_template_child(widget_class, AskWindow, hidden);
    gtk_widget_class_bind_template_child(widget_class, AskWindow, models);
    gtk_widget_class_bind_template_child(widget_class, AskWindow, notice);
    gtk_widget_class_bind_template_child(widget_class, AskWindow, notice_text);
    gtk_widget_class_bind_template_child(widget_class, AskWindow, panes);
    gtk_widget_class_bind_template_child(widget_class, AskWindow, picture);
    gtk_widget_class_bind_template_child(widget_class, AskWindow, progress);
    gtk_widget_class_bind_template_child(widget_class, AskWindow, question);
    gtk_widget_class_bind_template_child(widget_class, AskWindow, retry);
    gtk_widget_class_bind_template_child(widget_class, AskWindow, stage);
    gtk_widget_class_bind_template_child(widget_class, AskWindow, stop);
    gtk_widget_class_bind_template_child(widget_class, AskWindow, strip);
    gtk_widget_class_bind_template_child(widget_class, AskWindow, strip_place);
    gtk_widget_class_bind_template_child(widget_class, AskWindow, title);
    gtk_widget_class_bind_template_child(widget_class, AskWindow, transcript);
}

AskWindow *ask_window_new(GtkApplication *application)
{
    return g_object_new(ASK_TYPE_WINDOW, "application", application, NULL);
}
