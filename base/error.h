/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Errors are values with one sentence, written where the cause is known.
 *
 * A function whose failure a person will read takes `struct error *err` last and returns a negative
 * errno. Callers forward both unchanged. The first writer wins: a caller that adds nothing does not
 * call error_set() again. The codes are the D-Bus error names of org.lfmd.Assistant1.Error.*.
 *
 * Threads: any; a struct error belongs to its caller.
 */

#include <stdbool.h>

enum error_code {
    ERROR_NONE,
    ERROR_MODEL_NOT_FOUND,     /* no such model in any catalogue or directory */
    ERROR_MODEL_NOT_INSTALLED, /* known, but its file is not on this machine */
    ERROR_BUSY,                /* a limit of queued or parallel work is reached */
    ERROR_CANCELLED,
    ERROR_NOT_ALLOWED,
    ERROR_INVALID_ARGUMENT,
    ERROR_UNSUPPORTED_FORMAT, /* a file that is damaged, or of a kind that is not handled */
    ERROR_CONTEXT_FULL,
    ERROR_NO_MEMORY,
    ERROR_NO_SPACE, /* disk */
    ERROR_DOWNLOAD_FAILED,
    ERROR_AUDIO_UNAVAILABLE, /* no such sound device, or it went away */
    ERROR_TIMEOUT,
    ERROR_IO,
    ERROR_INTERNAL,
    _ERROR_N,
};

struct error {
    enum error_code code;
    char text[512]; /* one full sentence, UTF-8, no control characters, ends with a full stop */
};

#define ERROR_INIT                                                                                 \
    {                                                                                              \
        .code = ERROR_NONE                                                                         \
    }

/*
 * Write code and sentence into err, unless err is NULL or already holds an error.
 *
 * Returns the negative errno that belongs to the code, so that `return error_set(...)` reads well.
 */
int error_set(struct error *err, enum error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The CamelCase name used on the bus, "ModelNotFound". */
const char *error_name(enum error_code code);

/* The negative errno of a code; 0 for ERROR_NONE. */
int error_errno(enum error_code code);
