/* SPDX-License-Identifier: MIT */

/*
 * org.lfmd.Assistant1.Session: a conversation, /org/lfmd/Assistant1/sessions/ID.
 *
 * Only the client that made or opened it may call it: find_object(), which every call to a path
 * below /sessions passes, refuses all others. Each Ask() has a turn with the writing end of a pipe;
 * the session's events go there as they are.
 */

#include <errno.h>
#include <json-c/json.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "ipc/bus.h"
#include "ipc/errors.h"
#include "ipc/listening.h"
#include "ipc/objects.h"
#include "ipc/stream.h"
#include "ipc/vardict.h"
#include "session/session.h"

#define PREFIX         BUS_PATH "/sessions"
#define ASK_PARTS_MAX  256
#define ASK_STOP_MAX   16
#define ASK_ID_MAX     256
#define ASK_FORMAT_MAX ((size_t)1 << 20)

struct session_object {
    struct session_object *next;
    struct bus *bus;
    struct client *owner;
    struct session *session;
    char *path;
    struct listening *listening; /* or NULL */

    enum session_state told_state; /* in the last PropertiesChanged */
    size_t told_used;
};

/* One Ask(): lives until it is finished and its stream is read. */
struct turn {
    struct turn *next;
    struct client *client;
    struct session_object *object; /* NULL: closed */
    struct stream *stream;         /* NULL: closed */
    uint32_t id;
    size_t n_bytes;
    unsigned n_images;
    bool finished; /* DONE or ERROR has been said */
};

static const sd_bus_vtable *interface_vtable(void);

/* turns */

static struct turn *turn_new(struct client *client, struct session_object *object, size_t n_bytes,
                             unsigned n_images)
{
    struct turn *turn = calloc(1, sizeof(*turn));

    if (!turn)
        return NULL;
    turn->client = client;
    turn->object = object;
    turn->n_bytes = n_bytes;
    turn->n_images = n_images;
    turn->next = client->turns;
    client->turns = turn;
    client->n_turns++;
    client->n_bytes += n_bytes;
    client->n_images += n_images;
    client->bus->n_turns++;
    return turn;
}

static struct turn *turn_free(struct turn *turn)
{
    struct client *client = turn->client;
    struct turn **link = &client->turns;

    while (*link != turn)
        link = &(*link)->next;
    *link = turn->next;
    client->n_turns--;
    client->n_bytes -= turn->n_bytes;
    client->n_images -= turn->n_images;
    client->bus->n_turns--;
    bus_touch(client->bus);
    stream_free(turn->stream);
    free(turn);
    return NULL;
}

/* The turn has nothing more to say. The client stays until client_settle(). */
static void turn_finish(struct turn *turn)
{
    turn->finished = true;
    if (turn->stream && stream_end(turn->stream))
        turn->stream = stream_free(turn->stream);
    if (!turn->stream)
        turn_free(turn);
}

/* The last line of a turn that the session will say nothing more about. */
static void turn_break(struct turn *turn, const char *reason)
{
    turn->object = NULL;
    if (!turn->finished && turn->stream) {
        json_object *event = json_object_new_object();
        const char *line;

        json_object_object_add(event, "event", json_object_new_string("error"));
        json_object_object_add(event, "turn", json_object_new_int64(turn->id));
        json_object_object_add(event, "name", json_object_new_string("Cancelled"));
        json_object_object_add(event, "message", json_object_new_string(reason));
        line = json_object_to_json_string_ext(event, JSON_C_TO_STRING_PLAIN);
        if (line)
            stream_line(turn->stream, line, strlen(line));
        json_object_put(event);
    }
    turn_finish(turn);
}

static void turn_hold(void *userdata, bool hold)
{
    struct turn *turn = userdata;

    if (turn->object && !turn->finished)
        session_hold(turn->object->session, turn->id, hold);
}

