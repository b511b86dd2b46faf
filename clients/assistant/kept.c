/* SPDX-License-Identifier: MIT */
#include "clients/assistant/kept.h"

#include <adwaita.h>
#include <glib/gi18n.h>
#include <string.h>

#include "clients/gtk/assistant.h"

#define ID    "lfmd-id"
#define TITLE "lfmd-title"

static const char *text_of(GObject *row, const char *key)
{
    return g_object_get_data(row, key);
}

/* --- forgetting ----------------------------------------------------------------------------- */

/* What a call carries to its end: kept is gone when life is cancelled. */
struct forgetting {
    struct kept *kept;
    GCancellable *life;
    char *id;
};

static void forgetting_free(struct forgetting *forgetting)
{
    g_object_unref(forgetting->life);
    g_free(forgetting->id);
    g_free(forgetting);
}

static void forgot(GObject *source, GAsyncResult *result, void *userdata)
{
    struct forgetting *forgetting = userdata;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);

    if (!g_cancellable_is_cancelled(forgetting->life)) {
        if (!reply) {
            g_autofree char *sentence = assistant_sentence(error);

            forgetting->kept->events->trouble(sentence, forgetting->kept->userdata);
        }
        kept_refresh(forgetting->kept);
    }
    forgetting_free(forgetting);
}

static void on_decided(AdwMessageDialog *dialog G_GNUC_UNUSED, const char *response,
                       struct forgetting *forgetting)
{
    struct kept *kept = forgetting->kept;

    if (strcmp(response, "forget") != 0 || g_cancellable_is_cancelled(forgetting->life)) {
        forgetting_free(forgetting);
        return;
    }
    kept->events->leave(forgetting->id, kept->userdata);
    g_dbus_connection_call(kept->bus, ASSISTANT_NAME, ASSISTANT_PATH, ASSISTANT_MANAGER,
                           "ForgetSession", g_variant_new("(s)", forgetting->id), NULL,
                           G_DBUS_CALL_FLAGS_NONE, ASSISTANT_CALL_MSEC, NULL, forgot, forgetting);
}

static void on_forget(GtkButton *button, struct kept *kept)
{
    GtkWidget *row = gtk_widget_get_ancestor(GTK_WIDGET(button), GTK_TYPE_LIST_BOX_ROW);
    GtkWidget *dialog = adw_message_dialog_new(GTK_WINDOW(gtk_widget_get_root(row)),
                                               _("Forget this conversation?"), NULL);
    struct forgetting *forgetting = g_new(struct forgetting, 1);

    *forgetting =
        (struct forgetting){kept, g_object_ref(kept->life), g_strdup(text_of(G_OBJECT(row), ID))};
    adw_message_dialog_format_body(ADW_MESSAGE_DIALOG(dialog),
                                   _("“%s” will be removed from this computer."),
                                   text_of(G_OBJECT(row), TITLE));
    adw_message_dialog_add_responses(ADW_MESSAGE_DIALOG(dialog), "cancel", _("_Cancel"), "forget",
                                     _("_Forget"), NULL);
    adw_message_dialog_set_response_appearance(ADW_MESSAGE_DIALOG(dialog), "forget",
                                               ADW_RESPONSE_DESTRUCTIVE);
    adw_message_dialog_set_close_response(ADW_MESSAGE_DIALOG(dialog), "cancel");
    g_signal_connect(dialog, "response", G_CALLBACK(on_decided), forgetting);
    gtk_window_present(GTK_WINDOW(dialog));
}

/* --- the list ------------------------------------------------------------------------------- */

/* "Today 14:05 · 3 turns" */
static char *describe(gint64 used_usec, guint32 turns)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    g_autoptr(GDateTime) used = g_date_time_new_from_unix_local(used_usec / G_USEC_PER_SEC);
    g_autofree char *when = NULL, *much = NULL;

    if (!used)
        return g_strdup("");
    if (g_date_time_get_year(now) == g_date_time_get_year(used) &&
        g_date_time_get_day_of_year(now) == g_date_time_get_day_of_year(used))
        when = g_date_time_format(used, _("Today %H:%M"));
    else
        when = g_date_time_format(used, "%x");
    much = g_strdup_printf(g_dngettext(NULL, "%u turn", "%u turns", turns), turns);
    return g_strdup_printf("%s · %s", when, much);
}

static GtkWidget *row_new(struct kept *kept, GVariant *session)
{
    GtkWidget *row = adw_action_row_new(),
              *button = gtk_button_new_from_icon_name("user-trash-symbolic");
    const char *id = "", *title = "";
    guint64 used = 0;
    guint32 turns = 0;
    g_autofree char *subtitle = NULL, *label = NULL;

    g_variant_lookup(session, "id", "&s", &id);
    g_variant_lookup(session, "title", "&s", &title);
    g_variant_lookup(session, "turns", "u", &turns);
    g_variant_lookup(session, "used_timestamp", "t", &used);
    if (!title[0])
        title = _("Conversation");
    subtitle = describe((gint64)used, turns);
    label = g_strdup_printf(_("Forget “%s”"), title);
    g_object_set_data_full(G_OBJECT(row), ID, g_strdup(id), g_free);
    g_object_set_data_full(G_OBJECT(row), TITLE, g_strdup(title), g_free);
    adw_preferences_row_set_use_markup(ADW_PREFERENCES_ROW(row), FALSE);
    adw_preferences_row_set_title(ADW_PREFERENCES_ROW(row), title);
    adw_action_row_set_title_lines(ADW_ACTION_ROW(row), 1);
    adw_action_row_set_subtitle(ADW_ACTION_ROW(row), subtitle);
    gtk_widget_set_valign(button, GTK_ALIGN_CENTER);
    gtk_widget_add_css_class(button, "flat");
    gtk_widget_set_tooltip_text(button, _("Forget"));
    gtk_accessible_update_property(GTK_ACCESSIBLE(button), GTK_ACCESSIBLE_PROPERTY_LABEL, label,
                                   -1);
    g_signal_connect(button, "clicked", G_CALLBACK(on_forget), kept);
    adw_action_row_add_suffix(ADW_ACTION_ROW(row), button);
    gtk_list_box_row_set_activatable(GTK_LIST_BOX_ROW(row), TRUE);
    return row;
}

