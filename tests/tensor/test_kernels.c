/* SPDX-License-Identifier: MIT */
/* Proves that every row of kernels gives the bits of plain C, on odd sizes and tails. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "tensor/attend.h"
#include "tensor/kernels.h"
#include "tensor/pool.h"

#include "random.h"

#define EACH_ROW(row)                                                                              \
    const struct kernels *_rows[8];                                                                \
    const size_t _n = kernels_list(_rows, 8);                                                      \
    for (size_t _i = 1; _i < _n; _i++)                                                             \
        for (const struct kernels *row = _rows[_i]; row; row = NULL)

static void equal(const char *what, const struct kernels *row, size_t size, const float *expected,
                  const float *found, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&expected[i], &found[i], sizeof(float)) != 0)
            fail_msg("%s of %s at size %zu: element %zu is %a, plain C gives %a", what, row->name,
                     size, i, (double)found[i], (double)expected[i]);
    }
}

/* Else the tests below would compare nothing where LFMD_KERNELS asks for a row. */
static void test_the_row_that_was_asked_for_is_there(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    if (kernels_check(&err) != 0)
        fail_msg("%s", err.text);
}

#define SIZE_MAX_OPS 1027

static const size_t sizes[] = {1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 65, 257, 1024, 1027};

static void test_small_operations(void **state)
{
    static float x[SIZE_MAX_OPS], w[SIZE_MAX_OPS], bias[SIZE_MAX_OPS];
    static float a[SIZE_MAX_OPS], b[SIZE_MAX_OPS], weights[3 * SIZE_MAX_OPS];

    (void)state;
    EACH_ROW(row)
    {
        for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
            const size_t n = sizes[s];

            random_row(x, n);
            random_row(w, n);
            kernels_ref.rmsnorm(x, w, n, 1e-5f, a);
            row->rmsnorm(x, w, n, 1e-5f, b);
            equal("rmsnorm", row, n, a, b, n);

            random_row(bias, n);
            kernels_ref.layernorm(x, w, bias, n, 1e-6f, a);
            row->layernorm(x, w, bias, n, 1e-6f, b);
            equal("layernorm", row, n, a, b, n);
            for (size_t i = 0; i < n; i++)
                a[i] = b[i] = x[i] * (i % 3 ? 4 : 2000);
            kernels_ref.gelu_tanh(a, bias, n);
            row->gelu_tanh(b, bias, n);
            equal("gelu_tanh", row, n, a, b, n);
            for (size_t i = 0; i < n; i++)
                a[i] = b[i] = x[i] * (i % 3 ? 4 : 2000);
            kernels_ref.gelu_erf(a, bias, n);
            row->gelu_erf(b, bias, n);
            equal("gelu_erf", row, n, a, b, n);

            for (size_t i = 0; i < n; i++)
                a[i] = b[i] = x[i] * (i % 3 ? 4 : 2000);
            kernels_ref.elu(a, n);
            row->elu(b, n);
            equal("elu", row, n, a, b, n);

            for (size_t i = 0; i < n; i++)
                a[i] = b[i] = x[i] * (i % 3 ? 20 : 2000);
            kernels_ref.silu_mul(a, w, n);
            row->silu_mul(b, w, n);
            equal("silu_mul", row, n, a, b, n);

            memcpy(a, w, n * sizeof(float));
            memcpy(b, w, n * sizeof(float));
            kernels_ref.sigmoid_mul(a, x, n);
            row->sigmoid_mul(b, x, n);
            equal("sigmoid_mul", row, n, a, b, n);
            kernels_ref.sigmoid_mul(a, a, n);
            row->sigmoid_mul(b, b, n);
            equal("sigmoid_mul of itself", row, n, a, b, n);

            random_row(weights, 3 * n);
            kernels_ref.weighted_sum((const float *const[]){x, bias, w}, weights, 3, bias, n, a);
            row->weighted_sum((const float *const[]){x, bias, w}, weights, 3, bias, n, b);
            equal("weighted_sum", row, n, a, b, n);

            memcpy(a, x, n * sizeof(float));
            memcpy(b, x, n * sizeof(float));
            kernels_ref.add(a, w, n);
            row->add(b, w, n);
            equal("add", row, n, a, b, n);
            kernels_ref.add_scaled(a, w, 0.3f, n);
            row->add_scaled(b, w, 0.3f, n);
            equal("add_scaled", row, n, a, b, n);

            kernels_ref.dot_f32(w, x, 1, n, a, 1);
            row->dot_f32(w, x, 1, n, b, 1);
            equal("dot_f32", row, n, a, b, 1);
        }
    }
}

