/* SPDX-License-Identifier: MIT */
/*
 * The kernels in plain C: the definition that every other row must equal bit by bit.
 *
 * A vector of 16 lanes is an array of 16; where a sum runs over lanes, it is written down in the
 * order in which vector registers can do it.
 */
#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "tensor/attend.h"
#include "tensor/kernels.h"

#define LANES 16

static bool ref_supported(void)
{
    return true;
}

/* (i) + (i + 8), then (i) + (i + 4), (i) + (i + 2), (i) + (i + 1) */
static float sum_lanes(const float *lane)
{
    float s[LANES];

    memcpy(s, lane, sizeof(s));
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++)
            s[i] += s[i + half];
    }
    return s[0];
}

/* --- products ------------------------------------------------------------------------------- */

static void ref_quantise(const float *x, size_t n, int8_t *q, float *d, int32_t *sum,
                         size_t stride)
{
    for (size_t b = 0; b < n / 32; b++) {
        float max = 0, inverse;

        for (int i = 0; i < 32; i++)
            max = fmaxf(max, fabsf(x[32 * b + i]));
        d[b * stride] = max / 127;
        inverse = max > 0 ? 127 / max : 0;
        for (size_t half = 2 * b; half < 2 * b + 2; half++) {
            sum[half * stride] = 0;
            for (size_t k = 16 * half; k < 16 * half + 16; k++) {
                const int8_t quant = (int8_t)rintf(fmaxf(fminf(x[k] * inverse, 127), -127));

                q[k / ACT_RUN * ACT_RUN * stride + k % ACT_RUN] = quant;
                sum[half * stride] += quant;
            }
        }
    }
}

static float ref_quantise_wide(const float *x, size_t n, float limit, int16_t *q)
{
    float max = 0, inverse;

    for (size_t k = 0; k < n; k++)
        max = fmaxf(max, fabsf(x[k]));
    inverse = max > 0 ? limit / max : 0;
    for (size_t k = 0; k < round_up(n, LANES); k++)
        q[k] = k < n ? (int16_t)rintf(fmaxf(fminf(x[k] * inverse, limit), -limit)) : 0;
    return max / limit;
}

/* Row r of a group without its scales times one row of activations. */
static int32_t wide_dot(const int16_t *group, size_t r, const int16_t *x, size_t n)
{
    int32_t sum = 0;

    for (size_t k = 0; k < n; k++)
        sum += group[(k / 2 * GROUP_ROWS + r) * 2 + k % 2] * x[k];
    return sum;
}

static void ref_product_wide(const struct weights *w, size_t first, size_t last,
                             const struct acts *x, float *y, size_t y_stride, void *scratch)
{
    const size_t n_blocks = (w->in + WIDE_BLOCK - 1) / WIDE_BLOCK;

    (void)scratch;
    for (size_t row = first * GROUP_ROWS; row < MIN(last * GROUP_ROWS, w->out); row++) {
        const float *const scales =
            (const float *)(const void *)(w->data + row / GROUP_ROWS *
                                                        packing_wide_group_bytes(w->in));
        const int16_t *const quants = (const int16_t *)(const void *)(scales + GROUP_ROWS);

        for (size_t p = 0; p < x->n; p++) {
            float acc = 0;

            for (size_t b = 0; b < n_blocks; b++) {
                const size_t at = (p / ACT_TILE * n_blocks + b) * ACT_TILE + p % ACT_TILE;
                const int32_t sum =
                    wide_dot(quants + b * WIDE_BLOCK * GROUP_ROWS, row % GROUP_ROWS,
                             x->wide + at * WIDE_BLOCK, MIN(w->in - b * WIDE_BLOCK, WIDE_BLOCK));

                acc = fmaf((float)sum, x->wide_d[at], acc);
            }
            y[p * y_stride + row] = acc * scales[row % GROUP_ROWS];
        }
    }
}

/* One step of a group: 32 values of 16 rows. */
struct step {
    uint8_t u[32][GROUP_ROWS];
    int offset;
    size_t n_scales; /* 1, or 2 of 16 values each */
    bool has_min;
    float scale[2][GROUP_ROWS];
    float min[2][GROUP_ROWS];
};

static float half_at(const uint8_t *base, size_t i)
{
    uint16_t half;

    memcpy(&half, base + 2 * i, 2);
    return f16_to_f32(half);
}

