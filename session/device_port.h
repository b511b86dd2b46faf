/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Ear and mouth of a task on this machine's own microphone and loudspeaker (sound.h).
 *
 * Threads: bus thread; the functions of device_port as voice_port says.
 */

#include "session/ear.h"

extern const struct voice_port device_port;

/* The userdata of device_port; NULL with a sentence. */
void *device_port_new(struct engine *engine, struct error *err);
