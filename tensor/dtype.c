/* SPDX-License-Identifier: MIT */
#include "tensor/dtype.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

#define QK   32  /* values in a block of the simple formats */
#define QK_K 256 /* values in a block of the K formats */

static const struct dtype_info infos[_DTYPE_N] = {
    [DTYPE_F32] = {"F32", 1, 4},         [DTYPE_F16] = {"F16", 1, 2},
    [DTYPE_Q4_0] = {"Q4_0", QK, 18},     [DTYPE_Q4_1] = {"Q4_1", QK, 20},
    [DTYPE_Q5_0] = {"Q5_0", QK, 22},     [DTYPE_Q5_1] = {"Q5_1", QK, 24},
    [DTYPE_Q8_0] = {"Q8_0", QK, 34},     [DTYPE_Q2_K] = {"Q2_K", QK_K, 84},
    [DTYPE_Q3_K] = {"Q3_K", QK_K, 110},  [DTYPE_Q4_K] = {"Q4_K", QK_K, 144},
    [DTYPE_Q5_K] = {"Q5_K", QK_K, 176},  [DTYPE_Q6_K] = {"Q6_K", QK_K, 210},
    [DTYPE_IQ4_NL] = {"IQ4_NL", QK, 18}, [DTYPE_IQ4_XS] = {"IQ4_XS", QK_K, 136},
    [DTYPE_BF16] = {"BF16", 1, 2},
};

const struct dtype_info *dtype_info(uint32_t id)
{
    return id < _DTYPE_N && infos[id].name ? &infos[id] : NULL;
}

const char *dtype_name(uint32_t id)
{
    /* Known to ggml, not handled here. 4 and 5, 31 to 33 and 36 to 38 were withdrawn. */
    static const char *const others[] = {
        [9] = "Q8_1",   [15] = "Q8_K",  [16] = "IQ2_XXS", [17] = "IQ2_XS", [18] = "IQ3_XXS",
        [19] = "IQ1_S", [21] = "IQ3_S", [22] = "IQ2_S",   [24] = "I8",     [25] = "I16",
        [26] = "I32",   [27] = "I64",   [28] = "F64",     [29] = "IQ1_M",  [34] = "TQ1_0",
        [35] = "TQ2_0", [39] = "MXFP4", [40] = "NVFP4",   [41] = "Q1_0",
    };
    static _Thread_local char unknown[sizeof("type 4294967295")];
    const struct dtype_info *info = dtype_info(id);

    if (info)
        return info->name;
    if (id < ARRAY_LEN(others) && others[id])
        return others[id];
    snprintf(unknown, sizeof(unknown), "type %u", id);
    return unknown;
}

size_t dtype_row_bytes(enum dtype type, size_t n)
{
    const struct dtype_info *info = dtype_info(type);

    assert(info && n % info->block_values == 0);
    return n / info->block_values * info->block_bytes;
}

/* --- halves ----------------------------------------------------------------------------------- */

static float float_of_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint32_t bits_of_float(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

float f16_to_f32(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    const uint32_t exponent = half >> 10 & 31;
    const uint32_t fraction = half & 0x3ff;

    if (exponent == 31) /* infinity, NaN */
        return float_of_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent > 0)
        return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);

    /* Zero or subnormal: fraction * 2^-24, exact in f32. */
    const float magnitude = (float)fraction * 0x1p-24f;
    return sign ? -magnitude : magnitude;
}

uint16_t f32_to_f16(float value)
{
    const uint32_t bits = bits_of_float(value);
    const uint16_t sign = bits >> 16 & 0x8000;
    const uint32_t magnitude = bits & 0x7fffffff;

    if (magnitude > 0x7f800000) /* NaN stays one, made quiet */
        return sign | 0x7e00 | (magnitude >> 13 & 0x1ff);
    if (magnitude >= 0x477ff000) /* 65520 and above round to infinity */
        return sign | 0x7c00;
    if (magnitude < 0x38800000) {
        /* Below 2^-14: adding 0.5 leaves round(|value| * 2^24) in the low bits of the fraction. */
        const uint32_t rounded = bits_of_float(float_of_bits(magnitude) + 0.5f);
        return (uint16_t)(sign | (rounded - 0x3f000000));
    }

    const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | ((rounded >> 13) - (112 << 10)));
}

float bf16_to_f32(uint16_t bf16)
{
    return float_of_bits((uint32_t)bf16 << 16);
}

uint16_t f32_to_bf16(float value)
{
    const uint32_t bits = bits_of_float(value);

    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 64);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* --- blocks: each function widens one block, the formulas of text.md 8.2 ---------------------- */

