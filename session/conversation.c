/* SPDX-License-Identifier: MIT */
#include "session/conversation.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "session/internal.h"
#include "session/json.h"
#include "session/prompt.h"
#include "session/recognition.h"
#include "session/speech.h"
#include "session/talk.h"
#include "text/row_id.h"

#define CONTEXT        4096 /* tokens and rows: some minutes of talk */
#define REPLY_MAX      1024 /* tokens and frames of one reply */
#define AHEAD_SAMPLES  ((size_t)24000) /* said before the turn has ended, at most */
#define HEAD_SAMPLES   ((size_t)6000)  /* before the first is said, where steps may be late */
#define SLICE_ROWS     32   /* of what is not urgent */

#define SPOKEN         "spoken"   /* member of the messages of spoken turns */
#define NOT_UNDERSTOOD "(spoken)" /* in place of words that nobody has written down */

static const char system_default[] = "Respond with interleaved text and audio.";

enum phase { PHASE_LOAD, PHASE_LISTEN, PHASE_REPLY, PHASE_DRAIN };

/* What is left of a conversation for the next one of the session: its turns as they sounded. */
struct past {
    char *model_path, *system;
    struct talk talk;
    size_t n_seen;
};

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

static struct conversation *conversation_of(struct task *task)
{
    return (struct conversation *)task;
}

static int no_memory(struct error *err)
{
    return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a conversation.");
}

/* --- events (any thread) --------------------------------------------------------------------- */

static void tell_msec(struct conversation *c, const char *event, unsigned turn, const char *key,
                      int64_t msec)
{
    struct json_object *line = ear_line(event, clock_usec(), turn);

    task_send_line(&c->task, line, json_set(line, key, json_object_new_int64(msec)));
}

/* --- the ear's thread ------------------------------------------------------------------------ */

static void heard(void *userdata, unsigned events, int64_t usec)
{
    struct conversation *c = userdata;

    if ((events & TURNS_SUSPECT) && atomic_load(&c->speaking))
        c->port.duck(c->port_userdata, true);
    if (events & TURNS_BEGIN) {
        atomic_fetch_add(&c->turn, 1);
        if (atomic_load(&c->speaking)) {
            c->port.cancel(c->port_userdata);
            atomic_store(&c->interrupt, true);
        }
    }
    if (events & (TURNS_CLEAR | TURNS_BEGIN))
        c->port.duck(c->port_userdata, false);
    ear_tell_turns(&c->task, events, usec, atomic_load(&c->turn));
    engine_wake(c->task.engine);
}

static const struct listener_sink listener_sink = {.heard = heard};
static const struct listener_sink listener_sink_levels = {.heard = heard, .level = ear_tell_level};

/* --- words (engine thread) ------------------------------------------------------------------- */

#define CALL_ID_MAX 40

static void call_id(const struct conversation *c, size_t i, char id[CALL_ID_MAX])
{
    snprintf(id, CALL_ID_MAX, "call_%u_%zu", c->turn_number, i);
}

static void tell_text(struct conversation *c)
{
    struct json_object *line;

    if (c->text.length > 0) {
        line = ear_line("text", clock_usec(), c->reply_turn);
        task_send_line(&c->task, line,
                       json_set(line, "text",
                                json_object_new_string_len(c->text.text, (int)c->text.length)));
        c->text.length = 0;
    }
    for (size_t i = 0; c->calls && i < json_object_array_length(c->calls); i++) {
        struct json_object *call = json_object_array_get_idx(c->calls, i), *arguments, *name;
        char id[CALL_ID_MAX];
        bool ok;

        call_id(c, c->n_calls++, id);
        line = ear_line("tool_call", clock_usec(), c->reply_turn);
        json_object_object_get_ex(call, "name", &name);
        json_object_object_get_ex(call, "arguments", &arguments);
        ok = json_set(line, "id", json_object_new_string(id));
        ok = json_set(line, "name", json_object_get(name)) && ok;
        ok = json_set(line, "arguments", json_object_get(arguments)) && ok;
        task_send_line(&c->task, line, ok);
    }
    json_object_put(c->calls);
    c->calls = NULL;
}

static void on_text(void *userdata, const char *text, size_t length)
{
    struct conversation *c = userdata;

    if (buffer_add(&c->text, text, length) < 0)
        c->task.out_of_memory = true;
}

static void on_thinking(void *userdata, const char *text, size_t length)
{
    (void)userdata, (void)text, (void)length; /* it is not said either */
}

static void on_call(void *userdata, const char *name, struct json_object *arguments)
{
    struct conversation *c = userdata;
    struct json_object *call = json_object_new_object();
    bool ok = json_set(call, "name", json_object_new_string(name));

    ok = json_set(call, "arguments", json_object_get(arguments)) && ok;
    if (!c->calls)
        c->calls = json_object_new_array();
    c->called = talk_end(&c->talk);
    ok = ok && json_append(c->calls, json_object_get(call));
    json_object_put(call);
    if (!ok)
        c->task.out_of_memory = true;
}

static const struct reply_sink words_sink = {
    .text = on_text, .thinking = on_thinking, .tool_call = on_call};

static int take_token(struct conversation *c, uint32_t id, struct error *err)
{
    struct error broken = ERROR_INIT;

    if (talk_add_id(&c->talk, id, err) < 0)
        return -ENOMEM;
    if (reply_push(c->words, id, &broken) < 0)
        log_debug("A tool call could not be read: %s", broken.text);
    return c->task.out_of_memory ? no_memory(err) : 0;
}

/* --- a turn (engine thread) ------------------------------------------------------------------ */

