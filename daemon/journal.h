/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Where log lines go: to the journal with fields (PRIORITY=, SESSION=, MODEL=) when stderr is
 * connected to it, which systemd says in $JOURNAL_STREAM; else to stderr as "<N>text" lines.
 *
 * Threads: journal_setup() once at start-up and on reload, bus thread; the sink itself any.
 */

void journal_setup(int max_priority);
