/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "clients/bus.h"
#include "clients/wyoming/assistant.h"
#include "clients/wyoming/intents.h"
#include "clients/sentence.h"
#include "clients/wyoming/server.h"
#include "clients/wyoming/services.h"

#define ANSWER_MAX ((size_t)1 << 20)

/* A session that is being opened; the answer outlives the peer that wanted it. */
struct opening {
    struct handling *handling; /* NULL: nobody wants it any more */
    sd_bus *bus;
};

/* A sentence that is being answered. */
struct handling {
    struct peer *peer;
    char *text, *id;             /* of the conversation, "" for none */
    struct json_object *context; /* as it came, or NULL */
    bool recognize;              /* an intent is asked for, nothing else */
    struct opening *opening;
    struct conversation *conversation;
    struct call *call;
    char *answer; /* so far */
    size_t n, size;
    bool streamed;               /* handled-start is sent */
    bool opened;                 /* the session was made for this sentence */
    struct json_object *intents; /* an array: what the model called */
    struct json_object *last;    /* line */
};

void handle_free(struct peer *peer)
{
    struct handling *h = peer->handling;

    if (!h)
        return;
    if (h->opening)
        h->opening->handling = NULL;
    call_free(h->call);
    if (h->conversation)
        conversations_release(&peer->server->conversations, h->conversation, true);
    json_object_put(h->context);
    json_object_put(h->intents);
    json_object_put(h->last);
    free(h->answer);
    free(h->text);
    free(h->id);
    free(h);
    peer->handling = NULL;
}

static void fail(struct handling *h, const struct error *error)
{
    struct peer *peer = h->peer;

    peer_error(peer, error);
    handle_free(peer);
    peer_done(peer);
}

/* --- answers -------------------------------------------------------------------------------- */

/* text NULL: none */
static struct json_object *answer_data(const struct handling *h, const char *text)
{
    struct json_object *data = json_object_new_object();

    if (text && *text)
        json_object_object_add(data, "text", json_object_new_string(text));
    if (h->context)
        json_object_object_add(data, "context", json_object_get(h->context));
    return data;
}

static void send_intents(struct handling *h)
{
    const size_t n = json_object_array_length(h->intents);

    if (n > 1)
        peer_send(h->peer, "intents-start", answer_data(h, NULL));
    for (size_t i = 0; i < n; i++) {
        struct json_object *data = answer_data(h, h->answer);

        json_object_object_foreach(json_object_array_get_idx(h->intents, i), key, value)
        {
            json_object_object_add(data, key, json_object_get(value));
        }
        peer_send(h->peer, "intent", data);
    }
    if (n > 1)
        peer_send(h->peer, "intents-stop", answer_data(h, NULL));
}

static void send_answer(struct handling *h)
{
    const bool has_words = h->n > 0;

    if (h->intents)
        send_intents(h);
    else if (h->recognize)
        peer_send(h->peer, "not-recognized", answer_data(h, h->answer));
    else
        peer_send(h->peer, has_words ? "handled" : "not-handled", answer_data(h, h->answer));
    if (h->streamed)
        peer_send(h->peer, "handled-stop", NULL);
}

/* Where intents may come, what is said before them is no answer yet. */
static bool is_streaming(const struct handling *h)
{
    return !h->recognize && !h->peer->server->options->intents;
}

static void add_text(struct handling *h, const char *text)
{
    const size_t n = strlen(text);

    if (h->n + n + 1 > h->size) {
        const size_t size = MAX(2 * h->size, h->n + n + 1);
        char *answer = size <= ANSWER_MAX ? realloc(h->answer, size) : NULL;

        if (!answer)
            return; /* it is cut */
        h->answer = answer;
        h->size = size;
    }
    memcpy(h->answer + h->n, text, n + 1);
    h->n += n;
    if (!is_streaming(h))
        return;
    if (!h->streamed)
        peer_send(h->peer, "handled-start", answer_data(h, NULL));
    h->streamed = true;
    peer_send(h->peer, "handled-chunk", answer_data(&(struct handling){0}, text));
}

/* A call that the model makes; one of something that it was not offered is nothing. */
static void add_intent(struct handling *h, struct json_object *call)
{
    struct json_object *intent =
        intents_translate(h->peer->server->options->intents, bus_text(call, "name"),
                          json_object_object_get(call, "arguments"));

    if (!intent)
        return;
    if (!h->intents)
        h->intents = json_object_new_array();
    json_object_array_add(h->intents, intent);
}

static void on_line(void *userdata, struct json_object *event)
{
    struct handling *h = userdata;
    const char *type = bus_text(event, "event");

    if (strcmp(type, "text") == 0) {
        add_text(h, bus_text(event, "text"));
    } else if (strcmp(type, "tool_call") == 0) {
        add_intent(h, event);
    } else if (strcmp(type, "done") == 0 || strcmp(type, "error") == 0) {
        json_object_put(h->last);
        h->last = json_object_get(event);
    }
}

static int open_session(struct handling *h, struct error *err);

static void on_end(void *userdata, const struct error *error)
{
    struct handling *h = userdata;
    struct peer *peer = h->peer;
    struct error err = ERROR_INIT;

    h->call = call_free(h->call);
    /*
     * A daemon that was started anew knows nothing of what was said; the sentence is asked all the
     * same.
     */
    if (error && !h->opened) {
        conversations_release(&peer->server->conversations, h->conversation, false);
        h->conversation = NULL;
        if (open_session(h, &err) == 0)
            return;
    } else if (error) {
        err = *error;
    } else {
        assistant_last(h->last, "The answer has not come to its end.", &err);
    }
    if (err.code != ERROR_NONE) {
        fail(h, &err);
        return;
    }
    send_answer(h);
    handle_free(peer);
    peer_done(peer);
}

