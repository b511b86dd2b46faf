/* SPDX-License-Identifier: MIT */

/*
 * Manager.Transcribe() and Manager.Speak(), and Speech.Provider's Synthesize(): speech without a
 * conversation.
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
#include "ipc/call.h"
#include "ipc/errors.h"
#include "ipc/objects.h"
#include "ipc/vardict.h"
#include "session/script.h"
#include "session/task.h"

#define MODEL_ID_MAX 4096 /* bytes */
#define VOICE_MAX    100

struct voice_call {
    struct call common;
    int fd;            /* that it is to be answered with, or -1 */
    struct task *task; /* NULL: it has said its last */
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

static int check_factor(const char *name, double value, float low, float high, struct error *err)
{
    if (value >= (double)low && value <= (double)high)
        return 0;
    return error_set(err, ERROR_INVALID_ARGUMENT, "The option '%s' must be %.1f to %.1f, not %g.",
                     name, (double)low, (double)high, value);
}

static int read_options(sd_bus_message *message, struct task_options *ret, struct error *err)
{
    struct arguments {
        const char *model, *voice, *priority, *output, *when;
        bool ssml;
        double rate, pitch, volume;
    } arguments = {.rate = 1, .pitch = 1, .volume = 1};
    static const struct vardict_key keys[] = {
        {"model", "s", offsetof(struct arguments, model), MODEL_ID_MAX, NULL},
        {"voice", "s", offsetof(struct arguments, voice), VOICE_MAX, NULL},
        {"priority", "s", offsetof(struct arguments, priority), 32, NULL},
        {"output", "s", offsetof(struct arguments, output), 32, NULL},
        {"when", "s", offsetof(struct arguments, when), 32, NULL},
        {"ssml", "b", offsetof(struct arguments, ssml), 0, NULL},
        {"rate", "d", offsetof(struct arguments, rate), 0, NULL},
        {"pitch", "d", offsetof(struct arguments, pitch), 0, NULL},
        {"volume", "d", offsetof(struct arguments, volume), 0, NULL},
        {0},
    };
    int r = vardict_read(message, "option", keys, &arguments, err);

    if (r == 0)
        r = check_word("priority", arguments.priority, "interactive", "background", err);
    if (r == 0)
        r = check_word("output", arguments.output, "stream", "device", err);
    if (r == 0)
        r = check_word("when", arguments.when, "queue", "now", err);
    if (r == 0)
        r = check_factor("rate", arguments.rate, SCRIPT_RATE_MIN, SCRIPT_RATE_MAX, err);
    if (r == 0)
        r = check_factor("pitch", arguments.pitch, SCRIPT_PITCH_MIN, SCRIPT_PITCH_MAX, err);
    if (r == 0)
        r = check_factor("volume", arguments.volume, 0, SCRIPT_VOLUME_MAX, err);
    if (r < 0)
        return r;
    *ret = (struct task_options){
        .model = arguments.model,
        .voice = arguments.voice,
        .background = is_word(arguments.priority, "background"),
        .aloud = is_word(arguments.output, "device"),
        .now = is_word(arguments.when, "now"),
        .ssml = arguments.ssml,
        .rate = (float)arguments.rate,
        .pitch = (float)arguments.pitch,
        .volume = (float)arguments.volume,
    };
    return 0;
}

static void abandon(struct call *base)
{
    struct voice_call *call = (struct voice_call *)base;

    task_abandon(call->task);
    if (call->fd >= 0)
        close(call->fd);
}

static const struct call_kind kind = {
    .max = CLIENT_VOICES_MAX, .verb = "has", .object = "recordings and texts here",
    .abandon = abandon};

static struct voice_call *voice_call_new(struct bus *bus, sd_bus_message *message,
                                         struct error *err)
{
    struct voice_call *call =
        (struct voice_call *)call_new(bus, message, &kind, sizeof(struct voice_call), err);

