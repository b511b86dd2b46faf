/* SPDX-License-Identifier: MIT */
#include "clients/assistant/history.h"
#include "clients/assistant/parts.h"

static void got_history(GObject *source, GAsyncResult *result, void *userdata)
{
    g_autoptr(AssistantWindow) self = userdata;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);
    const char *text;

    if (g_cancellable_is_cancelled(self->life))
        return;
    if (!reply) {
        window_tell_error(self, error);
        return;
    }
    g_variant_get(reply, "(&s)", &text);
    history_show(self->transcript, text);
    window_update(self);
}

static void on_reopened(const char *path, const GError *error, void *userdata)
{
    g_autoptr(AssistantWindow) self = userdata;

    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
        g_cancellable_is_cancelled(self->life))
        return;
    if (error) {
        window_tell_error(self, error);
        exchange_anew(self);
        return;
    }
    g_dbus_connection_call(self->bus, ASSISTANT_NAME, path, ASSISTANT_SESSION, "History", NULL,
                           G_VARIANT_TYPE("(s)"), G_DBUS_CALL_FLAGS_NO_AUTO_START,
                           ASSISTANT_CALL_MSEC, self->life, got_history, g_object_ref(self));
}

static void on_kept_open(const char *id, const char *title, void *userdata)
{
    AssistantWindow *self = userdata;
    g_autofree char *opened = g_strdup(id), *named = g_strdup(title);

    if (adw_flap_get_folded(self->flap))
        adw_flap_set_reveal_flap(self->flap, FALSE);
    if (g_strcmp0(id, self->id) == 0 && self->conversation)
        return;
    exchange_anew(self);
    self->id = g_steal_pointer(&opened);
    kept_set_open(&self->kept, self->id);
    adw_window_title_set_subtitle(self->title, named);
    window_show_talk(self);
    exchange_need(self);
    conversation_open(self->conversation, on_reopened, g_object_ref(self));
}

static void on_kept_leave(const char *id, void *userdata)
{
    AssistantWindow *self = userdata;

    if (g_strcmp0(id, self->id) == 0)
        exchange_anew(self);
}

static void on_kept_trouble(const char *sentence, void *userdata)
{
    window_tell(userdata, GTK_MESSAGE_ERROR, false, sentence);
}

const struct kept_events past_kept = {on_kept_open, on_kept_leave, on_kept_trouble};
