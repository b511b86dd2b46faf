/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A conversation: model, system prompt, tools, history; turns that stream.
 *
 * session_ask() queues a turn and returns its number. Its events arrive through the sink, on the
 * bus thread, in this order: START, PROGRESS/IMAGE..., THINKING/TEXT/TOOL_CALL..., then exactly one
 * of DONE or ERROR. Each event is one line of JSON, which is also what goes to the client. A turn
 * that is cancelled or refused before its work began has DONE or ERROR only.
 *
 *   {"event":"start","turn":1,"model":"..."}
 *   {"event":"progress","turn":1,"stage":"image","image":1,"images":2,"done":3,"total":9,
 *    "left_ms":900}
 *   {"event":"image","turn":1,"image":1,"width":..,"height":..,"cols":..,"rows":..,"views":..,
 *    "tokens":..,"predicted_ms":..,"encode_ms":..,"detail":"auto","shortened":false,"cached":false,
 *    "sha256":"..."}
 *   {"event":"progress","turn":1,"stage":"prompt","done":512,"total":2048}
 *   {"event":"thinking","turn":1,"text":"..."}      {"event":"text","turn":1,"text":"..."}
 *   {"event":"tool_call","turn":1,"id":"call_1_0","name":"set_timer","arguments":{"minutes":10}}
 *   {"event":"done","turn":1,"reason":"stop","dropped_turns":0,"usage":{...}}
 *   {"event":"error","turn":1,"name":"ContextFull","message":"..."}
 *
 * done.reason: stop | length | tool_calls | cancelled | spoken. usage: prompt_tokens,
 * cached_tokens, completion_tokens, image_tokens, load_usec, image_usec, queue_usec, prompt_usec,
 * completion_usec, first_token_usec.
 *
 * A reply with tool calls ends with reason tool_calls; the client answers with tool_result parts in
 * the next ask. A result for a call that the last reply does not have is an error. Where that reply
 * was spoken and somebody listens still (conversation.h), an ask of results alone is over at once,
 * with reason spoken, and the reply is spoken. A call that cannot be parsed (cut off by max_tokens,
 * or free text where calls are not constrained) comes as TEXT, as the model wrote it: nothing that
 * was generated is hidden, and nothing is guessed.
 *
 * Pictures stand in the order of the parts. A picture is decoded in a child process, cut into views
 * (image_plan.h) and encoded; one that was encoded before is not again. `image` counts the pictures
 * of the question from 1; 0 is one of an earlier question that has to be encoded once more. IMAGE
 * says what was chosen, `shortened` that the time did not allow for more. A picture that cannot be
 * decoded ends the turn with an ERROR, and nothing else.
 *
 * When the context is full, the oldest turns (a question and everything up to the next question) go
 * whole, never the system prompt. `dropped_turns` is the number of turns that the model does not
 * see any more; they stay in the history. A single question that does not fit is
 * ERROR_CONTEXT_FULL.
 *
 * A session has one history, of typed and spoken turns; a typed one waits for a spoken one that is
 * under way. The history holds the turns that were DONE. A cancelled turn stays with what was said
 * so far, unless nothing was; a turn that ended with ERROR leaves nothing, so that it may be asked
 * again.
 *
 * A kept session survives restarts: a turn is on disk, with its question, before its DONE is
 * delivered; one that cannot be written ends with ERROR. A session is on disk from its first DONE.
 * What was not DONE when a session is closed, or the program ends, is not part of it.
 *
 * Threads: bus thread. The sink may call anything here and in engine.h but engine_free() and
 * engine_dispatch().
 */

#include "session/engine.h"

#define SESSIONS_MAX        256               /* open at once */
#define SESSION_QUEUED_MAX  16                /* turns waiting in one session */
#define SESSION_TEXT_MAX    ((size_t)4 << 20) /* bytes of one ask, of a system prompt, of tools */
#define SESSION_STOPS_MAX   16                /* stop strings of one ask */
#define SESSION_CONTEXT_MIN 64                /* tokens */
#define SESSION_IMAGES_MAX  32                /* pictures of a conversation */
#define SESSION_IMAGE_BYTES_MAX ((uint64_t)256 << 20) /* of their files */

enum session_state { SESSION_IDLE, SESSION_QUEUED, SESSION_THINKING };