    if (call)
        call->fd = -1;
    return call;
}

static void stream_hold(void *userdata, bool hold)
{
    const struct voice_call *call = userdata;

    if (call->task)
        task_hold(call->task, hold);
}

static const struct stream_sink stream_sink = {.hold = stream_hold, .closed = call_end};

/* The task has ended; what is left is to be read. */
static void finish(struct voice_call *call)
{
    call->task = NULL;
    call_finish(&call->common);
}

static void line_event(void *userdata, const struct task_event *event)
{
    struct voice_call *call = userdata;

    if (event->type != TASK_MARK)
        stream_line(call->common.stream, event->line, event->length);
    if (event->type == TASK_DONE || event->type == TASK_ERROR)
        finish(call);
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
    call = voice_call_new(bus, message, err);
    if (!call)
        return error_errno(err->code);
    call->common.stream = stream_new(bus->event, &stream_sink, call, &fd, err);
    if (call->common.stream)
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
    if (!call->common.message)
        return;
    if (sd_bus_reply_method_return(call->common.message, "h", call->fd) < 0)
        log_debug("A client that wanted to hear something has left.");
    call->common.message = sd_bus_message_unref(call->common.message);
    close(call->fd);
    call->fd = -1;
}

static void speak_event(void *userdata, const struct task_event *event)
{
    struct voice_call *call = userdata;

    switch (event->type) {
    case TASK_LINE:
    case TASK_MARK:
        break;
    case TASK_SOUND:
        answer(call);
        stream_bytes(call->common.stream, event->sound, event->n_samples * sizeof(*event->sound));
        break;
    case TASK_DONE:
        answer(call);
        finish(call);
        break;
    case TASK_ERROR:
        if (call->common.message)
            errors_reply(call->common.message, event->error);
        else
            log_warning("A text could not be spoken to its end: %s", event->error->text);
        finish(call);
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
    call = voice_call_new(bus, message, err);
    if (!call)
        return error_errno(err->code);
    call->common.stream = stream_new(bus->event, &stream_sink, call, &call->fd, err);
    if (call->common.stream)
        call->task = speak_new(bus->engine, text, &options,
                               options.aloud ? &line_sink : &speak_sink, call, err);
    if (!call->task) {
        call_end(call);
        return error_errno(err->code);
    }
    call->common.message = sd_bus_message_ref(message);
    if (options.aloud)
        answer(call); /* lines may wait, sound may not */
    return 1;
}

/* --- packets of a speech provider (audio/x-spiel) --------------------------------------------- */

#define AUDIO_BYTES_MAX (STREAM_PACKET_MAX - sizeof(struct audio_head) - 1)

enum packet_type { PACKET_AUDIO = 1, PACKET_EVENT = 2 };
enum packet_event { PACKET_MARK = 4 };

struct audio_head {
    uint8_t type;
    uint32_t n_bytes;
} __attribute__((packed));

struct event_head {
    uint8_t type, event;
    uint32_t range_start, range_end, mark_length;
} __attribute__((packed));

static void send_packet(struct voice_call *call, const void *head, size_t n_head,
                        const void *bytes, size_t n)
{
    char packet[STREAM_PACKET_MAX];

    memcpy(packet, head, n_head);
    memcpy(packet + n_head, bytes, n);
    stream_packet(call->common.stream, packet, n_head + n);
}

static void send_audio(struct voice_call *call, const int16_t *sound, size_t n_samples)
{
    while (n_samples > 0) {
        const size_t n = MIN(n_samples, AUDIO_BYTES_MAX / sizeof(*sound));
        const struct audio_head head = {PACKET_AUDIO, (uint32_t)(n * sizeof(*sound))};

        send_packet(call, &head, sizeof(head), sound, n * sizeof(*sound));
        sound += n;
        n_samples -= n;
    }
}

/* Its readers take the length of a name for its characters: what is not ASCII is told as "?". */
static void send_mark(struct voice_call *call, const char *name, size_t length)
{
    struct event_head head = {PACKET_EVENT, PACKET_MARK, 0, 0, 0};
    char plain[256];
    size_t n = 0;

    for (size_t i = 0; i < length && n < sizeof(plain); i++)
        if (((unsigned char)name[i] & 0xc0) != 0x80)
            plain[n++] = (unsigned char)name[i] < 0x80 ? name[i] : '?';
    head.mark_length = (uint32_t)n;
    send_packet(call, &head, sizeof(head), plain, n);
}

static void packet_event(void *userdata, const struct task_event *event)
{
    struct voice_call *call = userdata;

    switch (event->type) {
    case TASK_LINE:
        break;
    case TASK_SOUND:
        send_audio(call, event->sound, event->n_samples);
        break;
    case TASK_MARK:
        send_mark(call, event->line, event->length);
        break;
    case TASK_ERROR:
        log_warning("A text could not be spoken to its end: %s", event->error->text);
        finish(call);
        break;
    case TASK_DONE:
        finish(call);
        break;
    }
}

static const struct task_sink packet_sink = {.event = packet_event};

int voice_synthesize(struct bus *bus, sd_bus_message *message, int fd, const char *text,
                     const struct task_options *options, struct error *err)
{
    struct voice_call *call = voice_call_new(bus, message, err);

    if (!call)
        return error_errno(err->code);
    call->common.stream = stream_new_on(bus->event, fd, &stream_sink, call, err);
    if (call->common.stream)
        call->task = speak_new(bus->engine, text, options, &packet_sink, call, err);
    if (!call->task) {
        call_end(call);
        return error_errno(err->code);
    }
    stream_packet(call->common.stream, "0.01", 4);
    return 0;
}
