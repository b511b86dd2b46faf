/* SPDX-License-Identifier: MIT */
#include "ipc/listening.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "ipc/bus.h"
#include "ipc/errors.h"
#include "ipc/permissions.h"
#include "ipc/stream.h"
#include "ipc/vardict.h"
#include "session/captions.h"
#include "session/conversation.h"
#include "session/device_port.h"
#include "session/monitor_port.h"
#include "session/pcm_port.h"

#define SYSTEM_MAX   ((size_t)1 << 20)
#define MSEC_MAX     600000 /* of any setting of turns */
#define TURN_MAX_MAX 120000 /* of a turn: it is one clip */
#define LONG_MSEC    6000   /* of a turn that is only written down */

#define LISTENING_LINE "{\"event\":\"listening\""
#define XRUN_LINE      "{\"event\":\"xrun\""

/* What StartListening() asks for. */
struct wanted {
    struct conversation_options options; /* texts are the message's */
    bool transcribe;                     /* it is only written down, */
    bool monitor;                        /* and is what the machine plays */
};

struct listening {
    struct bus *bus;
    void *pcm;             /* of OpenAudio(), for the next StartListening(); or NULL */
    struct task *task;     /* NULL: nobody listens */
    struct stream *stream; /* NULL: closed */
    struct listening_state state;
    void (*changed)(void *userdata);
    void *userdata;

    /* StartListening() that is not answered yet */
    sd_bus_message *message; /* or NULL */
    struct session *session;
    struct wanted wanted;
    char *model;

    struct permissions_user user; /* of the machine's microphone, while the task goes on */
};

static struct listening *get(struct listening **slot, struct bus *bus, struct error *err)
{
    if (!*slot && (*slot = calloc(1, sizeof(**slot))))
        (*slot)->bus = bus;
    if (!*slot)
        errors_message(err, -ENOMEM);
    return *slot;
}

void listening_drop(struct listening **slot)
{
    struct listening *l = *slot;

    if (!l)
        return;
    if (l->pcm)
        pcm_port.free(l->pcm);
    permissions_forget(l->bus->permissions, l);
    permissions_leave(l->bus->permissions, &l->user);
    sd_bus_message_unref(l->message);
    free(l->model);
    task_abandon(l->task);
    stream_free(l->stream);
    free(l);
    *slot = NULL;
}

int listening_open_audio(struct listening **slot, struct bus *bus, sd_bus_message *message,
                         struct error *err)
{
    struct arguments {
        uint32_t rate;
    } arguments = {.rate = LISTENER_RATE_HZ};
    static const struct vardict_key keys[] = {
        {"rate", "u", offsetof(struct arguments, rate), 0, NULL},
        {0},
    };
    _cleanup_(closep) int in = -1, out = -1;
    struct listening *l;
    int r = vardict_read(message, "option", keys, &arguments, err);

    if (r < 0)
        return r;
    if (arguments.rate < PCM_RATE_MIN || arguments.rate > PCM_RATE_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The option 'rate' is %u, but must be from %d to %d.", arguments.rate,
                         PCM_RATE_MIN, PCM_RATE_MAX);
    l = get(slot, bus, err);
    if (!l)
        return -ENOMEM;
    if (l->pcm)
        pcm_port.free(l->pcm);
    l->pcm = pcm_port_new(arguments.rate, &in, &out, err);
    if (!l->pcm)
        return error_errno(err->code);
    return sd_bus_reply_method_return(message, "hh", in, out);
}

/* --- listening ------------------------------------------------------------------------------- */

static void stream_hold(void *userdata, bool hold)
{
    (void)userdata, (void)hold; /* lines are few, and sound waits for nobody */
}

/* All is read, or nobody wants to know: then nobody listens either. */
static void stream_closed(void *userdata)
{
    struct listening *l = userdata;

    l->stream = stream_free(l->stream);
    l->task = task_abandon(l->task);
    permissions_leave(l->bus->permissions, &l->user);
    if (l->state.listening) {
        l->state.listening = false;
        l->changed(l->userdata);
    }
    bus_touch(l->bus);
}

