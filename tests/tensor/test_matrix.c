/* SPDX-License-Identifier: MIT */
/*
 * Proves the products of matrices: precise ones against sums in double, the others against precise
 * ones within what their activations cost, and that neither batch nor threads change a bit.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "tensor/kernels.h"
#include "tensor/matrix.h"

#include "random.h"

#define N_MAX 29

struct fixture {
    struct gguf_tensor tensor;
    struct arena arena;
    struct matrix matrix;
    struct rows rows;
    unsigned char *blocks;
    float *x, *y;
    size_t in, out;
};

static void setup_matrix(struct fixture *f, enum dtype type, size_t in, size_t out,
                         enum matrix_form form, struct pool *pool)
{
    const size_t size = out * dtype_row_bytes(type, in);
    const size_t n_values = rows_values(form, N_MAX, in);
    struct error err = ERROR_INIT;

    *f = (struct fixture){.in = in, .out = out};
    f->blocks = malloc(size);
    random_state = 77 + type;
    random_blocks(type, f->blocks, out * in);
    f->tensor = (struct gguf_tensor){.type = type, .n_dims = 2, .ne = {in, out, 1, 1},
                                     .data = f->blocks, .size_bytes = size};
    assert_int_equal(arena_init(&f->arena,
                                matrix_plan(&f->tensor, form) + rows_plan(form, n_values), "a test",
                                &err), 0);
    matrix_load(&f->matrix, &f->tensor, 0, form, &f->arena, pool);
    rows_init(&f->rows, form, n_values, &f->arena);
    assert_int_equal(f->arena.used, matrix_plan(&f->tensor, form) + rows_plan(form, n_values));
    f->x = malloc(N_MAX * in * sizeof(float));
    f->y = malloc(N_MAX * out * sizeof(float));
    random_row(f->x, N_MAX * in);
}

static void teardown_matrix(struct fixture *f)
{
    free(f->x);
    free(f->y);
    free(f->blocks);
    arena_done(&f->arena);
}

static void multiply(struct fixture *f, size_t first, size_t n, struct pool *pool)
{
    rows_set(&f->rows, f->x + first * f->in, n, f->in, pool);
    matmul(&f->matrix, &f->rows, f->y + first * f->out, pool);
}

static void test_precise_products_are_sums_of_exact_weights(void **state)
{
    struct error err = ERROR_INIT;
    struct pool *pool = pool_new(2, &err);
    float row[768];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(random_types); i++) {
        const size_t block = dtype_info(random_types[i])->block_values;
        struct fixture f;

        setup_matrix(&f, random_types[i], block == 1 ? 99 : 3 * block, 21, MATRIX_PRECISE, pool);
        multiply(&f, 0, 5, pool);
        for (size_t r = 0; r < f.out; r++) {
            matrix_row(&f.matrix, r, row);
            for (size_t p = 0; p < 5; p++) {
                double sum = 0, size = 0;

                for (size_t k = 0; k < f.in; k++) {
                    sum += (double)row[k] * (double)f.x[p * f.in + k];
                    size += fabs((double)row[k] * (double)f.x[p * f.in + k]);
                }
                assert_true(fabs((double)f.y[p * f.out + r] - sum) <= size * 1e-6);
            }
        }
        teardown_matrix(&f);
    }
    pool_free(pool);
}

/* Relative deviation from precise products, by the root of the squares. */
static double deviation(enum dtype type, size_t in, enum matrix_form form, struct pool *pool)
{
    struct fixture found, precise;
    double deviation = 0, size = 0;

    setup_matrix(&found, type, in, 50, form, pool);
    setup_matrix(&precise, type, in, 50, MATRIX_PRECISE, pool);
    multiply(&found, 0, N_MAX, pool);
    multiply(&precise, 0, N_MAX, pool);
    for (size_t j = 0; j < N_MAX * 50; j++) {
        const double d = (double)found.y[j] - (double)precise.y[j];

        deviation += d * d;
        size += (double)precise.y[j] * (double)precise.y[j];
    }
    teardown_matrix(&found);
    teardown_matrix(&precise);
    return sqrt(deviation / size);
}

static void test_rounded_products_are_close_to_precise_ones(void **state)
{
    struct error err = ERROR_INIT;
    struct pool *pool = pool_new(2, &err);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(random_types); i++) {
        const enum dtype type = random_types[i];
        const size_t block = dtype_info(type)->block_values, in = block == 1 ? 99 : 512;
        const double fast = deviation(type, in, MATRIX_FAST, pool);
        const double fine = deviation(type, in, MATRIX_FINE, pool);
        const double wide = deviation(type, in, MATRIX_WIDE, pool);
        const double rounded = deviation(type, in, MATRIX_ROUNDED, pool);

        if (fast > (block == 1 ? 1e-6 : 0.01))
            fail_msg("%s, fast, deviates by %g", dtype_name(type), fast);
        if (fine > (block == 1 ? 1e-6 : 1e-4))
            fail_msg("%s, fine, deviates by %g", dtype_name(type), fine);
        if (wide > (type == DTYPE_F32 ? 1e-6 : 5e-4))
            fail_msg("%s, wide, deviates by %g", dtype_name(type), wide);
        if (rounded > (block == 1 ? 5e-4 : 0.01))
            fail_msg("%s, rounded, deviates by %g", dtype_name(type), rounded);
    }
    pool_free(pool);
}

