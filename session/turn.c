/* SPDX-License-Identifier: MIT */

/*
 * The work of one turn: model and sequence, prompt, prefill, decode, and the events on the way.
 *
 * Engine thread. turn_run() does a slice of it; everything that is needed between two slices is in
 * struct turn.
 */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "session/internal.h"
#include "session/json.h"

#define PROGRESS_USEC     100000 /* at most one event in this time */
#define PREFILL_FIRST     64     /* tokens of a model's first slice, whose speed is not known yet */
#define PREFILL_SLICE_MIN 16     /* below this, the weights are read for too little work */
#define ANSWER_RESERVE    512    /* tokens that an answer should have room for */
#define ENDED             1      /* a positive result: the turn has ended, turn->reason says how */

#define REASON_SPOKEN "spoken" /* who listens goes on with the results, aloud */

/* --- events ---------------------------------------------------------------------------------- */

static const char *const event_names[] = {
    [TURN_START] = "start", [TURN_PROGRESS] = "progress",   [TURN_THINKING] = "thinking",
    [TURN_TEXT] = "text",   [TURN_TOOL_CALL] = "tool_call", [TURN_DONE] = "done",
    [TURN_ERROR] = "error", [TURN_IMAGE] = "image",
};

/* {"event": ..., "turn": ...}, to be filled and sent. */
static struct json_object *line_new(const struct turn *turn, enum turn_event_type type)
{
    struct json_object *line = json_object_new_object();

    json_set(line, "event", json_object_new_string(event_names[type]));
    json_set(line, "turn", json_object_new_int64(turn->number));
    return line;
}

/* Takes the line. NULL when memory was short at any step. */
static struct event *make_event(struct turn *turn, enum turn_event_type type,
                                struct json_object *line, bool complete)
{
    size_t length = 0;
    const char *text =
        complete ? json_object_to_json_string_length(line, JSON_FLAGS, &length) : NULL;
    struct event *event = text ? event_new(EVENT_TURN, length) : NULL;

    if (event) {
        memcpy(event->text, text, length);
        event->session = turn->work.session;
        event->turn_type = type;
        event->number = turn->number;
    }
    json_object_put(line);
    return event;
}

static void send_event(struct turn *turn, struct event *event)
{
    if (event)
        queue_push(&turn->work.session->engine->events, &event->node);
    else
        turn->out_of_memory = true;
}

static void send_start(struct turn *turn)
{
    struct json_object *line = line_new(turn, TURN_START);
    const bool ok = json_set(line, "model", json_object_new_string(turn->work.model_id));

    send_event(turn, make_event(turn, TURN_START, line, ok));
}

static void send_progress(struct turn *turn)
{
    struct json_object *line = line_new(turn, TURN_PROGRESS);
    const bool ok = json_set(line, "stage", json_object_new_string("prompt")) &&
                    json_set(line, "done", json_object_new_int64((int64_t)turn->n_fed)) &&
                    json_set(line, "total", json_object_new_int64((int64_t)turn->prompt.ids.n));

    send_event(turn, make_event(turn, TURN_PROGRESS, line, ok));
}

/* A number in a line. */
struct number {
    const char *key;
    int64_t value;
};

static bool set_numbers(struct json_object *line, const struct number *numbers, size_t n)
{
    bool ok = true;

    for (size_t i = 0; i < n; i++)
        ok = json_set(line, numbers[i].key, json_object_new_int64(numbers[i].value)) && ok;
    return ok;
}

/* Which picture of the question it is, from 1; 0: one of an earlier question. */
static int64_t image_number(const struct turn *turn, const struct look_item *item)
{
    const size_t i = (size_t)(item - turn->look.items), n_before = turn->look.n - turn->n_photos;

    return i < n_before ? 0 : (int64_t)(i - n_before + 1);
}

