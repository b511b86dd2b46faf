/* SPDX-License-Identifier: MIT */
#include "ipc/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/bus.h"
#include "ipc/call.h"
#include "ipc/errors.h"
#include "ipc/objects.h"

static struct client *client_free(struct client *client)
{
    sd_bus_track_unref(client->track);
    free(client->name);
    free(client);
    return NULL;
}

/* Returns 1: with 0 the library would call again at once, for ever. */
static int on_track(sd_bus_track *track, void *userdata)
{
    if (sd_bus_track_count(track) == 0)
        client_drop(userdata, "The client has left the bus.", 0);
    return 1;
}

static struct client *client_new(struct bus *bus, const char *name, struct error *err)
{
    struct client *client;
    unsigned n = 0;
    int r;

    for (client = bus->clients; client; client = client->next)
        n++;
    if (n >= BUS_CLIENTS_MAX) {
        error_set(err, ERROR_BUSY, "%u programs hold sessions already, no more are taken.", n);
        return NULL;
    }

    client = calloc(1, sizeof(*client));
    if (!client || !(client->name = strdup(name))) {
        free(client);
        errors_message(err, -ENOMEM);
        return NULL;
    }
    client->bus = bus;
    /* The name is added before the loop runs again: an empty track object would call at once. */
    r = sd_bus_track_new(bus->connection, &client->track, on_track, client);
    if (r >= 0)
        r = sd_bus_track_add_name(client->track, name);
    if (r < 0) {
        error_set(err, ERROR_CANCELLED, "The calling program has left the bus.");
        return client_free(client);
    }
    client->next = bus->clients;
    bus->clients = client;
    return client;
}

struct client *client_get(struct bus *bus, sd_bus_message *message, struct error *err)
{
    const char *name = sd_bus_message_get_sender(message);

    if (!name) {
        error_set(err, ERROR_NOT_ALLOWED, "The call has no sender.");
        return NULL;
    }
    for (struct client *client = bus->clients; client; client = client->next)
        if (!strcmp(client->name, name))
            return client;
    return client_new(bus, name, err);
}

void client_settle(struct client *client)
{
    struct client **link = &client->bus->clients;

    if (client->n_sessions || client->n_turns || client->n_waiting || client->calls)
        return;
    while (*link != client)
        link = &(*link)->next;
    *link = client->next;
    bus_touch(client->bus);
    client_free(client);
}

void client_drop(struct client *client, const char *reason, uint64_t drain_until_usec)
{
    /* Each of these settles nothing; so the client is here until the end. */
    model_object_drop(client);
    call_drop_all(client);
    session_object_drop(client, reason, drain_until_usec);
    client_settle(client);
}
