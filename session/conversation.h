/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Speech to speech: the user speaks, the model answers in words and sound while it still thinks,
 * and stops when it is interrupted.
 *
 *     ear (listener.h) -> features -> audio encoder -> rows -> language model
 *         -> words | codes -> vocoder -> mouth
 *
 * Ear and mouth are a voice_port: the sound device, or PCM of a client. A clip is worked on from
 * the first pause on; what comes of it is said when the turn has really ended, and forgotten when
 * the user goes on. On an interruption the mouth falls silent, and the history keeps what was
 * heard.
 *
 * It is part of a session and shares its messages (session.h). The model of the conversation has
 * typed turns as text and its own as they sounded, also those of the conversation before it, if
 * that had this model and these instructions and the session was open all the time; else they are
 * text too. To others its turns are text, with "spoken": true: the user's words where there was
 * time to write them down, else "(spoken)"; the reply as far as it was heard. Calls end the turn
 * with reason tool_calls; the client answers them, if it does, with tool_result parts of
 * session_ask() and nothing else, and the reply to that is spoken too, when the user is silent.
 * Where other turns lie between the two, the model sees the call once more before its result.
 *
 * A conversation is a task (task.h) that listens, with the lines of ear.h and these:
 *
 *   {"event":"start","usec":..,"model":"..."}
 *       the model is in memory
 *   {"event":"transcript","usec":..,"turn":1,"text":"..."}
 *       what the user said, when there is time for it
 *   {"event":"text","usec":..,"turn":1,"text":"..."}
 *       what the model says, as it says it
 *   {"event":"tool_call","usec":..,"turn":1,"id":"call_1_0","name":"set_timer","arguments":{...}}
 *   {"event":"audio_start","usec":..,"turn":1,"after_ms":310,"latency_ms":50}
 *       since the turn was seen to have ended; of the loudspeaker, where it is known
 *   {"event":"loudspeaker","usec":..,"on":false,"message":"..."}
 *       what is to be said cannot be; on: it can again
 *   {"event":"audio_end","usec":..,"turn":1,"audio_ms":5200}
 *   {"event":"interrupted","usec":..,"turn":1,"heard_ms":1840}
 *   {"event":"xrun","usec":..,"overruns":1,"underruns":0}
 *       of the devices, since the last one
 *   {"event":"turn_done","usec":..,"turn":1,"reason":"stop","usage":{...}}
 *       it is in the history; with "message": it could not be kept
 *
 * turn_done.reason: stop | length | tool_calls | interrupted | cancelled (by the end of the
 * conversation). usage: audio_ms, listen_usec, think_usec, speak_usec (task.h), context_tokens.
 * Turns are counted from 1 in each conversation.
 *
 * Threads: bus thread, but for the port.
 */

#include "session/ear.h"

struct conversation_options {
    const char *model;  /* id; NULL: the first that hears and speaks */
    const char *system; /* NULL: the one of LFM2-Audio's conversations */
    struct turns_settings turns;
    bool half_duplex; /* deaf while it speaks */
    bool levels;      /* ten LEVEL lines a second */
    bool transcripts; /* TRANSCRIPT lines */
};

struct session;

/* The session has no other conversation. The port is taken, also on failure. */
struct task *conversation_new(struct session *session, const struct conversation_options *options,
                              const struct voice_port *port, void *port_userdata,
                              const struct task_sink *sink, void *userdata, struct error *err);
