/* SPDX-License-Identifier: MIT */
/*
 * lfm-bench: how fast the engine runs a model file, alone or beside other load, and against a peer.
 *
 *     lfm-bench --model F [-p N] [-n N] [-d DEPTH] [-t THREADS] [-r REPS] [--kv f32|f16|q8_0]
 *               [--load N] [--peer CMD] [--json]
 *
 * prefill: -p tokens from an empty state, with the logits of the last one. decode: -n greedy tokens
 * after DEPTH others. Each repetition measures both; best and median are reported. --load keeps N
 * busy loops running meanwhile. --peer runs CMD with --model F -p -n -d -t after each repetition,
 * expects prefill_tps and decode_tps as JSON from it, and adds the ratios of the best.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "lfm2/forward.h"
#include "tensor/kernels.h"

#define REPS_MAX  1000
#define LOAD_MAX  1024
#define CONTEXT   2048 /* positions of the state, unless more are needed */
#define REPLY_MAX ((size_t)1 << 20)

struct settings {
    const char *model, *peer;
    uint64_t n_prefill, n_decode, depth, n_threads, reps, load;
    enum kv_type kv;
    bool json;
};

struct series {
    double values[REPS_MAX];
    size_t n;
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(struct series *s)
{
    qsort(s->values, s->n, sizeof(*s->values), compare);
    return s->n ? (s->values[s->n / 2] + s->values[(s->n - 1) / 2]) / 2 : 0;
}

static double best(const struct series *s)
{
    double value = 0;

    for (size_t i = 0; i < s->n; i++)
        value = MAX(value, s->values[i]);
    return value;
}

/* --- options -------------------------------------------------------------------------------- */

static int number(const char *name, const char *text, uint64_t low, uint64_t high, uint64_t *ret,
                  struct error *err)
{
    char *end;
    unsigned long long value;

    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || value < low || value > high)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "%s is \"%.40s\", but a number from %" PRIu64 " to %" PRIu64
                         " is expected.",
                         name, text, low, high);
    *ret = value;
    return 0;
}

static int read_kv(const char *name, enum kv_type *ret, struct error *err)
{
    static const char *const names[] = {[KV_F32] = "f32", [KV_F16] = "f16", [KV_Q8_0] = "q8_0"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret = (enum kv_type)i;
            return 0;
        }
    }
    return error_set(err, ERROR_INVALID_ARGUMENT,
                     "--kv is \"%.40s\", but f32, f16 or q8_0 is expected.", name);
}

static int read_options(int argc, char **argv, struct settings *s, struct error *err)
{
    static const struct option options[] = {
        {"model", required_argument, NULL, 'm'}, {"threads", required_argument, NULL, 't'},
        {"kv", required_argument, NULL, 'k'},    {"load", required_argument, NULL, 'l'},
        {"peer", required_argument, NULL, 'P'},  {"json", no_argument, NULL, 'j'},
        {NULL, 0, NULL, 0},
    };
    int option, r = 0;

    opterr = 0;
    while (r == 0 && (option = getopt_long(argc, argv, ":p:n:d:t:r:", options, NULL)) != -1) {
        switch (option) {
        case 'm':
            s->model = optarg;
            break;
        case 'P':
            s->peer = optarg;
            break;
        case 'j':
            s->json = true;
            break;
        case 'p':
            r = number("-p", optarg, 0, 1 << 20, &s->n_prefill, err);
            break;
        case 'n':
            r = number("-n", optarg, 0, 1 << 20, &s->n_decode, err);
            break;
        case 'd':
            r = number("-d", optarg, 0, 1 << 20, &s->depth, err);
            break;
        case 't':
            r = number("-t", optarg, 0, POOL_THREADS_MAX, &s->n_threads, err);
            break;
        case 'r':
            r = number("-r", optarg, 1, REPS_MAX, &s->reps, err);
            break;
        case 'l':
            r = number("--load", optarg, 0, LOAD_MAX, &s->load, err);
            break;
        case 'k':
            r = read_kv(optarg, &s->kv, err);
            break;
        default:
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "The option \"%.40s\" is unknown or lacks its value.",
                             argv[optind - 1]);
        }
    }
    if (r < 0)
        return r;
    if (optind < argc)
        return error_set(err, ERROR_INVALID_ARGUMENT, "The argument \"%.40s\" is not expected.",
                         argv[optind]);
    if (!s->model)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--model is missing.");
    return 0;
}

/* --- our engine ----------------------------------------------------------------------------- */

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

