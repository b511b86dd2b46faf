/* SPDX-License-Identifier: MIT */
/*
 * Speech in and out, with the files of a model that talks (its vocoder file again in the place of
 * the tokenizer file where a Mimi is in it): a clip is encoded and put in front of the language
 * model, which says six tokens and then frames; each frame takes a step of it, the depthformer and
 * the decoder, which are timed apart. The clip is noise, so what is said means nothing; written as
 * a WAV file it is what a peer encodes too.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "audio/in/encoder.h"
#include "audio/out/depthformer.h"
#include "audio/out/vocoder.h"
#include "base/cleanup.h"
#include "lfm2/forward.h"
#include "tensor/kernels.h"
#include "tools/bench.h"

#define FRAME_MS  80.0
#define N_TOKENS  6 /* before the first frame of an interleaved reply */
#define N_WARM_UP 2 /* frames that are not counted */

enum file { FILE_MODEL, FILE_MMPROJ, FILE_VOCODER, FILE_TOKENIZER, _FILE_N };

struct engine {
    char *files[_FILE_N];
    double file_mb;
    struct pool *pool;
    struct gguf *gguf;
    struct lfm2_model *model;
    struct lfm2_workspace *workspace;
    struct lfm2_state *state;
    struct lfm2_job job;
    struct audio_encoder *encoder;
    struct depthformer *depthformer;
    struct vocoder *vocoder;
    struct mel *mel;
    float *clip, *features, *rows, *hidden, *logits, *x;
    size_t n_samples, n_frames, n_rows; /* of the clip: samples, mel frames, rows */
    char wav[32];                       /* path of the clip */
    double load_s;
};

struct figures {
    struct series encode, first; /* milliseconds of a repetition */
    struct series backbone, depthformer, decoder; /* of a frame, on average */
    struct series peer;
};

static void engine_done(struct engine *e)
{
    if (e->wav[0])
        unlink(e->wav);
    for (size_t i = 0; i < _FILE_N; i++)
        free(e->files[i]);
    free(e->clip);
    free(e->features);
    free(e->rows);
    free(e->hidden);
    free(e->logits);
    free(e->x);
    mel_free(e->mel);
    vocoder_free(e->vocoder);
    depthformer_free(e->depthformer);
    audio_encoder_free(e->encoder);
    lfm2_state_free(e->state);
    lfm2_workspace_free(e->workspace);
    lfm2_model_free(e->model);
    gguf_free(e->gguf);
    pool_free(e->pool);
}

/* --- loading ---------------------------------------------------------------------------------- */

/* LM,MMPROJ,VOCODER,TOKENIZER */
static int split_files(struct engine *e, const char *set, struct error *err)
{
    const char *rest = set;

    for (size_t i = 0; i < _FILE_N; i++) {
        const size_t n = strcspn(rest, ",");

        e->files[i] = strndup(rest, n);
        if (!e->files[i])
            return error_set(err, ERROR_NO_MEMORY, "There is no memory for names of files.");
        if (n == 0 || (rest[n] == ',') != (i + 1 < _FILE_N))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "--audio-set is \"%.200s\", but four files with commas between are "
                             "expected.",
                             set);
        rest += n + 1;
    }
    return 0;
}

static int load(struct engine *e, const struct bench_settings *s, struct error *err)
{
    e->gguf = gguf_open(e->files[FILE_MODEL], err);
    e->pool = e->gguf ? pool_new((unsigned)s->n_threads, err) : NULL;
    e->model = e->pool ? lfm2_model_load(e->gguf, false, e->pool, err) : NULL;
    if (!e->model)
        return -EINVAL;
    e->encoder = audio_encoder_load(e->files[FILE_MMPROJ], false, e->pool, err);
    e->depthformer =
        e->encoder ? depthformer_load(e->files[FILE_VOCODER], false, e->pool, err) : NULL;
    e->vocoder = e->depthformer ? vocoder_load(e->files[FILE_VOCODER], e->files[FILE_TOKENIZER],
                                               false, e->pool, err)
                                : NULL;
    if (!e->vocoder)
        return -EINVAL;
    if (audio_encoder_info(e->encoder)->shape.n_embd != e->model->hparams.n_embd ||
        depthformer_info(e->depthformer)->n_embd != e->model->hparams.n_embd ||
        vocoder_info(e->vocoder)->n_codes < depthformer_info(e->depthformer)->n_codes ||
        !e->model->hparams.causal)
        return error_set(err, ERROR_INVALID_ARGUMENT, "These four files are not of one model.");
    for (size_t i = 0; i < _FILE_N; i++) {
        struct gguf *gguf;

        if (i == FILE_TOKENIZER && strcmp(e->files[i], e->files[FILE_VOCODER]) == 0)
            continue; /* one file for both, as LFM2-Audio has it */
        gguf = gguf_open(e->files[i], err);
        if (!gguf)
            return -EINVAL;
        e->file_mb += (double)gguf_file_bytes(gguf) * 1e-6;
        gguf_free(gguf);
    }
    return 0;
}

