/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A reply of LFM2-Audio in words and sound: the text sequence and the depthformer take turns.
 *
 *     feed the prompt (text/lm), hidden row of its last token
 *     speech_new -> speech_next ... : a token, or a frame of 8 codes for audio/out/vocoder
 *
 * A frame goes back into the sequence as one row under a row id (text/row_id.h) that is drawn from
 * its codes, so that a later turn with the same history finds its prefix.
 *
 * Threads: engine thread.
 * Source: audio.md sections 3 and 4.
 */

#include "audio/modes.h"
#include "audio/out/depthformer.h"
#include "text/lm.h"

/*
 * Append a stretch of a prompt, tokenised by itself, as LFM2-Audio knows it.
 *
 * markup: what looks like a control token is one
 */
int speech_prompt_add(const struct tokenizer *tokenizer, const char *text, size_t length,
                      bool markup, struct token_list *ids, struct error *err);

/* The same for the beginning of a turn (the first also begins the text), and its end. */
int speech_prompt_begin(const struct tokenizer *tokenizer, const char *role,
                        struct token_list *ids, struct error *err);
int speech_prompt_end(const struct tokenizer *tokenizer, struct token_list *ids,
                      struct error *err);

struct speech_options {
    enum modes_kind kind;
    size_t n_max;          /* tokens and frames together */
    struct sampling text;  /* of tokens */
    struct sampling audio; /* of codes, the same for all codebooks */
};

struct speech_event {
    bool is_frame;
    uint32_t id;              /* the token */
    int32_t codes[CODEBOOKS]; /* the frame */
    bool heard;               /* a frame, and not the end frame */
};

struct speech;

/*
 * hidden: [H] after the final norm, of the prompt's last row (sequence_feed_hidden())
 * sequence, its lm and depthformer are borrowed. NULL with a sentence when they do not fit
 * together.
 */
struct speech *speech_new(struct sequence *sequence, struct lm *lm,
                          struct depthformer *depthformer, const struct speech_options *options,
                          const float *hidden, struct error *err);
struct speech *speech_free(struct speech *speech); /* accepts and returns NULL */

/*
 * The next token or frame. What was returned last is not in the sequence yet: the next call feeds
 * it. Returns 1; 0 once the reply is over (by its end, its length, or the context); -ECANCELED:
 * then nothing has changed and the call may be made again.
 */
int speech_next(struct speech *speech, const atomic_bool *cancel, struct speech_event *ret);

/* Whether a reply that is over came to its end, and was not cut off. */
bool speech_is_complete(const struct speech *speech);

/* The id under which a frame of codes stands in a sequence (its row: depthformer_code_row()). */
uint32_t speech_frame_id(const int32_t codes[CODEBOOKS]);
