/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * lfm-run as a program: what it writes, and how it refuses.
 */

#include <sys/wait.h>

#include "tests/fixture.h"
#include "tests/golden.h"

static const char *program;                         /* its path */
static char program_out[] = "/tmp/test-run-XXXXXX"; /* for --out */

static inline int program_take_out(void **state)
{
    const int fd = mkstemp(program_out);

    (void)state;
    return fd < 0 ? -1 : close(fd);
}

static inline int program_remove_out(void **state)
{
    (void)state;
    return unlink(program_out);
}

/* Run `lfm-run ARGUMENTS`; stdout and stderr (limited) come back. Returns the exit status. */
__attribute__((format(printf, 3, 4))) static inline int program_run(char text[4096],
                                                                    char complaint[4096],
                                                                    const char *format, ...)
{
    char arguments[8192], command[16384];
    va_list args;
    FILE *pipe;
    size_t n;
    int status;

    va_start(args, format);
    vsnprintf(arguments, sizeof(arguments), format, args);
    va_end(args);
    snprintf(command, sizeof(command), "%s %s 2>%s.err", program, arguments, program_out);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    n = fread(text, 1, 4095, pipe);
    text[n] = 0;
    status = pclose(pipe);

    snprintf(command, sizeof(command), "%s.err", program_out);
    pipe = fopen(command, "r");
    n = fread(complaint, 1, 4095, pipe);
    complaint[n] = 0;
    fclose(pipe);
    unlink(command);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Every one of these arguments, in which %s stands for `path`, gives exit 2, one sentence on stderr
 * and nothing on stdout. */
static inline void program_refuses(const char *const *wrong, size_t n, const char *path)
{
    char text[4096], complaint[4096];

    for (size_t i = 0; i < n; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        const int status = program_run(text, complaint, wrong[i], path);
#pragma GCC diagnostic pop

        if (status != 2)
            fail_msg("%s: exit %d", wrong[i], status);
        assert_string_equal(text, "");
        assert_true(strlen(complaint) > 10);
        assert_ptr_equal(strchr(complaint, '\n'), complaint + strlen(complaint) - 1);
        assert_int_equal(complaint[strlen(complaint) - 2], '.');
        assert_null(strchr(complaint, '\033'));
    }
}
