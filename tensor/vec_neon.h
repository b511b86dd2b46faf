/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Vectors of 16 lanes for kernels_body.h, in four NEON registers each. Bytes are multiplied by
 * SDOT, which is exact: it widens before it adds. With VEC_I8MM panels are multiplied by SMMLA,
 * which does twice as much at a time.
 */

#include <arm_neon.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ALWAYS static inline __attribute__((always_inline))

#define VEC_ROWS_MAX     3
#define VEC_AHEAD        0 /* the processor's own prefetching suffices */
#define VEC_BYTES_SIGNED 1
#ifdef VEC_I8MM
#define VEC_PAIRS 1
#else
#define VEC_PAIRS 0
#endif
#define VEC_WIDE_ROWS 4

typedef struct {
    float32x4_t v[4];
} vf;

typedef struct {
    int32x4_t v[4];
} vi;

typedef struct {
    uint8x16_t v[4];
} vb;

/* A vector whose quarter i is the expression. */
#define QUARTERS(type, expression)                                                                 \
    __extension__({                                                                                \
        type _all;                                                                                 \
        _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) _all.v[i] = (expression);              \
        _all;                                                                                      \
    })

/* --- f32 ------------------------------------------------------------------------------------ */

ALWAYS vf vf_set1(float x)
{
    return QUARTERS(vf, vdupq_n_f32(x));
}

ALWAYS vf vf_zero(void)
{
    return vf_set1(0);
}

ALWAYS vf vf_load(const float *p)
{
    return QUARTERS(vf, vld1q_f32(p + 4 * i));
}

ALWAYS void vf_store(float *p, vf a)
{
    vst1q_f32(p, a.v[0]);
    vst1q_f32(p + 4, a.v[1]);
    vst1q_f32(p + 8, a.v[2]);
    vst1q_f32(p + 12, a.v[3]);
}

/* The first n < 16 lanes, zeros elsewhere. */
ALWAYS vf vf_load_n(const float *p, size_t n)
{
    float lane[16] = {0};

    memcpy(lane, p, n * sizeof(*p));
    return vf_load(lane);
}

ALWAYS void vf_store_n(float *p, vf a, size_t n)
{
    float lane[16];

    vf_store(lane, a);
    memcpy(p, lane, n * sizeof(*p));
}

ALWAYS vf vf_add(vf a, vf b)
{
    return QUARTERS(vf, vaddq_f32(a.v[i], b.v[i]));
}

ALWAYS vf vf_sub(vf a, vf b)
{
    return QUARTERS(vf, vsubq_f32(a.v[i], b.v[i]));
}

ALWAYS vf vf_mul(vf a, vf b)
{
    return QUARTERS(vf, vmulq_f32(a.v[i], b.v[i]));
}

ALWAYS vf vf_div(vf a, vf b)
{
    return QUARTERS(vf, vdivq_f32(a.v[i], b.v[i]));
}

/* a * b + c */
ALWAYS vf vf_fma(vf a, vf b, vf c)
{
    return QUARTERS(vf, vfmaq_f32(c.v[i], a.v[i], b.v[i]));
}

/* As fmaxf() and fminf(): of a number and a NaN the number. */
ALWAYS vf vf_max(vf a, vf b)
{
    return QUARTERS(vf, vmaxnmq_f32(a.v[i], b.v[i]));
}

ALWAYS vf vf_min(vf a, vf b)
{
    return QUARTERS(vf, vminnmq_f32(a.v[i], b.v[i]));
}

ALWAYS vf vf_abs(vf a)
{
    return QUARTERS(vf, vabsq_f32(a.v[i]));
}

/* a where x >= y, zero elsewhere */
ALWAYS vf vf_where_ge(vf x, vf y, vf a)
{
    return QUARTERS(vf, vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(a.v[i]),
                                                        vcltq_f32(x.v[i], y.v[i]))));
}

