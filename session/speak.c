/* SPDX-License-Identifier: MIT */

/*
 * A text to sound, sentence by sentence: each is a short sequence of its own, so that neither the
 * context nor the delay grows with the text.
 */

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "session/internal.h"
#include "session/json.h"
#include "session/speech.h"

#define SENTENCE_MIN  40 /* bytes; what is shorter is joined with the next */
#define SENTENCE_MAX  300
#define FRAMES_BASE   64 /* of a reply at most: so many, */
#define FRAMES_PER_BYTE 3 /* and so many for each byte: several times what is slow speech */
#define CONTEXT       2048 /* tokens: a sentence of SENTENCE_MAX and its frames */

struct speaking {
    struct task task;
    char *text, *voice;
    size_t length, at; /* of what is still to be said */
    struct sampling sampling; /* of codes */
    struct token_list ids;
    struct speech *speech; /* of the present sentence; NULL: between two */
    bool cut;              /* a sentence was not finished */

    /* aloud */
    bool aloud, now;
    bool begun, is_full, all_said; /* it has the loudspeaker; which did not take all; has all */
    bool said;                     /* something of it */
    uint32_t number;               /* of what it says there */
    unsigned n_seen;               /* changes of the sound when it was full */
    float pending[2 * VOCODER_FRAME];
    size_t n_pending;
};

/* --- bus thread ------------------------------------------------------------------------------ */

static void speaking_free(struct task *task)
{
    struct speaking *speaking = (struct speaking *)task;

    free(speaking->text);
    free(speaking->voice);
    free(speaking);
}

static int check_text(const char *text, struct error *err)
{
    const size_t length = strlen(text);

    if (length > SPEAK_TEXT_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The text to be spoken has %zu bytes; the limit is %zu.", length,
                         SPEAK_TEXT_MAX);
    if (!utf8_valid(text, length))
        return error_set(err, ERROR_INVALID_ARGUMENT, "The text to be spoken is not UTF-8.");
    if (strspn(text, " \t\r\n") == length)
        return error_set(err, ERROR_INVALID_ARGUMENT, "There is no text to be spoken.");
    return 0;
}

/* --- engine thread --------------------------------------------------------------------------- */

/* Where the sentence that begins at `at` ends. */
static size_t sentence_end(const char *text, size_t at, size_t length)
{
    const size_t last = MIN(length, at + SENTENCE_MAX);
    size_t space = 0, end;

    for (end = at; end < last; end++) {
        const bool is_space = isspace((unsigned char)text[end]);

        if (is_space)
            space = end;
        if (is_space && end > at && end - at >= SENTENCE_MIN && strchr(".!?;:\n", text[end - 1]))
            return end;
    }
    if (end == length)
        return length;
    if (space > at)
        return space;
    while (end > at && ((unsigned char)text[end] & 0xc0) == 0x80)
        end--;
    return end;
}

static int put_prompt(struct speaking *speaking, const char *sentence, size_t length,
                      struct error *err)
{
    const struct tokenizer *tokenizer = speaking->task.work.model->lm->tokenizer;
    struct token_list *ids = &speaking->ids;
    char system[256];
    int r;

    ids->n = 0;
    snprintf(system, sizeof(system), "Perform TTS. Use the %.100s voice.", speaking->voice);
    r = speech_prompt_begin(tokenizer, "system", ids, err);
    if (r == 0)
        r = speech_prompt_add(tokenizer, system, strlen(system), false, ids, err);
    if (r == 0)
        r = speech_prompt_end(tokenizer, ids, err);
    if (r == 0)
        r = speech_prompt_begin(tokenizer, "user", ids, err);
    if (r == 0)
        r = speech_prompt_add(tokenizer, sentence, length, false, ids, err);
    if (r == 0)
        r = speech_prompt_end(tokenizer, ids, err);
    return r < 0 ? r : speech_prompt_begin(tokenizer, "assistant", ids, err);
}

/* Prefill the next sentence. */
static int begin_sentence(struct speaking *speaking, struct error *err)
{
    struct task *task = &speaking->task;
    struct loaded_model *model = task->work.model;
    const size_t end = sentence_end(speaking->text, speaking->at, speaking->length);
    const struct speech_options options = {
        .kind = MODES_SEQUENTIAL,
        .n_max = FRAMES_BASE + FRAMES_PER_BYTE * (end - speaking->at),
        .text = SAMPLING_GREEDY,
        .audio = speaking->sampling,
    };
    const float *hidden = NULL;
    size_t n;
    int r = put_prompt(speaking, speaking->text + speaking->at, end - speaking->at, err);

    if (r < 0)
        return r;
    speaking->at = end;
    n = sequence_rewind(task->sequence, speaking->ids.ids, speaking->ids.n);
    for (size_t part; n < speaking->ids.n; n += part) {
        part = MIN(speaking->ids.n - n, sequence_n_rows_max(task->sequence));
        r = sequence_feed_hidden(task->sequence, speaking->ids.ids + n, part, NULL,
                                 &task->work.cancel, &hidden);
        if (r == -ECANCELED)
            return r;
        if (r < 0)
            return error_set(err, ERROR_INTERNAL, "A sentence of %zu tokens did not fit.",
                             speaking->ids.n);
    }
    vocoder_reset(model->vocoder);
    speaking->speech =
        speech_new(task->sequence, model->lm, model->depthformer, &options, hidden, err);
    return speaking->speech ? 0 : error_errno(err->code);
}

