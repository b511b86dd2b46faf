/* SPDX-License-Identifier: MIT */
#include "clients/terminal.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/utf8.h"

static bool colour[3], quiet;
static volatile sig_atomic_t interrupts, changed;

void terminal_setup(enum colour_mode mode, bool be_quiet)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    bool wanted = !(no_color && *no_color) && term && strcmp(term, "dumb") != 0;

    quiet = be_quiet;
    for (int fd = 1; fd <= 2; fd++)
        colour[fd] = mode == COLOUR_ALWAYS || (mode == COLOUR_AUTO && wanted && isatty(fd));
}

const char *terminal_style(int fd, enum style style)
{
    static const char *const sequences[] = {
        [STYLE_PLAIN] = "\033[0m", [STYLE_BOLD] = "\033[1m",  [STYLE_DIM] = "\033[2m",
        [STYLE_TOOL] = "\033[36m", [STYLE_ERROR] = "\033[31m",
    };

    return colour[fd] ? sequences[style] : "";
}

void terminal_error(const char *format, ...)
{
    va_list args;

    fflush(stdout);
    fprintf(stderr, "%s%s:%s ", terminal_style(2, STYLE_ERROR), program_invocation_short_name,
            terminal_style(2, STYLE_PLAIN));
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

void terminal_note(const char *format, ...)
{
    va_list args;

    if (quiet)
        return;
    fflush(stdout);
    fputs(terminal_style(2, STYLE_DIM), stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "%s\n", terminal_style(2, STYLE_PLAIN));
}

void terminal_text(FILE *out, const char *text, size_t length)
{
    if (!isatty(fileno(out))) {
        fwrite(text, 1, length, out);
        return;
    }
    for (size_t i = 0; i < length;) {
        uint32_t c = 0;
        int n = utf8_decode(text + i, length - i, &c);

        if (n <= 0 || (c < 0x20 && c != '\n' && c != '\t') || (c >= 0x7f && c < 0xa0))
            fputs("\xef\xbf\xbd", out);
        else
            fwrite(text + i, 1, (size_t)n, out);
        i += n > 0 ? (size_t)n : 1;
    }
    fflush(out);
}

const char *terminal_size(uint64_t bytes, char text[24])
{
    double value = (double)bytes;
    const char *unit = "B";

    if (bytes >= 1000000000) {
        value /= 1e9;
        unit = "GB";
    } else if (bytes >= 1000000) {
        value /= 1e6;
        unit = "MB";
    } else if (bytes >= 1000) {
        value /= 1e3;
        unit = "kB";
    }
    snprintf(text, 24, value < 100 && bytes >= 1000 ? "%.1f %s" : "%.0f %s", value, unit);
    return text;
}

const char *terminal_clock(uint64_t msec, char text[24])
{
    const uint64_t seconds = msec / 1000;

    if (seconds >= 3600)
        snprintf(text, 24, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, seconds / 3600,
                 seconds / 60 % 60, seconds % 60);
    else
        snprintf(text, 24, "%" PRIu64 ":%02" PRIu64, seconds / 60, seconds % 60);
    return text;
}

/* --- progress ------------------------------------------------------------------------------- */

static uint64_t now_usec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static unsigned columns(void)
{
    struct winsize size;

    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
}

static void draw_bar(unsigned width, double share)
{
    unsigned full = (unsigned)(share * width + 0.5);

    for (unsigned i = 0; i < width; i++)
        fputs(i < full ? "█" : "░", stderr);
}

/* "1.2 MB of 5.0 MB", "0:12 of 1:02:03", "3 of 7" */
static int describe(uint64_t done, uint64_t total, enum progress_unit unit, char text[96])
{
    char sizes[2][24];

    if (unit == PROGRESS_COUNT)
        return snprintf(text, 96, "%" PRIu64 " of %" PRIu64, done, total);
    if (unit == PROGRESS_BYTES)
        return snprintf(text, 96, "%s of %s", terminal_size(done, sizes[0]),
                        terminal_size(total, sizes[1]));
    return snprintf(text, 96, "%s of %s", terminal_clock(done, sizes[0]),
                    terminal_clock(total, sizes[1]));
}

void progress_show(struct progress *p, const char *what, uint64_t done, uint64_t total,
                   enum progress_unit unit)
{
    uint64_t now = now_usec();
    char size[24], tail[96] = "";
    double seconds, rate, share;
    int bar, n;

    if (quiet || !isatty(STDERR_FILENO) || total == 0)
        return;
    if (!p->begun_usec) {
        p->begun_usec = now;
        p->begun_at = done;
    }
    if (done > p->shown)
        p->shown = MIN(done, total);
    if (p->drawn && now - p->drawn_usec < 80000 && p->shown < total)
        return;
    p->drawn = true;
    p->drawn_usec = now;

    seconds = (double)(now - p->begun_usec) / 1e6;
    rate = seconds > 0.5 ? (double)(p->shown - p->begun_at) / seconds : 0;
    share = (double)p->shown / (double)total;
    n = describe(p->shown, total, unit, tail);
    if (unit == PROGRESS_BYTES && rate > 1)
        n += snprintf(tail + n, sizeof(tail) - (size_t)n, ", %s/s",
                      terminal_size((uint64_t)rate, size));
    if (unit != PROGRESS_COUNT && rate > 1)
        snprintf(tail + n, sizeof(tail) - (size_t)n, ", %.0f s left",
                 (double)(total - p->shown) / rate);
    bar = (int)columns() - (int)strlen(what) - (int)strlen(tail) - 10;
    fprintf(stderr, "\r%s %3.0f%% ", what, 100 * share);
    if (bar > 4) {
        draw_bar((unsigned)MIN(bar, 30), share);
        fputc(' ', stderr);
    }
    fprintf(stderr, "%s\033[K", tail);
    fflush(stderr);
}

void progress_clear(struct progress *p)
{
    if (p->drawn)
        fputs("\r\033[K", stderr);
    p->drawn = false;
}

/* --- keys ------------------------------------------------------------------------------------ */

static struct termios before_keys;
static bool has_keys;

bool terminal_take_keys(void)
{
    struct termios now;

    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &before_keys) < 0)
        return false;
    now = before_keys;
    now.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    has_keys = tcsetattr(STDIN_FILENO, TCSANOW, &now) == 0;
    return has_keys;
}

