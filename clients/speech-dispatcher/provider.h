/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * lfmd as seen from here: the voices of org.lfmd.Speech.Provider, and a text that becomes sound.
 *
 *     provider_voices();  speech_begin() with SSML; events come from the event loop until `end`;
 *     speech_stop() at any time, after which none comes
 *
 * Threads: main thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#define PROVIDER_RATE_HZ    24000
#define PROVIDER_VOICES_MAX 64
#define PROVIDER_NAME_MAX   300

struct provider_voice {
    char id[PROVIDER_NAME_MAX];
    char name[PROVIDER_NAME_MAX]; /* the id without spaces */
    char language[32];
};

/* Ask for the voices. A negative errno after a sentence on stderr. */
int provider_voices(sd_bus *bus, struct provider_voice *voices, size_t n_max, size_t *ret_n);

struct speech_sink {
    void (*sound)(void *userdata, int16_t *samples, size_t n); /* may be changed in place */
    void (*mark)(void *userdata, const char *name);
    /* It has been said, or why it was not (lives as long as the speech, which is to be freed). */
    void (*end)(void *userdata, const char *reason);
};

struct speech_request {
    const char *ssml, *voice, *language;
    double rate, pitch;
};

struct speech;

/* NULL without memory or descriptors. */
struct speech *speech_begin(sd_bus *bus, sd_event *event, const struct speech_request *request,
                            const struct speech_sink *sink, void *userdata);
/* Read no further until it may go on. */
void speech_hold(struct speech *speech, bool hold);
/* Silence at once; accepts and returns NULL. */
struct speech *speech_stop(struct speech *speech);
