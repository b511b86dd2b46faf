/* SPDX-License-Identifier: MIT */

/*
 * What is available, from /proc and /sys files that are laid out in a directory of the test's own.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/stat.h>

#include "session/memory.h"
#include "tests/session/scratch.h"

static char root[64];

static int setup(void **state)
{
    (void)state;
    scratch_make(root);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    scratch_remove(root);
    return 0;
}

static void write_file(const char *name, const char *text)
{
    char path[512];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", root, name);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_without_any_file_there_is_no_limit(void **state)
{
    (void)state;
    assert_true(memory_available_under(root) == UINT64_MAX);
}

static void test_the_machine_is_the_limit_without_groups(void **state)
{
    (void)state;
    write_file("proc/meminfo", "MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:    4000 kB\n");
    write_file("proc/self/cgroup", "1:cpu:/x\n0::/\n");
    assert_int_equal(memory_available_under(root), 4000 * 1024);
}

static void test_the_narrowest_group_above_is_the_limit(void **state)
{
    (void)state;
    write_file("proc/meminfo", "MemAvailable:    4000 kB\n");
    write_file("proc/self/cgroup", "0::/user.slice/app.slice/lfmd.service\n");
    write_file("sys/fs/cgroup/user.slice/app.slice/lfmd.service/memory.max", "max\n");
    write_file("sys/fs/cgroup/user.slice/app.slice/lfmd.service/memory.current", "1000\n");
    write_file("sys/fs/cgroup/user.slice/memory.max", "1000000\n");
    write_file("sys/fs/cgroup/user.slice/memory.high", "900000\n");
    write_file("sys/fs/cgroup/user.slice/memory.current", "500000\n");
    write_file("sys/fs/cgroup/user.slice/memory.stat",
               "anon 1\nfile 9\ninactive_file 100000\nactive_file 50000\n");
    assert_int_equal(memory_available_under(root), 550000);
    write_file("sys/fs/cgroup/user.slice/memory.current", "2000000\n");
    assert_int_equal(memory_available_under(root), 0);
}

static void test_sizes_are_written_for_people(void **state)
{
    char text[MEMORY_TEXT_MAX];

    (void)state;
    assert_string_equal(memory_text(1500000, text), "1.5 MB");
    assert_string_equal(memory_text(2340000000, text), "2.3 GB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_without_any_file_there_is_no_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_machine_is_the_limit_without_groups, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_the_narrowest_group_above_is_the_limit, setup,
                                        teardown),
        cmocka_unit_test(test_sizes_are_written_for_people),
    };

    return cmocka_run_group_tests_name("session/memory", tests, NULL, NULL);
}
