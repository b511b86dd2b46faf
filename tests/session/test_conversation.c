/* SPDX-License-Identifier: MIT */

/*
 * Conversations on a real engine with a tiny set of models, whose words and sounds mean nothing;
 * ear and mouth are the test's own, so that it decides what is heard at which moment: between the
 * end of a turn and the beginning of its answer, in mid-sentence, at the end of the conversation
 * and of the engine.
 */

#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <fcntl.h>

#include "session/conversation.h"
#include "session/store.h"
#include "tests/audio/device/voice.h"
#include "tests/session/running.h"

#define SECOND    ((size_t)LISTENER_RATE_HZ)
#define LINES_MAX 4096

/* --- ear and mouth --------------------------------------------------------------------------- */

struct ends {
    atomic_uint number;
    atomic_size_t n_written; /* of that number */
    atomic_bool idle;        /* everything was heard */
    atomic_bool ducked;
    unsigned n_freed;

    pthread_mutex_t lock; /* held while a frame is given */
    struct task *conversation;
    bool is_open;
    int64_t usec;

    bool go_on;   /* speak again when the answer begins */
    bool silence; /* the answer, with its first sound */
};

static struct ends ends;

/* n samples of a voice, or of a quiet room; dropped when the ear is closed. */
static void hear(size_t n, bool voice)
{
    float *samples = calloc(n, sizeof(*samples));

    for (size_t i = 0; i < n; i++)
        samples[i] = (float)(2e-4 * voice_gaussian());
    if (voice)
        voice_draw(samples, n, 120, 0.3);
    for (size_t i = 0; i + LISTENER_FRAME <= n; i += LISTENER_FRAME) {
        pthread_mutex_lock(&ends.lock);
        ends.usec += 10000;
        if (ends.is_open)
            listener_frame(ear_listener(ends.conversation), samples + i, ends.usec);
        pthread_mutex_unlock(&ends.lock);
    }
    free(samples);
}

static int ends_open(void *userdata, struct task *conversation, struct error *err)
{
    (void)userdata, (void)err;
    pthread_mutex_lock(&ends.lock);
    ends.conversation = conversation;
    ends.is_open = true;
    pthread_mutex_unlock(&ends.lock);
    ear_tell_listening(conversation, true, NULL);
    return 0;
}

static uint32_t ends_begin(void *userdata)
{
    (void)userdata;
    if (ends.go_on) {
        ends.go_on = false;
        hear(SECOND, true);
    }
    atomic_store(&ends.n_written, 0);
    return atomic_fetch_add(&ends.number, 1) + 1;
}

static size_t ends_write(void *userdata, uint32_t number, const float *samples, size_t n)
{
    (void)userdata, (void)samples;
    if (ends.silence) {
        ends.silence = false;
        task_silence(ends.conversation);
        return n;
    }
    if (number == atomic_load(&ends.number))
        atomic_fetch_add(&ends.n_written, n);
    return n;
}

static bool ends_has_room(void *userdata)
{
    (void)userdata;
    return true;
}

static bool ends_end(void *userdata, uint32_t number)
{
    (void)userdata, (void)number;
    return true;
}

static void ends_cancel(void *userdata)
{
    (void)userdata;
    atomic_fetch_add(&ends.number, 1);
}

static void ends_duck(void *userdata, bool ducked)
{
    (void)userdata;
    atomic_store(&ends.ducked, ducked);
}

static uint64_t ends_heard(void *userdata, uint32_t number)
{
    (void)userdata, (void)number;
    return atomic_load(&ends.n_written) / 2;
}

static bool ends_is_idle(void *userdata)
{
    (void)userdata;
    return atomic_load(&ends.idle);
}

static void ends_close(void *userdata)
{
    (void)userdata;
    pthread_mutex_lock(&ends.lock);
    ends.is_open = false;
    pthread_mutex_unlock(&ends.lock);
}

