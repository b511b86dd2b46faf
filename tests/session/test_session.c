/* SPDX-License-Identifier: MIT */

/*
 * Sessions on a real engine with real models: the one of this repository, which can call tools, and
 * a tiny one of random weights, which says anything for as long as it is let.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "tests/session/running.h"

#define TALKS  "tiny"           /* random weights: goes on for ever */
#define KNOWS  "lfmd-core-q8_0" /* trained */
#define THINKS "tiny-thinking"  /* as TALKS, and its chat form opens <think> */

static const char tools[] =
    "[{\"name\": \"set_timer\", \"description\": \"Set a timer\", \"parameters\": {\"type\": "
    "\"object\", \"properties\": {\"minutes\": {\"type\": \"integer\"}}, \"required\": "
    "[\"minutes\"]}}]";

static unsigned n_finished; /* over all sessions, to see who came first */

/* Everything that a client of one session has seen. */
struct client {
    struct session *session;
    unsigned n_events[TURN_ERROR + 1];
    unsigned n_disorder; /* events after the end, or before the start */
    uint32_t turn;       /* of the last event */
    bool running, ended;
    char text[1 << 16];
    size_t n_text;
    struct json_object *last; /* DONE or ERROR */
    struct json_object *call;
    unsigned finished_as;  /* n_finished at its last end */
    unsigned cancel_after; /* cancel when so many text events have come */
    unsigned hold_after;
    const struct client *other; /* how many texts it had when this one's turn began and ended */
    unsigned n_other_at_start, n_other_at_end;
    bool other_ended_at_start;
};

static void take_event(void *userdata, const struct turn_event *event)
{
    struct client *client = userdata;
    struct json_object *line = json_tokener_parse(event->line);

    assert_non_null(line);
    assert_int_equal(strlen(event->line), event->length);
    assert_null(strchr(event->line, '\n'));
    client->n_events[event->type]++;
    client->turn = event->turn;
    if (event->type == TURN_START) {
        client->n_disorder += client->running;
        client->running = true;
        client->n_other_at_start = client->other ? client->other->n_events[TURN_TEXT] : 0;
        client->other_ended_at_start = client->other && client->other->ended;
    } else if (event->type != TURN_DONE && event->type != TURN_ERROR) {
        client->n_disorder += !client->running;
    }
    if (event->type == TURN_TEXT) {
        const char *text = json_member_text(line, "text");

        client->n_disorder += text[0] == '\0';
        client->n_text += (size_t)snprintf(client->text + client->n_text,
                                           sizeof(client->text) - client->n_text, "%s", text);
        if (client->n_events[TURN_TEXT] == client->cancel_after)
            session_cancel(client->session, event->turn, NULL);
        if (client->n_events[TURN_TEXT] == client->hold_after)
            session_hold(client->session, event->turn, true);
    } else if (event->type == TURN_TOOL_CALL) {
        json_object_put(client->call);
        client->call = json_object_get(line);
    } else if (event->type == TURN_DONE || event->type == TURN_ERROR) {
        json_object_put(client->last);
        client->last = json_object_get(line);
        client->running = false;
        client->ended = true;
        client->n_other_at_end = client->other ? client->other->n_events[TURN_TEXT] : 0;
        client->finished_as = ++n_finished;
        if (event->type == TURN_ERROR)
            assert_string_equal(event->reason, json_member_text(line, "name"));
        else
            assert_string_equal(event->reason, json_member_text(line, "reason"));
    }
    json_object_put(line);
}

static const struct session_sink sink = {.event = take_event};

static void client_done(struct client *client)
{
    close_session(client->session, false);
    json_object_put(client->last);
    json_object_put(client->call);
    *client = (struct client){0};
}