static uint16_t load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static float load_half(const uint8_t *p)
{
    return f16_to_f32(load_u16(p));
}

static void block_q4_0(const uint8_t *block, float *out)
{
    const float d = load_half(block);
    const uint8_t *qs = block + 2;

    for (int j = 0; j < 16; j++) {
        out[j] = d * (float)((qs[j] & 15) - 8);
        out[j + 16] = d * (float)((qs[j] >> 4) - 8);
    }
}

static void block_q4_1(const uint8_t *block, float *out)
{
    const float d = load_half(block);
    const float m = load_half(block + 2);
    const uint8_t *qs = block + 4;

    for (int j = 0; j < 16; j++) {
        out[j] = d * (float)(qs[j] & 15) + m;
        out[j + 16] = d * (float)(qs[j] >> 4) + m;
    }
}

/* The 5-bit values of a Q5_0 or Q5_1 block: bit j of qh[4] is the top bit of value j. */
static void unpack_q5(const uint8_t *qh, const uint8_t *qs, uint8_t q[QK])
{
    for (int j = 0; j < 16; j++) {
        q[j] = (qs[j] & 15) | (qh[j / 8] >> j % 8 & 1) << 4;
        q[j + 16] = qs[j] >> 4 | (qh[2 + j / 8] >> j % 8 & 1) << 4;
    }
}

static void block_q5_0(const uint8_t *block, float *out)
{
    const float d = load_half(block);
    uint8_t q[QK];

    unpack_q5(block + 2, block + 6, q);
    for (int j = 0; j < QK; j++)
        out[j] = d * (float)(q[j] - 16);
}

static void block_q5_1(const uint8_t *block, float *out)
{
    const float d = load_half(block);
    const float m = load_half(block + 2);
    uint8_t q[QK];

    unpack_q5(block + 4, block + 8, q);
    for (int j = 0; j < QK; j++)
        out[j] = d * (float)q[j] + m;
}

static void block_q8_0(const uint8_t *block, float *out)
{
    const float d = load_half(block);

    for (int j = 0; j < QK; j++)
        out[j] = d * (float)(int8_t)block[2 + j];
}

/*
 * scales[16], qs[64], d, dmin. Half n of 128 values has its 2-bit values in qs[32n ..], value l of
 * quarter k in bits 2k of byte l; a scale byte (low nibble scale, high nibble min) for each 16.
 */