static void unpack_step(const struct packing *p, const struct packing_parts *parts,
                        const uint8_t *group, size_t index, struct step *step)
{
    const uint8_t *const quants = group + packing_step(parts, index * STEP_VALUES);

    step->offset = p->offset;
    step->n_scales = p->sub_values == 16 ? 2 : 1;
    step->has_min = p->has_min;

    for (size_t r = 0; r < GROUP_ROWS; r++) {
        for (size_t k = 0; k < 32; k++)
            step->u[k][r] = (uint8_t)packing_quant(p, quants, r, k);
        for (size_t s = 0; s < step->n_scales; s++) {
            const size_t k = 32 * index + 16 * s;
            const size_t d = packing_d(p, parts, k) / 2 + r;
            float scale = half_at(group + parts->d, d);
            float min = p->has_min ? half_at(group + parts->m, d) : 0;

            if (p->sub_values) {
                const size_t sub = packing_sub(p, parts, k) + r;
                const uint8_t byte = group[parts->sub + sub];

                scale *= p->offset ? (float)(int8_t)byte : (float)byte;
                if (p->has_min)
                    min = -(min * (float)group[parts->sub_min + sub]);
            }
            step->scale[s][r] = scale;
            step->min[s][r] = min;
        }
    }
}

/* Add one block of 32 to the accumulators of one position's 16 rows. */
static void add_block(const struct step *step, const int8_t *q, float d, const int32_t *sum,
                      size_t stride, float *acc)
{
    const float s0 = (float)sum[0], s1 = (float)sum[stride];

    for (size_t r = 0; r < GROUP_ROWS; r++) {
        int32_t dot[2] = {0, 0};
        float t;

        for (size_t k = 0; k < 32; k++)
            dot[k / 16] += ((int)step->u[k][r] - step->offset) *
                           q[k / ACT_RUN * ACT_RUN * stride + k % ACT_RUN];

        if (step->n_scales == 1) {
            t = step->scale[0][r] * (float)(dot[0] + dot[1]);
            if (step->has_min)
                t = fmaf(step->min[0][r], s0 + s1, t);
        } else {
            t = step->scale[0][r] * (float)dot[0];
            t = fmaf(step->scale[1][r], (float)dot[1], t);
            if (step->has_min) {
                t = fmaf(step->min[0][r], s0, t);
                t = fmaf(step->min[1][r], s1, t);
            }
        }
        acc[r] = fmaf(t, d, acc[r]);
    }
}

static void store_rows(const float *acc, size_t row, size_t out, float *y)
{
    memcpy(y + row, acc, MIN(out - row, (size_t)GROUP_ROWS) * sizeof(*y));
}

static void product_float(const struct weights *w, size_t g, const uint8_t *group,
                          const struct acts *x, float *y, size_t y_stride)
{
    const size_t value_bytes = packing_of(w->type)->bits / 8;

    for (size_t p = 0; p < x->n; p++) {
        float acc[GROUP_ROWS] = {0}, row[GROUP_ROWS];

        for (size_t k = 0; k < w->in; k++) {
            dtype_to_f32(w->type, group + k * GROUP_ROWS * value_bytes, row, GROUP_ROWS);
            for (size_t r = 0; r < GROUP_ROWS; r++)
                acc[r] = fmaf(row[r], x->f32[p * x->in + k], acc[r]);
        }
        store_rows(acc, g * GROUP_ROWS, w->out, y + p * y_stride);
    }
}

static void ref_product(const struct weights *w, size_t first, size_t last, const struct acts *x,
                        float *y, size_t y_stride, void *scratch)
{
    const struct packing *const p = packing_of(w->type);
    const struct packing_parts parts = packing_parts(w->type, w->in);

    (void)scratch;
    for (size_t g = first; g < last; g++) {
        const uint8_t *const group = w->data + g * parts.group_bytes;

        if (p->d_values == 0) {
            product_float(w, g, group, x, y, y_stride);
            continue;
        }
        for (size_t pos = 0; pos < x->n; pos++) {
            const size_t tile = pos / ACT_TILE * ACT_TILE, rows = acts_tile_rows(x, tile);
            const int8_t *const q = x->q + tile * x->in + pos % ACT_TILE * ACT_RUN;
            const float *const d = x->d + tile * (x->in / 32) + pos % ACT_TILE;
            const int32_t *const sum = x->sum + tile * (x->in / 16) + pos % ACT_TILE;
            float acc[GROUP_ROWS] = {0};

            for (size_t b = 0; b < w->in / 32; b++) {
                struct step step;

                unpack_step(p, &parts, group, b, &step);
                add_block(&step, q + 32 * b * rows, d[b * rows], sum + 2 * b * rows, rows, acc);
            }
            store_rows(acc, g * GROUP_ROWS, w->out, y + pos * y_stride);
        }
    }
}

