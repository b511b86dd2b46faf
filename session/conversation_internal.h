/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What conversation.c, how a conversation goes on, and conversation_words.c, what is said in words,
 * share.
 *
 * Threads: engine thread, where nothing else is said
 */

#include "base/cleanup.h"
#include "session/conversation.h"
#include "session/internal.h"
#include "session/recognition.h"
#include "session/speech.h"
#include "session/talk.h"

#define REPLY_MAX 1024 /* tokens and frames of one reply */

enum phase { PHASE_LOAD, PHASE_LISTEN, PHASE_REPLY, PHASE_DRAIN };

struct conversation {
    struct task task;
    struct voice_port port;
    void *port_userdata;
    char *system;
    bool half_duplex;
    struct sampling sampling; /* of codes */
    uint64_t key; /* of its rows: no other conversation has it */

    /* any thread */
    atomic_bool interrupt; /* somebody speaks while it does */
    atomic_bool speaking;  /* a reply is being made or said */
    atomic_uint turn;      /* of the user, from 1; the ear's */

    /* engine thread */
    struct session *session; /* NULL: it is closed */
    bool attached;           /* the session knows of it */
    char *title;             /* of the session, when this began; NULL: it had none */
    char *session_model;     /* the same */
    enum phase phase;
    float *features; /* [n_mels][frames of the longest clip] */
    struct talk talk;
    size_t n_seen;     /* messages of the session that are in the talk, or were said here */
    size_t n_loaded;   /* that there were at the beginning */
    size_t n_prepared; /* ids of the talk when the next turn was prepared; 0: it is not */
    unsigned overruns, underruns; /* told so far */

    /* the turn that is answered */
    struct clip clip; /* that was taken */
    unsigned reply_turn;
    uint32_t turn_number;        /* of the session's turns */
    bool confirmed;              /* it has ended */
    struct json_object *results; /* messages that are answered in place of a clip, or NULL */
    bool goes_on;                /* they are to be */
    int64_t listen_usec, think_usec, speak_usec;
    struct json_object *messages, *done; /* once it is over, until it is in the history; or NULL */

    /* the reply */
    struct talk_place reply;  /* where it begins */
    struct talk_place called; /* after its last call, or where it begins */
    struct speech *speech;
    struct reply *words;       /* takes its text apart */
    struct buffer text;        /* not told yet, */
    struct json_object *calls; /* and lines of calls: array, or NULL */
    unsigned n_calls;
    float *pending; /* [AHEAD_SAMPLES + VOCODER_FRAME] to be said */
    size_t n_pending;
    uint32_t number;  /* of the mouth */
    uint64_t n_audio; /* samples of it */
    bool is_full;     /* the mouth did not take all */
    bool mute;        /* it was told that nothing can be said now */
    bool made, announced, cut;

    /* what the user has said, in words */
    bool transcripts; /* are told */
    struct sequence *other;
    struct recognition *recognition;
    bool recognising, understood; /* under way; done, for the turn that is answered */
    unsigned said_turn;
    float *said; /* [rows of the longest clip][H] */
};

static inline struct conversation *conversation_of(struct task *task)
{
    return (struct conversation *)task;
}

static inline int no_memory(struct error *err)
{
    return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a conversation.");
}

/* What the context has for a reply, whatever was said before. */
static inline size_t reply_room(const struct conversation *c)
{
    return MIN(REPLY_MAX, sequence_n_context(c->task.sequence) / 2);
}

/* --- conversation_words.c -------------------------------------------------------------------- */

/* Text and calls of the reply are taken from its tokens anew; false: there is no memory. */
bool conversation_begin_words(struct conversation *c);
int conversation_take_token(struct conversation *c, uint32_t id, struct error *err);
/* What was taken and not told yet. */
void conversation_tell_text(struct conversation *c);

/* What the session's messages have that was not said here comes into the talk. */
int conversation_catch_up(struct conversation *c, struct error *err);
/* The messages of the turn that is over. Nothing waits to be told. */
int conversation_collect(struct conversation *c, struct error *err);
/* They go into the history, with what was understood of the question by now; and turn_done. */
void conversation_conclude(struct conversation *c);