/* All is read, or the client has closed its end: then the turn is not wanted. */
static void turn_closed(void *userdata)
{
    struct turn *turn = userdata;
    struct client *client = turn->client;

    turn->stream = stream_free(turn->stream);
    if (turn->finished) {
        turn_free(turn);
        client_settle(client);
    } else {
        /* Its DONE comes as an event and finishes the turn. */
        session_cancel(turn->object->session, turn->id, NULL);
    }
}

static const struct stream_sink turn_sink = {.hold = turn_hold, .closed = turn_closed};

/* what the session says */

/* a{sv} of the numbers in "usage" and of "dropped_turns" of the event's line. */
static int append_stats(sd_bus_message *signal, const struct turn_event *event)
{
    json_object *line = NULL, *usage = NULL, *dropped = NULL;
    int r = sd_bus_message_open_container(signal, 'a', "{sv}");

    if (r >= 0 && event->type == TURN_DONE)
        line = json_tokener_parse(event->line);
    if (json_object_object_get_ex(line, "usage", &usage) &&
        json_object_is_type(usage, json_type_object)) {
        json_object_object_foreach(usage, name, value)
        {
            if (r >= 0 && json_object_is_type(value, json_type_int))
                r = sd_bus_message_append(signal, "{sv}", name, "t", json_object_get_uint64(value));
        }
    }
    if (r >= 0 && json_object_object_get_ex(line, "dropped_turns", &dropped))
        r = sd_bus_message_append(signal, "{sv}", "dropped_turns", "t",
                                  json_object_get_uint64(dropped));
    json_object_put(line);
    return r < 0 ? r : sd_bus_message_close_container(signal);
}

/* TurnStarted or TurnFinished, to the owner alone. */
static void tell_turn(struct session_object *object, const struct turn_event *event)
{
    const char *member = event->type == TURN_START ? "TurnStarted" : "TurnFinished";
    sd_bus_message *signal = NULL;
    int r = sd_bus_message_new_signal(object->bus->connection, &signal, object->path, BUS_SESSION,
                                      member);

    if (r >= 0)
        r = sd_bus_message_append_basic(signal, 'u', &event->turn);
    if (r >= 0 && event->type != TURN_START) {
        r = sd_bus_message_append_basic(signal, 's', event->reason);
        if (r >= 0)
            r = append_stats(signal, event);
    }
    if (r >= 0)
        r = sd_bus_message_set_destination(signal, object->owner->name);
    if (r >= 0)
        r = sd_bus_send(object->bus->connection, signal, NULL);
    if (r < 0)
        log_debug("The signal %s was not sent: %s.", member, strerror(-r));
    sd_bus_message_unref(signal);
}

static void session_event(void *userdata, const struct turn_event *event)
{
    struct session_object *object = userdata;
    bool last = event->type == TURN_DONE || event->type == TURN_ERROR;
    struct turn *turn = object->owner->turns;

    while (turn && (turn->object != object || turn->id != event->turn || turn->finished))
        turn = turn->next;
    if (!turn)
        return;
    if (turn->stream)
        stream_line(turn->stream, event->line, event->length);
    if (last || event->type == TURN_START)
        tell_turn(object, event);
    if (last)
        turn_finish(turn); /* the client still has this session, so it is not settled */
}

/* The state as it changes, and with it the context; not the context after every token. */
static void session_changed(void *userdata)
{
    struct session_object *object = userdata;
    enum session_state state = session_state(object->session);
    size_t used = session_context_used(object->session);

    if (state == object->told_state && (state != SESSION_IDLE || used == object->told_used))
        return;
    object->told_state = state;
    object->told_used = used;
    objects_tell_changed(object->bus, object->owner->name, object->path, BUS_SESSION,
                         interface_vtable(), object);
}

static const struct session_sink session_sink = {
    .event = session_event,
    .changed = session_changed,
};

/* objects */

static int check_count(const struct client *client, struct error *err)
{
    if (client->n_sessions < CLIENT_SESSIONS_MAX)
        return 0;
    return error_set(err, ERROR_BUSY,
                     "This program has %u sessions open, at most %u are allowed; close one.",
                     client->n_sessions, CLIENT_SESSIONS_MAX);
}