/* Memory for a reply of n frames to the clip. */
static int take(struct engine *e, size_t n, enum kv_type kv, struct error *err)
{
    const struct lfm2_hparams *hparams = &e->model->hparams;
    const size_t h = hparams->n_embd, n_max = lfm2_workspace_rows(hparams);

    e->mel = mel_new(audio_encoder_info(e->encoder)->shape.n_mels, e->n_samples, err);
    e->workspace = e->mel ? lfm2_workspace_new(e->model, n_max, err) : NULL;
    if (e->workspace)
        e->state = lfm2_state_new(e->model, e->n_rows + N_TOKENS + n, kv, err);
    if (!e->state)
        return -EINVAL;
    e->features = calloc(e->n_frames, audio_encoder_info(e->encoder)->shape.n_mels * sizeof(float));
    e->rows = calloc(e->n_rows, h * sizeof(float));
    e->hidden = calloc(h, sizeof(float));
    e->x = calloc(h, sizeof(float));
    e->logits = calloc(hparams->n_vocab, sizeof(float));
    if (!e->features || !e->rows || !e->hidden || !e->x || !e->logits)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the rows of a clip.");
    e->job = (struct lfm2_job){.model = e->model, .workspace = e->workspace, .pool = e->pool};
    return 0;
}

/* --- the clip --------------------------------------------------------------------------------- */

static void put_number(FILE *file, uint32_t value, unsigned n_bytes)
{
    for (unsigned i = 0; i < n_bytes; i++)
        putc((int)(value >> 8 * i & 255), file);
}

/* The clip as WAV: 16 bits, mono. */
static int write_wav(struct engine *e, struct error *err)
{
    const uint32_t n_bytes = (uint32_t)(2 * e->n_samples);
    FILE *file;
    bool wrote;
    int fd;

    strcpy(e->wav, "/tmp/lfm-bench-XXXXXX");
    fd = mkstemp(e->wav);
    file = fd < 0 ? NULL : fdopen(fd, "wb");
    if (!file)
        return error_set(err, ERROR_IO, "A clip cannot be written: %s.", strerror(errno));
    fputs("RIFF", file);
    put_number(file, 36 + n_bytes, 4);
    fputs("WAVEfmt ", file);
    put_number(file, 16, 4);
    put_number(file, 1, 2); /* PCM */
    put_number(file, 1, 2);
    put_number(file, MEL_RATE_HZ, 4);
    put_number(file, 2 * MEL_RATE_HZ, 4);
    put_number(file, 2, 2);
    put_number(file, 16, 2);
    fputs("data", file);
    put_number(file, n_bytes, 4);
    for (size_t i = 0; i < e->n_samples; i++)
        put_number(file, (uint32_t)(int32_t)(e->clip[i] * 32767), 2);
    wrote = !ferror(file);
    if (fclose(file) != 0 || !wrote)
        return error_set(err, ERROR_IO, "A clip cannot be written: %s.", strerror(errno));
    return 0;
}

