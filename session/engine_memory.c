/* SPDX-License-Identifier: MIT */

/*
 * What the engine thread has in memory: models, the parts that let them see, hear and speak, and
 * sequences; and who has to give way when there is no room.
 */

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "session/internal.h"
#include "session/memory.h"

/* Work that uses it or is going to. */
static bool is_wanted(const struct engine *engine, const struct loaded_model *model)
{
    const struct work *work;

    TAILQ_FOREACH(work, &engine->work, link)
    if (strcmp(work->model_id, model->id) == 0)
        return true;
    return false;
}

static bool is_worked_on(const struct engine *engine, const struct loaded_model *model)
{
    const struct work *work;

    TAILQ_FOREACH(work, &engine->work, link)
    if (work->model == model)
        return true;
    return false;
}

/* When it is unloaded, monotonic: 0 while wanted, INT64_MAX never. */
static int64_t expiry(const struct engine *engine, const struct loaded_model *model)
{
    if (is_wanted(engine, model))
        return 0;
    if (model->keep_alive_sec < 0 || model->keep_alive_sec > INT64_MAX / 2000000)
        return INT64_MAX;
    return model->used_usec + model->keep_alive_sec * 1000000;
}

static void tell_memory(struct engine *engine, const char *id, const struct model_memory *memory,
                        bool answers_job)
{
    struct event *event = event_new(EVENT_MODEL, strlen(id));

    if (!event) {
        log_error("There is not enough memory to tell the state of a model.");
        return;
    }
    memcpy(event->text, id, event->length);
    event->memory = *memory;
    event->answers_job = answers_job;
    queue_push(&engine->events, &event->node);
}

void engine_tell_loaded(struct engine *engine, struct loaded_model *model, bool answers_job)
{
    const int64_t expires = expiry(engine, model);
    struct model_memory memory = {
        .loaded = true,
        .memory_bytes = model->memory_bytes,
        .expires_usec = expires,
    };

    if (expires == model->told_expires && !answers_job)
        return;
    model->told_expires = expires;
    if (expires > 0 && expires < INT64_MAX)
        memory.expires_usec = expires - clock_usec() + clock_realtime_usec();
    tell_memory(engine, model->id, &memory, answers_job);
}

void engine_drop_sequence(struct session *session)
{
    if (!session->sequence)
        return;
    session->sequence = sequence_free(session->sequence);
    session->sequence_bytes = 0;
    session->model = NULL;
    LIST_REMOVE(session, sequence_link);
}

static void forget_vision(struct loaded_model *model)
{
    if (!model->vision)
        return;
    rows_cache_done(&model->rows);
    model->vision = vision_free(model->vision);
}

static void forget_sound(struct loaded_model *model)
{
    model->ear = audio_encoder_free(model->ear);
    model->depthformer = depthformer_free(model->depthformer);
    model->vocoder = vocoder_free(model->vocoder);
}

static void unload(struct engine *engine, struct loaded_model *model, bool answers_job)
{
    const struct model_memory memory = {0};
    struct session *session, *next;

    for (session = LIST_FIRST(&engine->with_sequence); session; session = next) {
        next = LIST_NEXT(session, sequence_link);
        if (session->model == model)
            engine_drop_sequence(session);
    }
    TAILQ_REMOVE(&engine->loaded, model, link);
    prefix_cache_free(model->cache);
    forget_vision(model);
    forget_sound(model);
    lm_free(model->lm);
    log_write(LOG_INFO, &(struct log_fields){.model = model->id}, "The model %s is unloaded.",
              model->id);
    tell_memory(engine, model->id, &memory, answers_job);
    free(model->id);
    free(model->path);
    free(model);
    malloc_trim(0);
}

/* Bytes that may still be taken. What is planned but not touched yet counts as taken. */
static uint64_t room_left(const struct engine *engine)
{
    const struct loaded_model *model;
    const struct session *session;
    uint64_t planned = 0, untouched = 0, left = memory_available();

    TAILQ_FOREACH(model, &engine->loaded, link)
    planned += model->memory_bytes + engine->now.prefix_cache_bytes +
               (model->vision ? engine->now.image_cache_bytes : 0);
    LIST_FOREACH(session, &engine->with_sequence, sequence_link)
    {
        const size_t n_context = sequence_n_context(session->sequence);

        planned += session->sequence_bytes;
        untouched +=
            session->sequence_bytes / n_context * (n_context - sequence_n(session->sequence));
    }
    planned += engine->task_bytes;
    left -= MIN(left, untouched);
    if (engine->now.memory_max_bytes) {
        const uint64_t limit = engine->now.memory_max_bytes;

        left = MIN(left, limit - MIN(limit, planned));
    }
    return left;
}

