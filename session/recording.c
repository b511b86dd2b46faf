/* SPDX-License-Identifier: MIT */
#include "session/recording.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "audio/decoder.h"
#include "audio/device/vad.h"
#include "base/cleanup.h"

#define PAUSE_FRAMES  ((size_t)50) /* of silence end a segment */
#define MARGIN_FRAMES ((size_t)25) /* of silence are kept on both sides */
#define SPEECH_FRAMES ((size_t)10) /* a segment with less speech is noise */
#define SHORT_PAUSE   ((size_t)15) /* frames; where a segment that is too long may be cut */

#define MS(samples) ((int64_t)((samples) * 1000 / RECORDING_RATE_HZ))

struct recording {
    /* immutable */
    struct sound_decoder *decoder;
    void (*changed)(void *userdata);
    void *userdata;
    pthread_t thread;

    atomic_bool cancel;
    atomic_int state;       /* enum recording_state */
    atomic_llong total_ms;
    pthread_mutex_t lock;
    pthread_cond_t taken;   /* the engine thread has given a segment back */

    /* the thread's while BUSY, the engine thread's otherwise */
    float *segment;         /* [n] */
    size_t n;
    uint64_t start;         /* samples of the recording before it */
    struct error error;

    /* the thread */
    float *heard;           /* [RECORDING_SEGMENT_MAX] what may become a segment */
    size_t n_heard;
    uint64_t heard_start;
    size_t n_speech;        /* frames of speech among it */
    size_t n_silence;       /* frames since the last speech */
    size_t pause_end;       /* samples of `heard` up to the middle of its last pause; 0: none */
    struct vad *vad;
};

/* --- the thread ------------------------------------------------------------------------------ */

static void set_state(struct recording *r, enum recording_state state)
{
    pthread_mutex_lock(&r->lock);
    atomic_store(&r->state, state);
    pthread_mutex_unlock(&r->lock);
    r->changed(r->userdata);
}

/* False: nobody wants segments any more. */
static bool wait_until_taken(struct recording *r)
{
    pthread_mutex_lock(&r->lock);
    while (atomic_load(&r->state) == RECORDING_SEGMENT && !atomic_load(&r->cancel))
        pthread_cond_wait(&r->taken, &r->lock);
    pthread_mutex_unlock(&r->lock);
    return !atomic_load(&r->cancel);
}

/* Forget the first n samples of what was heard. */
static void drop(struct recording *r, size_t n)
{
    r->n_heard -= n;
    r->heard_start += n;
    memmove(r->heard, r->heard + n, r->n_heard * sizeof(*r->heard));
}

/* The first n samples of what was heard are a segment, if somebody speaks in it. */
static bool deliver(struct recording *r, size_t n)
{
    if (r->n_speech >= SPEECH_FRAMES) {
        if (!wait_until_taken(r))
            return false;
        memcpy(r->segment, r->heard, n * sizeof(*r->heard));
        r->n = n;
        r->start = r->heard_start;
        set_state(r, RECORDING_SEGMENT);
    }
    drop(r, n);
    r->n_speech = 0;
    r->pause_end = 0;
    return true;
}

/* Take one frame. False: nobody wants segments any more. */
static bool hear(struct recording *r, const float *frame)
{
    const bool speech = vad_frame(r->vad, frame);

    memcpy(r->heard + r->n_heard, frame, VAD_FRAME * sizeof(*frame));
    r->n_heard += VAD_FRAME;
    if (speech) {
        if (r->n_speech > 0 && r->n_silence >= SHORT_PAUSE)
            r->pause_end = r->n_heard - (r->n_silence / 2 + 1) * VAD_FRAME;
        r->n_speech++;
        r->n_silence = 0;
    } else {
        r->n_silence++;
    }
    if (r->n_speech == 0) { /* silence before speech: its end is kept */
        if (r->n_heard > MARGIN_FRAMES * VAD_FRAME)
            drop(r, r->n_heard - MARGIN_FRAMES * VAD_FRAME);
        return true;
    }
    if (r->n_silence >= PAUSE_FRAMES)
        return deliver(r, r->n_heard - (r->n_silence - MARGIN_FRAMES) * VAD_FRAME);
    if (r->n_heard + VAD_FRAME > RECORDING_SEGMENT_MAX) {
        const size_t n_speech = r->n_speech, n = r->n_heard;
        const size_t cut = r->pause_end > n / 2 ? r->pause_end : n;
        const bool wanted = deliver(r, cut);

        /* About as much of the rest is speech. */
        r->n_speech = n_speech * (n - cut) / n;
        return wanted;
    }
    return true;
}

