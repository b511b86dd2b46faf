/* SPDX-License-Identifier: MIT */
#include "ipc/vardict.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "ipc/errors.h"

static void json_freep(json_object **object)
{
    json_object_put(*object);
}

static int read_string(sd_bus_message *message, const char *what, const struct vardict_key *key,
                       const char **ret, struct error *err)
{
    const char *text;
    int r = sd_bus_message_read_basic(message, 's', &text);

    if (r < 0)
        return errors_message(err, r);
    if (strlen(text) > key->max)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The %s '%s' has %zu bytes, at most %zu are taken.", what, key->name,
                         strlen(text), key->max);
    *ret = text;
    return 0;
}

/* A basic value as JSON. */
static int read_json_value(sd_bus_message *message, const char *what, const struct vardict_key *key,
                           json_object **ret, struct error *err)
{
    union {
        double d;
        uint32_t u;
        uint64_t t;
        int b;
        const char *s;
    } value;
    int r = *key->type == 's' ? read_string(message, what, key, &value.s, err)
                              : sd_bus_message_read_basic(message, *key->type, &value);

    if (r < 0)
        return errors_message(err, r);
    *ret = *key->type == 's'   ? json_object_new_string(value.s)
           : *key->type == 'b' ? json_object_new_boolean(value.b)
           : *key->type == 'd' ? json_object_new_double(value.d)
           : *key->type == 'u' ? json_object_new_int64(value.u)
                               : json_object_new_uint64(value.t);
    return *ret ? 0 : errors_message(err, -ENOMEM);
}

static int read_strings(sd_bus_message *message, const char *what, const struct vardict_key *key,
                        char ***ret, struct error *err)
{
    size_t n = 0;
    int r;

    r = sd_bus_message_read_strv(message, ret);
    if (r < 0)
        return errors_message(err, r);
    while (*ret && (*ret)[n])
        n++;
    if (n > key->max)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The %s '%s' has %zu strings, at most %zu are taken.", what, key->name, n,
                         key->max);
    return 0;
}

static int read_value(sd_bus_message *message, const char *what, const struct vardict_key *key,
                      void *target, struct error *err);

/* Which key a name is; row: of the table, which for a key of a row without type is that row. */
struct place {
    const struct vardict_key *key, *row;
    unsigned bit;
};

static bool find_key(const struct vardict_key *keys, const char *name, struct place *ret)
{
    unsigned bit = 0;

    for (const struct vardict_key *row = keys; row->name; row++) {
        for (const struct vardict_key *key = row->type ? row : row->nested; key->name; key++) {
            if (!strcmp(key->name, name)) {
                *ret = (struct place){.key = key, .row = row, .bit = bit};
                return true;
            }
            bit++;
            if (row->type)
                break;
        }
    }
    return false;
}

/* The value becomes a member of *object. */
static int read_member(sd_bus_message *message, const char *what, const struct vardict_key *key,
                       json_object **object, struct error *err)
{
    json_object *value;
    int r;

    if (!*object && !(*object = json_object_new_object()))
        return errors_message(err, -ENOMEM);
    r = read_json_value(message, what, key, &value, err);
    if (r >= 0)
        json_object_object_add(*object, key->name, value);
    return r;
}

/* Go through the entries; each goes to *object when there is one, else to target. */
static int read_entries(sd_bus_message *message, const char *what, const struct vardict_key *keys,
                        void *target, json_object **object, struct error *err)
{
    uint32_t seen = 0; /* a bit for each key of the table */
    int r;

    r = sd_bus_message_enter_container(message, 'a', "{sv}");
    if (r < 0)
        return errors_message(err, r);
    while ((r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
        struct place place;
        const char *name, *contents;
        void *value;

        r = sd_bus_message_read_basic(message, 's', &name);
        if (r < 0)
            return errors_message(err, r);
        if (!find_key(keys, name, &place))
            return error_set(err, ERROR_INVALID_ARGUMENT, "There is no %s '%.64s'.", what, name);
        if (seen & UINT32_C(1) << place.bit)
            return error_set(err, ERROR_INVALID_ARGUMENT, "The %s '%s' is given twice.", what,
                             name);
        seen |= UINT32_C(1) << place.bit;

        r = sd_bus_message_peek_type(message, NULL, &contents);
        if (r < 0)
            return errors_message(err, r);
        if (strcmp(contents, place.key->type))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "The %s '%s' must be of D-Bus type %s, not %.32s.", what, name,
                             place.key->type, contents);
        r = sd_bus_message_enter_container(message, 'v', place.key->type);
        if (r < 0)
            return errors_message(err, r);
        value = object ? (void *)object : (char *)target + place.row->offset;
        if (object || !place.row->type)
            r = read_member(message, what, place.key, value, err);
        else
            r = read_value(message, what, place.key, value, err);
        if (r < 0)
            return r;
        if ((r = sd_bus_message_exit_container(message)) < 0 ||
            (r = sd_bus_message_exit_container(message)) < 0)
            return errors_message(err, r);
    }
    if (r < 0 || (r = sd_bus_message_exit_container(message)) < 0)
        return errors_message(err, r);
    return 0;
}

static int read_json(sd_bus_message *message, const struct vardict_key *key, char **ret,
                     struct error *err)
{
    _cleanup_(json_freep) json_object *object = json_object_new_object();
    char what[64];
    int r;

    if (!object)
        return errors_message(err, -ENOMEM);
    snprintf(what, sizeof(what), "%s value", key->name);
    r = read_entries(message, what, key->nested, NULL, &object, err);
    if (r < 0)
        return r;
    *ret = strdup(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN));
    return *ret ? 0 : errors_message(err, -ENOMEM);
}

static int read_value(sd_bus_message *message, const char *what, const struct vardict_key *key,
                      void *target, struct error *err)
{
    int r, flag;

    switch (*key->type) {
    case 's':
        return read_string(message, what, key, target, err);
    case 'b':
        r = sd_bus_message_read_basic(message, 'b', &flag);
        if (r < 0)
            return errors_message(err, r);
        *(bool *)target = flag;
        return 0;
    case 'a':
        return key->nested ? read_json(message, key, target, err)
                           : read_strings(message, what, key, target, err);
    default:
        r = sd_bus_message_read_basic(message, *key->type, target);
        return r < 0 ? errors_message(err, r) : 0;
    }
}

int vardict_read(sd_bus_message *message, const char *what, const struct vardict_key *keys,
                 void *target, struct error *err)
{
    return read_entries(message, what, keys, target, NULL, err);
}
