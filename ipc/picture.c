/* SPDX-License-Identifier: MIT */

/*
 * Manager.PlanImage() and Manager.Describe(): what is asked about a picture without a conversation.
 *
 * Both are answered when the picture has been decoded, so each call is an object that its client
 * holds. PlanImage() is answered then; Describe() has a stream from the beginning.
 */

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "ipc/bus.h"
#include "ipc/call.h"
#include "ipc/errors.h"
#include "ipc/objects.h"
#include "ipc/vardict.h"
#include "session/describe.h"
#include "session/image_query.h"

#define MODEL_ID_MAX 4096 /* bytes */

struct picture_call {
    struct call common;
    struct image_query *query; /* PlanImage(), until it is answered */
    struct describe *describe; /* Describe(); NULL: it has said its last */
};

/* arguments */

struct arguments {
    int fd;
    const char *model;
    json_object *settings; /* or NULL */
};

static void arguments_done(struct arguments *arguments)
{
    json_object_put(arguments->settings);
}

static const char *settings_text(const struct arguments *arguments)
{
    return arguments->settings
               ? json_object_to_json_string_ext(arguments->settings, JSON_C_TO_STRING_PLAIN)
               : NULL;
}

static int read_arguments(sd_bus_message *message, struct arguments *arguments, struct error *err)
{
    static const struct vardict_key keys[] = {
        {"model", "s", offsetof(struct arguments, model), MODEL_ID_MAX, NULL},
        {"image", NULL, offsetof(struct arguments, settings), 0, objects_image_keys},
        {0},
    };
    int r = sd_bus_message_read_basic(message, 'h', &arguments->fd);

    return r < 0 ? errors_message(err, r) : vardict_read(message, "option", keys, arguments, err);
}

/* calls */

static void abandon(struct call *base)
{
    struct picture_call *call = (struct picture_call *)base;

    if (call->query)
        image_query_cancel(call->query);
    describe_free(call->describe);
}

static const struct call_kind kind = {
    .max = CLIENT_PICTURES_MAX, .verb = "asks about", .object = "pictures", .abandon = abandon};

static struct picture_call *picture_call_new(struct bus *bus, sd_bus_message *message,
                                             struct error *err)
{
    return (struct picture_call *)call_new(bus, message, &kind, sizeof(struct picture_call), err);
}

/* PlanImage() */

static int append_plan(sd_bus_message *reply, const struct image_query_result *result)
{
    const struct tile_plan *plan = &result->plan;
    const struct {
        const char *key;
        size_t value;
    } numbers[] = {
        {"width", plan->width},
        {"height", plan->height},
        {"resized_width", plan->resized_w},
        {"resized_height", plan->resized_h},
        {"cols", plan->cols},
        {"rows", plan->rows},
        {"views", plan->n_views},
        {"image_tokens", plan->n_image_tokens},
        {"special_tokens", plan->n_special_tokens},
    };
    int r = sd_bus_message_open_container(reply, 'a', "{sv}");

    for (size_t i = 0; i < ARRAY_LEN(numbers) && r >= 0; i++)
        r = sd_bus_message_append(reply, "{sv}", numbers[i].key, "u", (uint32_t)numbers[i].value);
    if (r >= 0)
        r = sd_bus_message_append(reply, "{sv}{sv}{sv}", "thumbnail", "b", (int)plan->thumbnail,
                                  "detail", "s", image_detail_name(result->detail), "shortened",
                                  "b", (int)result->shortened);
    if (r >= 0 && result->predicted_usec >= 0)
        r = sd_bus_message_append(reply, "{sv}", "predicted_ms", "u",
                                  (uint32_t)MIN((result->predicted_usec + 999) / 1000, UINT32_MAX));
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static void plan_done(void *userdata, const struct image_query_result *result,
                      const struct error *error)
{
    struct picture_call *call = userdata;
    sd_bus_message *reply = NULL;
    struct error err = ERROR_INIT;
    int r = 0;

    call->query = NULL;
    if (result) {
        r = sd_bus_message_new_method_return(call->common.message, &reply);
        if (r >= 0)
            r = append_plan(reply, result);
        if (r >= 0)
            r = sd_bus_send(call->common.client->bus->connection, reply, NULL);
        if (r < 0)
            errors_message(&err, r);
        sd_bus_message_unref(reply);
    }
    if (!result || r < 0)
        errors_reply(call->common.message, result ? &err : error);
    call_end(call);
}

int picture_plan(struct bus *bus, sd_bus_message *message, struct error *err)
{
    _cleanup_(arguments_done) struct arguments arguments = {0};
    struct picture_call *call;
    int r = read_arguments(message, &arguments, err);

    if (r < 0)
        return r;
    call = picture_call_new(bus, message, err);
    if (!call)
        return error_errno(err->code);
    call->common.message = sd_bus_message_ref(message);
    call->query = image_query_new(bus->engine, arguments.model, arguments.fd,
                                  settings_text(&arguments), plan_done, call, err);
    if (!call->query) {
        call_end(call);
        return error_errno(err->code);
    }
    return 1;
}

/* Describe() */

/* Its lines are few: they wait in the stream. */
static void stream_hold(void *userdata, bool hold)
{
    (void)userdata, (void)hold;
}

static const struct stream_sink stream_sink = {.hold = stream_hold, .closed = call_end};

static void describe_line(void *userdata, const char *line, size_t length, bool last)
{
    struct picture_call *call = userdata;

    stream_line(call->common.stream, line, length);
    if (!last)
        return;
    call->describe = describe_free(call->describe);
    call_finish(&call->common);
}

static const struct describe_sink describe_sink = {.line = describe_line};

int picture_describe(struct bus *bus, sd_bus_message *message, struct error *err)
{
    _cleanup_(arguments_done) struct arguments arguments = {0};
    _cleanup_(closep) int fd = -1;
    struct picture_call *call;
    int r = read_arguments(message, &arguments, err);

    if (r < 0)
        return r;
    call = picture_call_new(bus, message, err);
    if (!call)
        return error_errno(err->code);
    call->common.stream = stream_new(bus->event, &stream_sink, call, &fd, err);
    if (call->common.stream)
        call->describe = describe_new(
            bus->engine, arguments.fd,
            &(struct describe_options){arguments.model, settings_text(&arguments)}, &describe_sink,
            call, err);
    if (!call->describe) {
        call_end(call);
        return error_errno(err->code);
    }
    /* If the reply cannot go, the last reading end closes here and that cancels. */
    return sd_bus_reply_method_return(message, "h", fd);
}
