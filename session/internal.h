/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the files of this folder share: the objects that cross between the bus thread and the engine
 * thread, and who may touch which part of them.
 *
 * A turn (session_ask()) and a task (task.h) travel down as a job; the last event brings them back
 * up, and the bus thread frees them. A session is closed by a job that travels after all of its
 * turns, and is freed when that job comes back up. So no lock is needed, and whoever holds a
 * pointer may use it.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "audio/in/encoder.h"
#include "audio/out/depthformer.h"
#include "audio/out/vocoder.h"
#include "base/queue.h"
#include "session/image_query.h"
#include "session/photo.h"
#include "session/phrases.h"
#include "session/prompt.h"
#include "session/rows_cache.h"
#include "session/session.h"
#include "session/sound.h"
#include "session/store.h"
#include "session/task.h"
#include "text/reply.h"
#include "vision/vision.h"

enum job_type {
    JOB_WORK,
    JOB_CLOSE,
    JOB_LOAD,
    JOB_UNLOAD,
    JOB_CONFIGURE,
    JOB_QUERY,
    JOB_WAKE, /* a flag of a turn, or the state of a picture, has changed */
    JOB_STOP,
};

struct job {
    struct queue_node node;
    enum job_type type;
};

struct close_job {
    struct job job;
    struct session *session;
};

enum event_type { EVENT_TURN, EVENT_CLOSED, EVENT_MODEL, EVENT_QUERY, EVENT_TASK, EVENT_SPOKEN };

struct event {
    struct queue_node node;
    enum event_type type;
    struct session *session; /* EVENT_TURN, EVENT_CLOSED, EVENT_SPOKEN */

    /* EVENT_TURN */
    enum turn_event_type turn_type;
    uint32_t number;
    const char *reason;    /* static */
    struct turn *finished; /* with DONE or ERROR: the turn, to be freed */
    /* also EVENT_SPOKEN */
    char *messages; /* with DONE: JSON array text to be added to the history, malloc */
    size_t n_tokens, n_context;

    /* EVENT_MODEL */
    struct model_memory memory;
    bool answers_job; /* the end of a load or unload job */

    struct image_query *query; /* EVENT_QUERY */

    /* EVENT_TASK */
    struct task *task;
    enum task_event_type task_type;

    size_t length;
    char text[]; /* EVENT_TURN, EVENT_TASK: the line, or the sound; EVENT_MODEL: the id */
};

/* Text that grows; zeroed is empty. */
struct buffer {
    char *text;
    size_t length, capacity;
};

int buffer_add(struct buffer *buffer, const char *text, size_t length); /* 0 or -ENOMEM */
void buffer_done(struct buffer *buffer);

/* A model in memory. Engine thread. */
struct loaded_model {
    TAILQ_ENTRY(loaded_model) link;
    char *id, *path;
    struct lm *lm;
    struct prefix_cache *cache;
    size_t memory_bytes;
    int64_t keep_alive_sec;
    int64_t used_usec;     /* monotonic; the last use */
    int64_t told_expires;  /* in the last event */
    double usec_per_token; /* of prefill, as measured; 0: not yet */
    /* with the first picture */
    struct vision *vision; /* NULL: not loaded */
    struct rows_cache rows;
    double flops_per_usec; /* of the encoder, as measured */
    struct turn *looker;   /* in the middle of a view, or NULL */
    /* with the first recording, and with the first word that is spoken; NULL: not loaded */
    struct audio_encoder *ear;
    struct depthformer *depthformer;
    struct vocoder *vocoder;
    struct task *speaker; /* that the vocoder works for, or NULL */
};

enum turn_phase { PHASE_NEW, PHASE_LOOK, PHASE_PREFILL, PHASE_DECODE };

/* A picture of the prompt, in a turn. */
struct look_item {
    struct photo *photo;       /* held by the session or the turn */
    bool is_new;               /* of this turn: its plan may still change */
    struct picture_rows *rows; /* in use; NULL: not needed, the sequence has it */
    bool requested; /* its pixels, once more */
    bool told;
    int64_t usec; /* of encoding */
    double predicted_usec;
};

struct look {
    struct look_item *items; /* [n], in the order of the conversation */
    size_t n, first;         /* those before `first` are in turns that were dropped */
    struct picture *picture; /* that is being encoded, or NULL */
    size_t encoding;         /* the item that it is of */
    struct vision_encoding views; /* of it; views.picture NULL: none is begun */
    int64_t views_usec;           /* that they have taken so far */
    size_t n_fed;            /* row ids of the prompt that are in the sequence */
    bool changed;            /* a plan, so that the prompt has to be built again */
};

