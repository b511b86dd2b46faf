/* SPDX-License-Identifier: MIT */
/*
 * Packing goes in two stages. Each row is decoded into one byte for each quant, with its scales
 * written to their places; then the bytes of the 16 rows are interleaved and cut into bit planes,
 * which is the same for every type.
 */
#include "tensor/packing.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "base/cleanup.h"

const uint8_t packing_iq4[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                 129, 141, 153, 166, 181, 197, 217, 241};

struct packing_parts packing_parts(enum dtype type, size_t in)
{
    const struct packing *const p = packing_of(type);
    struct packing_parts parts = {.record_values = packing_record_values(p)};
    size_t end = 0, d_bytes, sub_bytes;

    if (p->d_values == 0) {
        parts.step_bytes = (size_t)p->bits / 8 * GROUP_ROWS;
        parts.group_bytes = round_up(in * parts.step_bytes, ARENA_ALIGN);
        return parts;
    }
    d_bytes = parts.record_values / p->d_values * GROUP_ROWS * 2;
    parts.d = end;
    end += d_bytes;
    if (p->has_min) {
        parts.m = end;
        end += d_bytes;
    }
    if (p->sub_values) {
        sub_bytes = parts.record_values / p->sub_values * GROUP_ROWS;
        parts.sub = end;
        end += sub_bytes;
        if (p->has_min) {
            parts.sub_min = end;
            end += sub_bytes;
        }
    }
    parts.quants = round_up(end, ARENA_ALIGN);
    parts.step_bytes = (size_t)p->bits * 64;
    parts.record_bytes = parts.quants + parts.record_values / STEP_VALUES * parts.step_bytes;
    parts.group_bytes =
        (in + parts.record_values - 1) / parts.record_values * parts.record_bytes;
    return parts;
}

/* --- stage 1: one row to bytes and scales --------------------------------------------------- */

/* Where row r of a group writes its scales; element i lies at [i * GROUP_ROWS]. */
struct scales {
    uint16_t *d, *m;
    uint8_t *sub, *sub_min;
};

static uint16_t load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static void decode_nibbles(const uint8_t *qs, uint8_t *q)
{
    for (int j = 0; j < 16; j++) {
        q[j] = qs[j] & 15;
        q[j + 16] = qs[j] >> 4;
    }
}

static void decode_fifth_bits(const uint8_t *qh, uint8_t *q)
{
    for (int j = 0; j < 32; j++)
        q[j] |= (uint8_t)((qh[j / 8] >> j % 8 & 1) << 4);
}

/* The six-bit scales and minimums of Q4_K and Q5_K. */
static void decode_scales_k4(const uint8_t *s, struct scales *to)
{
    for (int i = 0; i < 4; i++) {
        to->sub[i * GROUP_ROWS] = s[i] & 63;
        to->sub_min[i * GROUP_ROWS] = s[i + 4] & 63;
        to->sub[(i + 4) * GROUP_ROWS] = (uint8_t)((s[i + 8] & 15) | s[i] >> 6 << 4);
        to->sub_min[(i + 4) * GROUP_ROWS] = (uint8_t)(s[i + 8] >> 4 | s[i + 4] >> 6 << 4);
    }
}