static void block_q2_k(const uint8_t *block, float *out)
{
    const uint8_t *scales = block;
    const uint8_t *qs = block + 16;
    const float d = load_half(block + 80);
    const float dmin = load_half(block + 82);

    for (int i = 0; i < QK_K; i++) {
        const int q = qs[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
        const float scale = d * (float)(scales[i / 16] & 15);
        const float min = dmin * (float)(scales[i / 16] >> 4);

        out[i] = scale * (float)q - min;
    }
}

/*
 * hmask[32], qs[64], scales[12], d. Two low bits as in Q2_K; bit k of hmask[l] is the third bit of
 * value l of eighth k, and a clear one subtracts 4. Scale s: low nibble s/8 of byte s%8, upper two
 * bits in bits 2(s/4) of byte 8 + s%4, minus 32.
 */
static void block_q3_k(const uint8_t *block, float *out)
{
    const uint8_t *hmask = block;
    const uint8_t *qs = block + 32;
    const uint8_t *packed = block + 96;
    const float d = load_half(block + 108);
    float scales[16];

    for (int s = 0; s < 16; s++) {
        const int low = packed[s % 8] >> s / 8 * 4 & 15;
        const int high = packed[8 + s % 4] >> s / 4 * 2 & 3;

        scales[s] = d * (float)((low | high << 4) - 32);
    }
    for (int i = 0; i < QK_K; i++) {
        const int low = qs[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
        const int high = hmask[i % 32] >> i / 32 & 1;

        out[i] = scales[i / 16] * (float)(low - (high ? 0 : 4));
    }
}

/* The 6-bit scale and min of sub-block s of a Q4_K or Q5_K block. */
static void unpack_scale_min(const uint8_t *packed, int s, int *ret_scale, int *ret_min)
{
    if (s < 4) {
        *ret_scale = packed[s] & 63;
        *ret_min = packed[s + 4] & 63;
    } else {
        *ret_scale = (packed[s + 4] & 15) | packed[s - 4] >> 6 << 4;
        *ret_min = packed[s + 4] >> 4 | packed[s] >> 6 << 4;
    }
}

/* The common form of Q4_K (qh NULL) and Q5_K. */
static void block_q45_k(const uint8_t *block, const uint8_t *qh, const uint8_t *qs, float *out)
{
    const float d = load_half(block);
    const float dmin = load_half(block + 2);

    for (int s = 0; s < 8; s++) {
        int scale, min;

        unpack_scale_min(block + 4, s, &scale, &min);
        const float d_scale = d * (float)scale;
        const float d_min = dmin * (float)min;

        for (int l = 0; l < 32; l++) {
            const int low = qs[s / 2 * 32 + l] >> s % 2 * 4 & 15;
            const int high = qh ? (qh[l] >> s & 1) << 4 : 0;

            out[32 * s + l] = d_scale * (float)(low | high) - d_min;
        }
    }
}

static void block_q4_k(const uint8_t *block, float *out)
{
    block_q45_k(block, NULL, block + 16, out);
}

static void block_q5_k(const uint8_t *block, float *out)
{
    block_q45_k(block, block + 16, block + 48, out);
}

static void block_q6_k(const uint8_t *block, float *out)
{
    const int8_t *scales = (const int8_t *)(block + 192);
    const float d = load_half(block + 208);

    for (int i = 0; i < QK_K; i++) {
        const int half = i / 128, quarter = i % 128 / 32, l = i % 32;
        const int low = block[64 * half + quarter % 2 * 32 + l] >> quarter / 2 * 4 & 15;
        const int high = block[128 + 32 * half + l] >> 2 * quarter & 3;

        out[i] = d * (float)scales[i / 16] * (float)((low | high << 4) - 32);
    }
}

/* The 16 levels of the non-linear 4-bit formats. */
static const int8_t iq4_levels[16] = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
};

static void block_iq4_nl(const uint8_t *block, float *out)
{
    const float d = load_half(block);
    const uint8_t *qs = block + 2;

    for (int j = 0; j < 16; j++) {
        out[j] = d * (float)iq4_levels[qs[j] & 15];
        out[j + 16] = d * (float)iq4_levels[qs[j] >> 4];
    }
}

/* d, scales_h u16, scales_l[4], qs[128]: eight sub-blocks of 32 with a 6-bit scale minus 32. */
static void block_iq4_xs(const uint8_t *block, float *out)
{
    const float d = load_half(block);
    const uint16_t scales_h = load_u16(block + 2);
    const uint8_t *scales_l = block + 4;

    for (int s = 0; s < 8; s++) {
        const int low = scales_l[s / 2] >> s % 2 * 4 & 15;
        const int high = scales_h >> 2 * s & 3;
        const float scale = d * (float)((low | high << 4) - 32);
        const uint8_t *qs = block + 8 + 16 * s;

        for (int j = 0; j < 16; j++) {
            out[32 * s + j] = scale * (float)iq4_levels[qs[j] & 15];
            out[32 * s + j + 16] = scale * (float)iq4_levels[qs[j] >> 4];
        }
    }
}

typedef void block_fn(const uint8_t *block, float *out);

static block_fn *const block_fns[_DTYPE_N] = {
    [DTYPE_Q4_0] = block_q4_0, [DTYPE_Q4_1] = block_q4_1,     [DTYPE_Q5_0] = block_q5_0,
    [DTYPE_Q5_1] = block_q5_1, [DTYPE_Q8_0] = block_q8_0,     [DTYPE_Q2_K] = block_q2_k,
    [DTYPE_Q3_K] = block_q3_k, [DTYPE_Q4_K] = block_q4_k,     [DTYPE_Q5_K] = block_q5_k,
    [DTYPE_Q6_K] = block_q6_k, [DTYPE_IQ4_NL] = block_iq4_nl, [DTYPE_IQ4_XS] = block_iq4_xs,
};

void dtype_to_f32(enum dtype type, const void *blocks, float *out, size_t n)
{
    const struct dtype_info *info = dtype_info(type);
    const uint8_t *p = blocks;

    assert(info && n % info->block_values == 0);
    switch (type) {
    case DTYPE_F32:
        memcpy(out, blocks, n * sizeof(float));
        break;
    case DTYPE_F16:
        for (size_t i = 0; i < n; i++)
            out[i] = load_half(p + 2 * i);
        break;
    case DTYPE_BF16:
        for (size_t i = 0; i < n; i++)
            out[i] = bf16_to_f32(load_u16(p + 2 * i));
        break;
    default:
        for (size_t i = 0; i < n; i += info->block_values, p += info->block_bytes)
            block_fns[type](p, out + i);
    }
}