/* Who is served first: sound must not break off, and a background turn yields to all others. */
enum work_priority { WORK_VOICE, WORK_INTERACTIVE, WORK_BACKGROUND };

struct work;

struct work_kind {
    /* Work for about usec microseconds. True: it has ended; work->last is to be sent. */
    bool (*run)(struct work *work, int64_t usec);
    /* Give back what the engine thread holds for it. */
    void (*release)(struct work *work);
    /* Whether something is under way that it needs. */
    bool (*is_waiting)(const struct work *work);
    /* The session is closed, and freed soon; may be NULL. */
    void (*session_closed)(struct work *work, const struct session *session);
};

/* What the engine thread serves in slices: the first member of a turn or a task. */
struct work {
    struct job job;     /* JOB_WORK */
    atomic_bool cancel; /* any thread; polled between layers */
    atomic_bool hold;   /* any thread */

    /* set before it goes down, then engine thread */
    const struct work_kind *kind;
    enum work_priority priority;
    struct session *session; /* whose work is done one after the other; NULL: of none */
    char *model_id, *model_path;
    int64_t keep_alive_sec;

    /* engine thread */
    TAILQ_ENTRY(work) link;
    bool waiting_for_memory;    /* until other work has ended */
    struct loaded_model *model; /* NULL: not in use yet */
    int64_t load_usec;          /* how long its model took */
    struct event *last;         /* sent when the engine has let go of it */
};

TAILQ_HEAD(work_list, work);

struct turn {
    struct work work;
    uint32_t number;

    /* bus thread */
    TAILQ_ENTRY(turn) open_link;
    bool started;

    /* set by session_ask(), then engine thread */
    char *vision_path; /* NULL: it cannot see */
    struct json_object *asked; /* content of the user message (text/chat.h), or NULL */
    struct photo **photos;       /* [n_photos]: its pictures, in order; held */
    size_t n_photos;
    struct json_object *results; /* {id: text}, or NULL */
    struct json_object *format;  /* schema, or NULL for any JSON when has_format */
    bool has_format, constrain_tools, require_tool, keep_thinking, measure;
    char **stop; /* NULL-terminated, or NULL */
    uint32_t max_tokens;
    struct sampling sampling;
    int64_t asked_usec; /* monotonic, like all times below */

    /* engine thread */
    enum turn_phase phase;
    bool announced;               /* START was sent */
    struct json_object *question; /* messages of this turn */
    struct look look;
    struct prompt prompt;
    const float **image_rows; /* [rows of a slice] */
    size_t n_cached, n_fed;
    struct constraint *constraint;
    struct generation *generation;
    struct reply *reply;
    uint32_t call_start, call_end;   /* token ids */
    struct buffer content, thinking; /* the reply so far */
    struct buffer call;              /* the call that is being written, as it is */
    struct detokenizer call_text;
    bool in_call;
    size_t n_shown; /* bytes of content that were sent */
    size_t n_shown_thinking;
    struct json_object *calls; /* array, or NULL */
    bool stop_found, out_of_memory;
    bool spoken; /* its reply is */
    size_t n_completion;
    /* when the work began, prefill began and ended, the first token came, progress was told */
    int64_t started_usec, prefill_usec, decode_usec, first_usec, progress_usec;
    int64_t look_usec;         /* how long its pictures took */
    struct event *last_resort; /* carries an ERROR when there is no memory to make another */
};

TAILQ_HEAD(turn_list, turn);

/* What tasks have in common: the first member of what they work on. */
struct task {
    struct work work;
    struct engine *engine;
    void (*free)(struct task *task);    /* the rest of it, on the bus thread */
    void (*silence)(struct task *task); /* bus thread; NULL: it says nothing aloud */
    bool finishes_pieces; /* it is held between two pieces only, by is_waiting(): `held` */
    atomic_bool held;
    void (*stop)(struct task *task);    /* any thread; NULL: it is cancelled */
    struct listener *listener;          /* NULL: it does not listen */
    atomic_bool hears;                  /* as the client was told last */

    /* bus thread */
    LIST_ENTRY(task) link;
    const struct task_sink *sink; /* NULL: abandoned */
    void *userdata;

    /* set before it goes down, then engine thread */
    char *ear_path, *vocoder_path, *detokenizer_path; /* those that it needs */
    struct event *last_resort; /* carries an ERROR when there is no memory to make another */

