/* SPDX-License-Identifier: MIT */

/*
 * A recording to text, segment by segment: each is a short sequence of its own, so that neither the
 * context nor the memory grows with the recording.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "session/internal.h"
#include "session/json.h"
#include "session/recognition.h"
#include "session/recording.h"

#define PARTIAL_USEC 100000 /* at most one event with the text so far in this time */

struct transcription {
    struct task task;
    struct recording *recording;
    uint64_t key; /* of its rows: no other recording has it */
    struct mel *mel;
    float *features; /* [n_mels][frames of a segment] */
    float *rows;     /* [rows of a segment][H] */
    struct recognition *recognition;
    bool in_segment;
    struct buffer whole; /* text so far */
    int64_t told_usec;
};

/* --- bus thread ------------------------------------------------------------------------------ */

static void transcription_free(struct task *task)
{
    struct transcription *t = (struct transcription *)task;

    recording_free(t->recording);
    free(t);
}

static void recording_changed(void *engine)
{
    engine_wake(engine);
}

/* --- engine thread --------------------------------------------------------------------------- */

static int no_memory(struct error *err)
{
    return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a recording.");
}

/* Features and rows of the present segment. */
static int encode(struct transcription *t, size_t *ret_n_rows, struct error *err)
{
    struct task *task = &t->task;
    const struct recording_segment segment = recording_segment(t->recording);
    const size_t n_frames = mel_n_frames(segment.n);
    const int64_t start = clock_usec();
    int r;

    mel_clear(t->mel);
    if (mel_push(t->mel, segment.samples, segment.n) < 0)
        return error_set(err, ERROR_INTERNAL, "A segment of %zu samples is too long.", segment.n);
    mel_features(t->mel, t->features);
    r = audio_encode(task->work.model->ear, t->features, n_frames, &task->work.cancel, t->rows,
                     NULL, err);
    *ret_n_rows = audio_encoder_rows(n_frames);
    task->usage.listen_usec += clock_usec() - start;
    return r;
}

static int begin_segment(struct transcription *t, struct error *err)
{
    const uint64_t key[2] = {t->key, (uint64_t)recording_segment(t->recording).start_ms};
    size_t n_rows = 0;
    int r = encode(t, &n_rows, err);

    if (r == 0)
        r = recognition_begin(t->recognition, t->rows, n_rows, key,
                              RECOGNITION_SLICE, err);
    t->in_segment = r == 0;
    return r;
}

/* {"event": ..., "start_ms": ..., "end_ms": ..., "text": ...} of the present segment */
static void send_text(struct transcription *t, const char *event)
{
    const struct recording_segment segment = recording_segment(t->recording);
    struct json_object *line = task_line(event);
    bool ok = json_set(line, "start_ms", json_object_new_int64(segment.start_ms));

    ok = json_set(line, "end_ms", json_object_new_int64(segment.end_ms)) && ok;
    ok = json_set(line, "text", json_object_new_string(recognition_text(t->recognition))) && ok;
    task_send_line(&t->task, line, ok);
}

static void send_progress(struct transcription *t, int64_t done_ms)
{
    const int64_t total_ms = recording_total_ms(t->recording);
    struct json_object *line = task_line("progress");
    bool ok = json_set(line, "done_ms", json_object_new_int64(done_ms));

    if (total_ms > 0)
        ok = json_set(line, "total_ms", json_object_new_int64(MAX(total_ms, done_ms))) && ok;
    task_send_line(&t->task, line, ok);
}

static int end_segment(struct transcription *t, struct error *err)
{
    const struct recording_segment segment = recording_segment(t->recording);
    const char *text = recognition_text(t->recognition);
    int r = 0;

    t->in_segment = false;
    if (*text) {
        send_text(t, "segment");
        if (t->whole.length > 0)
            r = buffer_add(&t->whole, " ", 1);
        if (r == 0)
            r = buffer_add(&t->whole, text, strlen(text));
    }
    t->task.usage.audio_ms = segment.end_ms;
    send_progress(t, segment.end_ms);
    recording_next(t->recording);
    return r < 0 ? no_memory(err) : 0;
}

/* Some of its words. */
static int continue_segment(struct transcription *t, struct error *err)
{
    struct task *task = &t->task;
    const int64_t start = clock_usec();
    const int r = recognition_step(t->recognition, &task->work.cancel, err);
    const int64_t now = clock_usec();

    task->usage.think_usec += now - start;
    if (r < 0)
        return r;
    if (!task->usage.first_usec && *recognition_text(t->recognition))
        task->usage.first_usec = now - task->usage.started_usec;
    if (r > 0)
        return end_segment(t, err);
    if (now - t->told_usec >= PARTIAL_USEC && *recognition_text(t->recognition)) {
        t->told_usec = now;
        send_text(t, "partial");
    }
    return 0;
}

