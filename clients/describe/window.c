/* SPDX-License-Identifier: MIT */
#include "clients/describe/window.h"

#include <glib/gi18n.h>
#include <string.h>

#include "clients/describe/description.h"
#include "clients/describe/voice.h"
#include "clients/gtk/conversation.h"
#include "clients/gtk/intake.h"
#include "clients/gtk/preview.h"
#include "clients/gtk/tell.h"
#include "clients/gtk/transcript.h"
#include "clients/sentence.h"

#define CLIPBOARD_MSEC 1500

struct _DescribeWindow {
    AdwApplicationWindow parent;

    AdwWindowTitle *title;
    GtkInfoBar *notice;
    GtkLabel *notice_text;
    GtkPicture *picture;
    GtkTextView *transcript;
    GtkProgressBar *progress;
    GtkEntry *question;

    GCancellable *life; /* cancelled when the window goes */
    GDBusConnection *bus;
    char *model;
    struct voice *voice; /* NULL: silent */
    struct intake *intake;
    guint pasting; /* while the clipboard is waited for: the end of that */

    struct picture *described; /* NULL: none yet */
    struct description *description;
    char *parts[_PART_N]; /* NULL: not told yet */
    bool more_wanted, more_told;
    struct conversation *conversation; /* NULL: nothing was asked yet */
    GString *unsaid;                   /* of the answer */
};

G_DEFINE_TYPE(DescribeWindow, describe_window, ADW_TYPE_APPLICATION_WINDOW)

static void enable(DescribeWindow *self, const char *action, bool enabled)
{
    g_simple_action_set_enabled(
        G_SIMPLE_ACTION(g_action_map_lookup_action(G_ACTION_MAP(self), action)), enabled);
}

static void update_actions(DescribeWindow *self)
{
    g_autofree char *question =
        g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(self->question))));
    const bool busy = self->conversation && conversation_busy(self->conversation);

    enable(self, "ask", question[0] && self->described && !busy);
    enable(self, "more", self->parts[PART_SHORT] && !self->more_wanted && !self->more_told);
    enable(self, "again", self->parts[PART_SHORT]);
}

/* --- telling -------------------------------------------------------------------------------- */

static void say(DescribeWindow *self, const char *text)
{
    if (self->voice)
        voice_say(self->voice, text);
}

static void answer(DescribeWindow *self, const char *text)
{
    transcript_answer(self->transcript, text);
    transcript_answer(self->transcript, "\n");
    say(self, text);
}

static void remark(DescribeWindow *self, const char *text)
{
    transcript_remark(self->transcript, text);
    say(self, text);
}

/* Seen only. */
static void show_notice(DescribeWindow *self, const char *sentence)
{
    gtk_label_set_text(self->notice_text, sentence);
    gtk_info_bar_set_show_close_button(self->notice, TRUE);
    gtk_info_bar_set_revealed(self->notice, TRUE);
}

static void hide_notice(DescribeWindow *self)
{
    gtk_info_bar_set_revealed(self->notice, FALSE);
}

void describe_window_fail(DescribeWindow *self, const char *sentence)
{
    gtk_widget_set_visible(GTK_WIDGET(self->progress), FALSE);
    show_notice(self, sentence);
    say(self, sentence);
}

static void on_voice_trouble(const char *sentence, void *userdata)
{
    show_notice(userdata, sentence);
}

/* --- the description ------------------------------------------------------------------------ */

static void tell_more(DescribeWindow *self)
{
    const char *longer = self->parts[PART_LONG], *words = self->parts[PART_WORDS];

    if (!self->more_wanted || !longer || !words)
        return;
    self->more_wanted = false;
    self->more_told = true;
    gtk_widget_set_visible(GTK_WIDGET(self->progress), FALSE);
    if (*longer)
        answer(self, longer);
    if (*words)
        answer(self, words);
    update_actions(self);
}

static void on_part(enum part part, const char *text, bool unsure, void *userdata)
{
    DescribeWindow *self = userdata;

    self->parts[part] = g_strdup(text);
    if (part == PART_SHORT) {
        gtk_widget_set_visible(GTK_WIDGET(self->progress), FALSE);
        answer(self, *text ? text : _("The model says nothing about this picture."));
        if (unsure)
            remark(self, _("The model is not sure of this."));
    }
    tell_more(self);
    update_actions(self);
}

static void on_looking(double fraction, void *userdata)
{
    tell_progress(((DescribeWindow *)userdata)->progress, fraction, _("Looking at the picture"));
}

static void on_described(const char *sentence, void *userdata)
{
    DescribeWindow *self = userdata;

    self->description = description_free(self->description);
    if (!sentence)
        return;
    self->more_wanted = false;
    describe_window_fail(self, sentence);
    update_actions(self);
}

static void more(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                 gpointer userdata)
{
    DescribeWindow *self = userdata;

    self->more_wanted = true;
    if (self->description)
        tell_progress(self->progress, -1, _("Describing the picture in detail"));
    tell_more(self);
    update_actions(self);
}