/* Noise that swells and fades, four times a second. */
static int make_clip(struct engine *e, const struct bench_settings *s, struct error *err)
{
    uint32_t random = 1;

    e->n_samples = s->seconds * MEL_RATE_HZ;
    e->n_frames = mel_n_frames(e->n_samples);
    e->n_rows = audio_encoder_rows(e->n_frames);
    e->clip = calloc(e->n_samples, sizeof(*e->clip));
    if (!e->clip)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for a clip.");
    for (size_t i = 0; i < e->n_samples; i++) {
        const float loudness = (float)(i % (MEL_RATE_HZ / 4)) / (MEL_RATE_HZ / 2);

        random = random * 1664525 + 1013904223;
        e->clip[i] = loudness * ((float)(random >> 8) / (float)(1 << 23) - 1);
    }
    return s->peer ? write_wav(e, err) : 0;
}

static int engine_open(struct engine *e, const struct bench_settings *s, struct error *err)
{
    const double start = bench_now();
    int r = split_files(e, s->audio_set, err);

    if (r == 0)
        r = load(e, s, err);
    e->load_s = bench_now() - start;
    if (r == 0)
        r = make_clip(e, s, err);
    if (r == 0)
        r = take(e, s->n_decode + N_WARM_UP + 1, s->kv, err);
    return r;
}

/* --- repetitions ------------------------------------------------------------------------------ */

static double ms_since(double start)
{
    return 1e3 * (bench_now() - start);
}

static size_t largest(const float *values, size_t n)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++)
        best = values[i] > values[best] ? i : best;
    return best;
}

/* Rows into the language model; the state was made for all of them. */
static int feed(struct engine *e, float *x, size_t n, struct error *err)
{
    const size_t h = e->model->hparams.n_embd, n_max = lfm2_workspace_n_rows_max(e->workspace);

    for (size_t done = 0; done < n; done += n_max) {
        const size_t n_now = MIN(n - done, n_max);

        if (lfm2_forward(&e->job, e->state, x + done * h, n_now, e->hidden, 1) < 0)
            return error_set(err, ERROR_CONTEXT_FULL, "The state has no room for %zu rows.", n);
    }
    return 0;
}

static int encode(struct engine *e, struct error *err)
{
    mel_clear(e->mel);
    if (mel_push(e->mel, e->clip, e->n_samples) < 0)
        return error_set(err, ERROR_INTERNAL, "The clip does not fit.");
    mel_features(e->mel, e->features);
    return audio_encode(e->encoder, e->features, e->n_frames, NULL, e->rows, NULL, err);
}

/* The tokens in front of the first frame. */
static int say_tokens(struct engine *e, struct error *err)
{
    for (size_t i = 0; i < N_TOKENS; i++) {
        uint32_t id;
        int r;

        lfm2_logits(&e->job, e->hidden, 1, e->logits);
        id = (uint32_t)largest(e->logits, e->model->hparams.n_vocab);
        lfm2_embed(e->model, &id, 1, e->x);
        r = feed(e, e->x, 1, err);
        if (r < 0)
            return r;
    }
    return 0;
}

struct frame_ms {
    double backbone, depthformer, decoder;
};

/* The next frame, from the hidden row to its samples, and into the language model. */
static int say_frame(struct engine *e, struct frame_ms *ms, struct error *err)
{
    static float samples[VOCODER_FRAME];
    const size_t n_codes = depthformer_info(e->depthformer)->n_codes;
    int32_t codes[1][CODEBOOKS];
    double start = bench_now();
    size_t n;
    int r;

    depthformer_begin(e->depthformer, e->hidden);
    for (unsigned i = 0; i < CODEBOOKS; i++)
        codes[0][i] = (int32_t)largest(
            depthformer_logits(e->depthformer, i, i > 0 ? codes[0][i - 1] : 0), n_codes);
    depthformer_code_row(e->depthformer, codes[0], e->x);
    ms->depthformer = ms_since(start);

    start = bench_now();
    vocoder_push(e->vocoder, (const int32_t(*)[CODEBOOKS])codes, 1, NULL, samples, &n);
    ms->decoder = ms_since(start);

    start = bench_now();
    r = feed(e, e->x, 1, err);
    ms->backbone = ms_since(start);
    return r;
}

static void add(struct series *series, double value)
{
    series->values[series->n++] = value;
}