/* The user's turn: <|im_start|>user, its rows, <|im_end|>, and the beginning of the reply. */
static int put_clip(struct conversation *c, const struct clip *clip, struct error *err)
{
    struct loaded_model *model = c->task.work.model;
    const struct tokenizer *tokenizer = model->lm->tokenizer;
    const size_t n_frames = mel_n_frames(clip->n), n_rows = audio_encoder_rows(n_frames);
    const uint64_t key[2] = {c->key, clip->number};
    const int64_t start = clock_usec();
    float *rows;
    int r;

    r = speech_prompt_begin(tokenizer, "user", &c->talk.ids, err);
    rows = r == 0 ? talk_add_rows(&c->talk, n_rows, err) : NULL;
    if (!rows)
        return error_errno(err->code);
    r = audio_encode(model->ear, c->features, n_frames, &c->task.work.cancel, rows, NULL, err);
    for (size_t i = 0; i < n_rows && r == 0; i++)
        r = talk_add_id(&c->talk, row_id(key, i), err);
    if (r == 0)
        r = speech_prompt_end(tokenizer, &c->talk.ids, err);
    if (r == 0)
        r = speech_prompt_begin(tokenizer, "assistant", &c->talk.ids, err);
    c->listen_usec += clock_usec() - start;
    return r;
}

static bool is_spoken(struct json_object *message)
{
    return json_object_get_boolean(json_object_object_get(message, SPOKEN));
}

static bool has_role(struct json_object *message, const char *wanted)
{
    const char *role = json_member_text(message, "role");

    return role && strcmp(role, wanted) == 0;
}

/* What the session's messages have that was not said here. */
static int catch_up(struct conversation *c, struct error *err)
{
    struct json_object *messages = c->session->messages;
    const size_t n = json_object_array_length(messages);
    int r = 0;

    for (; c->n_seen < n && r == 0; c->n_seen++) {
        struct json_object *message = json_object_array_get_idx(messages, c->n_seen);

        if (is_spoken(message) && c->n_seen >= c->n_loaded)
            continue;
        if (has_role(message, "user"))
            talk_begin_turn(&c->talk);
        r = prompt_message(c->task.work.model->lm, message, &c->talk.ids, err);
    }
    return r;
}

/* What the context has for a reply, whatever was said before. */
static size_t reply_room(const struct conversation *c)
{
    return MIN(REPLY_MAX, sequence_n_context(c->task.sequence) / 2);
}

/* The oldest turns go until n more tokens fit. */
static void make_room(struct conversation *c, size_t n)
{
    const size_t n_context = sequence_n_context(c->task.sequence);

    talk_make_room(&c->talk, n_context - MIN(n, n_context));
}

/* For the next turn the last one may go too. */
static void make_room_for_turn(struct conversation *c)
{
    const size_t n_clip = audio_encoder_rows(mel_n_frames(listener_clip_max(c->task.listener)));

    talk_begin_turn(&c->talk);
    make_room(c, reply_room(c) + MIN(n_clip, sequence_n_context(c->task.sequence) / 8));
    c->talk.n_turns--;
}

static bool is_prepared(const struct conversation *c)
{
    return !c->session || (c->n_prepared == c->talk.ids.n &&
                           c->n_seen == json_object_array_length(c->session->messages));
}

/* Part of what will be in front of the next clip goes into the sequence while nobody waits for
 * it. */
static int prepare(struct conversation *c, struct error *err)
{
    const float *hidden;
    size_t n_script;
    int r = catch_up(c, err);

    if (r < 0 || is_prepared(c))
        return r;
    make_room_for_turn(c);
    n_script = c->talk.ids.n;
    r = speech_prompt_begin(c->task.work.model->lm->tokenizer, "user", &c->talk.ids, err);
    if (r == 0)
        r = talk_feed(&c->talk, c->task.sequence, SLICE_ROWS, &c->task.work.cancel, &hidden, err);
    if (r == 0 && sequence_n(c->task.sequence) == c->talk.ids.n) {
        sequence_mark(c->task.sequence);
        c->n_prepared = n_script;
    }
    c->talk.ids.n = n_script;
    return r;
}

/* Begin to think: the talk ends where a reply begins. */
static int begin_reply(struct conversation *c, struct error *err)
{
    struct loaded_model *model = c->task.work.model;
    const struct speech_options options = {
        .kind = MODES_INTERLEAVED,
        .n_max = REPLY_MAX,
        .text = SAMPLING_GREEDY,
        .audio = c->sampling,
    };
    const float *hidden = NULL;
    const int64_t start = clock_usec();
    int r;

    make_room(c, reply_room(c));
    r = talk_feed(&c->talk, c->task.sequence, SIZE_MAX, &c->task.work.cancel, &hidden, err);
    c->think_usec = clock_usec() - start;
    if (r < 0)
        return r;
    sequence_mark(c->task.sequence);
    c->reply = c->called = talk_end(&c->talk);
    vocoder_reset(model->vocoder);
    c->speech = speech_new(c->task.sequence, model->lm, model->depthformer, &options, hidden, err);
    if (!c->speech)
        return error_errno(err->code);
    reply_free(c->words);
    c->words = reply_new(model->lm->tokenizer, &words_sink, c);
    if (!c->words)
        return no_memory(err);
    c->text.length = 0;
    json_object_put(c->calls);
    c->calls = NULL;
    c->n_calls = 0;
    c->n_pending = 0;
    c->n_audio = 0;
    c->speak_usec = 0;
    c->confirmed = c->made = c->announced = c->cut = false;
    c->phase = PHASE_REPLY;
    model->speaker = &c->task;
    return 0;
}

