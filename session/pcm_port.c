/* SPDX-License-Identifier: MIT */
#include "session/pcm_port.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <samplerate.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/ring.h"
#include "session/internal.h"

#define BLOCK      240 /* samples, 10 ms */
#define BLOCKS     100
#define READ_MAX   4096 /* samples at once */
#define DUCK_GAIN  0.2f
#define DRAIN_MSEC 10 /* how often it is looked whether the client has read all */

struct block {
    uint32_t number;
    unsigned n;
    bool turned; /* down, where that was wanted when it went out */
    int16_t samples[BLOCK];
};

struct pcm {
    /* immutable once it is open */
    int in, out, wake; /* the pipes' ends here; an eventfd */
    unsigned in_rate_hz;
    struct task *task;
    pthread_t thread;
    bool is_open;

    atomic_bool stop, ducked;
    atomic_uint number;          /* of what is being said */
    atomic_ullong n_written;     /* samples of it that went into the pipe */
    struct ring ring;            /* engine thread -> thread */

    /* the thread */
    SRC_STATE *converter; /* NULL: the rate is right */
    int16_t read[READ_MAX + 1];
    size_t n_bytes; /* of an odd sample */
    float samples[READ_MAX];
    float frame[LISTENER_FRAME];
    size_t n_frame;
    size_t n_sent; /* bytes of the oldest block */
    float gain;
    bool is_drained; /* the client has read what there was */
};

/* --- the thread ------------------------------------------------------------------------------ */

static void hear(struct pcm *p, const float *samples, size_t n)
{
    struct listener *listener = ear_listener(p->task);

    while (n > 0) {
        const size_t part = MIN(n, LISTENER_FRAME - p->n_frame);

        memcpy(p->frame + p->n_frame, samples, part * sizeof(*samples));
        p->n_frame += part;
        samples += part;
        n -= part;
        if (p->n_frame < LISTENER_FRAME)
            return;
        p->n_frame = 0;
        listener_frame(listener, p->frame, clock_usec());
    }
}

static void convert(struct pcm *p, const float *samples, size_t n)
{
    float converted[READ_MAX];
    SRC_DATA data = {
        .data_in = samples,
        .input_frames = (long)n,
        .data_out = converted,
        .output_frames = READ_MAX,
        .src_ratio = (double)LISTENER_RATE_HZ / p->in_rate_hz,
    };

    if (!p->converter) {
        hear(p, samples, n);
        return;
    }
    do {
        if (src_process(p->converter, &data) != 0)
            return;
        hear(p, converted, (size_t)data.output_frames_gen);
        data.data_in += data.input_frames_used;
        data.input_frames -= data.input_frames_used;
    } while (data.input_frames > 0 || data.output_frames_gen == READ_MAX);
}

/* False: the client has closed its ear. */
static bool take_input(struct pcm *p)
{
    uint8_t *bytes = (uint8_t *)p->read;
    const ssize_t got = read(p->in, bytes + p->n_bytes, READ_MAX * sizeof(int16_t) - p->n_bytes);
    size_t n;

    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    if (got == 0)
        return false;
    p->n_bytes += (size_t)got;
    n = p->n_bytes / sizeof(int16_t);
    for (size_t i = 0; i < n; i++)
        p->samples[i] = (float)p->read[i] / 32768;
    p->n_bytes -= n * sizeof(int16_t);
    if (p->n_bytes)
        bytes[0] = bytes[n * sizeof(int16_t)];
    convert(p, p->samples, n);
    return true;
}

/* What waits in the ring is turned down as well, or it would take a second. */
static void turn_down(struct pcm *p, struct block *block)
{
    const float gain = atomic_load(&p->ducked) ? DUCK_GAIN : 1, before = p->gain;

    if (block->turned)
        return;
    block->turned = true;
    p->gain = gain;
    for (unsigned i = 0; (gain < 1 || before < 1) && i < block->n; i++) {
        const float part = (float)(i + 1) / (float)block->n; /* a step would be a click */

        block->samples[i] =
            (int16_t)lrintf((before + part * (gain - before)) * (float)block->samples[i]);
    }
}

