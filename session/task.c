/* SPDX-License-Identifier: MIT */
#include "session/task.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "session/internal.h"
#include "session/json.h"

/* --- bus thread ------------------------------------------------------------------------------ */

static int copy(const char *text, char **ret)
{
    *ret = text ? strdup(text) : NULL;
    return text && !*ret ? -1 : 0;
}

int task_init(struct task *task, struct engine *engine, const struct work_kind *kind,
              void (*free)(struct task *task), const struct model *model,
              const struct task_options *options, const struct task_sink *sink, void *userdata,
              struct error *err)
{
    const struct task *other;
    size_t n = 0;

    task->engine = engine;
    task->free = free;
    task->sink = sink;
    task->userdata = userdata;
    task->work.job.type = JOB_WORK;
    task->work.kind = kind;
    task->work.priority = options->background ? WORK_BACKGROUND : WORK_INTERACTIVE;
    task->work.keep_alive_sec = engine->config.keep_alive_sec;
    LIST_FOREACH(other, &engine->tasks, link)
    n++;
    if (n >= TASKS_MAX)
        return error_set(err, ERROR_BUSY, "%d recordings and texts are being worked on already.",
                         TASKS_MAX);
    task->last_resort = event_new(EVENT_TASK, 160);
    if (!task->last_resort || copy(model->id, &task->work.model_id) < 0 ||
        copy(model->path, &task->work.model_path) < 0 ||
        copy(model->ear_path, &task->ear_path) < 0 ||
        copy(model->vocoder_path, &task->vocoder_path) < 0 ||
        copy(model->detokenizer_path, &task->detokenizer_path) < 0)
        return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a task.");
    return 0;
}

void task_push(struct task *task)
{
    LIST_INSERT_HEAD(&task->engine->tasks, task, link);
    engine_push(task->engine, &task->work.job);
}

void task_answer(struct task *task)
{
    struct event *last = TAKE_PTR(task->work.last);

    LIST_INSERT_HEAD(&task->engine->tasks, task, link);
    queue_push(&task->engine->events, &last->node);
}

void task_discard(struct task *task)
{
    if (!task)
        return;
    event_free(task->last_resort);
    free(task->work.model_id);
    free(task->work.model_path);
    free(task->ear_path);
    free(task->vocoder_path);
    free(task->detokenizer_path);
    task->free(task);
}

void task_cancel(struct task *task)
{
    atomic_store(&task->work.cancel, true);
    engine_wake(task->engine);
}

void task_stop(struct task *task)
{
    if (task->stop)
        task->stop(task);
    else
        task_cancel(task);
}

struct task *task_abandon(struct task *task)
{
    if (task) {
        task->sink = NULL;
        task_cancel(task);
    }
    return NULL;
}

void task_silence(struct task *task)
{
    if (task->silence)
        task->silence(task);
}

void tasks_silence(struct engine *engine)
{
    struct task *task;

    LIST_FOREACH(task, &engine->tasks, link)
    task_silence(task);
}

void task_hold(struct task *task, bool hold)
{
    atomic_store(task->finishes_pieces ? &task->held : &task->work.hold, hold);
    if (!hold)
        engine_wake(task->engine);
}

void task_deliver(struct event *event)
{
    struct task *task = event->task;
    const bool ends = event->task_type == TASK_DONE || event->task_type == TASK_ERROR;
    const bool is_sound = event->task_type == TASK_SOUND;
    struct task_event told = {
        .type = event->task_type,
        .line = is_sound ? NULL : event->text,
        .length = event->length,
        .sound = is_sound ? (const int16_t *)(const void *)event->text : NULL,
        .n_samples = is_sound ? event->length / sizeof(int16_t) : 0,
    };
    const struct task_sink *sink = task->sink;
    void *userdata = task->userdata;
    struct error error = ERROR_INIT;

    /* Before its last event the engine thread may be writing it. */
    if (event->task_type == TASK_ERROR) {
        error = task->error;
        told.error = &error;
    }
    if (ends) {
        LIST_REMOVE(task, link);
        task_discard(task);
    }
    if (sink)
        sink->event(userdata, &told);
}

/* --- engine thread --------------------------------------------------------------------------- */

int task_load(struct task *task, bool ear, bool voice, size_t n_context, struct error *err)
{
    struct engine *engine = task->engine;
    int r;

    if (!task->usage.started_usec)
        task->usage.started_usec = clock_usec();
    r = engine_use_model(engine, &task->work, err);
    if (r == 0 && ear)
        r = engine_use_ear(engine, &task->work, task->ear_path, err);
    if (r == 0 && voice)
        r = engine_use_voice(engine, &task->work, task->vocoder_path, task->detokenizer_path, err);
    if (r == 0)
        r = engine_use_task_sequence(engine, task, n_context, err);
    if (r == -EAGAIN) {
        task->work.model = NULL;
        task->work.waiting_for_memory = true;
        return 0;
    }
    return r < 0 ? r : 1;
}