static void start_engine_with(uint64_t memory_max, int64_t keep_alive)
{
    const struct engine_config config = {
        .n_threads = 2,
        .memory_max_bytes = memory_max,
        .keep_alive_sec = keep_alive,
        .n_context = 1024,
        .kv = KV_F16,
        .prefix_cache_bytes = 1 << 22,
        .state_directory = state_directory,
    };

    run_engine(&config, TALKS);
}

static void start_engine(void)
{
    start_engine_with(0, KEEP_ALIVE_FOREVER);
}

static int setup_files(void **state)
{
    /* The tiny model with the marks of another chat form in its template. */
    static const char from[] = "keep_past_thinking | default(false) -%}";
    static const char to[] = "preserve_thinking assistant\\n<think>   ";

    (void)state;
    make_directories();
    link_model(data_path("tiny_dense_f32.gguf"), TALKS);
    link_model(LFMD_SOURCE_ROOT "/models/lfmd-core-q8_0.gguf", KNOWS);
    write_model(data_path("tiny_dense_f32.gguf"), THINKS, from, to, sizeof(to) - 1);
    n_finished = 0;
    return 0;
}

static int setup(void **state)
{
    setup_files(state);
    start_engine();
    return 0;
}

static void open_with(struct client *client, const struct session_options *options)
{
    *client = (struct client){0};
    client->session = open_session(options, &sink, client);
}

static void reopen(struct client *client, const char *id)
{
    client->session = reopen_session(id, &sink, client);
}

static void open_model(struct client *client, const char *model)
{
    open_with(client, &(struct session_options){.model = model, .keep_alive_sec = INT64_MIN});
}

static uint32_t ask_with(struct client *client, const char *text, const struct ask_options *options)
{
    const struct ask_part part = {.type = ASK_TEXT, .text = text};
    struct error err = ERROR_INIT;
    uint32_t turn = 0;

    client->ended = false;
    if (session_ask(client->session, &part, 1, options, &turn, &err) < 0)
        fail_msg("%s", err.text);
    return turn;
}

static void ask(struct client *client, const char *text, uint32_t max_tokens)
{
    ask_with(client, text, &(struct ask_options){.max_tokens = max_tokens});
}

/* A question whose answer goes on until the context is full. */
static uint32_t ask_endless(struct client *client)
{
    return ask_with(
        client, "hello",
        &(struct ask_options){.format = "{\"type\": \"string\", \"minLength\": 50000}"});
}

static const char *reason_of(const struct client *client)
{
    const char *reason = json_member_text(client->last, "reason");

    return reason ? reason : json_member_text(client->last, "name");
}

static size_t history_length(const struct client *client)
{
    _cleanup_(freep) char *text = session_history(client->session);
    _cleanup_(json_putp) struct json_object *history = json_tokener_parse(text);

    return json_object_array_length(history);
}

/* A text of about n tokens of the tiny vocabulary, other than those of another seed. */
static char *long_text(size_t n, unsigned seed)
{
    char *text = malloc(2 * n + 1);

    for (size_t i = 0; i < n; i++) {
        text[2 * i] = (char)('a' + (i * 7 + seed + i / 13) % 26);
        text[2 * i + 1] = ' ';
    }
    text[2 * n] = '\0';
    return text;
}

/* --- one session ----------------------------------------------------------------------------- */

static void test_events_come_in_order(void **state)
{
    struct client client;
    _cleanup_(freep) char *question = long_text(200, 1);

    (void)state;
    open_model(&client, TALKS);
    assert_int_equal(session_state(client.session), SESSION_IDLE);
    ask(&client, question, 20);
    assert_int_equal(session_state(client.session), SESSION_QUEUED);
    WAIT_FOR(client.n_events[TURN_START]);
    WAIT_FOR(client.ended);
    assert_int_equal(session_state(client.session), SESSION_IDLE);
    assert_int_equal(client.n_disorder, 0);
    assert_int_equal(client.n_events[TURN_START], 1);
    assert_int_equal(client.n_events[TURN_DONE], 1);
    assert_int_equal(client.n_events[TURN_ERROR], 0);
    assert_true(usage_of(client.last, "prompt_tokens") > 200);
    assert_in_range(usage_of(client.last, "completion_tokens"), 1, 20);
    assert_true(session_context_used(client.session) >= 200);
    assert_int_equal(session_context_limit(client.session), 512); /* the model's; 1024 was wanted */
    assert_int_equal(history_length(&client), 2);
    client_done(&client);
}

