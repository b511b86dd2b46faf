/* SPDX-License-Identifier: MIT */
/*
 * lfm-bench: how fast the engine runs a model file, alone or beside other load, and against a peer.
 *
 *     lfm-bench --model F [-p N] [-n N] [-d DEPTH] [--kv f32|f16|q8_0] ...
 *     lfm-bench --mmproj F [--size WxH | --image FILE] [--model F] ...
 *     lfm-bench --audio-set LM,MMPROJ,VOCODER,TOKENIZER [--seconds S] [-n FRAMES] ...
 *               [-t THREADS] [-r REPS] [--load N] [--peer CMD] [--json]
 *
 * --load keeps N busy loops running meanwhile. --peer runs CMD after each repetition with the same
 * files and options, expects the same keys as JSON from it, and adds the ratios of the best.
 */
#include "tools/bench.h"

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

#include "base/cleanup.h"
#include "tensor/pool.h"

#define LOAD_MAX  1024
#define SIDE_MAX  32768
#define REPLY_MAX ((size_t)1 << 20)

#define SECONDS_MAX 600

/* --- series --------------------------------------------------------------------------------- */

double bench_now(void)
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

double series_median(struct series *s)
{
    qsort(s->values, s->n, sizeof(*s->values), compare);
    return s->n ? (s->values[s->n / 2] + s->values[(s->n - 1) / 2]) / 2 : 0;
}

double series_largest(const struct series *s)
{
    double value = 0;

    for (size_t i = 0; i < s->n; i++)
        value = MAX(value, s->values[i]);
    return value;
}

double series_smallest(const struct series *s)
{
    double value = s->n ? s->values[0] : 0;

    for (size_t i = 1; i < s->n; i++)
        value = MIN(value, s->values[i]);
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

/* WxH */
static int read_size(const char *text, struct bench_settings *s, struct error *err)
{
    const char *x = strchr(text, 'x');
    _cleanup_(freep) char *width = strndup(text, strcspn(text, "x"));
    int r;

    if (!x || !width)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "--size is \"%.40s\", but a size such as 512x512 is expected.", text);
    r = number("The width of --size", width, 1, SIDE_MAX, &s->width, err);
    return r < 0 ? r : number("The height of --size", x + 1, 1, SIDE_MAX, &s->height, err);
}

static int read_options(int argc, char **argv, struct bench_settings *s, struct error *err)
{
    static const struct option options[] = {
        {"model", required_argument, NULL, 'm'},  {"threads", required_argument, NULL, 't'},
        {"kv", required_argument, NULL, 'k'},     {"load", required_argument, NULL, 'l'},
        {"peer", required_argument, NULL, 'P'},   {"json", no_argument, NULL, 'j'},
        {"mmproj", required_argument, NULL, 'M'}, {"image", required_argument, NULL, 'i'},
        {"size", required_argument, NULL, 's'},   {"audio-set", required_argument, NULL, 'a'},
        {"seconds", required_argument, NULL, 'S'}, {NULL, 0, NULL, 0},
    };
    int option, r = 0;

    opterr = 0;
    while (r == 0 && (option = getopt_long(argc, argv, ":p:n:d:t:r:", options, NULL)) != -1) {
        switch (option) {
        case 'm':
            s->model = optarg;
            break;
        case 'M':
            s->mmproj = optarg;
            break;
        case 'i':
            s->image = optarg;
            break;
        case 's':
            r = read_size(optarg, s, err);
            break;
        case 'a':
            s->audio_set = optarg;
            break;
        case 'S':
            r = number("--seconds", optarg, 1, SECONDS_MAX, &s->seconds, err);
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
            r = number("-r", optarg, 1, BENCH_REPS_MAX, &s->reps, err);
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
    if (s->audio_set && s->n_decode == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "-n is 0, but sound has a frame at least.");
    if (!s->model && !s->mmproj && !s->audio_set)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--model is missing.");
    return 0;
}

/* --- busy loops ----------------------------------------------------------------------------- */

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

/* --- the peer ------------------------------------------------------------------------------- */

double bench_number(struct json_object *reply, const char *key)
{
    struct json_object *value;

    return json_object_object_get_ex(reply, key, &value) ? json_object_get_double(value) : 0;
}

int bench_peer(const struct bench_settings *s, const char *arguments, struct json_object **ret,
               struct error *err)
{
    _cleanup_(freep) char *command = NULL, *reply = calloc(1, REPLY_MAX + 1);
    struct json_object *json;
    FILE *pipe;
    int status;

    /* Names of files go through the environment, so that the shell never reads them as words. */
    setenv("LFM_BENCH_MODEL", s->model ? s->model : "", 1);
    if (!reply || asprintf(&command, "%s --model \"$LFM_BENCH_MODEL\" %s -t %" PRIu64 " --json",
                           s->peer, arguments, s->n_threads) < 0)
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
    *ret = json;
    return 0;
}

/* --- report --------------------------------------------------------------------------------- */

void bench_put(struct json_object *to, const char *key, double value)
{
    char text[32];

    snprintf(text, sizeof(text), "%.4g", value);
    if (value >= 1000)
        snprintf(text, sizeof(text), "%.0f", value);
    json_object_object_add(to, key, json_object_new_double_s(value, text));
}

double bench_rss_mb(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss * 1024e-6;
}

void bench_print(const struct bench_settings *s, struct json_object *json)
{
    if (s->json) {
        puts(json_object_to_json_string_ext(json, JSON_C_TO_STRING_SPACED |
                                                      JSON_C_TO_STRING_NOSLASHESCAPE));
    } else {
        json_object_object_foreach(json, key, value)
            printf("%-24s %s\n", key, json_object_get_string(value));
    }
}

static int bench(const struct bench_settings *s, struct error *err)
{
    static pid_t pids[LOAD_MAX];
    const size_t n_load = start_load(s->load, pids);
    int r;

    if (n_load < s->load)
        r = error_set(err, ERROR_IO, "Only %zu busy loops can be started.", n_load);
    else if (s->audio_set)
        r = bench_audio(s, err);
    else
        r = s->mmproj ? bench_image(s, err) : bench_text(s, err);
    stop_load(n_load, pids);
    return r;
}

int main(int argc, char **argv)
{
    struct bench_settings settings = {
        .n_prefill = 512,
        .n_decode = 32,
        .reps = 4,
        .width = 512,
        .height = 512,
        .seconds = 10,
        .kv = KV_F16,
    };
    struct error err = ERROR_INIT;

    if (read_options(argc, argv, &settings, &err) < 0 || bench(&settings, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 2;
    }
    return 0;
}
