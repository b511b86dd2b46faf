/* SPDX-License-Identifier: MIT */
#include "clients/describe/screen.h"

#include <glib/gi18n.h>

#include "clients/describe/x11.h"

#define PORTAL_NAME    "org.freedesktop.portal.Desktop"
#define PORTAL_PATH    "/org/freedesktop/portal/desktop"
#define PORTAL_SHOT    "org.freedesktop.portal.Screenshot"
#define PORTAL_REQUEST "org.freedesktop.portal.Request"

struct shooting {
    GDBusConnection *bus;
    bool has_focus;
    struct focus focus; /* its name is a copy */
    guint subscription; /* of the portal's answer */
    struct screen_shot shot;
};

static void shooting_free(void *data)
{
    struct shooting *shooting = data;

    if (shooting->subscription)
        g_dbus_connection_signal_unsubscribe(shooting->bus, shooting->subscription);
    if (shooting->shot.picture)
        picture_unref(shooting->shot.picture);
    focus_done(&shooting->focus);
    g_object_unref(shooting->bus);
    g_free(shooting);
}

/* --- a part of it --------------------------------------------------------------------------- */

/* The area on the screen, cut to it; false: nobody knows where it is. */
static bool find_area(const struct shooting *shooting, const GdkPixbuf *screen, GdkRectangle *ret)
{
    const GdkRectangle all = {0, 0, gdk_pixbuf_get_width(screen), gdk_pixbuf_get_height(screen)};
    GdkRectangle area = shooting->focus.area;
    int x, y;

    if (!shooting->has_focus)
        return false;
    if (shooting->focus.in_window) {
        if (!x11_origin(&x, &y))
            return false;
        area.x += x;
        area.y += y;
    }
    return gdk_rectangle_intersect(&area, &all, ret);
}

static void got_kept(GObject *source G_GNUC_UNUSED, GAsyncResult *result, void *userdata)
{
    g_autoptr(GTask) task = userdata;
    struct shooting *shooting = g_task_get_task_data(task);
    GError *error = NULL;

    shooting->shot.picture = picture_read_finish(result, &error);
    if (shooting->shot.picture)
        g_task_return_boolean(task, TRUE);
    else
        g_task_return_error(task, error);
}

/* The pixels as a file in memory. Takes task and screen. */
static void keep(GTask *task, GdkPixbuf *screen)
{
    struct shooting *shooting = g_task_get_task_data(task);
    g_autoptr(GdkPixbuf) part = NULL;
    g_autoptr(GInputStream) stream = NULL;
    GdkRectangle area;
    GError *error = NULL;
    char *bytes;
    gsize size;

    shooting->shot.whole = shooting->has_focus && !find_area(shooting, screen, &area);
    part = shooting->has_focus && !shooting->shot.whole
               ? gdk_pixbuf_new_subpixbuf(screen, area.x, area.y, area.width, area.height)
               : g_object_ref(screen);
    g_object_unref(screen);
    if (!gdk_pixbuf_save_to_buffer(part, &bytes, &size, "png", &error, "compression", "1", NULL)) {
        g_task_return_error(task, error);
        g_object_unref(task);
        return;
    }
    stream = g_memory_input_stream_new_from_data(bytes, (gssize)size, g_free);
    picture_read_async(stream,
                       shooting->has_focus && !shooting->shot.whole && shooting->focus.name
                           ? shooting->focus.name
                           : _("Picture of the screen"),
                       g_task_get_cancellable(task), got_kept, task);
}

/* --- the portal ----------------------------------------------------------------------------- */

/* What the portal has written; it is for us alone, and goes. */
static GdkPixbuf *read_shot(const char *uri, GError **error)
{
    g_autoptr(GFile) file = g_file_new_for_uri(uri);
    g_autofree char *path = g_file_get_path(file);
    GdkPixbuf *screen;

    if (!path) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    _("The desktop's picture of the screen is at “%s”, not in a file."), uri);
        return NULL;
    }
    screen = gdk_pixbuf_new_from_file(path, error);
    g_file_delete(file, NULL, NULL);
    return screen;
}

