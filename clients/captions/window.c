/* SPDX-License-Identifier: MIT */
#include "clients/captions/window.h"

#include <glib/gi18n.h>
#include <string.h>

#include "clients/captions/hearing.h"
#include "clients/captions/history.h"
#include "clients/captions/look.h"
#include "clients/gtk/link.h"
#include "clients/gtk/program.h"

#define SIZE_STEP 1.2

struct _CaptionsWindow {
    AdwApplicationWindow parent;

    GtkWidget *notice;
    GtkLabel *notice_text;
    GtkTextView *captions;
    GtkImage *light; /* whether anything is heard */
    GtkLabel *state;

    GCancellable *life; /* cancelled when the window goes */
    struct link *link;
    GDBusConnection *bus; /* NULL: not reached yet */
    struct look look;
    GtkCssProvider *style;
    struct history *history;
    struct hearing *hearing; /* NULL: nobody listens */
    bool wanted;             /* begin again when the last one has ended */
};

G_DEFINE_TYPE(CaptionsWindow, captions_window, ADW_TYPE_APPLICATION_WINDOW)

static void begin(CaptionsWindow *self);

/* --- what is told --------------------------------------------------------------------------- */

static void enable(CaptionsWindow *self, const char *action, bool enabled)
{
    program_enable(G_ACTION_MAP(self), action, enabled);
}

static void set_state(CaptionsWindow *self, const char *action, GVariant *value)
{
    g_simple_action_set_state(
        G_SIMPLE_ACTION(g_action_map_lookup_action(G_ACTION_MAP(self), action)), value);
}

static void update_actions(CaptionsWindow *self)
{
    const bool empty = history_is_empty(self->history);

    enable(self, "save", !empty);
    enable(self, "clear", !empty);
    enable(self, "larger", self->look.size < LOOK_SIZE_MAX);
    enable(self, "smaller", self->look.size > LOOK_SIZE_MIN);
}

/* The light is on while sound really comes. */
static void tell_state(CaptionsWindow *self, bool on, const char *sentence)
{
    gtk_image_set_from_icon_name(self->light,
                                 on ? "media-record-symbolic" : "media-playback-stop-symbolic");
    gtk_label_set_text(self->state, sentence);
}

static void tell_error(CaptionsWindow *self, const char *sentence)
{
    gtk_label_set_text(self->notice_text, sentence);
    gtk_widget_set_visible(self->notice, TRUE);
}

static bool is_microphone(CaptionsWindow *self)
{
    return strcmp(self->look.source, HEARING_MICROPHONE) == 0;
}

/* --- what is heard -------------------------------------------------------------------------- */

static void on_listening(bool on, const char *why, void *userdata)
{
    CaptionsWindow *self = userdata;

    if (on)
        tell_state(self, true,
                   is_microphone(self) ? _("Listening to the microphone")
                                       : _("Listening to what the computer plays"));
    else
        tell_state(self, false, *why ? why : _("Nothing is heard"));
}

static void on_partial(const char *text, const char *tail, void *userdata)
{
    history_partial(((CaptionsWindow *)userdata)->history, text, tail);
}

static void on_transcript(const char *text, void *userdata)
{
    CaptionsWindow *self = userdata;

    history_final(self->history, text);
    update_actions(self);
}

static void on_ended(const char *sentence, void *userdata)
{
    CaptionsWindow *self = userdata;

    self->hearing = hearing_close(self->hearing);
    history_final(self->history, "");
    tell_state(self, false, _("Not listening"));
    if (sentence) {
        tell_error(self, sentence);
        self->wanted = false;
    }
    if (self->wanted)
        begin(self);
    else
        set_state(self, "listen", g_variant_new_boolean(FALSE));
}

static const struct hearing_events hearing_events = {on_listening, on_partial, on_transcript,
                                                     on_ended};

static void on_reached(GDBusConnection *bus, void *userdata)
{
    CaptionsWindow *self = userdata;

    self->bus = g_object_ref(bus);
    if (self->wanted)
        begin(self);
}

static const struct link_events link_events = {.reached = on_reached, .failed = on_ended};

static void begin(CaptionsWindow *self)
{
    self->wanted = true;
    set_state(self, "listen", g_variant_new_boolean(TRUE));
    gtk_widget_set_visible(self->notice, FALSE);
    tell_state(self, false, _("Waiting for the assistant; a notification may ask you first"));
    if (self->bus)
        self->hearing = hearing_new(self->bus, self->look.source, &hearing_events, self);
    else
        link_reach(self->link);
}