static void decode_block(enum dtype type, const uint8_t *b, uint8_t *q, struct scales *to)
{
    switch (type) {
    case DTYPE_Q4_0:
    case DTYPE_IQ4_NL:
        *to->d = load_u16(b);
        decode_nibbles(b + 2, q);
        break;
    case DTYPE_Q4_1:
        *to->d = load_u16(b);
        *to->m = load_u16(b + 2);
        decode_nibbles(b + 4, q);
        break;
    case DTYPE_Q5_0:
        *to->d = load_u16(b);
        decode_nibbles(b + 6, q);
        decode_fifth_bits(b + 2, q);
        break;
    case DTYPE_Q5_1:
        *to->d = load_u16(b);
        *to->m = load_u16(b + 2);
        decode_nibbles(b + 8, q);
        decode_fifth_bits(b + 4, q);
        break;
    case DTYPE_Q8_0:
        *to->d = load_u16(b);
        for (int j = 0; j < 32; j++)
            q[j] = b[2 + j] ^ 128;
        break;
    case DTYPE_Q2_K: /* scales[16]@0, qs[64]@16, d@80, dmin@82 */
        *to->d = load_u16(b + 80);
        *to->m = load_u16(b + 82);
        for (int i = 0; i < 16; i++) {
            to->sub[i * GROUP_ROWS] = b[i] & 15;
            to->sub_min[i * GROUP_ROWS] = b[i] >> 4;
        }
        for (int i = 0; i < 256; i++)
            q[i] = b[16 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        break;
    case DTYPE_Q3_K: /* hmask[32]@0, qs[64]@32, scales[12]@96, d@108 */
        *to->d = load_u16(b + 108);
        for (int i = 0; i < 16; i++) {
            const int low = i < 8 ? b[96 + i] & 15 : b[96 + i - 8] >> 4;
            const int high = b[104 + i % 4] >> (i / 4 * 2) & 3;

            to->sub[i * GROUP_ROWS] = (uint8_t)((low | high << 4) - 32);
        }
        for (int i = 0; i < 256; i++)
            q[i] = (uint8_t)((b[32 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) |
                             (b[i % 32] >> (i / 32) & 1) << 2);
        break;
    case DTYPE_Q4_K:
    case DTYPE_Q5_K:
        *to->d = load_u16(b);
        *to->m = load_u16(b + 2);
        decode_scales_k4(b + 4, to);
        for (int g = 0; g < 4; g++) {
            const uint8_t *const qs = b + (type == DTYPE_Q4_K ? 16 : 48) + 32 * g;

            for (int l = 0; l < 32; l++) {
                q[64 * g + l] = qs[l] & 15;
                q[64 * g + 32 + l] = qs[l] >> 4;
            }
        }
        if (type == DTYPE_Q5_K) {
            for (int s = 0; s < 8; s++) {
                for (int l = 0; l < 32; l++)
                    q[32 * s + l] |= (uint8_t)((b[16 + l] >> s & 1) << 4);
            }
        }
        break;
    case DTYPE_Q6_K:
        *to->d = load_u16(b + 208);
        for (int i = 0; i < 16; i++)
            to->sub[i * GROUP_ROWS] = b[192 + i];
        for (int half = 0; half < 2; half++) {
            const uint8_t *const ql = b + 64 * half, *const qh = b + 128 + 32 * half;
            uint8_t *const to_q = q + 128 * half;

            for (int l = 0; l < 32; l++) {
                to_q[l] = (uint8_t)((ql[l] & 15) | (qh[l] & 3) << 4);
                to_q[l + 32] = (uint8_t)((ql[l + 32] & 15) | (qh[l] >> 2 & 3) << 4);
                to_q[l + 64] = (uint8_t)(ql[l] >> 4 | (qh[l] >> 4 & 3) << 4);
                to_q[l + 96] = (uint8_t)(ql[l + 32] >> 4 | (qh[l] >> 6) << 4);
            }
        }
        break;
    case DTYPE_IQ4_XS: /* d@0, scales_h u16@2, scales_l[4]@4, qs[128]@8 */
        *to->d = load_u16(b);
        for (int i = 0; i < 8; i++) {
            const int low = b[4 + i / 2] >> (i % 2 * 4) & 15;
            const int high = load_u16(b + 2) >> (2 * i) & 3;

            to->sub[i * GROUP_ROWS] = (uint8_t)((low | high << 4) - 32);
            decode_nibbles(b + 8 + 16 * i, q + 32 * i);
        }
        break;
    default:
        assert(!"a quantised type");
    }
}

/* --- stage 2: 16 rows of bytes to bit planes ------------------------------------------------ */

static void store_planes(const struct packing *p, const uint8_t v[8][64], uint8_t *out)
{
    int shift = 0;

    if (p->bits == 8) {
        memcpy(out, v, 512);
        return;
    }
    if (p->plane4) {
        for (int c = 0; c < 4; c++, out += 64) {
            for (int i = 0; i < 64; i++)
                out[i] = (uint8_t)((v[2 * c][i] & 15) | v[2 * c + 1][i] << 4);
        }
        shift += 4;
    }
    if (p->plane2) {
        for (int c = 0; c < 2; c++, out += 64) {
            for (int i = 0; i < 64; i++)
                out[i] =
                    (uint8_t)((v[4 * c][i] >> shift & 3) | (v[4 * c + 1][i] >> shift & 3) << 2 |
                              (v[4 * c + 2][i] >> shift & 3) << 4 |
                              (v[4 * c + 3][i] >> shift & 3) << 6);
        }
        shift += 2;
    }
    if (p->plane1) {
        memset(out, 0, 64);
        for (int j = 0; j < 8; j++) {
            for (int i = 0; i < 64; i++)
                out[i] |= (uint8_t)((v[j][i] >> shift & 1) << j);
        }
    }
}

static void pack_float(size_t in, const uint8_t *rows, size_t row_bytes, size_t n_rows,
                       size_t value_bytes, uint8_t *group)
{
    memset(group, 0, round_up(in * GROUP_ROWS * value_bytes, ARENA_ALIGN));
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *const row = rows + r * row_bytes;

        for (size_t k = 0; k < in; k++)
            memcpy(group + (k * GROUP_ROWS + r) * value_bytes, row + k * value_bytes, value_bytes);
    }
}

void packing_group(enum dtype type, size_t in, const void *rows, size_t row_bytes, size_t n_rows,
                   void *group, void *scratch)
{
    const struct packing *const p = packing_of(type);
    const struct packing_parts parts = packing_parts(type, in);
    const struct dtype_info *const info = dtype_info(type);
    uint8_t *const q = scratch; /* [GROUP_ROWS][in] */
    uint8_t *const base = group;

    if (p->d_values == 0) {
        pack_float(in, rows, row_bytes, n_rows, p->bits / 8, group);
        return;
    }

    memset(base, 0, parts.group_bytes);
    memset(q + n_rows * in, p->offset, (GROUP_ROWS - n_rows) * in);
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *const row = (const uint8_t *)rows + r * row_bytes;

        for (size_t b = 0; b < in / info->block_values; b++) {
            const size_t value = b * info->block_values;
            const size_t d = packing_d(p, &parts, value);
            const size_t sub = p->sub_values ? packing_sub(p, &parts, value) : 0;
            struct scales to = {
                .d = (uint16_t *)(void *)(base + parts.d + d) + r,
                .m = (uint16_t *)(void *)(base + parts.m + d) + r,
                .sub = base + parts.sub + sub + r,
                .sub_min = base + parts.sub_min + sub + r,
            };

            decode_block(type, row + b * info->block_bytes, q + r * in + value, &to);
        }
    }

    for (size_t step = 0; step < in / STEP_VALUES; step++) {
        uint8_t v[8][64];

        for (int r = 0; r < GROUP_ROWS; r++) {
            for (int j = 0; j < 8; j++)
                memcpy(&v[j][4 * r], q + (size_t)r * in + step * STEP_VALUES + 4 * j, 4);
        }
        store_planes(p, v, base + packing_step(&parts, step * STEP_VALUES));
    }
}