static void ref_dot_f32(const float *w, const float *x, size_t n, size_t in, float *y,
                        size_t y_stride)
{
    for (size_t p = 0; p < n; p++) {
        float lane[LANES] = {0};

        for (size_t k = 0; k < in; k++)
            lane[k % LANES] = fmaf(w[k], x[p * in + k], lane[k % LANES]);
        y[p * y_stride] = sum_lanes(lane);
    }
}

/* --- exponential ---------------------------------------------------------------------------- */

static float exp2_poly(float x)
{
    float shifted, f, y;
    uint32_t exponent, bits;

    if (x < EXP2_MIN)
        return 0;
    x = x > EXP2_MAX ? EXP2_MAX : x;
    shifted = x + EXP2_SHIFT;
    f = x - (shifted - EXP2_SHIFT);

    y = fmaf(EXP2_C6, f, EXP2_C5);
    y = fmaf(y, f, EXP2_C4);
    y = fmaf(y, f, EXP2_C3);
    y = fmaf(y, f, EXP2_C2);
    y = fmaf(y, f, EXP2_C1);
    y = fmaf(y, f, 1);

    /* The low bits of `shifted` are the whole part; it goes to the exponent. */
    memcpy(&exponent, &shifted, sizeof(exponent));
    memcpy(&bits, &y, sizeof(bits));
    bits += exponent << 23;
    memcpy(&y, &bits, sizeof(y));
    return y;
}

/* --- small operations ----------------------------------------------------------------------- */

static void ref_rmsnorm(const float *x, const float *w, size_t n, float eps, float *out)
{
    float lane[LANES] = {0}, scale;

    for (size_t k = 0; k < n; k++)
        lane[k % LANES] = fmaf(x[k], x[k], lane[k % LANES]);
    scale = 1 / sqrtf(sum_lanes(lane) / (float)n + eps);
    for (size_t k = 0; k < n; k++)
        out[k] = x[k] * scale * w[k];
}

static void ref_layernorm(const float *x, const float *w, const float *b, size_t n, float eps,
                          float *out)
{
    float lane[LANES] = {0}, square[LANES] = {0}, mean, scale;

    for (size_t k = 0; k < n; k++)
        lane[k % LANES] += x[k];
    mean = sum_lanes(lane) / (float)n;
    for (size_t k = 0; k < n; k++)
        square[k % LANES] = fmaf(x[k] - mean, x[k] - mean, square[k % LANES]);
    scale = 1 / sqrtf(sum_lanes(square) / (float)n + eps);
    for (size_t k = 0; k < n; k++)
        out[k] = fmaf((x[k] - mean) * scale, w[k], b[k]);
}

static void ref_gelu_tanh(float *x, const float *bias, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        const float v = x[k] + bias[k];

        x[k] = v / (1 + exp2_poly(v * fmaf(v * v, TANH_C3, TANH_C1)));
    }
}

static void ref_gelu_erf(float *x, const float *bias, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        const float v = x[k] + bias[k], z = fabsf(v) * 0x1.6a09e6p-1f;
        const float t = 1 / fmaf(z, ERF_P, 1), e = exp2_poly(z * z * -LOG2E);
        float rest = fmaf(ERF_A5, t, ERF_A4);

        rest = fmaf(rest, t, ERF_A3);
        rest = fmaf(rest, t, ERF_A2);
        rest = fmaf(rest, t, ERF_A1);
        x[k] = (v >= 0 ? v : 0) - rest * t * e * (fabsf(v) * 0.5f);
    }
}

static void ref_silu_mul(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gate[i] = gate[i] / (1 + exp2_poly(gate[i] * -LOG2E)) * up[i];
}

static void ref_sigmoid_mul(float *x, const float *gate, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] / (1 + exp2_poly(gate[i] * -LOG2E));
}

static void ref_elu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (x[i] >= 0 ? x[i] : 0) + (exp2_poly((x[i] < 0 ? x[i] : 0) * LOG2E) - 1);
}

static void ref_add(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

static void ref_add_scaled(float *x, const float *y, float scale, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = fmaf(scale, y[i], x[i]);
}

static void ref_weighted_sum(const float *const *rows, const float *weights, size_t n_rows,
                             const float *bias, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        float sum = bias[i];

        for (size_t r = 0; r < n_rows; r++)
            sum = fmaf(weights[r * n + i], rows[r][i], sum);
        out[i] = sum;
    }
}

