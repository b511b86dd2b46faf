/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What is read aloud, through speech-dispatcher, with the user's own voice and speed, which starts
 * with the first word. A text waits for what this program says, and takes the place of less
 * important words of others.
 *
 * Threads: main thread; connecting and speaking is done on one of its own
 */

struct voice;

/* Told on the main loop, at most once: there is no speech, and why. */
typedef void voice_trouble(const char *sentence, void *userdata);

struct voice *voice_new(voice_trouble *trouble, void *userdata);
/* What was said so far is still heard. Accepts and returns NULL. */
struct voice *voice_free(struct voice *voice);

/*
 * Wait until the server has all that was said, or the trouble with it is told. Nothing is said
 * after it.
 */
void voice_finish(struct voice *voice);

void voice_say(struct voice *voice, const char *text);
void voice_stop(struct voice *voice);
