/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Microphone and loudspeaker of the conversations, and the one thread that owns PortAudio.
 *
 *     sound thread: opens and closes devices, reads the microphone, takes the echo out, watches
 *                   over both streams, and looks for devices again when one went away
 *
 * Nothing is opened before it is needed. The microphone is open while somebody listens; the
 * loudspeaker from the first sample of a reply until some seconds after the last one, since opening
 * cuts the beginning off on many devices. Without both, PortAudio is shut down.
 *
 * A device that is lost, or was never there, is tried again: after a quarter of a second, then
 * after twice as long each time, at most every five seconds. A reply goes on where it was when the
 * loudspeaker comes back.
 *
 * What the loudspeaker says is taken out of what the microphone hears (audio/device/echo.h), unless
 * the microphone's name, or that of the sound server's default, has "echo-cancel" in it: that is a
 * source of the server which does it better.
 *
 * A server that does not answer is waited for no longer than audio/device/guard.h says: what hangs
 * is left behind, the microphone is told to be off, and everything is tried again.
 *
 * A server may starve a stream that does not run at its own rate: the loudspeaker is then opened
 * again with more latency (audio/device/playback.h says why).
 *
 * Threads: as noted. Callbacks run on the sound thread, which holds a lock meanwhile:
 *          sound_listen(), sound_stop_listening() and sound_free() wait for them, so do not call
 *          those with a lock that a callback takes, or from a callback.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "audio/device/capture.h"
#include "audio/device/device.h"
#include "base/error.h"

#define SOUND_FRAME   CAPTURE_FRAME /* samples at 16 kHz, 10 ms */
#define SOUND_RATE_HZ 24000         /* of what is played */

#define SOUND_LISTENERS_MAX 8

#define SOUND_LATENCY_MSEC 30 /* default; what the device takes shows in sound_counts() */

struct sound_config {
    const char *capture, *playback; /* device names (audio/device/device.h); NULL: the default */
    unsigned latency_msec;          /* 10 to 500; 0: SOUND_LATENCY_MSEC */
    bool keep_echo; /* headphones, or a microphone that takes the echo out itself */
    /*
     * Something of sound_counts() or of the loudspeaker's state changed: there is room again, all
     * was played, a device came or went. On the sound thread, at most every 5 ms. May be NULL.
     */
    void (*changed)(void *userdata);
    /*
     * Ids of the threads that make what is played, the most important first: they get a better nice
     * level (audio/device/priority.h) while something is heard, and some seconds longer, so that a
     * long text that nobody hears does not take the machine from its user. On the sound thread, and
     * only until sound_free() returns. May be NULL.
     */
    size_t (*makers)(void *userdata, pid_t *ret_ids, size_t n_max);
    void *userdata;
};

struct sound;

/* Bus thread. Starts the thread, touches no device. */
struct sound *sound_new(const struct sound_config *config, struct error *err);
struct sound *sound_free(struct sound *sound); /* accepts and returns NULL */

/* Bus thread. Other devices or another latency: what is open is opened again. Callbacks stay. */
int sound_reconfigure(struct sound *sound, const struct sound_config *config, struct error *err);

struct sound_listener {
    /* 10 ms from the microphone, without echo; usec: CLOCK_MONOTONIC when it was handed out */
    void (*frame)(void *userdata, const float samples[SOUND_FRAME], int64_t usec);
    /* The microphone delivers, or does not (any more) and why; it is tried again. */
    void (*state)(void *userdata, bool listening, const struct error *error);
    bool answers; /* on the loudspeaker: only one of the listeners does */
};

/*
 * Bus thread. Opens the microphone, does not wait for it. userdata: another one for each listener.
 * ERROR_BUSY: one who answers listens already, or SOUND_LISTENERS_MAX do.
 */
int sound_listen(struct sound *sound, const struct sound_listener *listener, void *userdata,
                 struct error *err);
/* When it returns, no callback with this userdata runs or will run. */
void sound_stop_listening(struct sound *sound, void *userdata);

/* Begin to say something new: what was playing fades out and is dropped. Any thread. */
uint32_t sound_begin(struct sound *sound);
/* One thread. 24 kHz, -1..1; how many were taken: fewer when the queue of 4 s is full, none until
 * the loudspeaker was opened for the first time. */
size_t sound_write(struct sound *sound, uint32_t generation, const float *samples,
                   size_t n_samples);
/* The same thread. False: there is no room, say it again later. */
bool sound_end(struct sound *sound, uint32_t generation);

void sound_cancel(struct sound *sound);            /* any thread: silence within some ms */
void sound_duck(struct sound *sound, bool ducked); /* any thread */

/* Samples of this generation that were heard: played the device's latency ago. Any thread. */
uint64_t sound_heard(struct sound *sound, uint32_t generation);
/* Whether nothing is heard or waits to be. Any thread. */
bool sound_is_idle(struct sound *sound);

struct sound_counts {
    bool capture_open, playback_open; /* and delivering */
    unsigned capture_latency_msec, playback_latency_msec; /* what PortAudio says, 0 when closed */
    unsigned n_overruns;  /* blocks that our reader was late for */
    unsigned n_underruns; /* times that the writer was late */
    unsigned n_xruns;     /* times that a device lost or lacked something */
    unsigned n_losses;    /* times that a device went away */
    bool has_priority;    /* the callbacks run in real time */
    /* The echo is known, or there is none: speech is heard while something plays. */
    bool can_interrupt;
    struct error error;   /* why a device that is wanted is not open; ERROR_NONE: all are */
    struct error playback_error; /* of the loudspeaker alone */
};
void sound_counts(struct sound *sound, struct sound_counts *ret); /* any thread */

/*
 * Bus thread; waits for the sound thread, about 100 ms, some seconds where a sound server does not
 * answer. While somebody listens or something is heard, the list is as old as the streams that are
 * open. Returns how many there are; at most n_max are written.
 */
size_t sound_devices(struct sound *sound, struct device *devices, size_t n_max);
