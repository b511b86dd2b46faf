/* SPDX-License-Identifier: MIT */

/*
 * The words of a conversation: what is told of a reply as it comes, what goes into the history of
 * the session, and what comes from there: typed turns, and results of calls.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "session/conversation_internal.h"
#include "session/json.h"
#include "session/prompt.h"
#include "text/row_id.h"

#define SPOKEN         "spoken"   /* member of the messages of spoken turns */
#define NOT_UNDERSTOOD "(spoken)" /* in place of words that nobody has written down */

#define CALL_ID_MAX 40

/* --- what is told ---------------------------------------------------------------------------- */

static void call_id(const struct conversation *c, size_t i, char id[CALL_ID_MAX])
{
    snprintf(id, CALL_ID_MAX, "call_%u_%zu", c->turn_number, i);
}

void conversation_tell_text(struct conversation *c)
{
    struct json_object *line;

    if (c->text.length > 0) {
        line = ear_line("text", clock_usec(), c->reply_turn);
        task_send_line(&c->task, line,
                       json_set(line, "text",
                                json_object_new_string_len(c->text.text, (int)c->text.length)));
        c->text.length = 0;
    }
    for (size_t i = 0; c->calls && i < json_object_array_length(c->calls); i++) {
        struct json_object *call = json_object_array_get_idx(c->calls, i), *arguments, *name;
        char id[CALL_ID_MAX];
        bool ok;

        call_id(c, c->n_calls++, id);
        line = ear_line("tool_call", clock_usec(), c->reply_turn);
        json_object_object_get_ex(call, "name", &name);
        json_object_object_get_ex(call, "arguments", &arguments);
        ok = json_set(line, "id", json_object_new_string(id));
        ok = json_set(line, "name", json_object_get(name)) && ok;
        ok = json_set(line, "arguments", json_object_get(arguments)) && ok;
        task_send_line(&c->task, line, ok);
    }
    json_object_put(c->calls);
    c->calls = NULL;
}

static void on_text(void *userdata, const char *text, size_t length)
{
    struct conversation *c = userdata;

    if (buffer_add(&c->text, text, length) < 0)
        c->task.out_of_memory = true;
}

static void on_thinking(void *userdata, const char *text, size_t length)
{
    (void)userdata, (void)text, (void)length; /* it is not said either */
}

static void on_call(void *userdata, const char *name, struct json_object *arguments)
{
    struct conversation *c = userdata;
    struct json_object *call = json_object_new_object();
    bool ok = json_set(call, "name", json_object_new_string(name));

    ok = json_set(call, "arguments", json_object_get(arguments)) && ok;
    if (!c->calls)
        c->calls = json_object_new_array();
    c->called = talk_end(&c->talk);
    ok = ok && json_append(c->calls, json_object_get(call));
    json_object_put(call);
    if (!ok)
        c->task.out_of_memory = true;
}

static const struct reply_sink words_sink = {
    .text = on_text, .thinking = on_thinking, .tool_call = on_call};

bool conversation_begin_words(struct conversation *c)
{
    reply_free(c->words);
    c->words = reply_new(c->task.work.model->lm->tokenizer, &words_sink, c);
    c->text.length = 0;
    json_object_put(c->calls);
    c->calls = NULL;
    return c->words;
}

int conversation_take_token(struct conversation *c, uint32_t id, struct error *err)
{
    struct error broken = ERROR_INIT;

    if (talk_add_id(&c->talk, id, err) < 0)
        return -ENOMEM;
    if (reply_push(c->words, id, &broken) < 0)
        log_debug("A tool call could not be read: %s", broken.text);
    return c->task.out_of_memory ? no_memory(err) : 0;
}

/* --- the session's history ------------------------------------------------------------------- */

static bool is_spoken(struct json_object *message)
{
    return json_object_get_boolean(json_object_object_get(message, SPOKEN));
}

static bool has_role(struct json_object *message, const char *wanted)
{
    const char *role = json_member_text(message, "role");

    return role && strcmp(role, wanted) == 0;
}

int conversation_catch_up(struct conversation *c, struct error *err)
{
    struct json_object *messages = c->session->messages;
    const size_t n = json_object_array_length(messages);
    int r = 0;

    for (; c->n_seen < n && r == 0; c->n_seen++) {
        struct json_object *message = json_object_array_get_idx(messages, c->n_seen);

        if (is_spoken(message) && c->n_seen >= c->n_loaded)
            continue;
        if (has_role(message, "user"))
            talk_begin_turn(&c->talk);
        r = prompt_message(c->task.work.model->lm, message, &c->talk.ids, err);
    }
    return r;
}

