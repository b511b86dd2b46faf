/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * WAV files of 16-bit samples: what speech goes in and out as.
 *
 * Threads: main thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WAV_OUT_RATE_HZ 24000 /* of what the daemon speaks */

/* Mono samples of a file, malloc; NULL after a sentence. */
int16_t *wav_read(const char *path, size_t *ret_n, uint32_t *ret_rate_hz);

/*
 * Samples in the machine's order of bytes from a descriptor into a file until the former ends; "-" is
 * standard output, which gets a head that says as much as can be. Returns an enum status.
 */
int wav_save(int from, const char *path);