static void ends_free(void *userdata)
{
    ends_close(userdata);
    ends.n_freed++;
}

static const struct voice_port port = {
    .open = ends_open,
    .begin = ends_begin,
    .write = ends_write,
    .has_room = ends_has_room,
    .end = ends_end,
    .cancel = ends_cancel,
    .duck = ends_duck,
    .heard = ends_heard,
    .is_idle = ends_is_idle,
    .close = ends_close,
    .free = ends_free,
};

/* --- what is told ---------------------------------------------------------------------------- */

struct told {
    struct json_object *lines; /* array */
    unsigned n_ended, n_late;  /* last events; events after the last */
};

static struct told told, spoken, typed;
static struct session *session; /* who listens */

static void on_event(void *userdata, const struct task_event *event)
{
    struct told *t = userdata;

    t->n_late += t->n_ended > 0;
    t->n_ended += event->type == TASK_DONE || event->type == TASK_ERROR;
    if (event->line && json_object_array_length(t->lines) < LINES_MAX)
        json_append(t->lines, json_tokener_parse(event->line));
}

static const struct task_sink sink = {.event = on_event};

static const char *word_of(struct json_object *line, const char *key)
{
    struct json_object *value;

    return json_object_object_get_ex(line, key, &value) ? json_object_get_string(value) : "";
}

/* The line of this event in this turn; turn 0: of any. NULL: there is none. */
static struct json_object *find(const char *event, int turn)
{
    for (size_t i = 0; i < json_object_array_length(told.lines); i++) {
        struct json_object *line = json_object_array_get_idx(told.lines, i);

        if (strcmp(word_of(line, "event"), event) == 0 &&
            (turn == 0 || number_of(line, "turn") == turn))
            return line;
    }
    return NULL;
}

static void forget(struct told *t)
{
    json_object_put(t->lines);
    *t = (struct told){.lines = json_object_new_array()};
}

static void turn_event(void *userdata, const struct turn_event *event)
{
    struct told *t = userdata;

    t->n_ended += event->type == TURN_DONE || event->type == TURN_ERROR;
    json_append(t->lines, json_tokener_parse(event->line));
}

static const struct session_sink session_sink = {.event = turn_event};
static const struct session_options talking = {.model = "talk", .n_context = 1024};

static void leave_session(void)
{
    if (session)
        close_session(session, false);
    session = NULL;
}

static struct task *start_in_session(const struct conversation_options *options)
{
    struct error err = ERROR_INIT;
    struct task *task;

    forget(&told);
    ends = (struct ends){.lock = PTHREAD_MUTEX_INITIALIZER, .idle = true, .usec = 1};
    voice_seed = 1;
    task = conversation_new(session, options, &port, &ends, &sink, &told, &err);
    if (!task)
        fail_msg("%s", err.text);
    return task;
}

/* In a session of its own. */
static struct task *start(const struct conversation_options *options)
{
    leave_session();
    session = open_session(&talking, &session_sink, &typed);
    return start_in_session(options);
}

static const struct conversation_options *usual(void)
{
    static struct conversation_options options;

    options = (struct conversation_options){.turns = turns_default};
    return &options;
}

static void stop(struct task *task)
{
    task_cancel(task);
    WAIT_FOR(told.n_ended > 0);
    assert_string_equal(
        word_of(json_object_array_get_idx(told.lines, json_object_array_length(told.lines) - 1),
                "reason"),
        "cancelled");
    assert_int_equal(ends.n_freed, 1);
}