    /* engine thread */
    struct sequence *sequence;
    size_t sequence_bytes;
    bool announced;
    atomic_bool out_of_memory; /* any thread that has something to tell */
    struct error error; /* why it failed; then bus thread */
    struct {
        int64_t audio_ms, started_usec, listen_usec, think_usec, speak_usec, first_usec;
    } usage;
};

/* Goes down as a job; the engine thread answers it when its photo is decoded. */
struct image_query {
    struct job job; /* JOB_QUERY */
    struct engine *engine;
    struct photo *photo;
    char *model_id, *vision_path;

    /* bus thread */
    void (*done)(void *userdata, const struct image_query_result *result,
                 const struct error *error); /* NULL: cancelled */
    void *userdata;

    /* engine thread, then bus thread */
    TAILQ_ENTRY(image_query) link;
    struct event *event;
    struct image_query_result result;
    struct error error;
};

struct session {
    struct engine *engine;
    /* immutable, model_id from the first typed turn on */
    char id[STORE_ID_LENGTH + 1];
    char *model_id;
    bool any_model; /* none was named */
    char *system, *tools_text, *sampling, *image_text; /* or NULL */
    size_t n_context;                     /* wanted */
    bool background, keep;
    int64_t keep_alive_sec;
    struct image_settings image;
    int64_t created_usec;
    const struct session_sink *sink;
    void *userdata;

    atomic_bool closed;    /* set by the bus thread */
    atomic_uint last_turn; /* number of the last turn, of either kind; any thread */

    /* bus thread; title is set before the first turn goes down and never again */
    LIST_ENTRY(session) link;
    struct turn_list open_turns;
    size_t n_open;
    char *title;
    struct buffer history; /* messages, "," between them, without a system message */
    size_t n_tokens, context_limit;

    /* engine thread */
    struct close_job close_job;
    struct event *closed_event;
    struct turn *active;          /* NULL, or the one whose work has begun */
    struct task *conversation;    /* of who listens, or NULL */
    struct past *past;            /* what the last conversation has left for the next, or NULL */
    struct json_object *tools;    /* array, or NULL */
    struct json_object *messages; /* array */
    struct photo **photos;        /* [n_photos]: of the messages, in order; held */
    size_t n_photos;
    uint32_t n_dropped;
    struct loaded_model *model; /* of the sequence */
    struct sequence *sequence;  /* NULL: not in memory */
    size_t sequence_bytes;
    LIST_ENTRY(session) sequence_link;
    int64_t used_usec; /* monotonic */
};

LIST_HEAD(session_list, session);

/* What the bus thread knows of a model's memory. */
struct memory_entry {
    LIST_ENTRY(memory_entry) link;
    struct model_memory memory;
    unsigned n_jobs; /* loads and unloads under way */
    char id[];
};

struct engine {
    /* immutable */
    struct models *models;
    const struct engine_sink *sink;
    void *userdata;
    struct store *store; /* NULL: nothing is kept */
    struct photos *photos;

    struct queue jobs, events;
    pthread_t thread;

    /* bus thread */
    struct engine_config config;
    struct session_list sessions;
    size_t n_sessions; /* open */
    size_t n_queries;
    LIST_HEAD(, task) tasks;
    struct sound *sound; /* NULL: nobody has spoken or listened yet; then any thread */
    struct phrases phrases; /* that were spoken */
    TAILQ_HEAD(description_list, description) descriptions; /* that were made; last used first */
    size_t n_descriptions;
    size_t n_closing;
    LIST_HEAD(, memory_entry) memory;
    struct job stop_job;

    /* any thread */
    struct job wake_job;
    atomic_bool wake_queued;
    atomic_uint sound_changes; /* of what sound_counts() and the loudspeaker's room are */
    atomic_llong progress_usec; /* when the engine thread last came by */
    atomic_llong loading_usec;  /* since when a model is being loaded; 0: none is */
    atomic_bool resting;
    _Atomic pid_t thread_id;     /* 0: it has not begun */
    _Atomic(struct pool *) pool; /* the engine thread's; made with the first model */

    /* engine thread */
    struct engine_config now; /* the settings in force */
    TAILQ_HEAD(, loaded_model) loaded;
    TAILQ_HEAD(, image_query) queries;
    struct work_list work; /* all that came down and is not finished; first is served next */
    struct session_list with_sequence;
    size_t task_bytes; /* of the sequences of tasks */
    bool stopping;
};

