/* SPDX-License-Identifier: MIT */
/* Proves that decoding is strict (RFC 3629) and that a stream is never cut inside a character, by
 * round trips over every code point and a table of malformed sequences. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/utf8.h"

static void test_every_code_point_survives_a_round_trip(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        char bytes[4];
        uint32_t back;
        size_t n;

        if (c >= 0xd800 && c <= 0xdfff)
            continue;
        n = utf8_encode(c, bytes);
        assert_int_equal(utf8_decode(bytes, n, &back), n);
        assert_int_equal(back, c);
        for (size_t cut = 1; cut < n; cut++) {
            assert_int_equal(utf8_decode(bytes, cut, &back), 0);
            assert_int_equal(utf8_complete(bytes, cut), 0);
        }
        assert_int_equal(utf8_complete(bytes, n), n);
    }
}

static void test_malformed_sequences_are_refused(void **state)
{
    static const char *const bad[] = {
        "\x80",
        "\xbf",
        "\xc0\x80",
        "\xc1\xbf",
        "\xe0\x80\x80",
        "\xe0\x9f\xbf",
        "\xed\xa0\x80",
        "\xed\xbf\xbf",
        "\xf0\x80\x80\x80",
        "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xff",
        "\xe2(",
        "a\xc3",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(utf8_valid(bad[i], strlen(bad[i])));
    assert_true(utf8_valid("gr\xc3\xbc\xc3\x9f" "e \xf0\x9f\x98\x80", 12));
}

static void test_only_an_unfinished_last_character_is_held_back(void **state)
{
    (void)state;
    assert_int_equal(utf8_complete("ab\xe2\x82", 4), 2);
    assert_int_equal(utf8_complete("ab\xe2\x82\xac", 5), 5);
    assert_int_equal(utf8_complete("ab\xff", 3), 3);
    assert_int_equal(utf8_complete("\x80\x80\x80\x80", 4), 4);
    assert_int_equal(utf8_complete("", 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_point_survives_a_round_trip),
        cmocka_unit_test(test_malformed_sequences_are_refused),
        cmocka_unit_test(test_only_an_unfinished_last_character_is_held_back),
    };

    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
