/* SPDX-License-Identifier: MIT */

/*
 * The engine thread: jobs, and what is worked on next. See internal.h for who may touch what.
 */

#include "session/engine.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "session/internal.h"

#define SLICE_USEC        250000             /* of a turn that is alone */
#define SLICE_SHARED_USEC 50000              /* of one that others wait for, or may */
#define LOAD_USEC_MAX     INT64_C(600000000) /* a load that takes longer hangs */
#define DISPATCH_MAX      256                /* events of one engine_dispatch() */

struct load_job {
    struct job job;
    char *id, *path;
};

struct configure_job {
    struct job job;
    struct engine_config config;
};

static int64_t clock_of(clockid_t id)
{
    struct timespec now;

    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_usec(void)
{
    return clock_of(CLOCK_MONOTONIC);
}

int64_t clock_realtime_usec(void)
{
    return clock_of(CLOCK_REALTIME);
}

struct event *event_new(enum event_type type, size_t length)
{
    struct event *event = calloc(1, sizeof(*event) + length + 1);

    if (event) {
        event->type = type;
        event->length = length;
    }
    return event;
}

struct event *event_free(struct event *event)
{
    if (event)
        free(event->messages);
    free(event);
    return NULL;
}

int buffer_add(struct buffer *buffer, const char *text, size_t length)
{
    if (buffer->capacity - buffer->length <= length) {
        const size_t capacity = MAX(2 * buffer->capacity, buffer->length + length + 64);
        char *grown = realloc(buffer->text, capacity);

        if (!grown)
            return -ENOMEM;
        buffer->text = grown;
        buffer->capacity = capacity;
    }
    memcpy(buffer->text + buffer->length, text, length);
    buffer->length += length;
    buffer->text[buffer->length] = '\0';
    return 0;
}

void buffer_done(struct buffer *buffer)
{
    free(buffer->text);
    *buffer = (struct buffer){0};
}

/* --- work (engine thread) -------------------------------------------------------------------- */

/* It is over, or not wanted any more. Its last event may free it at any time. */
static void forget_work(struct engine *engine, struct work *work)
{
    struct work *other;

    TAILQ_REMOVE(&engine->work, work, link);
    if (work->session && (struct work *)work->session->active == work)
        work->session->active = NULL;
    TAILQ_FOREACH(other, &engine->work, link)
    other->waiting_for_memory = false;
}

static bool is_first_of_session(const struct engine *engine, const struct work *work)
{
    const struct work *other;

    if (!work->session)
        return true;
    if (work->session->active)
        return (const struct work *)work->session->active == work;
    TAILQ_FOREACH(other, &engine->work, link)
    if (other->session == work->session)
        return other == work;
    return false;
}

static bool is_runnable(const struct engine *engine, struct work *work)
{
    return !work->waiting_for_memory && !atomic_load(&work->hold) &&
           !work->kind->is_waiting(work) && is_first_of_session(engine, work);
}

/* What is served next, and whether others want to be, or may at any time. */
static struct work *choose_work(struct engine *engine, bool *ret_shared)
{
    struct work *chosen = NULL, *work;

    *ret_shared = false;
    TAILQ_FOREACH(work, &engine->work, link)
    if (atomic_load(&work->cancel))
        return work;
    TAILQ_FOREACH(work, &engine->work, link)
    {
        if (work->priority == WORK_VOICE)
            *ret_shared = true;
        if (!is_runnable(engine, work))
            continue;
        if (chosen && work->priority == chosen->priority)
            *ret_shared = true;
        if (!chosen || work->priority < chosen->priority)
            chosen = work;
    }
    if (chosen && chosen->priority == WORK_BACKGROUND)
        *ret_shared = true;
    return chosen;
}

static void serve(struct engine *engine, struct work *work, bool shared)
{
    struct session *session = work->session;
    struct loaded_model *model;

    if (session && !atomic_load(&work->cancel))
        session->active = (struct turn *)work;
    if (!work->kind->run(work, shared ? SLICE_SHARED_USEC : SLICE_USEC)) {
        TAILQ_REMOVE(&engine->work, work, link);
        TAILQ_INSERT_TAIL(&engine->work, work, link);
        return;
    }
    /* The last event was put aside until everything here is done with the work. */
    model = work->model;
    forget_work(engine, work);
    work->kind->release(work);
    if (model) {
        model->used_usec = clock_usec();
        if (session)
            session->used_usec = model->used_usec;
        engine_tell_loaded(engine, model, false);
    }
    queue_push(&engine->events, &work->last->node);
}

/* --- jobs (engine thread) -------------------------------------------------------------------- */

static void close_session(struct engine *engine, struct session *session)
{
    struct work *work, *next;

    TAILQ_FOREACH(work, &engine->work, link)
    if (work->kind->session_closed)
        work->kind->session_closed(work, session);
    for (work = TAILQ_FIRST(&engine->work); work; work = next) {
        next = TAILQ_NEXT(work, link);
        if (work->session != session)
            continue;
        if (work->model)
            work->model->used_usec = clock_usec();
        forget_work(engine, work);
        work->kind->release(work);
    }
    if (session->model) {
        struct loaded_model *model = session->model;

        engine_drop_sequence(session);
        engine_tell_loaded(engine, model, false);
    }
    queue_push(&engine->events, &session->closed_event->node);
}

static void load_job_free(struct load_job *job)
{
    free(job->id);
    free(job->path);
    free(job);
}

static void take_jobs(struct engine *engine)
{
    struct queue_node *node;

    while ((node = queue_pop(&engine->jobs))) {
        struct job *job = (struct job *)node;
        struct load_job *load;

        atomic_store(&engine->progress_usec, clock_usec());
        switch (job->type) {
        case JOB_WORK:
            TAILQ_INSERT_TAIL(&engine->work, (struct work *)job, link);
            break;
        case JOB_CLOSE:
            close_session(engine, ((struct close_job *)job)->session);
            break;
        case JOB_LOAD:
            load = (struct load_job *)job;
            engine_take_load(engine, load->id, load->path);
            load_job_free(load);
            break;
        case JOB_UNLOAD:
            load = (struct load_job *)job;
            engine_take_unload(engine, load->id);
            load_job_free(load);
            break;
        case JOB_CONFIGURE:
            engine->now = ((struct configure_job *)job)->config;
            free(job);
            engine_limit_rows(engine);
            break;
        case JOB_QUERY:
            TAILQ_INSERT_TAIL(&engine->queries, (struct image_query *)job, link);
            break;
        case JOB_WAKE:
            atomic_store(&engine->wake_queued, false);
            break;
        case JOB_STOP:
            engine->stopping = true;
            break;
        }
    }
}

static void answer_queries(struct engine *engine)
{
    struct image_query *query, *next;

    for (query = TAILQ_FIRST(&engine->queries); query; query = next) {
        next = TAILQ_NEXT(query, link);
        if (photo_state(query->photo) == PHOTO_DECODING)
            continue;
        TAILQ_REMOVE(&engine->queries, query, link);
        image_query_answer(query);
    }
}

static void *engine_main(void *userdata)
{
    struct engine *engine = userdata;

    pthread_setname_np(pthread_self(), "engine");
    atomic_store(&engine->thread_id, gettid());
    while (!engine->stopping || !TAILQ_EMPTY(&engine->work)) {
        struct work *work;
        int64_t next_expiry;
        bool shared;

        atomic_store(&engine->progress_usec, clock_usec());
        take_jobs(engine);
        answer_queries(engine);
        next_expiry = engine_expire(engine);
        work = choose_work(engine, &shared);
        if (work) {
            serve(engine, work, shared);
        } else if (!engine->stopping) {
            const int64_t now = clock_usec();

            atomic_store(&engine->resting, true);
            queue_wait(&engine->jobs, next_expiry == INT64_MAX
                                          ? UINT64_MAX
                                          : (unsigned long)MAX(next_expiry - now, 0));
            atomic_store(&engine->resting, false);
        }
    }
    assert(TAILQ_EMPTY(&engine->work));
    while (!TAILQ_EMPTY(&engine->queries)) {
        struct image_query *query = TAILQ_FIRST(&engine->queries);

        TAILQ_REMOVE(&engine->queries, query, link);
        error_set(&query->error, ERROR_CANCELLED, "The program ends.");
        queue_push(&engine->events, &query->event->node);
    }
    engine_unload_all(engine);
    return NULL;
}

/* --- the bus thread's side ------------------------------------------------------------------- */

void engine_push(struct engine *engine, struct job *job)
{
    queue_push(&engine->jobs, &job->node);
}

void engine_wake(struct engine *engine)
{
    if (!atomic_exchange(&engine->wake_queued, true))
        engine_push(engine, &engine->wake_job);
}

/* On the sound thread. */
static void sound_changed(void *userdata)
{
    struct engine *engine = userdata;

    atomic_fetch_add(&engine->sound_changes, 1);
    engine_wake(engine);
}

/* On the sound thread. The pool comes with the first model. */
static size_t sound_makers(void *userdata, pid_t *ret_ids, size_t n_max)
{
    struct engine *engine = userdata;
    const struct pool *pool = atomic_load(&engine->pool);

    if (n_max == 0 || (*ret_ids = atomic_load(&engine->thread_id)) == 0)
        return 0;
    return 1 + (pool ? pool_thread_ids(pool, ret_ids + 1, n_max - 1) : 0);
}

static struct sound_config sound_config(struct engine *engine)
{
    return (struct sound_config){
        .capture = engine->config.capture_device,
        .playback = engine->config.playback_device,
        .keep_echo = engine->config.keep_echo,
        .latency_msec = engine->config.latency_msec,
        .changed = sound_changed,
        .makers = sound_makers,
        .userdata = engine,
    };
}

int engine_use_sound(struct engine *engine, struct error *err)
{
    const struct sound_config config = sound_config(engine);

    if (!engine->sound)
        engine->sound = sound_new(&config, err);
    return engine->sound ? 0 : error_errno(err->code);
}

int engine_devices(struct engine *engine, struct device *devices, size_t n_max, size_t *ret_n,
                   struct error *err)
{
    if (engine_use_sound(engine, err) < 0)
        return error_errno(err->code);
    *ret_n = MIN(sound_devices(engine->sound, devices, n_max), n_max);
    return 0;
}

/* On the photos' thread. */
static void photo_changed(void *userdata)
{
    engine_wake(userdata);
}

static struct photos *start_photos(struct engine *engine, struct error *err)
{
    struct photos_config config = {
        .program = engine->config.decoder_program,
        .limits = decode_limits_default,
        .store = engine->store,
        .done = photo_changed,
        .userdata = engine,
    };

    if (engine->config.image_bytes_max)
        config.limits.bytes_max = engine->config.image_bytes_max;
    if (engine->config.image_pixels_max)
        config.limits.pixels_max = engine->config.image_pixels_max;
    return photos_new(&config, err);
}

struct engine *engine_new(const struct engine_config *config, struct models *models,
                          const struct engine_sink *sink, void *userdata, struct error *err)
{
    struct engine *engine = calloc(1, sizeof(*engine));
    sigset_t all, before;
    int result;

    if (!engine) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory for the engine.");
        return NULL;
    }
    engine->models = models;
    engine->sink = sink;
    engine->userdata = userdata;
    engine->config = engine->now = *config;
    engine->wake_job.type = JOB_WAKE;
    engine->stop_job.type = JOB_STOP;
    LIST_INIT(&engine->sessions);
    LIST_INIT(&engine->tasks);
    LIST_INIT(&engine->memory);
    LIST_INIT(&engine->with_sequence);
    TAILQ_INIT(&engine->loaded);
    TAILQ_INIT(&engine->work);
    TAILQ_INIT(&engine->queries);
    TAILQ_INIT(&engine->descriptions);
    phrases_init(&engine->phrases);
    atomic_store(&engine->progress_usec, clock_usec());
    if (config->state_directory && !(engine->store = store_new(config->state_directory, err)))
        goto no_store;
    if (queue_init(&engine->jobs, err) < 0)
        goto no_jobs;
    if (queue_init(&engine->events, err) < 0)
        goto no_events;
    if (!(engine->photos = start_photos(engine, err)))
        goto no_photos;

    /* Signals are the bus thread's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    result = pthread_create(&engine->thread, NULL, engine_main, engine);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result == 0)
        return engine;

    error_set(err, ERROR_INTERNAL, "Cannot start the engine thread: %s.", strerror(result));
    photos_free(engine->photos);
no_photos:
    queue_done(&engine->events);
no_events:
    queue_done(&engine->jobs);
no_jobs:
    store_free(engine->store);
no_store:
    free(engine);
    return NULL;
}

static struct memory_entry *find_memory(const struct engine *engine, const char *id)
{
    struct memory_entry *entry;

    LIST_FOREACH(entry, &engine->memory, link)
    if (strcmp(entry->id, id) == 0)
        return entry;
    return NULL;
}

static struct memory_entry *get_memory(struct engine *engine, const char *id)
{
    struct memory_entry *entry = find_memory(engine, id);

    if (!entry && (entry = calloc(1, sizeof(*entry) + strlen(id) + 1))) {
        memcpy(entry->id, id, strlen(id));
        LIST_INSERT_HEAD(&engine->memory, entry, link);
    }
    return entry;
}

static void take_memory(struct engine *engine, const struct event *event)
{
    struct memory_entry *entry = get_memory(engine, event->text);

    if (!entry)
        return;
    entry->memory = event->memory;
    if (event->answers_job)
        entry->n_jobs--;
    if (engine->sink && engine->sink->model_changed)
        engine->sink->model_changed(engine->userdata, event->text);
}

static bool dispatch_one(struct engine *engine)
{
    struct event *event = (struct event *)queue_pop(&engine->events);

    if (!event)
        return false;
    switch (event->type) {
    case EVENT_TURN:
        session_deliver(event->session, event);
        event_free(event);
        break;
    case EVENT_CLOSED:
        engine->n_closing--;
        session_free(event->session); /* and the event with it */
        break;
    case EVENT_MODEL:
        take_memory(engine, event);
        event_free(event);
        break;
    case EVENT_QUERY:
        image_query_deliver(event->query);
        event_free(event);
        break;
    case EVENT_SPOKEN:
        session_deliver_spoken(event->session, event);
        event_free(event);
        break;
    case EVENT_TASK:
        task_deliver(event);
        event_free(event);
        break;
    }
    return true;
}

