/* SPDX-License-Identifier: MIT */
/*
 * Every key is read with its type and range, everything wrong is reported with its line, and the
 * files of the search path replace each other in the documented order.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>

#include "base/cleanup.h"
#include "daemon/config.h"
#include "daemon/paths.h"

static struct config *parse(const char *text, struct config_report *report)
{
    struct config *config = config_new();

    assert_non_null(config);
    config_parse(config, "f", text, strlen(text), report);
    return config;
}

static void test_every_key_is_read(void **state)
{
    struct config_report report = {0};
    struct config *config;

    (void)state;
    setenv("HOME", "/home/u", 1);
    config = parse("# comment\n"
                   "[engine]\n"
                   "threads = 3\n"
                   "memory_max=6G ; comment\n"
                   "  context = 8192\r\n"
                   "kv = q8_0\n"
                   "keep_alive = 1h\n"
                   "prefix_cache = 64M\n"
                   "\n"
                   "[image]\n"
                   "max_encode_ms = 700\n"
                   "cache = 32M\n"
                   "max_bytes = 8M\n"
                   "max_megapixels = 24\n"
                   "[audio]\n"
                   "microphone = pulse:desk\n"
                   "loudspeaker = Headset\n"
                   "echo = keep\n"
                   "latency_ms = 30\n"
                   "[models]\n"
                   "directories = /srv/models:~/models\n"
                   "default = lfm2.5-1.2b-instruct\n"
                   "mirror = http://mirror.example:8080/lfm\n"
                   "[daemon]\n"
                   "idle_exit = forever\n"
                   "log_level = debug",
                   &report);
    assert_int_equal(report.n, 0);
    assert_null(report.text);
    assert_int_equal(config->threads, 3);
    assert_int_equal(config->memory_max_bytes, (uint64_t)6 << 30);
    assert_int_equal(config->context, 8192);
    assert_int_equal(config->kv, KV_Q8_0);
    assert_int_equal(config->keep_alive_sec, 3600);
    assert_int_equal(config->prefix_cache_bytes, 64 << 20);
    assert_int_equal(config->max_encode_ms, 700);
    assert_int_equal(config->image_cache_bytes, 32 << 20);
    assert_int_equal(config->image_bytes_max, 8 << 20);
    assert_int_equal(config->image_megapixels, 24);
    assert_string_equal(config->microphone, "pulse:desk");
    assert_string_equal(config->loudspeaker, "Headset");
    assert_true(config->keep_echo);
    assert_int_equal(config->audio_latency_ms, 30);
    assert_string_equal(config->directories[0], "/srv/models");
    assert_string_equal(config->directories[1], "/home/u/models");
    assert_null(config->directories[2]);
    assert_string_equal(config->default_model, "lfm2.5-1.2b-instruct");
    assert_string_equal(config->mirror, "http://mirror.example:8080/lfm");
    assert_int_equal(config->idle_exit_sec, CONFIG_FOREVER);
    assert_int_equal(config->log_level, LOG_DEBUG);
    config_free(config);
}

static void test_each_wrong_line_is_reported_with_its_number(void **state)
{
    static const struct {
        const char *text, *report;
    } cases[] = {
        {"[engin]\nthreads = 1", "f:2: There is no section [engin]."},
        {"threads = 1", "f:1: The key 'threads' stands before the first [section]."},
        {"[engine]\n\n# x\nthread = 1", "f:4: There is no key 'thread' in section [engine]."},
        {"[engine]\nthreads = 257",
         "f:2: The value of 'threads' must be from 0 to 256, not '257'."},
        {"[engine]\nthreads = -1", "f:2: The value of 'threads' must be a whole number, not '-1'."},
        {"[engine]\nthreads = 99999999999999999999",
         "f:2: The value of 'threads' must be from 0 to 256, not '99999999999999999999'."},
        {"[engine]\nthreads =", "f:2: The value of 'threads' must be a whole number, not ''."},
        {"[engine]\nthreads = 1x", "f:2: The value of 'threads' must be a whole number, not '1x'."},
        {"[engine]\nmemory_max = 16777216T",
         "f:2: The value of 'memory_max' must be a number of bytes, such as 512M or 4G, not "
         "'16777216T'."},
        {"[engine]\nkv = f8", "f:2: The value of 'kv' must be f32, f16 or q8_0, not 'f8'."},
        {"[audio]\necho = off", "f:2: The value of 'echo' must be cancel or keep, not 'off'."},
        {"[engine]\nkeep_alive = 5 minutes",
         "f:2: The value of 'keep_alive' must be a time, such as 90, 5m or 1h, or forever, not '5 "
         "minutes'."},
        {"[daemon]\nidle_exit = 0",
         "f:2: The value of 'idle_exit' must be from 1 to 31622400, not '0'."},
        {"[daemon]\nlog_level = loud",
         "f:2: The value of 'log_level' must be error, warning, notice, info or debug, not "
         "'loud'."},
        {"[models]\ndirectories = models",
         "f:2: The value of 'directories' must be absolute directories, or such below ~/, "
         "separated by colons, not 'models'."},
        {"[models]\nmirror = ftp://x",
         "f:2: The value of 'mirror' must be an http:// or https:// address, not 'ftp://x'."},
        {"[models]\nmirror = https:///x",
         "f:2: The value of 'mirror' must be an http:// or https:// address, not 'https:///x'."},
        {"[models]\nmirror = https://a@b/x",
         "f:2: The value of 'mirror' must be an http:// or https:// address without user, query "
         "and blanks, not 'https://a@b/x'."},
        {"[models]\ndefault =", "f:2: The value of 'default' must be a name, not ''."},
        {"[engine]\nthreads = 1\nkv = f16\nthreads = 2",
         "f:4: The key 'threads' is given twice, first in line 2."},
        {"[engine]\nthreads = 1\n  2", "f:3: The line is neither a [section], nor key = value, "
                                       "nor a comment."},
        {"[engine\n", "f:1: The line is neither a [section], nor key = value, nor a comment."},
        {"[engine]\nkv = \xff", "f:2: The line is not UTF-8 text."},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct config_report report = {0};

        config_free(parse(cases[i].text, &report));
        assert_int_equal(report.n, 1);
        assert_string_equal(report.text, cases[i].report);
        config_report_done(&report);
    }
}

static void test_all_problems_are_reported_and_good_keys_are_set(void **state)
{
    struct config_report report = {0};
    struct config *config = parse("[engine]\nthreads = many\ncontext = 512\n[x]\ny = 1\n", &report);

    (void)state;
    assert_int_equal(report.n, 2);
    assert_string_equal(report.text,
                        "f:2: The value of 'threads' must be a whole number, not 'many'.\n"
                        "f:5: There is no section [x].");
    assert_int_equal(config->context, 512);
    config_free(config);
    config_report_done(&report);
}

static void test_a_line_beyond_the_limit_is_one_problem(void **state)
{
    struct config_report report = {0};
    char text[3 * CONFIG_LINE_MAX + 64] = "[models]\ndefault = ";
    size_t length = strlen(text);
    struct config *config;

    (void)state;
    /* Where the buffer of a naive reader ends, the rest would be a key of its own. */
    while (length < sizeof(text) - 40)
        length += (size_t)sprintf(text + length, "a=b");
    strcpy(text + length, "\n[engine]\nthreads = 2\n");

    config = parse(text, &report);
    assert_int_equal(report.n, 1);
    assert_non_null(strstr(report.text, "f:2: The line is longer than"));
    assert_int_equal(config->threads, 2);
    assert_null(config->default_model);
    config_free(config);
    config_report_done(&report);
}

