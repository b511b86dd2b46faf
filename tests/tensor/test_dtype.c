/* SPDX-License-Identifier: MIT */

/*
 * Proves the number formats: the halves over all their values and every rounding border, the
 * names and sizes, and each block format against gguf-py on random blocks, bit for bit
 * (tests/data/make_quant_blocks.py, and the reference's own file where it is at hand).
 */

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "tensor/dtype.h"
#include "tensor/gguf.h"
#include "tests/fixture.h"

static uint32_t bits_of(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static void test_every_half_widens_to_its_value(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        const int exponent = h >> 10 & 31, fraction = h & 1023;
        const double sign = h & 0x8000 ? -1 : 1;
        const float value = f16_to_f32((uint16_t)h);

        if (exponent == 31 && fraction)
            assert_true(isnan(value));
        else if (exponent == 31)
            assert_true(isinf(value) && (value < 0) == (sign < 0));
        else if (exponent)
            assert_true((double)value == sign * ldexp(1024 + fraction, exponent - 25));
        else
            assert_true((double)value == sign * ldexp(fraction, -24));
        assert_int_equal(bits_of(value) >> 31, h >> 15);
    }
}

static void test_every_half_survives_a_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float value = f16_to_f32((uint16_t)h);

        if (isnan(value))
            assert_true(isnan(f16_to_f32(f32_to_f16(value))));
        else
            assert_int_equal(f32_to_f16(value), h);
    }
}

static void test_a_value_between_two_halves_rounds_to_the_nearest_or_even(void **state)
{
    (void)state;
    for (uint16_t h = 0; h < 0x7bff; h++) {
        /* The midpoint of neighbours needs one bit more than a half has: exact in f32. */
        const float middle = (f16_to_f32(h) + f16_to_f32(h + 1)) / 2;
        const uint16_t even = h & 1 ? h + 1 : h;

        assert_int_equal(f32_to_f16(middle), even);
        assert_int_equal(f32_to_f16(-middle), even | 0x8000);
        assert_int_equal(f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
    }
    assert_int_equal(f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(f32_to_f16(65520), 0x7c00);
    assert_int_equal(f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(f32_to_f16(1e-30f), 0);
}

static void test_bf16_is_the_upper_half_rounded_to_even(void **state)
{
    (void)state;
    for (uint32_t b = 0; b < 0x10000; b++) {
        const float value = bf16_to_f32((uint16_t)b);

        assert_int_equal(bits_of(value), b << 16);
        if (isnan(value))
            assert_true(isnan(bf16_to_f32(f32_to_bf16(value))));
        else
            assert_int_equal(f32_to_bf16(value), b);
    }
    assert_int_equal(f32_to_bf16(float_of(0x3f808000)), 0x3f80);
    assert_int_equal(f32_to_bf16(float_of(0x3f818000)), 0x3f82);
    assert_int_equal(f32_to_bf16(float_of(0x3f808001)), 0x3f81);
    assert_int_equal(f32_to_bf16(float_of(0x7f7fffff)), 0x7f80);
    assert_true(isnan(bf16_to_f32(f32_to_bf16(float_of(0x7f800001)))));
}

static void test_types_have_their_names_and_sizes(void **state)
{
    (void)state;
    assert_string_equal(dtype_info(DTYPE_Q6_K)->name, "Q6_K");
    assert_int_equal(dtype_row_bytes(DTYPE_Q6_K, 512), 420);
    assert_int_equal(dtype_row_bytes(DTYPE_F16, 3), 6);
    assert_null(dtype_info(9));
    assert_null(dtype_info(_DTYPE_N));
    assert_null(dtype_info(UINT32_MAX));
    assert_string_equal(dtype_name(16), "IQ2_XXS");
    assert_string_equal(dtype_name(4), "type 4");
    assert_string_equal(dtype_name(UINT32_MAX), "type 4294967295");
}

/* The values of all tensors, in their order, are those of the file `values`. */
static void check_blocks(const char *gguf_path, const char *values_path, size_t n_types)
{
    struct error err = ERROR_INIT;
    struct gguf *gguf = gguf_open(gguf_path, &err);
    FILE *values = fopen(values_path, "rb");

    assert_string_equal(err.text, "");
    assert_non_null(values);
    assert_int_equal(gguf_n_tensors(gguf), n_types);
    for (size_t t = 0; t < n_types; t++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(gguf, t);
        const size_t n = tensor->ne[0] * tensor->ne[1];
        _cleanup_(freep) float *expected = malloc(n * sizeof(*expected));
        _cleanup_(freep) float *found = malloc(n * sizeof(*found));

        assert_int_equal(fread(expected, sizeof(*expected), n, values), n);
        dtype_to_f32(tensor->type, tensor->data, found, n);
        for (size_t i = 0; i < n; i++)
            if (bits_of(found[i]) != bits_of(expected[i]))
                fail_msg("%s value %zu: expected %a, found %a", dtype_name(tensor->type), i,
                         (double)expected[i], (double)found[i]);
    }
    assert_int_equal(fgetc(values), EOF);
    fclose(values);
    gguf_free(gguf);
}

static void test_every_format_widens_to_the_same_bits_as_gguf_py(void **state)
{
    (void)state;
    check_blocks(data_path("quant_blocks_more.gguf"), data_path("quant_blocks_more.bin"), 15);
}

static void test_the_reference_blocks_widen_to_the_same_bits(void **state)
{
    const char *path = fixture_path("text/quant_blocks.gguf");

    (void)state;
    if (!path) {
        print_message("the reference blocks are not here\n");
        skip();
    }
    check_blocks(path, fixture_path("text/quant_blocks.bin"), 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_half_widens_to_its_value),
        cmocka_unit_test(test_every_half_survives_a_round_trip),
        cmocka_unit_test(test_a_value_between_two_halves_rounds_to_the_nearest_or_even),
        cmocka_unit_test(test_bf16_is_the_upper_half_rounded_to_even),
        cmocka_unit_test(test_types_have_their_names_and_sizes),
        cmocka_unit_test(test_every_format_widens_to_the_same_bits_as_gguf_py),
        cmocka_unit_test(test_the_reference_blocks_widen_to_the_same_bits),
    };

    return cmocka_run_group_tests_name("dtype", tests, NULL, NULL);
}