static void got_response(GDBusConnection *bus G_GNUC_UNUSED, const char *sender G_GNUC_UNUSED,
                         const char *path G_GNUC_UNUSED, const char *interface G_GNUC_UNUSED,
                         const char *signal G_GNUC_UNUSED, GVariant *parameters, void *userdata)
{
    GTask *task = userdata;
    struct shooting *shooting = g_task_get_task_data(task);
    g_autoptr(GVariant) results = NULL;
    GdkPixbuf *screen = NULL;
    GError *error = NULL;
    const char *uri = NULL;
    guint32 response;

    g_dbus_connection_signal_unsubscribe(shooting->bus, shooting->subscription);
    shooting->subscription = 0;
    g_variant_get(parameters, "(u@a{sv})", &response, &results);
    if (response == 0 && g_variant_lookup(results, "uri", "&s", &uri))
        screen = read_shot(uri, &error);
    if (screen) {
        keep(task, screen);
        return;
    }
    if (!error)
        g_set_error(&error, G_IO_ERROR, response == 1 ? G_IO_ERROR_CANCELLED : G_IO_ERROR_FAILED,
                    response == 1 ? _("The screen was not shown: you said no.")
                                  : _("The desktop could not take a picture of the screen."));
    g_task_return_error(task, error);
    g_object_unref(task);
}

/* Without a portal, what X11 gives. Takes the task. */
static void shoot_x11(GTask *task, const GError *reason)
{
    GdkPixbuf *screen = x11_shoot();

    if (screen) {
        keep(task, screen);
        return;
    }
    g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                            _("This desktop lets no program see the screen: %s"), reason->message);
    g_object_unref(task);
}

static void got_request(GObject *source, GAsyncResult *result, void *userdata)
{
    g_autoptr(GTask) task = userdata;
    struct shooting *shooting = g_task_get_task_data(task);
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);

    if (reply)
        return; /* the answer is on its way */
    if (shooting->subscription)
        g_dbus_connection_signal_unsubscribe(shooting->bus, shooting->subscription);
    shooting->subscription = 0;
    g_object_unref(task); /* that of the answer */
    g_dbus_error_strip_remote_error(error);
    shoot_x11(g_steal_pointer(&task), error);
}

/* ":1.42" as "1_42", as the portal makes paths of it. */
static char *request_path(GDBusConnection *bus, const char *token)
{
    g_autofree char *sender = g_strdup(g_dbus_connection_get_unique_name(bus) + 1);

    return g_strdup_printf(PORTAL_PATH "/request/%s/%s", g_strdelimit(sender, ".", '_'), token);
}

void screen_shoot_async(GDBusConnection *bus, const struct focus *focus, GCancellable *cancellable,
                        GAsyncReadyCallback done, void *userdata)
{
    GTask *task = g_task_new(NULL, cancellable, done, userdata);
    struct shooting *shooting = g_new0(struct shooting, 1);
    g_autofree char *token = g_strdup_printf("lfmd%u", g_random_int());
    g_autofree char *path = request_path(bus, token);
    GVariantDict options;

    shooting->bus = g_object_ref(bus);
    shooting->has_focus = focus;
    if (focus) {
        shooting->focus = *focus;
        shooting->focus.name = g_strdup(focus->name);
    }
    g_task_set_task_data(task, shooting, shooting_free);
    /* Before the call: the answer may be there before the reply. */
    shooting->subscription = g_dbus_connection_signal_subscribe(
        bus, PORTAL_NAME, PORTAL_REQUEST, "Response", path, NULL, G_DBUS_SIGNAL_FLAGS_NONE,
        got_response, task, NULL);
    g_variant_dict_init(&options, NULL);
    g_variant_dict_insert(&options, "handle_token", "s", token);
    g_variant_dict_insert(&options, "interactive", "b", FALSE);
    g_dbus_connection_call(bus, PORTAL_NAME, PORTAL_PATH, PORTAL_SHOT, "Screenshot",
                           g_variant_new("(s@a{sv})", "", g_variant_dict_end(&options)),
                           G_VARIANT_TYPE("(o)"), G_DBUS_CALL_FLAGS_NONE, -1, NULL, got_request,
                           g_object_ref(task));
}

bool screen_shoot_finish(GAsyncResult *result, struct screen_shot *ret, GError **error)
{
    struct shooting *shooting = g_task_get_task_data(G_TASK(result));

    if (!g_task_propagate_boolean(G_TASK(result), error))
        return false;
    *ret = shooting->shot;
    shooting->shot.picture = NULL;
    return true;
}
