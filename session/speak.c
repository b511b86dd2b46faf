/* SPDX-License-Identifier: MIT */

/*
 * A text to sound, piece by piece: each is a short sequence of its own, so that neither the context
 * nor the delay grows with the text. Between two pieces another text may be spoken.
 */

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "session/internal.h"
#include "session/json.h"
#include "session/script.h"
#include "session/speech.h"
#include "session/stretch.h"

#define FRAMES_BASE   64 /* of a reply at most: so many, */
#define FRAMES_PER_BYTE 3 /* and so many for each byte: several times what is slow speech */
#define CONTEXT       2048 /* tokens: the longest piece of a script and its frames */
#define QUIET         0.01f /* of samples that are no voice */
#define QUIET_WORDS   5    /* frames of silence that end words without punctuation, */
#define QUIET_TEXT    25   /* and any text: some models go on with silence for ever */
#define SYSTEM_MAX    512
#define KEPT_ITEMS_MAX 8 /* of a text whose phrases are looked up, and kept */

static const struct script_style neutral = {1, 1, 1};

struct speaking {
    struct task task;
    char *voice, *model_path; /* under which its phrases are kept */
    bool describes_voice;     /* as in models.h */
    struct script script;
    size_t item, done;            /* the one that is being said, and samples of it that were */
    struct phrase_sound **sounds; /* [script.n] NULL: not said yet; or NULL: none is kept */
    bool all_known;               /* every text was said before, and no model is needed */
    struct sampling sampling;     /* of codes */
    size_t quiet_max, n_quiet;    /* frames of silence that end a piece; since it was heard */
    bool heard;                   /* something of the piece */
    struct token_list ids;
    struct speech *speech; /* of the present item; NULL: between two */
    struct stretch *stretch;
    int16_t *recorded; /* [PHRASE_SAMPLES_MAX] of the present item, or NULL */
    size_t n_recorded;
    bool cut; /* a piece was not finished */

    /* aloud */
    bool aloud, now;
    bool begun, is_full, all_said; /* it has the loudspeaker; which did not take all; has all */
    bool said;                     /* something of it */
    uint32_t number;               /* of what it says there */
    unsigned n_seen;               /* changes of the sound when it was full */
    float pending[VOCODER_FRAME];
    size_t n_pending;
};

/* --- bus thread ------------------------------------------------------------------------------ */

/* What was said for the first time is kept. */
static void keep_phrases(struct speaking *speaking)
{
    const struct script *script = &speaking->script;

    for (size_t i = 0; speaking->sounds && i < script->n; i++)
        if (speaking->sounds[i]) {
            phrases_add(&speaking->task.engine->phrases, speaking->model_path, speaking->voice,
                        script->text + script->items[i].at, script->items[i].length,
                        speaking->sounds[i]);
            phrase_sound_unref(speaking->sounds[i]);
        }
    free(speaking->sounds);
}