void engine_dispatch(struct engine *engine)
{
    /* The descriptor stays readable when there are more. */
    for (unsigned i = 0; i < DISPATCH_MAX && dispatch_one(engine); i++)
        ;
}

struct engine *engine_free(struct engine *engine)
{
    struct memory_entry *entry;
    struct task *task;

    if (!engine)
        return NULL;
    assert(LIST_EMPTY(&engine->sessions));
    engine->sink = NULL;
    LIST_FOREACH(task, &engine->tasks, link)
    task_abandon(task);
    engine_push(engine, &engine->stop_job);
    pthread_join(engine->thread, NULL);
    while (dispatch_one(engine))
        ;
    sound_free(engine->sound);
    pool_free(engine->pool); /* the sound thread looked at it */
    photos_free(engine->photos);
    descriptions_forget(engine);
    phrases_done(&engine->phrases);
    while ((entry = LIST_FIRST(&engine->memory))) {
        LIST_REMOVE(entry, link);
        free(entry);
    }
    while (queue_pop(&engine->jobs)) /* a wake that came after the stop is part of the engine */
        ;
    queue_done(&engine->jobs);
    queue_done(&engine->events);
    store_free(engine->store);
    free(engine);
    return NULL;
}

int engine_fd(const struct engine *engine)
{
    return engine->events.fd;
}

