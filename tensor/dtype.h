/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The number formats of GGUF tensors, and their exact dequantisation.
 *
 * Source: text.md 8.2 and the PyPI package gguf (gguf/quants.py); the enumerators carry ggml's ids.
 * Threads: any; no state.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dtype {
    DTYPE_F32 = 0,
    DTYPE_F16 = 1,
    DTYPE_Q4_0 = 2,
    DTYPE_Q4_1 = 3,
    DTYPE_Q5_0 = 6,
    DTYPE_Q5_1 = 7,
    DTYPE_Q8_0 = 8,
    DTYPE_Q2_K = 10,
    DTYPE_Q3_K = 11,
    DTYPE_Q4_K = 12,
    DTYPE_Q5_K = 13,
    DTYPE_Q6_K = 14,
    DTYPE_IQ4_NL = 20,
    DTYPE_IQ4_XS = 23,
    DTYPE_BF16 = 30,
    _DTYPE_N = 31,
};

struct dtype_info {
    const char *name;
    size_t block_values; /* values in one block */
    size_t block_bytes;
};

/* NULL for an id that is not handled. */
const struct dtype_info *dtype_info(uint32_t id);

/* A readable name for any ggml id, handled or not ("IQ2_XXS", "type 77"); static storage. */
const char *dtype_name(uint32_t id);

/* Bytes of a row of n values; n must be a multiple of block_values. */
size_t dtype_row_bytes(enum dtype type, size_t n);

/*
 * blocks: [n / block_values] blocks of `type`, any alignment
 * out:    [n], the exact values
 */
void dtype_to_f32(enum dtype type, const void *blocks, float *out, size_t n);

/* IEEE half and bfloat16, exact widening and round-to-nearest-even narrowing. */
float f16_to_f32(uint16_t half);
uint16_t f32_to_f16(float value);
float bf16_to_f32(uint16_t bf16);
uint16_t f32_to_bf16(float value);
