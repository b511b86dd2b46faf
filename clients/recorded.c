/* SPDX-License-Identifier: MIT */
#include "clients/recorded.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/bus.h"
#include "clients/terminal.h"
#include "clients/wav.h"

#define SILENCE_MSEC 1500 /* after the recording: its turn is over */

struct recorded {
    int to, from; /* the session's microphone and loudspeaker */
    int16_t *samples;
    size_t n;
    const char *output; /* NULL: nobody listens */
    int saved;          /* an enum status */
    bool is_started;
    pthread_t mouth, ear;
};

/* As fast as it is taken. The microphone stays open. */
static void *speak(void *userdata)
{
    const struct recorded *recorded = userdata;
    const char *bytes = (const char *)recorded->samples;
    size_t left = recorded->n * sizeof(*recorded->samples);

    while (left > 0) {
        const ssize_t n = write(recorded->to, bytes, left);

        if (n < 0 && errno != EINTR)
            break;
        bytes += n > 0 ? n : 0;
        left -= n > 0 ? (size_t)n : 0;
    }
    return NULL;
}

static void *hear(void *userdata)
{
    struct recorded *recorded = userdata;
    char chunk[4096];

    if (recorded->output)
        recorded->saved = wav_save(recorded->from, recorded->output);
    while (read(recorded->from, chunk, sizeof(chunk)) > 0)
        ;
    return NULL;
}

/* The recording with silence after it. */
static int read_input(struct recorded *recorded, const char *input, uint32_t *ret_rate_hz)
{
    size_t n_silence;
    int16_t *longer;

    recorded->samples = wav_read(input, &recorded->n, ret_rate_hz);
    if (!recorded->samples)
        return STATUS_ERROR;
    n_silence = (size_t)*ret_rate_hz * SILENCE_MSEC / 1000;
    longer = reallocarray(recorded->samples, recorded->n + n_silence, sizeof(*longer));
    if (!longer) {
        terminal_error("There is not enough memory.");
        return STATUS_ERROR;
    }
    memset(longer + recorded->n, 0, n_silence * sizeof(*longer));
    recorded->samples = longer;
    recorded->n += n_silence;
    return STATUS_OK;
}

int recorded_open(sd_bus *bus, const char *path, const char *input, const char *output,
                  struct recorded **ret)
{
    _cleanup_(bus_messagep) sd_bus_message *reply = NULL;
    struct recorded *recorded = *ret = calloc(1, sizeof(*recorded));
    uint32_t rate;
    int to, from, status;

    if (!recorded) {
        terminal_error("There is not enough memory.");
        return STATUS_ERROR;
    }
    recorded->to = recorded->from = -1;
    recorded->output = output;
    status = read_input(recorded, input, &rate);
    if (status == STATUS_OK)
        status = bus_call(bus, path, BUS_SESSION, "OpenAudio", &reply, "a{sv}", 1, "rate", "u",
                          rate);
    if (status != STATUS_OK)
        return status;
    if (sd_bus_message_read(reply, "hh", &to, &from) < 0)
        return bus_failure(NULL, -EBADMSG);
    recorded->to = fcntl(to, F_DUPFD_CLOEXEC, 3);
    recorded->from = fcntl(from, F_DUPFD_CLOEXEC, 3);
    return recorded->to < 0 || recorded->from < 0 ? bus_failure(NULL, -errno) : STATUS_OK;
}

int recorded_start(struct recorded *recorded)
{
    int r = pthread_create(&recorded->mouth, NULL, speak, recorded);

    if (r == 0) {
        r = pthread_create(&recorded->ear, NULL, hear, recorded);
        if (r != 0)
            pthread_detach(recorded->mouth);
    }
    recorded->is_started = r == 0;
    if (r != 0)
        terminal_error("The recording cannot be played: %s.", strerror(r));
    return r == 0 ? STATUS_OK : STATUS_ERROR;
}

int recorded_close(struct recorded *recorded)
{
    int status;

    if (!recorded)
        return STATUS_OK;
    if (recorded->is_started) {
        pthread_join(recorded->mouth, NULL);
        pthread_join(recorded->ear, NULL);
    }
    status = recorded->saved;
    if (recorded->to >= 0)
        close(recorded->to);
    if (recorded->from >= 0)
        close(recorded->from);
    free(recorded->samples);
    free(recorded);
    return status;
}
