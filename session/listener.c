/* SPDX-License-Identifier: MIT */
#include "session/listener.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "audio/device/vad.h"
#include "audio/in/mel.h"
#include "base/cleanup.h"

#define PREROLL ((size_t)LISTENER_RATE_HZ * 3 / 10) /* samples before the first speech */
#define MARGIN  ((size_t)LISTENER_RATE_HZ / 4)      /* after the last */

#define LEVEL_FRAMES 10

struct listener {
    const struct listener_sink *sink;
    void *userdata;
    size_t n_max;

    void (*command)(void *userdata); /* or NULL */
    void *command_userdata;

    atomic_bool busy, deaf;
    atomic_uint n_pressed, n_released;

    /* the ear's thread */
    struct vad *vad;
    struct turns turns;
    float *heard; /* [n_max] since PREROLL before the suspicion, or the last PREROLL */
    size_t n_heard, n_to_speech; /* all of it; up to the last speech */
    struct mel *mel; /* of what will be the clip; empty while nobody speaks */
    unsigned pressed, released;
    unsigned n_turns;    /* begun */
    unsigned draft_frames; /* between drafts; 0: none */
    int64_t speech_usec; /* end of the last frame with speech */
    float peak;
    unsigned n_peak; /* frames that it is of */

    pthread_mutex_t lock;
    struct clip clips[LISTENER_CLIPS];
    unsigned present;          /* place of the present one, running freely */
    unsigned n_clips, n_taken; /* last number that was given, and of the last that was taken */
    size_t n_mels;
    float *offered[LISTENER_CLIPS]; /* [n_mels][mel_n_frames(n_max)] features of the clips */
};

struct listener *listener_new(const struct turns_settings *settings,
                              const struct listener_sink *sink, void *userdata, struct error *err)
{
    struct listener *l = calloc(1, sizeof(*l));

    if (!l) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory to listen.");
        return NULL;
    }
    l->sink = sink;
    l->userdata = userdata;
    pthread_mutex_init(&l->lock, NULL);
    turns_begin(&l->turns, settings);
    l->n_max = PREROLL + (size_t)settings->turn_max_msec * (LISTENER_RATE_HZ / 1000) + MARGIN;
    l->n_heard = PREROLL; /* silence was before the first frame: no clip is too short to be heard */
    l->heard = calloc(l->n_max, sizeof(*l->heard));
    l->vad = vad_new(err);
    if (!l->vad || !l->heard) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory to listen.");
        return listener_free(l);
    }
    return l;
}

struct listener *listener_free(struct listener *l)
{
    if (!l)
        return NULL;
    vad_free(l->vad);
    mel_free(l->mel);
    free(l->heard);
    for (size_t i = 0; i < LISTENER_CLIPS; i++)
        free(l->offered[i]);
    pthread_mutex_destroy(&l->lock);
    free(l);
    return NULL;
}

void listener_on_command(struct listener *l, void (*command)(void *userdata), void *userdata)
{
    l->command = command;
    l->command_userdata = userdata;
}

int listener_open(struct listener *l, size_t n_mels, unsigned draft_msec, struct error *err)
{
    l->n_mels = n_mels;
    l->draft_frames = draft_msec / TURNS_FRAME_MSEC;
    l->mel = mel_new(n_mels, l->n_max, err);
    if (!l->mel)
        return error_errno(err->code);
    for (size_t i = 0; i < LISTENER_CLIPS; i++) {
        l->offered[i] = reallocarray(NULL, mel_n_frames(l->n_max), n_mels * sizeof(float));
        if (!l->offered[i])
            return error_set(err, ERROR_NO_MEMORY, "There is not enough memory to listen.");
    }
    return 0;
}

/* --- the ear's thread ------------------------------------------------------------------------ */

/* Features of what belongs to the clip by now: it only grows, until the turn has ended. */
static void compute(struct listener *l)
{
    const size_t n = MIN(l->n_heard, l->n_to_speech + MARGIN), done = mel_n_samples(l->mel);

    mel_push(l->mel, l->heard + done, n - done);
}

static struct clip *clip_at(struct listener *l, unsigned place)
{
    return &l->clips[place % LISTENER_CLIPS];
}

static void offer(struct listener *l, enum clip_state state, int64_t usec)
{
    struct clip *clip;

    compute(l);
    pthread_mutex_lock(&l->lock);
    if (clip_at(l, l->present)->state == CLIP_CONFIRMED)
        l->present++;
    clip = clip_at(l, l->present);
    if (clip->state != CLIP_OFFERED) {
        mel_features(l->mel, l->offered[l->present % LISTENER_CLIPS]);
        clip->number = ++l->n_clips;
        clip->turn = l->n_turns;
        clip->n = mel_n_samples(l->mel);
        clip->end_usec = l->speech_usec;
    }
    clip->state = state;
    clip->confirmed_usec = usec;
    pthread_mutex_unlock(&l->lock);
}

static void withdraw(struct listener *l)
{
    pthread_mutex_lock(&l->lock);
    clip_at(l, l->present)->state = CLIP_NONE;
    pthread_mutex_unlock(&l->lock);
}

