/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The files that a model is made of: a text model, and companions that let it see, hear and speak.
 *
 * A companion lies in the folder of its model and has its name, quantisations apart, and a mark:
 *
 *     mmproj-NAME     what turns pictures or sound into rows of the text model
 *     vocoder-NAME    what turns its rows into codes, and the codes' table
 *     tokenizer-NAME  the detokenizer, which turns codes into sound; or a Mimi, which does the same
 *
 * A mark is a word of the name, in any place. LFM2-Audio is published with mmproj-audioencoder-NAME
 * and audiodecoder-NAME, which is vocoder file and detokenizer in one: it has a Mimi in it.
 *
 * Threads: any; no state.
 */

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* In the order in which they are fetched: what comes in the end makes a model that is installed. */
enum model_file { FILE_VISION, FILE_EAR, FILE_VOCODER, FILE_DETOKENIZER, FILE_TEXT, _FILE_N };

const char *companion_noun(enum model_file file); /* "vision": what stands before "file" */

/* "q8_0", "Q4_K_M", "bf16". */
bool companion_is_quantisation(const char *text);

/* It has a mark, so it is no model of its own. */
bool companion_is_marked(const char *file);

/* Without ".gguf" and marks: what the files of a set have, where each has the same quantisation. */
void companion_stem(const char *file, char ret[NAME_MAX + 1]);

/* Cut the quantisations at its end off a stem: what all files of a model have. */
void companion_cut(char *stem);

/*
 * Read whether a file can be what it is named to be; its weights are not touched.
 *
 * vocoder_path: of the file that a detokenizer has to go with, maybe the same; NULL: there is none,
 *               and no check
 * ret_n_embd:   width of the text model's rows that it was made for; 0: any
 * Returns 0; 1: by its name or content it is another companion; a negative errno with a sentence
 * when it cannot be used.
 */
int companion_check(enum model_file file, const char *path, const char *vocoder_path,
                    uint32_t *ret_n_embd, struct error *err);
