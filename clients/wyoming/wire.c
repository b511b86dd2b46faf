/* SPDX-License-Identifier: MIT */
#include "clients/wyoming/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define VERSION    "1.10" /* of the protocol, in every line of ours */
#define ROOM_BYTES ((size_t)16 << 10)
#define KEPT_BYTES ((size_t)256 << 10) /* of an empty buffer */
#define FLAGS      (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)

static void putp(struct json_object **object)
{
    json_object_put(*object);
}

/* --- reading -------------------------------------------------------------------------------- */

/* The last event makes room. */
static void drop_taken(struct wire *wire)
{
    if (wire->taken == 0)
        return;
    memmove(wire->bytes, wire->bytes + wire->taken, wire->n - wire->taken);
    wire->n -= wire->taken;
    wire->taken = 0;
    if (wire->n == 0 && wire->size > KEPT_BYTES) {
        free(wire->bytes);
        wire->bytes = NULL;
        wire->size = 0;
    }
}

uint8_t *wire_room(struct wire *wire, size_t *ret_n)
{
    drop_taken(wire);
    if (wire->n + ROOM_BYTES > wire->size) {
        const size_t size = MAX(2 * wire->size, wire->n + ROOM_BYTES);
        uint8_t *bytes = realloc(wire->bytes, size);

        if (!bytes)
            return NULL;
        wire->bytes = bytes;
        wire->size = size;
    }
    *ret_n = ROOM_BYTES; /* more would only be moved about while small events are taken */
    return wire->bytes + wire->n;
}

void wire_filled(struct wire *wire, size_t n)
{
    wire->n += n;
}

/* An object and nothing else; `what` begins the sentence. */
static struct json_object *read_object(const uint8_t *bytes, size_t n, const char *what,
                                       struct error *err)
{
    struct json_tokener *tokener = json_tokener_new_ex(WIRE_DEPTH_MAX);
    _cleanup_(putp) struct json_object *object = NULL;
    enum json_tokener_error result;

    if (!tokener) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory to read an event.");
        return NULL;
    }
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    object = json_tokener_parse_ex(tokener, (const char *)bytes, (int)n);
    result = json_tokener_get_error(tokener);
    json_tokener_free(tokener);
    if (result != json_tokener_success)
        error_set(err, ERROR_INVALID_ARGUMENT, "%s is not JSON: %s.", what,
                  result == json_tokener_continue ? "it ends too early"
                                                  : json_tokener_error_desc(result));
    else if (!json_object_is_type(object, json_type_object))
        error_set(err, ERROR_INVALID_ARGUMENT, "%s is JSON, but no object.", what);
    else
        return TAKE_PTR(object);
    return NULL;
}

/* A length; what is absent or null is 0. */
static int read_length(struct json_object *line, const char *key, size_t max, size_t *ret,
                       struct error *err)
{
    struct json_object *value = json_object_object_get(line, key);
    int64_t n;

    *ret = 0;
    if (!value)
        return 0;
    if (!json_object_is_type(value, json_type_int))
        return error_set(err, ERROR_INVALID_ARGUMENT, "'%s' of an event is no whole number.", key);
    n = json_object_get_int64(value);
    if (n < 0 || (uint64_t)n > max)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "'%s' of an event is %lld; it may be 0 to %zu.", key, (long long)n, max);
    *ret = (size_t)n;
    return 0;
}

