/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What people see: colour where it is wanted, a line of progress that never goes back, text of a
 * model without the control characters that a terminal would obey, and Ctrl-C.
 *
 * The answer goes to stdout, all else to stderr.
 *
 * Threads: main thread.
 */

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum colour_mode { COLOUR_AUTO, COLOUR_ALWAYS, COLOUR_NEVER };

enum style { STYLE_PLAIN, STYLE_BOLD, STYLE_DIM, STYLE_TOOL, STYLE_ERROR };

/* auto: colour on a terminal, unless NO_COLOR is set and not empty or TERM is dumb. */
void terminal_setup(enum colour_mode mode, bool quiet);

/* The sequence that begins a style on stdout (1) or stderr (2); "" where there is no colour. */
const char *terminal_style(int fd, enum style style);

/* "PROGRAM: sentence" on stderr, also when quiet. */
void terminal_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A sentence on stderr, unless quiet. */
void terminal_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Text of a model, as it is into files, without control characters on a terminal. */
void terminal_text(FILE *out, const char *text, size_t length);

/* --- one line of progress on stderr, only on a terminal -------------------------------------- */

struct progress {
    uint64_t shown;          /* never goes back */
    uint64_t begun_at;       /* when it began to show */
    uint64_t begun_usec, drawn_usec;
    bool drawn;
};

enum progress_unit { PROGRESS_COUNT, PROGRESS_BYTES, PROGRESS_MSEC };

/* `what`, a bar, how far it is, and the time that is left of bytes and of recordings. */
void progress_show(struct progress *progress, const char *what, uint64_t done, uint64_t total,
                   enum progress_unit unit);
void progress_clear(struct progress *progress);

/* "695.8 MB" */
const char *terminal_size(uint64_t bytes, char text[24]);
/* "1:02:03" */
const char *terminal_clock(uint64_t msec, char text[24]);

/* --- keys ------------------------------------------------------------------------------------ */

/* Single keys from standard input, without showing them. False: it is no terminal. */
bool terminal_take_keys(void);
void terminal_give_keys_back(void); /* if they were taken */

/* --- Ctrl-C --------------------------------------------------------------------------------- */

/*
 * Count SIGINT instead of dying; SIGTERM and SIGHUP count as two, which end what one would cancel.
 * They stay blocked but in terminal_wait().
 */
void terminal_catch_interrupts(void);
unsigned terminal_interrupts(void); /* since the last call of terminal_forget_interrupts() */
void terminal_forget_interrupts(void);

/*
 * What has happened since the last call: SIGWINCH, the window has another size; SIGCONT, this
 * program was stopped and continued, perhaps in another window size too; 0, nothing.
 */
int terminal_changed(void);

/* poll() for reading that an interrupt ends. 1: readable; 0: time is over; -EINTR. */
int terminal_wait(int fd, int timeout_msec);
/* The same for several: how many are ready. */
int terminal_poll(struct pollfd *fds, size_t n, int timeout_msec);
/*
 * On this thread both wait by this function from now on, so that other things go on meanwhile; it
 * waits by terminal_poll_alone(). NULL: nothing else goes on.
 */
void terminal_poll_by(int (*poll)(struct pollfd *fds, size_t n, int timeout_msec));
int terminal_poll_alone(struct pollfd *fds, size_t n, int timeout_msec);
