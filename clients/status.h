/* SPDX-License-Identifier: MIT */
#pragma once

/* How lfmctl ends; part of its interface, see lfmctl(1). */

enum status {
    STATUS_OK = 0,
    STATUS_ERROR = 1,
    STATUS_USAGE = 2,
    STATUS_DAEMON = 3,  /* not reachable */
    STATUS_MODEL = 4,   /* unknown or not installed */
    STATUS_DENIED = 5,  /* not allowed */
    STATUS_INTERRUPTED = 130,
};