int session_object_new(struct client *client, const struct session_options *options, const char *id,
                       struct session_object **ret, struct error *err)
{
    struct bus *bus = client->bus;
    struct session_object *object;
    int r;

    r = check_count(client, err);
    if (r < 0)
        return r;
    object = calloc(1, sizeof(*object));
    if (!object)
        return errors_message(err, -ENOMEM);
    object->bus = bus;
    object->owner = client;
    object->session = id ? session_open(bus->engine, id, &session_sink, object, err)
                         : session_new(bus->engine, options, &session_sink, object, err);
    if (!object->session) {
        free(object);
        return err->code ? error_errno(err->code) : errors_message(err, -ENOMEM);
    }
    r = sd_bus_path_encode(PREFIX, session_id(object->session), &object->path);
    if (r < 0) {
        session_close(object->session, false);
        free(object);
        return errors_message(err, r);
    }
    object->told_state = session_state(object->session);
    object->told_used = session_context_used(object->session);
    object->next = bus->sessions;
    bus->sessions = object;
    client->n_sessions++;
    objects_tell_added(bus, client->name, object->path, BUS_SESSION, interface_vtable(), object);
    log_write(LOG_INFO, &(struct log_fields){.session = session_id(object->session)},
              "A session was %s.", id ? "opened again" : "made");
    *ret = object;
    return 0;
}

int session_object_move(struct session_object *object, struct client *client, struct error *err)
{
    struct client *owner = object->owner;
    int r = check_count(client, err);

    if (r < 0)
        return r;
    if (session_state(object->session) != SESSION_IDLE)
        return error_set(err, ERROR_BUSY,
                         "The session %s is answering another program; try again when it is done.",
                         session_id(object->session));
    if (listening_is_active(object->listening))
        return error_set(err, ERROR_BUSY,
                         "The session %s listens for another program; try again when it is done.",
                         session_id(object->session));
    listening_drop(&object->listening); /* the ends that it may have opened are the owner's */
    /* All its turns are finished; what is unread of them stays with who asked. */
    for (struct turn *turn = owner->turns; turn; turn = turn->next)
        if (turn->object == object)
            turn->object = NULL;
    objects_tell_removed(object->bus, owner->name, object->path, BUS_SESSION);
    owner->n_sessions--;
    client->n_sessions++;
    object->owner = client;
    objects_tell_added(object->bus, client->name, object->path, BUS_SESSION, interface_vtable(),
                       object);
    log_write(LOG_INFO, &(struct log_fields){.session = session_id(object->session)},
              "The session was moved to another program.");
    client_settle(owner);
    return 0;
}

/* The client stays until client_settle(). */
static void close_object(struct session_object *object, const char *reason)
{
    struct session_object **link = &object->bus->sessions;
    struct turn *turn, *next;

    log_write(LOG_INFO, &(struct log_fields){.session = session_id(object->session)},
              "The session was closed.");
    listening_drop(&object->listening);
    object->session = session_close(object->session, false);
    for (turn = object->owner->turns; turn; turn = next) {
        next = turn->next;
        if (turn->object == object)
            turn_break(turn, reason);
    }
    objects_tell_removed(object->bus, object->owner->name, object->path, BUS_SESSION);
    while (*link != object)
        link = &(*link)->next;
    *link = object->next;
    object->owner->n_sessions--;
    free(object->path);
    free(object);
}

void session_object_drop(struct client *client, const char *reason, uint64_t drain_until_usec)
{
    struct session_object *object, *next;

    for (object = client->bus->sessions; object; object = next) {
        next = object->next;
        if (object->owner == client)
            close_object(object, reason);
    }
    for (struct turn *turn = client->turns; turn && drain_until_usec; turn = turn->next)
        stream_drain(turn->stream, drain_until_usec);
    while (client->turns)
        turn_free(client->turns);
}