/* The set of LFM2.5-Audio; or with LFMD_TEST_MIMI, that of LFM2-Audio. */
static int setup(void **state)
{
    static const struct {
        const char *path, *name;
        bool first, second; /* generations that have it */
    } files[] = {
        {"tests/data/vision/tiny_text_f32.gguf", "talk", true, true},
        {"models/lfmd-see-q8_0.gguf", "see", true, true},
        {"models/mmproj-lfmd-see-q8_0.gguf", "mmproj-see", true, true},
        {"tests/data/audio/mmproj-tiny_f32.gguf", "mmproj-talk", true, true},
        {"tests/data/audio/vocoder.f16.gguf", "vocoder-talk", false, true},
        {"tests/data/audio/tokenizer.f16.gguf", "tokenizer-talk", false, true},
        {"tests/data/audio/audiodecoder.q8_0.gguf", "audiodecoder-talk", true, false},
    };
    struct engine_config config = {.n_threads = 2, .keep_alive_sec = 300, .n_context = 1024,
                                   .kv = KV_F16};
    char path[PATH_MAX];

    (void)state;
    make_directories();
    config.state_directory = state_directory;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        snprintf(path, sizeof(path), "%s/%s", LFMD_SOURCE_ROOT, files[i].path);
        if (getenv("LFMD_TEST_MIMI") ? files[i].first : files[i].second)
            link_model(path, files[i].name);
    }
    run_engine(&config, NULL);
    return 0;
}

/* --- tests ----------------------------------------------------------------------------------- */

static void test_a_turn_is_answered(void **state)
{
    struct task *task = start(usual());

    (void)state;
    WAIT_FOR(find("listening", 0));
    hear(SECOND, false);
    hear(2 * SECOND, true);
    hear(SECOND, false);
    WAIT_FOR(find("turn_done", 1));
    assert_non_null(find("speech_start", 1));
    assert_in_range(number_of(find("speech_end", 1), "audio_ms"), 2000, 3000);
    assert_null(find("interrupted", 0));
    assert_null(find("speech_start", 2));
    stop(task);
}

/* It is not talked over, and what was said before is not lost. */
static void test_who_goes_on_as_the_answer_begins_is_heard_out(void **state)
{
    struct task *task = start(usual());

    (void)state;
    WAIT_FOR(find("listening", 0));
    hear(SECOND, false);
    ends.go_on = true;
    hear(SECOND, true);
    hear(SECOND, false);
    WAIT_FOR(find("turn_done", 1));
    assert_string_equal(word_of(find("turn_done", 1), "reason"), "interrupted");
    assert_int_equal(number_of(find("interrupted", 1), "heard_ms"), 0);
    assert_non_null(find("speech_start", 2));
    hear(SECOND, false);
    WAIT_FOR(find("turn_done", 2));
    assert_string_equal(word_of(find("speech_end", 2), "event"), "speech_end");
    stop(task);
}

static void test_speech_and_the_command_silence_an_answer(void **state)
{
    struct task *task = start(usual());

    (void)state;
    WAIT_FOR(find("listening", 0));
    atomic_store(&ends.idle, false); /* it is being said for ever */
    hear(SECOND, false);
    hear(SECOND, true);
    hear(SECOND, false);
    WAIT_FOR(find("text", 1) || find("audio_start", 1));
    hear(2 * SECOND, true);
    WAIT_FOR(find("turn_done", 1));
    assert_string_equal(word_of(find("turn_done", 1), "reason"), "interrupted");
    assert_false(atomic_load(&ends.ducked));
    hear(SECOND, false);
    WAIT_FOR(find("text", 2) || find("audio_start", 2));
    task_silence(task);
    WAIT_FOR(find("turn_done", 2));
    assert_string_equal(word_of(find("turn_done", 2), "reason"), "interrupted");
    task_silence(task); /* nothing is being said */
    stop(task);
}

static void test_the_shortest_turn_is_a_turn(void **state)
{
    struct conversation_options options = *usual();
    struct task *task;

    (void)state;
    options.turns.push_to_talk = true;
    task = start(&options);
    WAIT_FOR(find("listening", 0));
    ear_press(task);
    ear_end_turn(task);
    hear(LISTENER_FRAME, false);
    WAIT_FOR(find("turn_done", 1));
    stop(task);
}

