/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Chat forms: a list of messages and tools -> the prompt of one of the released forms.
 *
 * The form is recognised from features of the GGUF's own template (tokenizer.chat_template), an
 * unknown template is an error that says so; no Jinja is run. Content of messages is never markup:
 * only what the form itself writes may become control tokens.
 *
 * Messages are JSON in the usual chat form: {"role": "system"|"user"|"assistant"|"tool",
 * "content": text, or parts (or any JSON value), "tool_calls": [...], "thinking": text}. Parts are
 * {"type": "text", "text": text} and {"type": "image"}, which becomes <image> as markup (images.h).
 *
 * Threads: any; no state.
 * Source: text.md section 10; llama.cpp models/templates/LFM2*.jinja.
 */

#include <json-c/json.h>

#include "text/tokenizer.h"

enum chat_form {
    CHAT_LFM2,           /* LFM2 and LFM2-8B-A1B */
    CHAT_LFM25,          /* LFM2.5 Instruct and Thinking; plain ChatML templates */
    CHAT_LFM25_VL,       /* its later templates: the date before the tools, calls in the history */
    CHAT_LFM25_MOE,      /* LFM2.5-8B-A1B */
    CHAT_LFM25_MOE_DATE, /* its templates with the date before the tools */
    CHAT_LFM25_THINK,    /* LFM2.5-2.6B: the prompt itself opens <think> */
    _CHAT_FORM_N,
};

/* By the names of lfm-run --template; false for an unknown name. */
bool chat_form_by_name(const char *name, enum chat_form *ret);

/* -ENOENT without touching err when the file has no template. */
int chat_form_recognise(const struct gguf *gguf, enum chat_form *ret, struct error *err);

/* Whether the generation prompt ends inside <think>, so that the reply begins there. */
bool chat_form_opens_thinking(enum chat_form form);

/* A rendered prompt: one text, cut into spans (pointers into `text`). */
struct chat_prompt {
    char *text;
    size_t length;
    struct text_span *spans;
    size_t n_spans;
    /* Ends of reusable prefixes, as numbers of spans: [0] after the system turn (0 when there is
     * none), then after each further message. Tokens do not depend on what follows a boundary. */
    size_t *boundaries;
    size_t n_boundaries;
};

struct chat_request {
    struct json_object *messages; /* array */
    struct json_object *tools;    /* array, or NULL */
    bool add_generation_prompt;
    /* The reply begins with its answer: where the form opens <think>, it is closed again. */
    bool no_thinking;
    bool keep_thinking; /* the templates' switch keep_past_thinking or preserve_thinking */
    /* Leave out `thinking` and `tool_calls` where the released template does. Otherwise every form
     * writes them, so that a history of structured replies is not lost. */
    bool as_template;
    const char *date; /* YYYY-MM-DD for the forms that print it; NULL: today */
};

int chat_render(enum chat_form form, const struct chat_request *request, struct chat_prompt *ret,
                struct error *err);
void chat_prompt_done(struct chat_prompt *prompt);

/* JSON as Python's json.dumps(ensure_ascii=False) prints it: separators ", " and ": ". malloc. */
char *chat_dump_json(struct json_object *value);