static void test_dot_f32_of_several_rows(void **state)
{
    static float x[7 * 131], w[131], a[7 * 3], b[7 * 3];

    (void)state;
    random_row(x, ARRAY_LEN(x));
    random_row(w, ARRAY_LEN(w));
    EACH_ROW(row)
    {
        for (size_t n = 1; n <= 7; n++) {
            kernels_ref.dot_f32(w, x, n, 131, a, 3);
            row->dot_f32(w, x, n, 131, b, 3);
            equal("dot_f32", row, n, a, b, n * 3);
        }
    }
}

static void test_silu_is_silu(void **state)
{
    static float up[2001], gate[2001], alone[2001];

    (void)state;
    for (int i = 0; i <= 2000; i++) {
        gate[i] = alone[i] = (float)(i - 1000) * 0.1f;
        up[i] = 1;
    }
    kernels_ref.silu_mul(gate, up, 2001);
    kernels_ref.sigmoid_mul(alone, alone, 2001);
    for (int i = 0; i <= 2000; i++) {
        const double x = (double)((float)(i - 1000) * 0.1f), y = x / (1 + exp(-x));

        assert_true(fabs((double)gate[i] - y) <= fabs(y) * 1e-5 + 1e-30);
        assert_true(fabs((double)alone[i] - y) <= fabs(y) * 1e-5 + 1e-30);
    }
}

static void test_gelu_is_gelu(void **state)
{
    static float bias[2001], by_tanh[2001], by_erf[2001];

    (void)state;
    for (int i = 0; i <= 2000; i++) {
        bias[i] = 0.25f;
        by_tanh[i] = by_erf[i] = (float)(i - 1000) * 0.02f;
    }
    kernels_ref.gelu_tanh(by_tanh, bias, 2001);
    kernels_ref.gelu_erf(by_erf, bias, 2001);
    for (int i = 0; i <= 2000; i++) {
        const double x = (double)((float)(i - 1000) * 0.02f + 0.25f);
        const double t = 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
        const double e = 0.5 * x * (1 + erf(x * 0.7071067811865476));

        assert_true(fabs((double)by_tanh[i] - t) <= 1e-6 + fabs(t) * 1e-6);
        assert_true(fabs((double)by_erf[i] - e) <= 1e-6 + fabs(e) * 1e-6);
    }
}

static void test_elu_is_elu(void **state)
{
    static float found[2001];

    (void)state;
    for (int i = 0; i <= 2000; i++)
        found[i] = (float)(i - 1000) * 0.1f;
    kernels_ref.elu(found, 2001);
    for (int i = 0; i <= 2000; i++) {
        const double x = (double)((float)(i - 1000) * 0.1f), y = x >= 0 ? x : expm1(x);

        assert_true(fabs((double)found[i] - y) <= 1e-6);
    }
}

static void test_layernorm_has_mean_and_variance_of_the_row(void **state)
{
    static float x[1152], w[1152], b[1152], out[1152];
    double mean = 0, variance = 0;

    (void)state;
    random_row(x, 1152);
    random_row(w, 1152);
    random_row(b, 1152);
    for (size_t i = 0; i < 1152; i++)
        mean += (double)(x[i] += 3) / 1152;
    for (size_t i = 0; i < 1152; i++)
        variance += ((double)x[i] - mean) * ((double)x[i] - mean) / 1152;
    kernels_ref.layernorm(x, w, b, 1152, 1e-6f, out);
    for (size_t i = 0; i < 1152; i++) {
        const double y =
            ((double)x[i] - mean) / sqrt(variance + 1e-6) * (double)w[i] + (double)b[i];

        assert_true(fabs((double)out[i] - y) <= 5e-6);
    }
}

