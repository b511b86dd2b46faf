/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * An ear for what the machine plays: the monitor of the sound server's default loudspeaker, through
 * lfmd-monitor, a child that only records. It has no mouth.
 *
 * A server that is not there, or goes away, is tried again.
 *
 * Threads: monitor_port_new() bus thread; one of its own reads
 */

#include "session/ear.h"

extern const struct voice_port monitor_port;

/* The userdata of monitor_port; NULL with a sentence. */
void *monitor_port_new(struct error *err);
