/* SPDX-License-Identifier: MIT */
#include "clients/gtk/conversation.h"

#include <gio/gunixfdlist.h>
#include <glib/gi18n.h>
#include <string.h>

#include "base/cleanup.h"
#include "clients/gtk/assistant.h"
#include "clients/gtk/calls.h"
#include "clients/gtk/events.h"
#include "clients/gtk/picture.h"

#define ROUNDS_MAX 16 /* of calls for one question: a model may call without end */

/* Counted: the window has one reference, every call under way another. */
struct conversation {
    GDBusConnection *bus;
    char *model, *tools, *id;
    bool keep;
    char *path;          /* NULL: not opened yet */
    GDBusProxy *session; /* its properties; NULL: not wanted, or not known yet */
    const struct conversation_events *events;
    void *userdata;
    bool opening, closed;
    conversation_opened *opened; /* waits for it; or NULL */
    void *opened_userdata;

    /* the turn */
    GCancellable *turn; /* NULL: none. Cancelled at its end, so that late replies are known */
    GVariant *content;  /* until it is sent, with its files */
    GUnixFDList *fds;
    struct events *stream; /* NULL: not answered yet */
    guint32 number;
    bool stopping;

    guint rounds;       /* of calls and results */
    struct calls calls; /* of its last answer */
};

static void turn_done(struct conversation *c)
{
    if (c->turn)
        g_cancellable_cancel(c->turn);
    g_clear_object(&c->turn);
    g_clear_pointer(&c->content, g_variant_unref);
    g_clear_object(&c->fds);
    c->stream = events_close(c->stream); /* which cancels the turn in the daemon */
    c->stopping = false;
    c->rounds = 0;
    calls_clear(&c->calls);
}

static void done(void *data)
{
    struct conversation *c = data;

    turn_done(c);
    calls_done(&c->calls);
    g_clear_object(&c->session);
    g_free(c->model);
    g_free(c->tools);
    g_free(c->id);
    g_free(c->path);
    g_object_unref(c->bus);
}

static void unrefp(struct conversation **c)
{
    if (*c)
        g_rc_box_release_full(*c, done);
}

static void end_turn(struct conversation *c, enum ending ending, const char *note)
{
    turn_done(c);
    if (!c->closed)
        c->events->ended(ending, note, c->userdata);
}

static void fail(struct conversation *c, const GError *error)
{
    g_autofree char *sentence = NULL;

    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        return; /* of a turn that has ended */
    sentence = assistant_sentence(error);
    end_turn(c, ENDING_FAILED, sentence);
}

/* A call whose reply does not matter. */
static void tell(struct conversation *c, const char *method, GVariant *arguments)
{
    g_dbus_connection_call(c->bus, ASSISTANT_NAME, c->path, ASSISTANT_SESSION, method, arguments,
                           NULL, G_DBUS_CALL_FLAGS_NO_AUTO_START, ASSISTANT_CALL_MSEC, NULL, NULL,
                           NULL);
}

/* --- events of the stream ------------------------------------------------------------------- */

static void on_progress(struct conversation *c, struct json_object *event)
{
    const int64_t total = event_number(event, "total"), n_images = event_number(event, "images"),
                  n_views = event_number(event, "views");
    const double fraction =
        total > 0 ? CLAMP((double)event_number(event, "done") / (double)total, 0, 1) : -1;
    g_autofree char *label = NULL;

    if (strcmp(event_text(event, "stage"), "image") != 0)
        label = g_strdup(_("Reading the question"));
    else if (n_images > 1)
        label = g_strdup_printf(_("Looking at picture %d of %d, part %d of %d"),
                                (int)event_number(event, "image"), (int)n_images,
                                (int)event_number(event, "view"), (int)n_views);
    else
        label = g_strdup_printf(_("Looking at the picture, part %d of %d"),
                                (int)event_number(event, "view"), (int)n_views);
    c->events->progress(fraction, label, c->userdata);
}

static void on_tool_call(struct conversation *c, struct json_object *event)
{
    if (c->events->call) {
        calls_add(&c->calls, event_text(event, "id"));
        c->events->call(event_text(event, "id"), event_text(event, "name"),
                        json_object_object_get(event, "arguments"), c->userdata);
    } else {
        g_autofree char *text =
            g_strdup_printf("%s%s\n", event_text(event, "name"), event_text(event, "arguments"));

        c->events->text(text, c->userdata);
    }
}

static void send_results(struct conversation *c);