/* {"role", "content", "spoken"}: takes the content */
static struct json_object *spoken_message(const char *role, struct json_object *content)
{
    struct json_object *message = json_object_new_object();
    bool ok = json_set(message, "role", json_object_new_string(role));

    ok = json_set(message, "content", content) && ok;
    ok = json_set(message, SPOKEN, json_object_new_boolean(true)) && ok;
    if (ok)
        return message;
    json_object_put(message);
    return NULL;
}

/* The calls as they stand in a message. */
static struct json_object *calls_of_message(const struct conversation *c)
{
    struct json_object *calls = json_object_new_array();

    for (size_t i = 0; i < json_object_array_length(c->calls); i++) {
        struct json_object *call = json_object_new_object();
        char id[CALL_ID_MAX];
        bool ok;

        call_id(c, i, id);
        ok = json_set(call, "id", json_object_new_string(id));
        ok = json_set(call, "type", json_object_new_string("function")) && ok;
        ok = json_set(call, "function",
                      json_object_get(json_object_array_get_idx(c->calls, i))) &&
             ok;
        if (!json_append(calls, call) || !ok) {
            json_object_put(calls);
            return NULL;
        }
    }
    return calls;
}

/* What is left of the reply in the talk, taken apart once more. */
static struct json_object *reply_message(struct conversation *c)
{
    const struct talk *talk = &c->talk;
    struct error broken = ERROR_INIT;
    struct json_object *message;

    conversation_begin_words(c);
    for (size_t i = c->reply.n_ids; c->words && i < talk->ids.n; i++)
        if (!is_row_id(talk->ids.ids[i]))
            reply_push(c->words, talk->ids.ids[i], &broken);
    if (c->words)
        reply_finish(c->words, &broken);
    message = c->words ? spoken_message("assistant",
                                        json_object_new_string_len(c->text.text ? c->text.text : "",
                                                                   (int)c->text.length))
                       : NULL;
    if (message && c->calls && !json_set(message, "tool_calls", calls_of_message(c))) {
        json_object_put(message);
        message = NULL;
    }
    c->text.length = 0;
    json_object_put(c->calls);
    c->calls = NULL;
    return message;
}

int conversation_collect(struct conversation *c, struct error *err)
{
    c->messages = TAKE_PTR(c->results);
    if (!c->messages) {
        c->messages = json_object_new_array();
        if (!json_append(c->messages,
                         spoken_message("user", json_object_new_string(NOT_UNDERSTOOD))))
            return no_memory(err);
    }
    return json_append(c->messages, reply_message(c)) ? 0 : no_memory(err);
}

static int add_to_history(struct conversation *c, struct error *err)
{
    _cleanup_(freep) char *title = NULL;
    struct past_turn turn = {
        .number = c->turn_number,
        .model = c->session_model,
        .reason = json_member_text(c->done, "reason"),
        .messages = c->messages,
        .usage = json_object_object_get(c->done, "usage"),
        .n_tokens = c->talk.ids.n,
        .n_dropped = c->session->n_dropped,
    };
    struct event *event = event_new(EVENT_SPOKEN, 0);

    if (!c->title)
        title = session_make_title(
            json_member_text(json_object_array_get_idx(c->messages, 0), "content"));
    turn.title = c->title ? c->title : title;
    if (!event || !turn.title) {
        event_free(event);
        return no_memory(err);
    }
    event->session = c->session;
    event->n_tokens = turn.n_tokens;
    event->n_context = sequence_n_context(c->task.sequence);
    event->messages = history_add(c->session, &turn, err);
    if (!event->messages) {
        event_free(event);
        return error_errno(err->code);
    }
    queue_push(&c->task.engine->events, &event->node);
    return 0;
}

void conversation_conclude(struct conversation *c)
{
    const char *words = c->understood ? recognition_text(c->recognition) : "";
    struct error err = ERROR_INIT;
    bool ok = json_set(c->done, "usec", json_object_new_int64(clock_usec()));

    if (words[0])
        ok = json_set(json_object_array_get_idx(c->messages, 0), "content",
                      json_object_new_string(words)) &&
             ok;
    /* What cannot be kept ends no conversation. */
    if (c->session && add_to_history(c, &err) < 0)
        ok = json_set(c->done, "message", json_object_new_string(err.text)) && ok;
    task_send_line(&c->task, TAKE_PTR(c->done), ok);
    json_object_put(c->messages);
    c->messages = NULL;
}

