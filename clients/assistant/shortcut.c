/* SPDX-License-Identifier: MIT */
#include "clients/assistant/shortcut.h"

#include <glib/gi18n.h>
#include <string.h>

#include "base/cleanup.h"

#define PORTAL_NAME      "org.freedesktop.portal.Desktop"
#define PORTAL_PATH      "/org/freedesktop/portal/desktop"
#define PORTAL_SHORTCUTS "org.freedesktop.portal.GlobalShortcuts"
#define PORTAL_REQUEST   "org.freedesktop.portal.Request"
#define PORTAL_SESSION   "org.freedesktop.portal.Session"

#define ID "talk"

typedef void got_response(struct shortcut *shortcut, GVariant *results);

/* Counted: the owner has one reference, every call under way another. */
struct shortcut {
    GDBusConnection *bus;
    const struct shortcut_events *events;
    void *userdata;
    GCancellable *life;
    char *session; /* of the portal; NULL: none */
    guint keys;    /* subscription to what happens in it */
    unsigned n_requests;

    /* the request under way */
    guint request;
    got_response *then;
};

static void done(void *data)
{
    struct shortcut *s = data;

    g_free(s->session);
    g_object_unref(s->life);
    g_object_unref(s->bus);
}

static void unrefp(struct shortcut **s)
{
    g_rc_box_release_full(*s, done);
}

static void forget_request(struct shortcut *s)
{
    if (s->request)
        g_dbus_connection_signal_unsubscribe(s->bus, s->request);
    s->request = 0;
}

static void give_up(struct shortcut *s, const char *sentence)
{
    forget_request(s);
    shortcut_unbind(s);
    s->events->bound(NULL, sentence, s->userdata);
}

/* --- requests: the answer is a signal of an object whose path is known before --------------- */

static void on_response(GDBusConnection *bus G_GNUC_UNUSED, const char *sender G_GNUC_UNUSED,
                        const char *path G_GNUC_UNUSED, const char *interface G_GNUC_UNUSED,
                        const char *signal G_GNUC_UNUSED, GVariant *arguments, void *userdata)
{
    struct shortcut *s = userdata;
    g_autoptr(GVariant) results = NULL;
    guint32 code = 2;

    if (!g_variant_is_of_type(arguments, G_VARIANT_TYPE("(ua{sv})")))
        return;
    g_variant_get(arguments, "(u@a{sv})", &code, &results);
    forget_request(s);
    if (code == 0)
        s->then(s, results);
    else
        give_up(s, code == 1 ? NULL : _("The desktop could not bind a key."));
}

static void called(GObject *source, GAsyncResult *result, void *userdata)
{
    _cleanup_(unrefp) struct shortcut *s = userdata;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);

    if (reply || g_cancellable_is_cancelled(s->life))
        return;
    g_dbus_error_strip_remote_error(error);
    give_up(s, error->message);
}

/* The token for the next request, after its answer has been subscribed to. g_free */
static char *expect(struct shortcut *s, got_response *then)
{
    g_autofree char *sender =
        g_strdelimit(g_strdup(g_dbus_connection_get_unique_name(s->bus) + 1), ".", '_');
    char *token = g_strdup_printf("lfmd%u", ++s->n_requests);
    g_autofree char *path = g_strconcat(PORTAL_PATH, "/request/", sender, "/", token, NULL);

    forget_request(s);
    s->then = then;
    s->request =
        g_dbus_connection_signal_subscribe(s->bus, PORTAL_NAME, PORTAL_REQUEST, "Response", path,
                                           NULL, G_DBUS_SIGNAL_FLAGS_NONE, on_response, s, NULL);
    return token;
}

static void call(struct shortcut *s, const char *method, GVariant *arguments)
{
    g_dbus_connection_call(s->bus, PORTAL_NAME, PORTAL_PATH, PORTAL_SHORTCUTS, method, arguments,
                           G_VARIANT_TYPE("(o)"), G_DBUS_CALL_FLAGS_NONE, -1, s->life, called,
                           g_rc_box_acquire(s));
}

/* --- the key -------------------------------------------------------------------------------- */

static void on_key(GDBusConnection *bus G_GNUC_UNUSED, const char *sender G_GNUC_UNUSED,
                   const char *path G_GNUC_UNUSED, const char *interface G_GNUC_UNUSED,
                   const char *signal, GVariant *arguments, void *userdata)
{
    struct shortcut *s = userdata;
    const char *session, *id;

    if (!g_variant_is_of_type(arguments, G_VARIANT_TYPE("(osta{sv})")))
        return;
    g_variant_get(arguments, "(&o&sta{sv})", &session, &id, NULL, NULL);
    if (g_strcmp0(session, s->session) != 0 || strcmp(id, ID) != 0)
        return;
    if (strcmp(signal, "Activated") == 0)
        s->events->pressed(s->userdata);
    else if (strcmp(signal, "Deactivated") == 0)
        s->events->released(s->userdata);
}

