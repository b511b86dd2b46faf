/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Ids that stand for rows which no token has: of a picture, of a sound, of a frame of audio codes.
 *
 * A row id has the top bit set, which no token has, and the rest is drawn from the key of what the
 * row comes from and the place in it: sequences and the prefix cache compare ids, and so see which
 * picture or sound it is.
 *
 * Threads: any; no state.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROW_ID ((uint32_t)1 << 31)

static inline bool is_row_id(uint32_t id)
{
    return (id & ROW_ID) && id != UINT32_MAX;
}

/* The id of row `place` of what this key stands for; equal keys stand for equal rows. */
uint32_t row_id(const uint64_t key[2], size_t place);