static void send_looked(struct turn *turn, const struct look_item *item)
{
    const struct number numbers[] = {
        {"image", image_number(turn, item)},
        {"images", (int64_t)turn->n_photos},
        {"done", (int64_t)item->rows->n_done},
        {"total", (int64_t)item->rows->n_views},
        {"left_ms", (int64_t)(look_usec_left(turn, item) / 1000)},
    };
    struct json_object *line = line_new(turn, TURN_PROGRESS);
    bool ok = json_set(line, "stage", json_object_new_string("image"));

    ok = set_numbers(line, numbers, ARRAY_LEN(numbers)) && ok;
    send_event(turn, make_event(turn, TURN_PROGRESS, line, ok));
}

/* What was seen of a picture, once that is settled. */
static void send_image(struct turn *turn, const struct look_item *item)
{
    const struct photo *photo = item->photo;
    const struct tile_plan *plan = &photo->plan;
    const struct number numbers[] = {
        {"image", image_number(turn, item)},
        {"width", plan->width},
        {"height", plan->height},
        {"cols", plan->cols},
        {"rows", plan->rows},
        {"views", (int64_t)plan->n_views},
        {"tokens", (int64_t)plan->n_image_tokens},
        {"predicted_ms", (int64_t)(item->predicted_usec / 1000)},
        {"encode_ms", item->usec / 1000},
    };
    struct json_object *line = line_new(turn, TURN_IMAGE);
    bool ok = set_numbers(line, numbers, ARRAY_LEN(numbers));

    ok = json_set(line, "detail",
                  json_object_new_string(image_detail_name(photo->settings.detail))) &&
         ok;
    ok = json_set(line, "shortened", json_object_new_boolean(photo->shortened)) && ok;
    ok = json_set(line, "cached", json_object_new_boolean(item->usec == 0)) && ok;
    ok = json_set(line, "sha256", json_object_new_string(photo->id)) && ok;
    send_event(turn, make_event(turn, TURN_IMAGE, line, ok));
}

static void send_text(struct turn *turn, enum turn_event_type type, const char *text, size_t length)
{
    struct json_object *line = line_new(turn, type);
    const bool ok = json_set(line, "text", json_object_new_string_len(text, (int)length));

    send_event(turn, make_event(turn, type, line, ok));
}

/* --- the reply, as it comes ------------------------------------------------------------------ */

/*
 * How much of text[0..length) may be shown: up to a stop string, which ends the reply, or up to
 * what may still become one. Nothing before `from` can be the beginning of one.
 */
static size_t find_stop(const char *text, size_t length, size_t from, char *const *stop,
                        bool *ret_found)
{
    size_t first_end = SIZE_MAX, first_start = 0, held = length;

    for (; *stop; stop++) {
        const size_t n = strlen(*stop);

        for (size_t i = from; i < length; i++) {
            if (memcmp(text + i, *stop, MIN(n, length - i)) != 0)
                continue;
            if (n > length - i) {
                held = MIN(held, i);
            } else if (i + n < first_end || (i + n == first_end && i < first_start)) {
                first_end = i + n;
                first_start = i;
            }
            break;
        }
    }
    *ret_found = first_end != SIZE_MAX;
    return *ret_found ? first_start : held;
}

static void show_thinking(struct turn *turn)
{
    const size_t n = turn->thinking.length - turn->n_shown_thinking;

    if (n > 0)
        send_text(turn, TURN_THINKING, turn->thinking.text + turn->n_shown_thinking, n);
    turn->n_shown_thinking = turn->thinking.length;
}

/* At the end of a reply nothing is held back any more. */
static void show_content(struct turn *turn, bool at_end)
{
    size_t end = turn->content.length;
    bool found = false;

    if (turn->stop && !turn->stop_found)
        end =
            find_stop(turn->content.text, turn->content.length, turn->n_shown, turn->stop, &found);
    if (found) {
        turn->stop_found = true;
        turn->content.length = end;
    } else if (at_end) {
        end = turn->content.length;
    }
    if (end > turn->n_shown)
        send_text(turn, TURN_TEXT, turn->content.text + turn->n_shown, end - turn->n_shown);
    turn->n_shown = MAX(turn->n_shown, end);
}

