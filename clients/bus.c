/* SPDX-License-Identifier: MIT */
#include "clients/bus.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "clients/terminal.h"

#define WAIT_MSEC    1000 /* then it is looked whether the call has timed out */
#define ERROR_PREFIX "org.lfmd.Assistant1.Error."

static bool report_json;
static const char *report_file;

void bus_messagep(sd_bus_message **message)
{
    sd_bus_message_unref(*message);
}

void bus_jsonp(struct json_object **object)
{
    json_object_put(*object);
}

void bus_closep(sd_bus **bus)
{
    sd_bus_flush_close_unref(*bus);
}

void bus_report_json(bool json)
{
    report_json = json;
}

void bus_report_file(const char *path)
{
    report_file = path;
}

int bus_status_of(const sd_bus_error *error)
{
    static const struct {
        const char *name;
        int status;
    } table[] = {
        {ERROR_PREFIX "ModelNotFound", STATUS_MODEL},
        {ERROR_PREFIX "ModelNotInstalled", STATUS_MODEL},
        {ERROR_PREFIX "NotAllowed", STATUS_DENIED},
        {SD_BUS_ERROR_ACCESS_DENIED, STATUS_DENIED},
        {SD_BUS_ERROR_SERVICE_UNKNOWN, STATUS_DAEMON},
        {SD_BUS_ERROR_NAME_HAS_NO_OWNER, STATUS_DAEMON},
        {SD_BUS_ERROR_NO_REPLY, STATUS_DAEMON},
        {SD_BUS_ERROR_DISCONNECTED, STATUS_DAEMON},
        {SD_BUS_ERROR_TIMEOUT, STATUS_DAEMON},
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (strcmp(error->name, table[i].name) == 0)
            return table[i].status;
    }
    if (strncmp(error->name, "org.freedesktop.DBus.Error.Spawn", 32) == 0)
        return STATUS_DAEMON;
    return STATUS_ERROR;
}

static void report(const char *name, const char *message)
{
    _cleanup_(bus_jsonp) struct json_object *event = NULL;

    if (!report_json) {
        terminal_error("%s", message);
        return;
    }
    event = json_object_new_object();
    if (report_file)
        json_object_object_add(event, "file", json_object_new_string(report_file));
    json_object_object_add(event, "event", json_object_new_string("error"));
    json_object_object_add(event, "name", json_object_new_string(name));
    json_object_object_add(event, "message", json_object_new_string(message));
    puts(json_object_to_json_string_ext(event, JSON_C_TO_STRING_NOSLASHESCAPE));
    fflush(stdout);
}

/* It was there, or is, and says nothing. */
static bool is_silent(const sd_bus_error *error)
{
    return strcmp(error->name, SD_BUS_ERROR_NO_REPLY) == 0 ||
           strcmp(error->name, SD_BUS_ERROR_DISCONNECTED) == 0 ||
           strcmp(error->name, SD_BUS_ERROR_TIMEOUT) == 0;
}

/* Some of the bus's sentences have a full stop. */
static const char *without_stop(const char *sentence, char text[384])
{
    const int n = snprintf(text, 384, "%s", sentence);

    if (n > 0 && n < 384 && text[n - 1] == '.')
        text[n - 1] = '\0';
    return text;
}

int bus_failure(const sd_bus_error *error, int r)
{
    char text[768], message[384];
    int status;

    if (r == -EINTR)
        return STATUS_INTERRUPTED;
    if (!sd_bus_error_is_set(error)) {
        snprintf(text, sizeof(text), "The daemon cannot be reached: %s.", strerror(-r));
        report("Unreachable", text);
        return STATUS_DAEMON;
    }
    status = bus_status_of(error);
    if (is_silent(error)) {
        report("Unreachable", "The daemon has gone, or does not answer.");
    } else if (status == STATUS_DAEMON) {
        snprintf(text, sizeof(text),
                 "The daemon is not running and could not be started: %s. Is lfmd installed? "
                 "\"lfmd\" in another terminal starts it by hand.",
                 without_stop(error->message ? error->message : error->name, message));
        report("Unreachable", text);
    } else {
        report(strncmp(error->name, ERROR_PREFIX, strlen(ERROR_PREFIX)) == 0
                   ? error->name + strlen(ERROR_PREFIX)
                   : error->name,
               error->message && *error->message ? error->message : error->name);
    }
    return status;
}

