/* SPDX-License-Identifier: MIT */
/* Proves the error doctrine: first writer wins, codes map to errno and to bus names. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/utf8.h"

static void test_first_writer_wins(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(error_set(&err, ERROR_NO_MEMORY, "Needs %d MB.", 7), -ENOMEM);
    assert_int_equal(error_set(&err, ERROR_BUSY, "Later."), -EBUSY);
    assert_int_equal(err.code, ERROR_NO_MEMORY);
    assert_string_equal(err.text, "Needs 7 MB.");
}

static void test_every_code_has_a_name_and_an_errno(void **state)
{
    (void)state;
    for (int code = ERROR_NONE + 1; code < _ERROR_N; code++) {
        assert_true(strlen(error_name(code)) > 1);
        assert_true(error_errno(code) < 0);
        assert_int_equal(error_set(NULL, code, "x"), error_errno(code));
    }
}

static void test_long_sentences_are_cut_not_overrun(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    error_set(&err, ERROR_IO, "%01000d", 1);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    assert_string_equal(err.text + sizeof(err.text) - 5, "0...");
}

static void test_sentences_are_one_line_without_commands_to_a_terminal(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    error_set(&err, ERROR_IO, "It is '%s'.", "a\nb\x1b[31m\u00e4\x7f");
    assert_string_equal(err.text, "It is 'a?b?[31m\u00e4?'.");
    err = (struct error)ERROR_INIT;
    error_set(&err, ERROR_IO, "It is '%s'.", "a\xc2\x9b" "31m\xc2\xa0");
    assert_string_equal(err.text, "It is 'a??31m\xc2\xa0'.");
}

static void test_sentences_are_utf8_wherever_they_are_cut(void **state)
{
    static const char umlauts[] = "\u00e4\u00e4\u00e4\u00e4";

    (void)state;
    for (int lead = (int)sizeof(((struct error *)0)->text) - 9;
         lead < (int)sizeof(((struct error *)0)->text); lead++) {
        struct error err = ERROR_INIT;

        error_set(&err, ERROR_IO, "%0*d%s", lead, 1, umlauts);
        assert_true(utf8_valid(err.text, strlen(err.text)));
        assert_in_range(strlen(err.text), sizeof(err.text) - 9, sizeof(err.text) - 1);
    }
    for (int n = 0; n < 8; n++) {
        struct error err = ERROR_INIT;

        error_set(&err, ERROR_IO, "It is '%.*s'.", n, umlauts);
        assert_true(utf8_valid(err.text, strlen(err.text)));
        assert_string_equal(err.text + strlen(err.text) - 2, "'.");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_writer_wins),
        cmocka_unit_test(test_every_code_has_a_name_and_an_errno),
        cmocka_unit_test(test_long_sentences_are_cut_not_overrun),
        cmocka_unit_test(test_sentences_are_one_line_without_commands_to_a_terminal),
        cmocka_unit_test(test_sentences_are_utf8_wherever_they_are_cut),
    };

    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
