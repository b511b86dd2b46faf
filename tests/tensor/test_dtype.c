/* SPDX-License-Identifier: MIT */

/*
 * Proves the number formats: the halves over all their values and every rounding border, the
 * names and sizes.
 */

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "tensor/dtype.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_half_widens_to_its_value),
        cmocka_unit_test(test_every_half_survives_a_round_trip),
        cmocka_unit_test(test_a_value_between_two_halves_rounds_to_the_nearest_or_even),
        cmocka_unit_test(test_bf16_is_the_upper_half_rounded_to_even),
        cmocka_unit_test(test_types_have_their_names_and_sizes),
    };

    return cmocka_run_group_tests_name("dtype", tests, NULL, NULL);
}
