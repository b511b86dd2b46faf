/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How speech-dispatcher wants a message to be said (SET), and what lfmd.conf of its modules adds.
 *
 * Threads: main thread.
 */

#include <stdbool.h>

enum punctuation { PUNCTUATION_NONE, PUNCTUATION_SOME, PUNCTUATION_MOST, PUNCTUATION_ALL };
enum capitals { CAPITALS_NONE, CAPITALS_SPELL, CAPITALS_ICON };

#define SETTINGS_NAME_MAX 300 /* bytes of a voice's name */
#define SETTINGS_LIST_MAX 200 /* bytes of a list of characters */

struct settings {
    int rate, pitch, volume; /* -100 to 100 */
    enum punctuation punctuation;
    bool spelling;
    enum capitals capitals;
    char voice[32];    /* "male1" */
    char language[32]; /* "en"; "": not said */
    char synthesis_voice[SETTINGS_NAME_MAX]; /* a name of LIST VOICES; "": none */

    /* of the configuration */
    char some[SETTINGS_LIST_MAX], most[SETTINGS_LIST_MAX]; /* UTF-8 characters that are named */
    double rate_max; /* at rate 100 */
    char default_voice[SETTINGS_NAME_MAX];
    char icons[SETTINGS_LIST_MAX]; /* folder of sound icons */
};

void settings_init(struct settings *settings);

/* Read the module's configuration; what is wrong there is told on stderr. False: it cannot be
 * read. */
bool settings_configure(struct settings *settings, const char *path);

/* One line of SET. False: there is no such setting, or no such value. */
bool settings_set(struct settings *settings, const char *name, const char *value);

#define SETTINGS_PATH_MAX 512

/* The file of a sound icon. False: there is none. */
bool settings_icon(const struct settings *settings, const char *name, char path[SETTINGS_PATH_MAX]);

/* As factors: rate and volume with 1 as normal and loudest; pitch as Spiel has it, 0 to 2. */
double settings_rate(const struct settings *settings);
double settings_pitch(const struct settings *settings);
double settings_volume(const struct settings *settings);
