/* SPDX-License-Identifier: MIT */
#include "session/sound.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "audio/device/echo.h"
#include "audio/device/pcm_stream.h"
#include "audio/device/playback.h"
#include "audio/device/priority.h"
#include "audio/device/server.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "tensor/pool.h"

#define TICK_USEC          5000
#define QUEUE_CAPTURE_MSEC 1000
#define QUEUE_PLAY_MSEC    4000
#define LINGER_USEC        8000000 /* the loudspeaker stays open for, and PortAudio */
#define RETRY_MIN_USEC     250000
#define RETRY_MAX_USEC     5000000

/* The engine thread and its pool. */
#define MAKERS_MAX (POOL_THREADS_MAX + 1)

/* More of them in a second: the stream is starved, not just late once. */
#define STARVED_XRUNS 5
#define SECOND_USEC   1000000

/* Positions of the last while, one for each tick: what was heard is what was played then. */
#define HISTORY (PCM_LATENCY_MSEC_MAX * 1000 / TICK_USEC + 1)

/* The loudspeaker's latency at least; the next one when it is starved. */
static const unsigned latencies_msec[] = {0, 60, 100, 200};

struct wanted {
    char names[_DEVICE_DIRECTION_N][DEVICE_NAME_MAX];
    unsigned latency_msec;
    bool keep_echo;
};

struct heard {
    uint32_t generation;
    uint64_t n_samples;
};

struct side {
    bool open;
    pid_t raised; /* the callback's thread that priority was asked for */
    bool has_priority;
    uint64_t retry_usec, step_usec;
    struct error error; /* why it is not open, although wanted */
};

struct hearer {
    struct sound_listener listener;
    void *userdata;
    bool told_listening, told_failure;
};

struct sound {
    pthread_t thread;
    void (*changed)(void *userdata);
    size_t (*makers)(void *userdata, pid_t *ret_ids, size_t n_max);
    void *userdata;
    struct playback *playback; /* its own rules */
    atomic_bool play;          /* the loudspeaker is needed */

    /* protected by lock */
    pthread_mutex_t lock;
    pthread_cond_t wake, listed;
    bool stop, kicked;
    struct wanted wanted;
    unsigned n_wanted; /* how often it was said */
    struct device *list;
    size_t list_max, list_n;
    bool list_asked;
    struct sound_counts counts;
    struct heard heard;

    /* protected by listener_lock, which is held while a callback of the listener runs */
    pthread_mutex_t listener_lock;
    struct hearer hearers[SOUND_LISTENERS_MAX];
    size_t n_hearers;

    /* the sound thread's */
    struct capture *capture;
    struct echo *echo;
    struct wanted now;
    unsigned n_now;
    bool keep_echo; /* also where the server's default microphone takes it out */
    bool initialised, stale; /* stale: a device was lost or not found since */
    bool in_use; /* somebody listens, or something is heard */
    bool warned;             /* that there is no priority */
    struct side sides[_DEVICE_DIRECTION_N];
    unsigned n_losses, n_starved;
    uint64_t used_usec; /* when a device was needed last */
    bool lifted;            /* the priority of the makers */
    uint64_t audible_usec;  /* when something was heard last */
    uint64_t starved_usec;
    unsigned starved_xruns;
    struct heard history[HISTORY];
    unsigned n_ticks;
    struct sound_counts told;
    size_t told_room;
    bool told_idle;
};

static int set_wanted(struct wanted *wanted, const struct sound_config *config, struct error *err)
{
    const char *const names[] = {config->capture, config->playback};

    memset(wanted, 0, sizeof(*wanted));
    for (unsigned d = 0; d < _DEVICE_DIRECTION_N; d++) {
        if (names[d] && strlen(names[d]) >= DEVICE_NAME_MAX)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "The name of a sound device is longer than %d bytes.",
                             DEVICE_NAME_MAX - 1);
        if (names[d])
            strcpy(wanted->names[d], names[d]);
    }
    wanted->keep_echo =
        config->keep_echo || server_name_cancels(wanted->names[DEVICE_CAPTURE]);
    wanted->latency_msec = config->latency_msec ? config->latency_msec : SOUND_LATENCY_MSEC;
    if (wanted->latency_msec < PCM_LATENCY_MSEC_MIN || wanted->latency_msec > PCM_LATENCY_MSEC_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "A sound latency of %u ms is not possible; %d to %d are.",
                         wanted->latency_msec, PCM_LATENCY_MSEC_MIN, PCM_LATENCY_MSEC_MAX);
    return 0;
}

