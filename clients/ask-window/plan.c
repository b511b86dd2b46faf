/* SPDX-License-Identifier: MIT */
#include "clients/ask-window/plan.h"

#include <gio/gunixfdlist.h>

#include "clients/gtk/assistant.h"

static void got_plan(GObject *source, GAsyncResult *result, void *userdata)
{
    g_autoptr(GTask) task = userdata;
    GError *error = NULL;
    g_autoptr(GVariant) dictionary = NULL;
    g_autoptr(GVariant) reply = g_dbus_connection_call_with_unix_fd_list_finish(
        G_DBUS_CONNECTION(source), NULL, result, &error);
    struct plan *plan;

    if (!reply) {
        g_task_return_error(task, error);
        return;
    }
    plan = g_new0(struct plan, 1);
    dictionary = g_variant_get_child_value(reply, 0);
    g_variant_lookup(dictionary, "views", "u", &plan->views);
    g_variant_lookup(dictionary, "predicted_ms", "u", &plan->predicted_ms);
    g_task_return_pointer(task, plan, g_free);
}

void plan_async(GDBusConnection *bus, int fd, const char *detail, const char *model,
                GCancellable *cancellable, GAsyncReadyCallback done, void *userdata)
{
    g_autoptr(GTask) task = g_task_new(bus, cancellable, done, userdata);
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    GVariantDict options;
    GError *error = NULL;

    if (g_unix_fd_list_append(fds, fd, &error) < 0) {
        g_task_return_error(task, error);
        return;
    }
    g_variant_dict_init(&options, NULL);
    g_variant_dict_insert(&options, "detail", "s", detail);
    if (model)
        g_variant_dict_insert(&options, "model", "s", model);
    g_dbus_connection_call_with_unix_fd_list(
        bus, ASSISTANT_NAME, ASSISTANT_PATH, ASSISTANT_MANAGER, "PlanImage",
        g_variant_new("(h@a{sv})", 0, g_variant_dict_end(&options)), G_VARIANT_TYPE("(a{sv})"),
        G_DBUS_CALL_FLAGS_NONE, ASSISTANT_CALL_MSEC, fds, cancellable, got_plan,
        g_steal_pointer(&task));
}

bool plan_finish(GAsyncResult *result, struct plan *ret, GError **error)
{
    g_autofree struct plan *plan = g_task_propagate_pointer(G_TASK(result), error);

    if (plan)
        *ret = *plan;
    return plan;
}
