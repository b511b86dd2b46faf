/* SPDX-License-Identifier: MIT */
#pragma once

/* Reproducible numbers and blocks for the tests of this folder. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tensor/dtype.h"

static uint64_t random_state = 0x9e3779b97f4a7c15;

static inline uint32_t random_u32(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32);
}

/* In [-1, 1). */
static inline float random_f32(void)
{
    return (float)(int32_t)random_u32() * 0x1p-31f;
}

static inline void random_row(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = random_f32();
}

/* Offsets of the halves in a block: scales and minimums must be finite numbers. */
static inline size_t random_halves(enum dtype type, size_t at[2])
{
    switch (type) {
    case DTYPE_Q4_1:
    case DTYPE_Q5_1:
    case DTYPE_Q4_K:
    case DTYPE_Q5_K:
        at[0] = 0;
        at[1] = 2;
        return 2;
    case DTYPE_Q2_K:
        at[0] = 80;
        at[1] = 82;
        return 2;
    case DTYPE_Q3_K:
        at[0] = 108;
        return 1;
    case DTYPE_Q6_K:
        at[0] = 208;
        return 1;
    default:
        at[0] = 0;
        return 1;
    }
}

/* The scales and minimums of n values of a quantised type. */
static inline void random_scales(enum dtype type, void *blocks, size_t n)
{
    const struct dtype_info *const info = dtype_info(type);
    unsigned char *b = blocks;
    size_t at[2];
    const size_t n_halves = random_halves(type, at);

    for (size_t i = 0; i < n / info->block_values; i++, b += info->block_bytes) {
        for (size_t j = 0; j < n_halves; j++) {
            const uint16_t half = f32_to_f16(random_f32() * 0.02f);

            memcpy(b + at[j], &half, 2);
        }
    }
}

/* n values of any handled type. */
static inline void random_blocks(enum dtype type, void *blocks, size_t n)
{
    const struct dtype_info *const info = dtype_info(type);
    unsigned char *b = blocks;

    if (info->block_values == 1) {
        for (size_t i = 0; i < n; i++) {
            const float value = random_f32();
            const uint16_t half = type == DTYPE_F16 ? f32_to_f16(value) : f32_to_bf16(value);

            if (type == DTYPE_F32)
                memcpy(b + 4 * i, &value, 4);
            else
                memcpy(b + 2 * i, &half, 2);
        }
        return;
    }
    for (size_t i = 0; i < n / info->block_values * info->block_bytes; i++)
        b[i] = (unsigned char)random_u32();
    random_scales(type, blocks, n);
}

static const enum dtype random_types[] = {
    DTYPE_F32,  DTYPE_F16,  DTYPE_BF16, DTYPE_Q4_0,   DTYPE_Q4_1,
    DTYPE_Q5_0, DTYPE_Q5_1, DTYPE_Q8_0, DTYPE_Q2_K,   DTYPE_Q3_K,
    DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_IQ4_NL, DTYPE_IQ4_XS,
};
