/* SPDX-License-Identifier: MIT */
/* The calculator: results as people expect them, and sentences for what it cannot do. */
#include "clients/desktop/calculate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"

static void test_expressions_have_exact_results(void **state)
{
    static const struct {
        const char *text, *result;
    } table[] = {
        {"12*12", "144"},
        {"28-6", "22"},
        {"0.1+0.2", "0.3"},
        {"1/8", "0.125"},
        {"28/6", "4.6667"},
        {"-7/3", "-2.3333"},
        {"1/30000", "0.00003333"},
        {"2/3", "0.6667"},
        {"0-5", "-5"},
        {"-0", "0"},
        {"2+3*4", "14"},
        {"(2+3)*4", "20"},
        {"2^10", "1024"},
        {"2^3^2", "512"},
        {"2**-2", "0.25"},
        {"-2^2", "-4"},
        {"10-2-3", "5"},
        {"100/5/2", "10"},
        {"15%*80", "12"},
        {"50%", "0.5"},
        {" 7 x 8 ", "56"},
        {"7×8÷4", "14"},
        {"8−3", "5"},
        {"1,000 + 1", "1001"},
        {"12*12=", "144"},
        {"12*12 = ?", "144"},
        {".5+.5", "1"},
        {"999999999999*999999999999", "999999999998000000000001"},
        {"1/3+1/3+1/3", "1"},
        {"3.14159*2", "6.28318"},
        {"--4", "4"},
        {"1000/3", "333.3333"},
        {"1/64", "0.015625"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char result[CALCULATE_RESULT] = "";
        struct error err = ERROR_INIT;

        if (calculate(table[i].text, result, &err) < 0 || strcmp(result, table[i].result) != 0)
            fail_msg("%s = %s, expected %s (%s)", table[i].text, result, table[i].result, err.text);
    }
}

static void test_what_cannot_be_calculated_says_why(void **state)
{
    static const struct {
        const char *text, *words;
    } table[] = {
        {"1/0", "divided by zero"},       {"1/(2-2)", "divided by zero"},
        {"0^-1", "divided by zero"},      {"", "at the end"},
        {"2+", "at the end"},             {"two", "before 'two'"},
        {"2 apples", "'apples'"},         {"(1+2", "')' is missing"},
        {"1)", "')' cannot"},             {"2^0.5", "whole number"},
        {"9^999999", "whole number"},     {"9^999", "too large"},
        {"99999999999999999999999999999999999999999", "too large"},
        {"1.2.3", "'.3' cannot"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char result[CALCULATE_RESULT];
        struct error err = ERROR_INIT;

        assert_true(calculate(table[i].text, result, &err) < 0);
        if (!strstr(err.text, table[i].words))
            fail_msg("%s: '%s' does not say '%s'", table[i].text, err.text, table[i].words);
    }
}

static void test_hostile_expressions_end(void **state)
{
    static const char *const pieces[] = {"(", "-", "((((", "2^", "1/", "9*", "%", "1%"};
    char text[2000], result[CALCULATE_RESULT];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        text[0] = '\0';
        while (strlen(text) + strlen(pieces[i]) < 1000)
            strcat(text, pieces[i]);
        calculate(text, result, NULL);
        strcat(text, "1");
        calculate(text, result, NULL);
    }
    memset(text, '1', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_true(calculate(text, result, NULL) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expressions_have_exact_results),
        cmocka_unit_test(test_what_cannot_be_calculated_says_why),
        cmocka_unit_test(test_hostile_expressions_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
