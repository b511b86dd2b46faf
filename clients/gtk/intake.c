/* SPDX-License-Identifier: MIT */
#include "clients/gtk/intake.h"

#include <glib/gi18n.h>

#include "base/cleanup.h"

/* Counted: the window's owner has one reference, every transfer under way another. */
struct intake {
    GtkWindow *window; /* valid while life is not cancelled */
    GCancellable *life;
    const struct intake_events *events;
    void *userdata;
};

static void done(void *data)
{
    g_object_unref(((struct intake *)data)->life);
}

static void unrefp(struct intake **intake)
{
    g_rc_box_release_full(*intake, done);
}

static bool is_over(const struct intake *intake)
{
    return g_cancellable_is_cancelled(intake->life);
}

static void tell(struct intake *intake, GtkMessageType type, const char *sentence)
{
    if (!is_over(intake))
        intake->events->trouble(type, sentence, intake->userdata);
}

/* --- files ---------------------------------------------------------------------------------- */

void intake_open(struct intake *intake, GFile *file)
{
    g_autoptr(GError) error = NULL;
    struct picture *picture = picture_open(file, &error);

    if (picture)
        intake->events->picture(picture, intake->userdata);
    else
        tell(intake, GTK_MESSAGE_ERROR, error->message);
}

static void open_files(struct intake *intake, GSList *files)
{
    for (; files; files = files->next)
        intake_open(intake, files->data);
}

static void got_chosen(GtkNativeDialog *dialog, int response, void *userdata)
{
    _cleanup_(unrefp) struct intake *intake = userdata;

    if (response == GTK_RESPONSE_ACCEPT && !is_over(intake)) {
        g_autoptr(GListModel) files = gtk_file_chooser_get_files(GTK_FILE_CHOOSER(dialog));

        for (guint i = 0; i < g_list_model_get_n_items(files); i++) {
            g_autoptr(GFile) file = g_list_model_get_item(files, i);

            intake_open(intake, file);
        }
    }
    g_object_unref(dialog);
}

void intake_choose(struct intake *intake)
{
    GtkFileChooserNative *dialog = gtk_file_chooser_native_new(
        _("Open pictures"), intake->window, GTK_FILE_CHOOSER_ACTION_OPEN, _("_Open"), _("_Cancel"));
    GtkFileFilter *pictures = gtk_file_filter_new(), *all = gtk_file_filter_new();

    gtk_file_filter_set_name(pictures, _("Pictures"));
    gtk_file_filter_add_mime_type(pictures, "image/*");
    gtk_file_chooser_add_filter(GTK_FILE_CHOOSER(dialog), pictures);
    gtk_file_filter_set_name(all, _("All files"));
    gtk_file_filter_add_pattern(all, "*");
    gtk_file_chooser_add_filter(GTK_FILE_CHOOSER(dialog), all);
    g_object_unref(pictures);
    g_object_unref(all);
    gtk_file_chooser_set_select_multiple(GTK_FILE_CHOOSER(dialog), TRUE);
    gtk_native_dialog_set_modal(GTK_NATIVE_DIALOG(dialog), TRUE);
    g_signal_connect(dialog, "response", G_CALLBACK(got_chosen), g_rc_box_acquire(intake));
    gtk_native_dialog_show(GTK_NATIVE_DIALOG(dialog));
}

/* --- what has no file ----------------------------------------------------------------------- */

static void got_read(GObject *source G_GNUC_UNUSED, GAsyncResult *result, void *userdata)
{
    _cleanup_(unrefp) struct intake *intake = userdata;
    g_autoptr(GError) error = NULL;
    struct picture *picture = picture_read_finish(result, &error);

    if (!picture)
        tell(intake, GTK_MESSAGE_ERROR, error->message);
    else if (is_over(intake))
        picture_unref(picture);
    else
        intake->events->picture(picture, intake->userdata);
}

