/* SPDX-License-Identifier: MIT */
#include "clients/ask-window/conversation.h"

#include <gio/gunixfdlist.h>
#include <gio/gunixinputstream.h>
#include <glib/gi18n.h>
#include <json-c/json.h>
#include <string.h>

#include "base/cleanup.h"
#include "clients/ask-window/assistant.h"
#include "clients/ask-window/picture.h"

#define LINE_BYTES_MAX ((size_t)16 << 20) /* of one event */
#define READ_SIZE      65536
#define JSON_DEPTH_MAX 64

/* Counted: the window has one reference, every call under way another. */
struct conversation {
    GDBusConnection *bus;
    char *model, *path; /* path NULL: not opened yet */
    const struct conversation_events *events;
    void *userdata;
    bool opening, closed;

    /* the turn */
    GCancellable *turn; /* NULL: none. Cancelled at its end, so that late replies are known */
    GVariant *content;  /* until it is sent, with its files */
    GUnixFDList *fds;
    GInputStream *stream; /* NULL: not answered yet */
    GByteArray *line;     /* what has come of the next line */
    guint32 number;
    bool stopping;
};

static void turn_done(struct conversation *c)
{
    if (c->turn)
        g_cancellable_cancel(c->turn);
    g_clear_object(&c->turn);
    g_clear_pointer(&c->content, g_variant_unref);
    g_clear_object(&c->fds);
    g_clear_object(&c->stream); /* closed by this, which cancels the turn in the daemon */
    g_byte_array_set_size(c->line, 0);
    c->stopping = false;
}

static void done(void *data)
{
    struct conversation *c = data;

    turn_done(c);
    g_byte_array_unref(c->line);
    g_free(c->model);
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

static const char *text_of(struct json_object *object, const char *key)
{
    struct json_object *value;

    return json_object_object_get_ex(object, key, &value) ? json_object_get_string(value) : "";
}

static int64_t number_of(struct json_object *object, const char *key)
{
    struct json_object *value;

    return json_object_object_get_ex(object, key, &value) ? json_object_get_int64(value) : 0;
}

static void on_progress(struct conversation *c, struct json_object *event)
{
    const int64_t total = number_of(event, "total"), n_images = number_of(event, "images"),
                  n_views = number_of(event, "views");
    const double fraction =
        total > 0 ? CLAMP((double)number_of(event, "done") / (double)total, 0, 1) : -1;
    g_autofree char *label = NULL;

    if (strcmp(text_of(event, "stage"), "image") != 0)
        label = g_strdup(_("Reading the question"));
    else if (n_images > 1)
        label = g_strdup_printf(_("Looking at picture %d of %d, part %d of %d"),
                                (int)number_of(event, "image"), (int)n_images,
                                (int)number_of(event, "view"), (int)n_views);
    else
        label = g_strdup_printf(_("Looking at the picture, part %d of %d"),
                                (int)number_of(event, "view"), (int)n_views);
    c->events->progress(fraction, label, c->userdata);
}

/* The window has no tools; what the model calls all the same is shown as it is. */
static void on_tool_call(struct conversation *c, struct json_object *event)
{
    g_autofree char *call =
        g_strdup_printf("%s%s\n", text_of(event, "name"), text_of(event, "arguments"));

    c->events->text(call, c->userdata);
}

static void on_done(struct conversation *c, struct json_object *event)
{
    const char *reason = text_of(event, "reason"), *note = NULL;

    if (strcmp(reason, "cancelled") == 0) {
        end_turn(c, ENDING_STOPPED, NULL);
        return;
    }
    if (number_of(event, "dropped_turns") > 0)
        note = _("The conversation is too long: its beginning was left out.");
    if (strcmp(reason, "length") == 0)
        note = _("The answer was cut off: there is no room for more.");
    end_turn(c, ENDING_DONE, note);
}

static void on_event(struct conversation *c, const char *line, size_t length)
{
    struct json_tokener *tokener = json_tokener_new_ex(JSON_DEPTH_MAX);
    struct json_object *event = json_tokener_parse_ex(tokener, line, (int)length);
    const char *type = text_of(event, "event");

    json_tokener_free(tokener);
    if (strcmp(type, "text") == 0)
        c->events->text(text_of(event, "text"), c->userdata);
    else if (strcmp(type, "thinking") == 0)
        c->events->progress(-1, _("Thinking"), c->userdata);
    else if (strcmp(type, "progress") == 0)
        on_progress(c, event);
    else if (strcmp(type, "tool_call") == 0)
        on_tool_call(c, event);
    else if (strcmp(type, "done") == 0)
        on_done(c, event);
    else if (strcmp(type, "error") == 0)
        end_turn(c, ENDING_FAILED, text_of(event, "message"));
    json_object_put(event);
}

/* Every whole line; an event may end the turn, or the conversation. */
static void take_lines(struct conversation *c, GCancellable *turn)
{
    const guint8 *newline;

    while (!g_cancellable_is_cancelled(turn) && c->line->len > 0 &&
           (newline = memchr(c->line->data, '\n', c->line->len))) {
        const guint length = (guint)(newline - c->line->data);
        g_autofree char *line = g_strndup((const char *)c->line->data, length);

        g_byte_array_remove_range(c->line, 0, length + 1);
        on_event(c, line, length);
    }
}

static void read_on(struct conversation *c);

static void got_bytes(GObject *source, GAsyncResult *result, void *userdata)
{
    _cleanup_(unrefp) struct conversation *c = userdata;
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) bytes =
        g_input_stream_read_bytes_finish(G_INPUT_STREAM(source), result, &error);
    g_autoptr(GCancellable) turn = NULL;
    gsize size;
    const void *data;

    if (!bytes) {
        fail(c, error);
        return;
    }
    turn = g_object_ref(c->turn);
    data = g_bytes_get_data(bytes, &size);
    if (size == 0) {
        end_turn(c, ENDING_FAILED, _("The assistant ended in the middle of the answer."));
        return;
    }
    g_byte_array_append(c->line, data, (guint)size);
    take_lines(c, turn);
    if (g_cancellable_is_cancelled(turn))
        return;
    if (c->line->len > LINE_BYTES_MAX)
        end_turn(c, ENDING_FAILED, _("The assistant sends lines without end."));
    else
        read_on(c);
}

