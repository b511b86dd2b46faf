/* SPDX-License-Identifier: MIT */
#include "clients/assistant/voice.h"

#include <glib/gi18n.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/gtk/assistant.h"
#include "clients/gtk/calls.h"
#include "clients/gtk/events.h"

#define START_MSEC 90000 /* the user has a minute to allow the microphone */
#define WORDS_SEC  5     /* that the words of the last turn are waited for */

/* Counted: the window has one reference, every call under way another. */
struct voice {
    GDBusConnection *bus;
    enum voice_mode mode;
    const struct voice_events *events;
    void *userdata;
    GCancellable *life;              /* cancelled when it is over */
    char *path;                      /* of the session; NULL: not open yet */
    struct events *stream, *results; /* NULL: not there */
    struct calls calls;
    enum voice_state state;
    bool pressed;
    unsigned turn, answered, written; /* the last of each */
    guint words_timeout;
};

static void done(void *data)
{
    struct voice *v = data;

    calls_done(&v->calls);
    g_free(v->path);
    g_object_unref(v->life);
    g_object_unref(v->bus);
}

static void unrefp(struct voice **v)
{
    g_rc_box_release_full(*v, done);
}

static bool is_over(const struct voice *v)
{
    return g_cancellable_is_cancelled(v->life);
}

static void finish(struct voice *v)
{
    g_cancellable_cancel(v->life);
    if (v->words_timeout)
        g_source_remove(v->words_timeout);
    v->words_timeout = 0;
    v->stream = events_close(v->stream); /* which closes the microphone */
    v->results = events_close(v->results);
}

static void end(struct voice *v, const char *sentence)
{
    if (is_over(v))
        return;
    finish(v);
    v->events->ended(sentence, v->userdata);
}

static void fail(struct voice *v, const GError *error)
{
    g_autofree char *sentence = NULL;

    if (is_over(v))
        return;
    sentence = assistant_sentence(error);
    end(v, sentence);
}

static void enter(struct voice *v, enum voice_state state)
{
    v->state = state;
    v->events->state(state, NULL, v->userdata);
}

static void tell(struct voice *v, const char *method)
{
    if (v->stream)
        g_dbus_connection_call(v->bus, ASSISTANT_NAME, v->path, ASSISTANT_SESSION, method, NULL,
                               NULL, G_DBUS_CALL_FLAGS_NO_AUTO_START, ASSISTANT_CALL_MSEC, NULL,
                               NULL, NULL);
}

/* --- the end of push to talk ---------------------------------------------------------------- */

static gboolean on_words_late(void *userdata)
{
    struct voice *v = userdata;

    v->words_timeout = 0;
    voice_stop(v);
    return G_SOURCE_REMOVE;
}

/* The turn has been answered. The microphone stays open until its words are there. */
static void end_push(struct voice *v)
{
    if (v->mode != VOICE_PUSH || v->pressed || v->answered != v->turn || v->turn == 0 ||
        calls_n(&v->calls) > 0)
        return;
    if (v->written == v->turn)
        voice_stop(v);
    else if (!v->words_timeout)
        v->words_timeout = g_timeout_add_seconds(WORDS_SEC, on_words_late, v);
}

/* --- calls of tools ------------------------------------------------------------------------- */

static void on_result_event(const char *type, struct json_object *event, void *userdata)
{
    if (strcmp(type, "error") == 0)
        end(userdata, event_text(event, "message"));
}

static void on_result_lost(const char *sentence G_GNUC_UNUSED, void *userdata)
{
    struct voice *v = userdata;

    v->results = events_close(v->results);
}

static void got_results(GObject *source, GAsyncResult *result, void *userdata)
{
    _cleanup_(unrefp) struct voice *v = userdata;
    g_autoptr(GError) error = NULL;
    const int fd = assistant_fd_finish(G_DBUS_CONNECTION(source), result, NULL, &error);

    if (fd < 0) {
        fail(v, error);
        return;
    }
    events_close(v->results);
    v->results = events_new(fd, on_result_event, on_result_lost, v);
}

/* Once all are there and the turn is over. The answer goes on in the stream of the voice. */
static void send_results(struct voice *v)
{
    if (v->answered != v->turn || !calls_complete(&v->calls))
        return;
    v->answered = 0;
    g_dbus_connection_call_with_unix_fd_list(
        v->bus, ASSISTANT_NAME, v->path, ASSISTANT_SESSION, "Ask",
        g_variant_new("(@aa{sv}a{sv})", calls_content(&v->calls), NULL), G_VARIANT_TYPE("(hu)"),
        G_DBUS_CALL_FLAGS_NO_AUTO_START, ASSISTANT_CALL_MSEC, NULL, v->life, got_results,
        g_rc_box_acquire(v));
    calls_clear(&v->calls);
}

void voice_result(struct voice *v, const char *id, const char *text)
{
    if (calls_result(&v->calls, id, text))
        send_results(v);
}

/* --- events --------------------------------------------------------------------------------- */

static void on_listening(struct voice *v, struct json_object *event)
{
    const bool on = event_flag(event, "on");
    const char *message = event_text(event, "message");

    v->state = on ? VOICE_READY : VOICE_OPENING;
    v->events->state(v->state, message[0] ? message : NULL, v->userdata);
}

static void on_speech_start(struct voice *v, unsigned turn)
{
    v->turn = turn; /* results of earlier calls are given after it */
    enter(v, VOICE_HEARING);
}

static void on_turn_done(struct voice *v, struct json_object *event, unsigned turn)
{
    const bool calls =
        strcmp(event_text(event, "reason"), "tool_calls") == 0 && calls_n(&v->calls) > 0;

    v->answered = turn;
    send_results(v);
    if (calls || turn != v->turn)
        return;
    enter(v, VOICE_READY);
    end_push(v);
}

