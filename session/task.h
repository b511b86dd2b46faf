/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A task: work for a client that is no turn of a session. Here the halves of speech, each for
 * itself: a recording to text, a text to sound; tasks that listen are made by conversation.h and
 * captions.h, and have the lines of ear.h.
 *
 * A task's events arrive through its sink, on the bus thread; the last one is DONE or ERROR, and
 * frees the task. Lines are JSON:
 *
 *   {"event":"start","model":"..."}
 *   {"event":"progress","done_ms":4000,"total_ms":61000}      total_ms where it is known
 *   {"event":"segment","start_ms":310,"end_ms":2840,"text":"..."}
 *   {"event":"audio_start","usec":...}   {"event":"audio_end","usec":...}   aloud; CLOCK_MONOTONIC
 *   {"event":"done","reason":"stop","text":"...","usage":{...}}
 *   {"event":"error","name":"ModelNotFound","message":"..."}
 *
 * done.reason: stop | cancelled | length (what was to be said was cut off). usage: audio_ms,
 * load_usec, listen_usec (encoder), think_usec (language model), speak_usec (audio head and
 * vocoder), first_usec (until the first text or sound).
 *
 * A recording is cut at pauses into segments that the model can take at once; the times are those
 * of the recording. What was spoken lately, and is short, is not made again (phrases.h). Sound is
 * 24 kHz, mono, 16 bits, in the machine's order of bytes.
 *
 * Threads: bus thread, task_stop() any.
 */

#include "session/engine.h"

#define TASKS_MAX          16               /* at a time */
#define SPEAK_TEXT_MAX     ((size_t)256 << 10) /* bytes: hours of speech */
#define SPEAK_RATE_HZ      24000

enum task_event_type { TASK_LINE, TASK_SOUND, TASK_MARK, TASK_DONE, TASK_ERROR };

struct task_event {
    enum task_event_type type;
    const char *line;     /* JSON, no newline; of MARK, its name; none of SOUND */
    size_t length;
    const int16_t *sound; /* SOUND */
    size_t n_samples;
    const struct error *error; /* ERROR */
};

struct task_sink {
    void (*event)(void *userdata, const struct task_event *event);
};

struct task;

struct task_options {
    const char *model; /* id; NULL: the first that can */
    bool background;   /* yields to interactive work */
    /* speaking */
    const char *voice; /* as the model names it ("US female"); NULL: its first */
    bool aloud;        /* on the machine's loudspeaker, after what is being said there: no SOUND */
    bool now;          /* aloud, in place of what is being said */
    bool ssml;         /* the text is; its marks are told with the sound, not aloud (script.h) */
    float rate, pitch, volume; /* 1: the voice's own (script.h) */
};

/* fd: borrowed; a file or memfd of any sound format. */
struct task *transcribe_new(struct engine *engine, int fd, const struct task_options *options,
                            const struct task_sink *sink, void *userdata, struct error *err);

struct task *speak_new(struct engine *engine, const char *text, const struct task_options *options,
                       const struct task_sink *sink, void *userdata, struct error *err);

/* Ends soon, with DONE. */
void task_cancel(struct task *task);

/* What was heard so far is worked on, and then it ends, where a task can do that. */
void task_stop(struct task *task);

/* What it says aloud ends; a conversation goes on listening. */
void task_silence(struct task *task);

/* Cancelled, and no event follows. Returns NULL. */
struct task *task_abandon(struct task *task);

/* The client reads slowly: stop working until it is released. */
void task_hold(struct task *task, bool hold);

/* What is said aloud ends, and what waits to be; conversations go on listening. */
void tasks_silence(struct engine *engine);
