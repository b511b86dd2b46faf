/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The sound devices that PortAudio finds, by name.
 *
 * A name is one of the list ("default", "pulse", "HDA Intel PCH: ALC257 Analog (hw:0,0)"), a part
 * of exactly one of them, or the name of an ALSA PCM, which has a colon: "pulse:NAME" is the source
 * or sink NAME of PulseAudio or PipeWire, "hw:1,0" a card. NULL or "" is the system's default.
 *
 * The list is made by device_init() and does not change: whoever waits for a device closes all
 * streams, and calls device_done() and device_init() again. A machine without sound is no error:
 * its list is empty.
 *
 * While a call is left behind (guard.h), the list stays as it is: PortAudio can only make it anew
 * with all streams closed. The default and names with a colon work all the same.
 *
 * PortAudio, ALSA and JACK write dozens of lines on stderr while they look for devices and when one
 * cannot be opened. Not all of them can be told not to, so descriptor 2 points to /dev/null
 * meanwhile: for the length of the call, what other threads write there is lost as well.
 *
 * Threads: one, the owner of the sound; device_init() takes 50 to 100 ms, and at most
 *          DEVICE_INIT_MSEC where a sound server does not answer.
 * Source:  PortAudio 19.6, portaudio.h and pa_linux_alsa.h
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define DEVICE_NAME_MAX 256

/* More is not waited for (guard.h). */
#define DEVICE_INIT_MSEC 5000
#define DEVICE_DONE_MSEC 1000

enum device_direction { DEVICE_CAPTURE, DEVICE_PLAYBACK, _DEVICE_DIRECTION_N };

struct device {
    char name[DEVICE_NAME_MAX]; /* UTF-8 */
    char api[16];               /* "ALSA", "JACK", "OSS" */
    int index;                  /* PortAudio's, until device_done(); -1: the ALSA PCM `name` */
    unsigned n_channels[_DEVICE_DIRECTION_N]; /* at most; 0: not in this direction */
    bool is_default[_DEVICE_DIRECTION_N];
    unsigned rate_hz; /* the device's own; 0: not known */
};

int device_init(struct error *err);
void device_done(void);

/* Writes at most n_max devices and returns how many there are. */
size_t device_list(struct device *devices, size_t n_max);

/* ERROR_AUDIO_UNAVAILABLE when there is none, ERROR_INVALID_ARGUMENT when several have the name. */
int device_find(const char *name, enum device_direction direction, struct device *ret,
                struct error *err);
