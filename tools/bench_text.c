/* SPDX-License-Identifier: MIT */
/*
 * prefill: -p tokens from an empty state, with the logits of the last one. decode: -n greedy tokens
 * after DEPTH others. Each repetition measures both; best and median are reported.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "lfm2/forward.h"
#include "tensor/kernels.h"
#include "tools/bench.h"

#define CONTEXT 2048 /* positions of the state, unless more are needed */

struct engine {
    struct gguf *gguf;
    struct pool *pool;
    struct lfm2_model *model;
    struct lfm2_workspace *workspace;
    struct lfm2_state *state;
    struct lfm2_job job;
    float *x, *hidden, *logits;
    uint32_t *ids;
    double load_s;
};

static void engine_done(struct engine *e)
{
    free(e->ids);
    free(e->logits);
    free(e->hidden);
    free(e->x);
    lfm2_state_free(e->state);
    lfm2_workspace_free(e->workspace);
    lfm2_model_free(e->model);
    pool_free(e->pool);
    gguf_free(e->gguf);
}

static int engine_open(struct engine *e, const struct bench_settings *s, struct error *err)
{
    const size_t needed = MAX(s->n_prefill, s->depth + s->n_decode) + 1;
    const double start = bench_now();
    size_t h, n_rows_max;

    e->gguf = gguf_open(s->model, err);
    if (!e->gguf)
        return -EINVAL;
    e->pool = pool_new((unsigned)s->n_threads, err);
    if (!e->pool)
        return -EINVAL;
    e->model = lfm2_model_load(e->gguf, false, e->pool, err);
    if (!e->model)
        return -EINVAL;
    if (!e->model->hparams.causal)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "'%s' is a retrieval model that reads whole texts; only models that go on "
                         "with a text are timed.",
                         s->model);
    e->load_s = bench_now() - start;
    n_rows_max = lfm2_workspace_rows(&e->model->hparams);
    e->workspace = lfm2_workspace_new(e->model, n_rows_max, err);
    if (!e->workspace)
        return -EINVAL;
    e->state = lfm2_state_new(e->model, MAX(needed, (size_t)CONTEXT), s->kv, err);
    if (!e->state)
        return -EINVAL;

    h = e->model->hparams.n_embd;
    e->x = malloc(n_rows_max * h * sizeof(float));
    e->hidden = malloc(h * sizeof(float));
    e->logits = malloc((size_t)e->model->hparams.n_vocab * sizeof(float));
    e->ids = malloc(n_rows_max * sizeof(*e->ids));
    if (!e->x || !e->hidden || !e->logits || !e->ids)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the rows of a pass.");
    e->job = (struct lfm2_job){.model = e->model, .workspace = e->workspace, .pool = e->pool};
    return 0;
}

/* Add n arbitrary tokens to the state; the logits of the last one when wanted. */
static int feed(struct engine *e, size_t n, bool logits, struct error *err)
{
    const uint32_t n_vocab = e->model->hparams.n_vocab;

    for (size_t done = 0; done < n;) {
        const size_t rows = MIN(n - done, lfm2_workspace_n_rows_max(e->workspace));
        const bool last = logits && done + rows == n;

        for (size_t i = 0; i < rows; i++)
            e->ids[i] = (uint32_t)((done + i) * 7919 + 13) % n_vocab;
        lfm2_embed(e->model, e->ids, rows, e->x);
        if (lfm2_forward(&e->job, e->state, e->x, rows, last ? e->hidden : NULL, last) < 0)
            return error_set(err, ERROR_CONTEXT_FULL, "The state has no room for %zu tokens.", n);
        done += rows;
    }
    if (logits)
        lfm2_logits(&e->job, e->hidden, 1, e->logits);
    return 0;
}

static int decode(struct engine *e, size_t n, struct error *err)
{
    const uint32_t n_vocab = e->model->hparams.n_vocab;
    uint32_t id = 1;

    for (size_t i = 0; i < n; i++) {
        lfm2_embed(e->model, &id, 1, e->x);
        if (lfm2_forward(&e->job, e->state, e->x, 1, e->hidden, 1) < 0)
            return error_set(err, ERROR_CONTEXT_FULL, "The state has no room for %zu tokens.", n);
        lfm2_logits(&e->job, e->hidden, 1, e->logits);
        id = 0;
        for (uint32_t v = 1; v < n_vocab; v++)
            id = e->logits[v] > e->logits[id] ? v : id;
    }
    return 0;
}

static int repetition(struct engine *e, const struct bench_settings *s, struct series *prefill,
                      struct series *decoding, struct error *err)
{
    double start;
    int r;

