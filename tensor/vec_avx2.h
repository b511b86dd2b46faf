/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Vectors of 16 lanes for kernels_body.h, in two AVX2 registers each. Bytes are multiplied by
 * VPMADDUBSW, or with VEC_AVX_VNNI by VPDPBUSD.
 */

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ALWAYS static inline __attribute__((always_inline))

#define VEC_ROWS_MAX     3
#define VEC_AHEAD        2048
#define VEC_BYTES_SIGNED 1
#define VEC_PAIRS        0
#define VEC_WIDE_ROWS    6

typedef struct {
    __m256 lo, hi;
} vf;

typedef struct {
    __m256i lo, hi;
} vi;

typedef vi vb;

/* --- f32 ------------------------------------------------------------------------------------ */

ALWAYS vf vf_zero(void)
{
    return (vf){_mm256_setzero_ps(), _mm256_setzero_ps()};
}

ALWAYS vf vf_set1(float x)
{
    const __m256 v = _mm256_set1_ps(x);

    return (vf){v, v};
}

ALWAYS vf vf_load(const float *p)
{
    return (vf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

ALWAYS void vf_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v.lo);
    _mm256_storeu_ps(p + 8, v.hi);
}

/* All bits set in the lanes [begin, end). */
ALWAYS vi vi_range(size_t begin, size_t end)
{
    const __m256i lo = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i hi = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
    const __m256i b = _mm256_set1_epi32((int)begin - 1), e = _mm256_set1_epi32((int)end);

    return (vi){_mm256_and_si256(_mm256_cmpgt_epi32(lo, b), _mm256_cmpgt_epi32(e, lo)),
                _mm256_and_si256(_mm256_cmpgt_epi32(hi, b), _mm256_cmpgt_epi32(e, hi))};
}

/* The first n < 16 lanes, zeros elsewhere. */
ALWAYS vf vf_load_n(const float *p, size_t n)
{
    const vi mask = vi_range(0, n);

    return (vf){_mm256_maskload_ps(p, mask.lo), _mm256_maskload_ps(p + 8, mask.hi)};
}

ALWAYS void vf_store_n(float *p, vf v, size_t n)
{
    const vi mask = vi_range(0, n);

    _mm256_maskstore_ps(p, mask.lo, v.lo);
    _mm256_maskstore_ps(p + 8, mask.hi, v.hi);
}

ALWAYS vf vf_add(vf a, vf b)
{
    return (vf){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}

ALWAYS vf vf_sub(vf a, vf b)
{
    return (vf){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}

ALWAYS vf vf_mul(vf a, vf b)
{
    return (vf){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}

ALWAYS vf vf_div(vf a, vf b)
{
    return (vf){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}

ALWAYS vf vf_max(vf a, vf b)
{
    return (vf){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}

ALWAYS vf vf_min(vf a, vf b)
{
    return (vf){_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}

/* a * b + c */
ALWAYS vf vf_fma(vf a, vf b, vf c)
{
    return (vf){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

ALWAYS vf vf_abs(vf a)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);

    return (vf){_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}

/* a where x >= y, zero elsewhere */
ALWAYS vf vf_where_ge(vf x, vf y, vf a)
{
    return (vf){_mm256_and_ps(_mm256_cmp_ps(x.lo, y.lo, _CMP_NLT_UQ), a.lo),
                _mm256_and_ps(_mm256_cmp_ps(x.hi, y.hi, _CMP_NLT_UQ), a.hi)};
}

/* a in the lanes [begin, end), `other` elsewhere */
ALWAYS vf vf_in_range(vf a, size_t begin, size_t end, vf other)
{
    const vi mask = vi_range(begin, end);

    return (vf){_mm256_blendv_ps(other.lo, a.lo, _mm256_castsi256_ps(mask.lo)),
                _mm256_blendv_ps(other.hi, a.hi, _mm256_castsi256_ps(mask.hi))};
}

/* (i) + (i + 8), (i) + (i + 4), ... */
ALWAYS float vf_sum(vf a)
{
    const __m256 b = _mm256_add_ps(a.lo, a.hi);
    const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));

    return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
}

ALWAYS float vf_max_lane(vf a)
{
    const __m256 b = _mm256_max_ps(a.lo, a.hi);
    const __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    const __m128 d = _mm_max_ps(c, _mm_movehl_ps(c, c));

    return _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)));
}

/* --- conversions ---------------------------------------------------------------------------- */

ALWAYS vf vf_from_vi(vi a)
{
    return (vf){_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)};
}

ALWAYS __m128i load_half(const void *p, size_t byte)
{
    return _mm_loadu_si128((const void *)((const char *)p + byte));
}

ALWAYS vf vf_load_f16(const void *p)
{
    return (vf){_mm256_cvtph_ps(load_half(p, 0)), _mm256_cvtph_ps(load_half(p, 16))};
}

ALWAYS vf vf_load_bf16(const void *p)
{
    return (vf){
        _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_half(p, 0)), 16)),
        _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_half(p, 16)), 16)),
    };
}