struct session_object *session_object_next(struct bus *bus, struct session_object *object)
{
    return object ? object->next : bus->sessions;
}

const char *session_object_path(const struct session_object *object)
{
    return object->path;
}

struct session *session_object_session(const struct session_object *object)
{
    return object->session;
}

struct client *session_object_owner(const struct session_object *object)
{
    return object->owner;
}

/* Every call to a path below /sessions comes here first: the one place that asks for the owner. */
static int find_object(sd_bus *connection, const char *path, const char *interface, void *userdata,
                       void **ret_found, sd_bus_error *ret_error)
{
    struct bus *bus = userdata;
    sd_bus_message *message = sd_bus_get_current_message(connection);
    const char *sender = message ? sd_bus_message_get_sender(message) : NULL;

    (void)interface;
    for (struct session_object *object = bus->sessions; object; object = object->next) {
        if (strcmp(object->path, path))
            continue;
        if (!sender || strcmp(sender, object->owner->name))
            return sd_bus_error_set(ret_error, ERRORS_PREFIX "NotAllowed",
                                    "The session belongs to another program.");
        *ret_found = object;
        return 1;
    }
    return 0;
}

/* A client sees its own sessions. */
static int list_objects(sd_bus *connection, const char *prefix, void *userdata, char ***ret_nodes,
                        sd_bus_error *ret_error)
{
    struct bus *bus = userdata;
    sd_bus_message *message = sd_bus_get_current_message(connection);
    const char *sender = message ? sd_bus_message_get_sender(message) : NULL;
    char **nodes = calloc(CLIENT_SESSIONS_MAX + 1, sizeof(*nodes));
    size_t n = 0;

    (void)prefix, (void)ret_error;
    if (!nodes)
        return -ENOMEM;
    for (struct session_object *object = bus->sessions; object && sender; object = object->next)
        if (!strcmp(sender, object->owner->name) && (nodes[n] = strdup(object->path)))
            n++;
    *ret_nodes = nodes;
    return 0;
}

/* methods */

struct ask_arguments {
    struct ask_part *parts;
    size_t n_parts, n_bytes;
    unsigned n_images;
    uint32_t max_tokens;
    const char *format, *tools;
    bool keep_thinking;
    char **stop, *sampling;
};

struct part {
    const char *type, *id, *text;
    int fd;
    json_object *image; /* settings, or NULL */
};

static void part_done(struct part *part)
{
    json_object_put(part->image);
}

/* Which keys belong to a part of its type. */
static int check_part(const struct part *part, size_t number, struct error *err)
{
    const bool is_image = !strcmp(part->type, "image");
    const bool is_result = !strcmp(part->type, "tool_result");
    const char *lacks = NULL, *extra = NULL;

    if (!is_image && !is_result && strcmp(part->type, "text"))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "Content part %zu is of type '%s'; text, image and tool_result are known.",
                         number, part->type);
    if (is_image ? part->fd < 0 : !part->text)
        lacks = is_image ? "fd" : "text";
    else if (is_result && !part->id)
        lacks = "id";
    else if (is_image && part->text)
        extra = "'text'";
    else if (!is_result && part->id)
        extra = "'id'";
    else if (!is_image && part->fd >= 0)
        extra = "'fd'";
    else if (!is_image && part->image)
        extra = "settings of a picture";
    if (lacks)
        return error_set(err, ERROR_INVALID_ARGUMENT, "Content part %zu, of type %s, has no '%s'.",
                         number, part->type, lacks);
    if (extra)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "Content part %zu, of type %s, takes no %s.", number, part->type, extra);
    return 0;
}

