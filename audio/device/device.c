/* SPDX-License-Identifier: MIT */
#include "audio/device/device.h"

#include <alsa/asoundlib.h>
#include <portaudio.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audio/device/guard.h"
#include "audio/device/quiet.h"
#include "base/cleanup.h"
#include "base/utf8.h"

static const char *const direction_names[_DEVICE_DIRECTION_N] = {"microphone", "loudspeaker"};

/* Also while a stream runs: a line for every underrun would come from the callback's thread. */
static void say_nothing(const char *file, int line, const char *function, int number,
                        const char *format, ...)
{
    (void)file;
    (void)line;
    (void)function;
    (void)number;
    (void)format;
}

/* PortAudio aborts where ALSA's configuration has neither of these. */
static bool alsa_is_configured(void)
{
    snd_config_t *found;

    return snd_config_update() >= 0 && (snd_config_search(snd_config, "pcm.default", &found) >= 0 ||
                                        snd_config_search(snd_config, "pcm.dmix", &found) >= 0);
}

struct start {
    bool configured;
    PaError r;
};

/* The owner's: PortAudio was not ended, since it would close the streams that were left behind. */
static bool kept_going;
/* Starting or ending PortAudio was left behind. */
static atomic_bool busy;

static void start(void *userdata)
{
    struct start *start = userdata;

    start->configured = alsa_is_configured();
    start->r = start->configured ? Pa_Initialize() : paNoError;
    snd_lib_error_set_handler(say_nothing);
}

static void end(void *userdata)
{
    (void)userdata;
    Pa_Terminate();
    snd_config_update_free_global(); /* it would not look at the user's file and new cards again */
}

static void be_busy(void *userdata)
{
    (void)userdata;
    atomic_store(&busy, true);
}

static void started_late(void *userdata)
{
    const struct start *start = userdata;

    if (start->configured && start->r == paNoError)
        end(NULL);
    free(userdata);
    atomic_store(&busy, false);
}

static void ended_late(void *userdata)
{
    (void)userdata;
    atomic_store(&busy, false);
}

static const struct guarded starts = {.run = start, .leave = be_busy, .late = started_late};
static const struct guarded ends = {.run = end, .leave = be_busy, .late = ended_late};

static void terminate(void)
{
    const int kept = quiet_begin();

    kept_going = guard_run(&ends, NULL, DEVICE_DONE_MSEC) == GUARD_REFUSED;
    quiet_end(kept);
}

static int initialise(struct error *err)
{
    _cleanup_(freep) struct start *start = calloc(1, sizeof(*start));
    enum guard_end how = GUARD_REFUSED;
    int kept;

    if (!start)
        return error_set(err, ERROR_NO_MEMORY, "No memory for the sound devices.");
    kept = quiet_begin();
    if (!atomic_load(&busy))
        how = guard_run(&starts, start, DEVICE_INIT_MSEC);
    quiet_end(kept);
    if (how != GUARD_RETURNED) {
        if (how == GUARD_LEFT)
            (void)TAKE_PTR(start);
        return error_set(err, ERROR_AUDIO_UNAVAILABLE,
                         "There is no sound: looking for its devices does not end.");
    }
    if (!start->configured)
        return error_set(err, ERROR_AUDIO_UNAVAILABLE,
                         "There is no microphone and no loudspeaker: ALSA is not configured here.");
    if (start->r != paNoError)
        return error_set(err, ERROR_AUDIO_UNAVAILABLE, "PortAudio cannot be started: %s.",
                         Pa_GetErrorText(start->r));
    return 0;
}

int device_init(struct error *err)
{
    if (kept_going && guard_n_left() == 0)
        terminate();
    return kept_going ? 0 : initialise(err);
}

void device_done(void)
{
    kept_going = guard_n_left() > 0;
    if (!kept_going)
        terminate();
}

static void describe(int index, struct device *ret)
{
    const PaDeviceInfo *info = Pa_GetDeviceInfo(index);

    *ret = (struct device){.index = index};
    snprintf(ret->name, sizeof(ret->name), "%s", info->name);
    utf8_plain(ret->name);
    snprintf(ret->api, sizeof(ret->api), "%s", Pa_GetHostApiInfo(info->hostApi)->name);
    ret->n_channels[DEVICE_CAPTURE] = (unsigned)MAX(0, info->maxInputChannels);
    ret->n_channels[DEVICE_PLAYBACK] = (unsigned)MAX(0, info->maxOutputChannels);
    ret->is_default[DEVICE_CAPTURE] = index == Pa_GetDefaultInputDevice();
    ret->is_default[DEVICE_PLAYBACK] = index == Pa_GetDefaultOutputDevice();
    if (info->defaultSampleRate > 0 && info->defaultSampleRate < 1e6)
        ret->rate_hz = (unsigned)info->defaultSampleRate;
}

size_t device_list(struct device *devices, size_t n_max)
{
    const int n = Pa_GetDeviceCount();

    for (int i = 0; i < n && (size_t)i < n_max; i++)
        describe(i, &devices[i]);
    return n > 0 ? (size_t)n : 0;
}

int device_find(const char *name, enum device_direction direction, struct device *ret,
                struct error *err)
{
    const int n = Pa_GetDeviceCount();
    const bool any = !name || !*name;
    struct device device, found = {.index = -1};
    unsigned n_found = 0;

    if (!any && (strlen(name) >= DEVICE_NAME_MAX || !utf8_valid(name, strlen(name))))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The name of the %s is not UTF-8, or longer than %d bytes.",
                         direction_names[direction], DEVICE_NAME_MAX - 1);
    for (int i = 0; i < n; i++) {
        describe(i, &device);
        if (device.n_channels[direction] == 0)
            continue;
        if (any ? device.is_default[direction] : strcmp(device.name, name) == 0) {
            *ret = device;
            return 0;
        }
        if (!any && strcasestr(device.name, name)) {
            found = device;
            n_found++;
        }
    }
    if (any)
        return error_set(err, ERROR_AUDIO_UNAVAILABLE, "There is no %s.",
                         direction_names[direction]);
    if (n_found > 1)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "%u sound devices have \"%s\" in their names; one of them is \"%s\".",
                         n_found, name, found.name);
    if (n_found == 0) {
        if (!strchr(name, ':'))
            return error_set(err, ERROR_AUDIO_UNAVAILABLE, "There is no %s \"%s\".",
                             direction_names[direction], name);
        strcpy(found.name, name);
        strcpy(found.api, "ALSA");
        /* What the PCM has is known when it is opened. */
        found.n_channels[DEVICE_CAPTURE] = 1;
        found.n_channels[DEVICE_PLAYBACK] = 2;
    }
    *ret = found;
    return 0;
}