/* --- for typed turns ------------------------------------------------------------------------- */

bool conversation_is_answering(const struct task *task)
{
    const struct conversation *c = (const struct conversation *)task;

    return c->phase == PHASE_REPLY || c->phase == PHASE_DRAIN || c->goes_on || c->done;
}

bool conversation_hears_somebody(const struct task *task)
{
    const struct conversation *c = (const struct conversation *)task;

    return (int)(atomic_load(&c->turn) - c->reply_turn) > 0;
}

/* The index of the message that has made this call, or of the last one. */
static size_t find_call(struct json_object *history, const char *id)
{
    const size_t n = json_object_array_length(history);
    struct json_object *calls;

    for (size_t i = n; i-- > 0;) {
        if (!json_object_object_get_ex(json_object_array_get_idx(history, i), "tool_calls", &calls))
            continue;
        for (size_t k = 0; k < json_object_array_length(calls); k++) {
            const char *call = json_member_text(json_object_array_get_idx(calls, k), "id");

            if (call && strcmp(call, id) == 0)
                return i;
        }
    }
    return n - 1;
}

/* Other turns lie between a call and its result: the model is reminded, in writing. */
static int repeat_call(struct conversation *c, size_t i, struct error *err)
{
    struct json_object *history = c->session->messages;
    const struct lm *lm = c->task.work.model->lm;
    size_t question = i;
    int r;

    while (question > 0 && !has_role(json_object_array_get_idx(history, question), "user"))
        question--;
    r = prompt_message(lm, json_object_array_get_idx(history, question), &c->talk.ids, err);
    if (r == 0 && question < i)
        r = prompt_message(lm, json_object_array_get_idx(history, i), &c->talk.ids, err);
    return r;
}

/* `called`: the message with the call of the result before this one. */
static int put_result(struct conversation *c, struct json_object *message, size_t *called,
                      struct error *err)
{
    const size_t call = find_call(c->session->messages, json_member_text(message, "tool_call_id"));
    int r = 0;

    if (call != *called)
        r = repeat_call(c, call, err);
    *called = call;
    if (r < 0)
        return r;
    if (!json_set(message, SPOKEN, json_object_new_boolean(true)))
        return no_memory(err);
    return prompt_message(c->task.work.model->lm, message, &c->talk.ids, err);
}

int conversation_take_results(struct task *task, uint32_t turn, struct json_object *messages,
                              struct error *err)
{
    struct conversation *c = conversation_of(task);
    struct json_object *history = c->session->messages;
    const size_t n = json_object_array_length(history);
    const size_t n_results = json_object_array_length(messages);
    const size_t n_context = sequence_n_context(task->sequence);
    size_t called = n - 1;
    struct talk_place before;
    bool is_late;
    int r = 0;

    if (c->talk.n_turns == 0 || n == 0 || n_results == 0 ||
        !is_spoken(json_object_array_get_idx(history, n - 1)))
        return 0;
    is_late = find_call(history, json_member_text(json_object_array_get_idx(messages, 0),
                                                  "tool_call_id")) != called;
    if (is_late)
        talk_begin_turn(&c->talk);
    before = talk_end(&c->talk);
    for (size_t i = 0; i < n_results && r == 0; i++)
        r = put_result(c, json_object_array_get_idx(messages, i), &called, err);
    if (r == 0)
        r = speech_prompt_begin(task->work.model->lm->tokenizer, "assistant", &c->talk.ids, err);
    /* The turn that they belong to has to stay with them. */
    if (r == 0 && c->talk.turns[0].n_ids + c->talk.ids.n -
                          c->talk.turns[c->talk.n_turns - 1].n_ids + reply_room(c) >
                      n_context)
        r = error_set(err, ERROR_CONTEXT_FULL,
                      "The results take %zu tokens, but the context holds %zu, the question and "
                      "the answer included.",
                      c->talk.ids.n - before.n_ids, n_context);
    if (r < 0) {
        talk_cut(&c->talk, before);
        c->talk.n_turns -= is_late;
        return r;
    }
    c->results = json_object_get(messages);
    c->turn_number = turn;
    c->understood = false;
    c->goes_on = true;
    return 1;
}