/* --- the sound thread: devices --------------------------------------------------------------- */

static struct pcm_stream *stream_of(struct sound *sound, enum device_direction direction)
{
    return direction == DEVICE_CAPTURE ? capture_stream(sound->capture)
                                       : playback_stream(sound->playback);
}

static void close_side(struct sound *sound, enum device_direction direction)
{
    if (!sound->sides[direction].open)
        return;
    sound->sides[direction].open = false;
    sound->sides[direction].has_priority = false;
    if (direction == DEVICE_CAPTURE)
        capture_close(sound->capture);
    else
        playback_close(sound->playback);
}

/* It is not wanted; when it is again, it is tried at once. */
static void forget_side(struct sound *sound, enum device_direction direction)
{
    struct side *side = &sound->sides[direction];

    close_side(sound, direction);
    side->error = (struct error)ERROR_INIT;
    side->retry_usec = side->step_usec = 0;
}

/* It is tried again later; nothing of it is open. */
static void fail_side(struct sound *sound, enum device_direction direction, uint64_t now_usec,
                      const struct error *err)
{
    struct side *side = &sound->sides[direction];

    close_side(sound, direction);
    side->error = *err;
    side->step_usec = MIN(MAX(side->step_usec * 2, (uint64_t)RETRY_MIN_USEC),
                          (uint64_t)RETRY_MAX_USEC);
    side->retry_usec = now_usec + side->step_usec;
    sound->stale = true;
}

static void shut_down(struct sound *sound)
{
    for (enum device_direction d = 0; d < _DEVICE_DIRECTION_N; d++)
        close_side(sound, d);
    if (sound->initialised)
        device_done();
    sound->initialised = sound->stale = false;
}

/* The list of devices is made anew only when nothing is open. */
static int initialise(struct sound *sound, struct error *err)
{
    int r;

    if (sound->stale && !sound->sides[DEVICE_CAPTURE].open && !sound->sides[DEVICE_PLAYBACK].open)
        shut_down(sound);
    if (sound->initialised)
        return 0;
    r = device_init(err);
    sound->initialised = r >= 0;
    return r;
}

/* Names that mean the sound server's default. */
static bool is_default(const char *name)
{
    return !*name || strcmp(name, "default") == 0 || strcmp(name, "pulse") == 0 ||
           strcmp(name, "pipewire") == 0;
}

static void open_side(struct sound *sound, enum device_direction direction, uint64_t now_usec)
{
    const unsigned latency_msec = sound->now.latency_msec;
    struct side *side = &sound->sides[direction];
    struct error err = ERROR_INIT;
    struct device device;
    int r;

    if (now_usec < side->retry_usec)
        return;
    r = initialise(sound, &err);
    if (r >= 0)
        r = device_find(sound->now.names[direction], direction, &device, &err);
    if (r >= 0 && direction == DEVICE_CAPTURE)
        r = capture_open(sound->capture, &device, latency_msec, &err);
    else if (r >= 0)
        r = playback_open(sound->playback, &device, 0,
                          MAX(latency_msec, latencies_msec[sound->n_starved]), &err);
    if (r < 0) {
        fail_side(sound, direction, now_usec, &err);
        return;
    }
    if (direction == DEVICE_CAPTURE)
        sound->keep_echo = sound->now.keep_echo || (is_default(sound->now.names[direction]) &&
                                                    server_default_cancels());
    echo_restart(sound->echo);
    side->open = true;
    side->raised = 0;
    side->error = (struct error)ERROR_INIT;
    sound->starved_usec = now_usec;
    sound->starved_xruns = atomic_load(&playback_stream(sound->playback)->n_xruns);
}

static bool is_delivering(struct sound *sound, enum device_direction direction)
{
    return sound->sides[direction].open &&
           atomic_load(&stream_of(sound, direction)->n_callbacks) > 0;
}