static void take_text(void *userdata, const char *text, size_t length)
{
    struct turn *turn = userdata;
    bool found;

    if (turn->stop_found)
        return;
    show_thinking(turn);
    if (buffer_add(&turn->content, text, length) < 0) {
        turn->out_of_memory = true;
        return;
    }
    if (!turn->stop)
        return;
    /* Looked for at once, so that a step of several tokens ends where single ones would. */
    length = find_stop(turn->content.text, turn->content.length, turn->n_shown, turn->stop, &found);
    if (found) {
        turn->content.length = length;
        turn->stop_found = true;
    }
}

static void take_thinking(void *userdata, const char *text, size_t length)
{
    struct turn *turn = userdata;

    if (turn->stop_found)
        return;
    show_content(turn, false);
    if (buffer_add(&turn->thinking, text, length) < 0)
        turn->out_of_memory = true;
}

static bool add_call(struct turn *turn, const char *id, const char *name,
                     struct json_object *arguments)
{
    struct json_object *function = json_object_new_object();
    struct json_object *call = json_object_new_object();
    bool ok = json_set(function, "name", json_object_new_string(name));

    ok = json_set(function, "arguments", json_object_get(arguments)) && ok;
    ok = json_set(call, "id", json_object_new_string(id)) && ok;
    ok = json_set(call, "type", json_object_new_string("function")) && ok;
    ok = json_set(call, "function", function) && ok;
    return json_append(turn->calls, call) && ok;
}

static void take_call(void *userdata, const char *name, struct json_object *arguments)
{
    struct turn *turn = userdata;
    struct json_object *line = line_new(turn, TURN_TOOL_CALL);
    char id[48];
    bool ok;

    if (turn->stop_found) {
        json_object_put(line);
        return;
    }
    show_thinking(turn);
    show_content(turn, false);
    if (!turn->calls)
        turn->calls = json_object_new_array();
    snprintf(id, sizeof(id), "call_%u_%zu", turn->number,
             turn->calls ? json_object_array_length(turn->calls) : 0);
    ok = json_set(line, "id", json_object_new_string(id)) &&
         json_set(line, "name", json_object_new_string(name)) &&
         json_set(line, "arguments", json_object_get(arguments)) &&
         add_call(turn, id, name, arguments);
    send_event(turn, make_event(turn, TURN_TOOL_CALL, line, ok));
}

static const struct reply_sink reply_sink = {
    .text = take_text,
    .thinking = take_thinking,
    .tool_call = take_call,
};

/* A call that cannot be parsed is shown as the model wrote it. */
static void take_broken_call(struct turn *turn, const struct error *err)
{
    char rest[DETOKENIZER_ROOM(0)];
    const size_t n = detokenizer_finish(&turn->call_text, rest);

    log_debug("A tool call could not be read: %s", err->text);
    if (buffer_add(&turn->call, rest, n) < 0)
        turn->out_of_memory = true;
    take_text(turn, turn->call.text ? turn->call.text : "", turn->call.length);
}

static void note_call_text(struct turn *turn, const struct tokenizer *tokenizer, uint32_t id)
{
    size_t length;
    const char *piece = tokenizer_piece(tokenizer, id, &length);
    _cleanup_(freep) char *text = malloc(DETOKENIZER_ROOM(length));

    if (!text ||
        buffer_add(&turn->call, text, detokenizer_push(&turn->call_text, piece, length, text)) < 0)
        turn->out_of_memory = true;
}

static void take_token(struct turn *turn, uint32_t id)
{
    const struct tokenizer *tokenizer = turn->work.model->lm->tokenizer;
    struct error err = ERROR_INIT;
    int result;

    if (id == turn->call_start) {
        turn->in_call = true;
        turn->call.length = 0;
        turn->call_text = (struct detokenizer){0};
    } else if (turn->in_call && id != turn->call_end) {
        note_call_text(turn, tokenizer, id);
    }
    result = reply_push(turn->reply, id, &err);
    if (id == turn->call_end)
        turn->in_call = false;
    if (result == -ENOMEM)
        turn->out_of_memory = true;
    else if (result < 0)
        take_broken_call(turn, &err);
}

/* --- the end --------------------------------------------------------------------------------- */