int bus_open(sd_bus **ret)
{
    int r = sd_bus_open_user(ret);

    if (r >= 0)
        return STATUS_OK;
    report("Unreachable", "There is no session bus here: DBUS_SESSION_BUS_ADDRESS is not set or "
                          "does not answer. \"dbus-run-session -- COMMAND\" makes one.");
    return STATUS_DAEMON;
}

static int on_reply(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    sd_bus_message **reply = userdata;

    (void)error;
    *reply = sd_bus_message_ref(message);
    return 1;
}

int bus_send(sd_bus *bus, sd_bus_message *call, sd_bus_error *error, sd_bus_message **ret_reply)
{
    _cleanup_(bus_messagep) sd_bus_message *reply = NULL;
    const unsigned before = terminal_interrupts(); /* the last calls come after one */
    struct pollfd fds[] = {{.fd = sd_bus_get_fd(bus)}};
    sd_bus_slot *slot = NULL;
    int r = sd_bus_call_async(bus, &slot, call, on_reply, &reply, BUS_CALL_USEC);

    while (r >= 0 && !reply) {
        r = sd_bus_process(bus, NULL);
        if (r != 0)
            continue;
        fds[0].events = (short)sd_bus_get_events(bus);
        terminal_poll(fds, 1, WAIT_MSEC);
        if (terminal_interrupts() != before)
            r = -EINTR;
    }
    sd_bus_slot_unref(slot);
    if (r < 0)
        return r;
    if (sd_bus_message_is_method_error(reply, NULL)) {
        sd_bus_error_copy(error, sd_bus_message_get_error(reply));
        return -sd_bus_message_get_errno(reply);
    }
    *ret_reply = TAKE_PTR(reply);
    return 1;
}

int bus_call(sd_bus *bus, const char *path, const char *interface, const char *method,
             sd_bus_message **ret_reply, const char *types, ...)
{
    _cleanup_(bus_messagep) sd_bus_message *call = NULL;
    _cleanup_(bus_messagep) sd_bus_message *reply = NULL;
    _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
    va_list args;
    int r;

    r = sd_bus_message_new_method_call(bus, &call, BUS_NAME, path, interface, method);
    if (r >= 0 && types) {
        va_start(args, types);
        r = sd_bus_message_appendv(call, types, args);
        va_end(args);
    }
    if (r >= 0)
        r = bus_send(bus, call, &error, &reply);
    if (r < 0)
        return bus_failure(&error, r);
    if (ret_reply)
        *ret_reply = TAKE_PTR(reply);
    return STATUS_OK;
}

int bus_create_session(sd_bus *bus, const char *model, sd_bus_message **ret_reply,
                       const char **ret_path)
{
    int status = model
                     ? bus_call(bus, BUS_ROOT, BUS_MANAGER, "CreateSession", ret_reply, "a{sv}", 1,
                                "model", "s", model)
                     : bus_call(bus, BUS_ROOT, BUS_MANAGER, "CreateSession", ret_reply, "a{sv}", 0);

    if (status == STATUS_OK && sd_bus_message_read(*ret_reply, "o", ret_path) < 0)
        status = bus_failure(NULL, -EBADMSG);
    return status;
}

/* --- values --------------------------------------------------------------------------------- */

static struct json_object *basic(sd_bus_message *m, char type)
{
    union {
        uint8_t y;
        int b;
        int16_t n;
        uint16_t q;
        int32_t i;
        uint32_t u;
        int64_t x;
        uint64_t t;
        double d;
        const char *s;
    } v;