/* What was told last. */
static void again(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                  gpointer userdata)
{
    DescribeWindow *self = userdata;
    g_autofree char *last = transcript_last_answer(self->transcript);

    if (self->voice)
        voice_stop(self->voice);
    say(self, last);
}

/* --- questions ------------------------------------------------------------------------------ */

/* Sentence by sentence, as they are whole. */
static void on_text(const char *text, void *userdata)
{
    DescribeWindow *self = userdata;
    size_t n;

    gtk_widget_set_visible(GTK_WIDGET(self->progress), FALSE);
    transcript_answer(self->transcript, text);
    g_string_append(self->unsaid, text);
    while ((n = sentence_length(self->unsaid->str, self->unsaid->len)) > 0) {
        g_autofree char *sentence = g_strndup(self->unsaid->str, n);

        say(self, sentence);
        g_string_erase(self->unsaid, 0, (gssize)n);
    }
}

static void on_progress(double fraction, const char *label, void *userdata)
{
    tell_progress(((DescribeWindow *)userdata)->progress, fraction, label);
}

static void on_answered(enum ending ending, const char *note, void *userdata)
{
    DescribeWindow *self = userdata;

    gtk_widget_set_visible(GTK_WIDGET(self->progress), FALSE);
    if (self->unsaid->len > 0)
        say(self, self->unsaid->str);
    g_string_truncate(self->unsaid, 0);
    if (ending == ENDING_FAILED) {
        describe_window_fail(self, note);
        /* The next question begins anew, with the picture. */
        self->conversation = conversation_close(self->conversation);
    } else if (ending == ENDING_STOPPED) {
        transcript_remark(self->transcript, _("Stopped."));
    } else if (note) {
        remark(self, note);
    }
    update_actions(self);
}

static void ask(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                gpointer userdata)
{
    static const struct conversation_events events = {
        .text = on_text, .progress = on_progress, .ended = on_answered};
    DescribeWindow *self = userdata;
    g_autofree char *question =
        g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(self->question))));
    g_autoptr(GPtrArray) pictures = g_ptr_array_new();

    hide_notice(self);
    if (self->voice)
        voice_stop(self->voice);
    if (!self->conversation) {
        self->conversation = conversation_new(
            self->bus, &(struct conversation_options){.model = self->model}, &events, self);
        g_ptr_array_add(pictures, self->described);
    }
    transcript_question(self->transcript, question);
    gtk_editable_set_text(GTK_EDITABLE(self->question), "");
    conversation_ask(self->conversation, pictures, "auto", question);
    tell_progress(self->progress, -1, _("Reading the question"));
    update_actions(self);
}

static void on_enter(DescribeWindow *self)
{
    gtk_widget_activate_action(GTK_WIDGET(self), "win.ask", NULL);
}

static void stop(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                 gpointer userdata)
{
    DescribeWindow *self = userdata;

    if (self->voice)
        voice_stop(self->voice);
    if (self->conversation)
        conversation_stop(self->conversation);
}

/* --- pictures ------------------------------------------------------------------------------- */

static void forget(DescribeWindow *self)
{
    self->description = description_free(self->description);
    self->conversation = conversation_close(self->conversation);
    for (enum part part = 0; part < _PART_N; part++)
        g_clear_pointer(&self->parts[part], g_free);
    g_clear_pointer(&self->described, picture_unref);
    g_string_truncate(self->unsaid, 0);
    self->more_wanted = self->more_told = false;
}

/* What a picture carries to its preview and back. */
struct previewing {
    DescribeWindow *window;
    struct picture *picture;
};

static void got_preview(GObject *source G_GNUC_UNUSED, GAsyncResult *result, void *userdata)
{
    g_autofree struct previewing *previewing = userdata;
    g_autoptr(DescribeWindow) self = previewing->window;
    g_autoptr(GdkTexture) texture = preview_finish(result, NULL);

    /* What cannot be shown is described all the same. */
    if (!g_cancellable_is_cancelled(self->life) && self->described == previewing->picture)
        gtk_picture_set_paintable(self->picture, GDK_PAINTABLE(texture));
    picture_unref(previewing->picture);
}

void describe_window_show(DescribeWindow *self, struct screen_shot shot)
{
    static const struct description_events events = {on_part, on_looking, on_described};
    struct previewing *previewing = g_new(struct previewing, 1);

    forget(self);
    if (self->voice)
        voice_stop(self->voice);
    hide_notice(self);
    transcript_clear(self->transcript);
    self->described = shot.picture;
    adw_window_title_set_title(self->title, shot.picture->name);
    gtk_picture_set_paintable(self->picture, NULL);
    gtk_accessible_update_property(GTK_ACCESSIBLE(self->picture), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                   shot.picture->name, -1);
    *previewing = (struct previewing){g_object_ref(self), picture_ref(shot.picture)};
    preview_async(shot.picture->fd, self->life, got_preview, previewing);
    if (shot.whole)
        remark(self,
               _("Where the focus is on the screen is not known: this is the whole screen."));
    tell_progress(self->progress, -1, _("Looking at the picture"));
    self->description =
        description_new(self->bus, shot.picture, self->model, &events, self);
    update_actions(self);
}

