/* SPDX-License-Identifier: MIT */
/*
 * tokenize, detokenize, render, parse: they read the vocabulary and the chat template only, so that
 * a GGUF without tensors is enough.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "text/chat.h"
#include "text/reply.h"
#include "tools/run.h"

static void tokenizer_freep(struct tokenizer **tokenizer)
{
    tokenizer_free(*tokenizer);
}

/* ret_form, may be NULL: the chat form; not written where the file has none that is known. */
static struct tokenizer *open_tokenizer(const struct run_options *options, enum chat_form *ret_form,
                                        struct error *err)
{
    struct tokenizer *tokenizer;
    struct gguf *gguf;
    const char *path;

    if (run_need(options, "model", &path, err) < 0)
        return NULL;
    gguf = gguf_open(path, err);
    if (!gguf)
        return NULL;
    tokenizer = tokenizer_load(gguf, err);
    if (tokenizer && ret_form)
        chat_form_recognise(gguf, ret_form, NULL);
    gguf_free(gguf);
    return tokenizer;
}

static int run_tokenize(const struct run_options *options, struct error *err)
{
    _cleanup_(tokenizer_freep) struct tokenizer *tokenizer = open_tokenizer(options, NULL, err);
    _cleanup_(token_list_done) struct token_list ids = {0};
    _cleanup_(freep) char *text = NULL;
    struct text_span span = {.markup = run_flag(options, "special")};
    int r;

    if (!tokenizer)
        return -EINVAL;
    r = run_stdin(&text, &span.length, err);
    if (r < 0)
        return r;
    span.text = text;
    r = tokenizer_encode(tokenizer, &span, 1, &ids, err);
    if (r < 0)
        return r;
    return run_print_ids(ids.ids, ids.n, err);
}

static int run_detokenize(const struct run_options *options, struct error *err)
{
    _cleanup_(tokenizer_freep) struct tokenizer *tokenizer = open_tokenizer(options, NULL, err);
    _cleanup_(freep) uint32_t *ids = NULL;
    size_t n;
    int r;

    if (!tokenizer)
        return -EINVAL;
    r = run_ids(options, tokenizer_n_vocab(tokenizer), &ids, &n, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        size_t length;
        const char *piece = tokenizer_piece(tokenizer, ids[i], &length);

        fwrite(piece, 1, length, stdout);
    }
    return run_print("", 0, err);
}

static int pick_form(const struct run_options *options, enum chat_form *ret, struct error *err)
{
    const char *name = run_value(options, "template"), *path;
    struct gguf *gguf;
    int r;

    if (name && chat_form_by_name(name, ret))
        return 0;
    if (name)
        return error_set(err, ERROR_INVALID_ARGUMENT, "There is no template \"%s\".", name);
    r = run_need(options, "model", &path, err);
    if (r < 0)
        return r;
    gguf = gguf_open(path, err);
    if (!gguf)
        return -EINVAL;
    r = chat_form_recognise(gguf, ret, err);
    if (r == -ENOENT)
        r = error_set(err, ERROR_UNSUPPORTED_FORMAT, "%s has no chat template.", path);
    gguf_free(gguf);
    return r;
}

static int run_render(const struct run_options *options, struct error *err)
{
    _cleanup_(run_json_putp) struct json_object *document = NULL;
    struct chat_request request = {.as_template = true};
    struct chat_prompt prompt;
    enum chat_form form;
    int r = pick_form(options, &form, err);

    if (r < 0)
        return r;
    r = run_json(NULL, &document, err);
    if (r < 0)
        return r;
    if (!json_object_is_type(document, json_type_object))
        return error_set(err, ERROR_INVALID_ARGUMENT, "The request is not a JSON object.");
    request.messages = json_object_object_get(document, "messages");
    request.tools = json_object_object_get(document, "tools");
    request.add_generation_prompt =
        json_object_get_boolean(json_object_object_get(document, "add_generation_prompt"));
    request.keep_thinking =
        json_object_get_boolean(json_object_object_get(document, "keep_past_thinking")) ||
        json_object_get_boolean(json_object_object_get(document, "preserve_thinking"));
    r = chat_render(form, &request, &prompt, err);
    if (r < 0)
        return r;
    r = run_print(prompt.text, prompt.length, err);
    chat_prompt_done(&prompt);
    return r;
}

static int run_parse(const struct run_options *options, struct error *err)
{
    enum chat_form form = CHAT_LFM2;
    _cleanup_(tokenizer_freep) struct tokenizer *tokenizer = open_tokenizer(options, &form, err);
    _cleanup_(run_json_putp) struct json_object *reply = NULL;
    _cleanup_(freep) char *text = NULL;
    const char *printed;
    size_t length;
    int r;

    if (!tokenizer)
        return -EINVAL;
    r = run_stdin(&text, &length, err);
    if (r < 0)
        return r;
    reply = reply_parse(text, length, chat_form_opens_thinking(form), err);
    if (!reply)
        return -EINVAL;
    printed = json_object_to_json_string_ext(reply, JSON_C_TO_STRING_PLAIN |
                                                        JSON_C_TO_STRING_NOSLASHESCAPE);
    r = run_print(printed, strlen(printed), err);
    return r < 0 ? r : run_print("\n", 1, err);
}

const struct run_verb run_text_verbs[] = {
    {"tokenize", "special", run_tokenize},
    {"detokenize", "ids=", run_detokenize},
    {"render", "template=", run_render},
    {"parse", "", run_parse},
    {0},
};
