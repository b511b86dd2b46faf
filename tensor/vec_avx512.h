/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Vectors of 16 lanes for kernels_body.h, in one AVX-512 register each. Bytes are multiplied by
 * VPDPBUSD.
 */

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ALWAYS static inline __attribute__((always_inline))

#define VEC_ROWS_MAX     12
#define VEC_AHEAD        0 /* the processor's own prefetching suffices */
#define VEC_BYTES_SIGNED 0
#define VEC_PAIRS        0
#define VEC_WIDE_ROWS    12

typedef __m512 vf;
typedef __m512i vi;
typedef __m512i vb;

/* --- f32 ------------------------------------------------------------------------------------ */

ALWAYS vf vf_zero(void)
{
    return _mm512_setzero_ps();
}

ALWAYS vf vf_set1(float x)
{
    return _mm512_set1_ps(x);
}

ALWAYS vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

ALWAYS void vf_store(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}

/* The first n < 16 lanes, zeros elsewhere. */
ALWAYS vf vf_load_n(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}

ALWAYS void vf_store_n(float *p, vf v, size_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v);
}

ALWAYS vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

ALWAYS vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

ALWAYS vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

ALWAYS vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}

/* a * b + c */
ALWAYS vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

ALWAYS vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

ALWAYS vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

ALWAYS vf vf_abs(vf a)
{
    return _mm512_abs_ps(a);
}

/* a where x >= y, zero elsewhere */
ALWAYS vf vf_where_ge(vf x, vf y, vf a)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, y, _CMP_NLT_UQ), a);
}

/* a in the lanes [begin, end), `other` elsewhere */
ALWAYS vf vf_in_range(vf a, size_t begin, size_t end, vf other)
{
    return _mm512_mask_mov_ps(other, (__mmask16)(((1u << end) - 1) & ~((1u << begin) - 1)), a);
}

/* (i) + (i + 8), (i) + (i + 4), ... */
ALWAYS float vf_sum(vf a)
{
    const __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));

    return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
}

ALWAYS float vf_max_lane(vf a)
{
    return _mm512_reduce_max_ps(a);
}

/* --- conversions ---------------------------------------------------------------------------- */

ALWAYS vf vf_from_vi(vi a)
{
    return _mm512_cvtepi32_ps(a);
}

ALWAYS vf vf_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

ALWAYS vf vf_load_bf16(const void *p)
{
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}

ALWAYS vf vf_load_i8(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)));
}

ALWAYS vf vf_load_u8(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p)));
}

/* --- i32 ------------------------------------------------------------------------------------ */

ALWAYS vi vi_set1(int32_t x)
{
    return _mm512_set1_epi32(x);
}

/* Nearest integers, ties to even. */
ALWAYS vi vi_round(vf a)
{
    return _mm512_cvtps_epi32(a);
}

/* Bits of y plus (bits of shifted << 23): y * 2^whole. */
ALWAYS vf vf_add_exponent(vf y, vf shifted)
{
    return _mm512_castsi512_ps(_mm512_add_epi32(
        _mm512_castps_si512(y), _mm512_slli_epi32(_mm512_castps_si512(shifted), 23)));
}

ALWAYS int32_t vi_sum(vi a)
{
    return _mm512_reduce_add_epi32(a);
}

ALWAYS void vi_store_i8(int8_t *p, vi a)
{
    _mm_storeu_si128((void *)p, _mm512_cvtepi32_epi8(a));
}

/* --- sums of products of bytes, four by four ------------------------------------------------ */

#include "tensor/vec_sum32.h"
#include "tensor/vec_words.h"

/* Add to each lane the products of its 4 unsigned bytes and the signed bytes of word i. */
ALWAYS vp vp_dot(vp part, vb bytes, const vx *x, int i)
{
    return _mm512_dpbusd_epi32(part, bytes, _mm512_set1_epi32(vx_word(x, i)));
}

/* The same for 8-bit weights. */
ALWAYS vp vp_dot8(vp part, vb bytes, const vx *x, int i)
{
    return vp_dot(part, bytes, x, i);
}

/* --- sums of products of 16 bits, two by two ------------------------------------------------- */

typedef __m512i vw;

ALWAYS vw vw_load(const int16_t *p)
{
    return _mm512_loadu_si512(p);
}

/* Add to each lane the products of its two values and those at x. */
ALWAYS vi vw_dot(vi sum, vw w, const int16_t *x)
{
    int32_t pair;

    memcpy(&pair, x, sizeof(pair));
    return _mm512_dpwssd_epi32(sum, w, _mm512_set1_epi32(pair));
}

ALWAYS void vi_store_i16(int16_t *p, vi a)
{
    _mm256_storeu_si256((void *)p, _mm512_cvtsepi32_epi16(a));
}

/* --- bytes ---------------------------------------------------------------------------------- */

ALWAYS vb vb_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

ALWAYS void vb_store(void *p, vb v)
{
    _mm512_storeu_si512(p, v);
}

ALWAYS vb vb_or(vb a, vb b)
{
    return _mm512_or_si512(a, b);
}

/* Bits `mask` << from of each byte, moved to `to`. */
ALWAYS vb vb_field(vb a, int from, int to, int mask)
{
    const vb m = _mm512_set1_epi8((char)(mask << to));

    if (from > to)
        a = _mm512_srli_epi16(a, (unsigned)(from - to));
    else if (from < to)
        a = _mm512_slli_epi16(a, (unsigned)(to - from));
    return _mm512_and_si512(a, m);
}

/* table[a], a < 16 */
ALWAYS vb vb_lookup(const uint8_t *table, vb a)
{
    const __m128i t = _mm_loadu_si128((const __m128i *)(const void *)table);

    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(t), a);
}