/* Hear a clip, and begin to think about it. */
static int begin_clip(struct conversation *c, const struct clip *clip, struct error *err)
{
    int r;

    c->clip = *clip;
    if (!listener_take(c->task.listener, clip->number, c->features))
        return 0;
    c->listen_usec = 0;
    r = catch_up(c, err);
    if (r < 0)
        return r;
    talk_begin_turn(&c->talk);
    r = put_clip(c, clip, err);
    return r < 0 ? r : begin_reply(c, err);
}

/* The turn is not over, or not worth keeping: as if its clip had never been. */
static void forget_reply(struct conversation *c)
{
    c->speech = speech_free(c->speech);
    c->task.work.model->speaker = NULL;
    if (c->talk.n_turns > 0)
        talk_cut(&c->talk, c->talk.turns[--c->talk.n_turns]);
    c->phase = PHASE_LISTEN;
}

/* The user's words are wanted too: keep the rows of the clip. One that was not done is given up. */
static void begin_transcript(struct conversation *c)
{
    const struct talk_place clip = c->talk.turns[c->talk.n_turns - 1];
    const size_t width = c->talk.width, n = c->reply.n_rows - clip.n_rows;
    const uint64_t key[2] = {c->key, c->clip.number};
    struct error err = ERROR_INIT;

    memcpy(c->said, c->talk.rows + clip.n_rows * width, n * width * sizeof(*c->said));
    c->said_turn = c->reply_turn;
    c->recognising = recognition_begin(c->recognition, c->said, n, key, SLICE_ROWS, &err) == 0;
}

/* {"role", "content", "spoken"}: takes the content */
static struct json_object *spoken_message(const char *role, struct json_object *content)
{
    struct json_object *message = json_object_new_object();
    bool ok = json_set(message, "role", json_object_new_string(role));

    ok = json_set(message, "content", content) && ok;
    ok = json_set(message, SPOKEN, json_object_new_boolean(true)) && ok;
    if (ok)
        return message;
    json_object_put(message);
    return NULL;
}

/* The calls as they stand in a message. */
static struct json_object *calls_of_message(const struct conversation *c)
{
    struct json_object *calls = json_object_new_array();

    for (size_t i = 0; i < json_object_array_length(c->calls); i++) {
        struct json_object *call = json_object_new_object();
        char id[CALL_ID_MAX];
        bool ok;

        call_id(c, i, id);
        ok = json_set(call, "id", json_object_new_string(id));
        ok = json_set(call, "type", json_object_new_string("function")) && ok;
        ok = json_set(call, "function",
                      json_object_get(json_object_array_get_idx(c->calls, i))) &&
             ok;
        if (!json_append(calls, call) || !ok) {
            json_object_put(calls);
            return NULL;
        }
    }
    return calls;
}

/* What is left of the reply in the talk, taken apart once more. Nothing waits to be told. */
static struct json_object *reply_message(struct conversation *c)
{
    const struct talk *talk = &c->talk;
    struct error broken = ERROR_INIT;
    struct json_object *message;

    reply_free(c->words);
    c->words = reply_new(c->task.work.model->lm->tokenizer, &words_sink, c);
    for (size_t i = c->reply.n_ids; c->words && i < talk->ids.n; i++)
        if (!is_row_id(talk->ids.ids[i]))
            reply_push(c->words, talk->ids.ids[i], &broken);
    if (c->words)
        reply_finish(c->words, &broken);
    message = c->words ? spoken_message("assistant",
                                        json_object_new_string_len(c->text.text ? c->text.text : "",
                                                                   (int)c->text.length))
                       : NULL;
    if (message && c->calls && !json_set(message, "tool_calls", calls_of_message(c))) {
        json_object_put(message);
        message = NULL;
    }
    c->text.length = 0;
    json_object_put(c->calls);
    c->calls = NULL;
    return message;
}

/* The messages of the turn that is over. */
static int collect_messages(struct conversation *c, struct error *err)
{
    c->messages = TAKE_PTR(c->results);
    if (!c->messages) {
        c->messages = json_object_new_array();
        if (!json_append(c->messages,
                         spoken_message("user", json_object_new_string(NOT_UNDERSTOOD))))
            return no_memory(err);
    }
    return json_append(c->messages, reply_message(c)) ? 0 : no_memory(err);
}

static int add_to_history(struct conversation *c, struct error *err)
{
    _cleanup_(freep) char *title = NULL;
    struct past_turn turn = {
        .number = c->turn_number,
        .model = c->session_model,
        .reason = json_member_text(c->done, "reason"),
        .messages = c->messages,
        .usage = json_object_object_get(c->done, "usage"),
        .n_tokens = c->talk.ids.n,
        .n_dropped = c->session->n_dropped,
    };
    struct event *event = event_new(EVENT_SPOKEN, 0);

    if (!c->title)
        title = session_make_title(
            json_member_text(json_object_array_get_idx(c->messages, 0), "content"));
    turn.title = c->title ? c->title : title;
    if (!event || !turn.title) {
        event_free(event);
        return no_memory(err);
    }
    event->session = c->session;
    event->n_tokens = turn.n_tokens;
    event->n_context = sequence_n_context(c->task.sequence);
    event->messages = history_add(c->session, &turn, err);
    if (!event->messages) {
        event_free(event);
        return error_errno(err->code);
    }
    queue_push(&c->task.engine->events, &event->node);
    return 0;
}

