/* SPDX-License-Identifier: MIT */
#include "session/prompt.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "session/json.h"

static int no_memory(struct error *err)
{
    return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for the prompt.");
}

static bool has_role(struct json_object *message, const char *role)
{
    const char *text = json_member_text(message, "role");

    return text && strcmp(text, role) == 0;
}

static struct json_object *message_new(const char *role, const char *content)
{
    struct json_object *message = json_object_new_object();

    if (json_set(message, "role", json_object_new_string(role)) &&
        json_set(message, "content", json_object_new_string(content)))
        return message;
    json_object_put(message);
    return NULL;
}

/* --- question -------------------------------------------------------------------------------- */

/* The calls of the last message, or NULL. */
static struct json_object *last_calls(struct json_object *history)
{
    const size_t n = json_object_array_length(history);
    struct json_object *calls;

    if (n == 0 ||
        !json_object_object_get_ex(json_object_array_get_idx(history, n - 1), "tool_calls", &calls))
        return NULL;
    return calls;
}

static int add_results(struct json_object *messages, struct json_object *history,
                       struct json_object *results, struct error *err)
{
    struct json_object *calls = last_calls(history);
    const size_t n_calls = calls ? json_object_array_length(calls) : 0;
    int n_found = 0;

    for (size_t i = 0; i < n_calls; i++) {
        struct json_object *call = json_object_array_get_idx(calls, i);
        const char *id = json_member_text(call, "id");
        const char *text = id ? json_member_text(results, id) : NULL;
        struct json_object *message;

        if (!text)
            continue;
        n_found++;
        message = message_new("tool", text);
        if (!json_append(messages, message) ||
            !json_set(message, "tool_call_id", json_object_new_string(id)))
            return no_memory(err);
    }
    if (n_found == json_object_object_length(results))
        return 0;

    json_object_object_foreach(results, id, text)
    {
        bool known = false;

        (void)text;
        for (size_t i = 0; i < n_calls && !known; i++) {
            const char *call = json_member_text(json_object_array_get_idx(calls, i), "id");

            known = call && strcmp(call, id) == 0;
        }
        if (!known)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "There is a result for the call '%.64s', which the last reply does "
                             "not have; it has %zu calls.",
                             id, n_calls);
    }
    return 0;
}

struct json_object *prompt_question(struct json_object *history, struct json_object *results,
                                    const char *text, struct error *err)
{
    _cleanup_(json_putp) struct json_object *messages = json_object_new_array();

    if (results && add_results(messages, history, results, err) < 0)
        return NULL;
    if (text && !json_append(messages, message_new("user", text))) {
        no_memory(err);
        return NULL;
    }
    return TAKE_PTR(messages);
}

/* --- ids ------------------------------------------------------------------------------------- */

/* The index of the first message of turn `turn`; the number of messages when there is none. */
static size_t turn_start(struct json_object *messages, uint32_t turn)
{
    const size_t n = json_object_array_length(messages);
    uint32_t n_turns = 0;

    if (turn == 0)
        return 0;
    for (size_t i = 1; i < n; i++)
        if (has_role(json_object_array_get_idx(messages, i), "user") && ++n_turns == turn)
            return i;
    return n;
}

/*
 * The system turn and messages [first, n) as ids; ret_ends[i - first] is the number of ids up to the
 * end of message i. A prompt is cut into tokens at the ends of its messages (chat.h).
 */
static int encode(const struct lm *lm, const struct prompt_request *request, size_t first,
                  struct token_list *ids, size_t *ret_n_system, size_t *ret_ends, struct error *err)
{
    _cleanup_(json_putp) struct json_object *messages = json_object_new_array();
    const size_t n = json_object_array_length(request->messages);
    const bool has_system = request->system && request->system[0];
    struct chat_request chat = {
        .messages = messages,
        .tools = request->tools,
        .add_generation_prompt = true,
        .keep_thinking = request->keep_thinking,
        .no_thinking = request->no_thinking,
    };
    struct chat_prompt rendered;
    size_t n_spans = 0;
    int result;

    if (has_system && !json_append(messages, message_new("system", request->system)))
        return no_memory(err);
    for (size_t i = first; i < n; i++)
        if (!json_append(messages,
                         json_object_get(json_object_array_get_idx(request->messages, i))))
            return no_memory(err);
    result = chat_render(lm->form, &chat, &rendered, err);
    if (result < 0)
        return result;

    ids->n = 0;
    for (size_t i = 0; i <= rendered.n_boundaries && result == 0; i++) {
        /* The rest after the last boundary is the beginning of the answer. */
        const size_t end = i < rendered.n_boundaries ? rendered.boundaries[i] : rendered.n_spans;

        result = tokenizer_encode(lm->tokenizer, rendered.spans + n_spans, end - n_spans, ids, err);
        n_spans = end;
        if (i == 0)
            *ret_n_system = ids->n;
        else if (i <= n - first)
            ret_ends[i - 1] = ids->n;
    }
    chat_prompt_done(&rendered);
    return result;
}

/*
 * How many turns go when n_dropped is not enough: as few as leave a quarter of the context, or the
 * reserve, free; but never the last turn.
 */
static uint32_t drop_more(const struct prompt_request *request, uint32_t n_dropped, size_t n_ids,
                          size_t n_system, const size_t *ends)
{
    const size_t n = json_object_array_length(request->messages);
    const size_t first = turn_start(request->messages, n_dropped);
    const size_t n_free = MAX(request->n_reserve, request->n_context / 4);

    for (;;) {
        const size_t start = turn_start(request->messages, ++n_dropped);
        const size_t n_gone = ends[start - 1 - first] - n_system;

        if (n_ids - n_gone + n_free <= request->n_context ||
            turn_start(request->messages, n_dropped + 1) == n)
            return n_dropped;
    }
}

int prompt_build(const struct lm *lm, const struct prompt_request *request, struct prompt *ret,
                 struct error *err)
{
    const size_t n = json_object_array_length(request->messages);
    _cleanup_(freep) size_t *ends = calloc(n + 1, sizeof(*ends));
    struct prompt prompt = {.n_dropped = request->n_dropped};
    int result = ends ? 0 : no_memory(err);

    while (result == 0) {
        const size_t first = turn_start(request->messages, prompt.n_dropped);

        result = encode(lm, request, first, &prompt.ids, &prompt.n_system, ends, err);
        if (result < 0 || prompt.ids.n + request->n_reserve <= request->n_context)
            break;
        if (turn_start(request->messages, prompt.n_dropped + 1) < n) {
            prompt.n_dropped =
                drop_more(request, prompt.n_dropped, prompt.ids.n, prompt.n_system, ends);
        } else if (prompt.ids.n < request->n_context) {
            break; /* a short answer is better than none */
        } else {
            result = error_set(err, ERROR_CONTEXT_FULL,
                               "The question takes %zu tokens and the system prompt with its tools "
                               "%zu, but the context holds %zu, the answer included.",
                               prompt.ids.n - prompt.n_system, prompt.n_system, request->n_context);
        }
    }
    if (result < 0) {
        prompt_done(&prompt);
        return result;
    }
    *ret = prompt;
    return 0;
}

void prompt_done(struct prompt *prompt)
{
    token_list_done(&prompt->ids);
    *prompt = (struct prompt){0};
}
