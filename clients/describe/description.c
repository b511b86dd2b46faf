/* SPDX-License-Identifier: MIT */
#include "clients/describe/description.h"

#include <gio/gunixfdlist.h>
#include <glib/gi18n.h>
#include <string.h>

#include "clients/gtk/assistant.h"
#include "clients/gtk/events.h"

/* Counted: the owner has one reference, the call under way another. */
struct description {
    const struct description_events *events;
    void *userdata;
    GCancellable *life; /* cancelled by description_free() */
    struct events *stream;
    bool told[_PART_N];
};

static const char *const names[] = {
    [PART_SHORT] = "short", [PART_LONG] = "long", [PART_WORDS] = "text"};

static void done(void *data)
{
    g_object_unref(((struct description *)data)->life);
}

static void tell(struct description *d, enum part part, const char *text, bool unsure)
{
    g_autofree char *stripped = g_strstrip(g_strdup(text));

    if (d->told[part])
        return;
    d->told[part] = true;
    d->events->part(part, stripped, unsure, d->userdata);
}

/* Whoever is told may free the description. */
static void on_event(const char *type, struct json_object *event, void *userdata)
{
    struct description *d = userdata;
    g_autoptr(GCancellable) life = g_object_ref(d->life);

    if (strcmp(type, "progress") == 0 && event_number(event, "total") > 0) {
        d->events->progress((double)event_number(event, "done") /
                                (double)event_number(event, "total"),
                            d->userdata);
    } else if (strcmp(type, "part") == 0) {
        for (enum part part = 0; part < _PART_N; part++)
            if (strcmp(event_text(event, "part"), names[part]) == 0)
                tell(d, part, event_text(event, "text"), event_flag(event, "unsure"));
    } else if (strcmp(type, "description") == 0) {
        /* What was made before comes at once, without its parts. */
        for (enum part part = 0; part < _PART_N && !g_cancellable_is_cancelled(life); part++)
            tell(d, part, event_text(event, names[part]), event_flag(event, "unsure"));
        if (!g_cancellable_is_cancelled(life))
            d->events->ended(NULL, d->userdata);
    } else if (strcmp(type, "error") == 0) {
        d->events->ended(event_text(event, "message"), d->userdata);
    }
}

static void on_lost(const char *sentence, void *userdata)
{
    struct description *d = userdata;

    d->events->ended(sentence ? sentence : _("The assistant ended before it had described it."),
                     d->userdata);
}

static void got_stream(GObject *source, GAsyncResult *result, void *userdata)
{
    struct description *d = userdata;
    g_autoptr(GError) error = NULL;
    const int fd = assistant_fd_finish(G_DBUS_CONNECTION(source), result, NULL, &error);

    if (fd >= 0 && g_cancellable_is_cancelled(d->life)) {
        close(fd);
    } else if (fd >= 0) {
        d->stream = events_new(fd, on_event, on_lost, d);
    } else if (!g_cancellable_is_cancelled(d->life)) {
        g_autofree char *sentence = assistant_sentence(error);

        d->events->ended(sentence, d->userdata);
    }
    g_rc_box_release_full(d, done);
}

struct description *description_new(GDBusConnection *bus, const struct picture *picture,
                                    const char *model, const struct description_events *events,
                                    void *userdata)
{
    struct description *d = g_rc_box_new0(struct description);
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    GVariantDict options;

    d->events = events;
    d->userdata = userdata;
    d->life = g_cancellable_new();
    /* Out of descriptors: the call says that there is none. */
    g_unix_fd_list_append(fds, picture->fd, NULL);
    g_variant_dict_init(&options, NULL);
    if (model)
        g_variant_dict_insert(&options, "model", "s", model);
    g_dbus_connection_call_with_unix_fd_list(
        bus, ASSISTANT_NAME, ASSISTANT_PATH, ASSISTANT_MANAGER, "Describe",
        g_variant_new("(h@a{sv})", 0, g_variant_dict_end(&options)), G_VARIANT_TYPE("(h)"),
        G_DBUS_CALL_FLAGS_NONE, ASSISTANT_CALL_MSEC, fds, d->life, got_stream,
        g_rc_box_acquire(d));
    return d;
}

struct description *description_free(struct description *d)
{
    if (!d)
        return NULL;
    g_cancellable_cancel(d->life);
    d->stream = events_close(d->stream);
    g_rc_box_release_full(d, done);
    return NULL;
}
