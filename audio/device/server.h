/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What PortAudio does not tell of the sound server behind ALSA's plug-in: asked of lfmd-monitor, a
 * child, since libpulse may wait for its server for ever.
 *
 * Threads: any that may block for SERVER_PATIENCE_MSEC, in most cases 20 ms.
 */

#include <stdbool.h>

#define SERVER_PATIENCE_MSEC 500

/* Whether this is the name of a source that takes the echo out, like PulseAudio's and
 * PipeWire's. */
bool server_name_cancels(const char *name);

/* The same of the server's default source; false where there is no server, or no lfmd-monitor. */
bool server_default_cancels(void);
