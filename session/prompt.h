/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A conversation as token ids that fit the context.
 *
 *     system, tools, history, question -> chat form -> spans -> ids
 *
 * A turn here is a user message and everything up to the next user message. When the ids do not
 * fit, the oldest turns go whole, and enough of them that a quarter of the context is free again:
 * the prefix that is in memory is lost by that, so it should not happen with every question. The
 * system prompt and the last turn always stay.
 *
 * Messages are JSON as in text/chat.h. Calls are {"id", "type": "function", "function": {"name",
 * "arguments"}}.
 *
 * Threads: engine thread; prompt_question() any.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "session/layout.h"
#include "text/lm.h"

struct prompt_request {
    const char *system;           /* or NULL */
    struct json_object *tools;    /* array, or NULL */
    struct json_object *messages; /* array: history and the question, without a system message */
    uint32_t n_dropped;           /* turns that went earlier */
    size_t n_context;
    size_t n_reserve; /* tokens that the answer should have room for */
    bool keep_thinking;
    bool no_thinking; /* in the reply (chat.h) */
    /* One for each image part of the messages, in order; NULL: there are none. */
    const struct picture_layout *layouts;
};

struct prompt {
    struct token_list ids;
    size_t n_system;    /* ids of the system turn */
    uint32_t n_dropped; /* turns that are not in it */
    size_t n_images_dropped; /* pictures of these turns */
    size_t n_to_images;      /* ids up to the end of the last picture; 0: there is none */
};

/* ERROR_CONTEXT_FULL with the figures when the last turn alone does not fit. */
int prompt_build(const struct lm *lm, const struct prompt_request *request, struct prompt *ret,
                 struct error *err);
void prompt_done(struct prompt *prompt);

/*
 * The messages of a question: one of role tool for each result, in the order of the calls of the
 * last message of the history, then a user message.
 *
 * results: object {id: text}, or NULL; an id that the last reply did not call is an error
 * content: text or parts (text/chat.h), or NULL
 * late:    results of earlier calls are taken too, as long as they have none
 * Returns an array, or NULL.
 */
struct json_object *prompt_question(struct json_object *history, struct json_object *results,
                                    struct json_object *content, bool late, struct error *err);

/* One message as ids, to stand behind others: without thinking, a picture as "(picture)". */
int prompt_message(const struct lm *lm, struct json_object *message, struct token_list *ids,
                   struct error *err);

/* Image parts of a message. */
size_t prompt_images(struct json_object *message);