/* Give back what was unused for longest; false: everything is in use. */
static bool make_some_room(struct engine *engine, const struct work *work)
{
    struct session *oldest_session = NULL, *session;
    struct loaded_model *oldest_model = NULL, *model;

    LIST_FOREACH(session, &engine->with_sequence, sequence_link)
    if ((!session->active || !session->active->work.model) && (!work || session != work->session) &&
        (!oldest_session || session->used_usec < oldest_session->used_usec))
        oldest_session = session;
    TAILQ_FOREACH(model, &engine->loaded, link)
    if (!is_worked_on(engine, model) &&
        (!oldest_model || model->used_usec < oldest_model->used_usec))
        oldest_model = model;
    if (oldest_session && (!oldest_model || oldest_session->used_usec <= oldest_model->used_usec))
        engine_drop_sequence(oldest_session);
    else if (oldest_model)
        unload(engine, oldest_model, false);
    else
        return false;
    return true;
}

/* 0; -EAGAIN when other work holds it; or a refusal with the figures. */
static int make_room(struct engine *engine, uint64_t bytes, const struct work *work,
                     const char *what, const char *id, struct error *err)
{
    char need[MEMORY_TEXT_MAX], have[MEMORY_TEXT_MAX], limit[MEMORY_TEXT_MAX];
    const struct work *other;
    uint64_t left;

    while ((left = room_left(engine)) < bytes && make_some_room(engine, work))
        ;
    if (left >= bytes)
        return 0;
    if (work)
        TAILQ_FOREACH(other, &engine->work, link)
    if (other != work && other->model)
        return -EAGAIN;
    memory_text(bytes, need);
    memory_text(left, have);
    if (engine->now.memory_max_bytes)
        return error_set(err, ERROR_NO_MEMORY,
                         "%s %s needs %s of memory, and %s can be had; the limit of the "
                         "configuration is %s.",
                         what, id, need, have, memory_text(engine->now.memory_max_bytes, limit));
    return error_set(err, ERROR_NO_MEMORY,
                     "%s %s needs %s of memory, and %s is available on this machine.", what, id,
                     need, have);
}

static struct loaded_model *find_loaded(struct engine *engine, const char *id, const char *path)
{
    struct loaded_model *model;

    TAILQ_FOREACH(model, &engine->loaded, link)
    if (strcmp(model->id, id) == 0 && strcmp(model->path, path) == 0)
        return model;
    return NULL;
}

static int read_model(struct engine *engine, struct loaded_model *model, struct error *err)
{
    int result = 0;

    if (!engine->pool && !(engine->pool = pool_new(engine->now.n_threads, err)))
        return error_errno(err->code);
    atomic_store(&engine->loading_usec, clock_usec());
    model->lm = lm_load(model->path, false, engine->pool, err);
    atomic_store(&engine->loading_usec, 0);
    if (!model->lm)
        return error_errno(err->code);
    model->memory_bytes = model->lm->memory_bytes;
    model->cache = prefix_cache_new(engine->now.prefix_cache_bytes);
    if (!model->cache)
        result = error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a model.");
    return result;
}

/* Returns as make_room(). */
static int load(struct engine *engine, const char *id, const char *path, const struct work *work,
                struct loaded_model **ret, struct error *err)
{
    struct loaded_model *model;
    size_t bytes;
    int result = lm_plan(path, false, &bytes, err);

    if (result == 0)
        result = make_room(engine, (uint64_t)bytes + engine->now.prefix_cache_bytes, work,
                           "The model", id, err);
    if (result < 0)
        return result;
    model = calloc(1, sizeof(*model));
    if (!model || !(model->id = strdup(id)) || !(model->path = strdup(path))) {
        result = error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a model.");
    } else {
        tell_memory(engine, id, &(struct model_memory){.loading = true}, false);
        result = read_model(engine, model, err);
    }
    if (result < 0) {
        if (model) {
            lm_free(model->lm);
            free(model->id);
            free(model->path);
        }
        free(model);
        return result;
    }
    model->keep_alive_sec = engine->now.keep_alive_sec;
    model->used_usec = clock_usec();
    model->told_expires = -1;
    TAILQ_INSERT_TAIL(&engine->loaded, model, link);
    log_write(LOG_INFO, &(struct log_fields){.model = id}, "The model %s is loaded.", id);
    *ret = model;
    return 0;
}