static int read_part(sd_bus_message *message, size_t number, struct ask_part *ret,
                     struct error *err)
{
    static const struct vardict_key keys[] = {
        {"type", "s", offsetof(struct part, type), 32, NULL},
        {"id", "s", offsetof(struct part, id), ASK_ID_MAX, NULL},
        {"text", "s", offsetof(struct part, text), SESSION_TEXT_MAX, NULL},
        {"fd", "h", offsetof(struct part, fd), 0, NULL},
        {"image", NULL, offsetof(struct part, image), 0, objects_image_keys},
        {0},
    };
    _cleanup_(part_done) struct part part = {.fd = -1};
    int r = vardict_read(message, "key of a content part", keys, &part, err);

    if (r < 0)
        return r;
    if (!part.type)
        return error_set(err, ERROR_INVALID_ARGUMENT, "Content part %zu has no 'type'.", number);
    r = check_part(&part, number, err);
    if (r < 0)
        return r;
    *ret = (struct ask_part){
        .type = !strcmp(part.type, "text")    ? ASK_TEXT
                : !strcmp(part.type, "image") ? ASK_IMAGE
                                              : ASK_TOOL_RESULT,
        .id = part.id,
        .text = part.text,
        .fd = part.fd,
    };
    if (!part.image)
        return 0;
    ret->image = strdup(json_object_to_json_string_ext(part.image, JSON_C_TO_STRING_PLAIN));
    return ret->image ? 0 : errors_message(err, -ENOMEM);
}

/* The parts of a question: strings and descriptors are the message's. */
static int read_content(sd_bus_message *message, struct ask_arguments *ret, struct error *err)
{
    int r;

    ret->parts = calloc(ASK_PARTS_MAX, sizeof(*ret->parts));
    if (!ret->parts)
        return errors_message(err, -ENOMEM);
    r = sd_bus_message_enter_container(message, 'a', "a{sv}");
    if (r < 0)
        return errors_message(err, r);
    while ((r = sd_bus_message_at_end(message, false)) == 0) {
        struct ask_part *part = &ret->parts[ret->n_parts];

        if (ret->n_parts == ASK_PARTS_MAX)
            return error_set(err, ERROR_INVALID_ARGUMENT, "The content has more than %u parts.",
                             ASK_PARTS_MAX);
        r = read_part(message, ++ret->n_parts, part, err);
        if (r < 0)
            return r;
        ret->n_bytes += (part->text ? strlen(part->text) : 0) + (part->id ? strlen(part->id) : 0);
        ret->n_images += part->type == ASK_IMAGE;
    }
    if (r < 0 || (r = sd_bus_message_exit_container(message)) < 0)
        return errors_message(err, r);
    return 0;
}

static void ask_arguments_done(struct ask_arguments *arguments)
{
    for (char **stop = arguments->stop; stop && *stop; stop++)
        free(*stop);
    free(arguments->stop);
    free(arguments->sampling);
    for (size_t i = 0; i < arguments->n_parts; i++)
        free((char *)arguments->parts[i].image);
    free(arguments->parts);
}

/* Arguments of Ask(); *ret points into `arguments`. */
static int read_ask(sd_bus_message *message, struct ask_arguments *arguments,
                    struct ask_options *ret, struct error *err)
{
    static const struct vardict_key keys[] = {
        {"max_tokens", "u", offsetof(struct ask_arguments, max_tokens), 0, NULL},
        {"stop", "as", offsetof(struct ask_arguments, stop), ASK_STOP_MAX, NULL},
        {"format", "s", offsetof(struct ask_arguments, format), ASK_FORMAT_MAX, NULL},
        {"tools", "s", offsetof(struct ask_arguments, tools), 32, NULL},
        {"keep_thinking", "b", offsetof(struct ask_arguments, keep_thinking), 0, NULL},
        {"sampling", "a{sv}", offsetof(struct ask_arguments, sampling), 0,
         objects_sampling_keys},
        {0},
    };
    int r;