static GtkListBoxRow *find_row(struct kept *kept, const char *id)
{
    GtkListBoxRow *row;

    for (int i = 0; (row = gtk_list_box_get_row_at_index(kept->list, i)); i++) {
        if (g_strcmp0(text_of(G_OBJECT(row), ID), id) == 0)
            return row;
    }
    return NULL;
}

bool kept_has(struct kept *kept, const char *id)
{
    return id && find_row(kept, id);
}

static void select_open(struct kept *kept)
{
    gtk_list_box_select_row(kept->list, kept->open ? find_row(kept, kept->open) : NULL);
}

static gint64 used_of(GVariant *session)
{
    guint64 used = 0;

    g_variant_lookup(session, "used_timestamp", "t", &used);
    return (gint64)used;
}

static int newest_first(const void *a, const void *b)
{
    const gint64 difference = used_of(*(GVariant *const *)b) - used_of(*(GVariant *const *)a);

    return (difference > 0) - (difference < 0);
}

static void show(struct kept *kept, GPtrArray *sessions)
{
    GtkWidget *focus = gtk_widget_get_focus_child(GTK_WIDGET(kept->list));
    GtkListBoxRow *row;
    g_autofree char *focused = focus ? g_strdup(text_of(G_OBJECT(focus), ID)) : NULL;

    while ((row = gtk_list_box_get_row_at_index(kept->list, 0)))
        gtk_list_box_remove(kept->list, GTK_WIDGET(row));
    for (guint i = 0; i < sessions->len; i++)
        gtk_list_box_append(kept->list, row_new(kept, sessions->pdata[i]));
    select_open(kept);
    if (focused && find_row(kept, focused))
        gtk_widget_grab_focus(GTK_WIDGET(find_row(kept, focused)));
}

static void got_sessions(GObject *source, GAsyncResult *result, void *userdata)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);
    g_autoptr(GPtrArray) kept_ones = NULL;
    g_autoptr(GVariantIter) sessions = NULL;
    GVariant *session;

    if (!reply) /* cancelled, or told by those who ask for more than a list */
        return;
    kept_ones = g_ptr_array_new_with_free_func((GDestroyNotify)g_variant_unref);
    g_variant_get(reply, "(aa{sv})", &sessions);
    while ((session = g_variant_iter_next_value(sessions))) {
        gboolean is_kept = FALSE;
        guint32 turns = 0; /* none: not on the disk yet */

        g_variant_lookup(session, "kept", "b", &is_kept);
        g_variant_lookup(session, "turns", "u", &turns);
        if (is_kept && turns > 0)
            g_ptr_array_add(kept_ones, session);
        else
            g_variant_unref(session);
    }
    g_ptr_array_sort(kept_ones, newest_first);
    show(userdata, kept_ones);
}

void kept_refresh(struct kept *kept)
{
    g_dbus_connection_call(kept->bus, ASSISTANT_NAME, ASSISTANT_PATH, ASSISTANT_MANAGER,
                           "ListSessions", NULL, G_VARIANT_TYPE("(aa{sv})"), G_DBUS_CALL_FLAGS_NONE,
                           ASSISTANT_CALL_MSEC, kept->life, got_sessions, kept);
}

void kept_set_open(struct kept *kept, const char *id)
{
    g_free(kept->open);
    kept->open = g_strdup(id);
    select_open(kept);
}

static void on_row(GtkListBox *list G_GNUC_UNUSED, GtkListBoxRow *row, struct kept *kept)
{
    kept->events->open(text_of(G_OBJECT(row), ID), text_of(G_OBJECT(row), TITLE), kept->userdata);
}

void kept_init(struct kept *kept, GtkListBox *list, GDBusConnection *bus,
               const struct kept_events *events, void *userdata)
{
    *kept = (struct kept){
        .list = g_object_ref(list),
        .bus = g_object_ref(bus),
        .life = g_cancellable_new(),
        .events = events,
        .userdata = userdata,
    };
    g_signal_connect(list, "row-activated", G_CALLBACK(on_row), kept);
}

void kept_done(struct kept *kept)
{
    if (!kept->life)
        return;
    g_cancellable_cancel(kept->life);
    g_signal_handlers_disconnect_by_data(kept->list, kept);
    g_clear_object(&kept->life);
    g_clear_object(&kept->bus);
    g_clear_object(&kept->list);
    g_clear_pointer(&kept->open, g_free);
}
