/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Where a download may go: https anywhere; http only to this machine, or to the mirror that the
 * configuration names. A redirect may not leave https, and one that began in http may stay on its
 * own host or go to https, so no server can send the helper to a service on this machine.
 *
 * Threads: any; no state.
 */

#include <stdbool.h>

#include "base/error.h"

#define URL_MAX  4096
#define HOST_MAX 256

struct url {
    bool tls;            /* https */
    bool loopback;       /* localhost, 127.0.0.0/8, ::1 */
    char host[HOST_MAX]; /* lower case; IPv6 in brackets */
};

/*
 * Check the address of a request. mirror: URL prefix from the configuration, or NULL.
 * ERROR_NOT_ALLOWED with a sentence when it may not be used.
 */
int url_check(const char *text, const char *mirror, struct url *ret, struct error *err);

/* Check where a server sends us: `from` is the address of the first request. */
int url_check_redirect(const struct url *from, const char *text, struct url *ret,
                       struct error *err);