static void send_sound(struct speaking *speaking, const float *samples, size_t n)
{
    struct task *task = &speaking->task;

    if (n == 0)
        return;
    if (!task->usage.first_usec)
        task->usage.first_usec = clock_usec() - task->usage.started_usec;
    task->usage.audio_ms += (int64_t)(n * 1000 / SPEAK_RATE_HZ);
    if (!speaking->aloud) {
        task_send_sound(task, samples, n);
        return;
    }
    memcpy(speaking->pending + speaking->n_pending, samples, n * sizeof(*samples));
    speaking->n_pending += n;
}

/* --- aloud ----------------------------------------------------------------------------------- */

static void tell(struct speaking *speaking, const char *event)
{
    struct json_object *line = task_line(event);

    task_send_line(&speaking->task, line,
                   json_set(line, "usec", json_object_new_int64(clock_usec())));
}

/* Whether the loudspeaker may take what it did not before. */
static bool has_room(const struct speaking *speaking)
{
    return !speaking->is_full ||
           atomic_load(&speaking->task.engine->sound_changes) != speaking->n_seen;
}

/* Whether there is a loudspeaker. One that went away is waited for, one that never was is not. */
static int check_loudspeaker(const struct speaking *speaking, struct error *err)
{
    struct sound_counts counts;

    sound_counts(speaking->task.engine->sound, &counts);
    if (speaking->said || counts.playback_open || counts.error.code == ERROR_NONE)
        return 0;
    return error_set(err, counts.error.code, "%s", counts.error.text);
}

/* What was made goes to the loudspeaker. 0: it is full. */
static int say(struct speaking *speaking, struct error *err)
{
    struct engine *engine = speaking->task.engine;
    size_t n;

    if (speaking->n_pending == 0)
        return 1;
    if (!speaking->begun) {
        speaking->begun = true;
        speaking->number = sound_begin(engine->sound);
        tell(speaking, "audio_start");
    }
    speaking->n_seen = atomic_load(&engine->sound_changes);
    n = sound_write(engine->sound, speaking->number, speaking->pending, speaking->n_pending);
    speaking->n_pending -= n;
    memmove(speaking->pending, speaking->pending + n,
            speaking->n_pending * sizeof(*speaking->pending));
    speaking->is_full = speaking->n_pending > 0;
    speaking->said |= n > 0;
    return speaking->is_full ? check_loudspeaker(speaking, err) : 1;
}

/* All was made: wait until it was heard. 1: it was. */
static int drain(struct speaking *speaking)
{
    struct engine *engine = speaking->task.engine;

    if (!speaking->begun)
        return 1;
    if (!speaking->all_said) {
        speaking->n_seen = atomic_load(&engine->sound_changes);
        speaking->all_said = sound_end(engine->sound, speaking->number);
        speaking->is_full = !speaking->all_said;
        return 0;
    }
    if (!sound_is_idle(engine->sound))
        return 0;
    tell(speaking, "audio_end");
    return 1;
}

/* Whether something is to happen first: others are to have said what they say, there must be room. */
static bool aloud_must_wait(const struct speaking *speaking)
{
    struct sound *sound = speaking->task.engine->sound;

    if (!speaking->begun)
        return speaking->n_pending > 0 && !speaking->now && !sound_is_idle(sound);
    if (speaking->all_said)
        return !sound_is_idle(sound);
    return !has_room(speaking);
}

