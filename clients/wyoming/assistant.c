/* SPDX-License-Identifier: MIT */
#include "clients/wyoming/assistant.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/bus.h"

#define READ_BYTES ((size_t)16 << 10)
#define LINE_MAX_BYTES ((size_t)16 << 20)

struct call {
    const struct call_sink *sink;
    void *userdata;
    sd_event *event;
    sd_bus_slot *slot;       /* NULL: answered */
    sd_event_source *source; /* of the pipe */
    int fd;
    char *line; /* what has come of the next one */
    size_t n, size;
    bool *freed; /* told to what is calling a sink */
};

/* --- errors --------------------------------------------------------------------------------- */

/* ERROR_INTERNAL for a name that is unknown here. */
static enum error_code code_of(const char *name)
{
    for (enum error_code code = ERROR_NONE + 1; code < _ERROR_N; code++)
        if (strcmp(name, error_name(code)) == 0)
            return code;
    return ERROR_INTERNAL;
}

void assistant_error(const sd_bus_error *error, int r, struct error *err)
{
    static const char prefix[] = "org.lfmd.Assistant1.Error.";
    const char *message = error && error->message && *error->message ? error->message
                                                                      : strerror(abs(r));

    if (!error || !sd_bus_error_is_set(error) || bus_status_of(error) == STATUS_DAEMON) {
        error_set(err, ERROR_IO, "The assistant lfmd cannot be reached: %s", message);
        return;
    }
    error_set(err,
              strncmp(error->name, prefix, strlen(prefix)) == 0
                  ? code_of(error->name + strlen(prefix))
                  : ERROR_INTERNAL,
              "%s", message);
}

void assistant_last(struct json_object *line, const char *lost, struct error *err)
{
    if (!line)
        error_set(err, ERROR_IO, "The assistant lfmd has ended. %s", lost);
    else if (strcmp(bus_text(line, "event"), "error") == 0)
        error_set(err, code_of(bus_text(line, "name")), "%s", bus_text(line, "message"));
}

/* --- the pipe ------------------------------------------------------------------------------- */

/* False: the sink has freed the call. */
static bool tell_end(struct call *call, const struct error *error)
{
    sd_event_source_set_enabled(call->source, SD_EVENT_OFF);
    call->sink->ended(call->userdata, error);
    return false;
}

static bool tell_lines(struct call *call)
{
    const char *newline;
    bool freed = false;

    call->freed = &freed;
    while ((newline = memchr(call->line, '\n', call->n))) {
        const size_t taken = (size_t)(newline - call->line) + 1;
        struct json_object *event;

        call->line[taken - 1] = '\0';
        event = json_tokener_parse(call->line);
        memmove(call->line, call->line + taken, call->n - taken);
        call->n -= taken;
        if (event)
            call->sink->line(call->userdata, event);
        json_object_put(event);
        if (freed)
            return false;
    }
    call->freed = NULL;
    return true;
}

static bool take(struct call *call, const uint8_t *bytes, size_t n)
{
    struct error err = ERROR_INIT;
    bool freed = false;

    if (!call->sink->line) {
        call->freed = &freed;
        call->sink->bytes(call->userdata, bytes, n);
        if (!freed)
            call->freed = NULL;
        return !freed;
    }
    if (call->n + n > call->size) {
        const size_t size = MAX(2 * call->size, call->n + n);
        char *line = size <= 2 * LINE_MAX_BYTES ? realloc(call->line, size) : NULL;

        if (!line) {
            error_set(&err, ERROR_INTERNAL, "The assistant lfmd sends lines without end.");
            return tell_end(call, &err);
        }
        call->line = line;
        call->size = size;
    }
    memcpy(call->line + call->n, bytes, n);
    call->n += n;
    return tell_lines(call);
}

static int on_pipe(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct call *call = userdata;
    uint8_t bytes[READ_BYTES];
    const ssize_t n = read(fd, bytes, sizeof(bytes));

    (void)source;
    (void)revents;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0)
        tell_end(call, NULL);
    else
        take(call, bytes, (size_t)n);
    return 0;
}

static int on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    struct call *call = userdata;
    const sd_bus_error *error = sd_bus_message_get_error(reply);
    struct error err = ERROR_INIT;
    int fd, r = 0;

    (void)ret_error;
    call->slot = sd_bus_slot_unref(call->slot);
    if (error) {
        assistant_error(error, -sd_bus_error_get_errno(error), &err);
        tell_end(call, &err);
        return 0;
    }
    r = sd_bus_message_read_basic(reply, 'h', &fd);
    if (r >= 0) {
        call->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        r = call->fd < 0 || fcntl(call->fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
    }
    if (r >= 0)
        r = sd_event_add_io(call->event, &call->source, call->fd, EPOLLIN, on_pipe, call);
    if (r < 0) {
        assistant_error(NULL, r, &err);
        tell_end(call, &err);
    }
    return 0;
}

/* --- calls ---------------------------------------------------------------------------------- */

struct call *call_new(sd_bus *bus, sd_bus_message *message, const struct call_sink *sink,
                      void *userdata, struct error *err)
{
    struct call *call = calloc(1, sizeof(*call));
    int r;

    if (!call) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory.");
        return NULL;
    }
    call->sink = sink;
    call->userdata = userdata;
    call->event = sd_bus_get_event(bus);
    call->fd = -1;
    r = sd_bus_call_async(bus, &call->slot, message, on_reply, call, BUS_CALL_USEC);
    if (r < 0) {
        assistant_error(NULL, r, err);
        return call_free(call);
    }
    return call;
}

void call_hold(struct call *call, bool hold)
{
    if (call->source)
        sd_event_source_set_enabled(call->source, hold ? SD_EVENT_OFF : SD_EVENT_ON);
}

struct call *call_free(struct call *call)
{
    if (!call)
        return NULL;
    if (call->freed)
        *call->freed = true;
    sd_bus_slot_unref(call->slot);
    sd_event_source_disable_unref(call->source);
    if (call->fd >= 0)
        close(call->fd);
    free(call->line);
    free(call);
    return NULL;
}

int assistant_method(sd_bus *bus, const char *method, sd_bus_message **ret, struct error *err)
{
    const int r = sd_bus_message_new_method_call(bus, ret, BUS_NAME, BUS_ROOT, BUS_MANAGER, method);

    if (r < 0)
        assistant_error(NULL, r, err);
    return r;
}
