/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Speech to speech: the user speaks, the model answers in words and sound while it still thinks, and
 * stops when it is interrupted.
 *
 *     ear (listener.h) -> features -> audio encoder -> rows -> LM -> words | codes -> vocoder -> mouth
 *
 * Ear and mouth are a voice_port: the sound device, or PCM of a client. A clip is worked on from the
 * first pause on; what comes of it is said when the turn has really ended, and forgotten when the
 * user goes on. On an interruption the mouth falls silent, and the history keeps what was heard.
 *
 * A conversation is a task (task.h) whose lines have the time of CLOCK_MONOTONIC in `usec`:
 *
 *   {"event":"start","usec":..,"model":"..."}             the model is in memory
 *   {"event":"listening","usec":..,"on":true}             the microphone is open, or not any more: "message"
 *   {"event":"level","usec":..,"db":-31}                  the highest sample of the last 100 ms, if asked for
 *   {"event":"speech_start","usec":..,"turn":1}           {"event":"speech_end","usec":..,"turn":1,"audio_ms":2100}
 *   {"event":"transcript","usec":..,"turn":1,"text":"..."}  what the user said, when there is time for it
 *   {"event":"text","usec":..,"turn":1,"text":"..."}      what the model says, as it says it
 *   {"event":"tool_call","usec":..,"turn":1,"id":"call_1_0","name":"set_timer","arguments":{...}}
 *   {"event":"audio_start","usec":..,"turn":1,"after_ms":310,"latency_ms":50}   since the turn was seen to have
 *                                                              ended; of the loudspeaker, where it is known
 *   {"event":"audio_end","usec":..,"turn":1,"audio_ms":5200}
 *   {"event":"interrupted","usec":..,"turn":1,"heard_ms":1840}
 *   {"event":"xrun","usec":..,"overruns":1,"underruns":0}  of the devices, since the last one
 *   {"event":"turn_done","usec":..,"turn":1,"reason":"stop","usage":{...}}
 *   {"event":"waited","usec":..}                          nobody has spoken for the time that was set
 *
 * turn_done.reason: stop | length | interrupted.
 *
 * Threads: bus thread, but for the port.
 */

#include "session/listener.h"
#include "session/task.h"

/* Ear and mouth. write(), end() engine thread; the others any thread. */
struct voice_port {
    /* Frames come to the listener from now on. */
    int (*open)(void *userdata, struct task *conversation, struct error *err);
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
    /* Engine thread: nothing of the ear comes any more when it returns. Accepts one that is closed. */
    void (*close)(void *userdata);
    void (*free)(void *userdata); /* bus thread; closes it first */
};

struct conversation_options {
    const char *model;  /* id; NULL: the first that hears and speaks */
    const char *system; /* NULL: the one of LFM2-Audio's conversations */
    struct turns_settings turns;
    bool half_duplex; /* deaf while it speaks */
    bool levels;      /* ten LEVEL lines a second */
    bool transcripts; /* TRANSCRIPT lines */
};

/* The port is taken, also on failure. */
struct task *conversation_new(struct engine *engine, const struct conversation_options *options,
                              const struct voice_port *port, void *port_userdata,
                              const struct task_sink *sink, void *userdata, struct error *err);

/* For the port: the ear's frames, on its thread; there is room again, or all was said, on any; the
 * microphone is open, or not any more, on any; the client's ear or mouth is gone, on any. */
struct listener *conversation_listener(struct task *conversation);
void conversation_wake(struct task *conversation);
void conversation_tell_listening(struct task *conversation, bool on, const struct error *why);
void conversation_hang_up(struct task *conversation);

/* The user's commands, bus thread; task_cancel() ends it. */
void conversation_press(struct task *conversation);    /* push to talk: begin */
void conversation_end_turn(struct task *conversation); /* what was said so far is the turn */
void conversation_interrupt(struct task *conversation);