static void test_rope(void **state)
{
    float head[128], cos[64], sin[64], a[128], b[128];

    (void)state;
    EACH_ROW(row)
    {
        for (size_t hd = 2; hd <= 128; hd += hd < 40 ? 2 : 8) {
            random_row(head, hd);
            random_row(cos, hd / 2);
            random_row(sin, hd / 2);
            memcpy(a, head, sizeof(a));
            memcpy(b, head, sizeof(b));
            kernels_ref.rope_half(a, hd, cos, sin);
            row->rope_half(b, hd, cos, sin);
            equal("rope_half", row, hd, a, b, hd);
        }
    }
}

static void test_shortconv(void **state)
{
    static float bcx[9 * 3 * 150], taps[150 * 5], past[4 * 150];
    static float state_a[13 * 150], state_b[13 * 150], a[9 * 150], b[9 * 150];
    static const size_t cuts[] = {0, 1, 33, 64, 150};

    (void)state;
    random_row(bcx, ARRAY_LEN(bcx));
    random_row(taps, ARRAY_LEN(taps));
    random_row(past, ARRAY_LEN(past));
    EACH_ROW(row)
    {
        for (size_t l = 1; l <= 5; l++) {
            memset(a, 0, sizeof(a));
            memset(b, 0, sizeof(b));
            memcpy(state_a, past, (l - 1) * 150 * sizeof(float));
            memcpy(state_b, past, (l - 1) * 150 * sizeof(float));
            kernels_ref.shortconv(bcx, taps, state_a, 9, 150, l, 0, 150, a);
            for (size_t c = 0; c + 1 < ARRAY_LEN(cuts); c++)
                row->shortconv(bcx, taps, state_b, 9, 150, l, cuts[c], cuts[c + 1], b);
            equal("shortconv", row, l, a, b, ARRAY_LEN(a));
            equal("shortconv's state", row, l, state_a, state_b, (l - 1 + 9) * 150);
        }
    }
}

static void test_quantise(void **state)
{
    static float x[320], d_a[50], d_b[50];
    static int8_t q_a[1600], q_b[1600];
    static int32_t sum_a[100], sum_b[100];

    (void)state;
    random_row(x, 320);
    memset(x + 64, 0, 32 * sizeof(float));      /* a block of zeros */
    for (int i = 0; i < 32; i++)
        x[96 + i] = (float)(i * 2 - 32) * 0.5f; /* ties */
    x[96] = 127;
    x[130] *= 1e30f;
    x[170] *= 1e-38f;
    for (int i = 0; i < 32; i++)
        x[192 + i] *= 1e-40f; /* subnormal */
    EACH_ROW(row)
    {
        for (size_t stride = 1; stride <= 5; stride += 2) {
            kernels_ref.quantise(x, 320, q_a, d_a, sum_a, stride);
            row->quantise(x, 320, q_b, d_b, sum_b, stride);
            assert_memory_equal(q_a, q_b, sizeof(q_a));
            assert_memory_equal(d_a, d_b, sizeof(d_a));
            assert_memory_equal(sum_a, sum_b, sizeof(sum_a));
        }
    }
}

#define N_MAX   41
#define OUT_MAX 71

/* blocks: [out] rows of the file's own format; x [n][in]. */
static void compare_products(const struct kernels *row, enum dtype type, size_t in, size_t out,
                             size_t n, const unsigned char *blocks, const float *x, void *scratch)
{
    const size_t row_bytes = dtype_row_bytes(type, in), n_groups = (out + 15) / 16;
    const size_t group_bytes = packing_parts(type, in).group_bytes;
    unsigned char *const data = aligned_alloc(64, n_groups * group_bytes);
    float *const a = calloc(n * out, sizeof(float)), *const b = calloc(n * out, sizeof(float));
    const struct weights w = {type, out, in, data};
    struct acts acts = {
        .n = n, .in = in, .f32 = x, .q = malloc(n * in), .d = malloc(n * in / 32 * 4 + 4),
        .sum = malloc(n * in / 16 * 4 + 4),
    };

    for (size_t g = 0; g < n_groups; g++)
        packing_group(type, in, blocks + g * 16 * row_bytes, row_bytes, MIN(out - g * 16, 16u),
                      data + g * group_bytes, scratch);
    if (in % 32 == 0) {
        for (size_t p = 0; p < n; p++) {
            const size_t tile = p / ACT_TILE * ACT_TILE, at = p % ACT_TILE;

            kernels_ref.quantise(x + p * in, in, acts.q + tile * in + ACT_RUN * at,
                                 acts.d + tile * (in / 32) + at, acts.sum + tile * (in / 16) + at,
                                 acts_tile_rows(&acts, tile));
        }
    }
    kernels_ref.product(&w, 0, n_groups, &acts, a, out, scratch);
    row->product(&w, 0, n_groups, &acts, b, out, scratch);
    equal(dtype_name(type), row, in * 1000000 + out * 1000 + n, a, b, n * out);
    free(acts.q);
    free(acts.d);
    free(acts.sum);
    free(a);
    free(b);
    free(data);
}

