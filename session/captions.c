/* SPDX-License-Identifier: MIT */
#include "session/captions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "session/internal.h"
#include "session/json.h"
#include "session/recognition.h"

#define DRAFT_MSEC 300 /* between drafts, where the engine is fast enough */

struct captions {
    struct task task;
    struct voice_port port;
    void *port_userdata;
    uint64_t key; /* of its rows: no other task has it */

    atomic_bool stopping;
    atomic_uint turn;    /* the ear's, from 1 */
    atomic_uint n_ended; /* turns whose end was told */

    /* engine thread */
    bool listening; /* the port is open */
    float *features;
    float *rows; /* [rows of the longest clip][H] */
    struct recognition *recognition;
    bool recognising;
    struct clip clip;   /* that is being recognised, or was the last */
    unsigned told_turn; /* the last that has its transcript */
    int64_t begun_usec; /* when that began, */
    int64_t free_usec;  /* and from when on there may be another draft */
    char *before;       /* what the last draft of turn `before_turn` said, or NULL */
    unsigned before_turn;
    unsigned overruns, underruns; /* told so far */
};

static int no_memory(struct error *err)
{
    return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for captions.");
}

/* --- the ear's thread ------------------------------------------------------------------------ */

/* Turns are lost where there is no room for them: a pipe waits. */
static void wait_for_room(struct captions *c)
{
    const struct timespec moment = {.tv_nsec = 10000000};

    while (c->port.patient && listener_n_waiting(c->task.listener) == LISTENER_CLIPS &&
           !atomic_load(&c->task.work.cancel) && !atomic_load(&c->stopping))
        nanosleep(&moment, NULL);
}

static void heard(void *userdata, unsigned events, int64_t usec)
{
    struct captions *c = userdata;

    if (events & TURNS_BEGIN)
        atomic_fetch_add(&c->turn, 1);
    ear_tell_turns(&c->task, events, usec, atomic_load(&c->turn));
    if (events & TURNS_END)
        atomic_store(&c->n_ended, atomic_load(&c->turn));
    engine_wake(c->task.engine);
    if (events & TURNS_END)
        wait_for_room(c);
}

static const struct listener_sink listener_sink = {.heard = heard};
static const struct listener_sink listener_sink_levels = {.heard = heard, .level = ear_tell_level};

/* --- words (engine thread) ------------------------------------------------------------------- */

/* Bytes of the words that both begin with; a word is whole before a space, or the end of both. */
static size_t common_words(const char *a, const char *b)
{
    size_t n = 0, words = 0;

    for (; a[n] && a[n] == b[n]; n++)
        if (a[n] == ' ')
            words = n;
    return (!a[n] || a[n] == ' ') && (!b[n] || b[n] == ' ') ? n : words;
}

static void tell_partial(struct captions *c, const char *text)
{
    const bool again = c->before && c->before_turn == c->clip.turn;
    const size_t n = again ? common_words(c->before, text) : 0;
    struct json_object *line = ear_line("partial", clock_usec(), c->clip.turn);
    bool ok = json_set(line, "text", json_object_new_string_len(text, (int)n));

    ok = json_set(line, "tail", json_object_new_string(text + n)) && ok;
    if (*text)
        task_send_line(&c->task, line, ok);
    else
        json_object_put(line);
    free(c->before);
    c->before = strdup(text);
    c->before_turn = c->clip.turn;
}

/* Sound, and turns before this one, that were lost since the last time. */
static void tell_lost(struct captions *c, unsigned n_turns)
{
    unsigned overruns = c->overruns, underruns = c->underruns;
    struct json_object *line;
    bool ok;

    if (c->port.xruns)
        c->port.xruns(c->port_userdata, &overruns, &underruns);
    if (n_turns == 0 && overruns == c->overruns && underruns == c->underruns)
        return;
    line = ear_line("xrun", clock_usec(), 0);
    ok = json_set(line, "overruns", json_object_new_int64(overruns - c->overruns + n_turns));
    ok = json_set(line, "underruns", json_object_new_int64(underruns - c->underruns)) && ok;
    task_send_line(&c->task, line, ok);
    c->overruns = overruns;
    c->underruns = underruns;
}

/* The words of a whole turn. */
static void tell_transcript(struct captions *c, const char *text)
{
    const unsigned turn = c->clip.turn;
    struct json_object *line = ear_line("transcript", clock_usec(), turn);

    tell_lost(c, turn - c->told_turn - 1);
    task_send_line(&c->task, line, json_set(line, "text", json_object_new_string(text)));
    c->clip.state = CLIP_CONFIRMED;
    c->told_turn = turn;
    c->task.usage.audio_ms += (int64_t)c->clip.n * 1000 / LISTENER_RATE_HZ;
}

