/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A reply taken apart while it streams: answer text, <think> text, tool calls.
 *
 * Only the control tokens <|tool_call_start|> and <|tool_call_end|> delimit calls; between them
 * stands Liquid's Pythonic list [f(a="x"), g()] or a JSON array of {name, arguments}. A call is
 * delivered when its end token arrives; broken call text is delivered as an error, never guessed.
 * <think> ... </think> is plain text in the 65k vocabulary and is recognised across token borders,
 * at the beginning of a reply only: later it is text that the user asked for. White space alone is
 * no thinking.
 * Integers beyond int64 are doubles that keep their digits when printed.
 *
 * Threads: one owner.
 * Source: text.md 10.1; llama.cpp common/chat-peg-parser.cpp.
 */

#include <json-c/json.h>

#include "text/tokenizer.h"

#define REPLY_CALL_BYTES_MAX ((size_t)1 << 20)
#define REPLY_CALLS_MAX      64
#define REPLY_DEPTH_MAX      64

struct reply_sink {
    void (*text)(void *userdata, const char *text, size_t length);     /* whole characters */
    void (*thinking)(void *userdata, const char *text, size_t length); /* whole characters */
    /* arguments is borrowed; a JSON object */
    void (*tool_call)(void *userdata, const char *name, struct json_object *arguments);
};

struct reply;

struct reply *reply_new(const struct tokenizer *tokenizer, const struct reply_sink *sink,
                        void *userdata);
struct reply *reply_free(struct reply *reply);

/* The prompt has opened <think> (chat_form_opens_thinking()); before the first token. */
void reply_begin_thinking(struct reply *reply);

/* Feed one token. An error means broken call text; the reply goes on with the next token. */
int reply_push(struct reply *reply, uint32_t id, struct error *err);
/* Deliver what is held back; a call without its end token is an error. */
int reply_finish(struct reply *reply, struct error *err);

/* The call list alone: returns an array of {"name", "arguments"}, to be put by the caller. */
struct json_object *reply_parse_calls(const char *text, size_t length, struct error *err);

/* A whole reply given as text with the delimiters spelled out (lfm-run parse):
 * {"content", "thinking", "tool_calls"}. thinking: as after reply_begin_thinking(). */
struct json_object *reply_parse(const char *text, size_t length, bool thinking, struct error *err);