/* The turn that is over goes into the history, with what was understood of it by now. */
static void conclude(struct conversation *c)
{
    const char *words = c->understood ? recognition_text(c->recognition) : "";
    struct error err = ERROR_INIT;
    bool ok = json_set(c->done, "usec", json_object_new_int64(clock_usec()));

    if (words[0])
        ok = json_set(json_object_array_get_idx(c->messages, 0), "content",
                      json_object_new_string(words)) &&
             ok;
    /* What cannot be kept ends no conversation. */
    if (c->session && add_to_history(c, &err) < 0)
        ok = json_set(c->done, "message", json_object_new_string(err.text)) && ok;
    task_send_line(&c->task, TAKE_PTR(c->done), ok);
    json_object_put(c->messages);
    c->messages = NULL;
}

/* Some work on the words; there is nothing better to do. */
static int transcribe(struct conversation *c)
{
    struct error err = ERROR_INIT;
    const int r = recognition_step(c->recognition, &c->task.work.cancel, &err);
    struct json_object *line;

    if (r == 0 || r == -ECANCELED)
        return r;
    c->recognising = false;
    c->understood = r > 0;
    if (r < 0) {
        log_debug("A turn has no transcript: %s", err.text);
    } else if (c->transcripts) {
        line = ear_line("transcript", clock_usec(), c->said_turn);
        task_send_line(&c->task, line,
                       json_set(line, "text",
                                json_object_new_string(recognition_text(c->recognition))));
    }
    if (c->done)
        conclude(c);
    return 0;
}

/* What was thought so far may be said, unless the user has begun another turn. */
static void speak(struct conversation *c)
{
    c->confirmed = true;
    c->n_prepared = 0;
    c->number = c->port.begin(c->port_userdata);
    atomic_store(&c->interrupt, false);
    c->is_full = false;
    atomic_store(&c->speaking, true);
    listener_set_busy(c->task.listener, true, c->half_duplex && !c->mute);
    if ((int)(atomic_load(&c->turn) - c->reply_turn) > 0)
        atomic_store(&c->interrupt, true);
}

/* The turn has ended. */
static void confirm(struct conversation *c)
{
    if (c->done) { /* there was no time for the words of the one before */
        c->recognising = false;
        conclude(c);
    }
    c->reply_turn = c->clip.turn;
    c->turn_number = atomic_fetch_add(&c->session->last_turn, 1) + 1;
    c->understood = false;
    begin_transcript(c);
    speak(c);
}

/* Results of tool calls are in the talk already. */
static int go_on(struct conversation *c, struct error *err)
{
    const int r = begin_reply(c, err);

    c->goes_on = false;
    c->listen_usec = 0;
    c->clip.confirmed_usec = clock_usec();
    if (r == 0)
        speak(c);
    return r;
}

/* One token or frame of the reply. */
static int think(struct conversation *c, struct error *err)
{
    struct vocoder *vocoder = c->task.work.model->vocoder;
    float *room = c->pending + c->n_pending;
    int64_t start = clock_usec();
    struct speech_event event;
    size_t n = 0;
    int r = speech_next(c->speech, &c->task.work.cancel, &event);

    c->think_usec += clock_usec() - start;
    if (r < 0)
        return r;
    start = clock_usec();
    if (r == 0) {
        struct error broken = ERROR_INIT;

        reply_finish(c->words, &broken);
        c->made = true;
        c->cut = !speech_is_complete(c->speech);
        if (c->n_audio > 0)
            n = vocoder_flush(vocoder, room);
    } else if (event.is_frame) {
        r = talk_add_frame(&c->talk, c->task.work.model->depthformer, event.codes, err);
        if (r == 0 && event.heard &&
            vocoder_push(vocoder, &event.codes, 1, &c->task.work.cancel, room, &n) == -ECANCELED)
            return -ECANCELED;
    } else {
        r = take_token(c, event.id, err);
    }
    c->n_pending += n;
    c->n_audio += n;
    c->speak_usec += clock_usec() - start;
    return MIN(r, 0);
}

static void tell_audio_start(struct conversation *c)
{
    const unsigned latency =
        c->port.latency_msec ? c->port.latency_msec(c->port_userdata) : 0;
    const int64_t now = clock_usec();
    struct json_object *line = ear_line("audio_start", now, c->reply_turn);
    bool ok = json_set(line, "after_ms",
                       json_object_new_int64((now - c->clip.confirmed_usec) / 1000));

    if (latency > 0) /* 0: the loudspeaker is opened with what comes now */
        ok = json_set(line, "latency_ms", json_object_new_int64(latency)) && ok;
    task_send_line(&c->task, line, ok);
    c->announced = true;
}

static bool is_mute(const struct conversation *c, struct error *err)
{
    return c->port.is_mute && c->port.is_mute(c->port_userdata, err);
}

static bool mute_changed(const struct conversation *c)
{
    struct error err;

    return is_mute(c, &err) != c->mute;
}

/* The loudspeaker is not there, or is again. Nobody has to be silent for one that is not. */
static void tell_mute(struct conversation *c)
{
    struct error err = ERROR_INIT;
    const bool mute = is_mute(c, &err);
    struct json_object *line;
    bool ok;

    if (mute == c->mute)
        return;
    c->mute = mute;
    listener_set_busy(c->task.listener, true, c->half_duplex && !mute);
    line = ear_line("loudspeaker", clock_usec(), 0);
    ok = json_set(line, "on", json_object_new_boolean(!mute));
    if (mute)
        ok = json_set(line, "message", json_object_new_string(err.text)) && ok;
    task_send_line(&c->task, line, ok);
}

