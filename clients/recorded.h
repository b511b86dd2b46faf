/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A recording in place of the microphone of a session, and a file in place of its loudspeaker.
 *
 * Threads: main thread; two of its own move the samples
 */

#include <systemd/sd-bus.h>

struct recorded;

/*
 * Before StartListening. path: a session's; input: a WAV file; output: another, or NULL.
 * Returns an enum status.
 */
int recorded_open(sd_bus *bus, const char *path, const char *input, const char *output,
                  struct recorded **ret);
/* After it: the recording is heard, and then silence. */
int recorded_start(struct recorded *recorded);
/* When the session is closed: wait until all is written. Accepts NULL. Returns an enum status. */
int recorded_close(struct recorded *recorded);