    if (s->n_prefill > 0) {
        lfm2_state_reset(e->state);
        start = bench_now();
        r = feed(e, s->n_prefill, true, err);
        if (r < 0)
            return r;
        prefill->values[prefill->n++] = (double)s->n_prefill / (bench_now() - start);
    }
    if (s->n_decode > 0) {
        lfm2_state_reset(e->state);
        r = feed(e, s->depth, false, err);
        if (r < 0)
            return r;
        start = bench_now();
        r = decode(e, s->n_decode, err);
        if (r < 0)
            return r;
        decoding->values[decoding->n++] = (double)s->n_decode / (bench_now() - start);
    }
    return 0;
}

/* --- the peer and the report ---------------------------------------------------------------- */

static int run_peer(const struct bench_settings *s, struct series *prefill, struct series *decoding,
                    double *ret_rss, struct error *err)
{
    struct json_object *reply;
    char arguments[128];
    int r;

    snprintf(arguments, sizeof(arguments), "-p %" PRIu64 " -n %" PRIu64 " -d %" PRIu64,
             s->n_prefill, s->n_decode, s->depth);
    r = bench_peer(s, arguments, &reply, err);
    if (r < 0)
        return r;
    if (s->n_prefill > 0)
        prefill->values[prefill->n++] = bench_number(reply, "prefill_tps");
    if (s->n_decode > 0)
        decoding->values[decoding->n++] = bench_number(reply, "decode_tps");
    *ret_rss = MAX(*ret_rss, bench_number(reply, "rss_mb"));
    json_object_put(reply);
    return 0;
}

static void report(const struct bench_settings *s, const struct engine *e, struct series *ours,
                   struct series *peer, double rss_mb, double peer_rss_mb)
{
    static const char *const names[2] = {"prefill", "decode"};
    const double file_mb = (double)gguf_file_bytes(e->gguf) * 1e-6;
    struct json_object *json = json_object_new_object();

    json_object_object_add(json, "model", json_object_new_string(s->model));
    json_object_object_add(json, "threads", json_object_new_int((int)pool_n_threads(e->pool)));
    json_object_object_add(json, "kernels", json_object_new_string(kernels()->name));
    json_object_object_add(json, "prompt", json_object_new_int64((int64_t)s->n_prefill));
    json_object_object_add(json, "tokens", json_object_new_int64((int64_t)s->n_decode));
    json_object_object_add(json, "depth", json_object_new_int64((int64_t)s->depth));
    json_object_object_add(json, "load", json_object_new_int64((int64_t)s->load));
    for (int i = 0; i < 2; i++) {
        char key[64];

        if (ours[i].n == 0)
            continue;
        snprintf(key, sizeof(key), "%s_tps", names[i]);
        bench_put(json, key, series_largest(&ours[i]));
        snprintf(key, sizeof(key), "%s_tps_median", names[i]);
        bench_put(json, key, series_median(&ours[i]));
        if (peer[i].n == 0 || series_largest(&peer[i]) <= 0)
            continue;
        snprintf(key, sizeof(key), "peer_%s_tps", names[i]);
        bench_put(json, key, series_largest(&peer[i]));
        snprintf(key, sizeof(key), "peer_%s_tps_median", names[i]);
        bench_put(json, key, series_median(&peer[i]));
        snprintf(key, sizeof(key), "%s_ratio", names[i]);
        bench_put(json, key, series_largest(&ours[i]) / series_largest(&peer[i]));
    }
    bench_put(json, "load_s", e->load_s);
    bench_put(json, "rss_mb", rss_mb);
    bench_put(json, "file_mb", file_mb);
    bench_put(json, "rss_ratio", rss_mb / file_mb);
    if (peer_rss_mb > 0)
        bench_put(json, "peer_rss_mb", peer_rss_mb);

    bench_print(s, json);
    json_object_put(json);
}

int bench_text(const struct bench_settings *s, struct error *err)
{
    static struct series ours[2], peer[2];
    struct engine e = {0};
    double peer_rss_mb = 0;
    int r = engine_open(&e, s, err);

    for (uint64_t i = 0; r == 0 && i < s->reps; i++) {
        r = repetition(&e, s, &ours[0], &ours[1], err);
        if (r == 0 && s->peer)
            r = run_peer(s, &peer[0], &peer[1], &peer_rss_mb, err);
    }
    if (r == 0)
        report(s, &e, ours, peer, bench_rss_mb(), peer_rss_mb);
    engine_done(&e);
    return r;
}