/* Say what was made. False: the mouth is full. */
static bool say(struct conversation *c)
{
    size_t n;

    if (c->n_pending == 0)
        return true;
    if (!c->announced)
        tell_audio_start(c);
    n = c->port.write(c->port_userdata, c->number, c->pending, c->n_pending);
    c->n_pending -= n;
    memmove(c->pending, c->pending + n, c->n_pending * sizeof(*c->pending));
    c->is_full = c->n_pending > 0;
    return !c->is_full;
}

/* What was heard of the reply stays: ids up to the last frame that came out whole; and calls, which
 * somebody may have acted on. */
static int keep_heard(struct conversation *c, uint64_t n_heard, struct error *err)
{
    const struct depthformer_info *info = depthformer_info(c->task.work.model->depthformer);
    const size_t n_frames = (size_t)(n_heard / VOCODER_FRAME);
    const uint32_t *ids = c->talk.ids.ids;
    struct talk_place place = c->called;
    int32_t end[CODEBOOKS];
    size_t n = 0;

    for (size_t i = place.n_ids; i < c->talk.ids.n && n < n_frames; i++) {
        if (is_row_id(ids[i])) {
            n++;
            place.n_rows++;
        }
        place.n_ids = i + 1;
    }
    talk_cut(&c->talk, n > 0 ? place : c->called);
    if (n == 0)
        return 0;
    for (int book = 0; book < CODEBOOKS; book++)
        end[book] = (int32_t)info->n_codes;
    return talk_add_frame(&c->talk, c->task.work.model->depthformer, end, err);
}

static struct json_object *done_line(struct conversation *c, const char *reason)
{
    const struct {
        const char *key;
        int64_t value;
    } numbers[] = {
        {"audio_ms", (int64_t)(c->n_audio * 1000 / SPEAK_RATE_HZ)},
        {"listen_usec", c->listen_usec},
        {"think_usec", c->think_usec},
        {"speak_usec", c->speak_usec},
        {"context_tokens", (int64_t)c->talk.ids.n},
    };
    struct json_object *line = ear_line("turn_done", clock_usec(), c->reply_turn);
    struct json_object *usage = json_object_new_object();
    bool ok = json_set(line, "reason", json_object_new_string(reason));

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        ok = json_set(usage, numbers[i].key, json_object_new_int64(numbers[i].value)) && ok;
    if (json_set(line, "usage", usage) && ok)
        return line;
    json_object_put(line);
    return NULL;
}

static void tell_xruns(struct conversation *c)
{
    unsigned overruns = 0, underruns = 0;
    struct json_object *line;
    bool ok;

    if (!c->port.xruns)
        return;
    c->port.xruns(c->port_userdata, &overruns, &underruns);
    if (overruns == c->overruns && underruns == c->underruns)
        return;
    line = ear_line("xrun", clock_usec(), 0);
    ok = json_set(line, "overruns", json_object_new_int64(overruns - c->overruns));
    ok = json_set(line, "underruns", json_object_new_int64(underruns - c->underruns)) && ok;
    task_send_line(&c->task, line, ok);
    c->overruns = overruns;
    c->underruns = underruns;
}

/* The reply is over: said to its end, or broken off for this reason. */
static int end_reply(struct conversation *c, const char *broken_off, struct error *err)
{
    const char *reason = broken_off       ? broken_off
                         : c->cut         ? "length"
                         : c->n_calls > 0 ? "tool_calls"
                                          : "stop";
    int r = 0;

    tell_text(c);
    if (broken_off) {
        const uint64_t n_heard = c->port.heard(c->port_userdata, c->number);

        if (atomic_load(&c->interrupt))
            tell_msec(c, "interrupted", c->reply_turn, "heard_ms",
                      (int64_t)(n_heard * 1000 / SPEAK_RATE_HZ));
        r = keep_heard(c, n_heard, err);
    } else if (c->announced) {
        tell_msec(c, "audio_end", c->reply_turn, "audio_ms",
                  (int64_t)(c->n_audio * 1000 / SPEAK_RATE_HZ));
    }
    if (r == 0)
        r = collect_messages(c, err);
    if (r == 0)
        r = speech_prompt_end(c->task.work.model->lm->tokenizer, &c->talk.ids, err);
    tell_xruns(c);
    if (r == 0 && !(c->done = done_line(c, reason)))
        r = no_memory(err);
    c->task.usage.listen_usec += c->listen_usec;
    c->task.usage.think_usec += c->think_usec;
    c->task.usage.speak_usec += c->speak_usec;
    c->task.usage.audio_ms += (int64_t)(c->n_audio * 1000 / SPEAK_RATE_HZ);
    c->speech = speech_free(c->speech);
    c->task.work.model->speaker = NULL;
    atomic_store(&c->speaking, false);
    atomic_store(&c->interrupt, false);
    listener_set_busy(c->task.listener, false, false);
    c->phase = PHASE_LISTEN;
    if (r == 0 && !c->recognising)
        conclude(c);
    return r;
}

/* Whether there is a clip that was not worked on. */
static bool has_clip(const struct conversation *c)
{
    const struct clip clip = listener_clip(c->task.listener);

    return clip.state != CLIP_NONE && clip.number != c->clip.number;
}