/* --- recognition (engine thread) ------------------------------------------------------------- */

/* Encode a clip and begin to read it; what was being read is given up. */
static int begin(struct captions *c, const struct clip *clip, struct error *err)
{
    struct task *task = &c->task;
    const size_t n_frames = mel_n_frames(clip->n);
    const uint64_t key[2] = {c->key, clip->number};
    int r;

    if (!listener_take(task->listener, clip->number, c->features))
        return 0; /* there is a newer one */
    c->clip = *clip;
    c->begun_usec = clock_usec();
    r = audio_encode(task->work.model->ear, c->features, n_frames, &task->work.cancel, c->rows,
                     NULL, err);
    task->usage.listen_usec += clock_usec() - c->begun_usec;
    if (r == 0)
        r = recognition_begin(c->recognition, c->rows, audio_encoder_rows(n_frames), key,
                              RECOGNITION_SLICE, err);
    c->recognising = r == 0;
    return r;
}

/* Some of its words. */
static int recognise(struct captions *c)
{
    const int64_t start = clock_usec();
    struct error err = ERROR_INIT;
    const int r = recognition_step(c->recognition, &c->task.work.cancel, &err);
    const int64_t now = clock_usec();

    c->task.usage.think_usec += now - start;
    if (r == 0 || r == -ECANCELED)
        return r;
    if (r < 0)
        log_debug("What was said could not be recognised: %s", err.text);
    c->recognising = false;
    c->free_usec = now + (now - c->begun_usec);
    if (c->clip.state == CLIP_CONFIRMED)
        tell_transcript(c, r > 0 ? recognition_text(c->recognition) : "");
    else if (r > 0)
        tell_partial(c, recognition_text(c->recognition));
    return 0;
}

/* What is to be done about the listener's clip. */
enum next {
    NEXT_NOTHING,
    NEXT_DRAFT, /* what was said of the present turn is worth another look */
    NEXT_TURN,  /* a turn has ended */
    NEXT_TOLD,  /* the turn that was recognised at its pause has ended there */
};

static enum next next_of(struct captions *c, struct clip *clip)
{
    *clip = listener_clip(c->task.listener);
    if (clip->state == CLIP_CONFIRMED && (int)(clip->turn - atomic_load(&c->n_ended)) > 0)
        return NEXT_NOTHING; /* its end comes first */
    if (c->clip.state == CLIP_OFFERED &&
        (clip->turn != c->clip.turn ||
         (clip->number == c->clip.number && clip->state == CLIP_CONFIRMED)))
        return NEXT_TOLD;
    if (clip->state == CLIP_NONE || clip->number == c->clip.number)
        return NEXT_NOTHING;
    if (clip->state == CLIP_CONFIRMED)
        return c->recognising && c->clip.state == CLIP_CONFIRMED ? NEXT_NOTHING : NEXT_TURN;
    return !c->recognising && clock_usec() >= c->free_usec ? NEXT_DRAFT : NEXT_NOTHING;
}

/* Nothing is heard any more; what was being said is a turn. */
static void close_ear(struct captions *c)
{
    static const float silence[LISTENER_FRAME];

    c->port.close(c->port_userdata);
    c->listening = false;
    if (atomic_load(&c->task.hears))
        ear_tell_listening(&c->task, false, NULL);
    listener_release(c->task.listener);
    listener_frame(c->task.listener, silence, clock_usec());
}

static int take_buffers(struct captions *c, struct error *err)
{
    struct loaded_model *model = c->task.work.model;
    const struct audio_shape *shape = &audio_encoder_info(model->ear)->shape;
    const size_t n_frames = mel_n_frames(listener_clip_max(c->task.listener));

    if (listener_open(c->task.listener, shape->n_mels, DRAFT_MSEC, err) < 0)
        return error_errno(err->code);
    c->features = reallocarray(NULL, n_frames, shape->n_mels * sizeof(*c->features));
    c->rows = reallocarray(NULL, audio_encoder_rows(n_frames), shape->n_embd * sizeof(*c->rows));
    c->recognition = recognition_new(model->lm, c->task.sequence, err);
    return c->features && c->rows && c->recognition ? 0 : no_memory(err);
}