/* Takes stream and error, either NULL. */
static void read_picture(struct intake *intake, GInputStream *stream, const char *name,
                         GError *error)
{
    if (stream) {
        picture_read_async(stream, name, intake->life, got_read, g_rc_box_acquire(intake));
        g_object_unref(stream);
    } else {
        tell(intake, GTK_MESSAGE_ERROR, error->message);
        g_error_free(error);
    }
}

static bool holds_picture(GdkContentFormats *formats)
{
    for (guint i = 0; picture_mime_types[i]; i++) {
        if (gdk_content_formats_contain_mime_type(formats, picture_mime_types[i]))
            return true;
    }
    return false;
}

static bool holds_files(GdkContentFormats *formats)
{
    return gdk_content_formats_contain_gtype(formats, GDK_TYPE_FILE_LIST) ||
           gdk_content_formats_contain_mime_type(formats, "text/uri-list");
}

/* --- the clipboard -------------------------------------------------------------------------- */

static void got_pasted_files(GObject *source, GAsyncResult *result, void *userdata)
{
    _cleanup_(unrefp) struct intake *intake = userdata;
    g_autoptr(GError) error = NULL;
    const GValue *value = gdk_clipboard_read_value_finish(GDK_CLIPBOARD(source), result, &error);

    if (!value)
        tell(intake, GTK_MESSAGE_ERROR, error->message);
    else if (!is_over(intake))
        open_files(intake, g_value_get_boxed(value));
}

static void got_pasted_stream(GObject *source, GAsyncResult *result, void *userdata)
{
    _cleanup_(unrefp) struct intake *intake = userdata;
    GError *error = NULL;
    GInputStream *stream = gdk_clipboard_read_finish(GDK_CLIPBOARD(source), result, NULL, &error);

    read_picture(intake, stream, _("Pasted picture"), error);
}

void intake_paste(struct intake *intake)
{
    GdkClipboard *clipboard = gtk_widget_get_clipboard(GTK_WIDGET(intake->window));
    GdkContentFormats *formats = gdk_clipboard_get_formats(clipboard);

    if (holds_files(formats))
        gdk_clipboard_read_value_async(clipboard, GDK_TYPE_FILE_LIST, G_PRIORITY_DEFAULT,
                                       intake->life, got_pasted_files, g_rc_box_acquire(intake));
    else if (holds_picture(formats))
        gdk_clipboard_read_async(clipboard, (const char **)picture_mime_types, G_PRIORITY_DEFAULT,
                                 intake->life, got_pasted_stream, g_rc_box_acquire(intake));
    else
        tell(intake, GTK_MESSAGE_INFO, _("The clipboard holds no picture."));
}

/* Ctrl+V is for text where text is meant. */
static gboolean on_paste_keys(GtkWidget *widget, GVariant *arguments G_GNUC_UNUSED, void *userdata)
{
    GdkContentFormats *formats = gdk_clipboard_get_formats(gtk_widget_get_clipboard(widget));
    const bool text = gdk_content_formats_contain_mime_type(formats, "text/plain;charset=utf-8") ||
                      gdk_content_formats_contain_gtype(formats, G_TYPE_STRING);

    if (is_over(userdata) || (!holds_files(formats) && (text || !holds_picture(formats))))
        return GDK_EVENT_PROPAGATE;
    intake_paste(userdata);
    return GDK_EVENT_STOP;
}

static void unref(void *intake)
{
    unrefp((struct intake **)&intake);
}

static void take_paste_keys(struct intake *intake)
{
    GtkEventController *keys = gtk_shortcut_controller_new();

    gtk_event_controller_set_propagation_phase(keys, GTK_PHASE_CAPTURE);
    gtk_shortcut_controller_add_shortcut(
        GTK_SHORTCUT_CONTROLLER(keys),
        gtk_shortcut_new(gtk_keyval_trigger_new(GDK_KEY_v, GDK_CONTROL_MASK),
                         gtk_callback_action_new(on_paste_keys, g_rc_box_acquire(intake), unref)));
    gtk_widget_add_controller(GTK_WIDGET(intake->window), keys);
}

