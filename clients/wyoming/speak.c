/* SPDX-License-Identifier: MIT */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "clients/bus.h"
#include "clients/wav.h"
#include "clients/wyoming/assistant.h"
#include "clients/sentence.h"
#include "clients/wyoming/server.h"
#include "clients/wyoming/services.h"

#define TEXT_MAX     ((size_t)1 << 20) /* what the daemon takes */
#define SENTENCE_MAX ((size_t)4 << 10) /* of a text that comes in pieces: longer ones are cut */

/* A text, whole or still coming, that becomes sound. */
struct speech {
    struct peer *peer;
    char *model, *speaker;   /* NULL: the daemon's choice */
    char *text;              /* that was not begun yet */
    size_t n, size;
    bool streaming, whole;   /* it comes in pieces; the last has come */
    bool started;            /* audio-start is sent */
    uint64_t n_samples;      /* that are sent */
    uint8_t held[1];         /* half a sample */
    size_t n_held;
    struct call *call;       /* the sentence that is being said */
};

void speak_free(struct peer *peer)
{
    struct speech *speech = peer->speech;

    if (!speech)
        return;
    call_free(speech->call);
    free(speech->model);
    free(speech->speaker);
    free(speech->text);
    free(speech);
    peer->speech = NULL;
}

void speak_drained(struct peer *peer)
{
    if (peer->speech && peer->speech->call)
        call_hold(peer->speech->call, false);
}

static int copy_name(struct json_object *voice, const char *key, char **ret, struct error *err)
{
    const char *name = voice ? peer_text(voice, key) : NULL;

    if (name && *name && !(*ret = strdup(name)))
        return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a name.");
    return 0;
}

static int speech_new(struct peer *peer, struct json_object *data, bool streaming,
                      struct error *err)
{
    struct json_object *voice = json_object_object_get(data, "voice");
    const char *format = peer_text(data, "text_format");
    struct speech *speech;
    int r;

    if (format && strcmp(format, "text") != 0)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "A text must be plain, not of the format '%.32s'.", format);
    if (!json_object_is_type(voice, json_type_object))
        voice = NULL;
    speak_free(peer);
    speech = peer->speech = calloc(1, sizeof(*speech));
    if (!speech)
        return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a text.");
    speech->peer = peer;
    speech->streaming = streaming;
    r = copy_name(voice, "name", &speech->model, err);
    return r < 0 ? r : copy_name(voice, "speaker", &speech->speaker, err);
}

static int add_text(struct speech *speech, struct json_object *data, struct error *err)
{
    const char *text = peer_text(data, "text");
    const size_t n = text ? strlen(text) : 0;

    if (!text)
        return error_set(err, ERROR_INVALID_ARGUMENT, "There is no 'text' to be said.");
    if (n > TEXT_MAX - speech->n)
        return error_set(err, ERROR_INVALID_ARGUMENT, "A text has at most %zu bytes.", TEXT_MAX);
    if (speech->n + n + 1 > speech->size) {
        const size_t size = MAX(2 * speech->size, speech->n + n + 1);
        char *bytes = realloc(speech->text, size);

        if (!bytes)
            return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a text.");
        speech->text = bytes;
        speech->size = size;
    }
    memcpy(speech->text + speech->n, text, n + 1);
    speech->n += n;
    return 0;
}

/* --- sound ---------------------------------------------------------------------------------- */

static struct json_object *format_data(const struct speech *speech)
{
    struct json_object *data = json_object_new_object();

    json_object_object_add(data, "rate", json_object_new_int(WAV_OUT_RATE_HZ));
    json_object_object_add(data, "width", json_object_new_int(2));
    json_object_object_add(data, "channels", json_object_new_int(1));
    json_object_object_add(
        data, "timestamp",
        json_object_new_int64((int64_t)(speech->n_samples * 1000 / WAV_OUT_RATE_HZ)));
    return data;
}

static void start_sound(struct speech *speech)
{
    if (!speech->started)
        peer_send(speech->peer, "audio-start", format_data(speech));
    speech->started = true;
}

/* Samples go out with their lower byte first, whole ones only. */
static void on_bytes(void *userdata, const uint8_t *bytes, size_t n)
{
    struct speech *speech = userdata;
    const size_t total = speech->n_held + n;
    _cleanup_(freep) uint8_t *samples = malloc(total);

    if (!samples)
        return; /* a gap */
    memcpy(samples, speech->held, speech->n_held);
    memcpy(samples + speech->n_held, bytes, n);
    speech->n_held = total % 2;
    if (speech->n_held)
        speech->held[0] = samples[total - 1];
    for (size_t i = 0; i + 1 < total; i += 2) {
        uint16_t sample;

        memcpy(&sample, samples + i, sizeof(sample));
        sample = htole16(sample);
        memcpy(samples + i, &sample, sizeof(sample));
    }
    if (total < 2)
        return;
    start_sound(speech);
    peer_send_bytes(speech->peer, "audio-chunk", format_data(speech), samples, total / 2 * 2);
    speech->n_samples += total / 2;
    if (peer_is_full(speech->peer))
        call_hold(speech->call, true);
}

