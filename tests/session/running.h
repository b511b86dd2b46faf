/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * An engine in a directory of the test's own, with models that are linked or written there, and the
 * sessions that are open on it.
 *
 * The engine thread runs freely; a test waits for events, never for a time.
 */

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "session/json.h"
#include "session/session.h"
#include "tests/fixture.h"
#include "tests/session/scratch.h"

#define WAIT_MSEC 120000

static char directory[64], state_directory[96], model_directory[96];
static struct models *models;
static struct engine *engine;
static struct session *open_sessions[8]; /* of a test that fails, to be closed */

static inline void make_directories(void)
{
    scratch_make(directory);
    snprintf(state_directory, sizeof(state_directory), "%s/state", directory);
    snprintf(model_directory, sizeof(model_directory), "%s/models", directory);
    mkdir(model_directory, 0700);
    log_setup(NULL, LOG_ERR);
}

/* --- models ---------------------------------------------------------------------------------- */

static inline void link_model(const char *source, const char *name)
{
    char path[192];

    snprintf(path, sizeof(path), "%s/%s.gguf", model_directory, name);
    assert_int_equal(symlink(source, path), 0);
}

/* The model with the n bytes of `to` from where the text `from` begins. */
static inline void write_model(const char *source, const char *name, const char *from,
                               const void *to, size_t n)
{
    static char file_bytes[1 << 18];
    char path[160], *place;
    size_t size;
    FILE *file = fopen(source, "re");

    assert_non_null(file);
    size = fread(file_bytes, 1, sizeof(file_bytes), file);
    assert_in_range(size, 1, sizeof(file_bytes) - 1);
    fclose(file);
    place = memmem(file_bytes, size, from, strlen(from));
    assert_non_null(place);
    memcpy(place, to, n);
    snprintf(path, sizeof(path), "%s/%s.gguf", model_directory, name);
    file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(file_bytes, 1, size, file), size);
    fclose(file);
}

/* --- engine ---------------------------------------------------------------------------------- */

static inline void run_engine(const struct engine_config *config, const char *default_model)
{
    const char *const directories[] = {model_directory, NULL};
    const struct models_config models_config = {
        .directories = directories, .default_model = default_model, .fetch_program = "/bin/false"};
    struct error err = ERROR_INIT;

    models = models_new(&models_config, NULL, NULL, &err);
    assert_non_null(models);
    engine = engine_new(config, models, NULL, NULL, &err);
    if (!engine)
        fail_msg("%s", err.text);
}

static inline void stop_engine(void)
{
    engine = engine_free(engine);
    models = models_free(models);
}

static inline int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(open_sessions); i++)
        open_sessions[i] = session_close(open_sessions[i], false);
    stop_engine();
    scratch_remove(directory);
    return 0;
}

static inline bool pump(void)
{
    struct pollfd pfd = {.fd = engine_fd(engine), .events = POLLIN};

    if (poll(&pfd, 1, WAIT_MSEC) <= 0)
        return false;
    engine_dispatch(engine);
    return true;
}

#define WAIT_FOR(condition)      \
    do {                         \
        while (!(condition))     \
            assert_true(pump()); \
    } while (0)

/* --- sessions -------------------------------------------------------------------------------- */

static inline void note_open(struct session *session, const struct session *instead_of)
{
    size_t i = 0;

    while (i < ARRAY_LEN(open_sessions) && open_sessions[i] != instead_of)
        i++;
    assert_true(i < ARRAY_LEN(open_sessions));
    open_sessions[i] = session;
}

static inline struct session *open_session(const struct session_options *options,
                                           const struct session_sink *sink, void *userdata)
{
    struct error err = ERROR_INIT;
    struct session *session = session_new(engine, options, sink, userdata, &err);

    if (!session)
        fail_msg("%s", err.text);
    note_open(session, NULL);
    return session;
}

static inline struct session *reopen_session(const char *id, const struct session_sink *sink,
                                             void *userdata)
{
    struct error err = ERROR_INIT;
    struct session *session = session_open(engine, id, sink, userdata, &err);

    if (!session)
        fail_msg("%s", err.text);
    note_open(session, NULL);
    return session;
}

static inline void close_session(struct session *session, bool forget)
{
    note_open(NULL, session);
    session_close(session, forget);
}

static inline struct json_object *history_of(const struct session *session)
{
    _cleanup_(freep) char *text = session_history(session);

    return json_tokener_parse(text);
}

/* --- lines ----------------------------------------------------------------------------------- */

static inline int64_t number_of(struct json_object *object, const char *key)
{
    struct json_object *value;

    if (!json_object_object_get_ex(object, key, &value))
        fail_msg("no \"%s\" in %s", key, json_object_to_json_string(object));
    return json_object_get_int64(value);
}

/* done: the line of DONE */
static inline int64_t usage_of(struct json_object *done, const char *key)
{
    struct json_object *usage;

    assert_true(json_object_object_get_ex(done, "usage", &usage));
    return number_of(usage, key);
}