static size_t unread(const struct pcm *p)
{
    int n = 0;

    return ioctl(p->out, FIONREAD, &n) == 0 && n > 0 ? (size_t)n / sizeof(int16_t) : 0;
}

/* A pipe does not tell when it has been read empty. */
static void watch_drain(struct pcm *p)
{
    if (p->is_drained || ring_n_items(&p->ring) > 0 || unread(p) > 0)
        return;
    p->is_drained = true;
    ear_wake(p->task);
}

/* Blocks into the pipe while it takes them; those whose number is over are dropped. False: nobody
 * reads any more. */
static bool give_output(struct pcm *p)
{
    struct block *block;
    bool any = false, ok = true;

    while (ok && (block = ring_read_begin(&p->ring))) {
        const uint8_t *bytes = (const uint8_t *)block->samples;
        const size_t n = block->n * sizeof(int16_t);

        if (block->number == atomic_load(&p->number) || p->n_sent > 0) {
            ssize_t sent;

            turn_down(p, block);
            sent = write(p->out, bytes + p->n_sent, n - p->n_sent);
            if (sent < 0) {
                ok = errno == EAGAIN || errno == EINTR;
                break;
            }
            p->n_sent += (size_t)sent;
            if (p->n_sent < n)
                break;
            if (block->number == atomic_load(&p->number))
                atomic_fetch_add(&p->n_written, block->n);
        }
        p->n_sent = 0;
        ring_read_end(&p->ring);
        any = true;
    }
    if (any) {
        p->is_drained = false;
        ear_wake(p->task);
    }
    return ok;
}

static void *pcm_main(void *userdata)
{
    struct pcm *p = userdata;

    pthread_setname_np(pthread_self(), "pcm");
    ear_tell_listening(p->task, true, NULL);
    while (!atomic_load(&p->stop)) {
        const bool waits = ring_n_items(&p->ring) > 0;
        struct pollfd fds[] = {
            {.fd = p->in, .events = POLLIN},
            {.fd = p->wake, .events = POLLIN},
            {.fd = ear_speaks(p->task) ? p->out : -1, .events = waits ? POLLOUT : 0},
        };
        uint64_t count;

        if (poll(fds, ARRAY_LEN(fds), p->is_drained || waits ? -1 : DRAIN_MSEC) < 0)
            continue;
        if (fds[1].revents)
            (void)!read(p->wake, &count, sizeof(count));
        if (((fds[0].revents & (POLLIN | POLLHUP)) && !take_input(p)) ||
            (fds[2].revents & POLLERR) || !give_output(p)) {
            ear_tell_listening(p->task, false, NULL);
            ear_hang_up(p->task);
            break;
        }
        if (fds[1].revents) /* the client's microphone may stand still */
            listener_obey(ear_listener(p->task), clock_usec());
        watch_drain(p);
    }
    return NULL;
}

/* --- the port -------------------------------------------------------------------------------- */

static void wake(struct pcm *p)
{
    (void)!write(p->wake, &(uint64_t){1}, sizeof(uint64_t));
}

static void pcm_command(void *userdata)
{
    wake(userdata);
}

static int pcm_open(void *userdata, struct task *task, struct error *err)
{
    struct pcm *p = userdata;
    sigset_t all, before;
    int r;

    p->task = task;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&p->thread, NULL, pcm_main, p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    p->is_open = r == 0;
    return r == 0 ? 0
                  : error_set(err, ERROR_INTERNAL, "Cannot start the thread of a conversation: %s.",
                              strerror(r));
}

static uint32_t pcm_begin(void *userdata)
{
    struct pcm *p = userdata;
    const uint32_t number = atomic_load(&p->number) + 1;

    atomic_store(&p->n_written, 0);
    atomic_store(&p->number, number);
    return number;
}

