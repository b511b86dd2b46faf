/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What is in a picture, for programs that need a text in its place (screen readers, galleries).
 *
 * The model is asked three questions about it, each in a conversation of its own that begins with
 * the picture: it is decoded, encoded and read once. The lines of the first one's `progress` and
 * `image` events come as they are (session.h), an answer that others follow as soon as it is there,
 *
 *   {"event":"part","part":"short","unsure":false,"text":"..."}
 *
 * ("long" is the other such part); the last line is
 *
 *   {"event":"description","model":"...","short":"...","long":"...","text":"...","unsure":false,
 *    "cached":false}
 *
 * (`text`: the words in the picture; `unsure`: what would be said next was often a close decision)
 * or an `error`. Descriptions are kept in memory, by the content of the file, the model and the
 * settings: the same picture again is decoded, no more.
 *
 * Threads: bus thread.
 */

#include "session/engine.h"

struct describe_options {
    const char *model; /* id; NULL: the default if it can see, else the first that can */
    const char *image; /* JSON object of settings for the picture (image_plan.h), or NULL */
};

struct describe_sink {
    /* A line of JSON without newline; nothing follows the last one. */
    void (*line)(void *userdata, const char *line, size_t length, bool last);
};

struct describe;

/* fd: borrowed; a file or memfd (vision/decoder.h). */
struct describe *describe_new(struct engine *engine, int fd, const struct describe_options *options,
                              const struct describe_sink *sink, void *userdata, struct error *err);

/* Cancels what is under way; no line follows. Needed after the last line too; the sink may do
 * it. */
struct describe *describe_free(struct describe *describe); /* accepts and returns NULL */
