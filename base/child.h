/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Programs of ours that look into what strangers hand over: started with two descriptors and
 * nothing else, watched, and dead when they are not needed any more.
 *
 * Threads: any.
 */

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/*
 * Start `program` with stdin and stdout from `in` and `out`, all signals as by default, and nothing
 * of what it prints. arguments: NULL-terminated, the name first; environment: likewise, or NULL for
 * none. Returns 0 or a negative errno.
 */
int child_spawn(const char *program, char *const arguments[], char *const environment[], int in,
                int out, pid_t *ret_pid);

/*
 * Where a program of ours is: the value of the environment variable, else `built` in the build tree
 * that this program was built in ("vision/decode/lfmd-image"), else its name in `installed`.
 * Valid until the next call on this thread.
 */
const char *child_path(const char *variable, const char *built, const char *installed);