static void watch_side(struct sound *sound, enum device_direction direction, uint64_t now_usec)
{
    struct pcm_stream *stream = stream_of(sound, direction);
    struct side *side = &sound->sides[direction];
    const pid_t thread_id = atomic_load(&stream->thread_id);
    struct error err = ERROR_INIT;

    if (!side->open)
        return;
    if (pcm_stream_is_lost(stream)) {
        error_set(&err, ERROR_AUDIO_UNAVAILABLE, "The %s went away.",
                  direction == DEVICE_CAPTURE ? "microphone" : "loudspeaker");
        log_info("%s", err.text);
        sound->n_losses++;
        side->step_usec = 0;
        fail_side(sound, direction, now_usec, &err);
    } else if (thread_id && thread_id != side->raised) {
        side->raised = thread_id;
        side->step_usec = 0; /* it works */
        side->has_priority = priority_raise(thread_id, &err) >= 0;
        if (!side->has_priority && !sound->warned)
            log_warning("%s", err.text);
        sound->warned = sound->warned || !side->has_priority;
    }
}

/* Open the loudspeaker with more latency when it starves. */
static void feed(struct sound *sound, uint64_t now_usec)
{
    const unsigned n = atomic_load(&playback_stream(sound->playback)->n_xruns);

    if (!sound->sides[DEVICE_PLAYBACK].open || now_usec - sound->starved_usec < SECOND_USEC)
        return;
    if (n - sound->starved_xruns > STARVED_XRUNS &&
        sound->n_starved + 1 < ARRAY_LEN(latencies_msec)) {
        sound->n_starved++;
        close_side(sound, DEVICE_PLAYBACK);
        open_side(sound, DEVICE_PLAYBACK, now_usec);
    }
    sound->starved_usec = now_usec;
    sound->starved_xruns = n;
}

static void drop_makers(struct sound *sound)
{
    pid_t ids[MAKERS_MAX];

    if (sound->lifted)
        priority_drop(ids, sound->makers(sound->userdata, ids, MAKERS_MAX));
    sound->lifted = false;
}

/* Not for each answer anew: RealtimeKit counts how often it is asked. */
static void lift_makers(struct sound *sound, uint64_t now_usec)
{
    pid_t ids[PRIORITY_THREADS_MAX];

    if (!sound->makers)
        return;
    if (!sound_is_idle(sound)) {
        sound->audible_usec = now_usec;
        if (!sound->lifted)
            priority_lift(ids, sound->makers(sound->userdata, ids, PRIORITY_THREADS_MAX));
        sound->lifted = true;
    } else if (now_usec - sound->audible_usec > LINGER_USEC) {
        drop_makers(sound);
    }
}

/* --- the sound thread: a tick ---------------------------------------------------------------- */

static void tell_state(struct sound *sound, struct hearer *hearer)
{
    const struct side *side = &sound->sides[DEVICE_CAPTURE];

    if (is_delivering(sound, DEVICE_CAPTURE) && !hearer->told_listening) {
        hearer->told_listening = true;
        hearer->told_failure = false;
        hearer->listener.state(hearer->userdata, true, NULL);
    } else if (!side->open && side->error.code && !hearer->told_failure) {
        hearer->told_listening = false;
        hearer->told_failure = true;
        hearer->listener.state(hearer->userdata, false, &side->error);
    }
}

static void listen(struct sound *sound, uint64_t now_usec)
{
    const struct side *side = &sound->sides[DEVICE_CAPTURE];
    float frame[SOUND_FRAME];

    pthread_mutex_lock(&sound->listener_lock);
    for (size_t i = 0; i < sound->n_hearers; i++)
        tell_state(sound, &sound->hearers[i]);
    while (sound->n_hearers > 0 && side->open && capture_read(sound->capture, frame)) {
        if (!sound->keep_echo)
            echo_frame(sound->echo, frame);
        for (size_t i = 0; i < sound->n_hearers; i++) {
            const struct hearer *hearer = &sound->hearers[i];

            hearer->listener.frame(hearer->userdata, frame, (int64_t)now_usec);
        }
    }
    pthread_mutex_unlock(&sound->listener_lock);
}

/* The echo of this will be heard. */
static void follow_echo(struct sound *sound)
{
    float samples[PLAYBACK_EMITTED_MAX];
    unsigned number, rate_hz;
    size_t n;

    while ((n = playback_emitted(sound->playback, samples, &number, &rate_hz)) > 0)
        if (sound->sides[DEVICE_CAPTURE].open && !sound->keep_echo)
            echo_played(sound->echo, samples, n, rate_hz, number);
}