static void on_call(struct voice *v, struct json_object *event)
{
    calls_add(&v->calls, event_text(event, "id"));
    v->events->call(event_text(event, "id"), event_text(event, "name"),
                    json_object_object_get(event, "arguments"), v->userdata);
}

static void on_event(const char *type, struct json_object *event, void *userdata)
{
    struct voice *v = userdata;
    const unsigned turn = (unsigned)event_number(event, "turn");

    if (strcmp(type, "level") == 0) {
        v->events->level((int)event_number(event, "db"), v->userdata);
    } else if (strcmp(type, "start") == 0) {
        v->events->model(event_text(event, "model"), v->userdata);
    } else if (strcmp(type, "listening") == 0) {
        on_listening(v, event);
    } else if (strcmp(type, "loudspeaker") == 0) {
        v->events->state(v->state, event_flag(event, "on") ? NULL : event_text(event, "message"),
                         v->userdata);
    } else if (strcmp(type, "speech_start") == 0) {
        on_speech_start(v, turn);
    } else if (strcmp(type, "speech_end") == 0) {
        enter(v, VOICE_THINKING);
        v->events->spoke(turn, v->userdata);
    } else if (strcmp(type, "transcript") == 0) {
        v->written = turn;
        v->events->said(turn, event_text(event, "text"), v->userdata);
        end_push(v);
    } else if (strcmp(type, "text") == 0) {
        v->events->text(event_text(event, "text"), v->userdata);
    } else if (strcmp(type, "audio_start") == 0) {
        v->events->first_sound((unsigned)event_number(event, "after_ms"), v->userdata);
        enter(v, VOICE_SPEAKING);
    } else if (strcmp(type, "interrupted") == 0) {
        v->events->interrupted(v->userdata);
    } else if (strcmp(type, "tool_call") == 0) {
        on_call(v, event);
    } else if (strcmp(type, "turn_done") == 0) {
        on_turn_done(v, event, turn);
    } else if (strcmp(type, "done") == 0) {
        end(v, NULL);
    } else if (strcmp(type, "error") == 0) {
        end(v, event_text(event, "message"));
    }
}

static void on_lost(const char *sentence, void *userdata)
{
    end(userdata, sentence ? sentence : _("The assistant ended while you talked to it."));
}

/* --- the beginning -------------------------------------------------------------------------- */

static void got_stream(GObject *source, GAsyncResult *result, void *userdata)
{
    _cleanup_(unrefp) struct voice *v = userdata;
    g_autoptr(GError) error = NULL;
    const int fd = assistant_fd_finish(G_DBUS_CONNECTION(source), result, NULL, &error);

    if (is_over(v)) {
        if (fd >= 0)
            close(fd); /* and with it the listening */
        return;
    }
    if (fd < 0) {
        fail(v, error);
        return;
    }
    v->stream = events_new(fd, on_event, on_lost, v);
    if (v->pressed)
        tell(v, "Press");
    else if (v->mode == VOICE_PUSH)
        voice_stop(v); /* let go before it could begin */
}

static void start(struct voice *v)
{
    GVariantDict options;

    g_variant_dict_init(&options, NULL);
    g_variant_dict_insert(&options, "mode", "s", v->mode == VOICE_PUSH ? "push" : "open");
    g_variant_dict_insert(&options, "levels", "b", TRUE);
    g_variant_dict_insert(&options, "transcripts", "b", TRUE);
    g_dbus_connection_call_with_unix_fd_list(
        v->bus, ASSISTANT_NAME, v->path, ASSISTANT_SESSION, "StartListening",
        g_variant_new("(@a{sv})", g_variant_dict_end(&options)), G_VARIANT_TYPE("(h)"),
        G_DBUS_CALL_FLAGS_NO_AUTO_START, START_MSEC, NULL, v->life, got_stream,
        g_rc_box_acquire(v));
}

static void on_opened(const char *path, const GError *error, void *userdata)
{
    _cleanup_(unrefp) struct voice *v = userdata;

    if (is_over(v))
        return;
    if (!path) {
        fail(v, error);
        return;
    }
    v->path = g_strdup(path);
    start(v);
}

struct voice *voice_new(GDBusConnection *bus, struct conversation *conversation,
                        enum voice_mode mode, const struct voice_events *events, void *userdata)
{
    struct voice *v = g_rc_box_new0(struct voice);

    v->bus = g_object_ref(bus);
    v->mode = mode;
    v->events = events;
    v->userdata = userdata;
    v->life = g_cancellable_new();
    calls_init(&v->calls);
    enter(v, VOICE_OPENING);
    conversation_open(conversation, on_opened, g_rc_box_acquire(v));
    return v;
}

struct voice *voice_close(struct voice *v)
{
    if (v) {
        finish(v);
        unrefp(&v);
    }
    return NULL;
}

/* --- commands ------------------------------------------------------------------------------- */

enum voice_mode voice_mode(const struct voice *v)
{
    return v->mode;
}

enum voice_state voice_state(const struct voice *v)
{
    return v->state;
}

bool voice_pressed(const struct voice *v)
{
    return v->pressed;
}

void voice_press(struct voice *v)
{
    if (v->pressed || v->state == VOICE_CLOSING)
        return;
    v->pressed = true;
    tell(v, "Press");
}

void voice_release(struct voice *v)
{
    if (!v->pressed)
        return;
    v->pressed = false;
    tell(v, "EndOfTurn");
}

void voice_interrupt(struct voice *v)
{
    tell(v, "Interrupt");
}

void voice_stop(struct voice *v)
{
    if (!v->stream) {
        end(v, NULL);
        return;
    }
    enter(v, VOICE_CLOSING);
    tell(v, "StopListening");
}