/* a in the lanes [begin, end), `other` elsewhere */
ALWAYS vf vf_in_range(vf a, size_t begin, size_t end, vf other)
{
    const uint32x4_t b = vdupq_n_u32((uint32_t)begin), e = vdupq_n_u32((uint32_t)end);
    const uint32x4_t first = {0, 1, 2, 3};

    return QUARTERS(vf, ({
                        const uint32x4_t lane = vaddq_u32(first, vdupq_n_u32(4 * (uint32_t)i));

                        vbslq_f32(vandq_u32(vcgeq_u32(lane, b), vcltq_u32(lane, e)), a.v[i],
                                  other.v[i]);
                    }));
}

/* (i) + (i + 8), (i) + (i + 4), ... */
ALWAYS float vf_sum(vf a)
{
    const float32x4_t b = vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3]));

    return vpadds_f32(vadd_f32(vget_low_f32(b), vget_high_f32(b)));
}

ALWAYS float vf_max_lane(vf a)
{
    return vmaxnmvq_f32(
        vmaxnmq_f32(vmaxnmq_f32(a.v[0], a.v[2]), vmaxnmq_f32(a.v[1], a.v[3])));
}

/* --- conversions ---------------------------------------------------------------------------- */

ALWAYS vf vf_from_vi(vi a)
{
    return QUARTERS(vf, vcvtq_f32_s32(a.v[i]));
}

/* Values 4 i .. 4 i + 3 of 16 bits at any address. */
ALWAYS uint16x4_t load_words(const void *p, int i)
{
    return vreinterpret_u16_u8(vld1_u8((const uint8_t *)p + 8 * i));
}

ALWAYS vf vf_load_f16(const void *p)
{
    return QUARTERS(vf, vcvt_f32_f16(vreinterpret_f16_u16(load_words(p, i))));
}

ALWAYS vf vf_load_bf16(const void *p)
{
    return QUARTERS(vf, vreinterpretq_f32_u32(vshll_n_u16(load_words(p, i), 16)));
}

ALWAYS vf vf_load_i8(const void *p)
{
    const int8x16_t bytes = vld1q_s8(p);
    const int16x8_t lo = vmovl_s8(vget_low_s8(bytes)), hi = vmovl_high_s8(bytes);

    return vf_from_vi((vi){{vmovl_s16(vget_low_s16(lo)), vmovl_high_s16(lo),
                            vmovl_s16(vget_low_s16(hi)), vmovl_high_s16(hi)}});
}

ALWAYS vf vf_load_u8(const void *p)
{
    const uint8x16_t bytes = vld1q_u8(p);
    const uint16x8_t lo = vmovl_u8(vget_low_u8(bytes)), hi = vmovl_high_u8(bytes);

    return (vf){{vcvtq_f32_u32(vmovl_u16(vget_low_u16(lo))), vcvtq_f32_u32(vmovl_high_u16(lo)),
                 vcvtq_f32_u32(vmovl_u16(vget_low_u16(hi))), vcvtq_f32_u32(vmovl_high_u16(hi))}};
}

/* --- i32 ------------------------------------------------------------------------------------ */

ALWAYS vi vi_set1(int32_t x)
{
    return QUARTERS(vi, vdupq_n_s32(x));
}

/* Nearest integers, ties to even. */
ALWAYS vi vi_round(vf a)
{
    return QUARTERS(vi, vcvtnq_s32_f32(a.v[i]));
}

/* Bits of y plus (bits of shifted << 23): y * 2^whole. */
ALWAYS vf vf_add_exponent(vf y, vf shifted)
{
    return QUARTERS(vf, vreinterpretq_f32_u32(vaddq_u32(
                            vreinterpretq_u32_f32(y.v[i]),
                            vshlq_n_u32(vreinterpretq_u32_f32(shifted.v[i]), 23))));
}

ALWAYS int32_t vi_sum(vi a)
{
    return vaddvq_s32(vaddq_s32(vaddq_s32(a.v[0], a.v[2]), vaddq_s32(a.v[1], a.v[3])));
}