/* The line, once it is whole: 1, else 0. */
static int read_line(struct wire *wire, struct error *err)
{
    const uint8_t *newline = memchr(wire->bytes, '\n', MIN(wire->n, WIRE_LINE_MAX));
    _cleanup_(putp) struct json_object *line = NULL;
    struct json_object *data;
    int r;

    if (!newline && wire->n < WIRE_LINE_MAX)
        return 0;
    if (!newline)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "An event begins with a line of JSON of at most %zu bytes; this one is "
                         "longer.",
                         WIRE_LINE_MAX);
    wire->n_line = (size_t)(newline - wire->bytes) + 1;
    line = read_object(wire->bytes, wire->n_line, "The line that begins an event", err);
    if (!line)
        return error_errno(err->code);
    if (!json_object_is_type(json_object_object_get(line, "type"), json_type_string))
        return error_set(err, ERROR_INVALID_ARGUMENT, "An event has no 'type' that is a string.");
    if (json_object_object_get_ex(line, "data", &data) && data &&
        !json_object_is_type(data, json_type_object))
        return error_set(err, ERROR_INVALID_ARGUMENT, "'data' of an event is no object.");
    r = read_length(line, "data_length", WIRE_DATA_MAX, &wire->n_data, err);
    if (r == 0)
        r = read_length(line, "payload_length", WIRE_PAYLOAD_MAX, &wire->n_payload, err);
    if (r < 0)
        return r;
    wire->line = TAKE_PTR(line);
    return 1;
}

/* What stands in the line, and over it what follows. */
static struct json_object *read_data(const struct wire *wire, struct error *err)
{
    _cleanup_(putp) struct json_object *data =
        json_object_get(json_object_object_get(wire->line, "data"));
    _cleanup_(putp) struct json_object *more = NULL;

    if (!data)
        data = json_object_new_object();
    if (wire->n_data == 0)
        return TAKE_PTR(data);
    more = read_object(wire->bytes + wire->n_line, wire->n_data, "The data of an event", err);
    if (!more)
        return NULL;
    json_object_object_foreach(more, key, value)
    {
        json_object_object_add(data, key, json_object_get(value));
    }
    return TAKE_PTR(data);
}

int wire_next(struct wire *wire, struct wire_event *ret, struct error *err)
{
    struct json_object *data;
    size_t n;
    int r;

    drop_taken(wire);
    if (!wire->line) {
        r = wire->n > 0 ? read_line(wire, err) : 0;
        if (r <= 0)
            return r;
    }
    n = wire->n_line + wire->n_data + wire->n_payload;
    if (wire->n < n)
        return 0;
    data = read_data(wire, err);
    if (!data)
        return error_errno(err->code);
    *ret = (struct wire_event){
        .type = json_object_get_string(json_object_object_get(wire->line, "type")),
        .data = data,
        .payload = wire->bytes + wire->n_line + wire->n_data,
        .n_payload = wire->n_payload,
        .line = TAKE_PTR(wire->line),
    };
    wire->taken = n;
    return 1;
}

void wire_event_done(struct wire_event *event)
{
    json_object_put(event->data);
    json_object_put(event->line);
}

bool wire_is_amid(const struct wire *wire)
{
    return wire->n > wire->taken;
}

void wire_done(struct wire *wire)
{
    json_object_put(wire->line);
    free(wire->bytes);
    *wire = (struct wire){0};
}

/* --- writing -------------------------------------------------------------------------------- */

static void add_length(struct json_object *line, const char *key, size_t n)
{
    if (n > 0)
        json_object_object_add(line, key, json_object_new_int64((int64_t)n));
}

uint8_t *wire_compose(const char *type, struct json_object *data, const void *payload,
                      size_t n_payload, size_t *ret_n)
{
    _cleanup_(putp) struct json_object *line = json_object_new_object();
    const char *head, *body = "";
    size_t n_head, n_body = 0;
    uint8_t *bytes;

    if (data)
        body = json_object_to_json_string_length(data, FLAGS, &n_body);
    json_object_object_add(line, "type", json_object_new_string(type));
    json_object_object_add(line, "version", json_object_new_string(VERSION));
    add_length(line, "data_length", n_body);
    add_length(line, "payload_length", n_payload);
    head = json_object_to_json_string_length(line, FLAGS, &n_head);
    bytes = head && body ? malloc(n_head + 1 + n_body + n_payload) : NULL;
    if (!bytes)
        return NULL;
    memcpy(bytes, head, n_head);
    bytes[n_head] = '\n';
    memcpy(bytes + n_head + 1, body, n_body);
    if (n_payload > 0)
        memcpy(bytes + n_head + 1 + n_body, payload, n_payload);
    *ret_n = n_head + 1 + n_body + n_payload;
    return bytes;
}