static int decode(struct recording *r, struct error *err)
{
    float frame[VAD_FRAME];
    size_t n = 0;
    ssize_t got;

    while ((got = sound_decoder_read(r->decoder, frame + n, VAD_FRAME - n, &r->cancel, err)) > 0) {
        atomic_store_explicit(&r->total_ms, MS(sound_decoder_claims(r->decoder)),
                              memory_order_relaxed);
        n += (size_t)got;
        if (n < VAD_FRAME)
            continue;
        n = 0;
        if (!hear(r, frame))
            return 0;
    }
    if (got < 0)
        return (int)got;
    if (n > 0) {
        memset(frame + n, 0, (VAD_FRAME - n) * sizeof(*frame));
        hear(r, frame);
    }
    if (r->n_speech > 0)
        deliver(r, r->n_heard);
    return 0;
}

static void *recording_main(void *userdata)
{
    struct recording *r = userdata;
    struct error err = ERROR_INIT;
    int result;

    pthread_setname_np(pthread_self(), "recording");
    result = decode(r, &err);
    if (!wait_until_taken(r))
        return NULL;
    r->error = err;
    set_state(r, result < 0 ? RECORDING_FAILED : RECORDING_END);
    return NULL;
}

/* --- bus thread ------------------------------------------------------------------------------ */

static struct recording *discard(struct recording *r)
{
    sound_decoder_free(r->decoder);
    vad_free(r->vad);
    free(r->segment);
    free(r->heard);
    pthread_cond_destroy(&r->taken);
    pthread_mutex_destroy(&r->lock);
    free(r);
    return NULL;
}

struct recording *recording_new(const char *program, int fd, void (*changed)(void *userdata),
                                void *userdata, struct error *err)
{
    _cleanup_(closep) int own = fd;
    struct recording *r = calloc(1, sizeof(*r));
    sigset_t all, before;
    int result;

    if (!r) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a recording.");
        return NULL;
    }
    r->changed = changed;
    r->userdata = userdata;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->taken, NULL);
    r->segment = malloc(RECORDING_SEGMENT_MAX * sizeof(*r->segment));
    r->heard = malloc(RECORDING_SEGMENT_MAX * sizeof(*r->heard));
    if (!r->segment || !r->heard) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a recording.");
        return discard(r);
    }
    r->vad = vad_new(err);
    if (r->vad)
        r->decoder = sound_decoder_new(program ? program : sound_decoder_path(), own, err);
    if (!r->decoder)
        return discard(r);

    /* Signals are the bus thread's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    result = pthread_create(&r->thread, NULL, recording_main, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result == 0)
        return r;
    error_set(err, ERROR_INTERNAL, "Cannot start the thread of a recording: %s.",
              strerror(result));
    return discard(r);
}

struct recording *recording_free(struct recording *r)
{
    if (!r)
        return NULL;
    pthread_mutex_lock(&r->lock);
    atomic_store(&r->cancel, true);
    pthread_cond_signal(&r->taken);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    return discard(r);
}

/* --- engine thread --------------------------------------------------------------------------- */

enum recording_state recording_state(const struct recording *r)
{
    return (enum recording_state)atomic_load(&r->state);
}

struct recording_segment recording_segment(const struct recording *r)
{
    return (struct recording_segment){
        .samples = r->segment,
        .n = r->n,
        .start_ms = MS(r->start),
        .end_ms = MS(r->start + r->n),
    };
}

void recording_next(struct recording *r)
{
    pthread_mutex_lock(&r->lock);
    atomic_store(&r->state, RECORDING_BUSY);
    pthread_cond_signal(&r->taken);
    pthread_mutex_unlock(&r->lock);
}

const struct error *recording_error(const struct recording *r)
{
    return &r->error;
}

int64_t recording_total_ms(const struct recording *r)
{
    return atomic_load_explicit(&r->total_ms, memory_order_relaxed);
}
