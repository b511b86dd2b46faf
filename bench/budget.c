/* SPDX-License-Identifier: MIT */
/*
 * How well a time limit for pictures is kept: questions about pictures of many sizes, each with a
 * limit of its own, through a session as the daemon has them.
 *
 *     bench-budget [-t THREADS] [-n PICTURES] [-l BUSY] FOLDER MODEL
 *
 * FOLDER has the model and its vision file. BUSY processes compute beside it. Prints for each
 * picture its size, the limit, what was chosen, what was predicted and what it took; then how many
 * were within their limits.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "session/json.h"
#include "session/session.h"

#define PICTURES_MAX 1000
#define BUSY_MAX     64

struct result {
    bool ended;
    int64_t tokens, predicted_ms, encode_ms;
    bool shortened;
    char error[256];
};

static int64_t number(struct json_object *line, const char *key)
{
    struct json_object *value;

    return json_object_object_get_ex(line, key, &value) ? json_object_get_int64(value) : 0;
}

static void take(void *userdata, const struct turn_event *event)
{
    struct result *result = userdata;
    struct json_object *line = json_tokener_parse(event->line), *value;

    if (event->type == TURN_IMAGE) {
        result->tokens = number(line, "tokens");
        result->predicted_ms = number(line, "predicted_ms");
        result->encode_ms = number(line, "encode_ms");
        result->shortened = json_object_object_get_ex(line, "shortened", &value) &&
                            json_object_get_boolean(value);
    }
    if (event->type == TURN_ERROR)
        snprintf(result->error, sizeof(result->error), "%s", json_member_text(line, "message"));
    result->ended = event->type == TURN_DONE || event->type == TURN_ERROR;
    json_object_put(line);
}

static const struct session_sink sink = {.event = take};

/* A picture of this size that no other question has had. */
static int make_picture(unsigned width, unsigned height)
{
    const int fd = memfd_create("picture", MFD_CLOEXEC);
    const size_t row_bytes = 3 * (size_t)width;
    unsigned char *row = malloc(row_bytes);

    if (fd < 0 || !row)
        exit(1);
    dprintf(fd, "P6\n%u %u\n255\n", width, height);
    for (unsigned y = 0; y < height; y++) {
        for (size_t x = 0; x < row_bytes; x++)
            row[x] = (unsigned char)(rand() >> 7);
        if (write(fd, row, row_bytes) != (ssize_t)row_bytes)
            exit(1);
    }
    free(row);
    return fd;
}

static int ask(struct engine *engine, const char *model, int fd, unsigned limit_ms,
               struct result *result, struct error *err)
{
    const struct session_options options = {.model = model, .keep_alive_sec = INT64_MIN};
    const struct ask_options ask = {.max_tokens = 1};
    char settings[64];
    struct ask_part parts[] = {
        {.type = ASK_IMAGE, .fd = fd, .image = settings},
        {.type = ASK_TEXT, .text = "What is this?"},
    };
    struct session *session = session_new(engine, &options, &sink, result, err);
    uint32_t turn;

    snprintf(settings, sizeof(settings), "{\"max_encode_ms\": %u, \"max_tiles\": 4}", limit_ms);
    *result = (struct result){0};
    if (!session || session_ask(session, parts, ARRAY_LEN(parts), &ask, &turn, err) < 0)
        return -1;
    while (!result->ended) {
        struct pollfd wait = {engine_fd(engine), POLLIN, 0};

        poll(&wait, 1, -1);
        engine_dispatch(engine);
    }
    session_close(session, false);
    return 0;
}

static void start_busy(pid_t *busy, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        busy[i] = fork();
        if (busy[i] == 0)
            for (volatile unsigned x = 0;; x++)
                ;
    }
}

static unsigned between(unsigned low, unsigned high)
{
    return low + (unsigned)rand() % (high - low + 1);
}

static int run(struct engine *engine, const char *model, unsigned n, struct error *err)
{
    unsigned n_kept = 0, n_shortened = 0;

    for (unsigned i = 0; i <= n; i++) {
        const unsigned width = between(64, 2400), height = between(64, 1800);
        const unsigned limit_ms = between(200, 4000);
        const int fd = make_picture(width, height);
        struct result result;

        if (ask(engine, model, fd, limit_ms, &result, err) < 0)
            return -1;
        close(fd);
        if (i == 0) /* loads the model */
            continue;
        n_kept += !result.error[0] && result.encode_ms <= limit_ms;
        n_shortened += result.shortened;
        printf("%4ux%-4u limit %4u ms: %4lld tokens%s, predicted %5lld ms, took %5lld ms%s%s\n",
               width, height, limit_ms, (long long)result.tokens,
               result.shortened ? " (shortened)" : "", (long long)result.predicted_ms,
               (long long)result.encode_ms, result.encode_ms > limit_ms ? "  LATE" : "",
               result.error);
    }
    printf("kept %u of %u; shortened %u\n", n_kept, n, n_shortened);
    return 0;
}

int main(int argc, char **argv)
{
    unsigned n = 100, n_busy = 0;
    struct engine_config config = {
        .keep_alive_sec = KEEP_ALIVE_FOREVER,
        .n_context = 2048,
        .kv = KV_F16,
        .prefix_cache_bytes = (size_t)16 << 20,
        .image_cache_bytes = (size_t)16 << 20,
    };
    const char *folders[2] = {NULL, NULL};
    pid_t busy[BUSY_MAX];
    struct error err = ERROR_INIT;
    struct models *models;
    struct engine *engine;
    int option;

    while ((option = getopt(argc, argv, "t:n:l:")) != -1) {
        const unsigned value = optarg ? (unsigned)strtoul(optarg, NULL, 10) : 0;

        if (option == 't')
            config.n_threads = value;
        else if (option == 'n')
            n = MIN(value, PICTURES_MAX);
        else if (option == 'l')
            n_busy = MIN(value, BUSY_MAX);
        else
            return 2;
    }
    if (argc - optind != 2) {
        fprintf(stderr, "usage: bench-budget [-t THREADS] [-n PICTURES] [-l BUSY] FOLDER MODEL\n");
        return 2;
    }
    srand(1);
    folders[0] = argv[optind];
    models = models_new(
        &(struct models_config){.directories = folders, .fetch_program = "lfmd-fetch"}, NULL, NULL,
        &err);
    engine = models ? engine_new(&config, models, NULL, NULL, &err) : NULL;
    if (!engine) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    start_busy(busy, n_busy);
    if (run(engine, argv[optind + 1], n, &err) < 0)
        fprintf(stderr, "%s\n", err.text);
    for (unsigned i = 0; i < n_busy; i++) {
        kill(busy[i], SIGKILL);
        waitpid(busy[i], NULL, 0);
    }
    engine_free(engine);
    models_free(models);
    return err.code == ERROR_NONE ? 0 : 1;
}
