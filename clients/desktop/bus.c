/* SPDX-License-Identifier: MIT */
#include "clients/desktop/bus.h"

struct request {
    char *name, *path, *interface, *method;
    GVariant *arguments;
    GVariantType *reply;
    GCancellable *cancellable;
    bus_reply done;
    void *userdata;
};

static void request_end(struct request *request, GVariant *reply, const GError *error)
{
    request->done(reply, error, request->userdata);
    g_free(request->name);
    g_free(request->path);
    g_free(request->interface);
    g_free(request->method);
    g_clear_pointer(&request->arguments, g_variant_unref);
    g_variant_type_free(request->reply);
    g_clear_object(&request->cancellable);
    g_free(request);
}

static void on_reply(GObject *source, GAsyncResult *result, void *userdata)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);

    request_end(userdata, reply, error);
}

static void on_bus(GObject *source, GAsyncResult *result, void *userdata)
{
    struct request *request = userdata;
    g_autoptr(GError) error = NULL;
    g_autoptr(GDBusConnection) bus = g_bus_get_finish(result, &error);

    (void)source;
    if (!bus) {
        request_end(request, NULL, error);
        return;
    }
    g_dbus_connection_set_exit_on_close(bus, FALSE);
    g_dbus_connection_call(bus, request->name, request->path, request->interface, request->method,
                           request->arguments, request->reply, G_DBUS_CALL_FLAGS_NONE,
                           BUS_TIMEOUT_MSEC, request->cancellable, on_reply, request);
}

void bus_method(const struct bus_method *method, GCancellable *cancellable, bus_reply done,
                void *userdata)
{
    struct request *request = g_new0(struct request, 1);

    request->name = g_strdup(method->name);
    request->path = g_strdup(method->path);
    request->interface = g_strdup(method->interface);
    request->method = g_strdup(method->method);
    request->arguments = method->arguments ? g_variant_ref_sink(method->arguments) : NULL;
    request->reply = g_variant_type_new(method->reply);
    request->cancellable = cancellable ? g_object_ref(cancellable) : NULL;
    request->done = done;
    request->userdata = userdata;
    g_bus_get(G_BUS_TYPE_SESSION, cancellable, on_bus, request);
}