/* Whether there is nothing to do for the conversation itself. */
static bool is_quiet(const struct conversation *c)
{
    const struct clip clip = listener_clip(c->task.listener);
    const bool interrupted = atomic_load(&c->interrupt);

    switch (c->phase) {
    case PHASE_LOAD:
        return false;
    case PHASE_LISTEN:
        return (!c->goes_on && !has_clip(c)) || c->task.work.model->speaker;
    case PHASE_REPLY:
        if (!c->confirmed)
            return clip.state == CLIP_OFFERED && clip.number == c->clip.number &&
                   (c->made || c->n_pending >= AHEAD_SAMPLES);
        return !interrupted && c->is_full && !c->port.has_room(c->port_userdata) &&
               !mute_changed(c);
    case PHASE_DRAIN:
        return !interrupted && !c->port.is_idle(c->port_userdata) && !mute_changed(c);
    }
    return false;
}

static bool must_prepare(const struct conversation *c)
{
    return c->phase == PHASE_LISTEN && is_quiet(c) && !c->task.work.model->speaker && !c->done &&
           !is_prepared(c);
}

static bool must_wait(const struct conversation *c)
{
    return is_quiet(c) && !c->recognising && !must_prepare(c);
}

/* Whether the sound would break off at the next step, were that late: then some more comes
 * first. */
static bool is_too_early(const struct conversation *c)
{
    const size_t n_head = HEAD_SAMPLES * (c->underruns > 0 ? 2 : 1);
    double load = 0;

    if (c->announced || c->made || c->n_pending >= n_head)
        return false;
    return c->underruns > 0 || (getloadavg(&load, 1) == 1 &&
                                load >= (double)pool_n_threads(c->task.engine->pool));
}

static int reply(struct conversation *c, struct error *err)
{
    if (!c->confirmed) {
        const struct clip clip = listener_clip(c->task.listener);
        const bool is_next = clip.turn != c->clip.turn; /* this one has ended unseen */

        if (!is_next && (clip.number != c->clip.number || clip.state == CLIP_NONE)) {
            forget_reply(c);
            return 0;
        }
        if (!is_next)
            c->clip = clip;
        if (is_next || clip.state == CLIP_CONFIRMED)
            confirm(c);
    }
    if (c->confirmed) {
        if (atomic_load(&c->interrupt))
            return end_reply(c, "interrupted", err);
        tell_text(c);
        if (!is_too_early(c) && !say(c))
            return 0;
    }
    if (!c->made)
        return c->confirmed || c->n_pending < AHEAD_SAMPLES ? think(c, err) : 0;
    if (c->confirmed) {
        c->is_full = !c->port.end(c->port_userdata, c->number);
        if (!c->is_full)
            c->phase = PHASE_DRAIN;
    }
    return 0;
}

/* The system turn. */
static int put_system(struct conversation *c, struct error *err)
{
    const struct tokenizer *tokenizer = c->task.work.model->lm->tokenizer;
    const char *text = c->system ? c->system : system_default;
    int r = speech_prompt_begin(tokenizer, "system", &c->talk.ids, err);

    if (r == 0)
        r = speech_prompt_add(tokenizer, text, strlen(text), false, &c->talk.ids, err);
    return r < 0 ? r : speech_prompt_end(tokenizer, &c->talk.ids, err);
}

/* A second sequence for the user's words. It counts as part of the first. */
static int take_recognition(struct conversation *c, size_t n_rows, struct error *err)
{
    struct lm *lm = c->task.work.model->lm;
    const size_t n_context = MIN((size_t)RECOGNITION_CONTEXT, lm->model->hparams.n_context);

    c->said = malloc(n_rows * c->talk.width * sizeof(*c->said));
    if (!c->said)
        return no_memory(err);
    c->other = sequence_new(lm, n_context, c->task.engine->now.kv, err);
    if (c->other)
        c->recognition = recognition_new(lm, c->other, err);
    return c->recognition ? 0 : error_errno(err->code);
}

static int take_buffers(struct conversation *c, struct error *err)
{
    const struct audio_shape *shape = &audio_encoder_info(c->task.work.model->ear)->shape;
    const size_t n_max = listener_clip_max(c->task.listener);

    c->talk.width = c->task.work.model->lm->model->hparams.n_embd;
    if (listener_open(c->task.listener, shape->n_mels, 0, err) < 0)
        return error_errno(err->code);
    c->features = malloc(mel_n_frames(n_max) * shape->n_mels * sizeof(*c->features));
    c->pending = malloc((AHEAD_SAMPLES + 2 * VOCODER_FRAME) * sizeof(*c->pending));
    if (!c->features || !c->pending)
        return no_memory(err);
    return take_recognition(c, audio_encoder_rows(mel_n_frames(n_max)), err);
}

struct past *conversation_past_free(struct past *past)
{
    if (past) {
        free(past->model_path);
        free(past->system);
        talk_done(&past->talk);
    }
    free(past);
    return NULL;
}

/* For the next one, if it has this model and these instructions. Nothing is being said. */
static void leave_past(struct conversation *c)
{
    struct error err = ERROR_INIT;
    struct past *past;

    if (!c->session || !c->attached || c->goes_on || catch_up(c, &err) < 0 ||
        !(past = calloc(1, sizeof(*past))))
        return;
    past->model_path = strdup(c->task.work.model_path);
    if (!past->model_path) {
        free(past);
        return;
    }
    past->system = TAKE_PTR(c->system);
    past->talk = c->talk;
    c->talk = (struct talk){0};
    past->n_seen = c->n_seen;
    c->session->past = past;
}

/* 1: there is one. */
static int take_past(struct conversation *c)
{
    struct past *past = TAKE_PTR(c->session->past);
    const bool fits = past && strcmp(past->model_path, c->task.work.model_path) == 0 &&
                      strcmp(past->system ? past->system : system_default,
                             c->system ? c->system : system_default) == 0;

    if (fits) {
        c->talk = past->talk;
        past->talk = (struct talk){0};
        c->n_seen = past->n_seen;
    }
    conversation_past_free(past);
    return fits;
}

