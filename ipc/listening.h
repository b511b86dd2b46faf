/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The voice of a session: StartListening(), StopListening(), Press(), EndOfTurn(), Interrupt(),
 * OpenAudio(). session_object.c has the methods and one slot for each session.
 *
 * Threads: bus thread.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "base/error.h"

struct bus;
struct listening;
struct model;
struct session;

/* OpenAudio(a{sv}) -> (h in, h out): pipes for the next StartListening(). Replies. */
int listening_open_audio(struct listening **slot, struct bus *bus, sd_bus_message *message,
                         struct error *err);

/* StartListening(a{sv}) -> h. session: until listening_drop(). model: of the session, or NULL; one
 * that is deaf, or mute where it is to speak, gives way to the first that is not. Replies. */
int listening_start(struct listening **slot, struct bus *bus, struct session *session,
                    const struct model *model,
                    void (*changed)(void *userdata), void *userdata, sd_bus_message *message,
                    struct error *err);

struct listening_state {
    bool listening; /* the microphone is really open */
    uint32_t overruns, underruns;
};

/* Somebody listens, or is being asked whether he may. */
bool listening_is_active(const struct listening *listening);

/* changed() was called when it became so. */
struct listening_state listening_state(const struct listening *listening);

enum listening_command { LISTENING_STOP, LISTENING_PRESS, LISTENING_END_TURN, LISTENING_INTERRUPT };

/* INVALID_ARGUMENT when nobody listens. */
int listening_command(struct listening **slot, enum listening_command command, struct error *err);

/* End it: the session is closed. */
void listening_drop(struct listening **slot);