/* Damaged weights: their rows are no numbers, and no sum of integers overflows. */
static void test_rows_of_a_wide_matrix_that_are_no_numbers(void **state)
{
    static const float wrong[] = {INFINITY, NAN};
    struct error err = ERROR_INIT;
    struct pool *pool = pool_new(1, &err);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        const uint16_t half = f32_to_f16(wrong[i]);
        struct fixture wide;

        setup_matrix(&wide, DTYPE_F16, 64, 20, MATRIX_WIDE, pool);
        memcpy(wide.blocks + (3 * 64 + 5) * sizeof(half), &half, sizeof(half));
        wide.arena.used = 0;
        matrix_load(&wide.matrix, &wide.tensor, 0, MATRIX_WIDE, &wide.arena, pool);
        multiply(&wide, 0, N_MAX, pool);
        for (size_t k = 0; k < N_MAX * wide.out; k++)
            assert_true(isnan(wide.y[k]) == (k % wide.out == 3));
        teardown_matrix(&wide);
    }
    pool_free(pool);
}

static void test_batch_and_threads_do_not_change_a_bit(void **state)
{
    struct error err = ERROR_INIT;
    const struct kernels *kernel_rows[8];
    const size_t n_kernel_rows = kernels_list(kernel_rows, 8);
    struct pool *pool1 = pool_new(1, &err), *pool3 = pool_new(3, &err);

    (void)state;
    for (size_t k = 0; k < n_kernel_rows; k++) {
        kernels_force(kernel_rows[k]);
        for (size_t i = 0; i < ARRAY_LEN(random_types); i++) {
            for (enum matrix_form form = 0; form <= MATRIX_PRECISE; form++) {
                const size_t in = dtype_info(random_types[i])->block_values == 1 ? 71 : 768;
                struct fixture whole, pieces;

                setup_matrix(&whole, random_types[i], in, 83, form, pool1);
                setup_matrix(&pieces, random_types[i], in, 83, form, pool3);
                multiply(&whole, 0, N_MAX, pool1);
                for (size_t first = 0, n = 1; first < N_MAX; first += n, n++)
                    multiply(&pieces, first, MIN(n, N_MAX - first), pool3);
                assert_memory_equal(whole.y, pieces.y, N_MAX * 83 * sizeof(float));
                teardown_matrix(&whole);
                teardown_matrix(&pieces);
            }
        }
    }
    kernels_force(NULL);
    pool_free(pool1);
    pool_free(pool3);
}

static void test_several_matrices_in_one_go_equal_single_ones(void **state)
{
    const enum dtype types[] = {DTYPE_Q4_0, DTYPE_F32, DTYPE_Q6_K, DTYPE_F16, DTYPE_Q8_0};
    const enum matrix_form forms[] = {MATRIX_FAST, MATRIX_PRECISE, MATRIX_FAST, MATRIX_ROUNDED,
                                      MATRIX_ROUNDED};
    const size_t outs[] = {33, 16, 100, 40, 16};
    struct error err = ERROR_INIT;
    struct pool *pool = pool_new(2, &err);
    struct fixture f[5];
    const struct matrix *matrices[5];
    float *y[5];

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        setup_matrix(&f[i], types[i], 256, outs[i], forms[i], pool);
        memcpy(f[i].x, f[0].x, N_MAX * 256 * sizeof(float));
        multiply(&f[i], 0, N_MAX, pool);
        matrices[i] = &f[i].matrix;
        y[i] = calloc(N_MAX * outs[i], sizeof(float));
    }
    rows_set(&f[0].rows, f[0].x, N_MAX, 256, pool);
    matmul_n(matrices, y, 3, &f[0].rows, pool);
    /* Rounded rows meet both forms, and precise matrices. */
    rows_set(&f[3].rows, f[3].x, N_MAX, 256, pool);
    matmul_n(matrices + 3, y + 3, 2, &f[3].rows, pool);
    matmul(matrices[1], &f[3].rows, y[1], pool);
    for (size_t i = 0; i < 5; i++) {
        assert_memory_equal(y[i], f[i].y, N_MAX * outs[i] * sizeof(float));
        free(y[i]);
        teardown_matrix(&f[i]);
    }
    pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_precise_products_are_sums_of_exact_weights),
        cmocka_unit_test(test_rounded_products_are_close_to_precise_ones),
        cmocka_unit_test(test_rows_of_a_wide_matrix_that_are_no_numbers),
        cmocka_unit_test(test_batch_and_threads_do_not_change_a_bit),
        cmocka_unit_test(test_several_matrices_in_one_go_equal_single_ones),
    };

    return cmocka_run_group_tests_name("matrix", tests, NULL, NULL);
}
