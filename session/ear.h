/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a task that listens has to do with the world: the port through which it hears and speaks,
 * and the lines that every such task tells, with the time of CLOCK_MONOTONIC in `usec`:
 *
 *   {"event":"listening","usec":..,"on":true}     the microphone is open, or not any more:
 *   "message"
 *   {"event":"level","usec":..,"db":-31}          the highest sample of the last 100 ms, if asked
 *   for
 *   {"event":"speech_start","usec":..,"turn":1}
 *   {"event":"speech_end","usec":..,"turn":1,"audio_ms":2100}
 *   {"event":"waited","usec":..}                  nobody has spoken for the time that was set
 *
 * Threads: as noted.
 */

#include <json-c/json.h>

#include "session/listener.h"
#include "session/task.h"

/* Ear and mouth. write(), end() engine thread; the others any thread. */
struct voice_port {
    bool patient; /* the ear may be kept waiting by its listener: nothing is lost by that */
    /* A command of the user's, of which no frame may tell for a while: listener_obey() on the ear's
     * thread. Bus thread, also before open(); may be NULL. */
    void (*command)(void *userdata);
    /* Frames come to the listener from now on. */
    int (*open)(void *userdata, struct task *task, struct error *err);
    /* What is being said is dropped; what follows has this number. */
    uint32_t (*begin)(void *userdata);
    /* 24 kHz mono; returns how many samples were taken: all of those whose number is over. */
    size_t (*write)(void *userdata, uint32_t number, const float *samples, size_t n);
    bool (*has_room)(void *userdata); /* after a write() or end() that was not taken */
    /* Nothing follows; false: say it again later. */
    bool (*end)(void *userdata, uint32_t number);
    void (*cancel)(void *userdata);
    void (*duck)(void *userdata, bool ducked);
    uint64_t (*heard)(void *userdata, uint32_t number); /* samples of it */
    bool (*is_idle)(void *userdata);
    /* From a sample that was taken to the ear, in milliseconds; may be NULL. Engine thread. */
    unsigned (*latency_msec)(void *userdata);
    /* Blocks that were lost because we were late, since the beginning; may be NULL. */
    void (*xruns)(void *userdata, unsigned *overruns, unsigned *underruns);
    /* What is to be said cannot be, for a while at least, and why; may be NULL. */
    bool (*is_mute)(void *userdata, struct error *err);
    /* Engine thread: nothing of the ear comes any more when it returns. Accepts one that is
     * closed. */
    void (*close)(void *userdata);
    void (*free)(void *userdata); /* bus thread; closes it first */
};

/* For the port: the ear's frames go there, on its thread. */
struct listener *ear_listener(struct task *task);
/* Whether it has anything to say: a mouth that is gone matters. */
bool ear_speaks(const struct task *task);
/* There is room again, or all was said; any thread. */
void ear_wake(struct task *task);
/* The microphone is open, or not any more, and why not; any thread. */
void ear_tell_listening(struct task *task, bool on, const struct error *why);
/* The client's ear or mouth is gone; any thread. */
void ear_hang_up(struct task *task);

/* The user's commands, bus thread. */
void ear_press(struct task *task);    /* push to talk: begin */
void ear_end_turn(struct task *task); /* what was said so far is the turn */

/* For the task: a line; turn 0: of no turn. Any thread. */
struct json_object *ear_line(const char *event, int64_t usec, unsigned turn);
/* The lines of a set of enum turns_event; turn: the present one. The ear's thread. */
void ear_tell_turns(struct task *task, unsigned events, int64_t usec, unsigned turn);
/* listener_sink.level of a listener whose userdata is a task. */
void ear_tell_level(void *userdata, float peak, int64_t usec);
