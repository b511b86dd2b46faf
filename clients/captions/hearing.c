/* SPDX-License-Identifier: MIT */
#include "clients/captions/hearing.h"

#include <glib/gi18n.h>
#include <string.h>

#include "base/cleanup.h"
#include "clients/gtk/assistant.h"
#include "clients/gtk/events.h"

#define ASKED_MSEC 90000 /* the user has a minute to say whether this program may listen */

/* Counted: the owner has one reference, every call under way another. */
struct hearing {
    GDBusConnection *bus;
    char *source, *path; /* path NULL: there is no session yet */
    const struct hearing_events *events;
    void *userdata;
    GCancellable *life; /* cancelled by hearing_close() */
    struct events *stream;
    bool stopping;
};

static void done(void *data)
{
    struct hearing *h = data;

    g_free(h->source);
    g_free(h->path);
    g_object_unref(h->life);
    g_object_unref(h->bus);
}

static void unrefp(struct hearing **h)
{
    if (*h)
        g_rc_box_release_full(*h, done);
}

static void fail(struct hearing *h, const GError *error)
{
    g_autofree char *sentence = assistant_sentence(error);

    if (!g_cancellable_is_cancelled(h->life))
        h->events->ended(sentence, h->userdata);
}

/* A call whose reply does not matter. */
static void tell(struct hearing *h, const char *method)
{
    g_dbus_connection_call(h->bus, ASSISTANT_NAME, h->path, ASSISTANT_SESSION, method, NULL, NULL,
                           G_DBUS_CALL_FLAGS_NO_AUTO_START, ASSISTANT_CALL_MSEC, NULL, NULL, NULL);
}

static void on_event(const char *type, struct json_object *event, void *userdata)
{
    struct hearing *h = userdata;

    if (strcmp(type, "listening") == 0)
        h->events->listening(event_flag(event, "on"), event_text(event, "message"), h->userdata);
    else if (strcmp(type, "partial") == 0)
        h->events->partial(event_text(event, "text"), event_text(event, "tail"), h->userdata);
    else if (strcmp(type, "transcript") == 0)
        h->events->transcript(event_text(event, "text"), h->userdata);
    else if (strcmp(type, "done") == 0)
        h->events->ended(NULL, h->userdata);
    else if (strcmp(type, "error") == 0)
        h->events->ended(event_text(event, "message"), h->userdata);
}

static void on_lost(const char *sentence, void *userdata)
{
    struct hearing *h = userdata;

    h->events->ended(sentence ? sentence : _("The assistant ended while it listened."),
                     h->userdata);
}

static void got_stream(GObject *source, GAsyncResult *result, void *userdata)
{
    _cleanup_(unrefp) struct hearing *h = userdata;
    g_autoptr(GError) error = NULL;
    const int fd = assistant_fd_finish(G_DBUS_CONNECTION(source), result, NULL, &error);

    if (fd < 0) {
        fail(h, error);
        return;
    }
    h->stream = events_new(fd, on_event, on_lost, h);
    if (h->stopping)
        tell(h, "StopListening");
}

static void start(struct hearing *h)
{
    GVariantDict options;

    g_variant_dict_init(&options, NULL);
    g_variant_dict_insert(&options, "mode", "s", "transcribe");
    g_variant_dict_insert(&options, "source", "s", h->source);
    g_dbus_connection_call_with_unix_fd_list(
        h->bus, ASSISTANT_NAME, h->path, ASSISTANT_SESSION, "StartListening",
        g_variant_new("(@a{sv})", g_variant_dict_end(&options)), G_VARIANT_TYPE("(h)"),
        G_DBUS_CALL_FLAGS_NO_AUTO_START, ASKED_MSEC, NULL, h->life, got_stream,
        g_rc_box_acquire(h));
}

static void got_session(GObject *source, GAsyncResult *result, void *userdata)
{
    _cleanup_(unrefp) struct hearing *h = userdata;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);

    if (reply)
        g_variant_get(reply, "(o)", &h->path);
    if (!h->path)
        fail(h, error);
    else if (g_cancellable_is_cancelled(h->life))
        tell(h, "Close");
    else
        start(h);
}

struct hearing *hearing_new(GDBusConnection *bus, const char *source,
                            const struct hearing_events *events, void *userdata)
{
    struct hearing *h = g_rc_box_new0(struct hearing);

    h->bus = g_object_ref(bus);
    h->source = g_strdup(source);
    h->events = events;
    h->userdata = userdata;
    h->life = g_cancellable_new();
    /* Not to be cancelled: what was opened must be closed. */
    g_dbus_connection_call(bus, ASSISTANT_NAME, ASSISTANT_PATH, ASSISTANT_MANAGER, "CreateSession",
                           g_variant_new("(a{sv})", NULL), G_VARIANT_TYPE("(o)"),
                           G_DBUS_CALL_FLAGS_NONE, ASSISTANT_CALL_MSEC, NULL, got_session,
                           g_rc_box_acquire(h));
    return h;
}

void hearing_stop(struct hearing *h)
{
    if (h->stream && !h->stopping)
        tell(h, "StopListening");
    h->stopping = true;
}

struct hearing *hearing_close(struct hearing *h)
{
    if (!h)
        return NULL;
    g_cancellable_cancel(h->life);
    h->stream = events_close(h->stream);
    if (h->path)
        tell(h, "Close");
    unrefp(&h);
    return NULL;
}
