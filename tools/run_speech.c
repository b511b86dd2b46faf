/* SPDX-License-Identifier: MIT */
/*
 * audio-generate: a prompt of tokens, sounds and frames of codes; a reply of tokens and frames.
 */

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audio/in/encoder.h"
#include "base/cleanup.h"
#include "session/speech.h"
#include "text/row_id.h"
#include "tools/run.h"

#define SEGMENTS_MAX 4096

/* Rows of one segment that are no tokens. */
struct given {
    float *rows; /* [n][H], malloc */
    size_t n;
};

struct speaker {
    struct pool *pool;
    struct lm *lm;
    struct depthformer *depthformer;
    struct audio_encoder *encoder; /* NULL until a segment has a sound */
    struct json_object *request;
    const char *request_path;
    struct token_list ids;
    struct given *given; /* [n_given] */
    size_t n_given;
    struct sequence *sequence;
    struct speech *speech;
};

static void speaker_done(struct speaker *speaker)
{
    speech_free(speaker->speech);
    sequence_free(speaker->sequence);
    for (size_t i = 0; i < speaker->n_given; i++)
        free(speaker->given[i].rows);
    free(speaker->given);
    token_list_done(&speaker->ids);
    json_object_put(speaker->request);
    audio_encoder_free(speaker->encoder);
    depthformer_free(speaker->depthformer);
    lm_free(speaker->lm);
    pool_free(speaker->pool);
}

static int load(struct speaker *speaker, const struct run_options *options, struct error *err)
{
    const bool precise = run_flag(options, "precise");
    const char *model, *vocoder;
    int r = run_need(options, "model", &model, err);

    if (r == 0)
        r = run_need(options, "vocoder", &vocoder, err);
    if (r == 0)
        r = run_need(options, "request", &speaker->request_path, err);
    if (r == 0)
        r = run_json(speaker->request_path, &speaker->request, err);
    if (r < 0)
        return r;
    speaker->pool = pool_new(options->n_threads, err);
    if (speaker->pool)
        speaker->lm = lm_load(model, precise, speaker->pool, err);
    if (speaker->lm)
        speaker->depthformer = depthformer_load(vocoder, precise, speaker->pool, err);
    return speaker->depthformer ? 0 : -EINVAL;
}

static int push(struct speaker *speaker, uint32_t id, struct error *err)
{
    if (token_list_push(&speaker->ids, id) < 0)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the prompt.");
    return 0;
}

static int put_ids(struct speaker *speaker, struct json_object *ids, struct error *err)
{
    const size_t n_vocab = speaker->lm->model->hparams.n_vocab;
    int r = 0;

    if (!json_object_is_type(ids, json_type_array))
        return error_set(err, ERROR_INVALID_ARGUMENT, "\"ids\" is not an array.");
    for (size_t i = 0; i < json_object_array_length(ids) && r == 0; i++) {
        struct json_object *id = json_object_array_get_idx(ids, i);
        const int64_t value = json_object_get_int64(id);

        if (!json_object_is_type(id, json_type_int) || value < 0 || (size_t)value >= n_vocab)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "Id %zu is %s, but must be from 0 to %zu.", i,
                             json_object_to_json_string(id), n_vocab - 1);
        r = push(speaker, (uint32_t)value, err);
    }
    return r;
}

/* A name in the request is relative to the request's folder. */
static char *beside_request(const struct speaker *speaker, const char *name)
{
    const char *slash = strrchr(speaker->request_path, '/');
    char *path;

    if (name[0] == '/' || !slash)
        return strdup(name);
    return asprintf(&path, "%.*s%s", (int)(slash + 1 - speaker->request_path),
                    speaker->request_path, name) < 0
               ? NULL
               : path;
}

static int embed(struct audio_encoder *encoder, const char *path, struct given *given,
                 struct error *err)
{
    const struct audio_shape *shape = &audio_encoder_info(encoder)->shape;
    _cleanup_(freep) float *features = NULL;
    size_t n_frames;
    int r = run_features(path, shape->n_mels, &features, &n_frames, err);

    if (r < 0)
        return r;
    given->n = audio_encoder_rows(n_frames);
    given->rows = run_take_floats(given->n, shape->n_embd, err);
    if (!given->rows)
        return -ENOMEM;
    return audio_encode(encoder, features, n_frames, NULL, given->rows, NULL, err);
}