int task_go_on(struct task *task, int64_t usec,
               int (*step)(struct task *task, struct error *err), struct error *err)
{
    const struct work *work = &task->work;
    const int64_t end = clock_usec() + usec;
    int r = 0;

    while (r == 0 && !atomic_load(&work->cancel)) {
        r = step(task, err);
        if (clock_usec() >= end || !queue_is_empty(&task->engine->jobs) ||
            work->waiting_for_memory || work->kind->is_waiting(work))
            break;
    }
    return atomic_load(&work->cancel) ? -ECANCELED : r;
}

struct json_object *task_line(const char *event)
{
    struct json_object *line = json_object_new_object();

    json_set(line, "event", json_object_new_string(event));
    return line;
}

static struct event *make_event(struct task *task, enum task_event_type type,
                                struct json_object *line, bool complete)
{
    size_t length = 0;
    const char *text =
        complete ? json_object_to_json_string_length(line, JSON_FLAGS, &length) : NULL;
    struct event *event = text ? event_new(EVENT_TASK, length) : NULL;

    if (event) {
        memcpy(event->text, text, length);
        event->task = task;
        event->task_type = type;
    }
    json_object_put(line);
    return event;
}

static void send_event(struct task *task, struct event *event)
{
    if (event)
        queue_push(&task->engine->events, &event->node);
    else
        task->out_of_memory = true;
}

void task_send_line(struct task *task, struct json_object *line, bool complete)
{
    send_event(task, make_event(task, TASK_LINE, line, complete));
}

void task_announce(struct task *task)
{
    struct json_object *line = task_line("start");

    task_send_line(task, line,
                   json_set(line, "model", json_object_new_string(task->work.model_id)));
    task->announced = true;
}

static void send_copy(struct task *task, enum task_event_type type, const void *bytes, size_t n)
{
    struct event *event = event_new(EVENT_TASK, n);

    if (event) {
        memcpy(event->text, bytes, n);
        event->task = task;
        event->task_type = type;
    }
    send_event(task, event);
}

void task_send_sound(struct task *task, const int16_t *samples, size_t n)
{
    send_copy(task, TASK_SOUND, samples, n * sizeof(*samples));
}

void task_send_mark(struct task *task, const char *name, size_t length)
{
    send_copy(task, TASK_MARK, name, length);
}

/* Lines of who listens have their time. */
static bool set_time(const struct task *task, struct json_object *line)
{
    return !task->listener || json_set(line, "usec", json_object_new_int64(clock_usec()));
}

bool task_fail(struct task *task, const struct error *err)
{
    struct json_object *line = task_line("error");
    const bool ok = set_time(task, line) &&
                    json_set(line, "name", json_object_new_string(error_name(err->code))) &&
                    json_set(line, "message", json_object_new_string(err->text));
    struct event *event = make_event(task, TASK_ERROR, line, ok);

    if (!event) {
        event = TAKE_PTR(task->last_resort);
        event->length =
            (size_t)snprintf(event->text, event->length + 1,
                             "{\"event\":\"error\",\"name\":\"NoMemory\","
                             "\"message\":\"There is not enough memory to go on.\"}");
        event->task = task;
        event->task_type = TASK_ERROR;
    }
    task->error = *err;
    task->work.last = event;
    return true;
}

bool task_finish(struct task *task, const char *reason, const char *text)
{
    const struct {
        const char *key;
        int64_t value;
    } numbers[] = {
        {"audio_ms", task->usage.audio_ms},       {"load_usec", task->work.load_usec},
        {"listen_usec", task->usage.listen_usec}, {"think_usec", task->usage.think_usec},
        {"speak_usec", task->usage.speak_usec},   {"first_usec", task->usage.first_usec},
    };
    struct json_object *line = task_line("done"), *usage = json_object_new_object();
    struct error err = ERROR_INIT;
    bool ok = set_time(task, line);
    struct event *event;

    ok = json_set(line, "reason", json_object_new_string(reason)) && ok;
    if (text)
        ok = json_set(line, "text", json_object_new_string(text)) && ok;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        ok = json_set(usage, numbers[i].key, json_object_new_int64(numbers[i].value)) && ok;
    ok = json_set(line, "usage", usage) && ok && !task->out_of_memory;
    event = make_event(task, TASK_DONE, line, ok);
    if (!event) {
        error_set(&err, ERROR_NO_MEMORY, "There is not enough memory to go on.");
        return task_fail(task, &err);
    }
    task->work.last = event;
    return true;
}