static struct json_object *assistant_message(const struct turn *turn)
{
    struct json_object *message = json_object_new_object();
    bool ok = json_set(message, "role", json_object_new_string("assistant"));

    ok = json_set(message, "content",
                  json_object_new_string_len(turn->content.text ? turn->content.text : "",
                                             (int)turn->content.length)) &&
         ok;
    if (turn->thinking.length > 0)
        ok =
            json_set(message, "thinking",
                     json_object_new_string_len(turn->thinking.text, (int)turn->thinking.length)) &&
            ok;
    if (turn->calls)
        ok = json_set(message, "tool_calls", json_object_get(turn->calls)) && ok;
    if (ok)
        return message;
    json_object_put(message);
    return NULL;
}

static int64_t image_tokens(const struct turn *turn)
{
    int64_t n = 0;

    for (size_t i = 0; i < turn->prompt.ids.n; i++)
        n += is_row_id(turn->prompt.ids.ids[i]);
    return n;
}

static struct json_object *usage_of(const struct turn *turn, int64_t now)
{
    const int64_t decode_usec = turn->decode_usec ? now - turn->decode_usec : 0;
    const int64_t prompt_end = turn->decode_usec ? turn->decode_usec : now;
    const int64_t n_image_tokens = image_tokens(turn);
    const struct number numbers[] = {
        {"prompt_tokens", (int64_t)turn->prompt.ids.n},
        {"cached_tokens", (int64_t)turn->n_cached},
        {"completion_tokens", (int64_t)turn->n_completion},
        {"image_tokens", n_image_tokens},
        {"load_usec", turn->work.load_usec},
        {"image_usec", turn->look_usec},
        {"queue_usec", (turn->started_usec ? turn->started_usec : now) - turn->asked_usec},
        {"prompt_usec", turn->prefill_usec ? prompt_end - turn->prefill_usec : 0},
        {"completion_usec", decode_usec},
        {"first_token_usec", turn->first_usec ? turn->first_usec - turn->asked_usec : 0},
    };
    struct json_object *usage = json_object_new_object();

    if (usage && set_numbers(usage, numbers, ARRAY_LEN(numbers)))
        return usage;
    json_object_put(usage);
    return NULL;
}

static int no_memory(struct error *err)
{
    return error_set(err, ERROR_NO_MEMORY, "There is not enough memory to go on with this turn.");
}

/* Ids and plans of the pictures into the parts of the question that stand for them. */
static bool describe_photos(const struct turn *turn)
{
    const size_t n_parts = turn->n_photos > 0 ? json_object_array_length(turn->asked) : 0;
    size_t n = 0;
    bool ok = true;

    for (size_t i = 0; i < n_parts; i++) {
        struct json_object *part = json_object_array_get_idx(turn->asked, i);
        const char *type = json_member_text(part, "type");

        if (type && strcmp(type, "image") == 0)
            ok = photo_describe(turn->photos[n++], part) && ok;
    }
    return ok;
}

/* Add the turn to the history, and make the event that says so. */
static struct event *conclude(struct turn *turn, const char *reason, struct error *err)
{
    struct session *session = turn->work.session;
    const bool silent = turn->content.length == 0 && turn->thinking.length == 0 && !turn->calls;
    const bool leaves_nothing =
        silent && (strcmp(reason, "cancelled") == 0 || strcmp(reason, REASON_SPOKEN) == 0);
    _cleanup_(json_putp) struct json_object *usage = usage_of(turn, clock_usec());
    struct past_turn past = {
        .number = turn->number,
        .reason = reason,
        .title = session->title,
        .model = turn->work.model_id,
        .messages = turn->question,
        .usage = usage,
        .photos = turn->photos,
        .n_photos = turn->n_photos,
        .n_dropped = turn->prompt.n_dropped,
    };
    struct json_object *line;
    struct event *event;
    bool ok;

