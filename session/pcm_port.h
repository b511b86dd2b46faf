/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Ear and mouth of a client that has its own: PCM through two pipes, 16 bits, mono, in the
 * machine's order of bytes.
 *
 * The client's samples are the clock of the ear: a client that stalls is silent for no time at all.
 * What it does not read of the mouth waits here (a second) and then at the model. When it closes
 * the ear, the conversation ends.
 *
 * Threads: pcm_port_new() bus thread; one of its own for both pipes
 */

#include "session/ear.h"

#define PCM_RATE_MIN 8000
#define PCM_RATE_MAX 192000

extern const struct voice_port pcm_port;

/*
 * The userdata of pcm_port. in_rate_hz: of what the client sends; it gets 24 kHz.
 * *ret_in: it writes there; *ret_out: it reads there; both are the caller's.
 */
void *pcm_port_new(unsigned in_rate_hz, int *ret_in, int *ret_out, struct error *err);