/* --- the wide form --------------------------------------------------------------------------- */

/* The least scale with which no sum of a block overflows; NaN where there is none. */
static float wide_scale(const float *row, size_t in)
{
    float scale = 0;

    for (size_t k = 0; k < in; k += WIDE_BLOCK) {
        float lane[8] = {0}, max = 0, sum = 0;

        for (size_t i = k; i < MIN(in, k + WIDE_BLOCK); i++) {
            const float size = fabsf(row[i]);

            lane[i % 8] += size;
            max = size > max ? size : max;
        }
        for (int i = 0; i < 8; i++)
            sum += lane[i];
        if (!isfinite(sum))
            return NAN;
        scale = fmaxf(scale, fmaxf(sum / WIDE_LIMIT, max / INT16_MAX));
    }
    return scale;
}

void packing_wide_group(enum dtype type, size_t in, const void *rows, size_t row_bytes,
                        size_t n_rows, void *group, void *scratch)
{
    float *const scales = group, *const row = scratch;
    int16_t *const quants = (int16_t *)(void *)(scales + GROUP_ROWS);

    memset(group, 0, packing_wide_group_bytes(in));
    for (size_t r = 0; r < n_rows; r++) {
        float inverse;

        dtype_to_f32(type, (const uint8_t *)rows + r * row_bytes, row, in);
        scales[r] = wide_scale(row, in);
        inverse = scales[r] > FLT_MIN ? 1 / scales[r] : 0;
        /* Weights that are no numbers: the scale says it, the integers stay 0. */
        for (size_t k = 0; k < in && !isnan(scales[r]); k++) {
            /* 1.5 * 2^23 leaves the nearest integer in the low bits: a tenth of lrintf(). */
            const float shifted = row[k] * inverse + 12582912.0f;
            uint32_t bits;

            memcpy(&bits, &shifted, sizeof(bits));
            quants[(k / 2 * GROUP_ROWS + r) * 2 + k % 2] = (int16_t)(uint16_t)bits;
        }
    }
}

