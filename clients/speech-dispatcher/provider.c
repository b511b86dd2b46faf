/* SPDX-License-Identifier: MIT */
#include "clients/speech-dispatcher/provider.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/cleanup.h"

#define NAME      "org.lfmd.Speech.Provider"
#define PATH      "/org/lfmd/Speech/Provider"
#define INTERFACE "org.freedesktop.Speech.Provider"

#define BUFFER_BYTES 8192 /* a packet of the daemon has 4096 at most */

enum packet_type { PACKET_AUDIO = 1, PACKET_EVENT = 2 };
enum packet_event { PACKET_MARK = 4 };

struct speech {
    const struct speech_sink *sink;
    void *userdata;
    int fd;
    sd_event_source *source;
    sd_bus_slot *slot;
    bool begun;           /* the header was read */
    bool answered, ended; /* the call; the pipe */
    char *reason;
    uint8_t buffer[BUFFER_BYTES]; /* [n] */
    size_t n;
};

/* --- voices ---------------------------------------------------------------------------------- */

static int read_voice(sd_bus_message *message, struct provider_voice *ret)
{
    const char *title, *id, *format, *language;
    uint64_t features;
    int r = sd_bus_message_enter_container(message, 'r', "ssstas");

    if (r <= 0)
        return r;
    r = sd_bus_message_read(message, "ssst", &title, &id, &format, &features);
    if (r >= 0)
        r = sd_bus_message_enter_container(message, 'a', "s");
    *ret = (struct provider_voice){0};
    if (r >= 0 && sd_bus_message_read_basic(message, 's', &language) > 0)
        snprintf(ret->language, sizeof(ret->language), "%s", language);
    while (r >= 0 && sd_bus_message_read_basic(message, 's', &language) > 0)
        ;
    if (r >= 0)
        r = sd_bus_message_exit_container(message);
    if (r >= 0)
        r = sd_bus_message_exit_container(message);
    if (r < 0)
        return r;
    snprintf(ret->id, sizeof(ret->id), "%s", id);
    memcpy(ret->name, ret->id, sizeof(ret->name));
    for (char *space = ret->name; (space = strpbrk(space, " \t\n"));)
        *space = '_';
    return 1;
}

int provider_voices(sd_bus *bus, struct provider_voice *voices, size_t n_max, size_t *ret_n)
{
    _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message *reply = NULL;
    size_t n = 0;
    int r = sd_bus_get_property(bus, NAME, PATH, INTERFACE, "Voices", &error, &reply, "a(ssstas)");

    if (r >= 0)
        r = sd_bus_message_enter_container(reply, 'a', "(ssstas)");
    while (r >= 0 && n < n_max && (r = read_voice(reply, &voices[n])) > 0)
        n++;
    sd_bus_message_unref(reply);
    if (r < 0)
        fprintf(stderr, "sd_lfmd: lfmd does not tell its voices: %s\n",
                error.message ? error.message : strerror(-r));
    *ret_n = n;
    return r < 0 ? r : 0;
}

/* --- packets --------------------------------------------------------------------------------- */

static uint32_t number(const uint8_t *bytes)
{
    uint32_t n;

    memcpy(&n, bytes, sizeof(n));
    return n;
}

/* The packet at the beginning of the buffer. Its length; 0: it is not all there; -1: it is none. */
static ssize_t take_packet(struct speech *speech)
{
    const uint8_t *b = speech->buffer;
    char name[256] = "";
    size_t length;

    if (speech->n < 5)
        return 0;
    if (b[0] == PACKET_AUDIO) {
        length = number(b + 1);
        if (length % 2 != 0 || length > BUFFER_BYTES - 5)
            return -1;
        if (speech->n < 5 + length)
            return 0;
        memmove(speech->buffer, b + 5, speech->n - 5); /* aligned now */
        speech->n -= 5;
        if (length > 0)
            speech->sink->sound(speech->userdata, (int16_t *)(void *)speech->buffer, length / 2);
        return (ssize_t)length;
    }
    if (b[0] != PACKET_EVENT)
        return -1;
    if (speech->n < 14)
        return 0;
    length = number(b + 10);
    if (length >= sizeof(name))
        return -1;
    if (speech->n < 14 + length)
        return 0;
    memcpy(name, b + 14, length);
    for (size_t i = 0; i < length; i++) /* it is told in a line */
        if ((unsigned char)name[i] < ' ')
            name[i] = ' ';
    if (b[1] == PACKET_MARK)
        speech->sink->mark(speech->userdata, name);
    return (ssize_t)(14 + length);
}

