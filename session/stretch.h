/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Speech faster or slower, higher or lower, louder or softer, as it streams (libsonic). At the
 * voice's own rate and pitch it goes through unchanged and without delay.
 *
 *     stretch_set();  stretch_push() as it comes, stretch_read() until it gives nothing;
 *     stretch_flush() where it ends or the style changes, then read the rest
 *
 * Threads: one at a time; no global state.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "session/script.h"

struct stretch;

struct stretch *stretch_new(unsigned rate_hz, struct error *err);
struct stretch *stretch_free(struct stretch *stretch); /* accepts and returns NULL */

/* After a flush, or at the beginning. */
void stretch_set(struct stretch *stretch, const struct script_style *style);

/* 0 or -ENOMEM. */
int stretch_push(struct stretch *stretch, const int16_t *samples, size_t n);
int stretch_flush(struct stretch *stretch);

/* At most n; 0: nothing is there yet. */
size_t stretch_read(struct stretch *stretch, int16_t *samples, size_t n);