static void test_the_model_of_the_repository_sets_a_timer(void **state)
{
    struct client client;
    struct json_object *arguments;
    struct ask_part result = {.type = ASK_TOOL_RESULT, .text = "{\"status\": \"ok\"}"};
    struct error err = ERROR_INIT;
    uint32_t turn;
    _cleanup_(freep) char *id = NULL;

    (void)state;
    open_model(&client, KNOWS);
    ask(&client, "set a timer for ten minutes", 100);
    WAIT_FOR(client.ended);
    assert_string_equal(reason_of(&client), "tool_calls");
    assert_string_equal(json_member_text(client.call, "name"), "set_timer");
    assert_true(json_object_object_get_ex(client.call, "arguments", &arguments));
    assert_int_equal(number_of(arguments, "minutes"), 10);
    id = strdup(json_member_text(client.call, "id"));

    result.id = "call_9_9";
    client.ended = false;
    assert_int_equal(session_ask(client.session, &result, 1, NULL, &turn, &err), 0);
    WAIT_FOR(client.ended);
    assert_string_equal(reason_of(&client), "InvalidArgument");
    assert_int_equal(history_length(&client), 2);

    result.id = id;
    client.ended = false;
    assert_int_equal(session_ask(client.session, &result, 1, NULL, &turn, &err), 0);
    WAIT_FOR(client.ended);
    assert_string_equal(reason_of(&client), "stop");
    assert_true(client.n_text > 0);
    assert_int_equal(history_length(&client), 4);
    client_done(&client);
}

static void test_calls_are_held_to_the_tools(void **state)
{
    struct client client;
    struct json_object *arguments;

    (void)state;
    open_with(&client, &(struct session_options){
                           .model = KNOWS, .tools = tools, .keep_alive_sec = INT64_MIN});
    ask_with(&client, "thank you",
             &(struct ask_options){.constrain_tools = true, .require_tool = true});
    WAIT_FOR(client.ended);
    assert_int_equal(client.n_events[TURN_ERROR], 0);
    assert_string_equal(json_member_text(client.call, "name"), "set_timer");
    assert_true(json_object_object_get_ex(client.call, "arguments", &arguments));
    number_of(arguments, "minutes");
    client_done(&client);
}

static void check_format(const char *model)
{
    struct client client;
    _cleanup_(json_putp) struct json_object *answer = NULL;

    open_model(&client, model);
    ask_with(&client, "hello",
             &(struct ask_options){.format = "{\"enum\": [\"red\", \"green\", 7]}"});
    WAIT_FOR(client.ended);
    assert_string_equal(reason_of(&client), "stop");
    assert_int_equal(client.n_events[TURN_THINKING], 0);
    answer = json_tokener_parse(client.text);
    assert_non_null(answer);
    client_done(&client);
}

static void test_an_answer_of_a_format_is_of_that_format(void **state)
{
    (void)state;
    check_format(TALKS);
    check_format(THINKS);
}

