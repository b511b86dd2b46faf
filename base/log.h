/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The one log call. Used by session/, ipc/ and daemon/ only; the floors below return errors.
 *
 * Prompts, transcripts and file names of the user never appear above LOG_DEBUG.
 *
 * Threads: any. The sink is installed once at start-up, before threads exist.
 */

#include <syslog.h> /* LOG_ERR ... LOG_DEBUG */

struct log_fields {
    const char *session; /* session id, or NULL */
    const char *model;   /* model name, or NULL */
};

typedef void log_sink(int priority, const struct log_fields *fields, const char *text);

/* NULL restores the default: "<N>text" lines on stderr. Messages above max_priority are dropped. */
void log_setup(log_sink *sink, int max_priority);

void log_write(int priority, const struct log_fields *fields, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(...)   log_write(LOG_ERR, NULL, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, NULL, __VA_ARGS__)
#define log_info(...)    log_write(LOG_INFO, NULL, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_DEBUG, NULL, __VA_ARGS__)