/* One token or frame. 1: the text has been spoken. */
static int step(struct speaking *speaking, struct error *err)
{
    struct task *task = &speaking->task;
    struct vocoder *vocoder = task->work.model->vocoder;
    float samples[VOCODER_FRAME];
    struct speech_event event;
    int64_t start = clock_usec();
    size_t n;
    int r = speaking->aloud ? say(speaking, err) : 1;

    if (r <= 0)
        return r;
    if (!speaking->speech) {
        speaking->at += strspn(speaking->text + speaking->at, " \t\r\n");
        if (speaking->at == speaking->length)
            return speaking->aloud ? drain(speaking) : 1;
        r = begin_sentence(speaking, err);
        task->usage.think_usec += clock_usec() - start;
        return r;
    }
    r = speech_next(speaking->speech, &task->work.cancel, &event);
    task->usage.think_usec += clock_usec() - start;
    if (r < 0)
        return r;
    start = clock_usec();
    if (r == 0) {
        n = vocoder_flush(vocoder, samples);
        send_sound(speaking, samples, n);
        speaking->cut = speaking->cut || !speech_is_complete(speaking->speech);
        speaking->speech = speech_free(speaking->speech);
    } else if (event.is_frame && event.heard) {
        r = vocoder_push(vocoder, &event.codes, 1, &task->work.cancel, samples, &n);
        if (r == -ECANCELED)
            return r;
        if (r == 0)
            send_sound(speaking, samples, n);
    }
    task->usage.speak_usec += clock_usec() - start;
    return 0;
}

/* Model, voice and sequence, and nobody else who speaks. 0: `announced` says whether it is so. */
static int begin(struct speaking *speaking, struct error *err)
{
    struct task *task = &speaking->task;
    struct json_object *line;
    const int r = task_load(task, false, true, CONTEXT, err);

    if (r <= 0)
        return r;
    if (task->work.model->speaker)
        return 0;
    task->work.model->speaker = task;
    line = task_line("start");
    task_send_line(task, line,
                   json_set(line, "model", json_object_new_string(task->work.model_id)));
    task->announced = true;
    return 0;
}

static bool cancelled(struct speaking *speaking)
{
    struct engine *engine = speaking->task.engine;

    if (speaking->begun)
        sound_cancel(engine->sound);
    return task_finish(&speaking->task, "cancelled", NULL);
}

static bool speak_run(struct work *work, int64_t usec)
{
    struct speaking *speaking = (struct speaking *)work;
    const int64_t end = clock_usec() + usec;
    struct queue *jobs = &speaking->task.engine->jobs;
    struct error err = ERROR_INIT;
    int r = 0;

    if (atomic_load(&work->cancel))
        return cancelled(speaking);
    if (!speaking->task.announced)
        r = begin(speaking, &err);
    else
        do
            r = step(speaking, &err);
        while (r == 0 && clock_usec() < end && queue_is_empty(jobs) &&
               !work->kind->is_waiting(work));
    if (r == -ECANCELED)
        return cancelled(speaking);
    if (r < 0)
        return task_fail(&speaking->task, &err);
    return r > 0 && task_finish(&speaking->task, speaking->cut ? "length" : "stop", NULL);
}

static void speak_release(struct work *work)
{
    struct speaking *speaking = (struct speaking *)work;
    struct loaded_model *model = work->model;

    if (model && model->speaker == &speaking->task)
        model->speaker = NULL;
    speaking->speech = speech_free(speaking->speech);
    token_list_done(&speaking->ids);
    engine_drop_task_sequence(&speaking->task);
}

static bool speak_is_waiting(const struct work *work)
{
    const struct speaking *speaking = (const struct speaking *)work;
    const struct loaded_model *model = work->model;

    return (model && model->speaker && &model->speaker->work != work) ||
           (speaking->aloud && speaking->task.announced && aloud_must_wait(speaking));
}

static const struct work_kind speak_kind = {
    .run = speak_run,
    .release = speak_release,
    .is_waiting = speak_is_waiting,
};

/* --- bus thread ------------------------------------------------------------------------------ */

struct task *speak_new(struct engine *engine, const char *text, const struct task_options *options,
                       const struct task_sink *sink, void *userdata, struct error *err)
{
    struct error own = ERROR_INIT;
    const struct model *model;
    struct speaking *speaking;

    err = err ? err : &own;
    if (check_text(text, err) < 0 || (options->aloud && engine_use_sound(engine, err) < 0))
        return NULL;
    model = models_find_speaking(engine->models, options->model, err);
    if (!model)
        return NULL;
    speaking = calloc(1, sizeof(*speaking));
    if (!speaking) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a task.");
        return NULL;
    }
    speaking->text = strdup(text);
    speaking->voice = strdup(options->voice ? options->voice : model->voice);
    speaking->sampling = model->reading;
    speaking->aloud = options->aloud;
    speaking->now = options->now;
    if (options->aloud)
        speaking->task.silence = task_cancel;
    speaking->length = strlen(text);
    if (task_init(&speaking->task, engine, &speak_kind, speaking_free, model, options, sink,
                  userdata, err) < 0 ||
        !speaking->text || !speaking->voice) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a task.");
        task_discard(&speaking->task);
        return NULL;
    }
    if (options->aloud && options->now)
        tasks_silence(engine);
    task_push(&speaking->task);
    return &speaking->task;
}