static void check_product(const struct kernels *row, enum dtype type, size_t in, size_t out,
                          size_t n, void *scratch)
{
    unsigned char *const blocks = malloc(out * dtype_row_bytes(type, in));
    float *const x = malloc(n * in * sizeof(float));

    random_row(x, n * in);
    random_blocks(type, blocks, out * in);
    compare_products(row, type, in, out, n, blocks, x, scratch);
    free(x);
    free(blocks);
}

static void test_products(void **state)
{
    static const size_t counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 17, 24, N_MAX};
    void *const scratch = aligned_alloc(64, POOL_SCRATCH_BYTES);

    (void)state;
    EACH_ROW(row)
    {
        for (size_t t = 0; t < ARRAY_LEN(random_types); t++) {
            const enum dtype type = random_types[t];
            const size_t block = dtype_info(type)->block_values;

            for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
                check_product(row, type, block == 1 ? 37 : block, 1 + c * 6, counts[c], scratch);
                check_product(row, type, 3 * MAX(block, (size_t)32), OUT_MAX, counts[c], scratch);
            }
            check_product(row, type, 4608, 33, 1, scratch);
            check_product(row, type, 4608, 33, 14, scratch);
        }
        /* The largest panels of the widest rows that a model may have. */
        check_product(row, DTYPE_Q2_K, 32768, 17, 7, scratch);
    }
    free(scratch);
}

/* Sums that fit 16 bits, if only just, and would not with one more product. */
static void test_products_of_the_largest_numbers(void **state)
{
    enum { IN = 256, OUT = 17, N = ACT_TILE };
    static const unsigned char fills[] = {0x00, 0xff, 0x80, 0x7f, 0x08};
    static const size_t counts[] = {1, 2, 3, 4, 5, N};
    static float x[N * IN];
    void *const scratch = aligned_alloc(64, POOL_SCRATCH_BYTES);

    (void)state;
    /* Quantised: 127 everywhere, -127 everywhere, and both in turn. */
    for (size_t i = 0; i < ARRAY_LEN(x); i++)
        x[i] = i / IN % 3 == 0 ? 1 : i / IN % 3 == 1 || i % 2 ? -1 : 1;
    EACH_ROW(row)
    {
        for (size_t t = 0; t < ARRAY_LEN(random_types); t++) {
            const enum dtype type = random_types[t];
            const size_t size = OUT * dtype_row_bytes(type, IN);
            unsigned char *const blocks = malloc(size);

            for (size_t f = 0; packing_of(type)->d_values > 0 && f < ARRAY_LEN(fills); f++) {
                memset(blocks, fills[f], size);
                random_scales(type, blocks, OUT * IN);
                for (size_t c = 0; c < ARRAY_LEN(counts); c++)
                    compare_products(row, type, IN, OUT, counts[c], blocks, x, scratch);
            }
            free(blocks);
        }
    }
    free(scratch);
}

/* --- wide products --------------------------------------------------------------------------- */

static void test_quantise_wide(void **state)
{
    static const size_t counts[] = {1, 2, 15, 16, 17, 72, 200, WIDE_BLOCK};
    float x[WIDE_BLOCK];
    int16_t a[WIDE_BLOCK], b[WIDE_BLOCK];

    (void)state;
    EACH_ROW(row)
    {
        for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
            /* Ordinary, zeros, ties, huge and subnormal ones. */
            for (int kind = 0; kind < 5; kind++) {
                float d_a, d_b;

                random_row(x, counts[c]);
                for (size_t i = 0; i < counts[c]; i++)
                    x[i] = kind == 2 ? (float)(i * 2) * 0.5f + 0.5f
                                     : x[i] * (const float[]){1, 0, 1, 1e38f, 1e-40f}[kind];
                d_a = kernels_ref.quantise_wide(x, counts[c], WIDE_MAX, a);
                d_b = row->quantise_wide(x, counts[c], WIDE_MAX, b);
                equal("quantise_wide", row, counts[c], &d_a, &d_b, 1);
                assert_memory_equal(a, b, (counts[c] + 15) / 16 * 16 * sizeof(a[0]));
            }
        }
    }
}

