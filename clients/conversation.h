/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A session with the daemon: ask, show what streams, answer tool calls, ask on.
 *
 * lfmd's own model (its id begins with "lfmd-") was trained with a clock line in its system text
 * and with some of the desktop's tools; it gets both unless the options say otherwise, but for
 * questions about pictures, which go without.
 *
 * Threads: main thread.
 */

#include <json-c/json.h>
#include <systemd/sd-bus.h>

#include "clients/options.h"
#include "clients/picture.h"
#include "clients/status.h"

struct conversation {
    sd_bus *bus;
    const struct options *options;
    char *path;   /* of the session; NULL: not open */
    char *id, *model; /* model: NULL: of a kept session, or for pictures: the daemon knows */

    /* What a person answers to a call that nothing here can answer; malloc, NULL: no answer.
     * May be NULL itself. */
    char *(*ask_person)(void *userdata, const char *name);
    void *userdata;
};

/* Create the session that the options describe, or open the kept one. */
int conversation_open(struct conversation *conversation, sd_bus *bus,
                      const struct options *options);
void conversation_close(struct conversation *conversation);

/*
 * The answers to all calls of a turn (array of its tool_call events), by the tools and the user, as
 * parts of what follows; NULL when one has none.
 */
struct json_object *conversation_answers(struct conversation *conversation, uint32_t turn,
                                         struct json_object *calls);
/* Give them where somebody listens, and the reply is spoken. */
int conversation_go_on(struct conversation *conversation, struct json_object *parts);

#define ROUNDS_MAX 16 /* tool calls that follow from one question */

/*
 * One question, about the pictures if there are any, with all that follows from it.
 * STATUS_INTERRUPTED after Ctrl-C.
 */
int conversation_ask(struct conversation *conversation, const char *text,
                     const struct pictures *pictures);
