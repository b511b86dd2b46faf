/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A small vocabulary made in memory: special tokens, the 256 bytes, and merges that show where the
 * pre-tokeniser cuts.
 */

#include "base/utf8.h"
#include "tests/gguf_build.h"
#include "text/tokenizer.h"

enum {
    V_PAD,
    V_BOS,
    V_ENDOFTEXT,
    V_IM_START,
    V_IM_END,
    V_CALL_START,
    V_CALL_END,
    V_SHORT,  /* <|im|>, a prefix of nothing */
    V_LONGER, /* <|im|>x: the longest match wins over V_SHORT */
    V_PYTHON, /* user-defined */
    V_UNUSED,
    V_BYTES, /* the first byte */
};

static const char *const vocabulary_specials[V_BYTES] = {
    "<|pad|>",           "<|startoftext|>",
    "<|endoftext|>",     "<|im_start|>",
    "<|im_end|>",        "<|tool_call_start|>",
    "<|tool_call_end|>", "<|im|>",
    "<|im|>x",           "python",
    "[PAD10]",
};

static const char *const vocabulary_merges[] = {
    "a a", "aa aa", "1 1",      "11 1",     "\u0120 \u0120", "\u010a \u010a",   "' s",
    "! !", "! a",   "\u0120 a", "a \u0120", "s a",           "!! \u010a\u010a", "\u010d \u010a",
};

#define VOCABULARY_MERGES (sizeof(vocabulary_merges) / sizeof(vocabulary_merges[0]))
#define VOCABULARY_N      (V_BYTES + 256 + VOCABULARY_MERGES)

/* What a test may change before the file is made. */
struct vocabulary_plan {
    const char *tokens[VOCABULARY_N];
    int32_t types[VOCABULARY_N];
    size_t n_tokens, n_types;
    char texts[256 + VOCABULARY_MERGES][32];
    const char *model, *pre;
    const char *chat_template; /* or NULL */
    uint32_t bos, eos;
};

static inline void vocabulary_plan(struct vocabulary_plan *plan)
{
    uint32_t next = 0x100;

    *plan = (struct vocabulary_plan){
        .n_tokens = VOCABULARY_N,
        .n_types = VOCABULARY_N,
        .model = "gpt2",
        .pre = "lfm2",
        .bos = V_BOS,
        .eos = V_IM_END,
    };
    for (size_t i = 0; i < V_BYTES; i++) {
        plan->tokens[i] = vocabulary_specials[i];
        plan->types[i] = i == V_PYTHON ? 4 : i == V_UNUSED ? 5 : 3;
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
        const bool printable = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);

        utf8_encode(printable ? byte : next++, plan->texts[byte]);
    }
    for (size_t i = 0; i < VOCABULARY_MERGES; i++) {
        const char *space = strchr(vocabulary_merges[i], ' ');

        memcpy(plan->texts[256 + i], vocabulary_merges[i], (size_t)(space - vocabulary_merges[i]));
        strcat(plan->texts[256 + i], space + 1);
    }
    for (size_t i = V_BYTES; i < VOCABULARY_N; i++) {
        plan->tokens[i] = plan->texts[i - V_BYTES];
        plan->types[i] = 1;
    }
}

static inline struct gguf *vocabulary_gguf(const struct vocabulary_plan *plan, uint8_t **ret_bytes,
                                           struct error *err)
{
    struct build build = BUILD_INIT;
    size_t size;

    build_str(&build, "general.architecture", "lfm2");
    if (plan->model)
        build_str(&build, "tokenizer.ggml.model", plan->model);
    build_str(&build, "tokenizer.ggml.pre", plan->pre);
    build_strs(&build, "tokenizer.ggml.tokens", plan->n_tokens, plan->tokens);
    build_array(&build, "tokenizer.ggml.token_type", GGUF_I32, plan->n_types, plan->types, 4);
    build_strs(&build, "tokenizer.ggml.merges", VOCABULARY_MERGES, vocabulary_merges);
    build_u32(&build, "tokenizer.ggml.bos_token_id", plan->bos);
    build_u32(&build, "tokenizer.ggml.eos_token_id", plan->eos);
    if (plan->chat_template)
        build_str(&build, "tokenizer.chat_template", plan->chat_template);
    *ret_bytes = build_finish(&build, &size);
    return gguf_open_memory(*ret_bytes, size, "vocabulary", err);
}

static inline struct tokenizer *vocabulary_load(const struct vocabulary_plan *plan,
                                                struct error *err)
{
    uint8_t *bytes = NULL;
    struct gguf *gguf = vocabulary_gguf(plan, &bytes, err);
    struct tokenizer *tokenizer = gguf ? tokenizer_load(gguf, err) : NULL;

    gguf_free(gguf);
    free(bytes);
    return tokenizer;
}

/* The vocabulary as it stands. */
static inline struct tokenizer *vocabulary_tokenizer(void)
{
    struct vocabulary_plan plan;
    struct error err = ERROR_INIT;

    vocabulary_plan(&plan);
    return vocabulary_load(&plan, &err);
}