static int engine_open(struct engine *e, const struct settings *s, struct error *err)
{
    const size_t needed = MAX(s->n_prefill, s->depth + s->n_decode) + 1;
    const double start = now();
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
    e->load_s = now() - start;
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

static int repetition(struct engine *e, const struct settings *s, struct series *prefill,
                      struct series *decoding, struct error *err)
{
    double start;
    int r;

    if (s->n_prefill > 0) {
        lfm2_state_reset(e->state);
        start = now();
        r = feed(e, s->n_prefill, true, err);
        if (r < 0)
            return r;
        prefill->values[prefill->n++] = (double)s->n_prefill / (now() - start);
    }
    if (s->n_decode > 0) {
        lfm2_state_reset(e->state);
        r = feed(e, s->depth, false, err);
        if (r < 0)
            return r;
        start = now();
        r = decode(e, s->n_decode, err);
        if (r < 0)
            return r;
        decoding->values[decoding->n++] = (double)s->n_decode / (now() - start);
    }
    return 0;
}

/* --- others: busy loops and the peer -------------------------------------------------------- */

static size_t start_load(uint64_t n, pid_t *pids)
{
    size_t started = 0;

    for (; started < n; started++) {
        pids[started] = fork();
        if (pids[started] < 0)
            break;
        if (pids[started] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (volatile uint64_t i = 0;; i++)
                ;
        }
    }
    return started;
}

static void stop_load(size_t n, const pid_t *pids)
{
    for (size_t i = 0; i < n; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
}

static double reply_number(struct json_object *reply, const char *key)
{
    struct json_object *value;

    return json_object_object_get_ex(reply, key, &value) ? json_object_get_double(value) : 0;
}

static int run_peer(const struct settings *s, struct series *prefill, struct series *decoding,
                    double *ret_rss, struct error *err)
{
    _cleanup_(freep) char *command = NULL, *reply = calloc(1, REPLY_MAX + 1);
    struct json_object *json;
    FILE *pipe;
    int status;

    /* The file's name goes through the environment, so that the shell never reads it as words. */
    setenv("LFM_BENCH_MODEL", s->model, 1);
    if (!reply || asprintf(&command,
                           "%s --model \"$LFM_BENCH_MODEL\" -p %" PRIu64 " -n %" PRIu64
                           " -d %" PRIu64 " -t %" PRIu64 " --json",
                           s->peer, s->n_prefill, s->n_decode, s->depth, s->n_threads) < 0)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the peer's reply.");
    pipe = popen(command, "r");
    if (!pipe)
        return error_set(err, ERROR_IO, "The peer cannot be started: %s.", strerror(errno));
    if (fread(reply, 1, REPLY_MAX, pipe) == 0)
        reply[0] = '\0';
    status = pclose(pipe);
    json = json_tokener_parse(reply);
    if (status != 0 || !json_object_is_type(json, json_type_object)) {
        json_object_put(json);
        return error_set(err, ERROR_IO, "The peer ended with status %d, without a JSON object.",
                         WIFEXITED(status) ? WEXITSTATUS(status) : status);
    }
    if (s->n_prefill > 0)
        prefill->values[prefill->n++] = reply_number(json, "prefill_tps");
    if (s->n_decode > 0)
        decoding->values[decoding->n++] = reply_number(json, "decode_tps");
    *ret_rss = MAX(*ret_rss, reply_number(json, "rss_mb"));
    json_object_put(json);
    return 0;
}

/* --- report --------------------------------------------------------------------------------- */

static void put(struct json_object *to, const char *key, double value)
{
    char text[32];

    snprintf(text, sizeof(text), "%.4g", value);
    if (value >= 1000)
        snprintf(text, sizeof(text), "%.0f", value);
    json_object_object_add(to, key, json_object_new_double_s(value, text));
}

static void report(const struct settings *s, const struct engine *e, struct series *ours,
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
        put(json, key, best(&ours[i]));
        snprintf(key, sizeof(key), "%s_tps_median", names[i]);
        put(json, key, median(&ours[i]));
        if (peer[i].n == 0 || best(&peer[i]) <= 0)
            continue;
        snprintf(key, sizeof(key), "peer_%s_tps", names[i]);
        put(json, key, best(&peer[i]));
        snprintf(key, sizeof(key), "peer_%s_tps_median", names[i]);
        put(json, key, median(&peer[i]));
        snprintf(key, sizeof(key), "%s_ratio", names[i]);
        put(json, key, best(&ours[i]) / best(&peer[i]));
    }
    put(json, "load_s", e->load_s);
    put(json, "rss_mb", rss_mb);
    put(json, "file_mb", file_mb);
    put(json, "rss_ratio", rss_mb / file_mb);
    if (peer_rss_mb > 0)
        put(json, "peer_rss_mb", peer_rss_mb);

    if (s->json) {
        puts(json_object_to_json_string_ext(json, JSON_C_TO_STRING_SPACED |
                                                  JSON_C_TO_STRING_NOSLASHESCAPE));
    } else {
        json_object_object_foreach(json, key, value)
            printf("%-24s %s\n", key, json_object_get_string(value));
    }
    json_object_put(json);
}

static int bench(const struct settings *s, struct error *err)
{
    static struct series ours[2], peer[2];
    static pid_t pids[LOAD_MAX];
    struct engine e = {0};
    struct rusage usage;
    double peer_rss_mb = 0;
    size_t n_load = 0;
    int r = engine_open(&e, s, err);

    if (r == 0 && (n_load = start_load(s->load, pids)) < s->load)
        r = error_set(err, ERROR_IO, "Only %zu busy loops can be started.", n_load);
    for (uint64_t i = 0; r == 0 && i < s->reps; i++) {
        r = repetition(&e, s, &ours[0], &ours[1], err);
        if (r == 0 && s->peer)
            r = run_peer(s, &peer[0], &peer[1], &peer_rss_mb, err);
    }
    stop_load(n_load, pids);
    getrusage(RUSAGE_SELF, &usage);
    if (r == 0)
        report(s, &e, ours, peer, (double)usage.ru_maxrss * 1024e-6, peer_rss_mb);
    engine_done(&e);
    return r;
}

int main(int argc, char **argv)
{
    struct settings settings = {.n_prefill = 512, .n_decode = 32, .reps = 4, .kv = KV_F16};
    struct error err = ERROR_INIT;

    if (read_options(argc, argv, &settings, &err) < 0 || bench(&settings, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 2;
    }
    return 0;
}