/* What was played `latency` ago was heard now. */
static void follow(struct sound *sound)
{
    const unsigned latency = playback_latency_msec(sound->playback) * 1000 / TICK_USEC;
    struct heard *now = &sound->history[sound->n_ticks % HISTORY];

    now->n_samples = playback_last_position(sound->playback, &now->generation);
    pthread_mutex_lock(&sound->lock);
    sound->heard =
        sound->history[(sound->n_ticks + HISTORY - MIN(latency, HISTORY - 1)) % HISTORY];
    pthread_mutex_unlock(&sound->lock);
    sound->n_ticks++;
}

static void count(struct sound *sound)
{
    const struct side *in = &sound->sides[DEVICE_CAPTURE], *out = &sound->sides[DEVICE_PLAYBACK];
    struct sound_counts counts = {
        .capture_open = is_delivering(sound, DEVICE_CAPTURE),
        .playback_open = is_delivering(sound, DEVICE_PLAYBACK),
        .capture_latency_msec = in->open ? capture_stream(sound->capture)->latency_msec : 0,
        .playback_latency_msec = out->open ? playback_latency_msec(sound->playback) : 0,
        .n_losses = sound->n_losses,
        .has_priority = (in->open || out->open) && (!in->open || in->has_priority) &&
                        (!out->open || out->has_priority),
        .can_interrupt =
            sound->now.keep_echo || sound->keep_echo || echo_is_learnt(sound->echo),
        .error = in->error.code ? in->error : out->error,
        .playback_error = out->error,
    };
    const size_t room = playback_room(sound->playback);
    const bool idle = sound_is_idle(sound);
    struct capture_counts captured;
    struct playback_counts played;
    bool changed;

    capture_counts(sound->capture, &captured);
    playback_counts(sound->playback, &played);
    counts.n_overruns = captured.n_overruns;
    counts.n_underruns = played.n_underruns;
    counts.n_xruns = captured.n_xruns + played.n_xruns;
    changed = idle != sound->told_idle || room > sound->told_room ||
              counts.capture_open != sound->told.capture_open ||
              counts.playback_open != sound->told.playback_open ||
              counts.n_overruns != sound->told.n_overruns ||
              counts.n_underruns != sound->told.n_underruns ||
              counts.n_xruns != sound->told.n_xruns ||
              counts.can_interrupt != sound->told.can_interrupt ||
              counts.n_losses != sound->told.n_losses ||
              counts.playback_error.code != sound->told.playback_error.code ||
              counts.error.code != sound->told.error.code;
    sound->told = counts;
    sound->told_idle = idle;
    sound->told_room = room;
    pthread_mutex_lock(&sound->lock);
    sound->counts = counts;
    pthread_mutex_unlock(&sound->lock);
    if (changed && sound->changed)
        sound->changed(sound->userdata);
}

static void tick(struct sound *sound, bool has_listener)
{
    const uint64_t now_usec = pcm_stream_now_usec();
    const bool play = atomic_load(&sound->play);

    sound->in_use = has_listener || (play && !sound_is_idle(sound));
    if (sound->in_use)
        sound->used_usec = now_usec;
    else if (play && now_usec - sound->used_usec > LINGER_USEC)
        atomic_store(&sound->play, false);

    if (!has_listener) {
        forget_side(sound, DEVICE_CAPTURE);
    } else if (!sound->sides[DEVICE_CAPTURE].open) {
        open_side(sound, DEVICE_CAPTURE, now_usec);
    }
    if (!play) {
        forget_side(sound, DEVICE_PLAYBACK);
    } else if (!sound->sides[DEVICE_PLAYBACK].open) {
        open_side(sound, DEVICE_PLAYBACK, now_usec);
    }
    for (enum device_direction d = 0; d < _DEVICE_DIRECTION_N; d++)
        watch_side(sound, d, now_usec);
    lift_makers(sound, now_usec);
    feed(sound, now_usec);
    follow_echo(sound);
    listen(sound, now_usec);
    follow(sound);
    count(sound);
    if (!has_listener && !play && now_usec - sound->used_usec > LINGER_USEC)
        shut_down(sound);
}

static bool has_listener(struct sound *sound)
{
    bool has;

    pthread_mutex_lock(&sound->listener_lock);
    has = sound->n_hearers > 0;
    pthread_mutex_unlock(&sound->listener_lock);
    return has;
}