    r = read_content(message, arguments, err);
    if (r < 0)
        return r;
    r = vardict_read(message, "option", keys, arguments, err);
    if (r < 0)
        return r;
    *ret = (struct ask_options){
        .max_tokens = arguments->max_tokens,
        .stop = (const char *const *)arguments->stop,
        .format = arguments->format,
        .constrain_tools = true,
        .keep_thinking = arguments->keep_thinking,
        .sampling = arguments->sampling,
    };
    arguments->n_bytes += arguments->format ? strlen(arguments->format) : 0;
    for (char **stop = arguments->stop; stop && *stop; stop++)
        arguments->n_bytes += strlen(*stop);
    if (!arguments->tools || !strcmp(arguments->tools, "auto"))
        return 0;
    if (!strcmp(arguments->tools, "required"))
        ret->require_tool = true;
    else if (!strcmp(arguments->tools, "free"))
        ret->constrain_tools = false;
    else
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The option 'tools' must be auto, required or free, not '%s'.",
                         arguments->tools);
    return 0;
}

static int check_limits(const struct client *client, size_t n_bytes, unsigned n_images,
                        struct error *err)
{
    if (client->n_turns >= CLIENT_TURNS_MAX)
        return error_set(err, ERROR_BUSY,
                         "This program has %u turns under way or unread, at most %u are allowed.",
                         client->n_turns, CLIENT_TURNS_MAX);
    if (n_bytes > CLIENT_BYTES_MAX - client->n_bytes)
        return error_set(err, ERROR_BUSY,
                         "The turns of this program hold %zu bytes, with %zu more they would pass "
                         "the limit of %zu.",
                         client->n_bytes, n_bytes, CLIENT_BYTES_MAX);
    if (n_images > CLIENT_IMAGES_MAX - client->n_images)
        return error_set(err, ERROR_BUSY,
                         "The turns of this program hold %u pictures, with %u more they would pass "
                         "the limit of %u.",
                         client->n_images, n_images, CLIENT_IMAGES_MAX);
    if (client->bus->n_turns >= BUS_TURNS_MAX)
        return error_set(err, ERROR_BUSY,
                         "%u turns of all programs are under way, which is the "
                         "limit.",
                         client->bus->n_turns);
    return 0;
}

static void message_unrefp(sd_bus_message **message)
{
    sd_bus_message_unref(*message);
}

static int ask(struct session_object *object, sd_bus_message *message, struct error *err)
{
    _cleanup_(ask_arguments_done) struct ask_arguments arguments = {0};
    _cleanup_(message_unrefp) sd_bus_message *reply = NULL;
    _cleanup_(closep) int fd = -1;
    struct client *client = object->owner;
    struct ask_options options;
    struct turn *turn;
    int r;

    r = read_ask(message, &arguments, &options, err);
    if (r < 0)
        return r;
    r = check_limits(client, arguments.n_bytes, arguments.n_images, err);
    if (r < 0)
        return r;

    turn = turn_new(client, object, arguments.n_bytes, arguments.n_images);
    if (!turn)
        return errors_message(err, -ENOMEM);
    turn->stream = stream_new(object->bus->event, &turn_sink, turn, &fd, err);
    if (!turn->stream) {
        turn_free(turn);
        return error_errno(err->code);
    }
    /* The message has its own copy of the descriptor; all that can fail is done before the turn. */
    r = sd_bus_message_new_method_return(message, &reply);
    if (r >= 0)
        r = sd_bus_message_append_basic(reply, 'h', &fd);
    if (r < 0) {
        turn_free(turn);
        return errors_message(err, r);
    }
    r = session_ask(object->session, arguments.parts, arguments.n_parts, &options, &turn->id, err);
    if (r < 0) {
        turn_free(turn);
        return r;
    }
    /* If the reply cannot go, the last reading end closes here and the turn is cancelled by
     * that. */
    if (sd_bus_message_get_expect_reply(message) > 0 &&
        sd_bus_message_append_basic(reply, 'u', &turn->id) >= 0)
        sd_bus_send(object->bus->connection, reply, NULL);
    return 1;
}

static int method_ask(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct error err = ERROR_INIT;
    int r = ask(userdata, message, &err);

    return errors_return(ret_error, r, &err);
}

