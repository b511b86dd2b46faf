/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Sound from strangers: a file descriptor -> samples, without a decoder in this process.
 *
 * Flow:    fd of a client -> lfmd-sound (a child without files, network or other privilege) ->
 *          16 kHz mono samples through a pipe
 * Formats: audio/in/file.h
 * Threads: any; one owner. Reading blocks: never on the bus thread. The child ends with the thread
 *          that made the decoder.
 */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct sound_decoder;

/*
 * program: path of lfmd-sound. fd: borrowed; a regular file or a memfd that is open for reading.
 * NULL with a sentence: INVALID_ARGUMENT, INTERNAL (the program cannot be started).
 */
struct sound_decoder *sound_decoder_new(const char *program, int fd, struct error *err);
struct sound_decoder *sound_decoder_free(struct sound_decoder *decoder); /* ends the child */

/*
 * Up to n samples, all of them finite. Returns their number, 0 at the end, or a negative errno with
 * a sentence: UNSUPPORTED_FORMAT and the like from the file, CANCELLED, TIMEOUT (nothing came for
 * 20 seconds), INTERNAL (the child has ended without a result).
 */
ssize_t sound_decoder_read(struct sound_decoder *decoder, float *samples, size_t n,
                           const atomic_bool *cancel, struct error *err);

/* Samples that the file speaks of, once the first were read; 0: it does not say. May be a lie. */
uint64_t sound_decoder_claims(const struct sound_decoder *decoder);

/* Where lfmd-sound is: $LFMD_SOUND, else in the build tree, else where it is installed. */
const char *sound_decoder_path(void);
