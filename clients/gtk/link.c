/* SPDX-License-Identifier: MIT */
#include "clients/gtk/link.h"

#include <glib/gi18n.h>
#include <string.h>

#include "base/cleanup.h"
#include "clients/gtk/assistant.h"

/* Counted: the owner has one reference, every call under way another. */
struct link {
    const struct link_events *events;
    void *userdata;
    GCancellable *life;   /* cancelled by link_free() */
    GDBusConnection *bus; /* NULL: not reached */
    guint watch;
    bool reaching, wants_models;
    char *default_path; /* of the model that is used when none is named */
};

static void done(void *data)
{
    struct link *link = data;

    g_free(link->default_path);
    g_clear_object(&link->bus);
    g_object_unref(link->life);
}

static void unrefp(struct link **link)
{
    if (*link)
        g_rc_box_release_full(*link, done);
}

static bool is_over(const struct link *link)
{
    return g_cancellable_is_cancelled(link->life);
}

static void fail(struct link *link, const GError *error)
{
    g_autofree char *sentence = NULL;

    if (is_over(link))
        return;
    sentence = assistant_sentence(error);
    link->events->failed(sentence, link->userdata);
}

static void call(struct link *link, const char *interface, const char *method,
                 GVariant *parameters, const char *reply, GAsyncReadyCallback callback)
{
    g_dbus_connection_call(link->bus, ASSISTANT_NAME, ASSISTANT_PATH, interface, method, parameters,
                           G_VARIANT_TYPE(reply), G_DBUS_CALL_FLAGS_NONE, ASSISTANT_CALL_MSEC,
                           link->life, callback, g_rc_box_acquire(link));
}

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
    _cleanup_(unrefp) struct link *link = userdata;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);
    GPtrArray *models;
    GVariantIter *objects;
    GVariant *interfaces;
    const char *path;

    if (!reply || is_over(link)) {
        fail(link, error);
        return;
    }
    models = g_ptr_array_new_with_free_func(installed_model_free);
    g_variant_get(reply, "(a{oa{sa{sv}}})", &objects);
    while (g_variant_iter_loop(objects, "{&o@a{sa{sv}}}", &path, &interfaces)) {
        g_autoptr(GVariant) properties =
            g_variant_lookup_value(interfaces, ASSISTANT_MODEL, G_VARIANT_TYPE_VARDICT);

        if (properties)
            add_if_installed(models, path, properties, link->default_path);
    }
    g_variant_iter_free(objects);
    link->events->models(models, link->userdata);
}

static void got_default(GObject *source, GAsyncResult *result, void *userdata)
{
    _cleanup_(unrefp) struct link *link = userdata;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) value = NULL;
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);

    if (!reply || is_over(link)) {
        fail(link, error);
        return;
    }
    g_variant_get(reply, "(v)", &value);
    g_free(link->default_path);
    link->default_path = g_variant_dup_string(value, NULL);
    call(link, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", NULL,
         "(a{oa{sa{sv}}})", got_objects);
}

void link_ask_models(struct link *link)
{
    if (link->bus) {
        call(link, "org.freedesktop.DBus.Properties", "Get",
             g_variant_new("(ss)", ASSISTANT_MANAGER, "DefaultModel"), "(v)", got_default);
    } else {
        link->wants_models = true;
        link_reach(link);
    }
}

void link_rescan(struct link *link)
{
    if (link->bus)
        g_dbus_connection_call(link->bus, ASSISTANT_NAME, ASSISTANT_PATH, ASSISTANT_MANAGER,
                               "Rescan", NULL, NULL, G_DBUS_CALL_FLAGS_NONE, ASSISTANT_CALL_MSEC,
                               NULL, NULL, NULL);
}

/* --- the bus -------------------------------------------------------------------------------- */

static void on_vanished(GDBusConnection *bus G_GNUC_UNUSED, const char *name G_GNUC_UNUSED,
                        gpointer userdata)
{
    struct link *link = userdata;

    link->events->vanished(link->userdata);
}

static void got_bus(GObject *source G_GNUC_UNUSED, GAsyncResult *result, void *userdata)
{
    _cleanup_(unrefp) struct link *link = userdata;
    const bool wants_models = link->wants_models;
    g_autoptr(GError) error = NULL;

    link->bus = g_bus_get_finish(result, &error);
    link->reaching = link->wants_models = false;
    if (is_over(link))
        return;
    if (!link->bus) {
        g_prefix_error(&error, "%s", _("There is no session bus to reach the assistant by: "));
        link->events->failed(error->message, link->userdata);
        return;
    }
    if (link->events->vanished)
        link->watch =
            g_bus_watch_name_on_connection(link->bus, ASSISTANT_NAME, G_BUS_NAME_WATCHER_FLAGS_NONE,
                                           NULL, on_vanished, link, NULL);
    link->events->reached(link->bus, link->userdata);
    if (wants_models)
        link_ask_models(link);
}

void link_reach(struct link *link)
{
    if (link->bus || link->reaching)
        return;
    link->reaching = true;
    g_bus_get(G_BUS_TYPE_SESSION, link->life, got_bus, g_rc_box_acquire(link));
}

struct link *link_new(const struct link_events *events, void *userdata)
{
    struct link *link = g_rc_box_new0(struct link);

    link->events = events;
    link->userdata = userdata;
    link->life = g_cancellable_new();
    return link;
}

struct link *link_free(struct link *link)
{
    if (!link)
        return NULL;
    g_cancellable_cancel(link->life);
    if (link->watch)
        g_bus_unwatch_name(link->watch);
    link->watch = 0;
    g_rc_box_release_full(link, done);
    return NULL;
}