static const struct stream_sink stream_sink = {.hold = stream_hold, .closed = stream_closed};

static uint32_t number(struct json_object *line, const char *key)
{
    struct json_object *value;

    return json_object_object_get_ex(line, key, &value) ? (uint32_t)json_object_get_int64(value)
                                                        : 0;
}

/* What a line means for the properties of the session. */
static void take_state(struct listening *l, const struct task_event *event)
{
    const struct listening_state before = l->state;
    struct json_object *line, *on;

    if (event->type == TASK_DONE || event->type == TASK_ERROR) {
        l->state.listening = false;
    } else if (strncmp(event->line, LISTENING_LINE, strlen(LISTENING_LINE)) == 0 ||
               strncmp(event->line, XRUN_LINE, strlen(XRUN_LINE)) == 0) {
        line = json_tokener_parse(event->line);
        if (json_object_object_get_ex(line, "on", &on))
            l->state.listening = json_object_get_boolean(on);
        l->state.overruns += number(line, "overruns");
        l->state.underruns += number(line, "underruns");
        json_object_put(line);
    }
    if (l->state.overruns != before.overruns || l->state.underruns != before.underruns)
        log_write(LOG_NOTICE, NULL,
                  "Sound was lost: %u overruns, %u underruns since the session listens.",
                  l->state.overruns, l->state.underruns);
    if (memcmp(&before, &l->state, sizeof(before)) != 0)
        l->changed(l->userdata);
}

bool listening_is_active(const struct listening *listening)
{
    return listening && (listening->task || listening->message);
}

struct listening_state listening_state(const struct listening *listening)
{
    return listening ? listening->state : (struct listening_state){0};
}

static void task_event(void *userdata, const struct task_event *event)
{
    struct listening *l = userdata;

    take_state(l, event);
    if (l->stream && event->line)
        stream_line(l->stream, event->line, event->length);
    if (event->type != TASK_DONE && event->type != TASK_ERROR)
        return;
    l->task = NULL;
    permissions_leave(l->bus->permissions, &l->user);
    if (l->stream && stream_end(l->stream))
        l->stream = stream_free(l->stream);
    bus_touch(l->bus);
}

static const struct task_sink task_sink = {.event = task_event};

struct start_arguments {
    const char *mode, *source, *system;
    uint32_t hangover_ms, confirm_ms, max_turn_ms, max_wait_ms;
    bool levels, transcripts;
};

static int check_msec(const char *name, uint32_t msec, uint32_t max, struct error *err)
{
    if (msec > max)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The option '%s' is %u milliseconds; at most %u are taken.", name, msec,
                         max);
    return 0;
}