static void test_stop_strings_end_the_reply_and_are_not_shown(void **state)
{
    struct client client;
    char first[sizeof(client.text)], cut[8] = "";
    const char *stop[2] = {cut, NULL};
    const char *sampling = "{\"temperature\": 0}";
    size_t start;

    (void)state;
    open_model(&client, TALKS);
    ask_with(&client, "hello", &(struct ask_options){.max_tokens = 40, .sampling = sampling});
    WAIT_FOR(client.ended);
    memcpy(first, client.text, sizeof(first));
    client_done(&client);
    assert_true(strlen(first) > 8);

    start = strlen(first) / 2;
    while (((unsigned char)first[start] & 0xc0) == 0x80)
        start++;
    memcpy(cut, first + start, MIN((size_t)7, strlen(first + start)));
    cut[utf8_complete(cut, strlen(cut))] = '\0';
    open_model(&client, TALKS);
    ask_with(&client, "hello",
             &(struct ask_options){.max_tokens = 40, .sampling = sampling, .stop = stop});
    WAIT_FOR(client.ended);
    assert_string_equal(reason_of(&client), "stop");
    assert_null(strstr(client.text, cut));
    assert_int_equal(strncmp(client.text, first, client.n_text), 0);
    assert_int_equal(client.n_text, strstr(first, cut) - first);
    client_done(&client);
}

/* --- cancel, hold, fairness ------------------------------------------------------------------ */

static void test_cancel_in_decode_keeps_what_was_said(void **state)
{
    struct client client;

    (void)state;
    open_model(&client, TALKS);
    client.cancel_after = 3;
    ask_endless(&client);
    WAIT_FOR(client.ended);
    assert_string_equal(reason_of(&client), "cancelled");
    assert_true(client.n_text > 0);
    assert_int_equal(history_length(&client), 2);
    client.cancel_after = 0;
    ask(&client, "go on", 5);
    WAIT_FOR(client.ended);
    assert_int_equal(client.n_events[TURN_DONE], 2);
    assert_int_equal(client.n_disorder, 0);
    client_done(&client);
}

static void test_cancel_before_the_first_token_leaves_nothing(void **state)
{
    struct client client;
    _cleanup_(freep) char *question = long_text(240, 3);
    uint32_t turn;

    (void)state;
    open_model(&client, TALKS);
    turn = ask_with(&client, question, NULL);
    assert_int_equal(session_cancel(client.session, turn, NULL), 0);
    WAIT_FOR(client.ended);
    assert_string_equal(reason_of(&client), "cancelled");
    assert_int_equal(history_length(&client), client.n_text > 0 ? 2 : 0);
    assert_int_equal(session_cancel(client.session, turn, NULL), -EINVAL);
    client_done(&client);
}

static void test_a_waiting_turn_can_be_cancelled(void **state)
{
    struct client client;
    uint32_t turn;

    (void)state;
    open_model(&client, TALKS);
    client.hold_after = 2;
    ask_endless(&client);
    turn = ask_with(&client, "second", NULL);
    WAIT_FOR(client.n_events[TURN_TEXT] >= 2);
    session_cancel(client.session, turn, NULL);
    WAIT_FOR(client.ended);
    assert_int_equal(client.turn, turn);
    assert_string_equal(reason_of(&client), "cancelled");
    client.ended = false;
    client.cancel_after = client.n_events[TURN_TEXT] + 3;
    session_hold(client.session, turn - 1, false);
    WAIT_FOR(client.ended);
    assert_int_equal(client.turn, turn - 1);
    client_done(&client);
}

static void test_a_held_turn_lets_others_pass(void **state)
{
    struct client slow, quick;
    unsigned n;

    (void)state;
    open_model(&slow, TALKS);
    open_model(&quick, TALKS);
    slow.hold_after = 1;
    ask_endless(&slow);
    WAIT_FOR(slow.n_events[TURN_TEXT] >= 1);
    ask(&quick, "hello", 50);
    WAIT_FOR(quick.ended);
    n = slow.n_events[TURN_TEXT];
    ask(&quick, "hello again", 50);
    WAIT_FOR(quick.ended);
    assert_int_equal(slow.n_events[TURN_TEXT], n);
    assert_false(slow.ended);
    session_hold(slow.session, slow.turn, false);
    WAIT_FOR(slow.ended);
    client_done(&slow);
    client_done(&quick);
}