static void ref_rope_half(float *head, size_t hd, const float *cos, const float *sin)
{
    for (size_t i = 0; i < hd / 2; i++) {
        const float a = head[i], b = head[i + hd / 2];

        head[i] = fmaf(-b, sin[i], a * cos[i]);
        head[i + hd / 2] = fmaf(a, sin[i], b * cos[i]);
    }
}

static void ref_shortconv(const float *bcx, const float *taps, float *state, size_t n, size_t h,
                          size_t l, size_t first, size_t last, float *out)
{
    for (size_t t = 0; t < n; t++) {
        const float *const b = bcx + t * 3 * h, *const c = b + h, *const x = c + h;

        for (size_t i = first; i < last; i++) {
            float sum = 0;

            state[(l - 1 + t) * h + i] = b[i] * x[i];
            for (size_t j = 0; j < l; j++)
                sum = fmaf(taps[i * l + j], state[(t + j) * h + i], sum);
            out[t * h + i] = c[i] * sum;
        }
    }
}

/* --- attention ------------------------------------------------------------------------------ */

static float key_at(const struct attend_work *work, size_t position, size_t i)
{
    const size_t tile = position / KV_TILE, lane = position % KV_TILE;
    const uint8_t *const k =
        (const uint8_t *)work->k + tile * kv_bytes(work->type, work->head_dim, KV_TILE);

    if (work->type == KV_F32)
        return ((const float *)(const void *)k)[i * KV_TILE + lane];
    if (work->type == KV_F16)
        return half_at(k, i * KV_TILE + lane);
    return (float)((const int8_t *)k + work->head_dim / 32 * 64)[i * KV_TILE + lane];
}

static float key_scale(const struct attend_work *work, size_t position, size_t block)
{
    const uint8_t *const k = (const uint8_t *)work->k +
                             position / KV_TILE * kv_bytes(work->type, work->head_dim, KV_TILE);

    return ((const float *)(const void *)k)[block * KV_TILE + position % KV_TILE];
}

/* The dot product, in order of the dimensions; Q8_0 by blocks of 32. */
static float score_of(const struct attend_work *work, const float *q, size_t position)
{
    float s = 0;

    if (work->type != KV_Q8_0) {
        for (size_t i = 0; i < work->head_dim; i++)
            s = fmaf(q[i], key_at(work, position, i), s);
        return s;
    }
    for (size_t b = 0; b < work->head_dim / 32; b++) {
        float dot = 0;

        for (size_t i = 32 * b; i < 32 * b + 32; i++)
            dot = fmaf(q[i], key_at(work, position, i), dot);
        s = fmaf(dot, key_scale(work, position, b), s);
    }
    return s;
}

/* out += p * value */
static void add_value(const struct attend_work *work, size_t position, float p, float *out)
{
    const size_t hd = work->head_dim, width = round_up(hd, KV_TILE);
    const size_t lane = position % KV_TILE;
    const uint8_t *const v =
        (const uint8_t *)work->v + position / KV_TILE * kv_bytes(work->type, hd, KV_TILE);

    for (size_t i = 0; i < hd; i++) {
        if (work->type == KV_F32) {
            out[i] = fmaf(p, ((const float *)(const void *)v)[lane * width + i], out[i]);
        } else if (work->type == KV_F16) {
            out[i] = fmaf(p, half_at(v, lane * width + i), out[i]);
        } else {
            const float d = ((const float *)(const void *)v)[lane * (hd / 32) + i / 32];
            const int8_t q = ((const int8_t *)v + hd / 32 * 64)[lane * width + i];

            out[i] = fmaf(p * d, (float)q, out[i]);
        }
    }
}

static void attend_one(const struct attend_work *work, size_t index)
{
    const size_t hd = work->head_dim, begin = work->begin[index], end = work->end[index];
    const float scale = LOG2E / sqrtf((float)hd);
    float q[ATTEND_HEAD_DIM_MAX], out[ATTEND_HEAD_DIM_MAX] = {0};
    float max = -FLT_MAX, lane[LANES] = {0}, sum;

    for (size_t i = 0; i < hd; i++)
        q[i] = work->q[index][i] * scale;

    for (size_t block = begin / ATTEND_BLOCK * ATTEND_BLOCK; block < end; block += ATTEND_BLOCK) {
        const size_t from = MAX(block, begin), to = MIN(block + ATTEND_BLOCK, end);
        float p[ATTEND_BLOCK] = {0}, new_max = max, shrink;

        for (size_t j = from; j < to; j++) {
            p[j - block] = score_of(work, q, j);
            new_max = fmaxf(new_max, p[j - block]);
        }
        shrink = exp2_poly(max - new_max);
        max = new_max;
        for (size_t i = 0; i < LANES; i++)
            lane[i] *= shrink;
        for (size_t i = 0; i < hd; i++)
            out[i] *= shrink;
        for (size_t j = from; j < to; j++) {
            p[j - block] = exp2_poly(p[j - block] - max);
            lane[j % LANES] += p[j - block];
            add_value(work, j, p[j - block], out);
        }
    }
    sum = sum_lanes(lane);
    for (size_t i = 0; i < hd; i++)
        work->out[index][i] = out[i] / sum;
}