static int method_cancel(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct session_object *object = userdata;
    struct error err = ERROR_INIT;
    uint32_t turn;
    int r;

    r = sd_bus_message_read_basic(message, 'u', &turn);
    if (r >= 0)
        r = session_cancel(object->session, turn, &err);
    if (r < 0)
        return errors_return(ret_error, r, &err);
    return sd_bus_reply_method_return(message, NULL);
}

static int method_history(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct session_object *object = userdata;
    _cleanup_(freep) char *history = session_history(object->session);
    struct error err = ERROR_INIT;

    if (!history)
        return errors_return(ret_error, -ENOMEM, &err);
    return sd_bus_reply_method_return(message, "s", history);
}

/* voice */

static void listening_changed(void *userdata)
{
    struct session_object *object = userdata;

    objects_tell_changed(object->bus, object->owner->name, object->path, BUS_SESSION,
                         interface_vtable(), object);
}

static int method_open_audio(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct session_object *object = userdata;
    struct error err = ERROR_INIT;

    return errors_return(
        ret_error, listening_open_audio(&object->listening, object->bus, message, &err), &err);
}

static int method_start_listening(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct session_object *object = userdata;
    const struct model *model = session_model(object->session);
    struct error err = ERROR_INIT;

    return errors_return(ret_error,
                         listening_start(&object->listening, object->bus, object->session, model,
                                         listening_changed, object, message, &err),
                         &err);
}

static int command(sd_bus_message *message, struct session_object *object,
                   enum listening_command command, sd_bus_error *ret_error)
{
    struct error err = ERROR_INIT;
    int r = listening_command(&object->listening, command, &err);

    if (r < 0)
        return errors_return(ret_error, r, &err);
    return sd_bus_reply_method_return(message, NULL);
}

static int method_stop_listening(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    return command(message, userdata, LISTENING_STOP, ret_error);
}

static int method_press(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    return command(message, userdata, LISTENING_PRESS, ret_error);
}

static int method_end_of_turn(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    return command(message, userdata, LISTENING_END_TURN, ret_error);
}

static int method_interrupt(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    return command(message, userdata, LISTENING_INTERRUPT, ret_error);
}

static int method_close(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct session_object *object = userdata;
    struct client *client = object->owner;

    (void)ret_error;
    close_object(object, "The session was closed.");
    client_settle(client);
    return sd_bus_reply_method_return(message, NULL);
}

/* properties */

static int get_id(sd_bus *connection, const char *path, const char *interface, const char *property,
                  sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    struct session_object *object = userdata;

    (void)connection, (void)path, (void)interface, (void)property, (void)ret_error;
    return sd_bus_message_append_basic(reply, 's', session_id(object->session));
}

static int get_state(sd_bus *connection, const char *path, const char *interface,
                     const char *property, sd_bus_message *reply, void *userdata,
                     sd_bus_error *ret_error)
{
    static const char *const names[] = {
        [SESSION_IDLE] = "idle",
        [SESSION_QUEUED] = "queued",
        [SESSION_THINKING] = "thinking",
    };
    struct session_object *object = userdata;

    (void)connection, (void)path, (void)interface, (void)property, (void)ret_error;
    return sd_bus_message_append_basic(reply, 's', names[session_state(object->session)]);
}

static int get_model(sd_bus *connection, const char *path, const char *interface,
                     const char *property, sd_bus_message *reply, void *userdata,
                     sd_bus_error *ret_error)
{
    struct session_object *object = userdata;
    const struct model *model = session_model(object->session);
    _cleanup_(freep) char *model_path = model_object_path(model ? model->id : NULL);

    (void)connection, (void)path, (void)interface, (void)property, (void)ret_error;
    return model_path ? sd_bus_message_append_basic(reply, 'o', model_path) : -ENOMEM;
}