static void read_on(struct conversation *c)
{
    g_input_stream_read_bytes_async(c->stream, READ_SIZE, G_PRIORITY_DEFAULT, c->turn, got_bytes,
                                    g_rc_box_acquire(c));
}

/* --- asking --------------------------------------------------------------------------------- */

static void got_stream(GObject *source, GAsyncResult *result, void *userdata)
{
    _cleanup_(unrefp) struct conversation *c = userdata;
    g_autoptr(GError) error = NULL;
    g_autoptr(GUnixFDList) fds = NULL;
    g_autoptr(GVariant) reply = g_dbus_connection_call_with_unix_fd_list_finish(
        G_DBUS_CONNECTION(source), &fds, result, &error);
    gint32 index;
    int fd = -1;

    if (reply) {
        g_variant_get(reply, "(hu)", &index, &c->number);
        fd = g_unix_fd_list_get(fds, index, &error);
    }
    if (fd < 0) {
        fail(c, error);
        return;
    }
    c->stream = g_unix_input_stream_new(fd, TRUE);
    if (c->stopping)
        tell(c, "Cancel", g_variant_new("(u)", c->number));
    read_on(c);
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

static void got_session(GObject *source, GAsyncResult *result, void *userdata)
{
    _cleanup_(unrefp) struct conversation *c = userdata;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);

    c->opening = false;
    if (reply)
        g_variant_get(reply, "(o)", &c->path);
    if (c->closed && c->path)
        tell(c, "Close", NULL);
    else if (c->turn && c->path)
        send_question(c);
    else if (c->turn)
        fail(c, error);
}

static void open_session(struct conversation *c)
{
    GVariantDict options;

    g_variant_dict_init(&options, NULL);
    if (c->model)
        g_variant_dict_insert(&options, "model", "s", c->model);
    c->opening = true;
    /* Not to be cancelled: what was opened must be closed. */
    g_dbus_connection_call(c->bus, ASSISTANT_NAME, ASSISTANT_PATH, ASSISTANT_MANAGER,
                           "CreateSession", g_variant_new("(@a{sv})", g_variant_dict_end(&options)),
                           G_VARIANT_TYPE("(o)"), G_DBUS_CALL_FLAGS_NONE, ASSISTANT_CALL_MSEC, NULL,
                           got_session, g_rc_box_acquire(c));
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
    g_variant_builder_open(&content, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&content, "{sv}", "type", g_variant_new_string("text"));
    g_variant_builder_add(&content, "{sv}", "text", g_variant_new_string(question));
    g_variant_builder_close(&content);
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
    if (c->stopping) {
        end_turn(c, ENDING_STOPPED, NULL);
        return;
    }
    c->stopping = true;
    if (c->stream)
        tell(c, "Cancel", g_variant_new("(u)", c->number));
}

/* --- life ----------------------------------------------------------------------------------- */

struct conversation *conversation_new(GDBusConnection *bus, const char *model,
                                      const struct conversation_events *events, void *userdata)
{
    struct conversation *c = g_rc_box_new0(struct conversation);

    c->bus = g_object_ref(bus);
    c->model = g_strdup(model);
    c->events = events;
    c->userdata = userdata;
    c->line = g_byte_array_new();
    return c;
}

struct conversation *conversation_close(struct conversation *c)
{
    if (!c)
        return NULL;
    c->closed = true;
    turn_done(c);
    if (c->path)
        tell(c, "Close", NULL);
    unrefp(&c);
    return NULL;
}