/* The system turn, and what was said and written in the session before. */
static int put_past(struct conversation *c, struct error *err)
{
    int r = take_past(c) ? 0 : put_system(c, err);

    c->session->conversation = &c->task;
    c->attached = true;
    c->n_loaded = json_object_array_length(c->session->messages);
    if (r == 0)
        r = catch_up(c, err);
    if (r == 0)
        make_room_for_turn(c);
    return r;
}

/* Model, ear, voice, sequence; then the microphone. */
static int load(struct conversation *c, struct error *err)
{
    struct task *task = &c->task;
    const float *hidden;
    struct json_object *line;
    int r = task_load(task, true, true, CONTEXT, err);

    if (r <= 0)
        return r;
    r = take_buffers(c, err);
    if (r == 0)
        r = put_past(c, err);
    if (r == 0)
        r = talk_feed(&c->talk, c->task.sequence, SIZE_MAX, &c->task.work.cancel, &hidden, err);
    if (r == 0)
        r = c->port.open(c->port_userdata, task, err);
    if (r < 0)
        return r;
    sequence_mark(task->sequence);
    line = ear_line("start", clock_usec(), 0);
    task_send_line(task, line,
                   json_set(line, "model", json_object_new_string(task->work.model_id)));
    c->phase = PHASE_LISTEN;
    return 0;
}

static int step(struct task *task, struct error *err)
{
    struct conversation *c = conversation_of(task);
    struct clip clip;

    if (must_prepare(c))
        return prepare(c, err);
    if (c->recognising && is_quiet(c))
        return transcribe(c);
    switch (c->phase) {
    case PHASE_LOAD:
        return load(c, err);
    case PHASE_LISTEN:
        clip = listener_clip(c->task.listener);
        if (is_quiet(c))
            return 0;
        return c->goes_on ? go_on(c, err) : begin_clip(c, &clip, err);
    case PHASE_REPLY:
        if (c->confirmed)
            tell_mute(c);
        return reply(c, err);
    case PHASE_DRAIN:
        tell_mute(c);
        if (atomic_load(&c->interrupt))
            return end_reply(c, "interrupted", err);
        return c->port.is_idle(c->port_userdata) ? end_reply(c, NULL, err) : 0;
    }
    return 0;
}

static bool conversation_run(struct work *work, int64_t usec)
{
    struct conversation *c = (struct conversation *)work;
    struct error err = ERROR_INIT;
    const int r = task_go_on(&c->task, usec, step, &err);

    if (r == -ECANCELED) {
        c->port.cancel(c->port_userdata);
        if (c->confirmed && c->phase != PHASE_LISTEN)
            end_reply(c, "cancelled", &err);
        else if (c->phase == PHASE_REPLY)
            forget_reply(c);
        if (c->done)
            conclude(c);
        if (err.code == ERROR_NONE)
            leave_past(c);
        return task_finish(&c->task, "cancelled", NULL);
    }
    return r < 0 && task_fail(&c->task, &err);
}

static void conversation_release(struct work *work)
{
    struct conversation *c = (struct conversation *)work;

    c->port.close(c->port_userdata); /* what the ear tells may not come after the last event */
    if (work->model && work->model->speaker == &c->task)
        work->model->speaker = NULL;
    c->speech = speech_free(c->speech);
    c->words = reply_free(c->words);
    json_object_put(c->calls);
    c->calls = NULL;
    json_object_put(c->results);
    json_object_put(c->messages);
    json_object_put(c->done);
    if (c->attached && c->session)
        c->session->conversation = NULL;
    c->recognition = recognition_free(c->recognition);
    c->other = sequence_free(c->other);
    free(c->said);
    free(c->features);
    free(c->pending);
    talk_done(&c->talk);
    buffer_done(&c->text);
    engine_drop_task_sequence(&c->task);
}

static bool conversation_is_waiting(const struct work *work)
{
    return must_wait((const struct conversation *)work);
}

static void conversation_session_closed(struct work *work, const struct session *session)
{
    struct conversation *c = (struct conversation *)work;

    if (c->session != session)
        return;
    c->session = NULL;
    atomic_store(&work->cancel, true);
}

static const struct work_kind conversation_kind = {
    .run = conversation_run,
    .release = conversation_release,
    .is_waiting = conversation_is_waiting,
    .session_closed = conversation_session_closed,
};

/* --- for typed turns (engine thread) --------------------------------------------------------- */

bool conversation_is_answering(const struct task *task)
{
    const struct conversation *c = (const struct conversation *)task;

    return c->phase == PHASE_REPLY || c->phase == PHASE_DRAIN || c->goes_on || c->done;
}

bool conversation_hears_somebody(const struct task *task)
{
    const struct conversation *c = (const struct conversation *)task;

    return (int)(atomic_load(&c->turn) - c->reply_turn) > 0;
}

/* The index of the message that has made this call, or of the last one. */
static size_t find_call(struct json_object *history, const char *id)
{
    const size_t n = json_object_array_length(history);
    struct json_object *calls;

    for (size_t i = n; i-- > 0;) {
        if (!json_object_object_get_ex(json_object_array_get_idx(history, i), "tool_calls", &calls))
            continue;
        for (size_t k = 0; k < json_object_array_length(calls); k++) {
            const char *call = json_member_text(json_object_array_get_idx(calls, k), "id");

            if (call && strcmp(call, id) == 0)
                return i;
        }
    }
    return n - 1;
}