static void got_binding(struct shortcut *s, GVariant *results)
{
    g_autoptr(GVariantIter) shortcuts = NULL;
    const char *id, *trigger = "";
    GVariant *properties;
    bool found = false;

    g_variant_lookup(results, "shortcuts", "a(sa{sv})", &shortcuts);
    while (shortcuts && g_variant_iter_loop(shortcuts, "(&s@a{sv})", &id, &properties)) {
        if (strcmp(id, ID) != 0)
            continue;
        g_variant_lookup(properties, "trigger_description", "&s", &trigger);
        s->events->bound(trigger, NULL, s->userdata);
        found = true;
    }
    if (!found)
        give_up(s, NULL);
}

static void got_session(struct shortcut *s, GVariant *results)
{
    GVariantBuilder shortcuts, options;
    g_autofree char *token = NULL;

    if (!g_variant_lookup(results, "session_handle", "s", &s->session)) {
        give_up(s, _("The desktop could not bind a key."));
        return;
    }
    s->keys =
        g_dbus_connection_signal_subscribe(s->bus, PORTAL_NAME, PORTAL_SHORTCUTS, NULL, PORTAL_PATH,
                                           NULL, G_DBUS_SIGNAL_FLAGS_NONE, on_key, s, NULL);
    token = expect(s, got_binding);
    g_variant_builder_init(&shortcuts, G_VARIANT_TYPE("a(sa{sv})"));
    g_variant_builder_open(&shortcuts, G_VARIANT_TYPE("(sa{sv})"));
    g_variant_builder_add(&shortcuts, "s", ID);
    g_variant_builder_open(&shortcuts, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&shortcuts, "{sv}", "description",
                          g_variant_new_string(_("Talk to the assistant")));
    g_variant_builder_add(&shortcuts, "{sv}", "preferred_trigger",
                          g_variant_new_string("LOGO+space"));
    g_variant_builder_close(&shortcuts);
    g_variant_builder_close(&shortcuts);
    g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&options, "{sv}", "handle_token", g_variant_new_string(token));
    call(s, "BindShortcuts",
         g_variant_new("(oa(sa{sv})sa{sv})", s->session, &shortcuts, "", &options));
}

void shortcut_bind(struct shortcut *s)
{
    GVariantBuilder options;
    g_autofree char *token = NULL;

    shortcut_unbind(s);
    token = expect(s, got_session);
    g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&options, "{sv}", "handle_token", g_variant_new_string(token));
    g_variant_builder_add(&options, "{sv}", "session_handle_token", g_variant_new_string(token));
    call(s, "CreateSession", g_variant_new("(a{sv})", &options));
}

void shortcut_unbind(struct shortcut *s)
{
    if (s->keys)
        g_dbus_connection_signal_unsubscribe(s->bus, s->keys);
    s->keys = 0;
    if (s->session)
        g_dbus_connection_call(s->bus, PORTAL_NAME, s->session, PORTAL_SESSION, "Close", NULL, NULL,
                               G_DBUS_CALL_FLAGS_NO_AUTO_START, -1, NULL, NULL, NULL);
    g_clear_pointer(&s->session, g_free);
}

/* --- life ----------------------------------------------------------------------------------- */

static void got_version(GObject *source, GAsyncResult *result, void *userdata)
{
    _cleanup_(unrefp) struct shortcut *s = userdata;
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, NULL);

    if (!g_cancellable_is_cancelled(s->life))
        s->events->available(reply, s->userdata);
}

struct shortcut *shortcut_new(GDBusConnection *bus, const struct shortcut_events *events,
                              void *userdata)
{
    struct shortcut *s = g_rc_box_new0(struct shortcut);

    s->bus = g_object_ref(bus);
    s->events = events;
    s->userdata = userdata;
    s->life = g_cancellable_new();
    g_dbus_connection_call(bus, PORTAL_NAME, PORTAL_PATH, "org.freedesktop.DBus.Properties", "Get",
                           g_variant_new("(ss)", PORTAL_SHORTCUTS, "version"),
                           G_VARIANT_TYPE("(v)"), G_DBUS_CALL_FLAGS_NONE, -1, s->life, got_version,
                           g_rc_box_acquire(s));
    return s;
}

struct shortcut *shortcut_free(struct shortcut *s)
{
    if (s) {
        g_cancellable_cancel(s->life);
        forget_request(s);
        shortcut_unbind(s);
        unrefp(&s);
    }
    return NULL;
}
