/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The programs that have the clipboard where we have no window.
 *
 * Threads: any.
 */

#include <stdbool.h>

/* For process_run(): text comes out, or with `write` goes in and the program stays. NULL: there is
 * no such program, or no display. */
const char *const *clipboard_command(bool write);
