/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The packed form of weights: what the kernels of every instruction set read.
 *
 * Rows are taken in groups of 16 (the last group is padded with zeros), so that one 32-bit lane of
 * a vector is one row. A group is a run of records of record_values values of its rows:
 *
 *     d        f16 [record_values / d_values][16]       scales
 *     m        f16 [record_values / d_values][16]       minimums, where the type has them
 *     sub      i8 or u8 [record_values / sub_values][16]    small integer scales
 *     sub_min  u8 [record_values / sub_values][16]      small integer minimums
 *     quants   [record_values / 32] steps of 64 * bits bytes
 *
 * each part a multiple of ARENA_ALIGN. All of it is read once, from front to back: a core that
 * follows two places at a time in one group fetches a third as much from memory. The last record
 * may be partly used.
 *
 * A step holds 32 values of 16 rows. As bytes it would be eight vectors V[0..7] of 64 bytes: byte
 * 4 r + i of V[j] is value 4 j + i of row r. It is stored as bit planes, lowest first, each one or
 * more vectors P:
 *
 *     4-bit plane  P[0..3]  low nibble: V[2 c], high nibble: V[2 c + 1]
 *     2-bit plane  P[0..1]  bits 2 f and 2 f + 1: V[4 c + f]
 *     1-bit plane  P[0]     bit j: V[j]
 *     8-bit plane  V itself
 *
 * A weight is scale * (u - offset) + minimum, u an unsigned integer of `bits` bits (or, for the IQ4
 * types, the entry of a table for it); scale is d or d * sub, minimum is m or -(m * sub_min), both
 * exact in f32. Float types are [in][16] in the file's own format.
 *
 * Threads: any; no state.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor/dtype.h"

#define GROUP_ROWS 16
#define STEP_VALUES 32

struct packing {
    uint8_t bits;        /* of one quant; 16 or 32: a float type */
    uint8_t offset;      /* a power of two, or 0 */
    uint16_t d_values;   /* values that share d (and m); 0: a float type */
    uint8_t sub_values;  /* values that share sub; 0: none */
    bool has_min;        /* m, and sub_min where there is sub */
    bool table;          /* u is an entry of packing_iq4[] */
    bool plane4, plane2, plane1;
};

/* IQ4_NL and IQ4_XS: the 16 values, plus their offset 128. */
extern const uint8_t packing_iq4[16];

static const struct packing packing_table[_DTYPE_N] = {
    [DTYPE_F32] = {.bits = 32},
    [DTYPE_F16] = {.bits = 16},
    [DTYPE_BF16] = {.bits = 16},
    [DTYPE_Q4_0] = {.bits = 4, .offset = 8, .d_values = 32, .plane4 = true},
    [DTYPE_Q4_1] = {.bits = 4, .d_values = 32, .has_min = true, .plane4 = true},
    [DTYPE_Q5_0] = {.bits = 5, .offset = 16, .d_values = 32, .plane4 = true, .plane1 = true},
    [DTYPE_Q5_1] = {.bits = 5, .d_values = 32, .has_min = true, .plane4 = true, .plane1 = true},
    [DTYPE_Q8_0] = {.bits = 8, .offset = 128, .d_values = 32},
    [DTYPE_Q2_K] = {.bits = 2, .d_values = 256, .sub_values = 16, .has_min = true, .plane2 = true},
    [DTYPE_Q3_K] = {.bits = 3, .offset = 4, .d_values = 256, .sub_values = 16, .plane2 = true,
                    .plane1 = true},
    [DTYPE_Q4_K] = {.bits = 4, .d_values = 256, .sub_values = 32, .has_min = true, .plane4 = true},
    [DTYPE_Q5_K] = {.bits = 5, .d_values = 256, .sub_values = 32, .has_min = true, .plane4 = true,
                    .plane1 = true},
    [DTYPE_Q6_K] = {.bits = 6, .offset = 32, .d_values = 256, .sub_values = 16, .plane4 = true,
                    .plane2 = true},
    [DTYPE_IQ4_NL] = {.bits = 4, .offset = 128, .d_values = 32, .table = true, .plane4 = true},
    [DTYPE_IQ4_XS] = {.bits = 4, .offset = 128, .d_values = 256, .sub_values = 32, .table = true,
                      .plane4 = true},
};

static inline const struct packing *packing_of(enum dtype type)
{
    return &packing_table[type];
}

#define RECORD_VALUES_32 64 /* of a record where d belongs to 32 values: d fills a cache line */

static inline size_t packing_record_values(const struct packing *p)
{
    return p->d_values == 256 ? 256 : RECORD_VALUES_32;
}

/* Where the parts of a record begin. */
struct packing_parts {
    size_t d, m, sub, sub_min, quants; /* bytes from the start of the record */
    size_t record_values, record_bytes;
    size_t step_bytes;
    size_t group_bytes;
};

struct packing_parts packing_parts(enum dtype type, size_t in);

/* Where the scales of value k of row 0 are in a group. */
static inline size_t packing_d(const struct packing *p, const struct packing_parts *parts, size_t k)
{
    return k / parts->record_values * parts->record_bytes +
           k % parts->record_values / p->d_values * GROUP_ROWS * 2;
}

static inline size_t packing_sub(const struct packing *p, const struct packing_parts *parts,
                                 size_t k)
{
    return k / parts->record_values * parts->record_bytes +
           k % parts->record_values / p->sub_values * GROUP_ROWS;
}

/* Where the step of value k is. */
static inline size_t packing_step(const struct packing_parts *parts, size_t k)
{
    return k / parts->record_values * parts->record_bytes + parts->quants +
           k % parts->record_values / STEP_VALUES * parts->step_bytes;
}

/*
 * Pack one group. rows: the file's blocks of row 0, row_bytes apart; n_rows <= 16, the rest of the
 * group becomes zeros. scratch: GROUP_ROWS * in bytes.
 */
void packing_group(enum dtype type, size_t in, const void *rows, size_t row_bytes, size_t n_rows,
                   void *group, void *scratch);

/*
 * The wide form, for kernels that multiply integers of 16 bits: a group is f32 scale [16], then
 * [in / 2][16][2] integers, two values of a row side by side, `in` filled up to an even number.
 *
 * Activations are at most WIDE_MAX in blocks of WIDE_BLOCK values. The scale of a row is the least
 * that keeps each sum of a block within 32 bits, whatever the activations are: about 12 bits a
 * weight. A row with an infinity or a NaN has the scale NaN and zeros.
 */
#define WIDE_BLOCK 256
#define WIDE_MAX   8191
#define WIDE_LIMIT ((1 << 18) - WIDE_BLOCK) /* of the sizes of a block's weights, before rounding */

static inline size_t packing_wide_group_bytes(size_t in)
{
    return GROUP_ROWS * (sizeof(float) + (in + in % 2) * sizeof(int16_t));
}

/* scratch: in floats. */
void packing_wide_group(enum dtype type, size_t in, const void *rows, size_t row_bytes,
                        size_t n_rows, void *group, void *scratch);

/* u of value k < 32 of row r in one step. */
unsigned packing_quant(const struct packing *p, const uint8_t *step, size_t r, size_t k);

/* Row r of a group as f32, the exact values of the file. */
void packing_row(enum dtype type, size_t in, const void *group, size_t r, float *out);