static void ref_attend(const struct attend_work *work, void *scratch)
{
    (void)scratch;
    for (size_t i = 0; i < work->n; i++)
        attend_one(work, i);
}

static float wide_score(const int16_t *keys, const float *kd, size_t k, const int16_t *q, size_t hd)
{
    return (float)wide_dot(keys + k / GROUP_ROWS * GROUP_ROWS * hd, k % GROUP_ROWS, q, hd) * kd[k];
}

static void attend_wide_one(const struct attend_wide_work *work, size_t row, float *score,
                            int16_t *p)
{
    const size_t hd = work->head_dim, n_padded = round_up(work->n, GROUP_ROWS);
    const float unit_score = LOG2E / sqrtf((float)hd);
    int16_t q[WIDE_BLOCK], qp[WIDE_BLOCK];
    float d = ref_quantise_wide(work->q + row * work->stride, hd, WIDE_MAX, q) * unit_score;
    const float dp =
        work->p ? ref_quantise_wide(work->qp + row * work->stride, hd, WIDE_MAX, qp) * unit_score
                : 0;
    float max = -FLT_MAX, largest = 0, unit, lane[LANES] = {0}, scale;

    for (size_t k = 0; k < work->n; k++) {
        score[k] = wide_score(work->k, work->kd, k, q, hd);
        if (work->p)
            score[k] = fmaf(score[k], d,
                            wide_score(work->p, work->pd, work->n - 1 - work->first - row + k, qp,
                                       hd) *
                                dp);
        max = fmaxf(max, score[k]);
        largest = fmaxf(largest, work->vd[k]);
    }
    if (work->p)
        d = 1;
    unit = largest > 0 ? WIDE_MAX / largest : 0;
    for (size_t k = 0; k < n_padded; k++) {
        const float e = k < work->n ? exp2_poly((score[k] - max) * d) : 0;

        lane[k % LANES] += e;
        p[k] = (int16_t)rintf(e * (work->vd[k] * unit));
    }
    scale = largest / WIDE_MAX / sum_lanes(lane);
    for (size_t i = 0; i < hd; i++) {
        const int16_t *const v = work->v + i / GROUP_ROWS * GROUP_ROWS * n_padded;
        float acc = 0;

        for (size_t k = 0; k < n_padded; k += WIDE_BLOCK)
            acc += (float)wide_dot(v + k * GROUP_ROWS, i % GROUP_ROWS, p + k,
                                   MIN(n_padded - k, WIDE_BLOCK));
        work->out[row * work->stride + i] = acc * scale;
    }
}

static void ref_attend_wide(const struct attend_wide_work *work, void *scratch)
{
    float *const score = scratch;
    int16_t *const p = (int16_t *)(void *)(score + WIDE_KEYS_MAX);

    for (size_t row = 0; row < work->n_rows; row++)
        attend_wide_one(work, row, score, p);
}

const struct kernels kernels_ref = {
    .name = "ref",
    .supported = ref_supported,
    .quantise = ref_quantise,
    .product = ref_product,
    .quantise_wide = ref_quantise_wide,
    .product_wide = ref_product_wide,
    .attend_wide = ref_attend_wide,
    .dot_f32 = ref_dot_f32,
    .rmsnorm = ref_rmsnorm,
    .layernorm = ref_layernorm,
    .silu_mul = ref_silu_mul,
    .sigmoid_mul = ref_sigmoid_mul,
    .gelu_tanh = ref_gelu_tanh,
    .gelu_erf = ref_gelu_erf,
    .elu = ref_elu,
    .add = ref_add,
    .add_scaled = ref_add_scaled,
    .weighted_sum = ref_weighted_sum,
    .rope_half = ref_rope_half,
    .shortconv = ref_shortconv,
    .attend = ref_attend,
};
