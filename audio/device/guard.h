/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Calls into PortAudio that may never return, each on a thread that can be left behind.
 *
 * PortAudio, ALSA's plug-ins and the sound server's library wait without a limit, and for ever when
 * the server dies at the wrong moment: Pa_StartStream() wants a lock that its callback thread
 * ended with, since snd_pcm_start() had failed there. A server that is stopped answers nothing for
 * half a minute. The owner of the sound must go on, tell that, and end when it is told to.
 *
 * What is left behind costs a thread and a stream, for good if it never returns; hence the limit
 * of their number.
 *
 * Threads: guard_run() one thread, the owner of the sound.
 * Source:  PortAudio 19.6, pa_linux_alsa.c (CallbackThreadFunc), pa_unix_util.c (PaUnixThread_New)
 */

#define GUARD_LEFT_MAX 8

enum guard_end {
    GUARD_RETURNED,
    GUARD_LEFT,    /* run(job) did not return in time; the job is no longer the caller's */
    GUARD_REFUSED, /* run(job) was not called: GUARD_LEFT_MAX are left behind, or no thread */
};

struct guarded {
    void (*run)(void *job);
    void (*leave)(void *job); /* on the waiting thread, while run() is still busy; NULL: nothing */
    /* On the thread that was left behind, when run() returned: undo what it did, free the job. */
    void (*late)(void *job);
};

/* Call run(job) and wait for it. */
enum guard_end guard_run(const struct guarded *calls, void *job, unsigned limit_msec);

/* How many calls are left behind and have not returned. */
unsigned guard_n_left(void);
