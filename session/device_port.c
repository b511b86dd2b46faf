/* SPDX-License-Identifier: MIT */
#include "session/device_port.h"

#include <stdlib.h>

#include "session/internal.h"

struct device_ends {
    struct engine *engine;
    struct task *task;
    bool is_open;
    unsigned n_seen; /* changes of the sound when the mouth was full */
};

/* --- sound thread ---------------------------------------------------------------------------- */

static void frame(void *userdata, const float samples[SOUND_FRAME], int64_t usec)
{
    struct device_ends *d = userdata;

    listener_frame(ear_listener(d->task), samples, usec);
}

static void state(void *userdata, bool listening, const struct error *error)
{
    struct device_ends *d = userdata;

    ear_tell_listening(d->task, listening, error);
}

static const struct sound_listener listener = {.frame = frame, .state = state};
static const struct sound_listener listener_answers = {
    .frame = frame, .state = state, .answers = true};

/* --- the port -------------------------------------------------------------------------------- */

static int device_open(void *userdata, struct task *task, struct error *err)
{
    struct device_ends *d = userdata;
    int r;

    d->task = task;
    r = sound_listen(d->engine->sound, ear_speaks(task) ? &listener_answers : &listener, d, err);
    d->is_open = r == 0;
    return r;
}

static uint32_t device_begin(void *userdata)
{
    const struct device_ends *d = userdata;

    return sound_begin(d->engine->sound);
}

static size_t device_write(void *userdata, uint32_t number, const float *samples, size_t n)
{
    struct device_ends *d = userdata;

    d->n_seen = atomic_load(&d->engine->sound_changes);
    return sound_write(d->engine->sound, number, samples, n);
}

static bool device_has_room(void *userdata)
{
    const struct device_ends *d = userdata;

    return atomic_load(&d->engine->sound_changes) != d->n_seen;
}

static bool device_end(void *userdata, uint32_t number)
{
    struct device_ends *d = userdata;

    d->n_seen = atomic_load(&d->engine->sound_changes);
    return sound_end(d->engine->sound, number);
}

static void device_cancel(void *userdata)
{
    const struct device_ends *d = userdata;

    sound_cancel(d->engine->sound);
}

static void device_duck(void *userdata, bool ducked)
{
    const struct device_ends *d = userdata;

    sound_duck(d->engine->sound, ducked);
}

static uint64_t device_heard(void *userdata, uint32_t number)
{
    const struct device_ends *d = userdata;

    return sound_heard(d->engine->sound, number);
}

static bool device_is_idle(void *userdata)
{
    const struct device_ends *d = userdata;

    return sound_is_idle(d->engine->sound);
}

static unsigned device_latency_msec(void *userdata)
{
    const struct device_ends *d = userdata;
    struct sound_counts counts;

    sound_counts(d->engine->sound, &counts);
    return counts.playback_latency_msec;
}

static void device_xruns(void *userdata, unsigned *overruns, unsigned *underruns)
{
    const struct device_ends *d = userdata;
    struct sound_counts counts;

    sound_counts(d->engine->sound, &counts);
    *overruns = counts.n_overruns;
    *underruns = counts.n_underruns + counts.n_xruns;
}

static bool device_is_mute(void *userdata, struct error *err)
{
    const struct device_ends *d = userdata;
    struct sound_counts counts;

    sound_counts(d->engine->sound, &counts);
    *err = counts.playback_error;
    return counts.playback_error.code != ERROR_NONE;
}

static void device_close(void *userdata)
{
    struct device_ends *d = userdata;

    if (!d->is_open)
        return;
    sound_stop_listening(d->engine->sound, d);
    if (ear_speaks(d->task))
        sound_duck(d->engine->sound, false); /* for whoever speaks next */
    d->is_open = false;
}

static void device_free(void *userdata)
{
    device_close(userdata);
    free(userdata);
}

const struct voice_port device_port = {
    .open = device_open,
    .begin = device_begin,
    .write = device_write,
    .has_room = device_has_room,
    .end = device_end,
    .cancel = device_cancel,
    .duck = device_duck,
    .heard = device_heard,
    .is_idle = device_is_idle,
    .latency_msec = device_latency_msec,
    .xruns = device_xruns,
    .is_mute = device_is_mute,
    .close = device_close,
    .free = device_free,
};

void *device_port_new(struct engine *engine, struct error *err)
{
    struct device_ends *d;

    if (engine_use_sound(engine, err) < 0)
        return NULL;
    d = calloc(1, sizeof(*d));
    if (d)
        d->engine = engine;
    else
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a conversation.");
    return d;
}
