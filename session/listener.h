/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The user's side of a conversation: frames of the microphone -> clips that are a turn each.
 *
 * A clip begins 300 ms before its first speech and ends a fixed time after its last, so that the
 * features of a turn do not depend on how long it was waited for. It is offered at the first pause,
 * withdrawn when the user goes on, and confirmed when the turn has ended: whoever works ahead on an
 * offered clip has nothing to change when it is confirmed. Whoever is late finds the turns that
 * have ended meanwhile one after the other, LISTENER_CLIPS of them.
 *
 * What was said of a turn so far can be had too, as drafts of its clip: for who shows words while
 * they are spoken.
 *
 * A clip is had as its features (audio/in/mel.h), which are computed while somebody speaks, so that
 * at a pause the encoder can begin at once. The ear's thread does that, 10 us for a frame of 10 ms:
 * it is no real-time thread, and looks for speech in every frame anyway.
 *
 * Threads: listener_open() before the first frame; listener_frame(), _obey() and the sink one
 *          thread, the ear's; listener_press(), _release() and _set_busy() any; the clip the engine
 *          thread.
 * Memory:  everything is taken in listener_new() and listener_open()
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "audio/device/turns.h"
#include "base/error.h"

#define LISTENER_RATE_HZ 16000
#define LISTENER_FRAME   160 /* samples, 10 ms */
#define LISTENER_CLIPS   4

struct listener_sink {
    /* enum turns_event, 0: there is a draft; usec: CLOCK_MONOTONIC of the frame's end */
    void (*heard)(void *userdata, unsigned events, int64_t usec);
    /* ten times a second: the highest sample since the last time, 0 .. 1; may be NULL */
    void (*level)(void *userdata, float peak, int64_t usec);
};

struct listener;

struct listener *listener_new(const struct turns_settings *settings,
                              const struct listener_sink *sink, void *userdata, struct error *err);
struct listener *listener_free(struct listener *listener); /* accepts and returns NULL */

/* n_mels: of the encoder that is to hear. draft_msec: between drafts; 0: none. 0 or NO_MEMORY. */
int listener_open(struct listener *listener, size_t n_mels, unsigned draft_msec, struct error *err);

void listener_frame(struct listener *listener, const float samples[LISTENER_FRAME], int64_t usec);

/* The loudspeaker plays: it takes more to interrupt. deaf: nothing is heard meanwhile. */
void listener_set_busy(struct listener *listener, bool busy, bool deaf);

/* The user's commands; they count with the next frame, or listener_obey(). */
void listener_press(struct listener *listener);
void listener_release(struct listener *listener);

/* The ear's thread: commands count now; no frame may come for a while. */
void listener_obey(struct listener *listener, int64_t usec);
/* Call this at each command, on its thread. Before the first. */
void listener_on_command(struct listener *listener, void (*command)(void *userdata),
                         void *userdata);

enum clip_state { CLIP_NONE, CLIP_DRAFT, CLIP_OFFERED, CLIP_CONFIRMED };

struct clip {
    enum clip_state state;
    unsigned number;  /* another for each clip that was offered, and each draft */
    unsigned turn;    /* that it is of, from 1 */
    size_t n;         /* samples, 16 kHz */
    int64_t end_usec; /* when its last speech ended, CLOCK_MONOTONIC */
    int64_t confirmed_usec;
};

/* The present clip, or the oldest that was confirmed and not taken. */
struct clip listener_clip(struct listener *listener);

/* Clips that were confirmed and not taken; of LISTENER_CLIPS of them, the next turn replaces
 * one. */
unsigned listener_n_waiting(struct listener *listener);

/* Copy the features of clip `number`, out [n_mels][mel_n_frames(n)]; false: it is withdrawn, or
 * too old. */
bool listener_take(struct listener *listener, unsigned number, float *out);

/* Samples of the longest clip. */
size_t listener_clip_max(const struct listener *listener);
