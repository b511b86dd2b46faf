/* SPDX-License-Identifier: MIT */

/* Proves both transforms against their defining sums, in double, and lengths that are refused. */

#include "audio/fft.h"
#include "tests/golden.h"

static float noise(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return (float)(*seed >> 8) / (float)(1 << 23) - 1;
}

static void check_length(size_t n)
{
    struct error err = ERROR_INIT;
    struct fft *fft = fft_new(n, &err);
    float *x = malloc(n * sizeof(*x)), *back = malloc(n * sizeof(*back));
    float *work = malloc(2 * n * sizeof(*work));
    float(*found)[2] = malloc((n / 2 + 1) * sizeof(*found));
    uint32_t seed = (uint32_t)n;

    assert_non_null(fft);
    for (size_t i = 0; i < n; i++)
        x[i] = noise(&seed);
    fft_forward(fft, x, found, work);
    for (size_t k = 0; k <= n / 2; k++) {
        double re = 0, im = 0;

        for (size_t m = 0; m < n; m++) {
            const double angle = -2 * M_PI * (double)(k * m % n) / (double)n;

            re += (double)x[m] * cos(angle);
            im += (double)x[m] * sin(angle);
        }
        assert_true(fabs((double)found[k][0] - re) < 1e-6 * (double)n);
        assert_true(fabs((double)found[k][1] - im) < 1e-6 * (double)n);
    }
    found[0][1] = found[n / 2][1] = 1000; /* not looked at */
    fft_inverse(fft, (const float(*)[2])found, back, work);
    golden_close("there and back", back, x, n, 1e-5);
    free(x);
    free(back);
    free(work);
    free(found);
    fft_free(fft);
}

static void test_both_ways_are_what_their_sums_say(void **state)
{
    static const size_t lengths[] = {2, 4, 6, 8, 10, 30, 90, 512, 1280, 1920};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
        check_length(lengths[i]);
}

static void test_other_lengths_are_refused(void **state)
{
    static const size_t lengths[] = {0, 1, 3, 14, 2 * FFT_MAX};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        struct error err = ERROR_INIT;

        assert_null(fft_new(lengths[i], &err));
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways_are_what_their_sums_say),
        cmocka_unit_test(test_other_lengths_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