/* --- back to f32 ---------------------------------------------------------------------------- */

unsigned packing_quant(const struct packing *p, const uint8_t *step, size_t r, size_t k)
{
    const size_t j = k / 4, i = 4 * r + k % 4;
    unsigned shift = 0, u = 0;

    if (p->bits == 8)
        return step[64 * j + i];
    if (p->plane4) {
        u = step[64 * (j / 2) + i] >> (j % 2 * 4) & 15;
        step += 256;
        shift = 4;
    }
    if (p->plane2) {
        u |= (unsigned)(step[64 * (j / 4) + i] >> (j % 4 * 2) & 3) << shift;
        step += 128;
        shift += 2;
    }
    if (p->plane1)
        u |= (unsigned)(step[i] >> j & 1) << shift;
    return p->table ? packing_iq4[u] : u;
}

static float half_at(const uint8_t *base, size_t i)
{
    uint16_t half;

    memcpy(&half, base + 2 * i, 2);
    return f16_to_f32(half);
}

void packing_row(enum dtype type, size_t in, const void *group, size_t r, float *out)
{
    const struct packing *const p = packing_of(type);
    const struct packing_parts parts = packing_parts(type, in);
    const uint8_t *const base = group;

    if (p->d_values == 0) {
        for (size_t k = 0; k < in; k++)
            dtype_to_f32(type, base + (k * GROUP_ROWS + r) * (p->bits / 8), out + k, 1);
        return;
    }
    for (size_t k = 0; k < in; k++) {
        const size_t d = packing_d(p, &parts, k) / 2 + r;
        const unsigned u =
            packing_quant(p, base + packing_step(&parts, k), r, k % STEP_VALUES);
        float scale = half_at(base + parts.d, d), min = 0;

        if (p->has_min)
            min = half_at(base + parts.m, d);
        if (p->sub_values) {
            const size_t sub = packing_sub(p, &parts, k) + r;

            scale *= p->offset ? (float)(int8_t)base[parts.sub + sub]
                               : (float)base[parts.sub + sub];
            if (p->has_min)
                min *= -(float)base[parts.sub_min + sub];
        }
        out[k] = scale * (float)((int)u - p->offset) + min;
    }
}
