/* SPDX-License-Identifier: MIT */

/*
 * Wyoming events. The first byte is the size of the pieces in which the rest comes; the events must
 * be those of the whole at once, and what is composed of them must be read as the same again.
 */

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "clients/wyoming/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Events that were read, and a sum over what was in them. */
struct seen {
    unsigned n, sum;
    int result;
};

static void add(struct seen *seen, const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        seen->sum = seen->sum * 31 + ((const uint8_t *)bytes)[i];
}

static void push(struct wire *wire, const uint8_t *bytes, size_t n)
{
    while (n > 0) {
        size_t room;
        uint8_t *to = wire_room(wire, &room);

        assert(to && room > 0);
        room = MIN(room, n);
        memcpy(to, bytes, room);
        wire_filled(wire, room);
        bytes += room;
        n -= room;
    }
}

static void compose_again(const struct wire_event *event)
{
    struct wire wire = {0};
    struct wire_event again;
    struct error err = ERROR_INIT;
    size_t n;
    uint8_t *bytes =
        wire_compose(event->type, event->data, event->payload, event->n_payload, &n);

    assert(bytes);
    push(&wire, bytes, n);
    /* Escapes may make a type that was short enough too long, and data too large. */
    if (wire_next(&wire, &again, &err) == 1) {
        assert(strcmp(again.type, event->type) == 0);
        /* As text: NaN is not equal to itself. */
        assert(strcmp(json_object_to_json_string(again.data),
                      json_object_to_json_string(event->data)) == 0);
        assert(again.n_payload == event->n_payload &&
               memcmp(again.payload, event->payload, event->n_payload) == 0);
        assert(!wire_is_amid(&wire));
        wire_event_done(&again);
    } else {
        assert(err.code != ERROR_NONE);
    }
    wire_done(&wire);
    free(bytes);
}

static struct seen read_all(const uint8_t *data, size_t size, size_t piece)
{
    struct seen seen = {0};
    struct wire wire = {0};
    struct error err = ERROR_INIT;

    for (size_t at = 0; at < size && seen.result >= 0; at += piece) {
        struct wire_event event;

        push(&wire, data + at, MIN(piece, size - at));
        while ((seen.result = wire_next(&wire, &event, &err)) == 1) {
            seen.n++;
            add(&seen, event.type, strlen(event.type));
            add(&seen, event.payload, event.n_payload);
            compose_again(&event);
            wire_event_done(&event);
        }
    }
    assert((seen.result < 0) == (err.code != ERROR_NONE));
    wire_done(&wire);
    return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen whole, pieces;

    if (size < 2)
        return 0;
    whole = read_all(data + 1, size - 1, size);
    pieces = read_all(data + 1, size - 1, (size_t)data[0] + 1);
    assert(whole.n == pieces.n && whole.sum == pieces.sum && whole.result == pieces.result);
    return 0;
}