static void test_a_text_is_spoken_while_somebody_listens(void **state)
{
    struct task *task = start(usual());
    struct error err = ERROR_INIT;

    (void)state;
    WAIT_FOR(find("listening", 0));
    forget(&spoken);
    assert_non_null(speak_new(engine, "One sentence. And another.", &(struct task_options){0},
                              &sink, &spoken, &err));
    WAIT_FOR(spoken.n_ended > 0);
    assert_string_equal(word_of(json_object_array_get_idx(
                                    spoken.lines, json_object_array_length(spoken.lines) - 1),
                                "event"),
                        "done");
    hear(SECOND, false);
    hear(SECOND, true);
    hear(SECOND, false);
    WAIT_FOR(find("turn_done", 1));
    stop(task);
}

static void test_the_model_of_a_conversation_stays(void **state)
{
    const struct engine_config config = {.n_threads = 2, .keep_alive_sec = 0, .n_context = 64};
    struct task *task = start(usual());
    struct error err = ERROR_INIT;

    (void)state;
    WAIT_FOR(find("listening", 0));
    assert_int_equal(engine_unload(engine, "talk", NULL), error_errno(ERROR_BUSY));
    engine_reconfigure(engine, &config);
    hear(SECOND, false);
    hear(SECOND, true);
    hear(SECOND, false);
    WAIT_FOR(find("turn_done", 1));
    assert_false(engine_idle(engine));
    stop(task);
    assert_int_equal(engine_unload(engine, "talk", &err), 0);
    WAIT_FOR(engine_idle(engine));
}

/* What became of a question with a picture. */
static struct {
    unsigned n_seen; /* pictures that were encoded */
    bool begun, ended;
} asked;

static void on_turn(void *userdata, const struct turn_event *event)
{
    (void)userdata;
    if (event->type == TURN_ERROR)
        fail_msg("%s", event->line);
    asked.begun = asked.begun || event->type == TURN_START;
    asked.n_seen += event->type == TURN_IMAGE;
    asked.ended = asked.ended || event->type == TURN_DONE;
}

static const struct session_sink picture_sink = {.event = on_turn};

#define PICTURES 3

/* As large as a session may look at them: one view takes longer than many a turn. */
static struct session *ask_about_pictures(void)
{
    struct session *seeing =
        open_session(&(struct session_options){.model = "see", .n_context = 2048,
                                               .keep_alive_sec = 300},
                     &picture_sink, NULL);
    struct ask_part parts[PICTURES];
    char settings[PICTURES][128];
    struct error err = ERROR_INIT;
    uint32_t turn;

    memset(&asked, 0, sizeof(asked));
    for (int i = 0; i < PICTURES; i++) {
        const int n = 512 - 16 * i; /* another picture each time */

        snprintf(settings[i], sizeof(settings[i]),
                 "{\"tiling\": false, \"min_image_tokens\": %d, \"max_image_tokens\": %d}", n, n);
        parts[i] = (struct ask_part){
            .type = ASK_IMAGE,
            .fd = open(LFMD_SOURCE_ROOT "/tests/data/vision/single.png", O_RDONLY | O_CLOEXEC),
            .image = settings[i],
        };
    }
    if (session_ask(seeing, parts, PICTURES, &(struct ask_options){.max_tokens = 4}, &turn, &err) <
        0)
        fail_msg("%s", err.text);
    for (int i = 0; i < PICTURES; i++)
        close(parts[i].fd);
    return seeing;
}