void terminal_give_keys_back(void)
{
    if (has_keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &before_keys);
    has_keys = false;
}

/* --- interrupts ----------------------------------------------------------------------------- */

static void on_signal(int number)
{
    if (number == SIGCONT || (number == SIGWINCH && !changed))
        changed = number;
    else if (number != SIGWINCH)
        interrupts += number == SIGINT ? 1 : 2;
}

void terminal_catch_interrupts(void)
{
    static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGCONT};
    struct sigaction action = {.sa_handler = on_signal}, before;
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_LEN(caught); i++) {
        sigaction(caught[i], NULL, &before);
        if (caught[i] == SIGHUP && before.sa_handler == SIG_IGN)
            continue; /* nohup */
        sigaddset(&set, caught[i]);
        sigaction(caught[i], &action, NULL);
    }
    sigprocmask(SIG_BLOCK, &set, NULL);
}

int terminal_changed(void)
{
    int was = changed;

    changed = 0;
    return was;
}

unsigned terminal_interrupts(void)
{
    return (unsigned)interrupts;
}

void terminal_forget_interrupts(void)
{
    interrupts = 0;
}

int terminal_poll_alone(struct pollfd *fds, size_t n, int timeout_msec)
{
    struct timespec timeout = {timeout_msec / 1000, timeout_msec % 1000 * 1000000L};
    const sig_atomic_t before = interrupts;
    sigset_t none, blocked;
    int r;

    sigemptyset(&none);
    r = ppoll(fds, n, timeout_msec < 0 ? NULL : &timeout, &none);
    if (r <= 0)
        return r < 0 ? -errno : r;
    /* Where there is always something to read, ppoll() lets no signal in. */
    pthread_sigmask(SIG_SETMASK, &none, &blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, NULL);
    return interrupts == before ? r : -EINTR;
}

/* Only the thread that has asked for it: the others wait alone. */
static _Thread_local int (*poll_by)(struct pollfd *fds, size_t n,
                                    int timeout_msec) = terminal_poll_alone;

void terminal_poll_by(int (*poll)(struct pollfd *fds, size_t n, int timeout_msec))
{
    poll_by = poll ? poll : terminal_poll_alone;
}

int terminal_poll(struct pollfd *fds, size_t n, int timeout_msec)
{
    return poll_by(fds, n, timeout_msec);
}

int terminal_wait(int fd, int timeout_msec)
{
    const int r = terminal_poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, timeout_msec);

    return r < 0 ? r : r > 0;
}
