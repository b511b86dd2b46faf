/* SPDX-License-Identifier: MIT */
/* The manual pages and completions name what the sources have: every key, option, bus name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"

static char *read_file(const char *name)
{
    char path[4096];
    char *text = calloc(1, 1 << 20);
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", LFMD_SOURCE_ROOT, name);
    file = fopen(path, "r");
    if (!file || !text)
        fail_msg("%s cannot be read", path);
    fread(text, 1, (1 << 20) - 1, file);
    fclose(file);
    return text;
}

static void test_every_configuration_key_is_in_the_manual(void **state)
{
    _cleanup_(freep) char *source = read_file("daemon/config.c");
    _cleanup_(freep) char *page = read_file("doc/lfmd.conf.5.scd");
    unsigned n = 0;

    (void)state;
    for (char *p = source; (p = strstr(p, "\n    {\"")); p++) {
        char section[32], key[32], words[64];

        if (sscanf(p, " {\"%31[a-z_]\", \"%31[a-z_]\", read_", section, key) != 2)
            continue;
        n++;
        snprintf(words, sizeof(words), "\n# [%s]\n", section);
        if (!strstr(page, words))
            fail_msg("lfmd.conf(5) has no section %s", section);
        snprintf(words, sizeof(words), "\n*%s* = ", key);
        if (!strstr(page, words))
            fail_msg("lfmd.conf(5) does not describe %s", key);
    }
    assert_true(n >= 11);
}

static void test_every_option_is_in_the_manual_and_the_completions(void **state)
{
    _cleanup_(freep) char *source = read_file("clients/options.c");
    _cleanup_(freep) char *page = read_file("doc/lfmctl.1.scd");
    _cleanup_(freep) char *bash = read_file("data/completions/lfmctl.bash");
    _cleanup_(freep) char *zsh = read_file("data/completions/_lfmctl");
    _cleanup_(freep) char *fish = read_file("data/completions/lfmctl.fish");
    unsigned n = 0;

    (void)state;
    for (char *p = source; (p = strstr(p, "\n    {\"")); p++) {
        char name[32], letter[8], verbs[32], words[64];

        if (sscanf(p, " {\"%31[a-z-]\", %7[^,], \"%31[^\"]\",", name, letter, verbs) != 3)
            continue; /* no row of the options */
        n++;
        snprintf(words, sizeof(words), "*--%s*", name);
        if (!strstr(page, words))
            fail_msg("lfmctl(1) does not describe --%s", name);
        snprintf(words, sizeof(words), "--%s", name);
        if (!strstr(bash, words) || !strstr(zsh, words))
            fail_msg("no completion of --%s in bash or zsh", name);
        if (!strstr(fish, name))
            fail_msg("no completion of --%s in fish", name);
    }
    assert_true(n >= 25);
}

static void test_every_name_on_the_bus_is_in_the_manual(void **state)
{
    static const char *const kinds[] = {"<interface name=\"", "<method name=\"",
                                        "<property name=\"", "<signal name=\""};
    _cleanup_(freep) char *xml = read_file("ipc/org.lfmd.Assistant1.xml");
    _cleanup_(freep) char *page = read_file("doc/org.lfmd.Assistant1.7.scd");
    unsigned n = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        for (char *p = xml; (p = strstr(p, kinds[i])); n++) {
            char name[64], words[80];

            p += strlen(kinds[i]);
            assert_int_equal(sscanf(p, "%63[A-Za-z0-9.]\"", name), 1);
            snprintf(words, sizeof(words), i == 0 ? "\n# %s\n" : "*%s*", name);
            if (!strstr(page, words))
                fail_msg("org.lfmd.Assistant1(7) does not describe %s", name);
        }
    }
    assert_true(n > 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_configuration_key_is_in_the_manual),
        cmocka_unit_test(test_every_option_is_in_the_manual_and_the_completions),
        cmocka_unit_test(test_every_name_on_the_bus_is_in_the_manual),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