static void on_picture(struct picture *picture, void *userdata)
{
    describe_window_show(userdata, (struct screen_shot){.picture = picture});
}

static void on_trouble(GtkMessageType type G_GNUC_UNUSED, const char *sentence, void *userdata)
{
    describe_window_fail(userdata, sentence);
}

static void end_waiting(DescribeWindow *self)
{
    if (self->pasting)
        g_source_remove(self->pasting);
    self->pasting = 0;
    g_signal_handlers_disconnect_by_data(gtk_widget_get_clipboard(GTK_WIDGET(self)), self);
}

static gboolean paste(void *userdata)
{
    DescribeWindow *self = userdata;

    self->pasting = 0;
    end_waiting(self);
    intake_paste(self->intake);
    return G_SOURCE_REMOVE;
}

static void on_clipboard(DescribeWindow *self)
{
    end_waiting(self);
    paste(self);
}

/*
 * What it holds is told a moment after a program has started; on Wayland once the window has the
 * focus.
 */
void describe_window_paste(DescribeWindow *self)
{
    GdkClipboard *clipboard = gtk_widget_get_clipboard(GTK_WIDGET(self));
    gsize n;

    end_waiting(self);
    gdk_content_formats_get_mime_types(gdk_clipboard_get_formats(clipboard), &n);
    if (n > 0) {
        paste(self);
        return;
    }
    self->pasting = g_timeout_add(CLIPBOARD_MSEC, paste, self);
    g_signal_connect_swapped(clipboard, "changed", G_CALLBACK(on_clipboard), self);
}

/* --- the window ----------------------------------------------------------------------------- */

static void describe_window_init(DescribeWindow *self)
{
    static const GActionEntry actions[] = {
        {.name = "again", .activate = again},
        {.name = "ask", .activate = ask},
        {.name = "more", .activate = more},
        {.name = "stop", .activate = stop},
    };
    static const struct intake_events intake_events = {on_picture, on_trouble};

    self->life = g_cancellable_new();
    self->unsaid = g_string_new(NULL);
    g_action_map_add_action_entries(G_ACTION_MAP(self), actions, G_N_ELEMENTS(actions), self);
    gtk_widget_init_template(GTK_WIDGET(self));
    transcript_init(self->transcript);
    self->intake = intake_new(GTK_WINDOW(self), &intake_events, self);
    g_signal_connect_swapped(self->question, "activate", G_CALLBACK(on_enter), self);
    g_signal_connect_swapped(self->question, "changed", G_CALLBACK(update_actions), self);
    g_signal_connect_swapped(self->notice, "response", G_CALLBACK(hide_notice), self);
    gtk_window_set_focus(GTK_WINDOW(self), GTK_WIDGET(self->question));
    update_actions(self);
}

static void describe_window_dispose(GObject *object)
{
    DescribeWindow *self = DESCRIBE_WINDOW(object);

    g_cancellable_cancel(self->life);
    end_waiting(self);
    forget(self);
    if (self->voice)
        voice_stop(self->voice);
    self->voice = voice_free(self->voice);
    self->intake = intake_free(self->intake);
    G_OBJECT_CLASS(describe_window_parent_class)->dispose(object);
}

static void describe_window_finalize(GObject *object)
{
    DescribeWindow *self = DESCRIBE_WINDOW(object);

    g_clear_object(&self->life);
    g_clear_object(&self->bus);
    g_string_free(self->unsaid, TRUE);
    g_free(self->model);
    G_OBJECT_CLASS(describe_window_parent_class)->finalize(object);
}

static void describe_window_class_init(DescribeWindowClass *class)
{
    GtkWidgetClass *widget_class = GTK_WIDGET_CLASS(class);

    G_OBJECT_CLASS(class)->dispose = describe_window_dispose;
    G_OBJECT_CLASS(class)->finalize = describe_window_finalize;
    gtk_widget_class_set_template_from_resource(widget_class, "/org/lfmd/Describe/window.ui");
    gtk_widget_class_bind_template_child(widget_class, DescribeWindow, notice);
    gtk_widget_class_bind_template_child(widget_class, DescribeWindow, notice_text);
    gtk_widget_class_bind_template_child(widget_class, DescribeWindow, picture);
    gtk_widget_class_bind_template_child(widget_class, DescribeWindow, progress);
    gtk_widget_class_bind_template_child(widget_class, DescribeWindow, question);
    gtk_widget_class_bind_template_child(widget_class, DescribeWindow, title);
    gtk_widget_class_bind_template_child(widget_class, DescribeWindow, transcript);
}

DescribeWindow *describe_window_new(GtkApplication *application, GDBusConnection *bus,
                                    const char *model, gboolean silent)
{
    DescribeWindow *self = g_object_new(DESCRIBE_TYPE_WINDOW, "application", application, NULL);

    self->bus = g_object_ref(bus);
    self->model = g_strdup(model);
    if (!silent)
        self->voice = voice_new(on_voice_trouble, self);
    return self;
}
