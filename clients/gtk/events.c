/* SPDX-License-Identifier: MIT */
#include "clients/gtk/events.h"

#include <gio/gunixinputstream.h>
#include <glib/gi18n.h>
#include <string.h>

#include "base/cleanup.h"

#define LINE_BYTES_MAX ((size_t)16 << 20) /* of one event */
#define READ_SIZE      65536
#define JSON_DEPTH_MAX 64

/* Counted: the owner has one reference, the reading under way another. */
struct events {
    events_event *event;
    events_lost *lost;
    void *userdata;
    GCancellable *life; /* cancelled by events_close() */
    GInputStream *stream;
    GByteArray *line; /* what has come of the next line */
};

static void done(void *data)
{
    struct events *events = data;

    g_object_unref(events->stream);
    g_object_unref(events->life);
    g_byte_array_unref(events->line);
}

static void unrefp(struct events **events)
{
    g_rc_box_release_full(*events, done);
}

const char *event_text(struct json_object *event, const char *key)
{
    const char *text = json_object_get_string(json_object_object_get(event, key));

    return text ? text : "";
}

gint64 event_number(struct json_object *event, const char *key)
{
    return json_object_get_int64(json_object_object_get(event, key));
}

gboolean event_flag(struct json_object *event, const char *key)
{
    return json_object_get_boolean(json_object_object_get(event, key));
}

static void take_line(struct events *events, const char *line, size_t length)
{
    struct json_tokener *tokener = json_tokener_new_ex(JSON_DEPTH_MAX);
    struct json_object *event = json_tokener_parse_ex(tokener, line, (int)length);

    json_tokener_free(tokener);
    events->event(event_text(event, "event"), event, events->userdata);
    json_object_put(event);
}

/* Every whole line. */
static void take_lines(struct events *events)
{
    const guint8 *newline;

    while (!g_cancellable_is_cancelled(events->life) && events->line->len > 0 &&
           (newline = memchr(events->line->data, '\n', events->line->len))) {
        const guint length = (guint)(newline - events->line->data);
        g_autofree char *line = g_strndup((const char *)events->line->data, length);

        g_byte_array_remove_range(events->line, 0, length + 1);
        take_line(events, line, length);
    }
}

static void read_on(struct events *events);

static void got_bytes(GObject *source, GAsyncResult *result, void *userdata)
{
    _cleanup_(unrefp) struct events *events = userdata;
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) bytes =
        g_input_stream_read_bytes_finish(G_INPUT_STREAM(source), result, &error);
    gsize size;
    const void *data;

    if (g_cancellable_is_cancelled(events->life))
        return;
    if (!bytes) {
        events->lost(error->message, events->userdata);
        return;
    }
    data = g_bytes_get_data(bytes, &size);
    if (size == 0) {
        events->lost(NULL, events->userdata);
        return;
    }
    g_byte_array_append(events->line, data, (guint)size);
    take_lines(events);
    if (g_cancellable_is_cancelled(events->life))
        return;
    if (events->line->len > LINE_BYTES_MAX)
        events->lost(_("The assistant sends lines without end."), events->userdata);
    else
        read_on(events);
}

static void read_on(struct events *events)
{
    g_input_stream_read_bytes_async(events->stream, READ_SIZE, G_PRIORITY_DEFAULT, events->life,
                                    got_bytes, g_rc_box_acquire(events));
}

struct events *events_new(int fd, events_event *event, events_lost *lost, void *userdata)
{
    struct events *events = g_rc_box_new0(struct events);

    events->event = event;
    events->lost = lost;
    events->userdata = userdata;
    events->life = g_cancellable_new();
    events->stream = g_unix_input_stream_new(fd, TRUE);
    events->line = g_byte_array_new();
    read_on(events);
    return events;
}

struct events *events_close(struct events *events)
{
    if (events) {
        g_cancellable_cancel(events->life);
        unrefp(&events);
    }
    return NULL;
}