void engine_reconfigure(struct engine *engine, const struct engine_config *config)
{
    struct configure_job *job = malloc(sizeof(*job));
    struct engine_config next = *config;

    if (!job) {
        log_error("There is not enough memory to take over the configuration.");
        return;
    }
    next.n_threads = engine->config.n_threads;
    next.kv = engine->config.kv;
    next.state_directory = engine->config.state_directory;
    next.decoder_program = engine->config.decoder_program;
    next.sound_decoder_program = engine->config.sound_decoder_program;
    next.image_bytes_max = engine->config.image_bytes_max;
    next.image_pixels_max = engine->config.image_pixels_max;
    engine->config = next;
    *job = (struct configure_job){.job.type = JOB_CONFIGURE, .config = next};
    engine_push(engine, &job->job);
    if (engine->sound) {
        const struct sound_config sound = sound_config(engine);
        struct error err = ERROR_INIT;

        if (sound_reconfigure(engine->sound, &sound, &err) < 0)
            log_warning("%s", err.text);
    }
}

struct model_memory engine_model_memory(const struct engine *engine, const char *model_id)
{
    const struct memory_entry *entry = find_memory(engine, model_id);

    return entry ? entry->memory : (struct model_memory){0};
}

static int push_load(struct engine *engine, enum job_type type, const struct model *model,
                     struct error *err)
{
    struct memory_entry *entry = get_memory(engine, model->id);
    struct load_job *job = calloc(1, sizeof(*job));

