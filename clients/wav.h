/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * WAV files: what speech goes in and out as, in 16-bit samples where nothing else is said.
 *
 * Threads: main thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WAV_OUT_RATE_HZ 24000 /* of what the daemon speaks */

#define WAV_HEAD_BYTES 44

/* What a file of samples begins with; n_bytes of them, or as many as can be: UINT32_MAX. */
void wav_head(uint8_t head[WAV_HEAD_BYTES], uint32_t rate_hz, unsigned channels,
              unsigned sample_bytes, uint32_t n_bytes);

/* Mono samples of a file, malloc; NULL after a sentence. */
int16_t *wav_read(const char *path, size_t *ret_n, uint32_t *ret_rate_hz);

/*
 * Samples in the machine's order of bytes from a descriptor into a file until the former ends; "-"
 * is standard output, which gets a head that says as much as can be. Returns an enum status.
 */
int wav_save(int from, const char *path);