static void speaking_free(struct task *task)
{
    struct speaking *speaking = (struct speaking *)task;

    keep_phrases(speaking);
    script_done(&speaking->script);
    stretch_free(speaking->stretch);
    free(speaking->voice);
    free(speaking->model_path);
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

/* --- a piece of text: engine thread ---------------------------------------------------------- */

static const struct script_item *item(const struct speaking *speaking)
{
    return &speaking->script.items[speaking->item];
}

/* The system turn that names the voice, as LFM2.5-Audio knows it, or LFM2-Audio. */
static void name_voice(const struct speaking *speaking, char system[SYSTEM_MAX])
{
    static const char male[] =
        "A male speaker delivers his lines with a low-pitched voice and an animated tone. The "
        "recording is of excellent quality with almost no noise and a very close-sounding "
        "atmosphere.";

    if (speaking->describes_voice)
        snprintf(system, SYSTEM_MAX, "Perform TTS.\nUse the following voice: %.400s",
                 strcmp(speaking->voice, "male") == 0 ? male : speaking->voice);
    else
        snprintf(system, SYSTEM_MAX, "Perform TTS. Use the %.100s voice.", speaking->voice);
}

static int put_prompt(struct speaking *speaking, const char *sentence, size_t length,
                      struct error *err)
{
    const struct tokenizer *tokenizer = speaking->task.work.model->lm->tokenizer;
    struct token_list *ids = &speaking->ids;
    char system[SYSTEM_MAX];
    int r;

    ids->n = 0;
    name_voice(speaking, system);
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

/* Prefill a piece of the text. */
static int begin_piece(struct speaking *speaking, struct error *err)
{
    struct task *task = &speaking->task;
    struct loaded_model *model = task->work.model;
    const struct speech_options options = {
        .kind = MODES_SEQUENTIAL,
        .n_max = FRAMES_BASE + FRAMES_PER_BYTE * item(speaking)->length,
        .text = SAMPLING_GREEDY,
        .audio = speaking->sampling,
    };
    const float *hidden = NULL;
    size_t n;
    int r = put_prompt(speaking, speaking->script.text + item(speaking)->at,
                       item(speaking)->length, err);

    if (r < 0)
        return r;
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
    speaking->speech =
        speech_new(task->sequence, model->lm, model->depthformer, &options, hidden, err);
    if (!speaking->speech)
        return error_errno(err->code);
    vocoder_reset(model->vocoder);
    model->speaker = task;
    if (speaking->sounds && item(speaking)->length <= PHRASE_TEXT_MAX)
        speaking->recorded = malloc(PHRASE_SAMPLES_MAX * sizeof(*speaking->recorded));
    speaking->n_recorded = speaking->n_quiet = 0;
    speaking->heard = false;
    return 0;
}

/* Let go of what a piece holds, finished or not. */
static void leave_piece(struct speaking *speaking)
{
    struct loaded_model *model = speaking->task.work.model;

    if (model && model->speaker == &speaking->task)
        model->speaker = NULL;
    speaking->speech = speech_free(speaking->speech);
    free(speaking->recorded);
    speaking->recorded = NULL;
}

/* The piece has fallen silent. */
static bool is_over(struct speaking *speaking, const float *samples, size_t n)
{
    bool loud = false;

    for (size_t i = 0; i < n && !loud; i++)
        loud = fabsf(samples[i]) > QUIET;
    speaking->heard |= loud;
    speaking->n_quiet = loud ? 0 : speaking->n_quiet + (speaking->heard && n > 0);
    return speaking->n_quiet >= speaking->quiet_max;
}

static void end_piece(struct speaking *speaking, bool complete)
{
    if (speaking->recorded && speaking->n_recorded == speaking->done && complete)
        speaking->sounds[speaking->item] =
            phrase_sound_new(speaking->recorded, speaking->n_recorded);
    speaking->cut = speaking->cut || !complete;
    leave_piece(speaking);
}

/* Sound of the present item; n up to VOCODER_FRAME. */
static int put_sound(struct speaking *speaking, const int16_t *samples, size_t n,
                     struct error *err)
{
    speaking->done += n;
    if (stretch_push(speaking->stretch, samples, n) < 0)
        return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for sound.");
    return 0;
}

/* The same, as the model made it. */
static int put_voice(struct speaking *speaking, const float *samples, size_t n, struct error *err)
{
    int16_t sound[VOCODER_FRAME];

    for (size_t i = 0; i < n; i++)
        sound[i] = (int16_t)lrintf(32767 * MIN(MAX(samples[i], -1.0f), 1.0f));
    if (speaking->recorded && n <= PHRASE_SAMPLES_MAX - speaking->n_recorded) {
        memcpy(speaking->recorded + speaking->n_recorded, sound, n * sizeof(*sound));
        speaking->n_recorded += n;
    }
    return put_sound(speaking, sound, n, err);
}

/* The next sound of the vocoder. As speech_next(). */
static int next_sound(struct speaking *speaking, float samples[VOCODER_FRAME], size_t *ret_n)
{
    struct task *task = &speaking->task;
    struct vocoder *vocoder = task->work.model->vocoder;
    struct speech_event event;
    int64_t start = clock_usec();
    int r = speech_next(speaking->speech, &task->work.cancel, &event);

    task->usage.think_usec += clock_usec() - start;
    start = clock_usec();
    if (r == 0)
        *ret_n = vocoder_flush(vocoder, samples);
    else if (r > 0 && event.is_frame && event.heard &&
             vocoder_push(vocoder, &event.codes, 1, &task->work.cancel, samples, ret_n) ==
                 -ECANCELED)
        r = -ECANCELED;
    task->usage.speak_usec += clock_usec() - start;
    return r;
}

/* One token or frame of a text. 1: it has been said. */
static int make_text(struct speaking *speaking, struct error *err)
{
    float samples[VOCODER_FRAME];
    size_t n = 0;
    bool over;
    int r;

    if (!speaking->speech) {
        const int64_t start = clock_usec();

        r = begin_piece(speaking, err);
        speaking->task.usage.think_usec += clock_usec() - start;
        return r;
    }
    r = next_sound(speaking, samples, &n);
    if (r < 0)
        return r;
    if (put_voice(speaking, samples, n, err) < 0)
        return error_errno(err->code);
    over = is_over(speaking, samples, n);
    if (r > 0 && !over)
        return 0;
    end_piece(speaking, over || speech_is_complete(speaking->speech));
    return 1;
}

/* --- to the client --------------------------------------------------------------------------- */

static void count_sound(struct task *task, size_t n)
{
    if (!task->usage.first_usec)
        task->usage.first_usec = clock_usec() - task->usage.started_usec;
    task->usage.audio_ms += (int64_t)(n * 1000 / SPEAK_RATE_HZ);
}

static void send_sound(struct speaking *speaking)
{
    int16_t samples[VOCODER_FRAME];
    size_t n;

    while ((n = stretch_read(speaking->stretch, samples, ARRAY_LEN(samples))) > 0) {
        count_sound(&speaking->task, n);
        task_send_sound(&speaking->task, samples, n);
    }
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
    if (speaking->said || counts.playback_open ||
        counts.playback_error.code == ERROR_NONE)
        return 0;
    return error_set(err, counts.playback_error.code, "%s", counts.playback_error.text);
}

/* Whether something is to happen first: others are to have said what they say, there must be
 * room. */
static bool aloud_must_wait(const struct speaking *speaking)
{
    struct sound *sound = speaking->task.engine->sound;

    if (!speaking->begun)
        return speaking->n_pending > 0 && !speaking->now && !sound_is_idle(sound);
    if (speaking->all_said)
        return !sound_is_idle(sound);
    return !has_room(speaking);
}

/* What is ready goes to the loudspeaker. 0: it must wait. */
static int say(struct speaking *speaking, struct error *err)
{
    struct engine *engine = speaking->task.engine;
    int16_t samples[VOCODER_FRAME];
    size_t n;

    do {
        if (speaking->n_pending == 0) {
            n = stretch_read(speaking->stretch, samples, ARRAY_LEN(samples));
            for (size_t i = 0; i < n; i++)
                speaking->pending[i] = (float)samples[i] / 32767;
            count_sound(&speaking->task, n);
            speaking->n_pending = n;
        }
        if (speaking->n_pending == 0)
            return 1;
        if (!speaking->begun) {
            if (aloud_must_wait(speaking))
                return 0;
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
    } while (!speaking->is_full);
    return check_loudspeaker(speaking, err);
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

/* --- step by step ---------------------------------------------------------------------------- */

/* A part of what is known; sound: NULL for silence. 1: that was all. */
static int copy_sound(struct speaking *speaking, const int16_t *sound, size_t n, struct error *err)
{
    static const int16_t silence[VOCODER_FRAME];
    const size_t part = MIN(n - speaking->done, VOCODER_FRAME);
    const int r = put_sound(speaking, sound ? sound + speaking->done : silence, part, err);

    return r < 0 ? r : speaking->done == n;
}

/* Some of the present item. 1: it has been said. */
static int make_item(struct speaking *speaking, struct error *err)
{
    const struct script_item *now = item(speaking);
    const struct phrase_sound *known = speaking->sounds ? speaking->sounds[speaking->item] : NULL;

    if (now->kind == SCRIPT_MARK) {
        task_send_mark(&speaking->task, speaking->script.text + now->at, now->length);
        return 1;
    }
    if (!speaking->speech && speaking->done == 0)
        stretch_set(speaking->stretch, now->kind == SCRIPT_TEXT ? &now->style : &neutral);
    if (now->kind == SCRIPT_SILENCE)
        return copy_sound(speaking, NULL,
                          (size_t)((float)now->msec * SPEAK_RATE_HZ / 1000 / now->style.rate), err);
    return known ? copy_sound(speaking, known->samples, known->n, err) : make_text(speaking, err);
}

/* Model, voice and sequence, where they are needed. 0: `announced` says whether they are there. */
static int begin(struct speaking *speaking, struct error *err)
{
    struct task *task = &speaking->task;
    int r = 1;

    if (speaking->all_known)
        task->usage.started_usec = clock_usec();
    else
        r = task_load(task, false, true, CONTEXT, err);
    if (r <= 0)
        return r;
    task_announce(task);
    return 0;
}

/* A little more. 1: all has been spoken. */
static int step(struct task *task, struct error *err)
{
    struct speaking *speaking = (struct speaking *)task;
    int r;

    if (!task->announced)
        return begin(speaking, err);
    r = speaking->aloud ? say(speaking, err) : 1;
    if (r <= 0)
        return r;
    if (speaking->item == speaking->script.n)
        return speaking->aloud ? drain(speaking) : 1;
    r = make_item(speaking, err);
    if (r < 0)
        return r;
    if (r > 0) {
        if (stretch_flush(speaking->stretch) < 0)
            return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for sound.");
        speaking->item++;
        speaking->done = 0;
    }
    if (!speaking->aloud)
        send_sound(speaking);
    return 0;
}

/* --- work ------------------------------------------------------------------------------------ */

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
    struct error err = ERROR_INIT;
    const int r = task_go_on(&speaking->task, usec, step, &err);

    if (r == -ECANCELED)
        return cancelled(speaking);
    if (r < 0)
        return task_fail(&speaking->task, &err);
    return r > 0 && task_finish(&speaking->task, speaking->cut ? "length" : "stop", NULL);
}

static void speak_release(struct work *work)
{
    struct speaking *speaking = (struct speaking *)work;

    leave_piece(speaking);
    token_list_done(&speaking->ids);
    engine_drop_task_sequence(&speaking->task);
}

/* The vocoder is another's. */
static bool voice_is_taken(const struct speaking *speaking)
{
    const struct loaded_model *model = speaking->task.work.model;
    const bool needed = !speaking->speech && speaking->item < speaking->script.n &&
                        item(speaking)->kind == SCRIPT_TEXT &&
                        !(speaking->sounds && speaking->sounds[speaking->item]);

    return needed && model && model->speaker;
}

static bool speak_is_waiting(const struct work *work)
{
    const struct speaking *speaking = (const struct speaking *)work;

    /* A piece that has begun is finished, so that a slow reader keeps nobody from speaking. */
    return voice_is_taken(speaking) ||
           (atomic_load(&speaking->task.held) && !speaking->speech) ||
           (speaking->aloud && speaking->task.announced && aloud_must_wait(speaking));
}

static const struct work_kind speak_kind = {
    .run = speak_run,
    .release = speak_release,
    .is_waiting = speak_is_waiting,
};

/* --- bus thread ------------------------------------------------------------------------------ */

/* Sounds of what was said before, where the text is short. */
static int find_phrases(struct speaking *speaking, struct phrases *phrases)
{
    const struct script *script = &speaking->script;

    if (script->n > KEPT_ITEMS_MAX)
        return 0;
    speaking->sounds = calloc(MAX(script->n, 1), sizeof(struct phrase_sound *));
    if (!speaking->sounds)
        return -ENOMEM;
    speaking->all_known = true;
    for (size_t i = 0; i < script->n; i++) {
        const struct script_item *one = &script->items[i];

        if (one->kind == SCRIPT_TEXT)
            speaking->sounds[i] = phrases_find(phrases, speaking->model_path, speaking->voice,
                                               script->text + one->at, one->length);
        if (one->kind != SCRIPT_MARK && !speaking->sounds[i])
            speaking->all_known = false;
    }
    return 0;
}

/* Whatever the engine is at, what is known is said at once. */
static void say_at_once(struct speaking *speaking)
{
    struct error err = ERROR_INIT;
    int r = 0;

    while (r == 0)
        r = step(&speaking->task, &err);
    if (r < 0)
        task_fail(&speaking->task, &err);
    else
        task_finish(&speaking->task, "stop", NULL);
    task_answer(&speaking->task);
}

static int prepare(struct speaking *speaking, const char *text, const struct model *model,
                   const struct task_options *options, struct error *err)
{
    const struct script_options reading = {
        .ssml = options->ssml,
        .n_words_max = model->n_words_max,
        .style = {.rate = options->rate, .pitch = options->pitch, .volume = options->volume},
    };

    speaking->voice = strdup(options->voice && *options->voice ? options->voice : model->voice);
    speaking->model_path = strdup(model->path);
    speaking->describes_voice = model->describes_voice;
    speaking->stretch = stretch_new(SPEAK_RATE_HZ, err);
    if (!speaking->stretch || script_read(&speaking->script, text, strlen(text), &reading, err) < 0)
        return error_errno(err->code);
    if (!speaking->voice || !speaking->model_path ||
        find_phrases(speaking, &speaking->task.engine->phrases) < 0)
        return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a task.");
    return 0;
}

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
    speaking->sampling = model->reading;
    speaking->quiet_max = model->n_words_max > 0 ? QUIET_WORDS : QUIET_TEXT;
    speaking->aloud = options->aloud;
    speaking->now = options->now;
    if (options->aloud)
        speaking->task.silence = task_cancel;
    if (task_init(&speaking->task, engine, &speak_kind, speaking_free, model, options, sink,
                  userdata, err) < 0 ||
        prepare(speaking, text, model, options, err) < 0) {
        task_discard(&speaking->task);
        return NULL;
    }
    speaking->task.finishes_pieces = true;
    if (options->aloud && options->now)
        tasks_silence(engine);
    if (speaking->all_known && !speaking->aloud)
        say_at_once(speaking);
    else
        task_push(&speaking->task);
    return &speaking->task;
}