ALWAYS void vi_store_i8(int8_t *p, vi a)
{
    const int16x8_t lo = vcombine_s16(vmovn_s32(a.v[0]), vmovn_s32(a.v[1]));
    const int16x8_t hi = vcombine_s16(vmovn_s32(a.v[2]), vmovn_s32(a.v[3]));

    vst1q_s8(p, vcombine_s8(vmovn_s16(lo), vmovn_s16(hi)));
}

/* --- sums of products of bytes, four by four ------------------------------------------------ */

#include "tensor/vec_sum32.h"

/* Runs of 8 values of some positions, two in a register; the last may be alone. */
typedef struct {
    int8x16_t v[VEC_ROWS_MAX];
} vx;

ALWAYS vx vx_load(const int8_t *p, int n)
{
    vx x;

    _Pragma("GCC unroll 4") for (int i = 0; i < n / 2; i++) x.v[i] = vld1q_s8(p + 16 * i);
    if (n % 2)
        x.v[n / 2] = vcombine_s8(vld1_s8(p + 8 * (n - 1)), vdup_n_s8(0));
    return x;
}

/* SDOT with one word of x; the switch gives it an immediate even where nothing is optimised. */
ALWAYS int32x4_t dot_word(int32x4_t acc, int8x16_t bytes, int8x16_t x, int i)
{
    switch (i) {
    case 0:
        return vdotq_laneq_s32(acc, bytes, x, 0);
    case 1:
        return vdotq_laneq_s32(acc, bytes, x, 1);
    case 2:
        return vdotq_laneq_s32(acc, bytes, x, 2);
    default:
        return vdotq_laneq_s32(acc, bytes, x, 3);
    }
}

/*
 * Add to each lane the products of its 4 signed bytes and the signed bytes of word `word`: word
 * 2 i + h is half h of position i.
 */
ALWAYS vp vp_dot8(vp part, vb bytes, const vx *x, int word)
{
    return QUARTERS(vp, dot_word(part.v[i], vreinterpretq_s8_u8(bytes.v[i]), x->v[word / 4],
                                 word % 4));
}

/* The same for unsigned bytes, which are below 128. */
ALWAYS vp vp_dot(vp part, vb bytes, const vx *x, int word)
{
    return vp_dot8(part, bytes, x, word);
}

#if VEC_PAIRS

/* --- 8 rows of two positions: lane 2 r + p --------------------------------------------------- */

ALWAYS vf vf_pair(const float *p)
{
    uint64_t both;

    memcpy(&both, p, 8);
    return QUARTERS(vf, vreinterpretq_f32_u64(vdupq_n_u64(both)));
}

ALWAYS vi vi_pair(const int32_t *p)
{
    uint64_t both;

    memcpy(&both, p, 8);
    return QUARTERS(vi, vreinterpretq_s32_u64(vdupq_n_u64(both)));
}

/* Lanes 8 half .. 8 half + 7 of a and b in turn. */
ALWAYS vf vf_zip(vf a, vf b, int half)
{
    return QUARTERS(vf, i % 2 ? vzip2q_f32(a.v[2 * half + i / 2], b.v[2 * half + i / 2])
                              : vzip1q_f32(a.v[2 * half + i / 2], b.v[2 * half + i / 2]));
}

/* The same for 4 bytes at a time: values 0 .. 3 of the rows in a and 4 .. 7 in b side by side. */
ALWAYS vb vb_zip(vb a, vb b, int half)
{
    return QUARTERS(vb, ({
                        const uint32x4_t x = vreinterpretq_u32_u8(a.v[2 * half + i / 2]);
                        const uint32x4_t y = vreinterpretq_u32_u8(b.v[2 * half + i / 2]);

                        vreinterpretq_u8_u32(i % 2 ? vzip2q_u32(x, y) : vzip1q_u32(x, y));
                    }));
}

