/* SPDX-License-Identifier: MIT */

/*
 * org.freedesktop.Speech.Provider: the voices of the models for every program that speaks through
 * Spiel, at /org/lfmd/Speech/Provider under the second name, org.lfmd.Speech.Provider.
 *
 * Anybody may call. Volume, queueing and pauses are the client's: it applies the first and reads
 * slowly for the last. Listing the voices looks at files that are known already and loads nothing.
 */

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "ipc/bus.h"
#include "ipc/errors.h"
#include "ipc/objects.h"
#include "session/task.h"

#define VOICES_MAX 32 /* that are told */
#define VOICE_MAX  300

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define FORMAT "audio/x-spiel,format=S16LE,channels=1,rate=24000"
#else
#define FORMAT "audio/x-spiel,format=S16BE,channels=1,rate=24000"
#endif

/* SSML: mark, characters, break, sub, prosody, sentence and paragraph. */
#define FEATURES UINT64_C(0x33088)

/* A voice of an installed model. */
struct provider_voice {
    const struct model *model;
    const char *name; /* as the model knows it */
    char id[VOICE_MAX];
};

static const char *language(const struct provider_voice *voice)
{
    return strncmp(voice->name, "UK", 2) == 0 ? "en-GB" : "en-US";
}

static size_t add_voice(struct provider_voice *voices, size_t n, const struct model *model,
                        const char *name)
{
    if (n == VOICES_MAX)
        return n;
    voices[n] = (struct provider_voice){.model = model, .name = name};
    if (snprintf(voices[n].id, VOICE_MAX, "%s/%s", model->id, name) >= VOICE_MAX)
        return n;
    return n + 1;
}

/* Those of the model that speaks by itself come first, and its own voice first of all. */
static size_t list_voices(const struct bus *bus, struct provider_voice voices[VOICES_MAX])
{
    static const char *const published[] = {"US male", "US female", "UK male", "UK female"};
    struct error err = ERROR_INIT;
    const struct model *first = models_find_speaking(bus->models, NULL, &err);
    size_t n = first ? add_voice(voices, 0, first, first->voice) : 0;

    for (size_t i = 0; i < models_n(bus->models); i++) {
        const struct model *model = models_at(bus->models, i);

        if (!model->path || !model->vocoder_path || !model->detokenizer_path ||
            model->error.code != ERROR_NONE)
            continue;
        if (model != first)
            n = add_voice(voices, n, model, model->voice);
        for (size_t j = 0; !model->has_one_voice && j < ARRAY_LEN(published); j++)
            if (strcmp(published[j], model->voice) != 0)
                n = add_voice(voices, n, model, published[j]);
    }
    return n;
}

/* By its id; "": the first, or the first of the language where there is one. */
static const struct provider_voice *find_voice(const struct provider_voice *voices, size_t n,
                                               const char *id, const char *wanted)
{
    for (size_t i = 0; i < n; i++)
        if (*id ? strcmp(voices[i].id, id) == 0 : strcasecmp(language(&voices[i]), wanted) == 0)
            return &voices[i];
    return *id || n == 0 ? NULL : &voices[0];
}

/* 0 to 2 in octaves around 1: 0.5 to 2. */
static float pitch_factor(double pitch)
{
    return exp2f((float)pitch - 1);
}

static int synthesize(struct bus *bus, sd_bus_message *message, struct error *err)
{
    const char *text, *id, *wanted;
    struct provider_voice voices[VOICES_MAX];
    const struct provider_voice *voice;
    double pitch, rate;
    int fd, is_ssml;
    int r = sd_bus_message_read(message, "hssddbs", &fd, &text, &id, &pitch, &rate, &is_ssml,
                                &wanted);

    if (r < 0)
        return errors_message(err, r);
    voice = find_voice(voices, list_voices(bus, voices), id, wanted);
    if (!voice && *id)
        return error_set(err, ERROR_INVALID_ARGUMENT, "There is no voice '%.200s'.", id);
    return voice_synthesize(bus, message, fd, text,
                            &(struct task_options){
                                .model = voice ? voice->model->id : NULL,
                                .voice = voice ? voice->name : NULL,
                                .ssml = is_ssml,
                                .rate = (float)rate,
                                .pitch = pitch_factor(pitch),
                                .volume = 1,
                            },
                            err);
}

static int method_synthesize(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct error err = ERROR_INIT;
    const int r = synthesize(userdata, message, &err);

    return r < 0 ? errors_return(ret_error, r, &err) : sd_bus_reply_method_return(message, NULL);
}

static int get_name(sd_bus *connection, const char *path, const char *interface,
                    const char *property, sd_bus_message *reply, void *userdata,
                    sd_bus_error *ret_error)
{
    (void)connection, (void)path, (void)interface, (void)property, (void)userdata, (void)ret_error;
    return sd_bus_message_append_basic(reply, 's', "lfmd");
}

static int append_voice(sd_bus_message *reply, const struct provider_voice *voice)
{
    char name[VOICE_MAX];

    snprintf(name, sizeof(name), "%.200s, %.90s", voice->model->title, voice->name);
    return sd_bus_message_append(reply, "(ssstas)", name, voice->id, FORMAT, FEATURES, 1,
                                 language(voice));
}

static int get_voices(sd_bus *connection, const char *path, const char *interface,
                      const char *property, sd_bus_message *reply, void *userdata,
                      sd_bus_error *ret_error)
{
    struct bus *bus = userdata;
    struct provider_voice voices[VOICES_MAX];
    const size_t n = bus->models ? list_voices(bus, voices) : 0;
    int r = sd_bus_message_open_container(reply, 'a', "(ssstas)");

    (void)connection, (void)path, (void)interface, (void)property, (void)ret_error;
    for (size_t i = 0; r >= 0 && i < n; i++)
        r = append_voice(reply, &voices[i]);
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

void speech_provider_changed(struct bus *bus)
{
    struct provider_voice voices[VOICES_MAX];
    const size_t n = list_voices(bus, voices);
    char *ids = calloc(n + 1, VOICE_MAX);

    if (!ids)
        return;
    for (size_t i = 0; i < n; i++)
        strcat(strcat(ids, voices[i].id), "\n");
    if (bus->voices && strcmp(ids, bus->voices) != 0)
        sd_bus_emit_properties_changed(bus->connection, BUS_SPEECH_PATH, BUS_SPEECH, "Voices",
                                       NULL);
    free(bus->voices);
    bus->voices = ids;
}

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("Synthesize",
                            SD_BUS_ARGS("h", pipe_fd, "s", text, "s", voice_id, "d", pitch, "d",
                                        rate, "b", is_ssml, "s", language),
                            SD_BUS_NO_RESULT, method_synthesize, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_PROPERTY("Name", "s", get_name, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("Voices", "a(ssstas)", get_voices, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_VTABLE_END,
};

int speech_provider_attach(struct bus *bus)
{
    return sd_bus_add_object_vtable(bus->connection, &bus->speech_slot, BUS_SPEECH_PATH, BUS_SPEECH,
                                    vtable, bus);
}