static void list_devices(struct sound *sound)
{
    struct error err = ERROR_INIT;
    size_t n;

    if (!sound->in_use) /* an open stream is worth more than what was plugged in since */
        shut_down(sound);
    n = initialise(sound, &err) < 0 ? 0 : device_list(sound->list, sound->list_max);
    sound->used_usec = pcm_stream_now_usec();
    pthread_mutex_lock(&sound->lock);
    sound->list_n = n;
    sound->list_asked = false;
    pthread_cond_broadcast(&sound->listed);
    pthread_mutex_unlock(&sound->lock);
}

/* Take what the other threads said, after at most a tick, or for ever when nothing is open. */
static bool take_orders(struct sound *sound, bool busy)
{
    struct timespec until;
    bool stop, changed, list;

    pthread_mutex_lock(&sound->lock);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += TICK_USEC * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    while (!sound->kicked && !sound->stop)
        if (busy ? pthread_cond_timedwait(&sound->wake, &sound->lock, &until) != 0
                 : pthread_cond_wait(&sound->wake, &sound->lock) != 0)
            break;
    sound->kicked = false;
    changed = sound->n_now != sound->n_wanted;
    sound->n_now = sound->n_wanted;
    sound->now = sound->wanted;
    list = sound->list_asked; /* whoever asked waits, and lends its list meanwhile */
    stop = sound->stop;
    pthread_mutex_unlock(&sound->lock);
    if (list && !stop)
        list_devices(sound);
    if (changed) {
        shut_down(sound);
        sound->n_starved = 0;
        for (unsigned d = 0; d < _DEVICE_DIRECTION_N; d++)
            sound->sides[d].retry_usec = sound->sides[d].step_usec = 0;
    }
    return !stop;
}

static void *sound_main(void *argument)
{
    struct sound *sound = argument;
    bool busy = false;

    pthread_setname_np(pthread_self(), "sound");
    while (take_orders(sound, busy)) {
        const bool listening = has_listener(sound);

        tick(sound, listening);
        busy = listening || atomic_load(&sound->play) || sound->initialised;
    }
    drop_makers(sound);
    shut_down(sound);
    return NULL;
}

/* --- the other threads ----------------------------------------------------------------------- */

static void kick(struct sound *sound)
{
    pthread_mutex_lock(&sound->lock);
    sound->kicked = true;
    pthread_cond_signal(&sound->wake);
    pthread_mutex_unlock(&sound->lock);
}

static struct sound *sound_release(struct sound *sound)
{
    capture_free(sound->capture);
    playback_free(sound->playback);
    echo_free(sound->echo);
    pthread_cond_destroy(&sound->wake);
    pthread_cond_destroy(&sound->listed);
    pthread_mutex_destroy(&sound->lock);
    pthread_mutex_destroy(&sound->listener_lock);
    free(sound);
    return NULL;
}

struct sound *sound_new(const struct sound_config *config, struct error *err)
{
    struct sound *sound = calloc(1, sizeof(*sound));
    pthread_condattr_t monotonic;
    int r;

