/* SPDX-License-Identifier: MIT */
/* Proves, by a table of conversations, which events come with which frame. A line is a sequence of
 * lengths in frames: "50. 40# 80." is half a second of silence, 400 ms of speech, 800 ms of
 * silence; "," and "@" are silence and speech while the loudspeaker is busy; "(" and ")" press and
 * let go. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "audio/device/turns.h"

/* Of enum turns_event: suspect, clear, begin, pause, resume, end, too long, wait over. */
static const char letters[] = "SCBPRELW";

/* Frames are counted from 1; a command's event has the number of the frame before. */
static const struct {
    const char *name, *frames, *events;
    bool push_to_talk;
} runs[] = {
    {"a sentence", "50. 100# 90.", "S51 B58 P175 E210", false},
    {"a short pause is part of it", "50. 50# 30. 50# 90.", "S51 B58 P125 R131 P205 E240", false},
    {"a dip is no pause", "50. 50# 24. 50# 90.", "S51 B58 P199 E234", false},
    {"a click", "50. 2# 60.", "S51 C72", false},
    {"two clicks", "50. 2# 60. 2# 60.", "S51 C72 S113 C134", false},
    {"syllables with dips begin a turn", "50. 4# 5. 3# 5. 3# 90.", "S51 B68 P95 E130", false},
    {"two turns", "50. 20# 80. 20# 80.", "S51 B58 P95 E130 S151 B158 P195 E230", false},
    {"nobody says anything", "500.", "W200", false},
    {"the loudspeaker's time is no waiting", "100. 150, 250.", "W450", false},
    {"waiting begins anew after a turn", "50. 20# 300.", "S51 B58 P95 E130 W330", false},
    {"too long", "50. 400#", "S51 B58 EL350 S351 B358", false},
    {"a cough while the loudspeaker speaks", "50, 20@ 60,", "S51 C90", false},
    {"an interruption", "50, 30@ 90.", "S51 B75 P105 E140", false},
    {"a key ends a turn", "50. ( 60# ) 40.", "B50 E110", false},
    {"a key in the midst of a turn", "50. 20# ( 20# ) 40.", "S51 B58 E90", false},
    {"push to talk", "50. ( 20. 60# 70. 20# ) 90#", "B50 E220", true},
    {"push to talk hears nothing else", "20. 100# 20.", "", true},
    {"push to talk interrupts", "50, ( 60@ ) 10.", "B50 E110", true},
    {"push to talk, too long", "50. ( 400# ) 10.", "B50 EL350", true},
    {"letting go of what was not held", "50. ) 10.", "", true},
};

static void say(char *out, size_t size, unsigned events, unsigned n_frames)
{
    size_t n = strlen(out);

    if (!events)
        return;
    n += (size_t)snprintf(out + n, size - n, "%s", n ? " " : "");
    for (unsigned i = 0; i < 8; i++)
        if (events >> i & 1)
            n += (size_t)snprintf(out + n, size - n, "%c", letters[i]);
    snprintf(out + n, size - n, "%u", n_frames);
}

static void test_conversations(void **state)
{
    struct turns_settings settings = turns_default;

    (void)state;
    settings.confirm_msec = 80;
    settings.confirm_busy_msec = 250;
    settings.noise_msec = 200;
    settings.pause_msec = 250;
    settings.hangover_msec = 600;
    settings.turn_max_msec = 3000;
    settings.wait_max_msec = 1995; /* counts as the frame that it ends in */
    for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
        char out[256] = "";
        struct turns turns;
        unsigned n_frames = 0;

        settings.push_to_talk = runs[i].push_to_talk;
        settings.wait_max_msec = runs[i].push_to_talk ? 0 : 1995;
        turns_begin(&turns, &settings);
        for (const char *p = runs[i].frames; *p; p++) {
            char *end;
            unsigned long n;

            if (*p == '(')
                say(out, sizeof(out), turns_press(&turns), n_frames);
            if (*p == ')')
                say(out, sizeof(out), turns_release(&turns), n_frames);
            if (!isdigit((unsigned char)*p))
                continue;
            n = strtoul(p, &end, 10);
            for (p = end; n > 0; n--) {
                n_frames++;
                say(out, sizeof(out),
                    turns_frame(&turns, *p == '#' || *p == '@', *p == ',' || *p == '@'), n_frames);
            }
        }
        if (strcmp(out, runs[i].events) != 0)
            fail_msg("%s: %s instead of %s", runs[i].name, out, runs[i].events);
    }
}

static void test_every_turn_that_begins_ends_whatever_is_set(void **state)
{
    static const unsigned wild[] = {0, 1, 250, 0xffffffff};
    uint32_t seed = 1;

    (void)state;
    for (unsigned i = 0; i < 1024; i++) {
        const struct turns_settings settings = {
            .confirm_msec = wild[i & 3], .confirm_busy_msec = wild[i >> 2 & 3],
            .noise_msec = wild[i >> 4 & 3], .pause_msec = wild[i >> 6 & 3],
            .hangover_msec = wild[i >> 8 & 3], .turn_max_msec = 1000, .wait_max_msec = 10};
        struct turns turns;
        unsigned n_begun = 0, n_ended = 0;

        turns_begin(&turns, &settings);
        for (unsigned t = 0; t < 2000; t++) {
            unsigned events;

            seed = seed * 1664525u + 1013904223u;
            events = turns_frame(&turns, t < 1800 && seed >> 29 > 2, seed >> 28 & 1);
            n_begun += (events & TURNS_BEGIN) != 0;
            n_ended += (events & TURNS_END) != 0;
        }
        turns_release(&turns);
        assert_true(n_begun == n_ended || n_begun == n_ended + 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conversations),
        cmocka_unit_test(test_every_turn_that_begins_ends_whatever_is_set),
    };

    return cmocka_run_group_tests_name("turns", tests, NULL, NULL);
}