/* Turns are answered between the layers of an encoder, not just between its pictures. */
static void test_pictures_that_are_looked_at_keep_nobody_waiting(void **state)
{
    struct conversation_options options = *usual();
    struct session *seeing;
    struct task *task;
    int n_turns = 0;

    (void)state;
    options.turns.push_to_talk = true;
    task = start(&options);
    WAIT_FOR(find("listening", 0));
    seeing = ask_about_pictures();
    WAIT_FOR(asked.begun); /* the pixels are there */
    while (asked.n_seen == 0 && !asked.ended) {
        ear_press(task);
        ear_end_turn(task);
        hear(LISTENER_FRAME, false);
        n_turns++;
        WAIT_FOR(find("turn_done", n_turns));
    }
    assert_in_range(n_turns, 4 * PICTURES, INT32_MAX);
    WAIT_FOR(asked.ended);
    assert_int_equal(asked.n_seen, PICTURES);
    close_session(seeing, true);
    stop(task);
}

/* --- one history ----------------------------------------------------------------------------- */

/* {role}: {content} of message i */
static const char *said_by(struct json_object *history, size_t i, const char *role)
{
    struct json_object *message = json_object_array_get_idx(history, i);

    assert_string_equal(word_of(message, "role"), role);
    return word_of(message, "content");
}

static bool is_spoken(struct json_object *history, size_t i)
{
    return strcmp(word_of(json_object_array_get_idx(history, i), "spoken"), "true") == 0;
}

/* All that was told of the text of a turn, malloc. */
static char *told_text(int turn)
{
    char *text = calloc(1, 1);

    for (size_t i = 0; i < json_object_array_length(told.lines); i++) {
        struct json_object *line = json_object_array_get_idx(told.lines, i);
        char *longer;

        if (strcmp(word_of(line, "event"), "text") != 0 || number_of(line, "turn") != turn)
            continue;
        assert_true(asprintf(&longer, "%s%s", text, word_of(line, "text")) >= 0);
        free(text);
        text = longer;
    }
    return text;
}

static void say_something(void)
{
    hear(SECOND, false);
    hear(SECOND, true);
    hear(SECOND, false);
}

/* Returns the line of DONE. */
static struct json_object *type(const char *text)
{
    const struct ask_part part = {.type = ASK_TEXT, .text = text};
    const struct ask_options options = {.max_tokens = 8};
    struct error err = ERROR_INIT;
    uint32_t turn;

    forget(&typed);
    if (session_ask(session, &part, 1, &options, &turn, &err) < 0)
        fail_msg("%s", err.text);
    WAIT_FOR(typed.n_ended > 0);
    return json_object_array_get_idx(typed.lines, json_object_array_length(typed.lines) - 1);
}

/* The reply to the first thing that is said, malloc. */
static char *answer_after(const char *typed_before)
{
    struct task *task;
    char *text;

    leave_session();
    session = open_session(&talking, &session_sink, &typed);
    if (typed_before)
        type(typed_before);
    task = start_in_session(usual());
    WAIT_FOR(find("listening", 0));
    say_something();
    WAIT_FOR(find("turn_done", 1));
    text = told_text(1);
    stop(task);
    return text;
}

static void test_a_spoken_turn_knows_what_was_typed(void **state)
{
    _cleanup_(freep) char *alone = answer_after(NULL), *again = answer_after(NULL);
    _cleanup_(freep) char *after = answer_after("hello");

    (void)state;
    assert_string_equal(alone, again);
    assert_string_not_equal(alone, after);
}

/* The same clip for the same seed; what is answered, malloc. */
static char *push_and_hear(struct task *task, uint32_t seed, int turn)
{
    voice_seed = seed;
    hear(SECOND / 2, false);
    ear_press(task);
    hear(SECOND, true);
    ear_end_turn(task);
    hear(LISTENER_FRAME, false);
    WAIT_FOR(find("turn_done", turn));
    return told_text(turn);
}

/* As if nobody had stopped listening: it is not the words that the next conversation begins
 * with. */