/* --- drops ---------------------------------------------------------------------------------- */

/* What a drop carries to its end. */
struct dropping {
    struct intake *intake;
    GdkDrop *drop;
};

static struct dropping *dropping_new(struct intake *intake, GdkDrop *drop)
{
    struct dropping *dropping = g_new(struct dropping, 1);

    *dropping = (struct dropping){g_rc_box_acquire(intake), g_object_ref(drop)};
    return dropping;
}

static void dropping_free(struct dropping *dropping, bool taken)
{
    gdk_drop_finish(dropping->drop, taken ? GDK_ACTION_COPY : 0);
    g_object_unref(dropping->drop);
    unref(dropping->intake);
    g_free(dropping);
}

static void got_dropped_files(GObject *source, GAsyncResult *result, void *userdata)
{
    struct dropping *dropping = userdata;
    const GValue *value = gdk_drop_read_value_finish(GDK_DROP(source), result, NULL);

    if (value && !is_over(dropping->intake))
        open_files(dropping->intake, g_value_get_boxed(value));
    dropping_free(dropping, value);
}

static void got_dropped_stream(GObject *source, GAsyncResult *result, void *userdata)
{
    struct dropping *dropping = userdata;
    GError *error = NULL;
    GInputStream *stream = gdk_drop_read_finish(GDK_DROP(source), result, NULL, &error);

    read_picture(dropping->intake, stream, _("Dropped picture"), error);
    dropping_free(dropping, stream);
}

static gboolean on_drop(GtkDropTargetAsync *target G_GNUC_UNUSED, GdkDrop *drop,
                        double x G_GNUC_UNUSED, double y G_GNUC_UNUSED, struct intake *intake)
{
    if (is_over(intake))
        return FALSE;
    if (holds_files(gdk_drop_get_formats(drop)))
        gdk_drop_read_value_async(drop, GDK_TYPE_FILE_LIST, G_PRIORITY_DEFAULT, intake->life,
                                  got_dropped_files, dropping_new(intake, drop));
    else
        gdk_drop_read_async(drop, (const char **)picture_mime_types, G_PRIORITY_DEFAULT,
                            intake->life, got_dropped_stream, dropping_new(intake, drop));
    return TRUE;
}

static void unref_closure(void *intake, GClosure *closure G_GNUC_UNUSED)
{
    unref(intake);
}

static void take_drops(struct intake *intake)
{
    GdkContentFormatsBuilder *builder = gdk_content_formats_builder_new();
    GtkDropTargetAsync *target;

    gdk_content_formats_builder_add_gtype(builder, GDK_TYPE_FILE_LIST);
    for (guint i = 0; picture_mime_types[i]; i++)
        gdk_content_formats_builder_add_mime_type(builder, picture_mime_types[i]);
    target = gtk_drop_target_async_new(gdk_content_formats_union_deserialize_mime_types(
                                           gdk_content_formats_builder_free_to_formats(builder)),
                                       GDK_ACTION_COPY);
    /* Before the entry takes the name of a file as text. */
    gtk_event_controller_set_propagation_phase(GTK_EVENT_CONTROLLER(target), GTK_PHASE_CAPTURE);
    g_signal_connect_data(target, "drop", G_CALLBACK(on_drop), g_rc_box_acquire(intake),
                          unref_closure, 0);
    gtk_widget_add_controller(GTK_WIDGET(intake->window), GTK_EVENT_CONTROLLER(target));
}

/* --- life ----------------------------------------------------------------------------------- */

struct intake *intake_new(GtkWindow *window, const struct intake_events *events, void *userdata)
{
    struct intake *intake = g_rc_box_new0(struct intake);

    intake->window = window;
    intake->life = g_cancellable_new();
    intake->events = events;
    intake->userdata = userdata;
    take_drops(intake);
    take_paste_keys(intake);
    return intake;
}

struct intake *intake_free(struct intake *intake)
{
    if (intake) {
        g_cancellable_cancel(intake->life);
        unrefp(&intake);
    }
    return NULL;
}