    if (!usage || (!leaves_nothing && (!describe_photos(turn) ||
                                       !json_append(turn->question, assistant_message(turn))))) {
        no_memory(err);
        return NULL;
    }
    line = line_new(turn, TURN_DONE);
    ok = json_set(line, "reason", json_object_new_string(reason)) &&
         json_set(line, "dropped_turns", json_object_new_int64(turn->prompt.n_dropped)) &&
         json_set(line, "usage", json_object_get(usage));
    if (turn->measure && turn->generation)
        ok = json_set(line, "certainty",
                      json_object_new_double(generation_stats(turn->generation).certainty)) &&
             ok;
    event = make_event(turn, TURN_DONE, line, ok);
    if (!event) {
        no_memory(err);
        return NULL;
    }
    event->reason = reason;
    if (leaves_nothing)
        return event;
    past.n_tokens = sequence_n(session->sequence);
    event->messages = history_add(session, &past, err);
    return event->messages ? event : event_free(event);
}

static void end_with(struct turn *turn, struct event *event)
{
    const struct session *session = turn->work.session;

    event->finished = turn;
    if (session->sequence) {
        event->n_tokens = sequence_n(session->sequence);
        event->n_context = sequence_n_context(session->sequence);
    }
    turn->work.last = event;
}

static bool fail(struct turn *turn, const struct error *err)
{
    struct json_object *line = line_new(turn, TURN_ERROR);
    const bool ok = json_set(line, "name", json_object_new_string(error_name(err->code))) &&
                    json_set(line, "message", json_object_new_string(err->text));
    struct event *event = make_event(turn, TURN_ERROR, line, ok);

    if (!event) {
        event = TAKE_PTR(turn->last_resort);
        event->length =
            (size_t)snprintf(event->text, event->length + 1,
                             "{\"event\":\"error\",\"turn\":%u,\"name\":\"NoMemory\","
                             "\"message\":\"There is not enough memory to go on with this turn.\"}",
                             turn->number);
        event->session = turn->work.session;
        event->turn_type = TURN_ERROR;
        event->number = turn->number;
    }
    event->reason = error_name(err->code);
    end_with(turn, event);
    return true;
}

static bool finish(struct turn *turn, const char *reason)
{
    struct error err = ERROR_INIT;
    struct event *event = NULL;

    if (turn->reply && !turn->stop_found) {
        struct error broken = ERROR_INIT;

        if (reply_finish(turn->reply, &broken) < 0)
            take_broken_call(turn, &broken);
    }
    show_thinking(turn);
    show_content(turn, true);
    if (turn->out_of_memory)
        no_memory(&err);
    else
        event = conclude(turn, reason, &err);
    if (!event)
        return fail(turn, &err);
    end_with(turn, event);
    return true;
}

static void turn_release(struct work *work)
{
    struct turn *turn = (struct turn *)work;

    look_release(turn);
    free(turn->image_rows);
    turn->image_rows = NULL;
    turn->generation = generation_free(turn->generation);
    turn->constraint = constraint_free(turn->constraint);
    turn->reply = reply_free(turn->reply);
    prompt_done(&turn->prompt);
    buffer_done(&turn->content);
    buffer_done(&turn->thinking);
    buffer_done(&turn->call);
    json_object_put(turn->calls);
    json_object_put(turn->question);
    json_object_put(turn->asked);
    json_object_put(turn->results);
    json_object_put(turn->format);
    turn->calls = turn->question = turn->asked = turn->results = turn->format = NULL;
}

/* --- the work -------------------------------------------------------------------------------- */

/* The first byte of the reply is held to a format already, or to a call. */
static bool answers_at_once(const struct turn *turn)
{
    return turn->has_format || (turn->work.session->tools && turn->require_tool);
}