/* The present sentence is still written down. */
static void end(CaptionsWindow *self)
{
    self->wanted = false;
    set_state(self, "listen", g_variant_new_boolean(FALSE));
    if (self->hearing)
        hearing_stop(self->hearing);
}

static void on_listen(GSimpleAction *action G_GNUC_UNUSED, GVariant *value, gpointer userdata)
{
    CaptionsWindow *self = userdata;

    if (!g_variant_get_boolean(value))
        end(self);
    else if (self->hearing)
        self->wanted = true; /* once it has ended */
    else
        begin(self);
    set_state(self, "listen", value);
}

static void retry(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                  gpointer userdata)
{
    CaptionsWindow *self = userdata;

    if (!self->hearing)
        begin(self);
}

static void on_source(GSimpleAction *action, GVariant *value, gpointer userdata)
{
    CaptionsWindow *self = userdata;

    g_simple_action_set_state(action, value);
    if (strcmp(self->look.source, g_variant_get_string(value, NULL)) == 0)
        return;
    g_free(self->look.source);
    self->look.source = g_variant_dup_string(value, NULL);
    look_save(&self->look);
    if (self->hearing && self->wanted) {
        end(self);
        self->wanted = true;
        set_state(self, "listen", g_variant_new_boolean(TRUE));
    }
}

/* --- how it looks --------------------------------------------------------------------------- */

static void show_look(CaptionsWindow *self)
{
    look_apply(&self->look, self->style);
    update_actions(self);
}

static void set_size(CaptionsWindow *self, double size)
{
    self->look.size = CLAMP((int)(size + 0.5), LOOK_SIZE_MIN, LOOK_SIZE_MAX);
    look_save(&self->look);
    show_look(self);
}

static void larger(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                   gpointer userdata)
{
    set_size(userdata, ((CaptionsWindow *)userdata)->look.size * SIZE_STEP);
}

static void smaller(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                    gpointer userdata)
{
    set_size(userdata, ((CaptionsWindow *)userdata)->look.size / SIZE_STEP);
}

static void usual_size(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                       gpointer userdata)
{
    set_size(userdata, LOOK_SIZE_USUAL);
}

static void on_contrast(GSimpleAction *action, GVariant *value, gpointer userdata)
{
    CaptionsWindow *self = userdata;

    g_simple_action_set_state(action, value);
    self->look.contrast = look_contrast(g_variant_get_string(value, NULL));
    look_save(&self->look);
    show_look(self);
}

static void next_contrast(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                          gpointer userdata)
{
    CaptionsWindow *self = userdata;
    size_t i = 0;

    while (look_contrasts[i] != self->look.contrast)
        i++;
    i = look_contrasts[i + 1] ? i + 1 : 0;
    g_action_group_change_action_state(G_ACTION_GROUP(self), "contrast",
                                       g_variant_new_string(look_contrasts[i]));
}

static void fullscreen(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                       gpointer userdata)
{
    if (gtk_window_is_fullscreen(userdata))
        gtk_window_unfullscreen(userdata);
    else
        gtk_window_fullscreen(userdata);
}

/* --- history -------------------------------------------------------------------------------- */

static void clear(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                  gpointer userdata)
{
    CaptionsWindow *self = userdata;

    history_clear(self->history);
    update_actions(self);
}

static void got_written(GObject *source, GAsyncResult *result, void *userdata)
{
    g_autoptr(CaptionsWindow) self = userdata;
    g_autoptr(GError) error = NULL;

    if (!g_file_replace_contents_finish(G_FILE(source), result, NULL, &error) &&
        !g_cancellable_is_cancelled(self->life))
        tell_error(self, error->message);
}

static void got_chosen(GtkNativeDialog *dialog, int response, CaptionsWindow *self)
{
    if (response == GTK_RESPONSE_ACCEPT) {
        g_autoptr(GFile) file = gtk_file_chooser_get_file(GTK_FILE_CHOOSER(dialog));
        char *text = history_export(self->history);
        g_autoptr(GBytes) bytes = g_bytes_new_take(text, strlen(text));

        g_file_replace_contents_bytes_async(file, bytes, NULL, FALSE, G_FILE_CREATE_PRIVATE,
                                            self->life, got_written, g_object_ref(self));
    }
    g_object_unref(dialog);
}