/* --- sentences ------------------------------------------------------------------------------ */

static void finish(struct peer *peer)
{
    struct speech *speech = peer->speech;
    struct json_object *data = json_object_new_object();

    start_sound(speech);
    json_object_object_add(data, "timestamp",
                           json_object_new_int64(
                               (int64_t)(speech->n_samples * 1000 / WAV_OUT_RATE_HZ)));
    peer_send(peer, "audio-stop", data);
    if (speech->streaming)
        peer_send(peer, "synthesize-stopped", NULL);
    speak_free(peer);
}

/* How much of the text can be said now. */
static size_t next_length(const struct speech *speech)
{
    size_t n = speech->n;

    if (speech->streaming) {
        n = sentence_length(speech->text, speech->n);
        if (n == 0 && (speech->whole || speech->n > SENTENCE_MAX))
            n = speech->n;
    }
    return n;
}

static int say(struct speech *speech, size_t n, struct error *err);

/* Say the next sentence that is whole. 1: it is under way; 0: there is none. */
static int say_next(struct speech *speech, struct error *err)
{
    size_t n;

    while (speech->n > 0 && (n = next_length(speech)) > 0) {
        const bool has_words = sentence_has_words(speech->text, n);
        const int r = has_words ? say(speech, n, err) : 0;

        memmove(speech->text, speech->text + n, speech->n - n + 1);
        speech->n -= n;
        if (r < 0)
            return r;
        if (has_words)
            return 1;
    }
    return 0;
}

/* What was said is said. */
static void on_end(void *userdata, const struct error *error)
{
    struct speech *speech = userdata;
    struct peer *peer = speech->peer;
    struct error err = ERROR_INIT;
    int r;

    if (error)
        err = *error;
    speech->call = call_free(speech->call);
    speech->n_held = 0;
    r = error ? error_errno(err.code) : say_next(speech, &err);
    if (r > 0)
        return;
    if (r < 0)
        peer_error(peer, &err);
    else if (speech->whole)
        finish(peer);
    peer_done(peer);
}

static int say(struct speech *speech, size_t n, struct error *err)
{
    static const struct call_sink sink = {.bytes = on_bytes, .ended = on_end};
    _cleanup_(bus_messagep) sd_bus_message *message = NULL;
    _cleanup_(freep) char *text = strndup(speech->text, n);
    sd_bus *bus = speech->peer->server->bus;
    int r = text ? assistant_method(bus, "Speak", &message, err)
                 : error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a text.");

    if (r < 0)
        return r;
    r = sd_bus_message_append(message, "s", text);
    if (r >= 0)
        r = sd_bus_message_open_container(message, 'a', "{sv}");
    if (r >= 0 && speech->model)
        r = bus_option(message, "model", "s", speech->model);
    if (r >= 0 && speech->speaker)
        r = bus_option(message, "voice", "s", speech->speaker);
    if (r >= 0)
        r = sd_bus_message_close_container(message);
    if (r < 0) {
        assistant_error(NULL, r, err);
        return r;
    }
    speech->call = call_new(bus, message, &sink, speech, err);
    return speech->call ? 0 : error_errno(err->code);
}

/* More text has come, or its end. */
static int go_on(struct peer *peer, struct error *err)
{
    const int r = say_next(peer->speech, err);

    if (r > 0)
        peer_work(peer);
    else if (r == 0 && peer->speech->whole)
        finish(peer);
    return MIN(r, 0);
}

int speak_whole(struct peer *peer, struct json_object *data, struct error *err)
{
    int r;

    /* For servers that know no pieces, the whole text is sent beside them. */
    if (peer->speech && peer->speech->streaming)
        return 0;
    r = speech_new(peer, data, false, err);
    if (r == 0)
        r = add_text(peer->speech, data, err);
    if (r < 0)
        return r;
    peer->speech->whole = true;
    return go_on(peer, err);
}

int speak_start(struct peer *peer, struct json_object *data, struct error *err)
{
    return speech_new(peer, data, true, err);
}

static int check_streaming(struct peer *peer, struct error *err)
{
    if (peer->speech && peer->speech->streaming)
        return 0;
    return error_set(err, ERROR_INVALID_ARGUMENT, "There was no synthesize-start before.");
}

int speak_chunk(struct peer *peer, struct json_object *data, struct error *err)
{
    int r = check_streaming(peer, err);

    if (r == 0)
        r = add_text(peer->speech, data, err);
    return r < 0 ? r : go_on(peer, err);
}

int speak_stop(struct peer *peer, struct error *err)
{
    const int r = check_streaming(peer, err);

    if (r < 0)
        return r;
    peer->speech->whole = true;
    return go_on(peer, err);
}
