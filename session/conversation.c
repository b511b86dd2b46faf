/* SPDX-License-Identifier: MIT */
#include "session/conversation_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "session/json.h"
#include "text/row_id.h"

#define CONTEXT        4096 /* tokens and rows: some minutes of talk */
#define AHEAD_SAMPLES  ((size_t)24000) /* said before the turn has ended, at most */
#define HEAD_SAMPLES   ((size_t)6000)  /* before the first is said, where steps may be late */
#define SLICE_ROWS     32   /* of what is not urgent */

static const char system_default[] = "Respond with interleaved text and audio.";

/* What is left of a conversation for the next one of the session: its turns as they sounded. */
struct past {
    char *model_path, *system;
    struct talk talk;
    size_t n_seen;
};

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
    int r = conversation_catch_up(c, err);

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
    if (!conversation_begin_words(c))
        return no_memory(err);
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
    r = conversation_catch_up(c, err);
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
        conversation_conclude(c);
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
        conversation_conclude(c);
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
        r = conversation_take_token(c, event.id, err);
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

    conversation_tell_text(c);
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
        r = conversation_collect(c, err);
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
        conversation_conclude(c);
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
        conversation_tell_text(c);
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

    if (!c->session || !c->attached || c->goes_on || conversation_catch_up(c, &err) < 0 ||
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
        r = conversation_catch_up(c, err);
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
            conversation_conclude(c);
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
