/* SPDX-License-Identifier: MIT */
#include "clients/gtk/assistant.h"

#include <gio/gunixfdlist.h>
#include <glib/gi18n.h>

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
