/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * From our errors to the bus: org.lfmd.Assistant1.Error.NAME with the sentence as it is.
 *
 * Threads: bus thread.
 */

#include <systemd/sd-bus.h>

#include "base/error.h"

#define ERRORS_PREFIX "org.lfmd.Assistant1.Error."

/*
 * What a method handler returns when `r` says failure: fills ret_error from err, or, when nothing
 * was written there, from the errno of a call to the bus library.
 */
int errors_return(sd_bus_error *ret_error, int r, const struct error *err);

/* Answer a call that was kept for later. */
void errors_reply(sd_bus_message *call, const struct error *err);

/* A message that could not be read or written: its errno as a sentence. Returns a negative
 * errno. */
int errors_message(struct error *err, int r);