    if (!sound) {
        error_set(err, ERROR_NO_MEMORY, "No memory for the sound thread.");
        return NULL;
    }
    pthread_mutex_init(&sound->lock, NULL);
    pthread_mutex_init(&sound->listener_lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&sound->wake, &monotonic);
    pthread_cond_init(&sound->listed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    sound->changed = config->changed;
    sound->makers = config->makers;
    sound->userdata = config->userdata;
    sound->told_idle = true;
    if (set_wanted(&sound->wanted, config, err) < 0 ||
        !(sound->capture = capture_new(QUEUE_CAPTURE_MSEC, err)) ||
        !(sound->playback = playback_new(QUEUE_PLAY_MSEC, err)) ||
        !(sound->echo = echo_new(err)))
        return sound_release(sound);
    r = pthread_create(&sound->thread, NULL, sound_main, sound);
    if (r != 0) {
        error_set(err, ERROR_INTERNAL, "The sound thread cannot be started: %s.", strerror(r));
        return sound_release(sound);
    }
    return sound;
}

struct sound *sound_free(struct sound *sound)
{
    if (!sound)
        return NULL;
    pthread_mutex_lock(&sound->listener_lock);
    sound->n_hearers = 0;
    pthread_mutex_unlock(&sound->listener_lock);
    pthread_mutex_lock(&sound->lock);
    sound->stop = true;
    pthread_cond_signal(&sound->wake);
    pthread_mutex_unlock(&sound->lock);
    pthread_join(sound->thread, NULL);
    return sound_release(sound);
}

int sound_reconfigure(struct sound *sound, const struct sound_config *config, struct error *err)
{
    struct wanted wanted;
    int r;

    r = set_wanted(&wanted, config, err);
    if (r < 0)
        return r;
    pthread_mutex_lock(&sound->lock);
    sound->wanted = wanted;
    sound->n_wanted++;
    sound->kicked = true;
    pthread_cond_signal(&sound->wake);
    pthread_mutex_unlock(&sound->lock);
    return 0;
}

static bool is_taken(const struct sound *sound, const struct sound_listener *listener)
{
    bool answers = false;

    for (size_t i = 0; i < sound->n_hearers; i++)
        answers = answers || sound->hearers[i].listener.answers;
    return sound->n_hearers == SOUND_LISTENERS_MAX || (answers && listener->answers);
}

int sound_listen(struct sound *sound, const struct sound_listener *listener, void *userdata,
                 struct error *err)
{
    int r = 0;

    pthread_mutex_lock(&sound->listener_lock);
    if (is_taken(sound, listener))
        r = error_set(err, ERROR_BUSY, "%s",
                      listener->answers ? "Another conversation is listening."
                                        : "Too many programs are listening.");
    else
        sound->hearers[sound->n_hearers++] =
            (struct hearer){.listener = *listener, .userdata = userdata};
    pthread_mutex_unlock(&sound->listener_lock);
    kick(sound);
    return r;
}

void sound_stop_listening(struct sound *sound, void *userdata)
{
    size_t i = 0;

    pthread_mutex_lock(&sound->listener_lock);
    while (i < sound->n_hearers && sound->hearers[i].userdata != userdata)
        i++;
    if (i < sound->n_hearers)
        sound->hearers[i] = sound->hearers[--sound->n_hearers];
    pthread_mutex_unlock(&sound->listener_lock);
    kick(sound);
}

uint32_t sound_begin(struct sound *sound)
{
    return playback_cancel(sound->playback);
}

size_t sound_write(struct sound *sound, uint32_t generation, const float *samples,
                   size_t n_samples)
{
    const size_t n = playback_write(sound->playback, generation, samples, n_samples);

    if (!atomic_exchange(&sound->play, true))
        kick(sound);
    return n;
}

bool sound_end(struct sound *sound, uint32_t generation)
{
    return playback_end(sound->playback, generation);
}

void sound_cancel(struct sound *sound)
{
    playback_cancel(sound->playback);
}

void sound_duck(struct sound *sound, bool ducked)
{
    playback_duck(sound->playback, ducked);
}

uint64_t sound_heard(struct sound *sound, uint32_t generation)
{
    struct heard heard;

    pthread_mutex_lock(&sound->lock);
    heard = sound->heard;
    pthread_mutex_unlock(&sound->lock);
    return heard.generation == generation ? heard.n_samples : 0;
}

bool sound_is_idle(struct sound *sound)
{
    struct heard heard;
    uint32_t generation;
    const uint64_t n = playback_last_position(sound->playback, &generation);

    pthread_mutex_lock(&sound->lock);
    heard = sound->heard;
    pthread_mutex_unlock(&sound->lock);
    return playback_is_idle(sound->playback) && heard.generation == generation &&
           heard.n_samples == n;
}

void sound_counts(struct sound *sound, struct sound_counts *ret)
{
    pthread_mutex_lock(&sound->lock);
    *ret = sound->counts;
    pthread_mutex_unlock(&sound->lock);
}

size_t sound_devices(struct sound *sound, struct device *devices, size_t n_max)
{
    size_t n;

    pthread_mutex_lock(&sound->lock);
    sound->list = devices;
    sound->list_max = n_max;
    sound->list_asked = sound->kicked = true;
    pthread_cond_signal(&sound->wake);
    while (sound->list_asked && !sound->stop)
        pthread_cond_wait(&sound->listed, &sound->lock);
    n = sound->list_n;
    pthread_mutex_unlock(&sound->lock);
    return n;
}