int64_t clock_usec(void); /* monotonic */
int64_t clock_realtime_usec(void);

/* An event with room for `length` bytes of text and its end; NULL when memory is short. */
struct event *event_new(enum event_type type, size_t length);
struct event *event_free(struct event *event);

/* --- engine.c, for session.c (bus thread) ---------------------------------------------------- */

void engine_push(struct engine *engine, struct job *job);
/* Look at the flags of the turns again. */
void engine_wake(struct engine *engine);
/* Bus thread: the machine's microphone and loudspeaker. */
int engine_use_sound(struct engine *engine, struct error *err);

/* --- engine_memory.c, for turns and tasks (engine thread) ------------------------------------ */

/*
 * The model of the work, in memory. Returns 0; -EAGAIN when it has to wait for other work to end;
 * else a sentence.
 */
int engine_use_model(struct engine *engine, struct work *work, struct error *err);
/* The vision file of the turn's model, in memory. Returns as above. */
int engine_use_vision(struct engine *engine, struct turn *turn, struct error *err);
/* The audio encoder of the work's model, in memory. Returns as above. */
int engine_use_ear(struct engine *engine, struct work *work, const char *path, struct error *err);
/* Its depthformer and its vocoder. Returns as above. */
int engine_use_voice(struct engine *engine, struct work *work, const char *vocoder_path,
                     const char *detokenizer_path, struct error *err);
/* The sequence of a task on its model, of n_context tokens or what the model has. Returns as
 * above. */
int engine_use_task_sequence(struct engine *engine, struct task *task, size_t n_context,
                             struct error *err);
void engine_drop_task_sequence(struct task *task); /* accepts a task that has none */
/* The sequence of the turn's session on its model. Returns as above. */
int engine_use_sequence(struct engine *engine, struct turn *turn, struct error *err);

/* --- engine_memory.c, for engine.c (engine thread) ------------------------------------------- */

/* Load, or unload, a model because somebody asked for that; the end is told (answers_job). */
void engine_take_load(struct engine *engine, const char *id, const char *path);
void engine_take_unload(struct engine *engine, const char *id);
void engine_unload_all(struct engine *engine);
/* Unload what has expired; returns when the next one does, INT64_MAX: never. */
int64_t engine_expire(struct engine *engine);
/* Tell when the model expires, where that has changed, or a job is answered by it. */
void engine_tell_loaded(struct engine *engine, struct loaded_model *model, bool answers_job);
/* Accepts a session that has none. */
void engine_drop_sequence(struct session *session);
/* The present limit of encoded pictures is that of every model. */
void engine_limit_rows(struct engine *engine);

/* --- look.c, for turn.c and engine.c (engine thread) ----------------------------------------- */

/* What a picture may take, in microseconds, with some caution; 0: no limit. */
double look_time(const struct engine *engine, const struct image_settings *settings);

/* Time a new encoder with a small picture. */
int look_calibrate(struct loaded_model *model, struct pool *pool, struct error *err);

/* Whether pixels are under way that the turn needs, or another turn is in the middle of a view. */
bool look_is_waiting(const struct turn *turn);
/* Whether the turn's pictures could be decoded, and are not too many. */
int look_check(const struct turn *turn, struct error *err);
/* Load the eye of the model, choose plans. Returns as engine_use_model(). */
int look_begin(struct turn *turn, struct error *err);
/* How the pictures stand in the prompt: [turn->look.n], or NULL. */
struct picture_layout *look_layouts(const struct turn *turn, struct error *err);
void look_layouts_free(struct picture_layout *layouts, size_t n);
/* The first n_cached ids of turn->prompt are in the sequence: which rows are needed? */
int look_need(struct turn *turn, size_t n_cached, struct error *err);

enum { LOOK_GOING, LOOK_WAIT, LOOK_DONE };

/* Encode some views, or a part of them when there are jobs to take: WAIT, as for pixels. *ret_item:
 * the picture that was worked on, or NULL. */
int look_work(struct turn *turn, struct look_item **ret_item, struct error *err);
/* Pointers to the rows of the next n_images row ids, in order. */
void look_rows(struct turn *turn, size_t n_images, const float **pointers);
/* How long encoding what is left of it will take, as far as is known. */
double look_usec_left(const struct turn *turn, const struct look_item *item);
void look_release(struct turn *turn);

/* --- turn.c, for session.c ------------------------------------------------------------------- */

extern const struct work_kind turn_kind;

/* --- history.c, for turn.c and conversation.c (engine thread) -------------------------------- */

