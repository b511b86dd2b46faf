/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Events of the Wyoming protocol as bytes: a line of JSON, then JSON again, then anything.
 *
 *   {"type": "audio-chunk", "data_length": 44, "payload_length": 2048}\n
 *   {"rate": 16000, "width": 2, "channels": 1}     2048 bytes of sound
 *
 * Members of the data may also stand in the line, as an object "data"; those that follow it win.
 *
 * Flow:     socket -> wire_room() -> wire_next() -> peer
 * Threads:  any; a wire belongs to its owner
 * Memory:   one buffer, at most twice the three limits together
 * Source:   github.com/OHF-Voice/wyoming, wyoming/event.py of version 1.10
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define WIRE_LINE_MAX    ((size_t)64 << 10)
#define WIRE_DATA_MAX    ((size_t)2 << 20)
#define WIRE_PAYLOAD_MAX ((size_t)1 << 20)
#define WIRE_DEPTH_MAX   32 /* of the JSON */

/* What has come and was not taken yet; zeroed is nothing. */
struct wire {
    uint8_t *bytes;
    size_t n, size;
    size_t taken;             /* by the event that was handed out last */
    struct json_object *line; /* of the event that is coming; NULL: not whole yet */
    size_t n_line, n_data, n_payload;
};

struct wire_event {
    const char *type;
    struct json_object *data; /* an object */
    const uint8_t *payload;   /* in the wire, until its next call */
    size_t n_payload;
    struct json_object *line; /* that `type` is from */
};

/*
 * Where the next bytes go: *ret_n > 0 of them. NULL: no memory. wire_filled() says how many came.
 */
uint8_t *wire_room(struct wire *wire, size_t *ret_n);
void wire_filled(struct wire *wire, size_t n);

/*
 * The next event. 1: here it is, to be given to wire_event_done(); 0: more bytes are needed; a
 * negative errno with a sentence: these are no events, and where the next would begin nobody knows.
 */
int wire_next(struct wire *wire, struct wire_event *ret, struct error *err);
void wire_event_done(struct wire_event *event);

/* Part of an event has come. */
bool wire_is_amid(const struct wire *wire);

void wire_done(struct wire *wire); /* zeroed again */

/* An event as bytes, malloc; NULL: no memory. data NULL: none. */
uint8_t *wire_compose(const char *type, struct json_object *data, const void *payload,
                      size_t n_payload, size_t *ret_n);