static int build_prompt(struct turn *turn, struct error *err)
{
    const struct session *session = turn->work.session;
    _cleanup_(json_putp) struct json_object *messages = json_object_new_array();
    struct json_object *const parts[] = {session->messages, turn->question};
    struct prompt_request request = {
        .system = session->system,
        .tools = session->tools,
        .messages = messages,
        .n_dropped = session->n_dropped,
        .n_context = sequence_n_context(session->sequence),
        .keep_thinking = turn->keep_thinking,
        .no_thinking = answers_at_once(turn),
    };
    struct picture_layout *layouts = NULL;
    struct prompt prompt;
    int result;

    request.n_reserve =
        MIN(turn->max_tokens ? turn->max_tokens : ANSWER_RESERVE, request.n_context / 4);
    for (size_t p = 0; p < ARRAY_LEN(parts); p++)
        for (size_t i = 0; i < json_object_array_length(parts[p]); i++)
            if (!json_append(messages, json_object_get(json_object_array_get_idx(parts[p], i))))
                return no_memory(err);
    if (turn->look.n > 0 && !(layouts = look_layouts(turn, err)))
        return error_errno(err->code);
    request.layouts = layouts;
    result = prompt_build(turn->work.model->lm, &request, &prompt, err);
    look_layouts_free(layouts, turn->look.n);
    if (result < 0)
        return result;
    prompt_done(&turn->prompt);
    turn->prompt = prompt;
    return 0;
}

static int build_constraint(struct turn *turn, struct error *err)
{
    const struct tokenizer *tokenizer = turn->work.model->lm->tokenizer;

    if (turn->has_format)
        turn->constraint = constraint_answer(tokenizer, turn->format, err);
    else if (turn->work.session->tools && (turn->constrain_tools || turn->require_tool))
        turn->constraint =
            constraint_tools(tokenizer, turn->work.session->tools, turn->require_tool, err);
    else
        return 0;
    return turn->constraint ? 0 : error_errno(err->code);
}

/* Keep what the sequence has of the prompt; then there may be pictures to look at. */
static int rewind_to_prompt(struct turn *turn, struct error *err)
{
    turn->n_cached = sequence_rewind(turn->work.session->sequence, turn->prompt.ids.ids,
                                     turn->prompt.ids.n);
    turn->n_fed = turn->n_cached;
    turn->phase = PHASE_LOOK;
    return look_need(turn, turn->n_cached, err);
}

/* Results of calls, while somebody listens and may have said something else in the meantime. */
static bool is_late(const struct turn *turn)
{
    return !turn->asked && turn->work.session->conversation;
}

/* The question as messages, and START; or the results of a spoken reply's calls: ENDED. */
static int announce(struct turn *turn, struct error *err)
{
    struct session *session = turn->work.session;
    int result = 0;

    turn->announced = true;
    turn->started_usec = clock_usec();
    turn->question =
        prompt_question(session->messages, turn->results, turn->asked, is_late(turn), err);
    if (turn->question && is_late(turn))
        result = conversation_take_results(session->conversation, turn->number, turn->question,
                                           err);
    turn->spoken = result > 0;
    if (turn->spoken)
        return ENDED;
    send_start(turn);
    return turn->question && result == 0 ? 0 : error_errno(err->code);
}

/* Model, eye and sequence. 1: all are there; 0: it waits for memory. */
static int take_memory(struct turn *turn, struct error *err)
{
    struct engine *engine = turn->work.session->engine;
    int result = engine_use_model(engine, &turn->work, err);

    if (result == 0)
        result = look_begin(turn, err);
    if (result == 0)
        result = engine_use_sequence(engine, turn, err);
    if (result == -EAGAIN) {
        turn->work.model = NULL;
        turn->work.waiting_for_memory = true;
        return 0;
    }
    return result < 0 ? result : 1;
}

static int check_form(const struct turn *turn, const struct lm *lm, struct error *err)
{
    if (lm->has_form)
        return 0;
    if (lm->form_error.code != ERROR_NONE) {
        *err = lm->form_error;
        return error_errno(err->code);
    }
    return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                     "The model %s has no chat template; it cannot hold a conversation.",
                     turn->work.model_id);
}