/* x [n][in]; blocks: [out] rows of F32. */
static void compare_wide(const struct kernels *row, size_t in, size_t out, size_t n,
                         const float *blocks, const float *x, void *scratch)
{
    const size_t n_groups = (out + 15) / 16, n_blocks = (in + WIDE_BLOCK - 1) / WIDE_BLOCK;
    const size_t n_padded = (n + ACT_TILE - 1) / ACT_TILE * ACT_TILE;
    unsigned char *const data = aligned_alloc(64, n_groups * packing_wide_group_bytes(in));
    float *const a = calloc(n * out, sizeof(float)), *const b = calloc(n * out, sizeof(float));
    const struct weights w = {DTYPE_F32, out, in, data};
    struct acts acts = {
        .n = n, .in = in, .f32 = x,
        .wide = malloc(n_padded * n_blocks * WIDE_BLOCK * sizeof(int16_t)),
        .wide_d = malloc(n_padded * n_blocks * sizeof(float)),
    };

    for (size_t g = 0; g < n_groups; g++)
        packing_wide_group(DTYPE_F32, in, blocks + g * 16 * in, in * sizeof(float),
                           MIN(out - g * 16, 16u), data + g * packing_wide_group_bytes(in),
                           scratch);
    for (size_t p = 0; p < n; p++) {
        for (size_t k = 0; k < n_blocks; k++) {
            const size_t at = (p / ACT_TILE * n_blocks + k) * ACT_TILE + p % ACT_TILE;

            acts.wide_d[at] = kernels_ref.quantise_wide(
                x + p * in + k * WIDE_BLOCK, MIN(in - k * WIDE_BLOCK, (size_t)WIDE_BLOCK), WIDE_MAX,
                acts.wide + at * WIDE_BLOCK);
        }
    }
    kernels_ref.product_wide(&w, 0, n_groups, &acts, a, out, scratch);
    row->product_wide(&w, 0, n_groups, &acts, b, out, scratch);
    equal("product_wide", row, in * 1000000 + out * 1000 + n, a, b, n * out);
    free(acts.wide);
    free(acts.wide_d);
    free(a);
    free(b);
    free(data);
}

static void test_wide_products(void **state)
{
    static const size_t ins[] = {1, 2, 37, WIDE_BLOCK, WIDE_BLOCK + 1, 768};
    static const size_t counts[] = {1, 2, 5, 6, 7, ACT_TILE, 23, 8 * ACT_TILE + 3};
    static float x[(8 * ACT_TILE + 3) * 768], w[33 * 768];
    void *const scratch = aligned_alloc(64, POOL_SCRATCH_BYTES);

    (void)state;
    EACH_ROW(row)
    {
        for (size_t i = 0; i < ARRAY_LEN(ins); i++) {
            for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
                random_row(x, counts[c] * ins[i]);
                random_row(w, 33 * ins[i]);
                compare_wide(row, ins[i], 33, counts[c], w, x, scratch);
            }
        }
    }
    free(scratch);
}

/* The sums of a block that come nearest to the limits of 32 bits: a wrong bound would be undefined
 * in plain C, and say so in a build with sanitizers. */
static void test_wide_products_of_the_largest_numbers(void **state)
{
    enum { IN = WIDE_BLOCK, OUT = 16, N = ACT_TILE };
    static float x[N * IN], w[OUT * IN];
    void *const scratch = aligned_alloc(64, POOL_SCRATCH_BYTES);

    (void)state;
    for (size_t i = 0; i < N * IN; i++)
        x[i] = i / IN % 2 ? -3 : 3;
    /* Equal weights, growing ones, and a single one. */
    for (size_t r = 0; r < OUT; r++) {
        for (size_t k = 0; k < IN; k++)
            w[r * IN + k] = r % 3 == 0 ? 1 : r % 3 == 1 ? (float)k : k == r;
    }
    EACH_ROW(row)
    {
        compare_wide(row, IN, OUT, N, w, x, scratch);
    }
    for (size_t r = 0; r < OUT; r++) {
        float group[16 + 16 * IN];
        const int16_t *const quants = (const int16_t *)(const void *)(group + 16);
        int64_t sum = 0;

        packing_wide_group(DTYPE_F32, IN, w + r * IN, 0, 1, group, scratch);
        for (size_t k = 0; k < IN; k++)
            sum += abs(quants[k / 2 * 32 + k % 2]);
        assert_true(sum * WIDE_MAX <= INT32_MAX);
        assert_true(sum >= (r % 3 == 2 ? INT16_MAX : WIDE_LIMIT - IN));
    }
    free(scratch);
}