static int read_start(sd_bus_message *message, struct wanted *ret, struct error *err)
{
    static const struct vardict_key keys[] = {
        {"mode", "s", offsetof(struct start_arguments, mode), 32, NULL},
        {"source", "s", offsetof(struct start_arguments, source), 32, NULL},
        {"system", "s", offsetof(struct start_arguments, system), SYSTEM_MAX, NULL},
        {"hangover_ms", "u", offsetof(struct start_arguments, hangover_ms), 0, NULL},
        {"confirm_ms", "u", offsetof(struct start_arguments, confirm_ms), 0, NULL},
        {"max_turn_ms", "u", offsetof(struct start_arguments, max_turn_ms), 0, NULL},
        {"max_wait_ms", "u", offsetof(struct start_arguments, max_wait_ms), 0, NULL},
        {"levels", "b", offsetof(struct start_arguments, levels), 0, NULL},
        {"transcripts", "b", offsetof(struct start_arguments, transcripts), 0, NULL},
        {0},
    };
    struct start_arguments a = {
        .mode = "open",
        .source = "microphone",
        .hangover_ms = turns_default.hangover_msec,
        .confirm_ms = turns_default.confirm_busy_msec,
        .max_turn_ms = turns_default.turn_max_msec,
    };
    int r = vardict_read(message, "option", keys, &a, err);

    if (r == 0)
        r = check_msec("hangover_ms", a.hangover_ms, MSEC_MAX, err);
    if (r == 0)
        r = check_msec("confirm_ms", a.confirm_ms, MSEC_MAX, err);
    if (r == 0)
        r = check_msec("max_turn_ms", a.max_turn_ms, TURN_MAX_MAX, err);
    if (r == 0)
        r = check_msec("max_wait_ms", a.max_wait_ms, MSEC_MAX, err);
    if (r < 0)
        return r;
    *ret = (struct wanted){.options = {.system = a.system, .turns = turns_default}};
    ret->options.turns.hangover_msec = MAX(a.hangover_ms, turns_default.pause_msec);
    ret->options.turns.confirm_busy_msec = a.confirm_ms;
    ret->options.turns.turn_max_msec = MAX(a.max_turn_ms, 1000u);
    ret->options.turns.wait_max_msec = a.max_wait_ms;
    ret->options.turns.push_to_talk = strcmp(a.mode, "push") == 0;
    ret->options.levels = a.levels;
    ret->options.transcripts = a.transcripts;
    ret->options.half_duplex = strcmp(a.mode, "half-duplex") == 0;
    ret->transcribe = strcmp(a.mode, "transcribe") == 0;
    ret->monitor = strcmp(a.source, "monitor") == 0;
    if (ret->transcribe)
        ret->options.turns.turn_long_msec = LONG_MSEC;
    if (!ret->options.turns.push_to_talk && !ret->options.half_duplex && !ret->transcribe &&
        strcmp(a.mode, "open") != 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The option 'mode' must be open, half-duplex, push or transcribe, "
                         "not '%s'.",
                         a.mode);
    if (!ret->monitor && strcmp(a.source, "microphone") != 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The option 'source' must be microphone or monitor, not '%s'.", a.source);
    if (ret->monitor && !ret->transcribe)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The source 'monitor' is for the mode 'transcribe'.");
    return 0;
}

static const struct voice_port *port_of(const struct listening *l)
{
    return l->pcm ? &pcm_port : l->wanted.monitor ? &monitor_port : &device_port;
}

/* What the port hears and says. */
static void *ends_of(struct listening *l, struct error *err)
{
    if (l->pcm)
        return TAKE_PTR(l->pcm);
    return l->wanted.monitor ? monitor_port_new(err) : device_port_new(l->bus->engine, err);
}

static struct task *task_of(struct listening *l, const struct voice_port *port, void *ends,
                            struct error *err)
{
    const struct conversation_options *options = &l->wanted.options;
    const struct captions_options captions = {
        .model = options->model, .turns = options->turns, .levels = options->levels};

    if (l->wanted.transcribe)
        return captions_new(l->bus->engine, &captions, port, ends, &task_sink, l, err);
    return conversation_new(l->session, options, port, ends, &task_sink, l, err);
}

/* The user has changed their mind. */
static void denied(void *userdata)
{
    struct listening *l = userdata;
    struct json_object *line = json_object_new_object();
    struct timespec now;
    const char *text;
    size_t length;

    l->task = task_abandon(l->task);
    clock_gettime(CLOCK_MONOTONIC, &now);
    json_object_object_add(line, "event", json_object_new_string("error"));
    json_object_object_add(line, "usec", json_object_new_int64((int64_t)now.tv_sec * 1000000 +
                                                               now.tv_nsec / 1000));
    json_object_object_add(line, "name", json_object_new_string("NotAllowed"));
    json_object_object_add(line, "message",
                           json_object_new_string("The microphone was denied to this program."));
    text = json_object_to_json_string_length(line, JSON_C_TO_STRING_PLAIN, &length);
    if (l->stream && text)
        stream_line(l->stream, text, length);
    json_object_put(line);
    if (l->stream && stream_end(l->stream))
        l->stream = stream_free(l->stream);
    if (l->state.listening) {
        l->state.listening = false;
        l->changed(l->userdata);
    }
    bus_touch(l->bus);
}

/* Answer StartListening(). */
static int begin(struct listening *l, struct error *err)
{
    const struct voice_port *port = port_of(l);
    _cleanup_(closep) int fd = -1;
    void *ends;

    l->stream = stream_free(l->stream); /* what was not read of the last time */
    l->stream = stream_new(l->bus->event, &stream_sink, l, &fd, err);
    if (!l->stream)
        return error_errno(err->code);
    ends = ends_of(l, err);
    if (ends)
        l->task = task_of(l, port, ends, err);
    if (!l->task) {
        l->stream = stream_free(l->stream);
        return error_errno(err->code);
    }
    if (port != &pcm_port) {
        l->user.denied = denied;
        l->user.userdata = l;
        permissions_use(l->bus->permissions, &l->user);
    }
    bus_touch(l->bus);
    return sd_bus_reply_method_return(l->message, "h", fd);
}

static void forget_call(struct listening *l)
{
    l->message = sd_bus_message_unref(l->message);
    free(l->model);
    l->model = NULL;
}

static int refused(sd_bus_message *message, struct error *err)
{
    char app[PERMISSIONS_APP_MAX];
    int r = permissions_app(message, app, err);

    return r < 0 ? r
                 : error_set(err, ERROR_NOT_ALLOWED,
                             "%.200s may not use the microphone. \"lfmctl permissions allow "
                             "%.200s\" allows it.",
                             app, app);
}

static void decided(void *userdata, enum permission permission)
{
    struct listening *l = userdata;
    struct error err = ERROR_INIT;

    if ((permission == PERMISSION_ALLOWED ? begin(l, &err) : refused(l->message, &err)) < 0)
        errors_reply(l->message, &err);
    forget_call(l);
}

/* Whether the caller may use the microphone: 1: yes, 0: the user is being asked, or an error. */
static int may_listen(struct listening *l, struct error *err)
{
    struct permissions *permissions = l->bus->permissions;
    const char *app = l->user.app;
    int r = permissions_app(l->message, l->user.app, err);

    if (r < 0)
        return r;
    switch (permissions_microphone(permissions, app)) {
    case PERMISSION_ALLOWED:
        return 1;
    case PERMISSION_DENIED:
        return refused(l->message, err);
    case PERMISSION_UNDECIDED:
        break;
    }
    return permissions_ask(permissions, app, decided, l, err);
}

int listening_start(struct listening **slot, struct bus *bus, struct session *session,
                    const struct model *model,
                    void (*changed)(void *userdata), void *userdata, sd_bus_message *message,
                    struct error *err)
{
    struct wanted wanted;
    struct listening *l;
    int r = read_start(message, &wanted, err);

    if (r < 0)
        return r;
    l = get(slot, bus, err);
    if (!l)
        return -ENOMEM;
    if (l->task || l->message)
        return error_set(err, ERROR_BUSY, "This session listens already.");
    if (model && model->hears && (model->speaks || wanted.transcribe) &&
        !(l->model = strdup(model->id)))
        return errors_message(err, -ENOMEM);
    l->message = sd_bus_message_ref(message);
    l->session = session;
    l->changed = changed;
    l->userdata = userdata;
    l->wanted = wanted;
    l->wanted.options.model = l->model;
    r = l->pcm ? 1 : may_listen(l, err);
    if (r == 0)
        return 1;
    if (r > 0)
        r = begin(l, err);
    forget_call(l);
    return r;
}

int listening_command(struct listening **slot, enum listening_command command, struct error *err)
{
    struct task *task = *slot ? (*slot)->task : NULL;

    if (!task)
        return error_set(err, ERROR_INVALID_ARGUMENT, "This session does not listen.");
    switch (command) {
    case LISTENING_STOP:
        task_stop(task);
        break;
    case LISTENING_PRESS:
        ear_press(task);
        break;
    case LISTENING_END_TURN:
        ear_end_turn(task);
        break;
    case LISTENING_INTERRUPT:
        task_silence(task);
        break;
    }
    return 0;
}
