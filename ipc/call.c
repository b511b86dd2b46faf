/* SPDX-License-Identifier: MIT */
#include "ipc/call.h"

#include <errno.h>
#include <stdlib.h>

#include "ipc/bus.h"
#include "ipc/errors.h"

static unsigned count(const struct client *client, const struct call_kind *kind)
{
    unsigned n = 0;

    for (const struct call *call = client->calls; call; call = call->next)
        n += call->kind == kind;
    return n;
}

struct call *call_new(struct bus *bus, sd_bus_message *message, const struct call_kind *kind,
                      size_t size, struct error *err)
{
    struct client *client = client_get(bus, message, err);
    struct call *call;

    if (!client)
        return NULL;
    if (count(client, kind) >= kind->max) {
        error_set(err, ERROR_BUSY, "This program %s %u %s already, at most %u are taken.",
                  kind->verb, kind->max, kind->object, kind->max);
        return NULL;
    }
    call = calloc(1, size);
    if (!call) {
        client_settle(client);
        errors_message(err, -ENOMEM);
        return NULL;
    }
    call->kind = kind;
    call->client = client;
    call->next = client->calls;
    client->calls = call;
    return call;
}

static void call_free(struct call *call)
{
    struct call **link = &call->client->calls;

    while (*link != call)
        link = &(*link)->next;
    *link = call->next;
    bus_touch(call->client->bus);
    call->kind->abandon(call);
    stream_free(call->stream);
    sd_bus_message_unref(call->message);
    free(call);
}

void call_end(void *call)
{
    struct client *client = ((struct call *)call)->client;

    call_free(call);
    client_settle(client);
}

void call_finish(struct call *call)
{
    if (stream_end(call->stream))
        call_end(call);
}

void call_drop_all(struct client *client)
{
    while (client->calls)
        call_free(client->calls);
}