static void test_the_sound_of_an_earlier_conversation_is_known(void **state)
{
    _cleanup_(freep) char *alone = NULL, *second = NULL, *after = NULL;
    struct conversation_options options = *usual();
    struct task *task;

    (void)state;
    options.turns.push_to_talk = true;
    task = start(&options);
    WAIT_FOR(find("listening", 0));
    alone = push_and_hear(task, 2, 1);
    stop(task);
    for (int i = 0; i < 2; i++) {
        task = start(&options);
        WAIT_FOR(find("listening", 0));
        /* Of the first turn there is only the question, so that the second fits too. */
        ends.silence = true;
        free(push_and_hear(task, 1, 1));
        assert_int_equal(number_of(find("interrupted", 1), "heard_ms"), 0);
        if (i == 0) {
            second = push_and_hear(task, 2, 2);
        } else {
            stop(task);
            task = start_in_session(&options);
            WAIT_FOR(find("listening", 0));
            after = push_and_hear(task, 2, 1);
        }
        stop(task);
    }
    assert_string_not_equal(alone, second);
    assert_string_equal(second, after);
}

static void test_a_typed_turn_knows_what_was_said(void **state)
{
    struct json_object *history;
    struct task *task = start(usual());
    int64_t n_typed;
    char *text;

    (void)state;
    WAIT_FOR(find("listening", 0));
    say_something();
    WAIT_FOR(find("turn_done", 1));
    history = history_of(session);
    assert_int_equal(json_object_array_length(history), 2);
    assert_true(said_by(history, 0, "user")[0] && is_spoken(history, 0) && is_spoken(history, 1));
    text = told_text(1);
    assert_string_equal(said_by(history, 1, "assistant"), text);
    free(text);
    json_object_put(history);
    assert_int_equal(session_context_used(session),
                     usage_of(find("turn_done", 1), "context_tokens"));

    n_typed = usage_of(type("hello"), "prompt_tokens");
    say_something();
    WAIT_FOR(find("turn_done", 2));
    history = history_of(session);
    assert_int_equal(json_object_array_length(history), 6);
    assert_string_equal(said_by(history, 2, "user"), "hello");
    assert_false(is_spoken(history, 2) || is_spoken(history, 3));
    assert_true(is_spoken(history, 4) && is_spoken(history, 5));
    json_object_put(history);
    stop(task);
    leave_session();
    session = open_session(&talking, &session_sink, &typed);
    assert_true(usage_of(type("hello"), "prompt_tokens") < n_typed);
}

static void test_what_was_not_heard_is_not_in_the_history(void **state)
{
    struct task *task = start(usual());
    struct json_object *history;
    char *text;

    (void)state;
    WAIT_FOR(find("listening", 0));
    atomic_store(&ends.idle, false); /* it is being said for ever */
    say_something();
    WAIT_FOR(find("audio_start", 1));
    task_silence(task);
    WAIT_FOR(find("turn_done", 1));
    history = history_of(session);
    assert_int_equal(json_object_array_length(history), 2);
    text = told_text(1);
    assert_memory_equal(said_by(history, 1, "assistant"), text,
                        strlen(said_by(history, 1, "assistant")));
    free(text);
    json_object_put(history);
    stop(task);
}

static void test_a_typed_question_waits_for_what_is_being_said(void **state)
{
    const struct ask_part part = {.type = ASK_TEXT, .text = "hello"};
    const struct ask_options options = {.max_tokens = 8};
    struct json_object *history;
    struct task *task = start(usual());
    uint32_t turn;

    (void)state;
    WAIT_FOR(find("listening", 0));
    forget(&typed);
    atomic_store(&ends.idle, false);
    say_something();
    WAIT_FOR(find("text", 1) || find("audio_start", 1));
    assert_int_equal(session_ask(session, &part, 1, &options, &turn, NULL), 0);
    assert_int_equal(session_cancel(session, turn, NULL), 0); /* one that waits can be cancelled */
    WAIT_FOR(typed.n_ended == 1);
    assert_int_equal(session_ask(session, &part, 1, &options, &turn, NULL), 0);
    task_silence(task);
    WAIT_FOR(typed.n_ended == 2);
    assert_non_null(find("turn_done", 1));
    history = history_of(session);
    assert_int_equal(json_object_array_length(history), 4);
    assert_true(is_spoken(history, 1));
    assert_string_equal(said_by(history, 2, "user"), "hello");
    json_object_put(history);
    stop(task);
}