static int take_buffers(struct transcription *t, struct error *err)
{
    const struct audio_shape *shape = &audio_encoder_info(t->task.work.model->ear)->shape;
    const size_t n_frames = mel_n_frames(RECORDING_SEGMENT_MAX);

    t->mel = mel_new(shape->n_mels, RECORDING_SEGMENT_MAX, err);
    if (!t->mel)
        return error_errno(err->code);
    t->features = calloc(n_frames * shape->n_mels, sizeof(*t->features));
    t->rows = calloc(audio_encoder_rows(n_frames) * shape->n_embd, sizeof(*t->rows));
    return t->features && t->rows ? 0 : no_memory(err);
}

/* Model, ear and sequence. 0: `announced` says whether they are there. */
static int begin(struct transcription *t, struct error *err)
{
    struct task *task = &t->task;
    int r = task_load(task, true, false, RECOGNITION_CONTEXT, err);

    if (r <= 0)
        return r;
    r = take_buffers(t, err);
    if (r == 0 && !(t->recognition = recognition_new(task->work.model->lm, task->sequence, err)))
        r = error_errno(err->code);
    if (r < 0)
        return r;
    task_announce(task);
    return 0;
}

/* 1: the recording is over. */
static int step(struct task *task, struct error *err)
{
    struct transcription *t = (struct transcription *)task;

    if (!task->announced)
        return begin(t, err);
    if (t->in_segment)
        return continue_segment(t, err);
    switch (recording_state(t->recording)) {
    case RECORDING_BUSY:
        break;
    case RECORDING_SEGMENT:
        return begin_segment(t, err);
    case RECORDING_END:
        return 1;
    case RECORDING_FAILED:
        *err = *recording_error(t->recording);
        return error_errno(err->code);
    }
    return 0;
}

static bool transcribe_run(struct work *work, int64_t usec)
{
    struct transcription *t = (struct transcription *)work;
    struct error err = ERROR_INIT;
    const int r = task_go_on(&t->task, usec, step, &err);

    if (r == -ECANCELED)
        return task_finish(&t->task, "cancelled", t->whole.text);
    if (r < 0)
        return task_fail(&t->task, &err);
    return r > 0 && task_finish(&t->task, "stop", t->whole.text ? t->whole.text : "");
}

static void transcribe_release(struct work *work)
{
    struct transcription *t = (struct transcription *)work;

    t->recognition = recognition_free(t->recognition);
    t->mel = mel_free(t->mel);
    free(t->features);
    free(t->rows);
    buffer_done(&t->whole);
    engine_drop_task_sequence(&t->task);
}

static bool transcribe_is_waiting(const struct work *work)
{
    const struct transcription *t = (const struct transcription *)work;

    return t->task.announced && !t->in_segment &&
           recording_state(t->recording) == RECORDING_BUSY;
}

static const struct work_kind transcribe_kind = {
    .run = transcribe_run,
    .release = transcribe_release,
    .is_waiting = transcribe_is_waiting,
};

/* --- bus thread ------------------------------------------------------------------------------ */

struct task *transcribe_new(struct engine *engine, int fd, const struct task_options *options,
                            const struct task_sink *sink, void *userdata, struct error *err)
{
    struct error own = ERROR_INIT;
    const struct model *model;
    struct transcription *t;
    int copy;

    err = err ? err : &own;
    model = models_find_hearing(engine->models, options->model, err);
    if (!model)
        return NULL;
    t = calloc(1, sizeof(*t));
    if (!t) {
        no_memory(err);
        return NULL;
    }
    if (task_init(&t->task, engine, &transcribe_kind, transcription_free, model, options, sink,
                  userdata, err) < 0)
        goto failed;
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) {
        error_set(err, ERROR_INVALID_ARGUMENT,
                  "The descriptor of a recording cannot be used: %s.", strerror(errno));
        goto failed;
    }
    t->key = (uint64_t)clock_usec() ^ (uint64_t)(uintptr_t)t << 16;
    t->recording =
        recording_new(engine->config.sound_decoder_program, copy, recording_changed, engine, err);
    if (!t->recording)
        goto failed;
    task_push(&t->task);
    return &t->task;

failed:
    task_discard(&t->task);
    return NULL;
}
