/* SPDX-License-Identifier: MIT */
/*
 * logits, embed, info: the backbone alone, so that a file without a vocabulary is enough.
 */

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "lfm2/forward.h"
#include "tensor/kernels.h"
#include "tools/run.h"

/* A loaded model and what a pass needs. */
struct engine {
    struct gguf *gguf;
    struct pool *pool;
    struct lfm2_model *model;
    struct lfm2_workspace *workspace;
    struct lfm2_job job;
};

static void engine_done(struct engine *engine)
{
    lfm2_workspace_free(engine->workspace);
    lfm2_model_free(engine->model);
    pool_free(engine->pool);
    gguf_free(engine->gguf);
}

static int open_model(const struct run_options *options, struct engine *engine, struct error *err)
{
    const char *path;
    int r;

    r = run_need(options, "model", &path, err);
    if (r < 0)
        return r;
    engine->gguf = gguf_open(path, err);
    if (!engine->gguf)
        return -EINVAL;
    engine->pool = pool_new(options->n_threads, err);
    if (!engine->pool)
        return -EINVAL;
    engine->model = lfm2_model_load(engine->gguf, run_flag(options, "precise"), engine->pool, err);
    return engine->model ? 0 : -EINVAL;
}

static int take_workspace(struct engine *engine, size_t n_rows, struct error *err)
{
    engine->workspace = lfm2_workspace_new(engine->model, n_rows, err);
    engine->job = (struct lfm2_job){
        .model = engine->model,
        .workspace = engine->workspace,
        .pool = engine->pool,
    };
    return engine->workspace ? 0 : -EINVAL;
}

static void statep(struct lfm2_state **state)
{
    lfm2_state_free(*state);
}

/* The final hidden state of every token: malloc. */
static float *hidden_states(struct engine *engine, const uint32_t *ids, size_t n, size_t chunk,
                            enum kv_type kv, struct error *err)
{
    _cleanup_(statep) struct lfm2_state *state = NULL;
    const size_t h = engine->model->hparams.n_embd;
    _cleanup_(freep) float *x = run_take_floats(n, h, err);
    _cleanup_(freep) float *hidden = run_take_floats(n, h, err);

    if (!x || !hidden)
        return NULL;
    if (!engine->model->hparams.causal)
        chunk = n;
    if (take_workspace(engine, MIN(n, chunk), err) < 0)
        return NULL;
    lfm2_embed(engine->model, ids, n, x);
    if (!engine->model->hparams.causal) {
        lfm2_encode(&engine->job, x, n, hidden);
        return TAKE_PTR(hidden);
    }
    state = lfm2_state_new(engine->model, n, kv, err);
    if (!state)
        return NULL;
    for (size_t done = 0; done < n; done += MIN(chunk, n - done)) {
        const size_t n_rows = MIN(chunk, n - done);

        lfm2_forward(&engine->job, state, x + done * h, n_rows, hidden + done * h, n_rows);
    }
    return TAKE_PTR(hidden);
}