/* Room for one more frame: what is before the turn's beginning goes. */
static void append(struct listener *l, const float *samples)
{
    if (l->turns.state == TURNS_SILENT && l->n_heard >= PREROLL) {
        l->n_heard = PREROLL - LISTENER_FRAME;
        memmove(l->heard, l->heard + LISTENER_FRAME, l->n_heard * sizeof(*l->heard));
    }
    if (l->n_heard + LISTENER_FRAME > l->n_max)
        return;
    memcpy(l->heard + l->n_heard, samples, LISTENER_FRAME * sizeof(*samples));
    l->n_heard += LISTENER_FRAME;
}

/* After a turn, or a suspicion that was none, only what may come before the next is kept. */
static void keep_preroll(struct listener *l)
{
    const size_t n = MIN(l->n_heard, PREROLL);

    memmove(l->heard, l->heard + l->n_heard - n, n * sizeof(*l->heard));
    l->n_heard = n;
    l->n_to_speech = 0;
    mel_clear(l->mel);
}

static void act(struct listener *l, unsigned events, int64_t usec)
{
    if (events & TURNS_BEGIN)
        l->n_turns++;
    if (events & TURNS_RESUME)
        withdraw(l);
    if (events & TURNS_END)
        offer(l, CLIP_CONFIRMED, usec);
    else if (events & TURNS_PAUSE)
        offer(l, CLIP_OFFERED, usec);
    if (events & TURNS_END) /* what was said is not said again before the next */
        memset(l->heard, 0, l->n_to_speech * sizeof(*l->heard));
    if (events & (TURNS_END | TURNS_CLEAR))
        keep_preroll(l);
    if (events)
        l->sink->heard(l->userdata, events, usec);
}

/* At a pause there is more than that: an offer. */
static void draft(struct listener *l, int64_t usec)
{
    if (l->draft_frames == 0 || l->turns.paused || l->turns.n_turn % l->draft_frames != 0)
        return;
    offer(l, CLIP_DRAFT, usec);
    l->sink->heard(l->userdata, 0, usec);
}

static void meter(struct listener *l, const float *samples, int64_t usec)
{
    for (size_t i = 0; i < LISTENER_FRAME; i++)
        l->peak = MAX(l->peak, fabsf(samples[i]));
    if (++l->n_peak < LEVEL_FRAMES)
        return;
    l->sink->level(l->userdata, MIN(l->peak, 1.0f), usec);
    l->peak = 0;
    l->n_peak = 0;
}

void listener_obey(struct listener *l, int64_t usec)
{
    const unsigned pressed = atomic_load(&l->n_pressed), released = atomic_load(&l->n_released);

    if (pressed != l->pressed)
        act(l, turns_press(&l->turns), usec);
    if (released != l->released)
        act(l, turns_release(&l->turns), usec);
    l->pressed = pressed;
    l->released = released;
}

void listener_frame(struct listener *l, const float samples[LISTENER_FRAME], int64_t usec)
{
    const bool busy = atomic_load(&l->busy), deaf = atomic_load(&l->deaf);
    const bool speech = vad_frame(l->vad, samples) && !deaf;

    if (l->sink->level)
        meter(l, samples, usec);
    append(l, samples);
    if (speech || l->turns.settings.push_to_talk) {
        l->n_to_speech = l->n_heard;
        l->speech_usec = usec;
    }
    act(l, turns_frame(&l->turns, speech, busy), usec);
    listener_obey(l, usec);
    if (l->turns.state == TURNS_SPEAKING) {
        compute(l);
        draft(l, usec);
    }
}

/* --- any thread ------------------------------------------------------------------------------ */

void listener_set_busy(struct listener *l, bool busy, bool deaf)
{
    atomic_store(&l->busy, busy);
    atomic_store(&l->deaf, deaf);
}

void listener_press(struct listener *l)
{
    atomic_fetch_add(&l->n_pressed, 1);
    if (l->command)
        l->command(l->command_userdata);
}

void listener_release(struct listener *l)
{
    atomic_fetch_add(&l->n_released, 1);
    if (l->command)
        l->command(l->command_userdata);
}

static bool is_waiting(const struct listener *l, const struct clip *clip)
{
    return clip->state == CLIP_CONFIRMED && clip->number > l->n_taken;
}

struct clip listener_clip(struct listener *l)
{
    struct clip clip;
    unsigned place;

    pthread_mutex_lock(&l->lock);
    place = l->present - MIN(l->present, LISTENER_CLIPS - 1u);
    while (place < l->present && !is_waiting(l, clip_at(l, place)))
        place++;
    clip = *clip_at(l, place);
    pthread_mutex_unlock(&l->lock);
    return clip;
}

unsigned listener_n_waiting(struct listener *l)
{
    unsigned n = 0;

    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < LISTENER_CLIPS; i++)
        n += is_waiting(l, &l->clips[i]);
    pthread_mutex_unlock(&l->lock);
    return n;
}

bool listener_take(struct listener *l, unsigned number, float *out)
{
    size_t i = 0;

    pthread_mutex_lock(&l->lock);
    while (i < LISTENER_CLIPS &&
           (l->clips[i].number != number || l->clips[i].state == CLIP_NONE))
        i++;
    if (i < LISTENER_CLIPS) {
        memcpy(out, l->offered[i], mel_n_frames(l->clips[i].n) * l->n_mels * sizeof(*out));
        l->n_taken = MAX(l->n_taken, number);
    }
    pthread_mutex_unlock(&l->lock);
    return i < LISTENER_CLIPS;
}

size_t listener_clip_max(const struct listener *l)
{
    return l->n_max;
}
