/* SPDX-License-Identifier: MIT */
#include "ipc/objects.h"

#include "ipc/bus.h"

#define CHANGES SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE

const struct vardict_key objects_sampling_keys[] = {
    {"temperature", "d", 0, 0, NULL},
    {"top_k", "u", 0, 0, NULL},
    {"top_p", "d", 0, 0, NULL},
    {"min_p", "d", 0, 0, NULL},
    {"repetition_penalty", "d", 0, 0, NULL},
    {"presence_penalty", "d", 0, 0, NULL},
    {"seed", "t", 0, 0, NULL},
    {0},
};

const struct vardict_key objects_image_keys[] = {
    {"detail", "s", 0, 32, NULL},
    {"min_image_tokens", "u", 0, 0, NULL},
    {"max_image_tokens", "u", 0, 0, NULL},
    {"min_tiles", "u", 0, 0, NULL},
    {"max_tiles", "u", 0, 0, NULL},
    {"tiling", "b", 0, 0, NULL},
    {"thumbnail", "b", 0, 0, NULL},
    {"max_encode_ms", "u", 0, 0, NULL},
    {0},
};

/* a{sv} of the vtable's properties that have all of `flags`. */
static int append_properties(struct bus *bus, sd_bus_message *message, const char *path,
                             const char *interface, const sd_bus_vtable *vtable, uint64_t flags,
                             void *userdata)
{
    int r = sd_bus_message_open_container(message, 'a', "{sv}");

    if (r < 0)
        return r;
    for (; vtable->type != _SD_BUS_VTABLE_END; vtable++) {
        const char *name = vtable->x.property.member, *type = vtable->x.property.signature;

        if (vtable->type != _SD_BUS_VTABLE_PROPERTY || (vtable->flags & flags) != flags)
            continue;
        if ((r = sd_bus_message_open_container(message, 'e', "sv")) < 0 ||
            (r = sd_bus_message_append_basic(message, 's', name)) < 0 ||
            (r = sd_bus_message_open_container(message, 'v', type)) < 0 ||
            (r = vtable->x.property.get(bus->connection, path, interface, name, message, userdata,
                                        NULL)) < 0 ||
            (r = sd_bus_message_close_container(message)) < 0 ||
            (r = sd_bus_message_close_container(message)) < 0)
            return r;
    }
    return sd_bus_message_close_container(message);
}

static int send_to(struct bus *bus, sd_bus_message *message, const char *destination)
{
    int r = sd_bus_message_set_destination(message, destination);

    return r < 0 ? r : sd_bus_send(bus->connection, message, NULL);
}

static void unrefp(sd_bus_message **message)
{
    sd_bus_message_unref(*message);
}

int objects_tell_added(struct bus *bus, const char *destination, const char *path,
                       const char *interface, const sd_bus_vtable *vtable, void *userdata)
{
    __attribute__((cleanup(unrefp))) sd_bus_message *message = NULL;
    int r = sd_bus_message_new_signal(bus->connection, &message, BUS_PATH,
                                      "org.freedesktop.DBus.ObjectManager", "InterfacesAdded");

    if (r < 0 || (r = sd_bus_message_append_basic(message, 'o', path)) < 0 ||
        (r = sd_bus_message_open_container(message, 'a', "{sa{sv}}")) < 0 ||
        (r = sd_bus_message_open_container(message, 'e', "sa{sv}")) < 0 ||
        (r = sd_bus_message_append_basic(message, 's', interface)) < 0 ||
        (r = append_properties(bus, message, path, interface, vtable, 0, userdata)) < 0 ||
        (r = sd_bus_message_close_container(message)) < 0 ||
        (r = sd_bus_message_close_container(message)) < 0)
        return r;
    return send_to(bus, message, destination);
}

int objects_tell_removed(struct bus *bus, const char *destination, const char *path,
                         const char *interface)
{
    __attribute__((cleanup(unrefp))) sd_bus_message *message = NULL;
    int r = sd_bus_message_new_signal(bus->connection, &message, BUS_PATH,
                                      "org.freedesktop.DBus.ObjectManager", "InterfacesRemoved");

    if (r < 0 || (r = sd_bus_message_append(message, "oas", path, 1, interface)) < 0)
        return r;
    return send_to(bus, message, destination);
}

int objects_tell_changed(struct bus *bus, const char *destination, const char *path,
                         const char *interface, const sd_bus_vtable *vtable, void *userdata)
{
    __attribute__((cleanup(unrefp))) sd_bus_message *message = NULL;
    int r = sd_bus_message_new_signal(bus->connection, &message, path,
                                      "org.freedesktop.DBus.Properties", "PropertiesChanged");

    if (r < 0 || (r = sd_bus_message_append_basic(message, 's', interface)) < 0 ||
        (r = append_properties(bus, message, path, interface, vtable, CHANGES, userdata)) < 0 ||
        (r = sd_bus_message_append(message, "as", 0)) < 0)
        return r;
    return send_to(bus, message, destination);
}
