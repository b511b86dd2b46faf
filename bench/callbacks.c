/* SPDX-License-Identifier: MIT */

/*
 * When the callbacks of a running daemon really come: a library to preload. It puts itself between
 * PortAudio and the callback of every stream and, when the stream is closed, appends a line of JSON
 * to the file CALLBACKS: how far apart the callbacks began, how long they took, and how often the
 * device said that it lost something or had nothing to play.
 *
 *     CALLBACKS=FILE LD_PRELOAD=build/bench/libcallbacks.so build/daemon/lfmd
 *
 * What comes in bursts (a plug-in fills several blocks at once) is far apart and no fault.
 */

#include <dlfcn.h>
#include <portaudio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"

static const unsigned limits_msec[] = {11, 15, 20, 30, 50, 100, 200, 1000};

#define N_STREAMS 8 /* at a time */

static struct watched {
    PaStream *stream; /* NULL: free */
    PaStreamCallback *callback;
    void *userdata;
    const char *name;
    uint64_t last_usec;
    unsigned n_callbacks, n_overflows, n_underflows, n_gaps[ARRAY_LEN(limits_msec)];
    uint64_t longest_gap_usec, longest_usec;
} watched[N_STREAMS];

/* The clock is read without a system call. */
static uint64_t now_usec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static int watch(const void *input, void *output, unsigned long n_frames,
                 const PaStreamCallbackTimeInfo *time, PaStreamCallbackFlags flags, void *userdata)
{
    struct watched *w = userdata;
    const uint64_t begin = now_usec(), gap = w->last_usec ? begin - w->last_usec : 0;
    int r;

    w->last_usec = begin;
    w->n_callbacks++;
    w->n_overflows += (flags & paInputOverflow) != 0;
    w->n_underflows += (flags & paOutputUnderflow) != 0;
    for (size_t i = 0; i < ARRAY_LEN(limits_msec); i++)
        w->n_gaps[i] += gap > limits_msec[i] * 1000;
    w->longest_gap_usec = MAX(w->longest_gap_usec, gap);
    r = w->callback(input, output, n_frames, time, flags, w->userdata);
    w->longest_usec = MAX(w->longest_usec, now_usec() - begin);
    return r;
}

PaError Pa_OpenStream(PaStream **ret, const PaStreamParameters *input,
                      const PaStreamParameters *output, double rate, unsigned long n_frames,
                      PaStreamFlags flags, PaStreamCallback *callback, void *userdata)
{
    PaError (*real)(PaStream **, const PaStreamParameters *, const PaStreamParameters *, double,
                    unsigned long, PaStreamFlags, PaStreamCallback *, void *);
    PaError r;
    size_t i = 0;

    *(void **)&real = dlsym(RTLD_NEXT, "Pa_OpenStream");
    while (i < N_STREAMS && watched[i].stream)
        i++;
    if (i == N_STREAMS)
        return paInsufficientMemory;
    watched[i] = (struct watched){.callback = callback, .userdata = userdata,
                                  .name = input ? "microphone" : "loudspeaker"};
    r = real(ret, input, output, rate, n_frames, flags, watch, &watched[i]);
    if (r == paNoError)
        watched[i].stream = *ret;
    return r;
}

static void report(const struct watched *w)
{
    FILE *file = fopen(getenv("CALLBACKS"), "ae");

    if (!file)
        return;
    fprintf(file, "{\"stream\":\"%s\",\"callbacks\":%u,\"overflows\":%u,\"underflows\":%u,"
                  "\"longest_ms\":%.3f,\"longest_gap_ms\":%.1f,\"later_than_ms\":{",
            w->name, w->n_callbacks, w->n_overflows, w->n_underflows,
            (double)w->longest_usec / 1e3, (double)w->longest_gap_usec / 1e3);
    for (size_t i = 0; i < ARRAY_LEN(limits_msec); i++)
        fprintf(file, "%s\"%u\":%u", i ? "," : "", limits_msec[i], w->n_gaps[i]);
    fprintf(file, "}}\n");
    fclose(file);
}

PaError Pa_CloseStream(PaStream *stream)
{
    PaError (*real)(PaStream *), r;

    *(void **)&real = dlsym(RTLD_NEXT, "Pa_CloseStream");
    r = real(stream);
    for (size_t i = 0; i < N_STREAMS; i++)
        if (watched[i].stream == stream && stream) {
            report(&watched[i]);
            watched[i].stream = NULL;
        }
    return r;
}