static int repetition(struct engine *e, uint64_t n_frames, struct figures *f, struct error *err)
{
    struct frame_ms sum = {0}, ms;
    const double start = bench_now();
    int r = encode(e, err);

    if (r < 0)
        return r;
    add(&f->encode, ms_since(start));
    lfm2_state_reset(e->state);
    vocoder_reset(e->vocoder);
    r = feed(e, e->rows, e->n_rows, err);
    if (r == 0)
        r = say_tokens(e, err);
    for (uint64_t i = 0; r == 0 && i < n_frames + N_WARM_UP; i++) {
        r = say_frame(e, &ms, err);
        if (i == 0) /* it is heard before it is fed back */
            add(&f->first, ms_since(start) - ms.backbone);
        if (i < N_WARM_UP)
            continue;
        sum.backbone += ms.backbone / (double)n_frames;
        sum.depthformer += ms.depthformer / (double)n_frames;
        sum.decoder += ms.decoder / (double)n_frames;
    }
    add(&f->backbone, sum.backbone);
    add(&f->depthformer, sum.depthformer);
    add(&f->decoder, sum.decoder);
    return r;
}

/* --- the peer and the report ------------------------------------------------------------------ */

static int run_peer(const struct engine *e, struct bench_settings s, struct series *encode,
                    struct error *err)
{
    struct json_object *reply;
    int r;

    s.model = e->files[FILE_MODEL];
    setenv("LFM_BENCH_MMPROJ", e->files[FILE_MMPROJ], 1);
    setenv("LFM_BENCH_AUDIO", e->wav, 1);
    r = bench_peer(&s, "--mmproj \"$LFM_BENCH_MMPROJ\" --audio \"$LFM_BENCH_AUDIO\"", &reply, err);
    if (r < 0)
        return r;
    add(encode, bench_number(reply, "encode_ms"));
    json_object_put(reply);
    return 0;
}

static void put_best(struct json_object *json, const char *name, struct series *series)
{
    char key[64];

    bench_put(json, name, series_smallest(series));
    snprintf(key, sizeof(key), "%s_median", name);
    bench_put(json, key, series_median(series));
}

static void report(const struct bench_settings *s, const struct engine *e, struct figures *f)
{
    struct json_object *json = json_object_new_object();
    const double frame_ms = series_smallest(&f->backbone) + series_smallest(&f->depthformer) +
                            series_smallest(&f->decoder);

    json_object_object_add(json, "model", json_object_new_string(e->files[FILE_MODEL]));
    json_object_object_add(json, "threads", json_object_new_int((int)pool_n_threads(e->pool)));
    json_object_object_add(json, "kernels", json_object_new_string(kernels()->name));
    json_object_object_add(json, "load", json_object_new_int64((int64_t)s->load));
    json_object_object_add(json, "seconds", json_object_new_int64((int64_t)s->seconds));
    json_object_object_add(json, "rows", json_object_new_int64((int64_t)e->n_rows));
    json_object_object_add(json, "frames", json_object_new_int64((int64_t)s->n_decode));
    put_best(json, "encode_ms", &f->encode);
    bench_put(json, "encode_rtf", 1e-3 * series_smallest(&f->encode) / (double)s->seconds);
    if (series_smallest(&f->peer) > 0) {
        put_best(json, "peer_encode_ms", &f->peer);
        bench_put(json, "encode_ratio", series_smallest(&f->peer) / series_smallest(&f->encode));
    }
    put_best(json, "backbone_ms", &f->backbone);
    put_best(json, "depthformer_ms", &f->depthformer);
    put_best(json, "decoder_ms", &f->decoder);
    bench_put(json, "speech_rtf", frame_ms / FRAME_MS);
    put_best(json, "first_audio_ms", &f->first);
    bench_put(json, "load_s", e->load_s);
    bench_put(json, "rss_mb", bench_rss_mb());
    bench_put(json, "file_mb", e->file_mb);
    bench_print(s, json);
    json_object_put(json);
}

int bench_audio(const struct bench_settings *s, struct error *err)
{
    static struct figures figures;
    struct engine e = {0};
    int r = engine_open(&e, s, err);

    for (uint64_t i = 0; r == 0 && i < s->reps; i++) {
        r = repetition(&e, s->n_decode, &figures, err);
        if (r == 0 && s->peer)
            r = run_peer(&e, *s, &figures.peer, err);
    }
    if (r == 0)
        report(s, &e, &figures);
    engine_done(&e);
    return r;
}
