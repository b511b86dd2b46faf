/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Whose turn it is to speak: from "somebody speaks in these 10 ms" to turns.
 *
 *     silence -> suspected -> speaking -> pause -> speaking ... -> pause -> end
 *                    |
 *                    +-> taken back: it was a noise
 *
 * A turn begins after confirm_msec of speech; while the loudspeaker is busy that takes longer, so
 * that a cough does not interrupt. It ends after hangover_msec of silence, by command, or when it
 * is too long. A pause is told earlier, so that work on the turn can begin and be thrown away
 * should the speaker go on.
 *
 * Threads: one owner; no memory of its own.
 */

#include <stdbool.h>
#include <stdint.h>

#define TURNS_FRAME_MSEC 10

struct turns_settings {
    unsigned confirm_msec;      /* of speech until a turn begins */
    unsigned confirm_busy_msec; /* the same while the loudspeaker is busy */
    unsigned noise_msec;        /* of silence that take a suspicion back */
    unsigned pause_msec;        /* of silence until a pause is told */
    unsigned hangover_msec;     /* of silence until the turn ends */
    unsigned turn_long_msec;    /* a turn this long ends at its next pause; 0: none is too long */
    unsigned turn_max_msec;
    unsigned wait_max_msec;     /* without a turn, then TURNS_WAIT_OVER once; 0: for ever */
    bool push_to_talk;          /* turns begin and end by command alone */
};

extern const struct turns_settings turns_default;

enum turns_event {
    TURNS_SUSPECT = 1 << 0,   /* turn the loudspeaker down */
    TURNS_CLEAR = 1 << 1,     /* and up again */
    TURNS_BEGIN = 1 << 2,     /* what was suspected is speech: interrupt */
    TURNS_PAUSE = 1 << 3,
    TURNS_RESUME = 1 << 4,    /* after a pause */
    TURNS_END = 1 << 5,
    TURNS_TOO_LONG = 1 << 6,  /* with END: cut off */
    TURNS_WAIT_OVER = 1 << 7,
};

struct turns {
    struct turns_settings settings;
    enum { TURNS_SILENT, TURNS_SUSPECTED, TURNS_SPEAKING } state;
    unsigned n_speech;  /* frames of speech since the suspicion */
    unsigned n_silence; /* frames of silence since the last speech */
    unsigned n_turn;    /* frames since the turn began */
    unsigned n_wait;    /* frames since the last turn */
    bool paused;
};

void turns_begin(struct turns *turns, const struct turns_settings *settings);

/* The next 10 ms. busy: the loudspeaker plays. Returns a set of enum turns_event. */
unsigned turns_frame(struct turns *turns, bool speech, bool busy);

/* The user's commands: begin a turn (push to talk), end it now. Return a set of events. */
unsigned turns_press(struct turns *turns);
unsigned turns_release(struct turns *turns);