/* Position p of both halves of the rows. */
ALWAYS vf vf_unzip(vf lo, vf hi, int p)
{
    return QUARTERS(vf, ({
                        const float32x4_t *const v = (i < 2 ? lo.v : hi.v) + i % 2 * 2;

                        p ? vuzp2q_f32(v[0], v[1]) : vuzp1q_f32(v[0], v[1]);
                    }));
}

/* Add the products of 8 rows of 8 signed bytes and the runs of positions 2 pair and 2 pair + 1. */
ALWAYS vi vi_dot_pair(vi acc, vb bytes, const vx *x, int pair)
{
    return QUARTERS(vi, vmmlaq_s32(acc.v[i], vreinterpretq_s8_u8(bytes.v[i]), x->v[pair]));
}

#endif

/* --- sums of products of 16 bits, two by two ------------------------------------------------- */

/* The first values of the pairs, and the second. */
typedef struct {
    int16x8_t even[2], odd[2];
} vw;

ALWAYS vw vw_load(const int16_t *p)
{
    const int16x8x2_t lo = vld2q_s16(p), hi = vld2q_s16(p + 16);

    return (vw){{lo.val[0], hi.val[0]}, {lo.val[1], hi.val[1]}};
}

/* Add to each lane the products of its two values and those at x. */
ALWAYS vi vw_dot(vi sum, vw w, const int16_t *x)
{
    _Pragma("GCC unroll 2") for (int h = 0; h < 2; h++)
    {
        sum.v[2 * h] = vmlal_n_s16(sum.v[2 * h], vget_low_s16(w.even[h]), x[0]);
        sum.v[2 * h] = vmlal_n_s16(sum.v[2 * h], vget_low_s16(w.odd[h]), x[1]);
        sum.v[2 * h + 1] = vmlal_high_n_s16(sum.v[2 * h + 1], w.even[h], x[0]);
        sum.v[2 * h + 1] = vmlal_high_n_s16(sum.v[2 * h + 1], w.odd[h], x[1]);
    }
    return sum;
}

ALWAYS void vi_store_i16(int16_t *p, vi a)
{
    vst1q_s16(p, vcombine_s16(vqmovn_s32(a.v[0]), vqmovn_s32(a.v[1])));
    vst1q_s16(p + 8, vcombine_s16(vqmovn_s32(a.v[2]), vqmovn_s32(a.v[3])));
}

/* --- bytes ---------------------------------------------------------------------------------- */

ALWAYS vb vb_load(const void *p)
{
    return QUARTERS(vb, vld1q_u8((const uint8_t *)p + 16 * i));
}

ALWAYS void vb_store(void *p, vb a)
{
    uint8_t *const to = p;

    vst1q_u8(to, a.v[0]);
    vst1q_u8(to + 16, a.v[1]);
    vst1q_u8(to + 32, a.v[2]);
    vst1q_u8(to + 48, a.v[3]);
}

ALWAYS vb vb_or(vb a, vb b)
{
    return QUARTERS(vb, vorrq_u8(a.v[i], b.v[i]));
}

/* Unsigned with an offset of 128 to signed. */
ALWAYS vb vb_flip(vb a)
{
    return QUARTERS(vb, veorq_u8(a.v[i], vdupq_n_u8(128)));
}

/* Bits `mask` << from of each byte, moved to `to`. */
ALWAYS vb vb_field(vb a, int from, int to, int mask)
{
    const uint8x16_t m = vdupq_n_u8((uint8_t)(mask << to));
    const bool alone = to == 0 && mask << from > 127; /* the shift leaves nothing else */

    /* Operators, because the intrinsics ask for an immediate even where nothing is optimised. */
    a = QUARTERS(vb, from > to ? a.v[i] >> (from - to) : a.v[i] << (to - from));
    return alone ? a : QUARTERS(vb, a.v[i] & m);
}

/* table[a], a < 16 */
ALWAYS vb vb_lookup(const uint8_t *table, vb a)
{
    const uint8x16_t t = vld1q_u8(table);

    return QUARTERS(vb, vqtbl1q_u8(t, a.v[i]));
}