/* Load failures are also told as the state of the model. */
static int load_and_tell(struct engine *engine, const char *id, const char *path,
                         const struct work *work, struct loaded_model **ret, struct error *err)
{
    const int result = load(engine, id, path, work, ret, err);

    if (result < 0 && result != -EAGAIN)
        tell_memory(engine, id, &(struct model_memory){.last_error = *err}, work == NULL);
    return result;
}

int engine_use_model(struct engine *engine, struct work *work, struct error *err)
{
    struct loaded_model *model = find_loaded(engine, work->model_id, work->model_path);

    if (!model) {
        const int64_t start = clock_usec();
        const int result =
            load_and_tell(engine, work->model_id, work->model_path, work, &model, err);

        if (result < 0)
            return result;
        work->load_usec = clock_usec() - start;
    }
    work->model = model;
    model->used_usec = clock_usec();
    model->keep_alive_sec = work->keep_alive_sec;
    engine_tell_loaded(engine, model, false);
    return 0;
}

int engine_use_vision(struct engine *engine, struct turn *turn, struct error *err)
{
    struct loaded_model *model = turn->work.model;
    const size_t n_embd = model->lm->model->hparams.n_embd;
    struct vision_info info;
    int64_t start;
    int result;

    if (model->vision)
        return 0;
    result = vision_plan(turn->vision_path, false, &info, err);
    if (result < 0)
        return result;
    if (info.shape.n_embd != n_embd)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "%s makes rows of %u values, but those of the model %s have %zu.",
                         turn->vision_path, info.shape.n_embd, model->id, n_embd);
    result = make_room(engine, (uint64_t)info.bytes + engine->now.image_cache_bytes, &turn->work,
                       "The vision file of", model->id, err);
    if (result < 0)
        return result;
    start = clock_usec();
    atomic_store(&engine->loading_usec, start);
    model->vision = vision_load(turn->vision_path, false, engine->pool, err);
    if (model->vision)
        result = look_calibrate(model, engine->pool, err);
    atomic_store(&engine->loading_usec, 0);
    if (!model->vision)
        return error_errno(err->code);
    rows_cache_init(&model->rows, engine->now.image_cache_bytes);
    if (result < 0) {
        forget_vision(model);
        return result;
    }
    model->memory_bytes += info.bytes;
    turn->work.load_usec += clock_usec() - start;
    model->told_expires = -1;
    engine_tell_loaded(engine, model, false);
    return 0;
}

/* A part of the work's model is in memory now: it took so long, and so many bytes. */
static void count_part(struct engine *engine, struct work *work, size_t bytes, int64_t start)
{
    atomic_store(&engine->loading_usec, 0);
    work->load_usec += clock_usec() - start;
    work->model->memory_bytes += bytes;
    work->model->told_expires = -1;
    engine_tell_loaded(engine, work->model, false);
}

/* Rows of what a file says must be as wide as the model's. */
static int check_width(const struct loaded_model *model, const char *path, size_t n_embd,
                       struct error *err)
{
    if (n_embd != model->lm->model->hparams.n_embd)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "%s is for rows of %zu values, but those of the model %s have %u.", path,
                         n_embd, model->id, model->lm->model->hparams.n_embd);
    return 0;
}

int engine_use_ear(struct engine *engine, struct work *work, const char *path, struct error *err)
{
    struct loaded_model *model = work->model;
    struct audio_encoder_info info;
    const int64_t start = clock_usec();
    int result;

    if (model->ear)
        return 0;
    result = audio_encoder_plan(path, false, &info, err);
    if (result == 0)
        result = check_width(model, path, info.shape.n_embd, err);
    if (result == 0)
        result = make_room(engine, info.bytes, work, "The audio encoder of", model->id, err);
    if (result < 0)
        return result;
    atomic_store(&engine->loading_usec, start);
    model->ear = audio_encoder_load(path, false, engine->pool, err);
    count_part(engine, work, model->ear ? info.bytes : 0, start);
    return model->ear ? 0 : error_errno(err->code);
}