static int put_audio(struct speaker *speaker, const struct run_options *options,
                     struct json_object *name, struct error *err)
{
    struct given *given = &speaker->given[speaker->n_given++];
    const uint64_t key[2] = {speaker->n_given, 0};
    _cleanup_(freep) char *path = NULL;
    const char *mmproj;
    int r;

    if (!json_object_is_type(name, json_type_string))
        return error_set(err, ERROR_INVALID_ARGUMENT, "\"audio\" is not the name of a file.");
    path = beside_request(speaker, json_object_get_string(name));
    if (!path)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the prompt.");
    if (!speaker->encoder) {
        r = run_need(options, "mmproj", &mmproj, err);
        if (r < 0)
            return r;
        speaker->encoder =
            audio_encoder_load(mmproj, run_flag(options, "precise"), speaker->pool, err);
        if (!speaker->encoder)
            return -EINVAL;
        if (audio_encoder_info(speaker->encoder)->shape.n_embd !=
            speaker->lm->model->hparams.n_embd)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "%s makes rows of another width than the text model's %u.", mmproj,
                             speaker->lm->model->hparams.n_embd);
    }
    r = embed(speaker->encoder, path, given, err);
    for (size_t i = 0; i < given->n && r == 0; i++)
        r = push(speaker, row_id(key, i), err);
    return r;
}

static int put_codes(struct speaker *speaker, struct json_object *frames, struct error *err)
{
    const struct depthformer_info *info = depthformer_info(speaker->depthformer);
    struct given *given = &speaker->given[speaker->n_given++];
    _cleanup_(freep) int32_t *codes = NULL;
    int r = run_json_codes(frames, (int32_t)info->n_codes + 1, &codes, &given->n, err);

    if (r < 0)
        return r;
    given->rows = run_take_floats(given->n, info->n_embd, err);
    if (!given->rows)
        return -ENOMEM;
    for (size_t i = 0; i < given->n && r == 0; i++) {
        depthformer_code_row(speaker->depthformer, codes + i * CODEBOOKS,
                             given->rows + i * info->n_embd);
        r = push(speaker, speech_frame_id(codes + i * CODEBOOKS), err);
    }
    return r;
}

static int read_segments(struct speaker *speaker, const struct run_options *options,
                         struct error *err)
{
    struct json_object *segments = json_object_object_get(speaker->request, "segments");
    size_t n;
    int r = 0;

    if (!json_object_is_type(segments, json_type_array))
        return error_set(err, ERROR_INVALID_ARGUMENT, "The request has no array \"segments\".");
    n = json_object_array_length(segments);
    if (n > SEGMENTS_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The request has %zu segments; the limit is %d.", n, SEGMENTS_MAX);
    speaker->given = calloc(n + 1, sizeof(*speaker->given));
    if (!speaker->given)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the prompt.");
    for (size_t i = 0; i < n && r == 0; i++) {
        struct json_object *segment = json_object_array_get_idx(segments, i), *part;

        if (json_object_object_get_ex(segment, "ids", &part))
            r = put_ids(speaker, part, err);
        else if (json_object_object_get_ex(segment, "audio", &part))
            r = put_audio(speaker, options, part, err);
        else if (json_object_object_get_ex(segment, "codes", &part))
            r = put_codes(speaker, part, err);
        else
            r = error_set(err, ERROR_INVALID_ARGUMENT,
                          "Segment %zu has none of \"ids\", \"audio\" and \"codes\".", i);
    }
    if (r == 0 && speaker->ids.n == 0)
        r = error_set(err, ERROR_INVALID_ARGUMENT, "The prompt of the request is empty.");
    return r;
}

/* A number of the request within bounds; *ret keeps its value when it is absent. */
static int read_number(const struct speaker *speaker, const char *key, double low, double high,
                       double *ret, struct error *err)
{
    struct json_object *member;
    double value;

    if (!json_object_object_get_ex(speaker->request, key, &member))
        return 0;
    value = json_object_get_double(member);
    if (!(json_object_is_type(member, json_type_int) ||
          json_object_is_type(member, json_type_double)) ||
        !(value >= low && value <= high))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "\"%s\" is %s, but must be a number from %g to %g.", key,
                         json_object_to_json_string(member), low, high);
    *ret = value;
    return 0;
}

static int read_options(const struct speaker *speaker, struct speech_options *ret,
                        struct error *err)
{
    struct json_object *mode = json_object_object_get(speaker->request, "mode");
    const char *name = json_object_is_type(mode, json_type_string) ? json_object_get_string(mode)
                                                                   : "";
    double n_max = 512, temperature = 0, top_k = 0, seed = 0;
    int r;

