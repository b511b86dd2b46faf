/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the files of encoders have in common (GGUF, architecture "clip": "mmproj" files), read with
 * a sentence for each way in which they can be wrong.
 *
 * Threads: any.
 */

#include <stdint.h>

#include "base/error.h"
#include "tensor/gguf.h"

struct mmproj {
    const struct gguf *gguf;
    const char *kind; /* "vision" or "audio", as in "clip.vision.block_count" */
    struct error *err;
};

/*
 * Whether this is an encoder of this kind, with this projector, in number formats that encoders
 * come in: F32, F16, BF16, Q8_0, Q4_0.
 */
int mmproj_check(const struct mmproj *file, const char *projector);

/* Where the file says it at all, it must be true. */
int mmproj_flag(const struct mmproj *file, const char *key);

/* Numbers that must be there. */
int mmproj_u32(const struct mmproj *file, const char *key, uint32_t min, uint32_t max,
               uint32_t *ret);
int mmproj_positive(const struct mmproj *file, const char *key, float *ret);

/* A width that only a tensor tells: its dimension `dim`. */
int mmproj_width(const struct mmproj *file, const char *tensor, unsigned dim, uint32_t max,
                 uint32_t *ret);

/* The sentence about a "key" or "tensor" that is not there. */
int mmproj_absent(const struct mmproj *file, const char *what, const char *name);