int engine_use_voice(struct engine *engine, struct work *work, const char *vocoder_path,
                     const char *detokenizer_path, struct error *err)
{
    struct loaded_model *model = work->model;
    struct depthformer_info info;
    struct vocoder_info vocoder;
    const int64_t start = clock_usec();
    int result;

    if (model->vocoder)
        return 0;
    result = depthformer_plan(vocoder_path, false, &info, err);
    if (result == 0)
        result = vocoder_plan(vocoder_path, detokenizer_path, false, &vocoder, err);
    if (result == 0)
        result = check_width(model, vocoder_path, info.n_embd, err);
    if (result == 0)
        result =
            make_room(engine, info.bytes + vocoder.bytes, work, "The voice of", model->id, err);
    if (result < 0)
        return result;
    atomic_store(&engine->loading_usec, start);
    model->depthformer = depthformer_load(vocoder_path, false, engine->pool, err);
    if (model->depthformer)
        model->vocoder =
            vocoder_load(vocoder_path, detokenizer_path, false, engine->pool, err);
    if (!model->vocoder)
        model->depthformer = depthformer_free(model->depthformer);
    count_part(engine, work, model->vocoder ? info.bytes + vocoder.bytes : 0, start);
    return model->vocoder ? 0 : error_errno(err->code);
}

int engine_use_task_sequence(struct engine *engine, struct task *task, size_t n_context,
                             struct error *err)
{
    struct loaded_model *model = task->work.model;
    size_t bytes;
    int result;

    if (task->sequence)
        return 0;
    n_context = MIN(n_context, model->lm->model->hparams.n_context);
    bytes = sequence_plan(model->lm, n_context, engine->now.kv);
    result = make_room(engine, bytes, &task->work, "The context of", model->id, err);
    if (result < 0)
        return result;
    task->sequence = sequence_new(model->lm, n_context, engine->now.kv, err);
    if (!task->sequence)
        return error_errno(err->code);
    sequence_use_cache(task->sequence, model->cache);
    task->sequence_bytes = bytes;
    engine->task_bytes += bytes;
    return 0;
}

void engine_drop_task_sequence(struct task *task)
{
    task->sequence = sequence_free(task->sequence);
    task->engine->task_bytes -= task->sequence_bytes;
    task->sequence_bytes = 0;
}

int engine_use_sequence(struct engine *engine, struct turn *turn, struct error *err)
{
    struct session *session = turn->work.session;
    struct loaded_model *model = turn->work.model;
    const size_t n_context = MIN(session->n_context, model->lm->model->hparams.n_context);
    size_t bytes;
    int result;

    if (session->sequence && session->model != model)
        engine_drop_sequence(session);
    session->used_usec = clock_usec();
    if (session->sequence)
        return 0;
    bytes = sequence_plan(model->lm, n_context, engine->now.kv);
    result = make_room(engine, bytes, &turn->work, "The context of a session of", model->id, err);
    if (result < 0)
        return result;
    session->sequence = sequence_new(model->lm, n_context, engine->now.kv, err);
    if (!session->sequence)
        return error_errno(err->code);
    sequence_use_cache(session->sequence, model->cache);
    session->sequence_bytes = bytes;
    session->model = model;
    LIST_INSERT_HEAD(&engine->with_sequence, session, sequence_link);
    return 0;
}

int64_t engine_expire(struct engine *engine)
{
    int64_t next_expiry = INT64_MAX;
    const int64_t now = clock_usec();
    struct loaded_model *model, *next;

    for (model = TAILQ_FIRST(&engine->loaded); model; model = next) {
        const int64_t expires = expiry(engine, model);

        next = TAILQ_NEXT(model, link);
        if (expires == 0)
            continue;
        if (expires <= now)
            unload(engine, model, false);
        else
            next_expiry = MIN(next_expiry, expires);
    }
    return next_expiry;
}

void engine_limit_rows(struct engine *engine)
{
    struct loaded_model *model;

    TAILQ_FOREACH(model, &engine->loaded, link)
    if (model->vision)
        rows_cache_limit(&model->rows, engine->now.image_cache_bytes);
}

void engine_take_load(struct engine *engine, const char *id, const char *path)
{
    struct loaded_model *model = find_loaded(engine, id, path);
    struct error err = ERROR_INIT;

    if (model || load_and_tell(engine, id, path, NULL, &model, &err) == 0) {
        model->used_usec = clock_usec();
        engine_tell_loaded(engine, model, true);
    }
}

void engine_take_unload(struct engine *engine, const char *id)
{
    struct loaded_model *model;

    TAILQ_FOREACH(model, &engine->loaded, link)
    if (strcmp(model->id, id) == 0 && !is_worked_on(engine, model))
        break;
    if (model)
        unload(engine, model, true);
    else
        tell_memory(engine, id, &(struct model_memory){0}, true);
}

void engine_unload_all(struct engine *engine)
{
    while (!TAILQ_EMPTY(&engine->loaded))
        unload(engine, TAILQ_FIRST(&engine->loaded), false);
}