/* --- questions ------------------------------------------------------------------------------ */

static int ask(struct handling *h, struct error *err)
{
    static const struct call_sink sink = {.line = on_line, .ended = on_end};
    _cleanup_(bus_messagep) sd_bus_message *message = NULL;
    sd_bus *bus = h->peer->server->bus;
    int r = sd_bus_message_new_method_call(bus, &message, BUS_NAME, h->conversation->path,
                                           BUS_SESSION, "Ask");

    if (r >= 0)
        r = sd_bus_message_append(message, "aa{sv}a{sv}", 1, 2, "type", "s", "text", "text", "s",
                                  h->text, 0);
    if (r < 0) {
        assistant_error(NULL, r, err);
        return r;
    }
    h->call = call_new(bus, message, &sink, h, err);
    return h->call ? 0 : error_errno(err->code);
}

static int on_opened(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    struct opening *opening = userdata;
    struct handling *h = opening->handling;
    const sd_bus_error *error = sd_bus_message_get_error(reply);
    struct error err = ERROR_INIT;
    const char *path = NULL;
    int r = error ? -sd_bus_error_get_errno(error) : sd_bus_message_read(reply, "o", &path);

    (void)ret_error;
    opening->handling = NULL;
    if (!h) {
        if (path)
            sd_bus_call_method_async(opening->bus, NULL, BUS_NAME, path, BUS_SESSION, "Close", NULL,
                                     NULL, NULL);
        return 0;
    }
    h->opening = NULL;
    if (r < 0) {
        assistant_error(error, r, &err);
    } else {
        h->conversation = conversations_add(&h->peer->server->conversations, h->id, path);
        if (!h->conversation)
            error_set(&err, ERROR_BUSY, "There are too many conversations at a time.");
        else
            ask(h, &err);
    }
    if (err.code != ERROR_NONE)
        fail(h, &err);
    return 0;
}

static int append_options(sd_bus_message *message, const struct server_options *options)
{
    int r = sd_bus_message_open_container(message, 'a', "{sv}");

    if (r >= 0 && options->model)
        r = bus_option(message, "model", "s", options->model);
    if (r >= 0 && options->system)
        r = bus_option(message, "system", "s", options->system);
    if (r >= 0 && options->intents)
        r = bus_option(message, "tools", "s", intents_tools(options->intents));
    return r < 0 ? r : sd_bus_message_close_container(message);
}

static int open_session(struct handling *h, struct error *err)
{
    _cleanup_(bus_messagep) sd_bus_message *message = NULL;
    sd_bus *bus = h->peer->server->bus;
    struct opening *opening = calloc(1, sizeof(*opening));
    sd_bus_slot *slot = NULL;
    int r = opening ? assistant_method(bus, "CreateSession", &message, err)
                    : error_set(err, ERROR_NO_MEMORY, "There is not enough memory.");

    if (r >= 0)
        r = append_options(message, h->peer->server->options);
    if (r >= 0)
        r = sd_bus_call_async(bus, &slot, message, on_opened, opening, BUS_CALL_USEC);
    if (r < 0) {
        assistant_error(NULL, r, err); /* unless there is another */
        free(opening);
        return r;
    }
    *opening = (struct opening){.handling = h, .bus = bus};
    h->opening = opening;
    h->opened = true;
    sd_bus_slot_set_destroy_callback(slot, free);
    sd_bus_slot_set_floating(slot, true);
    sd_bus_slot_unref(slot);
    return 0;
}

static int read_id(struct handling *h, struct json_object *data, struct error *err)
{
    struct json_object *context = json_object_object_get(data, "context");
    const char *id;

    if (json_object_is_type(context, json_type_object))
        h->context = json_object_get(context);
    id = h->context ? peer_text(h->context, "conversation_id") : NULL;
    if (id && strlen(id) > CONVERSATION_ID_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The name of a conversation has at most %d bytes.", CONVERSATION_ID_MAX);
    h->id = strdup(id ? id : "");
    return h->id ? 0 : error_set(err, ERROR_NO_MEMORY, "There is not enough memory.");
}

static int begin(struct peer *peer, struct json_object *data, bool recognize, struct error *err)
{
    const char *text = peer_text(data, "text");
    struct handling *h;
    int r;

    if (!text)
        return error_set(err, ERROR_INVALID_ARGUMENT, "There is no 'text' to be answered.");
    h = peer->handling = calloc(1, sizeof(*h));
    if (!h || !(h->text = strdup(text)))
        return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a question.");
    h->peer = peer;
    h->recognize = recognize;
    r = read_id(h, data, err);
    if (r < 0)
        return r;
    if (!sentence_has_words(text, strlen(text)) || (recognize && !peer->server->options->intents)) {
        send_answer(h); /* that there is none */
        handle_free(peer);
        return 0;
    }
    h->conversation = conversations_find(&peer->server->conversations, h->id);
    if (h->conversation && h->conversation->busy) {
        h->conversation = NULL;
        return error_set(err, ERROR_BUSY, "This conversation waits for an answer already.");
    }
    if (h->conversation)
        h->conversation->busy = true;
    r = h->conversation ? ask(h, err) : open_session(h, err);
    if (r == 0)
        peer_work(peer);
    return r;
}

int handle_transcript(struct peer *peer, struct json_object *data, struct error *err)
{
    return begin(peer, data, false, err);
}

int handle_recognize(struct peer *peer, struct json_object *data, struct error *err)
{
    return begin(peer, data, true, err);
}