    *ret = (struct speech_options){.text = SAMPLING_GREEDY, .audio = SAMPLING_GREEDY};
    if (strcmp(name, "sequential") == 0)
        ret->kind = MODES_SEQUENTIAL;
    else if (strcmp(name, "interleaved") == 0)
        ret->kind = MODES_INTERLEAVED;
    else
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "\"mode\" must be \"sequential\" or \"interleaved\".");
    r = read_number(speaker, "max_new_tokens", 0, (double)LFM2_CONTEXT_MAX, &n_max, err);
    if (r == 0)
        r = read_number(speaker, "temperature", 0, 100, &temperature, err);
    if (r == 0)
        r = read_number(speaker, "top_k", 0, UINT32_MAX, &top_k, err);
    if (r == 0)
        r = read_number(speaker, "seed", 0, 0x1p53, &seed, err);
    if (r < 0)
        return r;
    ret->n_max = (size_t)n_max;
    ret->audio.temperature = (float)temperature;
    ret->audio.top_k = (uint32_t)top_k;
    ret->audio.top_k_ties = true;
    ret->audio.seed = (uint64_t)seed;
    return 0;
}

/* Feed the prompt: *ret_hidden is the row after its last id. */
static int feed(struct speaker *speaker, const float **ret_hidden, struct error *err)
{
    const size_t n = speaker->ids.n, width = speaker->lm->model->hparams.n_embd;
    _cleanup_(freep) const float **rows = calloc(n, sizeof(*rows));
    const float *const *next = rows;
    size_t n_rows = 0;

    if (!rows)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the prompt.");
    for (size_t i = 0; i < speaker->n_given; i++)
        for (size_t k = 0; k < speaker->given[i].n; k++)
            rows[n_rows++] = speaker->given[i].rows + k * width;
    for (size_t done = 0, end; done < n; done = end) {
        end = MIN(n, done + sequence_n_rows_max(speaker->sequence));
        if (sequence_feed_hidden(speaker->sequence, speaker->ids.ids + done, end - done, next,
                                 NULL, ret_hidden) < 0)
            return error_set(err, ERROR_INTERNAL, "The prompt does not fit into its context.");
        for (size_t i = done; i < end; i++)
            next += is_row_id(speaker->ids.ids[i]);
    }
    return 0;
}

/* Append one event as JSON. */
static int print_event(FILE *out, const struct speech_event *event, bool first)
{
    fputs(first ? "" : ", ", out);
    if (!event->is_frame)
        return fprintf(out, "[%u]", event->id);
    for (int book = 0; book < CODEBOOKS; book++)
        fprintf(out, "%s%d", book > 0 ? ", " : "[", event->codes[book]);
    return fputc(']', out);
}

static int reply(struct speaker *speaker, struct error *err)
{
    _cleanup_(freep) char *text = NULL;
    struct speech_event event;
    size_t length, n = 0;
    FILE *out = open_memstream(&text, &length);
    bool failed;
    int r;

    if (!out)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the reply.");
    fputc('[', out);
    while ((r = speech_next(speaker->speech, NULL, &event)) > 0)
        print_event(out, &event, n++ == 0);
    fputs("]\n", out);
    failed = ferror(out);
    if (fclose(out) != 0 || failed)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the reply.");
    if (r < 0)
        return error_set(err, ERROR_INTERNAL, "The reply broke off: %s.", strerror(-r));
    return run_print(text, length, err);
}

static int run_audio_generate(const struct run_options *options, struct error *err)
{
    _cleanup_(speaker_done) struct speaker speaker = {0};
    struct speech_options speech;
    const float *hidden = NULL;
    int r = load(&speaker, options, err);

    if (r == 0)
        r = read_options(&speaker, &speech, err);
    if (r == 0)
        r = read_segments(&speaker, options, err);
    if (r < 0)
        return r;
    speaker.sequence = sequence_new(speaker.lm, speaker.ids.n + speech.n_max, options->kv, err);
    if (!speaker.sequence)
        return -EINVAL;
    r = feed(&speaker, &hidden, err);
    if (r < 0)
        return r;
    speaker.speech =
        speech_new(speaker.sequence, speaker.lm, speaker.depthformer, &speech, hidden, err);
    return speaker.speech ? reply(&speaker, err) : -EINVAL;
}

const struct run_verb run_speech_verbs[] = {
    {"audio-generate", "mmproj= vocoder= request=", run_audio_generate},
    {NULL, NULL, NULL},
};