static void on_done(struct conversation *c, struct json_object *event)
{
    const char *reason = event_text(event, "reason"), *note = NULL;

    if (c->events->usage)
        c->events->usage(json_object_object_get(event, "usage"), c->userdata);
    if (strcmp(reason, "cancelled") == 0 || (c->stopping && calls_n(&c->calls) > 0)) {
        end_turn(c, ENDING_STOPPED, NULL);
        return;
    }
    if (calls_n(&c->calls) > 0 && c->rounds < ROUNDS_MAX) {
        c->stream = events_close(c->stream);
        send_results(c);
        return;
    }
    if (event_number(event, "dropped_turns") > 0)
        note = _("The conversation is too long: its beginning was left out.");
    if (strcmp(reason, "length") == 0)
        note = _("The answer was cut off: there is no room for more.");
    end_turn(c, ENDING_DONE, note);
}

static void on_event(const char *type, struct json_object *event, void *userdata)
{
    struct conversation *c = userdata;

    if (strcmp(type, "text") == 0)
        c->events->text(event_text(event, "text"), c->userdata);
    else if (strcmp(type, "thinking") == 0)
        c->events->progress(-1, _("Thinking"), c->userdata);
    else if (strcmp(type, "progress") == 0)
        on_progress(c, event);
    else if (strcmp(type, "tool_call") == 0)
        on_tool_call(c, event);
    else if (strcmp(type, "done") == 0)
        on_done(c, event);
    else if (strcmp(type, "error") == 0)
        end_turn(c, ENDING_FAILED, event_text(event, "message"));
}

static void on_lost(const char *sentence, void *userdata)
{
    end_turn(userdata, ENDING_FAILED,
             sentence ? sentence : _("The assistant ended in the middle of the answer."));
}

/* --- asking --------------------------------------------------------------------------------- */

static void got_stream(GObject *source, GAsyncResult *result, void *userdata)
{
    _cleanup_(unrefp) struct conversation *c = userdata;
    g_autoptr(GError) error = NULL;
    const int fd = assistant_fd_finish(G_DBUS_CONNECTION(source), result, &c->number, &error);

    if (fd < 0) {
        fail(c, error);
        return;
    }
    c->stream = events_new(fd, on_event, on_lost, c);
    if (c->stopping)
        tell(c, "Cancel", g_variant_new("(u)", c->number));
}

static void send_question(struct conversation *c)
{
    g_dbus_connection_call_with_unix_fd_list(
        c->bus, ASSISTANT_NAME, c->path, ASSISTANT_SESSION, "Ask",
        g_variant_new("(@aa{sv}a{sv})", c->content, NULL), G_VARIANT_TYPE("(hu)"),
        G_DBUS_CALL_FLAGS_NO_AUTO_START, ASSISTANT_CALL_MSEC, c->fds, c->turn, got_stream,
        g_rc_box_acquire(c));
    g_clear_pointer(&c->content, g_variant_unref);
    g_clear_object(&c->fds);
}

static void on_property(struct conversation *c)
{
    if (!c->closed)
        c->events->changed(c->userdata);
}

static void got_properties(GObject *source G_GNUC_UNUSED, GAsyncResult *result, void *userdata)
{
    _cleanup_(unrefp) struct conversation *c = userdata;
    GDBusProxy *session = g_dbus_proxy_new_finish(result, NULL);

    if (!session || c->closed) {
        g_clear_object(&session);
        return;
    }
    c->session = session;
    g_signal_connect_swapped(session, "g-properties-changed", G_CALLBACK(on_property), c);
    on_property(c);
}

static void tell_opened(struct conversation *c, const GError *error)
{
    conversation_opened *opened = c->opened;

    c->opened = NULL;
    if (opened)
        opened(c->path, error, c->opened_userdata);
}

static void got_session(GObject *source, GAsyncResult *result, void *userdata)
{
    _cleanup_(unrefp) struct conversation *c = userdata;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);

    c->opening = false;
    if (reply)
        g_variant_get(reply, "(o)", &c->path);
    if (c->closed) {
        if (c->path)
            tell(c, "Close", NULL);
        return;
    }
    if (c->path && c->events->changed)
        g_dbus_proxy_new(c->bus, G_DBUS_PROXY_FLAGS_DO_NOT_AUTO_START, NULL, ASSISTANT_NAME,
                         c->path, ASSISTANT_SESSION, NULL, got_properties, g_rc_box_acquire(c));
    tell_opened(c, error);
    if (c->turn && c->path)
        send_question(c);
    else if (c->turn)
        fail(c, error);
}

static GVariant *session_options(const struct conversation *c)
{
    GVariantDict options;

    g_variant_dict_init(&options, NULL);
    if (c->model)
        g_variant_dict_insert(&options, "model", "s", c->model);
    if (c->tools)
        g_variant_dict_insert(&options, "tools", "s", c->tools);
    if (c->keep)
        g_variant_dict_insert(&options, "keep", "b", TRUE);
    return g_variant_dict_end(&options);
}

