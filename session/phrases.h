/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Short texts as they were said: letters, names of keys, words of menus. A screen reader says the
 * same few hundred again and again, and they need no model then.
 *
 * Memory: at most PHRASES_BYTES_MAX; what was used longest ago goes first. A sound lives as long as
 * somebody holds it.
 * Threads: bus thread, but a sound may be read and let go by any thread.
 */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define PHRASES_BYTES_MAX  ((size_t)8 << 20) /* about three minutes */
#define PHRASE_TEXT_MAX    ((size_t)48)      /* bytes; what is longer is seldom said again */
#define PHRASE_SAMPLES_MAX ((size_t)4 * 24000)

struct phrase_sound {
    atomic_uint refs;
    size_t n;
    int16_t samples[]; /* [n] */
};

/* A copy; NULL without memory. */
struct phrase_sound *phrase_sound_new(const int16_t *samples, size_t n);
struct phrase_sound *phrase_sound_ref(struct phrase_sound *sound);
struct phrase_sound *phrase_sound_unref(struct phrase_sound *sound); /* accepts and returns NULL */

struct phrases {
    TAILQ_HEAD(phrase_list, phrase) list; /* used last first */
    size_t bytes;
};

void phrases_init(struct phrases *phrases);
void phrases_done(struct phrases *phrases);

/* The sound of a text by a model (its file) and voice, held; NULL: it was not said lately. */
struct phrase_sound *phrases_find(struct phrases *phrases, const char *model, const char *voice,
                                  const char *text, size_t length);
/* Keep it from now on; nothing happens where it is there already, too long, or memory is short. */
void phrases_add(struct phrases *phrases, const char *model, const char *voice, const char *text,
                 size_t length, struct phrase_sound *sound);
