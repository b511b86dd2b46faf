/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the helper says, one JSON object a line on stdout:
 *
 *   {"event":"start","total":N,"done":M}            M > 0: a download that goes on
 *   {"event":"progress","done":N,"total":N}         never goes back; a few a second
 *   {"event":"verifying"}
 *   {"event":"done","size":N,"sha256":"...","intact":true}
 *   {"event":"error","name":"NoSpace","message":"..."}
 *
 * Threads: main thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

void report_start(uint64_t done, uint64_t total);
void report_progress(uint64_t done, uint64_t total);
void report_verifying(void);
void report_done(uint64_t size_bytes, const char *sha256, bool intact);
void report_error(const struct error *err);

/* True once SIGTERM or SIGINT came, or nobody reads stdout any more: stop soon, keep the file. */
bool report_stopped(void);

/* Catch the signals; ignore SIGPIPE and SIGXFSZ, whose calls then fail. */
void report_setup(void);