/*
 * The two turns of the tests below have to overlap. A thread that the machine lets wait may miss
 * the long one: then they are asked again.
 */
#define TRIES 100

static void test_a_short_question_passes_a_long_one(void **state)
{
    struct client first, second;
    bool passed = false;

    (void)state;
    for (int i = 0; i < TRIES && !passed; i++) {
        open_model(&first, KNOWS);
        open_model(&second, KNOWS);
        ask_endless(&first);
        WAIT_FOR(first.n_events[TURN_TEXT] >= 1);
        ask(&second, "set a timer for two minutes", 40);
        WAIT_FOR(second.ended && first.ended);
        passed = second.finished_as < first.finished_as;
        client_done(&first);
        client_done(&second);
    }
    assert_true(passed);
}

static void test_background_waits_for_interactive(void **state)
{
    struct client background, interactive;
    bool overlapped = false;

    (void)state;
    for (int i = 0; i < TRIES && !overlapped; i++) {
        open_with(&background,
                  &(struct session_options){
                      .model = TALKS, .background = true, .keep_alive_sec = INT64_MIN});
        open_model(&interactive, TALKS);
        ask_endless(&background);
        WAIT_FOR(background.n_events[TURN_TEXT] >= 1);
        interactive.other = &background;
        ask_endless(&interactive);
        WAIT_FOR(interactive.ended);
        assert_true(interactive.n_events[TURN_TEXT] > 10);
        overlapped = !interactive.other_ended_at_start;
        if (overlapped) {
            assert_int_equal(interactive.n_other_at_start, interactive.n_other_at_end);
            assert_false(background.ended && background.finished_as < interactive.finished_as);
        }
        WAIT_FOR(background.ended);
        client_done(&background);
        client_done(&interactive);
    }
    assert_true(overlapped);
}

/* --- context --------------------------------------------------------------------------------- */

static void test_the_second_session_finds_the_prefix(void **state)
{
    const struct session_options options = {.model = TALKS,
                                            .system = "You are a very helpful assistant.",
                                            .tools = tools,
                                            .keep_alive_sec = INT64_MIN};
    struct client first, second;

    (void)state;
    open_with(&first, &options);
    open_with(&second, &options);
    ask(&first, "hello", 5);
    WAIT_FOR(first.ended);
    assert_int_equal(usage_of(first.last, "cached_tokens"), 0);
    ask(&second, "good bye", 5);
    WAIT_FOR(second.ended);
    assert_true(usage_of(second.last, "cached_tokens") > 30);
    assert_true(usage_of(second.last, "prompt_tokens") - usage_of(second.last, "cached_tokens") <
                40);
    client_done(&first);
    client_done(&second);
}

static void test_a_later_question_finds_the_conversation(void **state)
{
    struct client client;
    int64_t n_prompt;

    (void)state;
    open_model(&client, KNOWS);
    ask(&client, "set a timer for ten minutes", 50);
    WAIT_FOR(client.ended);
    n_prompt = usage_of(client.last, "prompt_tokens");
    ask(&client, "hello", 50);
    WAIT_FOR(client.ended);
    assert_true(usage_of(client.last, "cached_tokens") >= n_prompt);
    client_done(&client);
}

static void test_the_oldest_turns_go_when_the_context_is_full(void **state)
{
    struct client client;
    unsigned n_turns = 0;

    (void)state;
    open_with(&client, &(struct session_options){.model = TALKS,
                                                 .system = "Be brief.",
                                                 .n_context = 256,
                                                 .keep_alive_sec = INT64_MIN});
    for (; n_turns < 12; n_turns++) {
        _cleanup_(freep) char *question = long_text(40, n_turns);

        ask(&client, question, 10);
        WAIT_FOR(client.ended);
        assert_int_equal(client.n_events[TURN_ERROR], 0);
        assert_true(usage_of(client.last, "prompt_tokens") < 256);
    }
    assert_true(number_of(client.last, "dropped_turns") > 5);
    assert_true(number_of(client.last, "dropped_turns") < 12);
    assert_int_equal(history_length(&client), 1 + 2 * n_turns);
    client_done(&client);
}

