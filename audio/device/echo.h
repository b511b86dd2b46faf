/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Echo canceller: what the loudspeaker said is taken out of what the microphone heard.
 *
 *     echo_played()  the blocks that the callback gave to the device (playback_emitted())
 *     echo_frame()   the frames of the microphone, in order
 *
 * The canceller is libspeexdsp's, with a filter of 256 ms: at 16 kHz it has to cover the latencies
 * of both devices, some 100 ms, and the room. What it leaves, 15 to 20 dB below the echo, is still
 * speech to a detector, so a gate follows that opens when more is left than was taken out a moment
 * ago, and more than an echo can be by what was played: what the filter has not met yet is not
 * heard either. Behind the closed gate is noise like the room's. In four drawn rooms (reverberation
 * 0.2 to 0.4 s, delays 40 to 150 ms) the two together take 30 to 38 dB out, audio/device/vad takes
 * 0 to 5 % of the rest for speech (without the gate's noise and memory up to 55 %), and it finds 88
 * to 98 % of what somebody says meanwhile, at 3 to 9 dB above the echo.
 *
 * It learns from what is played, of which it goes through the first seconds again and again. Once
 * it takes 9 dB out of a third of a second of sound that it has not learnt from, that is enough to
 * begin with: after 1.8 s (median; 2.7 at the slowest of 96 answers in 16 rooms). Until then the
 * microphone is silent while the loudspeaker is heard: nobody can interrupt, and nothing interrupts
 * itself. With headphones there is no echo to learn, which is found in a second. It learns anew
 * when it finds that it has not taken out what ended with the loudspeaker's sound: another
 * loudspeaker, another place.
 *
 * Both streams number their blocks, and the blocks are the clock: which reference belongs to which
 * frame is fixed when they start, and moved when the clocks of two devices drift apart.
 *
 * A sound server that cancels echo does better, since it has one clock and knows the delays; then
 * this is not needed.
 *
 * Threads: one owner
 * Source:  speexdsp 1.2.1, J.-M. Valin 2007, "On adjusting the learning rate in frequency
 *          domain echo cancellation with double-talk"
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define ECHO_FRAME   160 /* samples at 16 kHz, 10 ms */
#define ECHO_RATE_HZ 16000

struct echo;

struct echo *echo_new(struct error *err);
struct echo *echo_free(struct echo *echo); /* accepts and returns NULL */

/* A stream was opened (again): the clocks begin anew, what was learnt has to prove itself. */
void echo_restart(struct echo *echo);

/* n_samples of a block of 10 ms that was played; number: of its callback. */
void echo_played(struct echo *echo, const float *samples, size_t n_samples, unsigned rate_hz,
                 unsigned number);

/* In place. */
void echo_frame(struct echo *echo, float samples[ECHO_FRAME]);

/* Whether the microphone may interrupt: the echo is known, or there is none. */
bool echo_is_learnt(const struct echo *echo);
