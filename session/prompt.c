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

/* Takes the content. */
static struct json_object *message_new(const char *role, struct json_object *content)
{
    struct json_object *message = json_object_new_object();
    const bool ok = json_set(message, "role", json_object_new_string(role));

    if (json_set(message, "content", content) && ok)
        return message;
    json_object_put(message);
    return NULL;
}

/* --- question -------------------------------------------------------------------------------- */

static bool has_result(struct json_object *history, const char *id)
{
    for (size_t i = json_object_array_length(history); i-- > 0;) {
        struct json_object *message = json_object_array_get_idx(history, i);
        const char *answered = json_member_text(message, "tool_call_id");

        if (answered && id && strcmp(answered, id) == 0)
            return true;
    }
    return false;
}

/* The calls of the last message; late: of all, as far as they have no result. */
static struct json_object *open_calls(struct json_object *history, bool late)
{
    const size_t n = json_object_array_length(history);
    struct json_object *open = json_object_new_array(), *calls;

    for (size_t i = late || n == 0 ? 0 : n - 1; open && i < n; i++) {
        if (!json_object_object_get_ex(json_object_array_get_idx(history, i), "tool_calls", &calls))
            continue;
        for (size_t k = 0; k < json_object_array_length(calls); k++) {
            struct json_object *call = json_object_array_get_idx(calls, k);

            if (late && has_result(history, json_member_text(call, "id")))
                continue;
            if (!json_append(open, json_object_get(call))) {
                json_object_put(open);
                return NULL;
            }
        }
    }
    return open;
}

static int add_results(struct json_object *messages, struct json_object *history,
                       struct json_object *results, bool late, struct error *err)
{
    _cleanup_(json_putp) struct json_object *calls = open_calls(history, late);
    const size_t n_calls = calls ? json_object_array_length(calls) : 0;
    int n_found = 0;

    if (!calls)
        return no_memory(err);

    for (size_t i = 0; i < n_calls; i++) {
        struct json_object *call = json_object_array_get_idx(calls, i);
        const char *id = json_member_text(call, "id");
        const char *text = id ? json_member_text(results, id) : NULL;
        struct json_object *message;

        if (!text)
            continue;
        n_found++;
        message = message_new("tool", json_object_new_string(text));
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
                             "There is a result for the call '%.64s', which %s; %s %zu calls.", id,
                             late ? "does not wait for one" : "the last reply does not have",
                             late ? "there wait" : "it has", n_calls);
    }
    return 0;
}

struct json_object *prompt_question(struct json_object *history, struct json_object *results,
                                    struct json_object *content, bool late, struct error *err)
{
    _cleanup_(json_putp) struct json_object *messages = json_object_new_array();