static void test_a_question_that_is_too_long_is_refused_with_the_figures(void **state)
{
    struct client client;
    _cleanup_(freep) char *question = long_text(400, 1);

    (void)state;
    open_with(&client, &(struct session_options){
                           .model = TALKS, .n_context = 128, .keep_alive_sec = INT64_MIN});
    ask(&client, "hello", 4);
    WAIT_FOR(client.ended);
    ask(&client, question, 4);
    WAIT_FOR(client.ended);
    assert_string_equal(reason_of(&client), "ContextFull");
    assert_non_null(strstr(json_member_text(client.last, "message"), "128"));
    assert_int_equal(history_length(&client), 2);
    ask(&client, "hello", 4);
    WAIT_FOR(client.ended);
    assert_int_equal(client.n_events[TURN_DONE], 2);
    client_done(&client);
}

/* --- memory ---------------------------------------------------------------------------------- */

static void test_what_does_not_fit_is_refused_with_the_figures(void **state)
{
    struct client client;

    (void)state;
    stop_engine();
    start_engine_with(100000, KEEP_ALIVE_FOREVER);
    open_model(&client, KNOWS);
    ask(&client, "hello", 5);
    WAIT_FOR(client.ended);
    assert_string_equal(reason_of(&client), "NoMemory");
    assert_non_null(strstr(json_member_text(client.last, "message"), "MB"));
    assert_int_equal(engine_model_memory(engine, KNOWS).last_error.code, ERROR_NO_MEMORY);
    client_done(&client);
}

static void test_a_model_is_unloaded_when_it_expires(void **state)
{
    struct client client;

    (void)state;
    stop_engine();
    start_engine_with(0, 0);
    open_model(&client, TALKS);
    ask(&client, "hello", 5);
    WAIT_FOR(client.ended);
    WAIT_FOR(!engine_model_memory(engine, TALKS).loaded);
    ask(&client, "hello", 5);
    WAIT_FOR(client.ended);
    assert_int_equal(client.n_events[TURN_DONE], 2);
    client_done(&client);
    WAIT_FOR(engine_idle(engine));
}

static void test_load_and_unload_by_hand(void **state)
{
    struct error err = ERROR_INIT;
    struct client client;

    (void)state;
    assert_int_equal(engine_load(engine, TALKS, &err), 0);
    assert_true(engine_model_memory(engine, TALKS).loading);
    WAIT_FOR(engine_model_memory(engine, TALKS).loaded);
    assert_true(engine_model_memory(engine, TALKS).memory_bytes > 100000);
    assert_true(engine_model_memory(engine, TALKS).expires_usec == INT64_MAX);
    assert_true(engine_load(engine, "no such model", &err) < 0);
    assert_int_equal(err.code, ERROR_MODEL_NOT_FOUND);
    open_model(&client, TALKS);
    client.hold_after = 1;
    ask_endless(&client);
    WAIT_FOR(client.n_events[TURN_TEXT] >= 1);
    err = (struct error)ERROR_INIT;
    assert_int_equal(engine_unload(engine, TALKS, &err), -EBUSY);
    client_done(&client);
    assert_int_equal(engine_unload(engine, TALKS, &err), 0);
    WAIT_FOR(!engine_model_memory(engine, TALKS).loaded);
    WAIT_FOR(engine_idle(engine));
}

/* --- kept sessions --------------------------------------------------------------------------- */

