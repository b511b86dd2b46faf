/* SPDX-License-Identifier: MIT */
#include "clients/gtk/assistant.h"

#include <gio/gunixfdlist.h>
#include <glib/gi18n.h>
#include <string.h>

/* --- models --------------------------------------------------------------------------------- */

static void installed_model_free(void *data)
{
    struct installed_model *model = data;

    g_free(model->id);
    g_free(model->title);
    g_free(model->path);
    g_free(model);
}

static void add_if_installed(GPtrArray *models, const char *path, GVariant *properties,
                             const char *default_path)
{
    gboolean installed = FALSE;
    const char *id = "", *title = "";
    struct installed_model *model;

    g_variant_lookup(properties, "Installed", "b", &installed);
    g_variant_lookup(properties, "Id", "&s", &id);
    g_variant_lookup(properties, "Title", "&s", &title);
    if (!installed)
        return;
    model = g_new0(struct installed_model, 1);
    g_variant_lookup(properties, "Vision", "b", &model->sees);
    g_variant_lookup(properties, "Hears", "b", &model->hears);
    g_variant_lookup(properties, "Speaks", "b", &model->speaks);
    model->id = g_strdup(id);
    model->title = g_strdup(title[0] ? title : id);
    model->path = g_strdup(path);
    g_ptr_array_insert(models, strcmp(path, default_path) == 0 ? 0 : -1, model);
}

static void got_objects(GObject *source, GAsyncResult *result, void *userdata)
{
    g_autoptr(GTask) task = userdata;
    const char *default_path = g_task_get_task_data(task), *path;
    GPtrArray *models;
    GVariantIter *objects;
    GVariant *interfaces;
    GError *error = NULL;
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);

    if (!reply) {
        g_task_return_error(task, error);
        return;
    }
    models = g_ptr_array_new_with_free_func(installed_model_free);
    g_variant_get(reply, "(a{oa{sa{sv}}})", &objects);
    while (g_variant_iter_loop(objects, "{&o@a{sa{sv}}}", &path, &interfaces)) {
        g_autoptr(GVariant) properties =
            g_variant_lookup_value(interfaces, ASSISTANT_MODEL, G_VARIANT_TYPE_VARDICT);

        if (properties)
            add_if_installed(models, path, properties, default_path);
    }
    g_variant_iter_free(objects);
    g_task_return_pointer(task, models, (GDestroyNotify)g_ptr_array_unref);
}

static void got_default(GObject *source, GAsyncResult *result, void *userdata)
{
    g_autoptr(GTask) task = userdata;
    GCancellable *cancellable = g_task_get_cancellable(task);
    GDBusConnection *bus = G_DBUS_CONNECTION(source);
    GError *error = NULL;
    g_autoptr(GVariant) reply = g_dbus_connection_call_finish(bus, result, &error);
    g_autoptr(GVariant) value = NULL;

    if (!reply) {
        g_task_return_error(task, error);
        return;
    }
    g_variant_get(reply, "(v)", &value);
    g_task_set_task_data(task, g_variant_dup_string(value, NULL), g_free);
    g_dbus_connection_call(bus, ASSISTANT_NAME, ASSISTANT_PATH,
                           "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", NULL,
                           G_VARIANT_TYPE("(a{oa{sa{sv}}})"), G_DBUS_CALL_FLAGS_NONE,
                           ASSISTANT_CALL_MSEC, cancellable, got_objects, g_steal_pointer(&task));
}

void assistant_models_async(GDBusConnection *bus, GCancellable *cancellable,
                            GAsyncReadyCallback done, void *userdata)
{
    GTask *task = g_task_new(bus, cancellable, done, userdata);

    g_dbus_connection_call(bus, ASSISTANT_NAME, ASSISTANT_PATH, "org.freedesktop.DBus.Properties",
                           "Get", g_variant_new("(ss)", ASSISTANT_MANAGER, "DefaultModel"),
                           G_VARIANT_TYPE("(v)"), G_DBUS_CALL_FLAGS_NONE, ASSISTANT_CALL_MSEC,
                           cancellable, got_default, task);
}

GPtrArray *assistant_models_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}

void assistant_rescan(GDBusConnection *bus)
{
    g_dbus_connection_call(bus, ASSISTANT_NAME, ASSISTANT_PATH, ASSISTANT_MANAGER, "Rescan", NULL,
                           NULL, G_DBUS_CALL_FLAGS_NONE, ASSISTANT_CALL_MSEC, NULL, NULL, NULL);
}

/* --- the bus -------------------------------------------------------------------------------- */

GDBusConnection *assistant_bus_finish(GAsyncResult *result, GError **error)
{
    GDBusConnection *bus = g_bus_get_finish(result, error);

    if (!bus)
        g_prefix_error(error, "%s", _("There is no session bus to reach the assistant by: "));
    return bus;
}

int assistant_fd_finish(GDBusConnection *bus, GAsyncResult *result, guint32 *number, GError **error)
{
    g_autoptr(GUnixFDList) fds = NULL;
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_with_unix_fd_list_finish(bus, &fds, result, error);
    gint32 index;

    if (!reply)
        return -1;
    g_variant_get_child(reply, 0, "h", &index);
    if (number)
        g_variant_get_child(reply, 1, "u", number);
    return g_unix_fd_list_get(fds, index, error);
}

/* --- errors --------------------------------------------------------------------------------- */

char *assistant_sentence(const GError *error)
{
    g_autofree char *name = g_dbus_error_get_remote_error(error);
    g_autoptr(GError) copy = NULL;

    if (g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_SERVICE_UNKNOWN) ||
        g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_NAME_HAS_NO_OWNER))
        return g_strdup(
            _("The assistant lfmd is not installed here: nothing on the session bus starts it."));
    if (name && g_str_has_prefix(name, "org.freedesktop.DBus.Error.Spawn"))
        return g_strdup(
            _("The assistant lfmd could not be started. Its messages are in the journal."));
    if (g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_NO_REPLY) ||
        g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_DISCONNECTED))
        return g_strdup(_("The assistant ended before it answered."));
    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT) ||
        g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_TIMEOUT))
        return g_strdup(_("The assistant does not answer."));
    copy = g_error_copy(error);
    g_dbus_error_strip_remote_error(copy);
    return g_strdup(copy->message);
}
