/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What is to be said, as a list in the order of time: texts that a model can take at once, silences
 * and marks. Made of plain text or of SSML (ssml.h).
 *
 * SSML: speak, p, s, break, mark, say-as (characters, spell-out, digits), sub, prosody (rate, pitch
 * and volume); of audio, desc and metadata nothing is said; what stands in other elements is said.
 *
 * A model that takes any text gets it sentence by sentence, several short ones together. One that
 * takes so many words gets those of spoken.h, cut where sentences end, or clauses.
 *
 * Memory: bounded by the text's, which may grow by the names of its characters to SCRIPT_BYTES_MAX.
 * Threads: any; no global state.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define SCRIPT_BYTES_MAX ((size_t)2 << 20)

/* How it is said; what lies outside of the ranges is taken for their ends. */
struct script_style {
    float rate;   /* 1: the voice's own; 2: twice as fast; SCRIPT_RATE_MIN to _MAX */
    float pitch;  /* 1: the voice's own; 2: an octave above; SCRIPT_PITCH_MIN to _MAX */
    float volume; /* 1: the voice's own; 0 to SCRIPT_VOLUME_MAX */
};

#define SCRIPT_RATE_MIN   0.3f
#define SCRIPT_RATE_MAX   8.0f
#define SCRIPT_PITCH_MIN  0.5f
#define SCRIPT_PITCH_MAX  2.0f
#define SCRIPT_VOLUME_MAX 4.0f

enum script_kind { SCRIPT_TEXT, SCRIPT_SILENCE, SCRIPT_MARK };

struct script_item {
    enum script_kind kind;
    size_t at, length; /* TEXT, MARK: bytes of script->text */
    unsigned msec;     /* SILENCE */
    struct script_style style;
};

struct script {
    char *text; /* [length] */
    size_t length, capacity;
    struct script_item *items; /* [n] */
    size_t n, n_max;
};

struct script_options {
    bool ssml;
    size_t n_words_max; /* of a piece, and nothing but words; 0: any text */
    struct script_style style;
};

/* `script` is zeroed. On failure it is to be freed as well. */
int script_read(struct script *script, const char *text, size_t length,
                const struct script_options *options, struct error *err);
void script_done(struct script *script);