static size_t pcm_write(void *userdata, uint32_t number, const float *samples, size_t n)
{
    struct pcm *p = userdata;
    size_t done = 0;

    if (number != atomic_load(&p->number))
        return n;
    while (done < n) {
        struct block *block = ring_write_begin(&p->ring);

        if (!block)
            break;
        block->number = number;
        block->n = (unsigned)MIN(n - done, (size_t)BLOCK);
        block->turned = false;
        for (unsigned i = 0; i < block->n; i++)
            block->samples[i] =
                (int16_t)lrintf(32767 * MIN(MAX(samples[done + i], -1.0f), 1.0f));
        ring_write_end(&p->ring);
        done += block->n;
    }
    wake(p);
    return done;
}

static bool pcm_has_room(void *userdata)
{
    struct pcm *p = userdata;

    return ring_n_items(&p->ring) < BLOCKS;
}

static bool pcm_end(void *userdata, uint32_t number)
{
    (void)userdata, (void)number;
    return true;
}

static void pcm_cancel(void *userdata)
{
    struct pcm *p = userdata;

    atomic_fetch_add(&p->number, 1);
    wake(p);
}

static void pcm_duck(void *userdata, bool ducked)
{
    struct pcm *p = userdata;

    atomic_store(&p->ducked, ducked);
}

/* What the client has read counts as heard. */
static uint64_t pcm_heard(void *userdata, uint32_t number)
{
    struct pcm *p = userdata;
    const uint64_t n = atomic_load(&p->n_written), waiting = unread(p);

    (void)number; /* one that was cancelled keeps its count until the next begins */
    return n > waiting ? n - waiting : 0;
}

static bool pcm_is_idle(void *userdata)
{
    struct pcm *p = userdata;

    return ring_n_items(&p->ring) == 0 && unread(p) == 0;
}

static void pcm_close(void *userdata)
{
    struct pcm *p = userdata;

    if (!p->is_open)
        return;
    atomic_store(&p->stop, true);
    wake(p);
    pthread_join(p->thread, NULL);
    p->is_open = false;
}

static void pcm_free(void *userdata)
{
    struct pcm *p = userdata;

    pcm_close(p);
    if (p->converter)
        src_delete(p->converter);
    ring_done(&p->ring);
    if (p->in >= 0)
        close(p->in);
    if (p->out >= 0)
        close(p->out);
    if (p->wake >= 0)
        close(p->wake);
    free(p);
}

const struct voice_port pcm_port = {
    .patient = true,
    .command = pcm_command,
    .open = pcm_open,
    .begin = pcm_begin,
    .write = pcm_write,
    .has_room = pcm_has_room,
    .end = pcm_end,
    .cancel = pcm_cancel,
    .duck = pcm_duck,
    .heard = pcm_heard,
    .is_idle = pcm_is_idle,
    .close = pcm_close,
    .free = pcm_free,
};

void *pcm_port_new(unsigned in_rate_hz, int *ret_in, int *ret_out, struct error *err)
{
    struct pcm *p = calloc(1, sizeof(*p));
    int in[2] = {-1, -1}, out[2] = {-1, -1}, r = 0;

    if (!p) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a conversation.");
        return NULL;
    }
    p->in_rate_hz = in_rate_hz;
    p->gain = 1;
    p->is_drained = true;
    p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->wake < 0 || pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
        r = error_set(err, ERROR_BUSY, "No pipes for a conversation can be had: %s.",
                      strerror(errno));
    p->in = in[0];
    p->out = out[1];
    if (r == 0)
        r = ring_init(&p->ring, BLOCKS, sizeof(struct block), err);
    if (r == 0 && in_rate_hz != LISTENER_RATE_HZ) {
        p->converter = src_new(SRC_SINC_FASTEST, 1, &r);
        r = p->converter ? 0
                         : error_set(err, ERROR_NO_MEMORY,
                                     "There is not enough memory for a conversation.");
    }
    if (r < 0) {
        if (in[1] >= 0)
            close(in[1]);
        if (out[0] >= 0)
            close(out[0]);
        pcm_free(p);
        return NULL;
    }
    fcntl(p->in, F_SETFL, O_NONBLOCK);
    fcntl(p->out, F_SETFL, O_NONBLOCK);
    /* Little lies between the model and the client's loudspeaker: what is in the pipe was said. */
    fcntl(p->out, F_SETPIPE_SZ, 4096);
    *ret_in = in[1];
    *ret_out = out[0];
    return p;
}