static int begin(struct turn *turn, struct error *err)
{
    const struct lm *lm;
    int result = turn->announced ? 0 : announce(turn, err);

    if (result == 0)
        result = look_check(turn, err);
    if (result != 0)
        return result;
    result = take_memory(turn, err);
    if (result <= 0)
        return result;

    lm = turn->work.model->lm;
    result = check_form(turn, lm, err);
    if (result == 0)
        result = build_prompt(turn, err);
    if (result == 0)
        result = build_constraint(turn, err);
    if (result < 0)
        return result;
    turn->reply = reply_new(lm->tokenizer, &reply_sink, turn);
    if (!turn->reply)
        return no_memory(err);
    if (chat_form_opens_thinking(lm->form) && !answers_at_once(turn))
        reply_begin_thinking(turn->reply);
    turn->call_start = tokenizer_find(lm->tokenizer, "<|tool_call_start|>");
    turn->call_end = tokenizer_find(lm->tokenizer, "<|tool_call_end|>");

    if (turn->look.n > 0) {
        turn->image_rows = calloc(lm->n_rows_max, sizeof(*turn->image_rows));
        if (!turn->image_rows)
            return no_memory(err);
    }
    return rewind_to_prompt(turn, err);
}

/* Until the rows of all pictures are there that the sequence does not have. */
static int look(struct turn *turn, struct error *err)
{
    struct look_item *item;
    const int64_t start = clock_usec();
    int result = look_work(turn, &item, err);

    turn->look_usec += clock_usec() - start;
    if (result == -ECANCELED)
        return ENDED;
    if (result < 0 || result == LOOK_WAIT)
        return MIN(result, 0);
    if (item)
        send_looked(turn, item);
    if (result == LOOK_GOING)
        return 0;
    for (size_t i = turn->look.first; i < turn->look.n; i++)
        if (turn->look.items[i].is_new && !turn->look.items[i].told) {
            turn->look.items[i].told = true;
            send_image(turn, &turn->look.items[i]);
        }
    if (turn->look.changed) {
        turn->look.changed = false;
        result = build_prompt(turn, err);
        /* Shorter now, it may have room for an earlier picture again: look on. */
        return result < 0 ? result : rewind_to_prompt(turn, err);
    }
    turn->prefill_usec = clock_usec();
    turn->phase = PHASE_PREFILL;
    return 0;
}

static int start_decode(struct turn *turn, const float *logits, struct error *err)
{
    struct sequence *sequence = turn->work.session->sequence;
    const size_t n_left = sequence_n_context(sequence) - sequence_n(sequence);
    const struct generation_options options = {
        .sampling = turn->sampling,
        .n_max = turn->max_tokens ? MIN(turn->max_tokens, n_left) : n_left,
        .constraint = turn->constraint,
        .speculate = true,
        .measure = turn->measure,
    };

    sequence_mark(sequence);
    turn->generation = generation_new(sequence, logits, &options, err);
    if (!turn->generation)
        return error_errno(err->code);
    turn->decode_usec = clock_usec();
    turn->phase = PHASE_DECODE;
    return 0;
}

/* Tokens that take about `usec`. */
static size_t slice_tokens(const struct loaded_model *model, int64_t usec)
{
    const double n =
        model->usec_per_token > 0 ? (double)usec / model->usec_per_token : PREFILL_FIRST;

    return (size_t)MIN(MAX(n, (double)PREFILL_SLICE_MIN), (double)model->lm->n_rows_max);
}

static int prefill(struct turn *turn, int64_t usec, struct error *err)
{
    struct sequence *sequence = turn->work.session->sequence;
    struct loaded_model *model = turn->work.model;
    const size_t n_system = turn->prompt.n_system, n_to_images = turn->prompt.n_to_images;
    /* A slice ends where others may go on: after the system turn, and after the pictures. */
    const size_t end = turn->n_fed < n_system      ? n_system
                       : turn->n_fed < n_to_images ? n_to_images
                                                   : turn->prompt.ids.n;
    const size_t n = MIN(end - turn->n_fed, slice_tokens(model, usec));
    const bool last = turn->n_fed + n == turn->prompt.ids.n;
    const int64_t start = clock_usec();
    const uint32_t *ids = turn->prompt.ids.ids + turn->n_fed;
    float *logits = NULL;
    size_t n_images = 0;
    int64_t now;
    int result;

    for (size_t i = 0; i < n; i++)
        n_images += is_row_id(ids[i]);
    look_rows(turn, n_images, turn->image_rows);
    result = sequence_feed_rows(sequence, ids, n, turn->image_rows, &turn->work.cancel,
                                  last ? &logits : NULL);
    now = clock_usec();

    if (result == -ECANCELED)
        return ENDED;
    if (result < 0)
        return error_set(err, ERROR_INTERNAL, "The prompt of %zu tokens did not fit its context.",
                         turn->prompt.ids.n);
    turn->n_fed += n;
    if (n >= PREFILL_SLICE_MIN) {
        const double measured = (double)(now - start) / (double)n;

        model->usec_per_token =
            model->usec_per_token > 0 ? 0.5 * model->usec_per_token + 0.5 * measured : measured;
    }
    if (turn->n_fed == n_system || turn->n_fed == n_to_images) {
        sequence_mark(sequence);
        sequence_publish(sequence);
    }
    if (last) {
        if (turn->progress_usec)
            send_progress(turn);
        return start_decode(turn, logits, err);
    }
    if (now - turn->progress_usec >= PROGRESS_USEC) {
        turn->progress_usec = now;
        send_progress(turn);
    }
    return 0;
}