static void save(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                 gpointer userdata)
{
    CaptionsWindow *self = userdata;
    GtkFileChooserNative *dialog =
        gtk_file_chooser_native_new(_("Save captions"), GTK_WINDOW(self),
                                    GTK_FILE_CHOOSER_ACTION_SAVE, _("_Save"), _("_Cancel"));
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    g_autofree char *name = g_date_time_format(now, _("Captions %F %H-%M.txt"));

    gtk_file_chooser_set_current_name(GTK_FILE_CHOOSER(dialog), name);
    gtk_native_dialog_set_modal(GTK_NATIVE_DIALOG(dialog), TRUE);
    g_signal_connect_object(dialog, "response", G_CALLBACK(got_chosen), self, 0);
    gtk_native_dialog_show(GTK_NATIVE_DIALOG(dialog));
}

/* --- the window ----------------------------------------------------------------------------- */

static void captions_window_init(CaptionsWindow *self)
{
    static const GActionEntry actions[] = {
        {.name = "clear", .activate = clear},
        {.name = "contrast",
         .parameter_type = "s",
         .state = "'desktop'",
         .change_state = on_contrast},
        {.name = "fullscreen", .activate = fullscreen},
        {.name = "larger", .activate = larger},
        {.name = "listen", .state = "false", .change_state = on_listen},
        {.name = "next-contrast", .activate = next_contrast},
        {.name = "retry", .activate = retry},
        {.name = "save", .activate = save},
        {.name = "smaller", .activate = smaller},
        {.name = "source", .parameter_type = "s", .state = "'monitor'", .change_state = on_source},
        {.name = "usual-size", .activate = usual_size},
    };

    self->life = g_cancellable_new();
    self->link = link_new(&link_events, self);
    g_action_map_add_action_entries(G_ACTION_MAP(self), actions, G_N_ELEMENTS(actions), self);
    gtk_widget_init_template(GTK_WIDGET(self));
    self->history = history_new(self->captions);
    self->style = gtk_css_provider_new();
    gtk_style_context_add_provider_for_display(
        gdk_display_get_default(), GTK_STYLE_PROVIDER(self->style),
        GTK_STYLE_PROVIDER_PRIORITY_APPLICATION);
    look_load(&self->look);
    set_state(self, "contrast", g_variant_new_string(self->look.contrast));
    show_look(self);
    gtk_window_set_focus(GTK_WINDOW(self), GTK_WIDGET(self->captions));
}

static void captions_window_dispose(GObject *object)
{
    CaptionsWindow *self = CAPTIONS_WINDOW(object);

    g_cancellable_cancel(self->life);
    self->link = link_free(self->link);
    self->hearing = hearing_close(self->hearing);
    self->history = history_free(self->history);
    G_OBJECT_CLASS(captions_window_parent_class)->dispose(object);
}

static void captions_window_finalize(GObject *object)
{
    CaptionsWindow *self = CAPTIONS_WINDOW(object);

    g_clear_object(&self->life);
    g_clear_object(&self->bus);
    g_clear_object(&self->style);
    g_free(self->look.source);
    G_OBJECT_CLASS(captions_window_parent_class)->finalize(object);
}

static void captions_window_class_init(CaptionsWindowClass *class)
{
    GtkWidgetClass *widget_class = GTK_WIDGET_CLASS(class);

    G_OBJECT_CLASS(class)->dispose = captions_window_dispose;
    G_OBJECT_CLASS(class)->finalize = captions_window_finalize;
    gtk_widget_class_set_template_from_resource(widget_class, "/org/lfmd/Captions/window.ui");
    gtk_widget_class_bind_template_child(widget_class, CaptionsWindow, captions);
    gtk_widget_class_bind_template_child(widget_class, CaptionsWindow, light);
    gtk_widget_class_bind_template_child(widget_class, CaptionsWindow, notice);
    gtk_widget_class_bind_template_child(widget_class, CaptionsWindow, notice_text);
    gtk_widget_class_bind_template_child(widget_class, CaptionsWindow, state);
}

CaptionsWindow *captions_window_new(GtkApplication *application, const char *source)
{
    CaptionsWindow *self = g_object_new(CAPTIONS_TYPE_WINDOW, "application", application, NULL);

    if (source) {
        g_free(self->look.source);
        self->look.source = g_strdup(source);
    }
    set_state(self, "source", g_variant_new_string(self->look.source));
    begin(self);
    return self;
}
