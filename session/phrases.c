/* SPDX-License-Identifier: MIT */
#include "session/phrases.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

struct phrase {
    TAILQ_ENTRY(phrase) link;
    struct phrase_sound *sound;
    size_t length;
    char key[]; /* model, voice, text, each with its end; [length] */
};

struct phrase_sound *phrase_sound_new(const int16_t *samples, size_t n)
{
    struct phrase_sound *sound = malloc(sizeof(*sound) + n * sizeof(*samples));

    if (!sound)
        return NULL;
    atomic_init(&sound->refs, 1);
    sound->n = n;
    memcpy(sound->samples, samples, n * sizeof(*samples));
    return sound;
}

struct phrase_sound *phrase_sound_ref(struct phrase_sound *sound)
{
    atomic_fetch_add(&sound->refs, 1);
    return sound;
}

struct phrase_sound *phrase_sound_unref(struct phrase_sound *sound)
{
    if (sound && atomic_fetch_sub(&sound->refs, 1) == 1)
        free(sound);
    return NULL;
}

void phrases_init(struct phrases *phrases)
{
    TAILQ_INIT(&phrases->list);
    phrases->bytes = 0;
}

static size_t size(const struct phrase *phrase)
{
    return sizeof(*phrase) + phrase->length + sizeof(*phrase->sound) +
           phrase->sound->n * sizeof(*phrase->sound->samples);
}

static void drop(struct phrases *phrases, struct phrase *phrase)
{
    TAILQ_REMOVE(&phrases->list, phrase, link);
    phrases->bytes -= size(phrase);
    phrase_sound_unref(phrase->sound);
    free(phrase);
}

void phrases_done(struct phrases *phrases)
{
    while (!TAILQ_EMPTY(&phrases->list))
        drop(phrases, TAILQ_FIRST(&phrases->list));
}

static struct phrase *make_key(const char *model, const char *voice, const char *text,
                               size_t length)
{
    const size_t n_model = strlen(model) + 1, n_voice = strlen(voice) + 1;
    struct phrase *phrase = calloc(1, sizeof(*phrase) + n_model + n_voice + length);

    if (!phrase)
        return NULL;
    phrase->length = n_model + n_voice + length;
    memcpy(phrase->key, model, n_model);
    memcpy(phrase->key + n_model, voice, n_voice);
    memcpy(phrase->key + n_model + n_voice, text, length);
    return phrase;
}

static struct phrase *find(struct phrases *phrases, const struct phrase *key)
{
    struct phrase *phrase;

    TAILQ_FOREACH(phrase, &phrases->list, link)
    if (phrase->length == key->length && memcmp(phrase->key, key->key, key->length) == 0)
        return phrase;
    return NULL;
}

struct phrase_sound *phrases_find(struct phrases *phrases, const char *model, const char *voice,
                                  const char *text, size_t length)
{
    _cleanup_(freep) struct phrase *key =
        length <= PHRASE_TEXT_MAX ? make_key(model, voice, text, length) : NULL;
    struct phrase *found = key ? find(phrases, key) : NULL;

    if (!found)
        return NULL;
    TAILQ_REMOVE(&phrases->list, found, link);
    TAILQ_INSERT_HEAD(&phrases->list, found, link);
    return phrase_sound_ref(found->sound);
}

void phrases_add(struct phrases *phrases, const char *model, const char *voice, const char *text,
                 size_t length, struct phrase_sound *sound)
{
    struct phrase *phrase;

    if (length > PHRASE_TEXT_MAX || sound->n > PHRASE_SAMPLES_MAX)
        return;
    phrase = make_key(model, voice, text, length);
    if (!phrase || find(phrases, phrase)) {
        free(phrase);
        return;
    }
    phrase->sound = phrase_sound_ref(sound);
    TAILQ_INSERT_HEAD(&phrases->list, phrase, link);
    phrases->bytes += size(phrase);
    while (phrases->bytes > PHRASES_BYTES_MAX)
        drop(phrases, TAILQ_LAST(&phrases->list, phrase_list));
}