/* Other turns lie between a call and its result: the model is reminded, in writing. */
static int repeat_call(struct conversation *c, size_t i, struct error *err)
{
    struct json_object *history = c->session->messages;
    const struct lm *lm = c->task.work.model->lm;
    size_t question = i;
    int r;

    while (question > 0 && !has_role(json_object_array_get_idx(history, question), "user"))
        question--;
    r = prompt_message(lm, json_object_array_get_idx(history, question), &c->talk.ids, err);
    if (r == 0 && question < i)
        r = prompt_message(lm, json_object_array_get_idx(history, i), &c->talk.ids, err);
    return r;
}

/* `called`: the message with the call of the result before this one. */
static int put_result(struct conversation *c, struct json_object *message, size_t *called,
                      struct error *err)
{
    const size_t call = find_call(c->session->messages, json_member_text(message, "tool_call_id"));
    int r = 0;

    if (call != *called)
        r = repeat_call(c, call, err);
    *called = call;
    if (r < 0)
        return r;
    if (!json_set(message, SPOKEN, json_object_new_boolean(true)))
        return no_memory(err);
    return prompt_message(c->task.work.model->lm, message, &c->talk.ids, err);
}

int conversation_take_results(struct task *task, uint32_t turn, struct json_object *messages,
                              struct error *err)
{
    struct conversation *c = conversation_of(task);
    struct json_object *history = c->session->messages;
    const size_t n = json_object_array_length(history);
    const size_t n_results = json_object_array_length(messages);
    const size_t n_context = sequence_n_context(task->sequence);
    size_t called = n - 1;
    struct talk_place before;
    bool is_late;
    int r = 0;

    if (c->talk.n_turns == 0 || n == 0 || n_results == 0 ||
        !is_spoken(json_object_array_get_idx(history, n - 1)))
        return 0;
    is_late = find_call(history, json_member_text(json_object_array_get_idx(messages, 0),
                                                  "tool_call_id")) != called;
    if (is_late)
        talk_begin_turn(&c->talk);
    before = talk_end(&c->talk);
    for (size_t i = 0; i < n_results && r == 0; i++)
        r = put_result(c, json_object_array_get_idx(messages, i), &called, err);
    if (r == 0)
        r = speech_prompt_begin(task->work.model->lm->tokenizer, "assistant", &c->talk.ids, err);
    /* The turn that they belong to has to stay with them. */
    if (r == 0 && c->talk.turns[0].n_ids + c->talk.ids.n -
                          c->talk.turns[c->talk.n_turns - 1].n_ids + reply_room(c) >
                      n_context)
        r = error_set(err, ERROR_CONTEXT_FULL,
                      "The results take %zu tokens, but the context holds %zu, the question and "
                      "the answer included.",
                      c->talk.ids.n - before.n_ids, n_context);
    if (r < 0) {
        talk_cut(&c->talk, before);
        c->talk.n_turns -= is_late;
        return r;
    }
    c->results = json_object_get(messages);
    c->turn_number = turn;
    c->understood = false;
    c->goes_on = true;
    return 1;
}

/* --- bus thread ------------------------------------------------------------------------------ */

static void interrupt(struct task *task)
{
    struct conversation *c = conversation_of(task);

    if (!atomic_load(&c->speaking))
        return;
    c->port.cancel(c->port_userdata);
    atomic_store(&c->interrupt, true);
    engine_wake(task->engine);
}

static void conversation_free(struct task *task)
{
    struct conversation *c = conversation_of(task);

    c->port.free(c->port_userdata);
    listener_free(c->task.listener);
    free(c->system);
    free(c->title);
    free(c->session_model);
    free(c);
}

struct task *conversation_new(struct session *session, const struct conversation_options *options,
                              const struct voice_port *port, void *port_userdata,
                              const struct task_sink *sink, void *userdata, struct error *err)
{
    struct conversation *c = calloc(1, sizeof(*c));
    struct engine *engine = session->engine;
    const struct task_options task_options = {.model = options->model};
    const struct model *model;
    struct error own = ERROR_INIT;

    err = err ? err : &own;
    if (!c) {
        port->free(port_userdata);
        no_memory(err);
        return NULL;
    }
    c->port = *port;
    c->port_userdata = port_userdata;
    c->half_duplex = options->half_duplex;
    c->transcripts = options->transcripts;
    c->key = (uint64_t)clock_usec() ^ (uint64_t)(uintptr_t)c << 16;
    c->task.free = conversation_free;
    c->task.listener = listener_new(&options->turns,
                               options->levels ? &listener_sink_levels : &listener_sink, c, err);
    if (c->task.listener)
        listener_on_command(c->task.listener, port->command, port_userdata);
    c->session = session;
    if ((options->system && !(c->system = strdup(options->system))) ||
        !(c->session_model = strdup(session->model_id)) ||
        (session->title && !(c->title = strdup(session->title))))
        no_memory(err);
    model = models_find_speaking(engine->models, options->model, err);
    if (model && !model->ear_path) {
        error_set(err, ERROR_INVALID_ARGUMENT, "The model %s does not hear.", model->id);
        model = NULL;
    }
    if (!c->task.listener || !model || err->code != ERROR_NONE ||
        task_init(&c->task, engine, &conversation_kind, conversation_free, model, &task_options,
                  sink, userdata, err) < 0) {
        task_discard(&c->task);
        return NULL;
    }
    c->sampling = model->talking;
    c->task.silence = interrupt;
    c->task.work.priority = WORK_VOICE;
    task_push(&c->task);
    return &c->task;
}
