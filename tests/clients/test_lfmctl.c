/* SPDX-License-Identifier: MIT */
/*
 * The command line of lfmctl without a daemon: what is usage and what is not, exit statuses, where
 * output goes, colour. The bus address given here leads nowhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/cleanup.h"

/* Run with a shell; output of both streams. */
static int run(const char *arguments, char *out, size_t size)
{
    char command[2048];
    FILE *pipe;
    size_t n;
    int status;

    snprintf(command, sizeof(command), "%s %s", getenv("LFMCTL"), arguments);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    n = fread(out, 1, size - 1, pipe);
    out[n] = '\0';
    status = pclose(pipe);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_usage_errors_end_with_status_2_and_a_sentence(void **state)
{
    static const struct {
        const char *arguments, *words;
    } table[] = {
        {"", "lists the verbs"},
        {"nonsense", "no verb 'nonsense'"},
        {"--nonsense", "no option '--nonsense'"},
        {"ask --model", "'--model' needs a value"},
        {"ask -n 0 hi", "above 0"},
        {"ask -n 1x hi", "above 0"},
        {"ask --temperature warm hi", "--temperature must be a number"},
        {"ask --top-p 2 hi", "from 0 to 1"},
        {"ask --seed -1 hi", "--seed must be"},
        {"ask --color sometimes hi", "auto, always or never"},
        {"ask --tools a --no-tools hi", "contradict"},
        {"ask --session a --model b hi", "--session goes without"},
        {"status --keep", "--keep means nothing to \"lfmctl status\""},
        {"models --thinking", "--thinking means nothing"},
        {"ask --detail much hi", "low, auto or high"},
        {"ask --max-encode-ms 0 hi", "--max-encode-ms must be a whole number above 0"},
        {"describe --image a b", "--image means nothing"},
        {"say --times hi", "--times means nothing"},
        {"transcribe --voice x a", "--voice means nothing"},
        {"listen --hangover soon", "--hangover must be"},
    };
    char out[4096], arguments[256];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        snprintf(arguments, sizeof(arguments), "%s 2>&1 </dev/null", table[i].arguments);
        if (run(arguments, out, sizeof(out)) != 2 || !strstr(out, table[i].words))
            fail_msg("lfmctl %s: %s", table[i].arguments, out);
    }
}

static void test_help_and_version_go_to_stdout_with_status_0(void **state)
{
    char out[8192];

    (void)state;
    assert_int_equal(run("--help 2>/dev/null", out, sizeof(out)), 0);
    assert_non_null(strstr(out, "Exit status: 0 done, 1 failed, 2 usage, 3 no daemon"));
    assert_int_equal(run("help 2>/dev/null", out, sizeof(out)), 0);
    assert_int_equal(run("ask --help 2>/dev/null", out, sizeof(out)), 0);
    assert_int_equal(run("--version 2>/dev/null", out, sizeof(out)), 0);
    assert_int_equal(strncmp(out, "lfmctl ", 7), 0);
}

static void test_no_bus_is_status_3_for_every_verb(void **state)
{
    static const char *const verbs[] = {"ask hi",   "chat", "sessions", "models",
                                        "pull lfm2-350m", "ps",   "status",
                                        "image plan a", "describe a",
                                        "transcribe a", "say hi", "silence",
                                        "listen", "devices", "permissions"};
    char out[4096], arguments[256];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        snprintf(arguments, sizeof(arguments), "%s 2>&1 </dev/null", verbs[i]);
        assert_int_equal(run(arguments, out, sizeof(out)), 3);
        assert_non_null(strstr(out, "no session bus"));
        snprintf(arguments, sizeof(arguments), "%s 2>/dev/null </dev/null", verbs[i]);
        assert_int_equal(run(arguments, out, sizeof(out)), 3);
        assert_string_equal(out, ""); /* errors are not answers */
    }
}

static void test_json_errors_are_events_on_stdout(void **state)
{
    char out[4096];

    (void)state;
    assert_int_equal(run("ask --json hi 2>/dev/null </dev/null", out, sizeof(out)), 3);
    assert_int_equal(strncmp(out, "{\"event\":\"error\",\"name\":\"Unreachable\"", 37), 0);
}

static void test_colour_only_where_it_is_wanted(void **state)
{
    char out[4096];

    (void)state;
    run("status 2>&1", out, sizeof(out));
    assert_null(strchr(out, '\033'));
    run("status --color always 2>&1", out, sizeof(out));
    assert_non_null(strchr(out, '\033'));
    run("status --color never 2>&1", out, sizeof(out));
    assert_null(strchr(out, '\033'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usage_errors_end_with_status_2_and_a_sentence),
        cmocka_unit_test(test_help_and_version_go_to_stdout_with_status_0),
        cmocka_unit_test(test_no_bus_is_status_3_for_every_verb),
        cmocka_unit_test(test_json_errors_are_events_on_stdout),
        cmocka_unit_test(test_colour_only_where_it_is_wanted),
    };

    setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere/bus", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
