/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A message of speech-dispatcher as SSML in which all that the settings ask for is written out:
 * names of punctuation, spelling, capital letters, names of keys.
 *
 * Threads: main thread.
 */

#include "clients/speech-dispatcher/settings.h"

/* Begins the names of marks at which a sound icon is played. */
#define MARKUP_ICON "lfmd-icon:"

enum message_type { MESSAGE_TEXT, MESSAGE_CHAR, MESSAGE_KEY, MESSAGE_ICON };

/* malloc; NULL without memory. text: UTF-8; of MESSAGE_TEXT SSML, of the others as it is. */
char *markup_write(/* Begins the names of marks at which a sound icon is played. */
#define MARKUP_ICON "lfmd-icon:"

enum message_type type, const char *text, const struct settings *settings);