static int run_hidden(const struct run_options *options, struct engine *engine,
                      const char **ret_out, float **ret_hidden, size_t *ret_n, struct error *err)
{
    _cleanup_(freep) uint32_t *ids = NULL;
    uint64_t chunk = 0;
    int r;

    r = run_need(options, "out", ret_out, err);
    if (r < 0)
        return r;
    r = run_number(options, "chunk", 1, LFM2_CONTEXT_MAX, &chunk, err);
    if (r < 0)
        return r;
    r = open_model(options, engine, err);
    if (r < 0)
        return r;
    r = run_ids(options, engine->model->hparams.n_vocab, &ids, ret_n, err);
    if (r < 0)
        return r;
    if (*ret_n == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--ids: expected at least one id.");
    if (chunk == 0)
        chunk = lfm2_workspace_rows(&engine->model->hparams);
    *ret_hidden = hidden_states(engine, ids, *ret_n, (size_t)chunk, options->kv, err);
    return *ret_hidden ? 0 : -EINVAL;
}

static int run_logits(const struct run_options *options, struct error *err)
{
    _cleanup_(engine_done) struct engine engine = {0};
    _cleanup_(freep) float *hidden = NULL, *logits = NULL;
    const char *out;
    size_t n, h, n_vocab, step;
    int r;

    r = run_hidden(options, &engine, &out, &hidden, &n, err);
    if (r < 0)
        return r;
    h = engine.model->hparams.n_embd;
    n_vocab = engine.model->hparams.n_vocab;
    step = lfm2_workspace_n_rows_max(engine.workspace);
    logits = run_take_floats(n, n_vocab, err);
    if (!logits)
        return -ENOMEM;
    for (size_t t = 0; t < n; t += MIN(step, n - t))
        lfm2_logits(&engine.job, hidden + t * h, MIN(step, n - t), logits + t * n_vocab);
    return run_write_floats(out, logits, n * n_vocab, err);
}

static int run_embed(const struct run_options *options, struct error *err)
{
    _cleanup_(engine_done) struct engine engine = {0};
    _cleanup_(freep) float *hidden = NULL, *vectors = NULL;
    const char *out;
    size_t n, h, dim, step;
    int r;

    r = run_hidden(options, &engine, &out, &hidden, &n, err);
    if (r < 0)
        return r;
    h = engine.model->hparams.n_embd;
    dim = engine.model->dense_2.out ? engine.model->dense_2.out : h;
    step = lfm2_workspace_n_rows_max(engine.workspace);
    vectors = run_take_floats(n, dim, err);
    if (!vectors)
        return -ENOMEM;
    if (engine.model->dense_2.out == 0)
        memcpy(vectors, hidden, n * h * sizeof(*hidden));
    for (size_t t = 0; engine.model->dense_2.out > 0 && t < n; t += MIN(step, n - t))
        lfm2_dense_2(&engine.job, hidden + t * h, MIN(step, n - t), vectors + t * dim);
    for (size_t t = 0; t < n; t++) {
        float *row = vectors + t * dim;
        double sum = 0;

        for (size_t i = 0; i < dim; i++)
            sum += (double)row[i] * (double)row[i];
        for (size_t i = 0; i < dim && sum > 0; i++)
            row[i] = (float)((double)row[i] / sqrt(sum));
    }
    return run_write_floats(out, vectors, n * dim, err);
}

/* --- info ------------------------------------------------------------------------------------- */

static void put_int(struct json_object *json, const char *key, uint64_t value)
{
    json_object_object_add(json, key, json_object_new_int64((int64_t)value));
}

static struct json_object *describe_types(const struct gguf *gguf)
{
    struct json_object *types = json_object_new_object();

    for (size_t i = 0; i < gguf_n_tensors(gguf); i++) {
        const char *name = dtype_name(gguf_tensor_at(gguf, i)->type);
        struct json_object *count;

        json_object_object_get_ex(types, name, &count);
        put_int(types, name, (uint64_t)json_object_get_int64(count) + 1);
    }
    return types;
}

static int run_info(const struct run_options *options, struct error *err)
{
    _cleanup_(engine_done) struct engine engine = {0};
    struct gguf_string architecture;
    struct json_object *json, *layers;
    const struct lfm2_hparams *hp;
    uint64_t n_context = 4096;
    size_t workspace_bytes, state_bytes, weights_bytes;
    const char *text;
    int r;

    r = run_number(options, "ctx", 1, LFM2_CONTEXT_MAX, &n_context, err);
    if (r < 0)
        return r;
    r = open_model(options, &engine, err);
    if (r < 0)
        return r;
    r = gguf_str(engine.gguf, "general.architecture", &architecture, err);
    if (r < 0)
        return r;
    hp = &engine.model->hparams;
    weights_bytes = run_flag(options, "precise") ? (size_t)gguf_file_bytes(engine.gguf)
                                                 : engine.model->arena.size;
    workspace_bytes = lfm2_workspace_plan(hp, lfm2_workspace_rows(hp));
    state_bytes = lfm2_state_plan(&engine.model->hparams, (size_t)n_context, options->kv);

    json = json_object_new_object();
    json_object_object_add(json, "architecture",
                           json_object_new_string_len(architecture.text, (int)architecture.length));
    put_int(json, "n_layer", hp->n_layer);
    put_int(json, "n_embd", hp->n_embd);
    put_int(json, "n_ff", hp->n_ff);
    put_int(json, "n_head", hp->n_head);
    put_int(json, "head_dim", hp->head_dim);
    put_int(json, "n_vocab", hp->n_vocab);
    put_int(json, "n_context", hp->n_context);
    put_int(json, "conv_kernel", hp->conv_kernel);
    put_int(json, "sliding_window", hp->sliding_window);
    json_object_object_add(json, "rope_theta", json_object_new_double((double)hp->rope_theta));
    json_object_object_add(json, "norm_eps", json_object_new_double((double)hp->norm_eps));
    json_object_object_add(json, "causal", json_object_new_boolean(hp->causal));
    put_int(json, "n_embd_out", hp->n_embd_out);
    put_int(json, "n_expert", hp->n_expert);
    put_int(json, "n_expert_used", hp->n_expert_used);
    put_int(json, "n_ff_expert", hp->n_ff_expert);
    layers = json_object_new_array();
    for (size_t i = 0; i < hp->n_layer; i++) {
        struct json_object *layer = json_object_new_object();

        json_object_object_add(layer, "mix",
                               json_object_new_string(hp->n_head_kv[i] ? "attention" : "conv"));
        put_int(layer, "n_head_kv", hp->n_head_kv[i]);
        json_object_object_add(layer, "ffn",
                               json_object_new_string(i < hp->n_layer_dense ? "dense" : "moe"));
        json_object_array_add(layers, layer);
    }
    json_object_object_add(json, "layers", layers);
    json_object_object_add(json, "types", describe_types(engine.gguf));
    put_int(json, "file_bytes", gguf_file_bytes(engine.gguf));
    put_int(json, "ctx", n_context);
    put_int(json, "weights_bytes", weights_bytes);
    put_int(json, "workspace_bytes", workspace_bytes);
    put_int(json, "state_bytes", state_bytes);
    put_int(json, "memory_bytes", (uint64_t)weights_bytes + workspace_bytes + state_bytes);

    text = json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN);
    r = run_print(text, strlen(text), err);
    if (r == 0)
        r = run_print("\n", 1, err);
    json_object_put(json);
    return r;
}

/* The kernel rows that work here, one name a line: what LFMD_KERNELS may be set to. */
static int run_kernels(const struct run_options *options, struct error *err)
{
    const struct kernels *rows[16];
    const size_t n = kernels_list(rows, ARRAY_LEN(rows));
    char text[1024];
    size_t used = 0;

    (void)options;
    for (size_t i = 0; i < n; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s\n", rows[i]->name);
    return run_print(text, used, err);
}

const struct run_verb run_model_verbs[] = {
    {"logits", "ids= chunk= out=", run_logits},
    {"embed", "ids= out=", run_embed},
    {"info", "ctx=", run_info},
    {"kernels", "", run_kernels},
    {NULL, NULL, NULL},
};
