/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How much memory a program may still take here: the least of MemAvailable and of what the control
 * groups (version 2) around the process leave. Page cache counts as free, as the kernel drops it.
 *
 * Threads: any; reads files under /proc and /sys.
 */

#include <stdint.h>

/* UINT64_MAX when nothing can be read. */
uint64_t memory_available(void);

/* The same under another root directory, "" for the real one (tests). */
uint64_t memory_available_under(const char *root);

/* "1.4 GB" into out; returns out. */
#define MEMORY_TEXT_MAX 24
const char *memory_text(uint64_t bytes, char out[MEMORY_TEXT_MAX]);
