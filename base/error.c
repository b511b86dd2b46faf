/* SPDX-License-Identifier: MIT */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

static const struct {
    const char *name;
    int number;
} error_table[_ERROR_N] = {
    [ERROR_NONE] = {"None", 0},
    [ERROR_MODEL_NOT_FOUND] = {"ModelNotFound", -ENOENT},
    [ERROR_MODEL_NOT_INSTALLED] = {"ModelNotInstalled", -ENODEV},
    [ERROR_BUSY] = {"Busy", -EBUSY},
    [ERROR_CANCELLED] = {"Cancelled", -ECANCELED},
    [ERROR_NOT_ALLOWED] = {"NotAllowed", -EACCES},
    [ERROR_INVALID_ARGUMENT] = {"InvalidArgument", -EINVAL},
    [ERROR_UNSUPPORTED_FORMAT] = {"UnsupportedFormat", -EBADMSG},
    [ERROR_CONTEXT_FULL] = {"ContextFull", -EOVERFLOW},
    [ERROR_NO_MEMORY] = {"NoMemory", -ENOMEM},
    [ERROR_NO_SPACE] = {"NoSpace", -ENOSPC},
    [ERROR_DOWNLOAD_FAILED] = {"DownloadFailed", -ECONNABORTED},
    [ERROR_AUDIO_UNAVAILABLE] = {"AudioUnavailable", -ENXIO},
    [ERROR_TIMEOUT] = {"Timeout", -ETIMEDOUT},
    [ERROR_IO] = {"Io", -EIO},
    [ERROR_INTERNAL] = {"Internal", -ENOTRECOVERABLE},
};

/*
 * One line of UTF-8, whatever a file or an argument brought into it: with half a character it could
 * not go into a D-Bus message, and a terminal must not take it for commands.
 */
static void make_plain(struct error *err, bool cut)
{
    static const char more[] = "...";

    if (cut)
        err->text[sizeof(err->text) - sizeof(more)] = '\0';
    utf8_plain(err->text);
    if (cut)
        strcat(err->text, more);
}

int error_set(struct error *err, enum error_code code, const char *format, ...)
{
    if (err && err->code == ERROR_NONE) {
        va_list args;
        int n;

        err->code = code;
        va_start(args, format);
        n = vsnprintf(err->text, sizeof(err->text), format, args);
        va_end(args);
        make_plain(err, n >= (int)sizeof(err->text));
    }
    return error_table[code].number;
}

const char *error_name(enum error_code code)
{
    return error_table[code].name;
}

int error_errno(enum error_code code)
{
    return error_table[code].number;
}
