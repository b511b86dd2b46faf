/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The loudspeaker: a stream of its own, from one writer through a ring to its callback, as blocks
 * of 10 ms.
 *
 *     writer:   playback_write() resamples 24 kHz to the rate of the device and fills blocks
 *     callback: copies, fades, counts
 *
 * What is played has a generation. To interrupt, playback_cancel() begins the next one: the
 * callback fades what it is playing out within 3 ms and drops all older blocks, and the writer's
 * further samples of the old generation are refused. playback_position() tells how much of a
 * generation was really played, to cut a conversation's history there.
 *
 * Generations are numbers of 24 bits that wrap.
 *
 * An end is announced with playback_end(). When the ring is empty without, it is an underrun: the
 * last sample fades out, silence follows, it is counted.
 *
 * Threads: playback_open(), playback_close() one thread, the owner; playback_write(),
 *          playback_end() one thread, the writer; playback_emitted() one thread; the others any.
 * Memory:  everything is allocated in playback_new()
 */

#include <stdbool.h>
#include <stdint.h>

#include "audio/device/device.h"

#define PLAYBACK_RATE_HZ 24000
#define PLAYBACK_BLOCK   240 /* samples, 10 ms */
#define PLAYBACK_EMITTED_MAX 480

#define PLAYBACK_DUCKED 0.2f /* gain while ducked, -14 dB */

struct playback;
struct pcm_stream;

struct playback_counts {
    unsigned n_callbacks; /* since it was opened */
    unsigned n_underruns; /* times that the writer was late */
    unsigned n_xruns;     /* times that the device said it had nothing to play */
};

/* queue_msec: how far the writer may be ahead, 40 to 60000. NULL on failure. */
struct playback *playback_new(unsigned queue_msec, struct error *err);
struct playback *playback_free(struct playback *playback); /* closes; accepts and returns NULL */

/*
 * rate_hz is tried first, a multiple of 100; 0: 48000. It should be the rate of what is behind the
 * device: a PulseAudio that has to resample a stream starves it below 80 ms of latency, hundreds of
 * times a second, and at its own rate needs 20 ms.
 *
 * What is in the ring is kept, so that a reply goes on after a device came back; it is dropped when
 * the stream then runs at another rate. Latency: pcm_stream.h, PCM_LATENCY_MSEC_*
 */
int playback_open(struct playback *playback, const struct device *device, unsigned rate_hz,
                  unsigned latency_msec, struct error *err);
void playback_close(struct playback *playback); /* fades out first, at most 100 ms */

/*
 * Play n_samples, mono, -1..1, after what was written before. Returns how many were taken: fewer
 * when the ring is full, none before the first opening (the rate is not known), n_samples (and
 * nothing is played) when the generation is over.
 */
size_t playback_write(struct playback *playback, uint32_t generation, const float *samples,
                      size_t n_samples);

/*
 * What was written is played to its end, and silence after it is no underrun. False: the ring has
 * no room for the mark; say it again later.
 */
bool playback_end(struct playback *playback, uint32_t generation);

/* How many samples at 24 kHz could be written now. */
size_t playback_room(struct playback *playback);

uint32_t playback_generation(struct playback *playback);

/* Begin the next generation and return it. */
uint32_t playback_cancel(struct playback *playback);

/*
 * Samples at 24 kHz of this generation that went to the device; 0 for one that was not begun. The
 * last playback_latency_msec() of them have not been heard yet.
 */
uint64_t playback_position(struct playback *playback, uint32_t generation);
/* The same of the generation that was played last. */
uint64_t playback_last_position(struct playback *playback, uint32_t *ret_generation);
unsigned playback_latency_msec(struct playback *playback);

/* Whether nothing of the present generation is being played or waits to be. */
bool playback_is_idle(struct playback *playback);

/* Turn down, or up again, within 10 ms of the next block. */
void playback_duck(struct playback *playback, bool ducked);

/*
 * What the callback gave to the device, for an echo canceller: the next block of 10 ms at the
 * device's rate, silence included. Returns its number of samples, 0 when there is none yet; blocks
 * are numbered by callback, so one that was missed shows.
 */
size_t playback_emitted(struct playback *playback, float samples[PLAYBACK_EMITTED_MAX],
                        unsigned *ret_number, unsigned *ret_rate_hz);

void playback_counts(struct playback *playback, struct playback_counts *ret);
/* For the watchdog and the priority. */
struct pcm_stream *playback_stream(struct playback *playback);
