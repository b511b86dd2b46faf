/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The walls around a decoder: this process gives up everything but computing with the descriptors
 * that it has. There is no way back. Both functions come before the first byte of a stranger.
 *
 *  - rlimits: memory, processor time, size of what it writes, descriptors, no core file;
 *  - no new privileges, not dumpable, dies with its parent, the first to go when memory is short;
 *  - landlock, where the kernel has it: no file can be opened, except what SANDBOX_FONTS says;
 *  - seccomp: a list of allowed system calls; every other fails with EPERM. No open, socket,
 *    exec, fork, ptrace; no memory that is written and executed. Threads are allowed.
 *
 * Errors: INTERNAL, with a sentence that says which wall could not be built; then nothing may be
 * decoded.
 */

#include <stdint.h>

#include "base/error.h"

struct sandbox_limits {
    uint64_t memory_bytes; /* address space */
    uint64_t output_bytes; /* of a file */
    uint64_t cpu_seconds;
};

enum sandbox {
    /*
     * May open the system's fonts for reading, because libraries that draw text look for them when
     * they meet it. Without landlock there are no fonts. May be followed by SANDBOX_CLOSED.
     */
    SANDBOX_FONTS,
    SANDBOX_CLOSED,
};

int sandbox_limit(const struct sandbox_limits *limits, struct error *err);
int sandbox_enter(enum sandbox kind, struct error *err);