ALWAYS vf vf_load_i8(const void *p)
{
    const __m128i bytes = load_half(p, 0);

    return (vf){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
}

ALWAYS vf vf_load_u8(const void *p)
{
    const __m128i bytes = load_half(p, 0);

    return (vf){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))};
}

/* --- i32 ------------------------------------------------------------------------------------ */

ALWAYS vi vi_set1(int32_t x)
{
    const __m256i v = _mm256_set1_epi32(x);

    return (vi){v, v};
}

/* Nearest integers, ties to even. */
ALWAYS vi vi_round(vf a)
{
    return (vi){_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi)};
}

/* Bits of y plus (bits of shifted << 23): y * 2^whole. */
ALWAYS vf vf_add_exponent(vf y, vf shifted)
{
    return (vf){
        _mm256_castsi256_ps(_mm256_add_epi32(
            _mm256_castps_si256(y.lo), _mm256_slli_epi32(_mm256_castps_si256(shifted.lo), 23))),
        _mm256_castsi256_ps(_mm256_add_epi32(
            _mm256_castps_si256(y.hi), _mm256_slli_epi32(_mm256_castps_si256(shifted.hi), 23))),
    };
}

ALWAYS int32_t vi_sum(vi a)
{
    const __m256i b = _mm256_add_epi32(a.lo, a.hi);
    const __m128i c = _mm_add_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
    const __m128i d = _mm_add_epi32(c, _mm_shuffle_epi32(c, 0x4e));

    return _mm_cvtsi128_si32(_mm_add_epi32(d, _mm_shuffle_epi32(d, 0xb1)));
}

ALWAYS void vi_store_i8(int8_t *p, vi a)
{
    /* Packing keeps the 128-bit halves apart: 0-3 8-11 | 4-7 12-15. */
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.lo, a.hi), 0xd8);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words),
                                          _mm256_extracti128_si256(words, 1));

    _mm_storeu_si128((void *)p, bytes);
}

/* --- sums of products of bytes, four by four ------------------------------------------------ */

#include "tensor/vec_words.h"

#ifdef VEC_AVX_VNNI

#include "tensor/vec_sum32.h"

ALWAYS __m256i vp_half(__m256i part, __m256i bytes, __m256i four)
{
    return _mm256_dpbusd_avx_epi32(part, bytes, four);
}

#else

/*
 * Pairs of products are added in 16 bits, which costs one multiplication less for each step, and
 * to the 32-bit sum at the end. A pair of 8-bit weights just fits; narrower ones leave room for
 * some steps.
 */
typedef vi vp;

#define VP_STEPS(bits) ((bits) <= 4 ? 8 : (bits) == 5 ? 4 : (bits) == 6 ? 2 : 1)

#define VP_FITS(bits, weight_max)                                                                  \
    _Static_assert(2 * (weight_max) * 127 * VP_STEPS(bits) < 1 << 15, "sums of pairs overflow")

VP_FITS(4, 15);
VP_FITS(5, 31);
VP_FITS(6, 63);
VP_FITS(8, 128); /* signed: -128 */

ALWAYS vp vp_begin(vi acc)
{
    (void)acc;
    return (vp){_mm256_setzero_si256(), _mm256_setzero_si256()};
}

ALWAYS __m256i vp_half(__m256i part, __m256i bytes, __m256i four)
{
    part = _mm256_add_epi16(part, _mm256_maddubs_epi16(bytes, four));
    /* Here and now: GCC would put off all additions of a step, and spill what is to be added. */
    __asm__("" : "+x"(part));
    return part;
}