static void test_a_kept_session_goes_on_after_a_restart(void **state)
{
    struct error err = ERROR_INIT;
    struct client client;
    char id[64];
    _cleanup_(freep) char *before = NULL;
    _cleanup_(freep) char *after = NULL;
    _cleanup_(freep) char *list = NULL;

    (void)state;
    open_with(&client, &(struct session_options){.model = TALKS,
                                                 .system = "Be brief.",
                                                 .tools = tools,
                                                 .keep = true,
                                                 .keep_alive_sec = INT64_MIN});
    ask(&client, "what a day\nit is", 10);
    WAIT_FOR(client.ended);
    ask(&client, "and now", 10);
    WAIT_FOR(client.ended);
    snprintf(id, sizeof(id), "%s", session_id(client.session));
    before = session_history(client.session);
    assert_null(session_open(engine, id, &sink, &client, &err));
    assert_int_equal(err.code, ERROR_BUSY);
    client_done(&client);
    stop_engine();

    start_engine();
    err = (struct error)ERROR_INIT;
    list = session_list_kept(engine, &err);
    assert_non_null(strstr(list, id));
    assert_non_null(strstr(list, "\"title\":\"what a day\""));
    reopen(&client, id);
    after = session_history(client.session);
    assert_string_equal(before, after);
    assert_true(session_context_used(client.session) > 0);
    ask(&client, "go on", 10);
    WAIT_FOR(client.ended);
    assert_int_equal(client.turn, 3);
    assert_int_equal(history_length(&client), 7);
    note_open(NULL, client.session);
    session_close(client.session, true);
    json_object_put(client.last);
    assert_int_equal(session_forget(engine, id, NULL), -EINVAL);
}

static void test_closing_in_mid_turn_leaves_the_reported_turns(void **state)
{
    struct client client;
    char id[64];

    (void)state;
    for (unsigned round = 0; round < 10; round++) {
        open_with(&client, &(struct session_options){
                               .model = TALKS, .keep = true, .keep_alive_sec = INT64_MIN});
        ask(&client, "first", 5);
        WAIT_FOR(client.ended);
        ask(&client, "second", 10 * round + 1);
        WAIT_FOR(client.n_events[TURN_START] == 2);
        snprintf(id, sizeof(id), "%s", session_id(client.session));
        client_done(&client);
        reopen(&client, id);
        assert_in_range(history_length(&client), 2, 4);
        ask(&client, "third", 5);
        WAIT_FOR(client.ended);
        assert_int_equal(client.n_events[TURN_ERROR], 0);
        client_done(&client);
    }
}

static void answer_until_killed(int report)
{
    struct client client;

    start_engine();
    open_with(&client,
              &(struct session_options){.model = TALKS, .keep = true, .keep_alive_sec = INT64_MIN});
    if (write(report, session_id(client.session), 32) != 32)
        _exit(1);
    for (;;) {
        ask(&client, "hello", 3);
        while (!client.ended)
            if (!pump())
                _exit(1);
        if (client.n_events[TURN_ERROR] > 0 || write(report, "+", 1) != 1)
            _exit(1);
    }
}

static void test_kill_at_random_moments_loses_no_reported_turn(void **state)
{
    (void)state;
    stop_engine();
    for (unsigned round = 0; round < 8; round++) {
        int pipes[2], status;
        const size_t n_awaited = random_below(3);
        char id[33] = "", mark;
        size_t n_reported = 0;
        pid_t child;

        assert_int_equal(pipe(pipes), 0);
        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            close(pipes[0]);
            answer_until_killed(pipes[1]);
        }
        close(pipes[1]);
        assert_int_equal(read(pipes[0], id, 32), 32);
        while (n_reported < n_awaited && read(pipes[0], &mark, 1) == 1)
            n_reported++;
        usleep(random_below(20000));
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status));
        while (read(pipes[0], &mark, 1) == 1)
            n_reported++;
        close(pipes[0]);
        assert_true(n_reported >= n_awaited);

        start_engine();
        if (n_reported > 0) {
            struct client client = {0};

            reopen(&client, id);
            /* The one that was being reported may be there too. */
            assert_in_range(history_length(&client), 2 * n_reported, 2 * n_reported + 2);
            client_done(&client);
        }
        stop_engine();
    }
    start_engine();
}

