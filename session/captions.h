/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What is being said, as text while it is said: live speech without end to words, turn by turn.
 *
 *     ear (ear.h, listener.h) -> drafts of the present turn, whole turns -> recognition -> lines
 *
 * Beside the lines of ear.h:
 *
 *   {"event":"start","usec":..,"model":"..."}
 *   {"event":"partial","usec":..,"turn":1,"text":"set a timer","tail":" for two"}
 *   {"event":"transcript","usec":..,"turn":1,"text":"Set a timer for ten minutes."}
 *
 * While somebody speaks, what was said so far is recognised again and again, at most half of the
 * time. `text` are the words that two such drafts agree about, `tail` is what the last one has
 * after them: it may change with the next, and the end of a word that is still being said often
 * does. A transcript is of the whole turn and stands: there is one for each turn, in their order,
 * also an empty one where no word was recognised.
 *
 * A turn ends after a pause, and a long one at the next breath. Turns that end while the engine is
 * busy wait; of more than LISTENER_CLIPS the oldest are lost, and told as overruns of "xrun". A
 * pipe is not read on then instead.
 *
 * task_stop() and a client that hangs up end the turn: its transcript comes, and then "done".
 *
 * Threads: bus thread.
 */

#include "session/ear.h"

#define CAPTIONS_TURN_MAX_MSEC 20000 /* what recognition takes at once */

struct captions_options {
    const char *model; /* id; NULL: the first that hears */
    struct turns_settings turns; /* no turn is longer than CAPTIONS_TURN_MAX_MSEC */
    bool levels; /* ten LEVEL lines a second */
};

/* The port is taken, also on failure; it has to hear only. */
struct task *captions_new(struct engine *engine, const struct captions_options *options,
                          const struct voice_port *port, void *port_userdata,
                          const struct task_sink *sink, void *userdata, struct error *err);