/* A turn that is over. */
struct past_turn {
    uint32_t number;
    const char *reason;
    const char *title, *model; /* of the session: its own are the bus thread's */
    struct json_object *messages; /* array: question, tool results, reply */
    struct json_object *usage;
    struct photo *const *photos; /* [n_photos]: of the question */
    size_t n_photos;
    size_t n_tokens; /* of the context, after it */
    uint32_t n_dropped;
};

/*
 * Add it to the messages of the session, and to disk first where that is kept. Returns the text of
 * its messages for the event that tells of it, malloc; NULL with a sentence: nothing was added.
 */
char *history_add(struct session *session, const struct past_turn *turn, struct error *err);

/* --- conversation*.c, for session.c (bus thread), turn.c (engine thread) --------------------- */

struct past *conversation_past_free(struct past *past); /* accepts and returns NULL */

/* A spoken turn is under way, or not in the history yet. */
bool conversation_is_answering(const struct task *conversation);
/* The user has begun a turn that was not answered yet: what is said now would be cut off. */
bool conversation_hears_somebody(const struct task *conversation);

/*
 * Results of tool calls, messages of a turn of this number, while it does not answer. 1: the last
 * reply was a spoken one, and the answer to them will be too; 0: that is not so; else a sentence.
 */
int conversation_take_results(struct task *conversation, uint32_t turn,
                              struct json_object *messages, struct error *err);

/* --- image_query.c, for engine.c ------------------------------------------------------------- */

/* Engine thread, when its picture is decoded, or cannot be. Sends it up. */
void image_query_answer(struct image_query *query);
/* Bus thread. Calls back and frees it. */
void image_query_deliver(struct image_query *query);

/* --- session.c, for conversation.c (any thread) ---------------------------------------------- */

/* The beginning of what was asked, malloc. */
char *session_make_title(const char *question);

/* --- session.c, for image_query.c (bus thread) ----------------------------------------------- */

/* A model for a conversation by its name; NULL: the default, or for a question with pictures the
 * first that sees when the default does not. */
const struct model *session_find_model(const struct engine *engine, const char *name, bool sees,
                                       struct error *err);

/* --- task.c, for what begins with a task ------------------------------------------------------ */

/* Bus thread. Fill what every task has; `task` begins a zeroed allocation. On failure its own
 * members are to be freed by task_discard(). */
int task_init(struct task *task, struct engine *engine, const struct work_kind *kind,
              void (*free)(struct task *task), const struct model *model,
              const struct task_options *options, const struct task_sink *sink, void *userdata,
              struct error *err);
void task_push(struct task *task);
/* The same for one that is done already: its last event goes up. */
void task_answer(struct task *task);
void task_discard(struct task *task);

/* Engine thread. Model, ear, voice and sequence, as they are needed. 1: all are there; 0: it waits
 * for memory; else a sentence. */
int task_load(struct task *task, bool ear, bool voice, size_t n_context, struct error *err);

/* Engine thread, for work_kind.run(): steps for about usec microseconds, fewer where somebody else
 * needs the engine or the task has to wait. A step returns 0: there is more to do; 1: all is done;
 * a negative errno with a sentence. Returns what the last one did, or -ECANCELED. */
int task_go_on(struct task *task, int64_t usec,
               int (*step)(struct task *task, struct error *err), struct error *err);

/* Engine thread. A line (taken), or sound, for the client. */
struct json_object *task_line(const char *event);
void task_send_line(struct task *task, struct json_object *line, bool complete);
/* The event "start", with the model. */
void task_announce(struct task *task);
void task_send_sound(struct task *task, const int16_t *samples, size_t n);
void task_send_mark(struct task *task, const char *name, size_t length);
/* The end. Return true, for work_kind.run(). text: of the done line, or NULL. */
bool task_finish(struct task *task, const char *reason, const char *text);
bool task_fail(struct task *task, const struct error *err);

/* --- task.c, for engine.c (bus thread) ------------------------------------------------------- */

void task_deliver(struct event *event);

/* --- describe.c, for engine.c (bus thread) --------------------------------------------------- */

void descriptions_forget(struct engine *engine);

/* --- session.c, for engine.c (bus thread) ---------------------------------------------------- */

/* Tell the client, and free a turn that has ended. */
void session_deliver(struct session *session, struct event *event);
/* A spoken turn is part of its history. */
void session_deliver_spoken(struct session *session, struct event *event);
/* The engine thread has let go of it. */
void session_free(struct session *session);
