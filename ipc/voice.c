/* SPDX-License-Identifier: MIT */

/*
 * Manager.Transcribe() and Manager.Speak(): speech without a conversation.
 *
 * Each call is an object that its client holds. Transcribe() and what is said on the machine's own
 * loudspeaker have a stream of lines from the beginning; sound for the client comes with the
 * answer, so that a reason why there is none is the call's error.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "ipc/bus.h"
#include "ipc/errors.h"
#include "ipc/objects.h"
#include "ipc/stream.h"
#include "ipc/vardict.h"
#include "session/task.h"

#define MODEL_ID_MAX 4096 /* bytes */
#define VOICE_MAX    100

struct voice_call {
    struct voice_call *next;
    struct client *client;
    sd_bus_message *message; /* to be answered with `fd`, or NULL */
    int fd;
    struct stream *stream; /* NULL: closed */
    struct task *task;     /* NULL: it has said its last */
};

static bool is_word(const char *word, const char *wanted)
{
    return word && strcmp(word, wanted) == 0;
}

static int check_word(const char *name, const char *word, const char *one, const char *other,
                      struct error *err)
{
    if (word && !is_word(word, one) && !is_word(word, other))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The option '%s' must be %s or %s, not '%s'.", name, one, other, word);
    return 0;
}

static int read_options(sd_bus_message *message, struct task_options *ret, struct error *err)
{
    struct arguments {
        const char *model, *voice, *priority, *output, *when;
    } arguments = {0};
    static const struct vardict_key keys[] = {
        {"model", "s", offsetof(struct arguments, model), MODEL_ID_MAX, NULL},
        {"voice", "s", offsetof(struct arguments, voice), VOICE_MAX, NULL},
        {"priority", "s", offsetof(struct arguments, priority), 32, NULL},
        {"output", "s", offsetof(struct arguments, output), 32, NULL},
        {"when", "s", offsetof(struct arguments, when), 32, NULL},
        {0},
    };
    int r = vardict_read(message, "option", keys, &arguments, err);

    if (r == 0)
        r = check_word("priority", arguments.priority, "interactive", "background", err);
    if (r == 0)
        r = check_word("output", arguments.output, "stream", "device", err);
    if (r == 0)
        r = check_word("when", arguments.when, "queue", "now", err);
    if (r < 0)
        return r;
    *ret = (struct task_options){
        .model = arguments.model,
        .voice = arguments.voice,
        .background = is_word(arguments.priority, "background"),
        .aloud = is_word(arguments.output, "device"),
        .now = is_word(arguments.when, "now"),
    };
    return 0;
}

static struct voice_call *call_new(struct bus *bus, sd_bus_message *message, struct error *err)
{
    struct client *client = client_get(bus, message, err);
    struct voice_call *call;

    if (!client)
        return NULL;
    if (client->n_voices >= CLIENT_VOICES_MAX) {
        error_set(err, ERROR_BUSY,
                  "This program has %u recordings and texts here already, at most %u are taken.",
                  client->n_voices, CLIENT_VOICES_MAX);
        return NULL;
    }
    call = calloc(1, sizeof(*call));
    if (!call) {
        client_settle(client);
        errors_message(err, -ENOMEM);
        return NULL;
    }
    call->client = client;
    call->fd = -1;
    call->next = client->voices;
    client->voices = call;
    client->n_voices++;
    return call;
}

/* The client stays until client_settle(). */
static void call_free(struct voice_call *call)
{
    struct client *client = call->client;
    struct voice_call **link = &client->voices;

    while (*link != call)
        link = &(*link)->next;
    *link = call->next;
    client->n_voices--;
    bus_touch(client->bus);
    task_abandon(call->task);
    stream_free(call->stream);
    if (call->fd >= 0)
        close(call->fd);
    sd_bus_message_unref(call->message);
    free(call);
}

static void call_end(struct voice_call *call)
{
    struct client *client = call->client;

    call_free(call);
    client_settle(client);
}

void voice_drop(struct client *client)
{
    while (client->voices)
        call_free(client->voices);
}

static void stream_hold(void *userdata, bool hold)
{
    const struct voice_call *call = userdata;

    if (call->task)
        task_hold(call->task, hold);
}

/* All is read, or nobody wants it. */
static void stream_closed(void *userdata)
{
    call_end(userdata);
}

static const struct stream_sink stream_sink = {.hold = stream_hold, .closed = stream_closed};

/* The task has ended; what is left is to be read. */
static void call_finish(struct voice_call *call)
{
    call->task = NULL;
    if (stream_end(call->stream))
        call_end(call);
}

static void line_event(void *userdata, const struct task_event *event)
{
    struct voice_call *call = userdata;

    stream_line(call->stream, event->line, event->length);
    if (event->type == TASK_DONE || event->type == TASK_ERROR)
        call_finish(call);
}

static const struct task_sink line_sink = {.event = line_event};

int voice_transcribe(struct bus *bus, sd_bus_message *message, struct error *err)
{
    struct task_options options;
    struct voice_call *call;
    _cleanup_(closep) int fd = -1;
    int recording, r = sd_bus_message_read_basic(message, 'h', &recording);

    if (r < 0)
        return errors_message(err, r);
    r = read_options(message, &options, err);
    if (r < 0)
        return r;
    call = call_new(bus, message, err);
    if (!call)
        return error_errno(err->code);
    call->stream = stream_new(bus->event, &stream_sink, call, &fd, err);
    if (call->stream)
        call->task =
            transcribe_new(bus->engine, recording, &options, &line_sink, call, err);
    if (!call->task) {
        call_end(call);
        return error_errno(err->code);
    }
    /* If the reply cannot go, the last reading end closes here and that cancels. */
    return sd_bus_reply_method_return(message, "h", fd);
}

/* The reading end goes to the client. */
static void answer(struct voice_call *call)
{
    if (!call->message)
        return;
    if (sd_bus_reply_method_return(call->message, "h", call->fd) < 0)
        log_debug("A client that wanted to hear something has left.");
    call->message = sd_bus_message_unref(call->message);
    close(call->fd);
    call->fd = -1;
}

static void speak_event(void *userdata, const struct task_event *event)
{
    struct voice_call *call = userdata;

    switch (event->type) {
    case TASK_LINE:
        break;
    case TASK_SOUND:
        answer(call);
        stream_bytes(call->stream, event->sound, event->n_samples * sizeof(*event->sound));
        break;
    case TASK_DONE:
        answer(call);
        call_finish(call);
        break;
    case TASK_ERROR:
        if (call->message)
            errors_reply(call->message, event->error);
        else
            log_warning("A text could not be spoken to its end: %s", event->error->text);
        call_finish(call);
        break;
    }
}

static const struct task_sink speak_sink = {.event = speak_event};

int voice_speak(struct bus *bus, sd_bus_message *message, struct error *err)
{
    struct task_options options;
    struct voice_call *call;
    const char *text;
    int r = sd_bus_message_read_basic(message, 's', &text);

    if (r < 0)
        return errors_message(err, r);
    r = read_options(message, &options, err);
    if (r < 0)
        return r;
    call = call_new(bus, message, err);
    if (!call)
        return error_errno(err->code);
    call->stream = stream_new(bus->event, &stream_sink, call, &call->fd, err);
    if (call->stream)
        call->task = speak_new(bus->engine, text, &options,
                               options.aloud ? &line_sink : &speak_sink, call, err);
    if (!call->task) {
        call_end(call);
        return error_errno(err->code);
    }
    call->message = sd_bus_message_ref(message);
    if (options.aloud)
        answer(call); /* lines may wait, sound may not */
    return 1;
}