static const char *end_reason(const struct turn *turn)
{
    enum generation_stop stop;

    if (turn->spoken)
        return REASON_SPOKEN;
    stop = generation_stopped(turn->generation);
    if (!turn->stop_found && stop != GENERATION_END)
        return "length";
    return turn->calls ? "tool_calls" : "stop";
}

/* One pass over the weights. */
static int step(struct turn *turn, struct error *err)
{
    const struct tokenizer *tokenizer = turn->work.model->lm->tokenizer;
    uint32_t ids[GENERATION_STEP_MAX];
    const int n = generation_next(turn->generation, ids, &turn->work.cancel);

    if (n == -ECANCELED)
        return ENDED;
    if (n < 0)
        return error_set(err, ERROR_INTERNAL, "The model could not go on: %s.", strerror(-n));
    if (!turn->first_usec)
        turn->first_usec = clock_usec();
    for (int i = 0; i < n && !turn->stop_found; i++) {
        turn->n_completion++;
        if (!tokenizer_is_end(tokenizer, ids[i]))
            take_token(turn, ids[i]);
    }
    show_thinking(turn);
    show_content(turn, false);
    if (turn->out_of_memory)
        return no_memory(err);
    return turn->stop_found || generation_stopped(turn->generation) != GENERATION_GOING ? ENDED : 0;
}

static int decode(struct turn *turn, int64_t usec, struct error *err)
{
    const int64_t end = clock_usec() + usec;
    struct queue *jobs = &turn->work.session->engine->jobs;
    int result;

    /* A new question does not wait for the end of the slice; hold and cancel come as jobs too. */
    do
        result = step(turn, err);
    while (result == 0 && clock_usec() < end && queue_is_empty(jobs));
    return result;
}

static bool turn_run(struct work *work, int64_t usec)
{
    struct turn *turn = (struct turn *)work;
    struct error err = ERROR_INIT;
    int result = 0;

    if (atomic_load(&turn->work.cancel))
        return finish(turn, "cancelled");
    switch (turn->phase) {
    case PHASE_NEW:
        result = begin(turn, &err);
        break;
    case PHASE_LOOK:
        result = look(turn, &err);
        break;
    case PHASE_PREFILL:
        result = prefill(turn, usec, &err);
        break;
    case PHASE_DECODE:
        result = decode(turn, usec, &err);
        break;
    }
    if (result < 0)
        return fail(turn, &err);
    if (result == ENDED)
        return finish(turn, atomic_load(&turn->work.cancel) ? "cancelled" : end_reason(turn));
    return false;
}

static bool turn_is_waiting(const struct work *work)
{
    const struct turn *turn = (const struct turn *)work;
    const struct task *conversation = work->session->conversation;

    /* The turns of a session are done one after the other, spoken ones too. */
    if (turn->phase == PHASE_NEW && conversation && !atomic_load(&turn->work.cancel) &&
        (conversation_is_answering(conversation) ||
         (is_late(turn) && conversation_hears_somebody(conversation))))
        return true;
    return look_is_waiting(turn);
}

const struct work_kind turn_kind = {
    .run = turn_run,
    .release = turn_release,
    .is_waiting = turn_is_waiting,
};