/* files */

static char folder[] = "/tmp/lfmd-config-XXXXXX";

static void write_file(const char *name, const char *text)
{
    char path[512];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static int make_folder(void **state)
{
    char dirs[256], home[256];

    (void)state;
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(dirs, sizeof(dirs), "%s/near:relative:%s/far", folder, folder);
    snprintf(home, sizeof(home), "%s/home", folder);
    setenv("XDG_CONFIG_DIRS", dirs, 1);
    setenv("XDG_CONFIG_HOME", home, 1);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void test_nearer_files_and_dropins_replace_values(void **state)
{
    struct config_report report = {0};
    struct config *config;

    (void)state;
    write_file("far/lfmd/lfmd.conf",
               "[engine]\nthreads = 1\ncontext = 1001\n[models]\ndefault=a\n");
    write_file("near/lfmd/lfmd.conf", "[engine]\nthreads = 2\n[models]\ndefault=b\n");
    write_file("near/lfmd/lfmd.conf.d/20-b.conf", "[engine]\nthreads = 4\n");
    write_file("near/lfmd/lfmd.conf.d/10-a.conf", "[engine]\nthreads = 3\nkv = f32\n");
    write_file("near/lfmd/lfmd.conf.d/note.txt", "garbage\n");
    write_file("home/lfmd/lfmd.conf.d/x.conf", "[models]\ndefault=c\n");

    config = config_read(NULL, &report);
    assert_int_equal(report.n, 0);
    assert_non_null(config);
    assert_int_equal(config->threads, 4);
    assert_int_equal(config->context, 1001);
    assert_int_equal(config->kv, KV_F32);
    assert_string_equal(config->default_model, "c");
    config_free(config);
}

static void test_without_any_file_the_defaults_stand(void **state)
{
    struct config_report report = {0};
    struct config *config = config_read(NULL, &report);

    (void)state;
    assert_non_null(config);
    assert_int_equal(config->keep_alive_sec, 300);
    assert_int_equal(config->kv, KV_F16);
    assert_null(config->directories);
    config_free(config);
}

static void test_problems_of_several_files_come_in_one_report(void **state)
{
    struct config_report report = {0};
    char expected[1024];

    (void)state;
    write_file("far/lfmd/lfmd.conf", "[engine]\nfoo = 1\n");
    write_file("home/lfmd/lfmd.conf", "bar = 1\n");
    assert_null(config_read(NULL, &report));
    snprintf(expected, sizeof(expected),
             "%s/far/lfmd/lfmd.conf:2: There is no key 'foo' in section [engine].\n"
             "%s/home/lfmd/lfmd.conf:1: The key 'bar' stands before the first [section].",
             folder, folder);
    assert_string_equal(report.text, expected);
    config_report_done(&report);
}

static void test_a_named_file_must_exist_and_be_a_file(void **state)
{
    struct config_report report = {0};
    char path[512];

    (void)state;
    snprintf(path, sizeof(path), "%s/absent.conf", folder);
    assert_null(config_read(path, &report));
    assert_non_null(strstr(report.text, "absent.conf: The file cannot be read: No such file"));
    config_report_done(&report);

    assert_null(config_read(folder, &report));
    assert_non_null(strstr(report.text, "It is not a regular file."));
    config_report_done(&report);
}

static void test_garbage_gives_a_bounded_report(void **state)
{
    struct config_report report = {0};
    char *text = malloc(200000), path[512];
    size_t length = 0;

    (void)state;
    while (length < 190000)
        length += (size_t)sprintf(text + length, "[s%zu]\nkey = %zu\n", length, length);
    write_file("home/lfmd/lfmd.conf", text);
    snprintf(path, sizeof(path), "%s/home/lfmd/lfmd.conf", folder);
    assert_null(config_read(path, &report));
    assert_non_null(strstr(report.text, "There are more problems than these."));
    assert_true(report.length < 64 * 1024);
    config_report_done(&report);
    free(text);
}

/* paths */

static void test_model_directories_begin_with_the_users_own(void **state)
{
    char *more[] = {"/srv/models", "/usr/share/lfmd/models", NULL};
    char **paths;

    (void)state;
    setenv("XDG_DATA_HOME", "/home/u/data", 1);
    setenv("XDG_DATA_DIRS", "/opt/share:relative:/usr/share", 1);
    paths = paths_models(more);
    assert_non_null(paths);
    assert_string_equal(paths[0], "/home/u/data/lfmd/models");
    assert_string_equal(paths[1], "/srv/models");
    assert_string_equal(paths[2], "/usr/share/lfmd/models"); /* and not once more below */
    assert_string_equal(paths[3], "/opt/share/lfmd/models");
    paths_free(paths);
}

static void test_the_state_directory_is_made_private(void **state)
{
    _cleanup_(freep) char *path = NULL;
    char home[512];
    struct stat st;

    (void)state;
    snprintf(home, sizeof(home), "%s/a/b", folder);
    setenv("XDG_STATE_HOME", home, 1);
    path = paths_state();
    assert_non_null(path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_non_null(strstr(path, "/a/b/lfmd"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_key_is_read),
        cmocka_unit_test(test_each_wrong_line_is_reported_with_its_number),
        cmocka_unit_test(test_all_problems_are_reported_and_good_keys_are_set),
        cmocka_unit_test(test_a_line_beyond_the_limit_is_one_problem),
        cmocka_unit_test_setup_teardown(test_nearer_files_and_dropins_replace_values, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(test_without_any_file_the_defaults_stand, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(test_problems_of_several_files_come_in_one_report,
                                        make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_a_named_file_must_exist_and_be_a_file, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(test_garbage_gives_a_bounded_report, make_folder,
                                        remove_folder),
        cmocka_unit_test(test_model_directories_begin_with_the_users_own),
        cmocka_unit_test_setup_teardown(test_the_state_directory_is_made_private, make_folder,
                                        remove_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
