/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Strict reading of an a{sv} argument by a table of its keys.
 *
 * A key that is not in the table, is given twice, has a value of another type, or a string that is
 * too long, is ERROR_INVALID_ARGUMENT and named in the sentence.
 *
 * Memory:  strings and descriptors are the message's. Lists and JSON are the caller's to free, also
 *          after a failure.
 * Threads: bus thread.
 */

#include <stddef.h>
#include <systemd/sd-bus.h>

#include "base/error.h"

struct vardict_key {
    const char *name;
    /*
     * D-Bus type, and what is written at offset:
     * "s" const char *, "b" bool, "d" double, "u" uint32_t, "x" int64_t, "h" int (the message's, to
     * be dup'ed), "as" char ** (NULL-terminated), "a{sv}" char *, a JSON object of the keys of
     * `nested`, whose types may be s, b, d, u and t. NULL: the keys of `nested` stand among the
     * others, and are members of the json_object * at offset, which is made with the first.
     */
    const char *type;
    size_t offset;
    size_t max;                       /* "s": bytes; "as": strings */
    const struct vardict_key *nested; /* ends with a key without name */
};

/*
 * Read the next argument of the message, an a{sv}, into target.
 *
 * what:  for the sentence: "option", "key of a content part"
 * keys:  ends with a key without name
 */
int vardict_read(sd_bus_message *message, const char *what, const struct vardict_key *keys,
                 void *target, struct error *err);