static int get_kept(sd_bus *connection, const char *path, const char *interface,
                    const char *property, sd_bus_message *reply, void *userdata,
                    sd_bus_error *ret_error)
{
    struct session_object *object = userdata;
    int kept = session_kept(object->session);

    (void)connection, (void)path, (void)interface, (void)property, (void)ret_error;
    return sd_bus_message_append_basic(reply, 'b', &kept);
}

static int append_count(sd_bus_message *reply, size_t n)
{
    uint32_t count = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;

    return sd_bus_message_append_basic(reply, 'u', &count);
}

static int get_context_used(sd_bus *connection, const char *path, const char *interface,
                            const char *property, sd_bus_message *reply, void *userdata,
                            sd_bus_error *ret_error)
{
    struct session_object *object = userdata;

    (void)connection, (void)path, (void)interface, (void)property, (void)ret_error;
    return append_count(reply, session_context_used(object->session));
}

static int get_context_limit(sd_bus *connection, const char *path, const char *interface,
                             const char *property, sd_bus_message *reply, void *userdata,
                             sd_bus_error *ret_error)
{
    struct session_object *object = userdata;

    (void)connection, (void)path, (void)interface, (void)property, (void)ret_error;
    return append_count(reply, session_context_limit(object->session));
}

static int get_listening(sd_bus *connection, const char *path, const char *interface,
                         const char *property, sd_bus_message *reply, void *userdata,
                         sd_bus_error *ret_error)
{
    const struct session_object *object = userdata;

    (void)connection, (void)path, (void)interface, (void)property, (void)ret_error;
    return sd_bus_message_append(reply, "b", (int)listening_state(object->listening).listening);
}

static int get_xruns(sd_bus *connection, const char *path, const char *interface,
                     const char *property, sd_bus_message *reply, void *userdata,
                     sd_bus_error *ret_error)
{
    const struct session_object *object = userdata;
    const struct listening_state state = listening_state(object->listening);

    (void)connection, (void)path, (void)interface, (void)ret_error;
    return sd_bus_message_append_basic(
        reply, 'u', strcmp(property, "Overruns") == 0 ? &state.overruns : &state.underruns);
}

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("Ask", SD_BUS_ARGS("aa{sv}", content, "a{sv}", options),
                            SD_BUS_RESULT("h", stream, "u", turn), method_ask,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Cancel", SD_BUS_ARGS("u", turn), SD_BUS_NO_RESULT, method_cancel,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("History", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", messages), method_history,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("OpenAudio", SD_BUS_ARGS("a{sv}", options),
                            SD_BUS_RESULT("h", in, "h", out), method_open_audio,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("StartListening", SD_BUS_ARGS("a{sv}", options),
                            SD_BUS_RESULT("h", stream), method_start_listening,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("StopListening", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT,
                            method_stop_listening, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Press", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_press,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("EndOfTurn", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_end_of_turn,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Interrupt", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_interrupt,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Close", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_close,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_PROPERTY("Id", "s", get_id, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("State", "s", get_state, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("Model", "o", get_model, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("Kept", "b", get_kept, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("ContextUsed", "u", get_context_used, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("ContextLimit", "u", get_context_limit, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("Listening", "b", get_listening, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("Overruns", "u", get_xruns, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("Underruns", "u", get_xruns, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_SIGNAL_WITH_ARGS("TurnStarted", SD_BUS_ARGS("u", turn), 0),
    SD_BUS_SIGNAL_WITH_ARGS("TurnFinished", SD_BUS_ARGS("u", turn, "s", reason, "a{sv}", stats), 0),
    SD_BUS_VTABLE_END,
};

static const sd_bus_vtable *interface_vtable(void)
{
    return vtable;
}

int session_object_attach(struct bus *bus)
{
    int r = sd_bus_add_fallback_vtable(bus->connection, &bus->session_slots[0], PREFIX, BUS_SESSION,
                                       vtable, find_object, bus);

    if (r < 0)
        return r;
    return sd_bus_add_node_enumerator(bus->connection, &bus->session_slots[1], PREFIX, list_objects,
                                      bus);
}