/* -1: this is not what a provider writes. */
static int take_packets(struct speech *speech)
{
    ssize_t n = 0;

    do {
        memmove(speech->buffer, speech->buffer + n, speech->n - (size_t)n);
        speech->n -= (size_t)n;
        if (!speech->begun) {
            n = speech->n < 4 ? 0 : memcmp(speech->buffer, "0.01", 4) == 0 ? 4 : -1;
            speech->begun = n > 0;
        } else {
            n = take_packet(speech);
        }
    } while (n > 0);
    return (int)n;
}

static void finish(struct speech *speech, const char *reason)
{
    sd_event_source_set_enabled(speech->source, SD_EVENT_OFF);
    speech->sink->end(speech->userdata, reason); /* frees it */
}

/* A refusal closes the pipe as well, and may be the later of the two. */
static void finish_when_done(struct speech *speech)
{
    if (speech->ended && speech->answered)
        finish(speech, speech->reason);
    else if (speech->ended)
        sd_event_source_set_enabled(speech->source, SD_EVENT_OFF);
}

static int on_sound(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct speech *speech = userdata;
    const ssize_t n = read(fd, speech->buffer + speech->n, BUFFER_BYTES - speech->n);

    (void)source, (void)revents;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0) {
        speech->ended = true;
        finish_when_done(speech);
        return 0;
    }
    speech->n += (size_t)n;
    if (take_packets(speech) < 0)
        finish(speech, "lfmd does not write sound as a speech provider should.");
    return 0;
}

/* --- speech ---------------------------------------------------------------------------------- */

static int on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    struct speech *speech = userdata;

    (void)ret_error;
    speech->answered = true;
    if (sd_bus_message_is_method_error(reply, NULL))
        speech->reason = strdup(sd_bus_message_get_error(reply)->message);
    finish_when_done(speech);
    return 1;
}

static int call(sd_bus *bus, struct speech *speech, const struct speech_request *request, int fd)
{
    return sd_bus_call_method_async(bus, &speech->slot, NAME, PATH, INTERFACE, "Synthesize",
                                    on_reply, speech, "hssddbs", fd, request->ssml, request->voice,
                                    request->pitch, request->rate, true, request->language);
}

struct speech *speech_begin(sd_bus *bus, sd_event *event, const struct speech_request *request,
                            const struct speech_sink *sink, void *userdata)
{
    struct speech *speech = calloc(1, sizeof(*speech));
    _cleanup_(closep) int write_end = -1;
    int fds[2], r;

    if (!speech || pipe2(fds, O_CLOEXEC) < 0) {
        free(speech);
        return NULL;
    }
    write_end = fds[1];
    speech->fd = fds[0];
    speech->sink = sink;
    speech->userdata = userdata;
    fcntl(speech->fd, F_SETFL, O_NONBLOCK);
    r = sd_event_add_io(event, &speech->source, speech->fd, EPOLLIN, on_sound, speech);
    if (r >= 0)
        r = call(bus, speech, request, write_end);
    return r < 0 ? speech_stop(speech) : speech;
}

void speech_hold(struct speech *speech, bool hold)
{
    if (!speech->ended)
        sd_event_source_set_enabled(speech->source, hold ? SD_EVENT_OFF : SD_EVENT_ON);
}

struct speech *speech_stop(struct speech *speech)
{
    if (!speech)
        return NULL;
    sd_bus_slot_unref(speech->slot);
    sd_event_source_disable_unref(speech->source);
    close(speech->fd);
    free(speech->reason);
    free(speech);
    return NULL;
}