ALWAYS vi vp_end(vp part, vi acc)
{
    const __m256i one = _mm256_set1_epi16(1);

    return (vi){_mm256_add_epi32(acc.lo, _mm256_madd_epi16(part.lo, one)),
                _mm256_add_epi32(acc.hi, _mm256_madd_epi16(part.hi, one))};
}

#endif

/* Add to each lane the products of its 4 unsigned bytes below 128 and the signed bytes of word
 * i. */
ALWAYS vp vp_dot(vp part, vb bytes, const vx *x, int i)
{
    const __m256i four = _mm256_set1_epi32(vx_word(x, i));

    return (vp){vp_half(part.lo, bytes.lo, four), vp_half(part.hi, bytes.hi, four)};
}

/* The same for signed bytes: their size times the other one with their sign. */
ALWAYS vp vp_dot8(vp part, vb bytes, const vx *x, int i)
{
    const __m256i four = _mm256_set1_epi32(vx_word(x, i));

    return (vp){
        vp_half(part.lo, _mm256_abs_epi8(bytes.lo), _mm256_sign_epi8(four, bytes.lo)),
        vp_half(part.hi, _mm256_abs_epi8(bytes.hi), _mm256_sign_epi8(four, bytes.hi)),
    };
}

/* --- sums of products of 16 bits, two by two ------------------------------------------------- */

typedef vi vw;

ALWAYS vw vw_load(const int16_t *p)
{
    return (vw){_mm256_loadu_si256((const void *)p), _mm256_loadu_si256((const void *)(p + 16))};
}

ALWAYS __m256i vw_half(__m256i sum, __m256i w, __m256i pair)
{
#ifdef VEC_AVX_VNNI
    sum = _mm256_dpwssd_avx_epi32(sum, w, pair);
#else
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(w, pair));
#endif
    /* Here and now, as in vp_half(). */
    __asm__("" : "+x"(sum));
    return sum;
}

/* Add to each lane the products of its two values and those at x. */
ALWAYS vi vw_dot(vi sum, vw w, const int16_t *x)
{
    int32_t pair;
    __m256i both;

    memcpy(&pair, x, sizeof(pair));
    both = _mm256_set1_epi32(pair);
    return (vi){vw_half(sum.lo, w.lo, both), vw_half(sum.hi, w.hi, both)};
}

ALWAYS void vi_store_i16(int16_t *p, vi a)
{
    /* As in vi_store_i8(). */
    _mm256_storeu_si256((void *)p,
                        _mm256_permute4x64_epi64(_mm256_packs_epi32(a.lo, a.hi), 0xd8));
}

/* --- bytes ---------------------------------------------------------------------------------- */

ALWAYS vb vb_load(const void *p)
{
    return (vb){_mm256_loadu_si256(p), _mm256_loadu_si256((const void *)((const char *)p + 32))};
}

ALWAYS void vb_store(void *p, vb v)
{
    _mm256_storeu_si256(p, v.lo);
    _mm256_storeu_si256((void *)((char *)p + 32), v.hi);
}

ALWAYS vb vb_or(vb a, vb b)
{
    return (vb){_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)};
}

/* Unsigned with an offset of 128 to signed. */
ALWAYS vb vb_flip(vb a)
{
    const __m256i bit = _mm256_set1_epi8(-128);

    return (vb){_mm256_xor_si256(a.lo, bit), _mm256_xor_si256(a.hi, bit)};
}

ALWAYS __m256i field_half(__m256i a, int from, int to, int mask)
{
    if (from > to)
        a = _mm256_srli_epi16(a, from - to);
    else if (from < to)
        a = _mm256_slli_epi16(a, to - from);
    return _mm256_and_si256(a, _mm256_set1_epi8((char)(mask << to)));
}

/* Bits `mask` << from of each byte, moved to `to`. */
ALWAYS vb vb_field(vb a, int from, int to, int mask)
{
    return (vb){field_half(a.lo, from, to, mask), field_half(a.hi, from, to, mask)};
}

/* table[a], a < 16 */
ALWAYS vb vb_lookup(const uint8_t *table, vb a)
{
    const __m256i t = _mm256_broadcastsi128_si256(load_half(table, 0));

    return (vb){_mm256_shuffle_epi8(t, a.lo), _mm256_shuffle_epi8(t, a.hi)};
}