static void test_wide_attention(void **state)
{
    static const size_t head_dims[] = {8, 40, 64, 72, 256};
    static const size_t key_counts[] = {1, 15, 16, 300, 600};
    static float x[608], q[ACT_TILE * 256], qp[ACT_TILE * 256], kd[608], vd[608], pd[1216];
    static float a[ACT_TILE * 256], b[ACT_TILE * 256];
    static int16_t k[608 * 256], v[608 * 256], p[1216 * 256];
    void *const scratch = aligned_alloc(64, POOL_SCRATCH_BYTES);

    (void)state;
    EACH_ROW(row)
    {
        for (size_t c = 0; c < ARRAY_LEN(head_dims); c++) {
            for (size_t j = 0; j < ARRAY_LEN(key_counts); j++) {
                const size_t hd = head_dims[c], n = key_counts[j], n_padded = (n + 15) / 16 * 16;
                const size_t n_positions = (2 * n + 14) / 16 * 16;
                struct attend_wide_work work = {.head_dim = hd, .n = n, .k = k, .v = v, .kd = kd,
                                                .vd = vd, .q = q, .stride = hd};

                random_row(q, ACT_TILE * hd);
                random_row(qp, ACT_TILE * hd);
                random_row(x, 608);
                for (size_t i = 0; i < n_padded; i++) {
                    kd[i] = i < n ? (1 + x[i]) * 0.01f : 0;
                    vd[i] = i < n ? (1 - x[i]) * 0.01f : 0;
                }
                for (size_t i = 0; i < n_padded * ((hd + 15) / 16 * 16); i++) {
                    k[i] = (int16_t)(random_u32() % 2047 - 1023);
                    v[i] = (int16_t)(random_u32() % 2047 - 1023);
                }
                for (work.n_rows = 1; work.n_rows <= ACT_TILE; work.n_rows++) {
                    work.out = a;
                    kernels_ref.attend_wide(&work, scratch);
                    work.out = b;
                    row->attend_wide(&work, scratch);
                    equal("attend_wide", row, hd * 1000 + n, a, b, work.n_rows * hd);
                }
                for (size_t i = 0; i < n_positions; i++)
                    pd[i] = i < 2 * n - 1 ? (1 + x[i / 2]) * 0.01f : 0;
                for (size_t i = 0; i < n_positions * hd; i++)
                    p[i] = (int16_t)(random_u32() % 2047 - 1023);
                work.p = p;
                work.pd = pd;
                work.qp = qp;
                for (work.n_rows = 1; work.n_rows <= MIN(n, ACT_TILE); work.n_rows += 3) {
                    work.first = work.n_rows % 2 ? 0 : n - work.n_rows;
                    work.out = a;
                    kernels_ref.attend_wide(&work, scratch);
                    work.out = b;
                    row->attend_wide(&work, scratch);
                    equal("attend_wide with positions", row, hd * 1000 + n, a, b,
                          work.n_rows * hd);
                }
            }
        }
    }
    free(scratch);
}

/* TEST_FASTEST_ROW says which row that is on a processor that is known. */
static void test_the_fastest_row_is_chosen_unless_another_is_asked_for(void **state)
{
    const char *const old = getenv("LFMD_KERNELS"), *expected = getenv("TEST_FASTEST_ROW");
    char *const copy = old ? strdup(old) : NULL;
    void *const scratch = aligned_alloc(64, POOL_SCRATCH_BYTES);
    const struct kernels *rows[8];
    const size_t n = kernels_list(rows, 8);

    (void)state;
    unsetenv("LFMD_KERNELS");
    kernels_force(NULL);
    assert_string_equal(kernels()->name, expected ? expected : rows[n - 1]->name);
    check_product(kernels(), DTYPE_Q4_0, 64, 17, 5, scratch);
    for (size_t i = 0; i < n; i++) {
        setenv("LFMD_KERNELS", rows[i]->name, 1);
        kernels_force(NULL);
        assert_string_equal(kernels()->name, rows[i]->name);
    }
    unsetenv("LFMD_KERNELS");
    if (copy)
        setenv("LFMD_KERNELS", copy, 1);
    free(copy);
    free(scratch);
    kernels_force(NULL);
}