static void test_a_conversation_that_ends_in_mid_sentence_keeps_what_was_heard(void **state)
{
    struct json_object *history;
    struct task *task = start(usual());

    (void)state;
    WAIT_FOR(find("listening", 0));
    atomic_store(&ends.idle, false);
    say_something();
    WAIT_FOR(find("text", 1) || find("audio_start", 1));
    stop(task);
    assert_string_equal(word_of(find("turn_done", 1), "reason"), "cancelled");
    history = history_of(session);
    assert_int_equal(json_object_array_length(history), 2);
    json_object_put(history);
}

static void test_spoken_turns_are_kept(void **state)
{
    struct session_options options = talking;
    struct json_object *history, *again;
    char id[STORE_ID_LENGTH + 1];
    struct task *task;

    (void)state;
    leave_session();
    options.keep = true;
    session = open_session(&options, &session_sink, &typed);
    snprintf(id, sizeof(id), "%s", session_id(session));
    task = start_in_session(usual());
    WAIT_FOR(find("listening", 0));
    say_something();
    WAIT_FOR(find("turn_done", 1));
    type("hello");
    say_something();
    WAIT_FOR(find("turn_done", 2));
    assert_false(json_object_object_get_ex(find("turn_done", 2), "message", NULL));
    stop(task);
    history = history_of(session);
    leave_session();
    session = reopen_session(id, &session_sink, &typed);
    again = history_of(session);
    assert_true(json_object_equal(history, again));
    json_object_put(again);
    task = start_in_session(usual()); /* with all of it, as text */
    WAIT_FOR(find("listening", 0));
    say_something();
    WAIT_FOR(find("turn_done", 1));
    again = history_of(session);
    assert_int_equal(json_object_array_length(again), json_object_array_length(history) + 2);
    json_object_put(again);
    json_object_put(history);
    stop(task);
}

/* More was written than the conversation's context holds. */
static void test_a_long_history_is_cut(void **state)
{
    char words[8001];
    struct task *task;

    (void)state;
    leave_session();
    session = open_session(&talking, &session_sink, &typed);
    for (size_t i = 0; i + 1 < sizeof(words); i++)
        words[i] = i % 5 == 4 ? ' ' : 'a' + i % 23;
    words[sizeof(words) - 1] = '\0';
    task = start_in_session(usual());
    WAIT_FOR(find("listening", 0));
    for (unsigned i = 0; i < 6; i++)
        type(words + 1000 * i);
    say_something();
    WAIT_FOR(find("turn_done", 1));
    stop(task);
    task = start_in_session(usual());
    WAIT_FOR(find("listening", 0));
    say_something();
    WAIT_FOR(find("turn_done", 1));
    stop(task);
}

/* --- an ear that does not stop --------------------------------------------------------------- */

static atomic_bool quiet;

static void *go_on(void *userdata)
{
    (void)userdata;
    while (!atomic_load(&quiet)) {
        hear(SECOND / 2, true);
        hear(SECOND * 4 / 5, false);
    }
    return NULL;
}

/* Press keys while the ear is fed as fast as it goes, then end it somehow. */
static void live(void (*end)(struct task *task), unsigned n_events)
{
    struct task *task = start(usual());
    pthread_t ear;

    WAIT_FOR(find("listening", 0));
    atomic_store(&quiet, false);
    assert_int_equal(pthread_create(&ear, NULL, go_on, NULL), 0);
    for (unsigned i = 0; json_object_array_length(told.lines) < n_events; i++) {
        assert_true(pump());
        if (i % 3 == 0)
            task_silence(task);
        if (i % 5 == 0)
            ear_press(task);
        if (i % 7 == 0)
            ear_end_turn(task);
    }
    end(task);
    atomic_store(&quiet, true);
    pthread_join(ear, NULL);
    assert_int_equal(told.n_late, 0);
    assert_int_equal(ends.n_freed, 1);
}