/* Model, ear and sequence; then the microphone. */
static int load(struct captions *c, struct error *err)
{
    struct task *task = &c->task;
    struct json_object *line;
    int r = task_load(task, true, false, RECOGNITION_CONTEXT, err);

    if (r <= 0)
        return r;
    r = take_buffers(c, err);
    if (r < 0)
        return r;
    line = ear_line("start", clock_usec(), 0);
    task_send_line(task, line,
                   json_set(line, "model", json_object_new_string(task->work.model_id)));
    r = c->port.open(c->port_userdata, task, err);
    c->listening = task->announced = r == 0;
    return r;
}

/* 1: it was stopped, and all is told. */
static int step(struct task *task, struct error *err)
{
    struct captions *c = (struct captions *)task;
    struct clip clip;

    if (!c->task.announced)
        return load(c, err);
    if (atomic_load(&c->stopping) && c->listening)
        close_ear(c);
    switch (next_of(c, &clip)) {
    case NEXT_TOLD:
        c->clip.state = CLIP_CONFIRMED;
        if (!c->recognising)
            tell_transcript(c, recognition_text(c->recognition));
        return 0;
    case NEXT_TURN:
    case NEXT_DRAFT:
        return begin(c, &clip, err);
    case NEXT_NOTHING:
        break;
    }
    if (c->recognising)
        return recognise(c);
    return c->listening ? 0 : 1;
}

static bool captions_is_waiting(const struct work *work)
{
    struct captions *c = (struct captions *)work;
    struct clip clip;

    return c->task.announced && !c->recognising && !atomic_load(&c->stopping) &&
           next_of(c, &clip) == NEXT_NOTHING;
}

static bool captions_run(struct work *work, int64_t usec)
{
    struct captions *c = (struct captions *)work;
    struct error err = ERROR_INIT;
    const int r = task_go_on(&c->task, usec, step, &err);

    if (r == -ECANCELED)
        return task_finish(&c->task, "cancelled", NULL);
    if (r < 0)
        return task_fail(&c->task, &err);
    return r > 0 && task_finish(&c->task, "stop", NULL);
}

static void captions_release(struct work *work)
{
    struct captions *c = (struct captions *)work;

    atomic_store(&c->stopping, true); /* an ear that waits for room waits no more */
    c->port.close(c->port_userdata); /* what the ear tells may not come after the last event */
    c->recognition = recognition_free(c->recognition);
    free(c->features);
    free(c->rows);
    free(c->before);
    engine_drop_task_sequence(&c->task);
}

static const struct work_kind captions_kind = {
    .run = captions_run,
    .release = captions_release,
    .is_waiting = captions_is_waiting,
};

/* --- any thread ------------------------------------------------------------------------------ */

static void captions_stop(struct task *task)
{
    struct captions *c = (struct captions *)task;

    atomic_store(&c->stopping, true);
    engine_wake(task->engine);
}

/* --- bus thread ------------------------------------------------------------------------------ */

static void captions_free(struct task *task)
{
    struct captions *c = (struct captions *)task;

    c->port.free(c->port_userdata);
    listener_free(task->listener);
    free(c);
}

struct task *captions_new(struct engine *engine, const struct captions_options *options,
                          const struct voice_port *port, void *port_userdata,
                          const struct task_sink *sink, void *userdata, struct error *err)
{
    const struct task_options task_options = {.model = options->model};
    struct turns_settings turns = options->turns;
    struct captions *c = calloc(1, sizeof(*c));
    struct error own = ERROR_INIT;
    const struct model *model;

    err = err ? err : &own;
    if (!c) {
        port->free(port_userdata);
        no_memory(err);
        return NULL;
    }
    c->port = *port;
    c->port_userdata = port_userdata;
    c->key = (uint64_t)clock_usec() ^ (uint64_t)(uintptr_t)c << 16;
    c->task.free = captions_free;
    c->task.stop = captions_stop;
    turns.turn_max_msec = MIN(turns.turn_max_msec, (unsigned)CAPTIONS_TURN_MAX_MSEC);
    c->task.listener =
        listener_new(&turns, options->levels ? &listener_sink_levels : &listener_sink, c, err);
    if (c->task.listener)
        listener_on_command(c->task.listener, port->command, port_userdata);
    model = c->task.listener ? models_find_hearing(engine->models, options->model, err) : NULL;
    if (!model || task_init(&c->task, engine, &captions_kind, captions_free, model, &task_options,
                            sink, userdata, err) < 0) {
        task_discard(&c->task);
        return NULL;
    }
    c->task.work.priority = WORK_VOICE;
    task_push(&c->task);
    return &c->task;
}
