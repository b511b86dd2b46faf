/* SPDX-License-Identifier: MIT */
#include "clients/assistant/cost.h"

#include <glib/gi18n.h>
#include <string.h>

#include "clients/gtk/assistant.h"
#include "clients/gtk/events.h"

static void add(GString *line, const char *part)
{
    g_string_append_printf(line, "%s%s", line->len > 0 ? " · " : "", part);
}

static void add_memory(GString *line, GDBusProxy *model)
{
    g_autoptr(GVariant) loaded = g_dbus_proxy_get_cached_property(model, "Loaded");
    g_autoptr(GVariant) memory = g_dbus_proxy_get_cached_property(model, "MemoryBytes");
    g_autofree char *size = NULL;

    if (!loaded || !memory || !g_variant_get_boolean(loaded)) {
        add(line, _("not in memory"));
        return;
    }
    size = g_format_size_full(g_variant_get_uint64(memory), G_FORMAT_SIZE_IEC_UNITS);
    add(line, size);
}

static void show(struct cost *cost)
{
    g_autoptr(GString) line = g_string_new(NULL);
    g_autoptr(GVariant) id =
        cost->model ? g_dbus_proxy_get_cached_property(cost->model, "Id") : NULL;

    if (id) {
        add(line, g_variant_get_string(id, NULL));
        add_memory(line, cost->model);
    }
    if (cost->tokens_per_sec > 0) {
        g_autofree char *speed = g_strdup_printf(_("%.0f tokens/s"), cost->tokens_per_sec);

        add(line, speed);
    }
    if (cost->first_sound_ms > 0) {
        g_autofree char *delay = g_strdup_printf(_("spoke after %u ms"), cost->first_sound_ms);

        add(line, delay);
    }
    if (cost->limit > 0) {
        g_autofree char *context =
            g_strdup_printf(_("%u of %u tokens used"), cost->used, cost->limit);

        add(line, context);
    }
    if (line->len == 0)
        g_string_assign(line, _("No model"));
    gtk_label_set_text(cost->line, line->str);
    gtk_accessible_update_property(GTK_ACCESSIBLE(cost->button), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                   line->str, -1);
    /* Focus goes to the button within. */
    gtk_accessible_update_property(GTK_ACCESSIBLE(gtk_widget_get_first_child(cost->button)),
                                   GTK_ACCESSIBLE_PROPERTY_LABEL, line->str, -1);
}

void cost_init(struct cost *cost, GtkLabel *line, GtkWidget *button)
{
    *cost = (struct cost){.line = line, .button = button};
    show(cost);
}

static void forget_model(struct cost *cost)
{
    if (cost->asking)
        g_cancellable_cancel(cost->asking);
    g_clear_object(&cost->asking);
    if (cost->model)
        g_signal_handlers_disconnect_by_data(cost->model, cost);
    g_clear_object(&cost->model);
    g_clear_pointer(&cost->path, g_free);
}

void cost_done(struct cost *cost)
{
    forget_model(cost);
}

static void got_model(GObject *source G_GNUC_UNUSED, GAsyncResult *result, void *userdata)
{
    struct cost *cost = userdata;
    g_autoptr(GError) error = NULL;
    GDBusProxy *model = g_dbus_proxy_new_finish(result, &error);

    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        return; /* and perhaps gone */
    cost->model = model;
    if (model)
        g_signal_connect_swapped(model, "g-properties-changed", G_CALLBACK(show), cost);
    show(cost);
}

void cost_watch(struct cost *cost, GDBusConnection *bus, const char *path)
{
    if (g_strcmp0(path, cost->path) == 0)
        return;
    forget_model(cost);
    cost->tokens_per_sec = 0;
    cost->first_sound_ms = 0;
    if (path) {
        cost->path = g_strdup(path);
        cost->asking = g_cancellable_new();
        g_dbus_proxy_new(bus, G_DBUS_PROXY_FLAGS_NONE, NULL, ASSISTANT_NAME, path, ASSISTANT_MODEL,
                         cost->asking, got_model, cost);
    }
    show(cost);
}

void cost_context(struct cost *cost, guint32 used, guint32 limit)
{
    cost->used = used;
    cost->limit = limit;
    show(cost);
}

void cost_usage(struct cost *cost, struct json_object *usage)
{
    const gint64 n = event_number(usage, "completion_tokens"),
                 usec = event_number(usage, "completion_usec");

    if (n > 0 && usec > 0)
        cost->tokens_per_sec = (double)n * G_USEC_PER_SEC / (double)usec;
    show(cost);
}

void cost_first_sound(struct cost *cost, unsigned after_ms)
{
    cost->first_sound_ms = after_ms;
    show(cost);
}
