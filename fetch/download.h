/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Fetch one file over HTTP(S) into place: go on where the last run stopped, check, rename.
 *
 * What the file must be comes from the request (the registry's SHA-256), else from the server's
 * X-Linked-Etag header, which for files in Git LFS, the way model hubs store them, is the SHA-256;
 * without either the transfer is only protected by its length.
 *
 * Bytes of an earlier run are used when the server still has the same file: the strong ETag goes
 * along as If-Range, or the expected SHA-256 is known.
 *
 * A connection that breaks is taken up again after 1, 2, 4, ... seconds, as long as some bytes
 * arrive in between; there is no limit on the whole time, only on standing still.
 *
 * Threads: main thread. Source: RFC 9110 sections 13 and 14.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "fetch/part.h"

#define RETRIES_DEFAULT       5
#define STALL_SECONDS_DEFAULT 30

struct download_request {
    const char *url;
    const char *path;     /* absolute */
    const char *sha256;   /* lower-case hex, or NULL: not known */
    const char *mirror;   /* URL prefix where plain http is allowed, or NULL */
    uint64_t size_bytes;  /* exact, or 0: not known */
    uint64_t more_bytes;  /* of files that follow, which must have room too */
    unsigned retries;     /* without a new byte in between */
    unsigned stall_seconds;
};

/* ret_sha256: [SHA256_HEX + 1]. On failure the .part file stays, unless its hash was wrong. */
int download(const struct download_request *request, uint64_t *ret_size_bytes, char *ret_sha256,
             struct error *err);
