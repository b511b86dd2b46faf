/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

static log_sink *current_sink;
static int current_max = LOG_INFO;

void log_setup(log_sink *sink, int max_priority)
{
    current_sink = sink;
    current_max = max_priority;
}

void log_write(int priority, const struct log_fields *fields, const char *format, ...)
{
    static const struct log_fields none;
    char text[2048];
    va_list args;

    if (priority > current_max)
        return;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);

    if (current_sink)
        current_sink(priority, fields ? fields : &none, text);
    else
        fprintf(stderr, "<%d>%s\n", priority, text);
}