enum turn_event_type {
    TURN_START,
    TURN_PROGRESS,
    TURN_THINKING,
    TURN_TEXT,
    TURN_TOOL_CALL,
    TURN_DONE,
    TURN_ERROR,
    TURN_IMAGE,
};

struct turn_event {
    enum turn_event_type type;
    uint32_t turn;
    const char *line; /* JSON, no newline */
    size_t length;
    const char *reason; /* DONE: as above; ERROR: the error's name */
};

struct session_sink {
    void (*event)(void *userdata, const struct turn_event *event);
    void (*changed)(void *userdata); /* state, context used, model */
};

struct session_options {
    const char *model;      /* id; NULL: the default */
    const char *system;     /* NULL: none */
    const char *tools;      /* JSON array, or NULL */
    const char *title;      /* for lists; NULL: from the first question */
    size_t n_context;       /* 0: the engine's default; at most the model's */
    bool background;        /* yields to interactive sessions */
    bool keep;              /* survive the client and restarts */
    int64_t keep_alive_sec; /* INT64_MIN: the engine's default */
    const char *image;      /* JSON object of settings for its pictures (image_plan.h), or NULL */
    const char *sampling;   /* JSON object of overrides, or NULL: temperature, top_k, top_p, min_p,
                               repetition_penalty, presence_penalty, seed */
};

struct photo;

struct ask_part {
    enum { ASK_TEXT, ASK_TOOL_RESULT, ASK_IMAGE } type;
    const char *id;    /* ASK_TOOL_RESULT: of the call */
    const char *text;  /* UTF-8; ASK_IMAGE: NULL */
    int fd;            /* ASK_IMAGE: borrowed; a file or memfd (vision/decoder.h) */
    const char *image; /* ASK_IMAGE: JSON object of settings over the session's, or NULL */
    /* ASK_IMAGE in place of fd and image: decoded (photo.h), with its own settings, or NULL. The
     * turn holds it too; it may be in one turn at a time. */
    struct photo *photo;
};

struct ask_options {
    uint32_t max_tokens;     /* 0: what the context holds */
    const char *const *stop; /* NULL-terminated stop strings, or NULL */
    const char *format;      /* JSON Schema of the answer as text; "" any JSON; NULL: free text */
    bool constrain_tools;    /* calls are held to the tools' schemas (default of the bus: true) */
    bool require_tool;
    bool keep_thinking;   /* reasoning of earlier turns stays in the prompt */
    bool measure;         /* TURN_DONE has `certainty` (text/lm.h) */
    const char *sampling; /* JSON overrides for this turn, or NULL */
};

struct session;

/* ERROR_BUSY with the limit when there are too many sessions. */
struct session *session_new(struct engine *engine, const struct session_options *options,
                            const struct session_sink *sink, void *userdata, struct error *err);

/* Reopen a kept session. ERROR_INVALID_ARGUMENT for an unknown id, ERROR_BUSY while it is open. */
struct session *session_open(struct engine *engine, const char *id, const struct session_sink *sink,
                             void *userdata, struct error *err);

/* Cancel its turns and free it; a kept one stays on disk unless `forget`. No event follows. */
struct session *session_close(struct session *session, bool forget);

const char *session_id(const struct session *session);            /* 32 hex digits */
const struct model *session_model(const struct session *session); /* NULL: not there any more */
enum session_state session_state(const struct session *session);
size_t session_context_used(const struct session *session);
size_t session_context_limit(const struct session *session);
bool session_kept(const struct session *session);

int session_ask(struct session *session, const struct ask_part *parts, size_t n_parts,
                const struct ask_options *options, uint32_t *ret_turn, struct error *err);
int session_cancel(struct session *session, uint32_t turn, struct error *err);

/* The client reads slowly: stop working on this turn until it is released. Some events that are
 * under way may still come. */
void session_hold(struct session *session, uint32_t turn, bool hold);

/* The messages so far, in the usual chat form: JSON array text, malloc. */
char *session_history(const struct session *session);

/* Kept sessions on disk: JSON array of {id, title, model, turns, created_usec, used_usec};
 * malloc. */
char *session_list_kept(struct engine *engine, struct error *err);
/* ERROR_BUSY while it is open, ERROR_INVALID_ARGUMENT for an unknown id. */
int session_forget(struct engine *engine, const char *id, struct error *err);