/* --- refusals -------------------------------------------------------------------------------- */

static void test_wrong_options_are_refused_with_a_sentence(void **state)
{
    static const struct session_options wrong[] = {
        {.model = "no such model"},
        {.model = TALKS, .system = "\xff"},
        {.model = TALKS, .tools = "{}"},
        {.model = TALKS, .tools = "[{}]"},
        {.model = TALKS, .tools = "[1"},
        {.model = TALKS, .sampling = "{\"heat\": 1}"},
        {.model = TALKS, .sampling = "{\"temperature\": -1}"},
        {.model = TALKS, .sampling = "{\"top_k\": 1.5}"},
        {.model = TALKS, .n_context = 3},
    };
    static const char *const empty_stop[] = {"", NULL};
    static const struct ask_options wrong_asks[] = {
        {.format = "[]"},     {.format = "{"},    {.require_tool = true},
        {.stop = empty_stop}, {.sampling = "[]"},
    };
    const struct ask_part part = {.type = ASK_TEXT, .text = "hello"};
    const struct ask_part empty = {.type = ASK_TEXT, .text = ""};
    struct client client;
    uint32_t turn;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct error err = ERROR_INIT;

        assert_null(session_new(engine, &wrong[i], &sink, NULL, &err));
        assert_true(err.code != ERROR_NONE);
        assert_int_equal(err.text[strlen(err.text) - 1], '.');
    }
    open_model(&client, TALKS);
    for (size_t i = 0; i < ARRAY_LEN(wrong_asks); i++) {
        struct error err = ERROR_INIT;

        assert_int_equal(session_ask(client.session, &part, 1, &wrong_asks[i], &turn, &err),
                         -EINVAL);
        assert_int_equal(err.text[strlen(err.text) - 1], '.');
    }
    assert_int_equal(session_ask(client.session, &empty, 1, NULL, &turn, NULL), -EINVAL);
    assert_int_equal(session_ask(client.session, NULL, 0, NULL, &turn, NULL), -EINVAL);
    client.hold_after = 1;
    for (unsigned i = 0; i < SESSION_QUEUED_MAX; i++)
        ask_endless(&client);
    assert_int_equal(session_ask(client.session, &part, 1, NULL, &turn, NULL), -EBUSY);
    client_done(&client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_events_come_in_order),
        TEST(test_the_model_of_the_repository_sets_a_timer),
        TEST(test_calls_are_held_to_the_tools),
        TEST(test_an_answer_of_a_format_is_of_that_format),
        TEST(test_stop_strings_end_the_reply_and_are_not_shown),
        TEST(test_cancel_in_decode_keeps_what_was_said),
        TEST(test_cancel_before_the_first_token_leaves_nothing),
        TEST(test_a_waiting_turn_can_be_cancelled),
        TEST(test_a_held_turn_lets_others_pass),
        TEST(test_a_short_question_passes_a_long_one),
        TEST(test_background_waits_for_interactive),
        TEST(test_the_second_session_finds_the_prefix),
        TEST(test_a_later_question_finds_the_conversation),
        TEST(test_the_oldest_turns_go_when_the_context_is_full),
        TEST(test_a_question_that_is_too_long_is_refused_with_the_figures),
        TEST(test_what_does_not_fit_is_refused_with_the_figures),
        TEST(test_a_model_is_unloaded_when_it_expires),
        TEST(test_load_and_unload_by_hand),
        TEST(test_a_kept_session_goes_on_after_a_restart),
        TEST(test_closing_in_mid_turn_leaves_the_reported_turns),
        TEST(test_kill_at_random_moments_loses_no_reported_turn),
        TEST(test_wrong_options_are_refused_with_a_sentence),
    };

    return cmocka_run_group_tests_name("session/session", tests, NULL, NULL);
}
