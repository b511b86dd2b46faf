/* SPDX-License-Identifier: MIT */
#include "audio/device/turns.h"

const struct turns_settings turns_default = {
    .confirm_msec = 80,
    .confirm_busy_msec = 250,
    .noise_msec = 200,
    .pause_msec = 250,
    .hangover_msec = 600,
    .turn_max_msec = 30000,
};

void turns_begin(struct turns *turns, const struct turns_settings *settings)
{
    *turns = (struct turns){.settings = *settings};
}

static bool reached(unsigned n_frames, unsigned msec)
{
    return n_frames * TURNS_FRAME_MSEC >= msec;
}

static unsigned begin(struct turns *turns)
{
    turns->state = TURNS_SPEAKING;
    turns->n_turn = turns->n_speech;
    turns->n_silence = 0;
    turns->paused = false;
    return TURNS_BEGIN;
}

static unsigned end(struct turns *turns)
{
    turns->state = TURNS_SILENT;
    turns->n_wait = 0;
    return TURNS_END;
}

static unsigned suspect(struct turns *turns, bool speech, bool busy)
{
    const struct turns_settings *settings = &turns->settings;

    if (!speech) {
        turns->n_silence++;
        if (!reached(turns->n_silence, settings->noise_msec))
            return 0;
        turns->state = TURNS_SILENT;
        return TURNS_CLEAR;
    }
    turns->n_silence = 0;
    turns->n_speech++;
    return reached(turns->n_speech, busy ? settings->confirm_busy_msec : settings->confirm_msec)
               ? begin(turns)
               : 0;
}

static unsigned speak(struct turns *turns, bool speech)
{
    const struct turns_settings *settings = &turns->settings;
    unsigned events = 0;

    turns->n_turn++;
    if (reached(turns->n_turn, settings->turn_max_msec))
        return end(turns) | TURNS_TOO_LONG;
    if (settings->push_to_talk)
        return 0;
    if (speech) {
        events = turns->paused ? TURNS_RESUME : 0;
        turns->paused = false;
        turns->n_silence = 0;
        return events;
    }
    turns->n_silence++;
    if (!turns->paused && reached(turns->n_silence, settings->pause_msec)) {
        turns->paused = true;
        events = TURNS_PAUSE;
    }
    if (turns->paused && settings->turn_long_msec > 0 &&
        reached(turns->n_turn, settings->turn_long_msec))
        return events | end(turns);
    return reached(turns->n_silence, settings->hangover_msec) ? events | end(turns) : events;
}

unsigned turns_frame(struct turns *turns, bool speech, bool busy)
{
    switch (turns->state) {
    case TURNS_SILENT:
        if (speech && !turns->settings.push_to_talk) {
            turns->state = TURNS_SUSPECTED;
            turns->n_speech = turns->n_silence = 0;
            return TURNS_SUSPECT | suspect(turns, true, busy);
        }
        if (busy) {
            turns->n_wait = 0;
            return 0;
        }
        turns->n_wait++;
        return turns->settings.wait_max_msec > 0 &&
                       reached(turns->n_wait, turns->settings.wait_max_msec) &&
                       !reached(turns->n_wait - 1, turns->settings.wait_max_msec)
                   ? TURNS_WAIT_OVER
                   : 0;
    case TURNS_SUSPECTED:
        return suspect(turns, speech, busy);
    case TURNS_SPEAKING:
        return speak(turns, speech);
    }
    return 0;
}

unsigned turns_press(struct turns *turns)
{
    if (turns->state == TURNS_SPEAKING)
        return 0;
    turns->n_speech = 0;
    return begin(turns);
}

unsigned turns_release(struct turns *turns)
{
    return turns->state == TURNS_SPEAKING ? end(turns) : 0;
}