    if (sd_bus_message_read_basic(m, type, &v) <= 0)
        return NULL;
    switch (type) {
    case 'y':
        return json_object_new_int(v.y);
    case 'b':
        return json_object_new_boolean(v.b);
    case 'n':
        return json_object_new_int(v.n);
    case 'q':
        return json_object_new_int(v.q);
    case 'i':
        return json_object_new_int(v.i);
    case 'u':
        return json_object_new_int64(v.u);
    case 'x':
        return json_object_new_int64(v.x);
    case 't':
        return json_object_new_uint64(v.t);
    case 'd':
        return json_object_new_double(v.d);
    default:
        return json_object_new_string(v.s);
    }
}

static struct json_object *array(sd_bus_message *m, const char *contents)
{
    struct json_object *list, *item;

    if (sd_bus_message_enter_container(m, 'a', contents) < 0)
        return NULL;
    if (contents[0] != '{') {
        list = json_object_new_array();
        while ((item = bus_value(m)))
            json_object_array_add(list, item);
    } else {
        list = json_object_new_object();
        while (sd_bus_message_enter_container(m, 'e', NULL) > 0) {
            _cleanup_(bus_jsonp) struct json_object *key = bus_value(m);

            json_object_object_add(list, json_object_get_string(key), bus_value(m));
            sd_bus_message_exit_container(m);
        }
    }
    sd_bus_message_exit_container(m);
    return list;
}

struct json_object *bus_value(sd_bus_message *m)
{
    struct json_object *value;
    const char *contents;
    char type;

    if (sd_bus_message_peek_type(m, &type, &contents) <= 0)
        return NULL;
    switch (type) {
    case 'a':
        return array(m, contents);
    case 'v':
        if (sd_bus_message_enter_container(m, 'v', contents) < 0)
            return NULL;
        value = bus_value(m);
        sd_bus_message_exit_container(m);
        return value;
    case 'r':
    case 'h':
        return sd_bus_message_skip(m, NULL) < 0 ? NULL : json_object_new_object();
    default:
        return basic(m, type);
    }
}

int bus_properties(sd_bus *bus, const char *path, const char *interface, struct json_object **ret)
{
    _cleanup_(bus_messagep) sd_bus_message *reply = NULL;
    int status = bus_call(bus, path, "org.freedesktop.DBus.Properties", "GetAll", &reply, "s",
                          interface);

    if (status == STATUS_OK)
        *ret = bus_value(reply);
    return status;
}

int bus_objects(sd_bus *bus, struct json_object **ret)
{
    _cleanup_(bus_messagep) sd_bus_message *reply = NULL;
    int status = bus_call(bus, BUS_ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects",
                          &reply, NULL);

    if (status == STATUS_OK)
        *ret = bus_value(reply);
    return status;
}

const char *bus_text(struct json_object *object, const char *key)
{
    const char *text = json_object_get_string(json_object_object_get(object, key));

    return text ? text : "";
}

uint64_t bus_number(struct json_object *object, const char *key)
{
    return json_object_get_uint64(json_object_object_get(object, key));
}

bool bus_flag(struct json_object *object, const char *key)
{
    return json_object_get_boolean(json_object_object_get(object, key));
}

int bus_option(sd_bus_message *m, const char *key, const char *type, const void *value)
{
    int r = sd_bus_message_open_container(m, 'e', "sv");

    if (r >= 0)
        r = sd_bus_message_append_basic(m, 's', key);
    if (r >= 0)
        r = sd_bus_message_open_container(m, 'v', type);
    if (r >= 0)
        r = sd_bus_message_append_basic(m, type[0], value);
    if (r >= 0)
        r = sd_bus_message_close_container(m);
    return r < 0 ? r : sd_bus_message_close_container(m);
}