static void end_by_cancelling(struct task *task)
{
    task_cancel(task);
    WAIT_FOR(told.n_ended > 0);
    for (int i = 0; i < 100; i++) /* what the ear may have told since */
        engine_dispatch(engine);
}

static void end_by_abandoning(struct task *task)
{
    task_abandon(task);
    WAIT_FOR(ends.n_freed > 0);
    for (int i = 0; i < 100; i++)
        engine_dispatch(engine);
    assert_int_equal(told.n_ended, 0);
}

static void end_with_the_engine(struct task *task)
{
    const struct engine_config config = {.n_threads = 2, .keep_alive_sec = 300, .n_context = 1024,
                                         .kv = KV_F16};

    (void)task;
    leave_session();
    stop_engine();
    assert_in_range(told.n_ended, 0, 1); /* closing the session ends it too */
    run_engine(&config, NULL);
}

static void test_nothing_is_told_after_the_end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 12; i++)
        live(end_by_cancelling, 2 + 3 * i);
}

static void test_nothing_is_told_to_who_has_left(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 6; i++)
        live(end_by_abandoning, 2 + 5 * i);
}

static void test_the_engine_may_end_in_mid_sentence(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        live(end_with_the_engine, 2 + 7 * i);
}

static void test_a_port_is_freed_when_there_is_no_conversation(void **state)
{
    struct conversation_options options = *usual();
    struct error err = ERROR_INIT;

    (void)state;
    ends = (struct ends){.lock = PTHREAD_MUTEX_INITIALIZER};
    options.model = "nobody";
    leave_session();
    session = open_session(&talking, &session_sink, &typed);
    assert_null(conversation_new(session, &options, &port, &ends, &sink, &told, &err));
    assert_int_equal(err.code, ERROR_MODEL_NOT_FOUND);
    assert_int_equal(ends.n_freed, 1);
}

static int end(void **state)
{
    json_object_put(told.lines);
    json_object_put(spoken.lines);
    json_object_put(typed.lines);
    return teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_turn_is_answered),
        cmocka_unit_test(test_who_goes_on_as_the_answer_begins_is_heard_out),
        cmocka_unit_test(test_speech_and_the_command_silence_an_answer),
        cmocka_unit_test(test_the_shortest_turn_is_a_turn),
        cmocka_unit_test(test_a_text_is_spoken_while_somebody_listens),
        cmocka_unit_test(test_the_model_of_a_conversation_stays),
        cmocka_unit_test(test_pictures_that_are_looked_at_keep_nobody_waiting),
        cmocka_unit_test(test_a_spoken_turn_knows_what_was_typed),
        cmocka_unit_test(test_the_sound_of_an_earlier_conversation_is_known),
        cmocka_unit_test(test_a_typed_turn_knows_what_was_said),
        cmocka_unit_test(test_what_was_not_heard_is_not_in_the_history),
        cmocka_unit_test(test_a_typed_question_waits_for_what_is_being_said),
        cmocka_unit_test(test_a_conversation_that_ends_in_mid_sentence_keeps_what_was_heard),
        cmocka_unit_test(test_spoken_turns_are_kept),
        cmocka_unit_test(test_a_long_history_is_cut),
        cmocka_unit_test(test_nothing_is_told_after_the_end),
        cmocka_unit_test(test_nothing_is_told_to_who_has_left),
        cmocka_unit_test(test_the_engine_may_end_in_mid_sentence),
        cmocka_unit_test(test_a_port_is_freed_when_there_is_no_conversation),
    };

    return cmocka_run_group_tests(tests, setup, end);
}