    if (!entry || !job || !(job->id = strdup(model->id)) ||
        !(job->path = strdup(model->path ? model->path : ""))) {
        if (job)
            load_job_free(job);
        return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a job.");
    }
    job->job.type = type;
    entry->n_jobs++;
    if (type == JOB_LOAD && !entry->memory.loaded)
        entry->memory.loading = true;
    engine_push(engine, &job->job);
    return 0;
}

int engine_load(struct engine *engine, const char *model_id, struct error *err)
{
    struct error own = ERROR_INIT;
    const struct model *model = models_find(engine->models, model_id, &own);

    if (!model)
        return error_set(err, own.code, "%s", own.text);
    return push_load(engine, JOB_LOAD, model, err);
}

int engine_unload(struct engine *engine, const char *model_id, struct error *err)
{
    const struct memory_entry *entry = find_memory(engine, model_id);
    const struct session *session;
    const struct turn *turn;
    const struct task *task;

    LIST_FOREACH(session, &engine->sessions, link)
    TAILQ_FOREACH(turn, &session->open_turns, open_link)
    if (strcmp(turn->work.model_id, model_id) == 0)
        return error_set(err, ERROR_BUSY,
                         "The model %s is answering a question; cancel that first.", model_id);
    LIST_FOREACH(task, &engine->tasks, link)
    if (strcmp(task->work.model_id, model_id) == 0)
        return error_set(err, ERROR_BUSY,
                         "The model %s is listening or speaking; cancel that first.", model_id);
    if (!entry || (!entry->memory.loaded && !entry->memory.loading))
        return 0;
    return push_load(engine, JOB_UNLOAD, &(struct model){.id = model_id}, err);
}

bool engine_idle(const struct engine *engine)
{
    const struct memory_entry *entry;
    const struct session *session;

    if (engine->n_closing > 0 || engine->n_queries > 0 || !LIST_EMPTY(&engine->tasks))
        return false;
    LIST_FOREACH(entry, &engine->memory, link)
    if (entry->memory.loaded || entry->memory.loading || entry->n_jobs > 0)
        return false;
    LIST_FOREACH(session, &engine->sessions, link)
    if (session->n_open > 0)
        return false;
    return true;
}

uint64_t engine_heartbeat(const struct engine *engine)
{
    const int64_t now = clock_usec();
    const int64_t loading = atomic_load(&engine->loading_usec);

    if (atomic_load(&engine->resting) || (loading && now - loading < LOAD_USEC_MAX))
        return (uint64_t)now;
    return (uint64_t)atomic_load(&engine->progress_usec);
}