static void test_attention(void **state)
{
    static const struct {
        int type;
        size_t head_dim;
    } cases[] = {{KV_F32, 64}, {KV_F32, 72}, {KV_F32, 8}, {KV_F16, 64}, {KV_F16, 40},
                 {KV_F16, 128}, {KV_Q8_0, 32}, {KV_Q8_0, 64}, {KV_Q8_0, 256}};
    static float rows[300 * 256], q[ATTEND_TILE * 256], a[ATTEND_TILE * 256],
        b[ATTEND_TILE * 256];
    void *const scratch = aligned_alloc(64, POOL_SCRATCH_BYTES);

    (void)state;
    EACH_ROW(row)
    {
        for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
            const size_t hd = cases[c].head_dim, size = kv_bytes(cases[c].type, hd, 300);
            unsigned char *const k = aligned_alloc(64, size), *const v = aligned_alloc(64, size);

            memset(k, 0, size);
            memset(v, 0, size);
            random_row(rows, 300 * hd);
            kv_store_k(cases[c].type, rows, 300, hd, hd, k, 0);
            random_row(rows, 300 * hd);
            kv_store_v(cases[c].type, rows, 300, hd, hd, v, 0);
            random_row(q, ATTEND_TILE * hd);
            for (size_t n = 1; n <= ATTEND_TILE; n++) {
                struct attend_work work = {.type = cases[c].type, .head_dim = hd, .k = k, .v = v,
                                           .n = n};

                for (size_t i = 0; i < n; i++) {
                    work.q[i] = q + i * hd;
                    work.out[i] = a + i * hd;
                    work.end[i] = 1 + (i * 97 + n * 31) % 300;
                    work.begin[i] = n % 3 ? 0 : work.end[i] / 2;
                }
                kernels_ref.attend(&work, scratch);
                for (size_t i = 0; i < n; i++)
                    work.out[i] = b + i * hd;
                row->attend(&work, scratch);
                equal("attend", row, hd, a, b, n * hd);
            }
            free(k);
            free(v);
        }
    }
    free(scratch);
}

static void test_a_forced_row_that_is_not_there_is_an_error(void **state)
{
    const char *const old = getenv("LFMD_KERNELS");
    char *const copy = old ? strdup(old) : NULL;
    struct error err = ERROR_INIT;

    (void)state;
    setenv("LFMD_KERNELS", "ref", 1);
    kernels_force(NULL);
    assert_int_equal(kernels_check(&err), 0);
    assert_string_equal(kernels()->name, "ref");
    setenv("LFMD_KERNELS", "vax", 1);
    assert_int_not_equal(kernels_check(&err), 0);
    assert_non_null(strstr(err.text, "\"vax\""));
    unsetenv("LFMD_KERNELS");
    if (copy)
        setenv("LFMD_KERNELS", copy, 1);
    free(copy);
    kernels_force(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_row_that_was_asked_for_is_there),
        cmocka_unit_test(test_small_operations),
        cmocka_unit_test(test_dot_f32_of_several_rows),
        cmocka_unit_test(test_silu_is_silu),
        cmocka_unit_test(test_gelu_is_gelu),
        cmocka_unit_test(test_elu_is_elu),
        cmocka_unit_test(test_layernorm_has_mean_and_variance_of_the_row),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_shortconv),
        cmocka_unit_test(test_quantise),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_products_of_the_largest_numbers),
        cmocka_unit_test(test_quantise_wide),
        cmocka_unit_test(test_wide_products),
        cmocka_unit_test(test_wide_products_of_the_largest_numbers),
        cmocka_unit_test(test_wide_attention),
        cmocka_unit_test(test_the_fastest_row_is_chosen_unless_another_is_asked_for),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_a_forced_row_that_is_not_there_is_an_error),
    };

    return cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
}
