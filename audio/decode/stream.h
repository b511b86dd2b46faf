/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What lfmd-sound writes into its pipe: pieces, each with a head, until END or ERROR.
 *
 * Private to lfmd-sound and audio/decoder.c, which are built together.
 */

#include <stdint.h>

#include "base/error.h"

#define SOUND_PIECE_MAX 16384 /* samples */

enum sound_piece {
    SOUND_CLAIM,   /* one uint64_t: samples that the file speaks of; 0: it does not say */
    SOUND_SAMPLES, /* n floats */
    SOUND_END,
    SOUND_ERROR, /* one struct error */
};

struct sound_head {
    uint32_t piece;
    uint32_t n;
};