    if (results && add_results(messages, history, results, late, err) < 0)
        return NULL;
    if (content && !json_append(messages, message_new("user", json_object_get(content)))) {
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

size_t prompt_images(struct json_object *message)
{
    struct json_object *content;
    size_t n = 0;

    if (!json_object_object_get_ex(message, "content", &content) ||
        !json_object_is_type(content, json_type_array))
        return 0;
    for (size_t i = 0; i < json_object_array_length(content); i++) {
        const char *type = json_member_text(json_object_array_get_idx(content, i), "type");

        n += type && strcmp(type, "image") == 0;
    }
    return n;
}

/* Spans of a prompt as ids, with n_images pictures in them. */
static int encode_spans(const struct lm *lm, const struct text_span *spans, size_t n_spans,
                        const struct picture_layout *pictures, size_t n_images,
                        struct token_list *ids, struct error *err)
{
    _cleanup_(token_list_done) struct token_list plain = {0};
    _cleanup_(freep) struct image_layout *layouts = NULL;
    struct image_markers markers;
    int r;

    if (n_images == 0)
        return tokenizer_encode(lm->tokenizer, spans, n_spans, ids, err);
    layouts = calloc(n_images, sizeof(*layouts));
    if (!layouts)
        return no_memory(err);
    for (size_t i = 0; i < n_images; i++)
        layouts[i] = pictures[i].layout;
    r = image_markers_find(lm->tokenizer, &markers, err);
    if (r == 0)
        r = tokenizer_encode(lm->tokenizer, spans, n_spans, &plain, err);
    return r < 0 ? r
                 : images_expand(&markers, plain.ids, plain.n, layouts, n_images, ids, err);
}

/* Up to the marker after the last row id. */
static size_t ids_to_images(const struct token_list *ids)
{
    size_t n = ids->n;

    while (n > 0 && !is_row_id(ids->ids[n - 1]))
        n--;
    return n > 0 ? n + 1 : 0;
}

/*
 * The system turn and messages [first, n) as ids; ret_ends[i - first] is the number of ids up to
 * the end of message i. A prompt is cut into tokens at the ends of its messages (chat.h).
 */
static int encode(const struct lm *lm, const struct prompt_request *request, size_t first,
                  struct prompt *prompt, size_t *ret_ends, struct error *err)
{
    _cleanup_(json_putp) struct json_object *messages = json_object_new_array();
    struct token_list *ids = &prompt->ids;
    const size_t n_messages = json_object_array_length(request->messages);
    const bool has_system = request->system && request->system[0];
    struct chat_request chat = {
        .messages = messages,
        .tools = request->tools,
        .add_generation_prompt = true,
        .keep_thinking = request->keep_thinking,
        .no_thinking = request->no_thinking,
    };
    struct chat_prompt rendered;
    size_t n_spans = 0, n_images = 0;
    int result;

    if (has_system &&
        !json_append(messages, message_new("system", json_object_new_string(request->system))))
        return no_memory(err);
    for (size_t i = first; i < n_messages; i++)
        if (!json_append(messages,
                         json_object_get(json_object_array_get_idx(request->messages, i))))
            return no_memory(err);
    result = chat_render(lm->form, &chat, &rendered, err);
    if (result < 0)
        return result;

    ids->n = 0;
    for (size_t i = 0; i < first; i++)
        n_images += prompt_images(json_object_array_get_idx(request->messages, i));
    prompt->n_images_dropped = n_images;
    for (size_t i = 0; i <= rendered.n_boundaries && result == 0; i++) {
        /* The rest after the last boundary is the beginning of the answer. */
        const size_t end = i < rendered.n_boundaries ? rendered.boundaries[i] : rendered.n_spans;
        const size_t n = i > 0 && first + i <= n_messages
                             ? prompt_images(json_object_array_get_idx(request->messages,
                                                                       first + i - 1))
                             : 0;

        result = encode_spans(lm, rendered.spans + n_spans, end - n_spans,
                              request->layouts ? request->layouts + n_images : NULL, n, ids, err);
        n_spans = end;
        n_images += n;
        if (i == 0)
            prompt->n_system = ids->n;
        else if (i <= n_messages - first)
            ret_ends[i - 1] = ids->n;
    }
    prompt->n_to_images = ids_to_images(ids);
    chat_prompt_done(&rendered);
    return result;
}

/* The message as a model that does not see may read it. */
static struct json_object *plain_message(struct json_object *message)
{
    const size_t n_images = prompt_images(message);
    struct json_object *copy = NULL, *content;

    if (json_object_deep_copy(message, &copy, NULL) < 0)
        return NULL;
    json_object_object_del(copy, "thinking");
    json_object_object_get_ex(copy, "content", &content);
    for (size_t i = 0; n_images > 0 && i < json_object_array_length(content); i++) {
        struct json_object *part = json_object_array_get_idx(content, i);

        if (json_member_text(part, "text"))
            continue;
        json_set(part, "type", json_object_new_string("text"));
        json_set(part, "text", json_object_new_string("(picture)"));
    }
    return copy;
}

int prompt_message(const struct lm *lm, struct json_object *message, struct token_list *ids,
                   struct error *err)
{
    _cleanup_(json_putp) struct json_object *messages = json_object_new_array();
    const struct chat_request chat = {.messages = messages};
    struct chat_prompt rendered;
    int result;

    if (!json_append(messages, plain_message(message)))
        return no_memory(err);
    result = chat_render(lm->has_form ? lm->form : CHAT_LFM25, &chat, &rendered, err);
    if (result < 0)
        return result;
    /* The first span is the beginning of the text. */
    result = tokenizer_encode(lm->tokenizer, rendered.spans + 1, rendered.boundaries[1] - 1, ids,
                              err);
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

        result = encode(lm, request, first, &prompt, ends, err);
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