static void open_session(struct conversation *c)
{
    c->opening = true;
    /* Not to be cancelled: what was opened must be closed. */
    g_dbus_connection_call(c->bus, ASSISTANT_NAME, ASSISTANT_PATH, ASSISTANT_MANAGER,
                           c->id ? "OpenSession" : "CreateSession",
                           c->id ? g_variant_new("(sa{sv})", c->id, NULL)
                                 : g_variant_new("(@a{sv})", session_options(c)),
                           G_VARIANT_TYPE("(o)"), G_DBUS_CALL_FLAGS_NONE, ASSISTANT_CALL_MSEC, NULL,
                           got_session, g_rc_box_acquire(c));
}

/* Who waited is told that it was in vain. */
static void leave_waiting(struct conversation *c)
{
    g_autoptr(GError) error =
        g_error_new_literal(G_IO_ERROR, G_IO_ERROR_CANCELLED, _("This was given up."));
    conversation_opened *opened = c->opened;

    c->opened = NULL;
    if (opened)
        opened(NULL, error, c->opened_userdata);
}

void conversation_open(struct conversation *c, conversation_opened *opened, void *userdata)
{
    leave_waiting(c);
    c->opened = opened;
    c->opened_userdata = userdata;
    if (c->path)
        tell_opened(c, NULL);
    else if (!c->opening)
        open_session(c);
}

GVariant *conversation_property(const struct conversation *c, const char *name)
{
    return c->session ? g_dbus_proxy_get_cached_property(c->session, name) : NULL;
}

static void add_picture(GVariantBuilder *content, GUnixFDList *fds, const struct picture *picture,
                        const char *detail)
{
    const int index = g_unix_fd_list_append(fds, picture->fd, NULL);

    if (index < 0)
        return; /* out of descriptors: the daemon says that the part has no file */
    g_variant_builder_open(content, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(content, "{sv}", "type", g_variant_new_string("image"));
    g_variant_builder_add(content, "{sv}", "fd", g_variant_new_handle(index));
    g_variant_builder_add(content, "{sv}", "detail", g_variant_new_string(detail));
    g_variant_builder_close(content);
}

/* Once all are there, and the answer that asked for them is over. */
static void send_results(struct conversation *c)
{
    if (c->stream || !calls_complete(&c->calls))
        return;
    c->fds = g_unix_fd_list_new();
    c->content = g_variant_ref_sink(calls_content(&c->calls));
    c->rounds++;
    calls_clear(&c->calls);
    send_question(c);
}

void conversation_result(struct conversation *c, const char *id, const char *text)
{
    if (calls_result(&c->calls, id, text))
        send_results(c);
}

void conversation_ask(struct conversation *c, GPtrArray *pictures, const char *detail,
                      const char *question)
{
    GVariantBuilder content;

    g_assert(!c->turn);
    c->turn = g_cancellable_new();
    c->fds = g_unix_fd_list_new();
    g_variant_builder_init(&content, G_VARIANT_TYPE("aa{sv}"));
    for (guint i = 0; i < pictures->len; i++)
        add_picture(&content, c->fds, pictures->pdata[i], detail);
    calls_add_part(&content, "text", NULL, question);
    c->content = g_variant_ref_sink(g_variant_builder_end(&content));
    if (c->path)
        send_question(c);
    else if (!c->opening)
        open_session(c);
}

bool conversation_busy(const struct conversation *c)
{
    return c->turn;
}

void conversation_stop(struct conversation *c)
{
    if (!c->turn)
        return;
    if (c->stopping || (!c->stream && calls_n(&c->calls) > 0)) {
        end_turn(c, ENDING_STOPPED, NULL);
        return;
    }
    c->stopping = true;
    if (c->stream)
        tell(c, "Cancel", g_variant_new("(u)", c->number));
}

/* --- life ----------------------------------------------------------------------------------- */

struct conversation *conversation_new(GDBusConnection *bus,
                                      const struct conversation_options *options,
                                      const struct conversation_events *events, void *userdata)
{
    struct conversation *c = g_rc_box_new0(struct conversation);

    c->bus = g_object_ref(bus);
    c->model = g_strdup(options->model);
    c->tools = g_strdup(options->tools);
    c->id = g_strdup(options->id);
    c->keep = options->keep;
    calls_init(&c->calls);
    c->events = events;
    c->userdata = userdata;
    return c;
}

struct conversation *conversation_close(struct conversation *c)
{
    if (!c)
        return NULL;
    c->closed = true;
    leave_waiting(c);
    if (c->session)
        g_signal_handlers_disconnect_by_data(c->session, c);
    turn_done(c);
    if (c->path)
        tell(c, "Close", NULL);
    unrefp(&c);
    return NULL;
}
