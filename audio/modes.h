/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Whose turn it is in a reply of LFM2-Audio: the text head's or the audio head's.
 *
 *   sequential   text until <|audio_start|>, then frames of codes until the end frame, then text
 *                (recognition, reading aloud)
 *   interleaved  6 tokens, 12 frames, 6 tokens, ... ; after <|text_end|> frames until the end frame
 *                (conversation)
 *
 * A frame whose first code is the end code is the end frame: all of its codes become the end code,
 * it is fed back like any other frame and never heard.
 *
 *     modes_begin(&modes, ...);
 *     while (modes.next != MODES_STOP) {
 *         feed the input row;
 *         modes.next == MODES_TEXT ? draw a token, modes_text() : draw a frame, modes_frame();
 *     }
 *
 * Threads: one owner; no memory of its own.
 * Source: audio.md 3.3 and 3.4; liquid-audio model/lfm2_audio.py, generate_sequential() and
 * generate_interleaved().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CODEBOOKS 8

enum modes_kind { MODES_SEQUENTIAL, MODES_INTERLEAVED };
enum modes_next { MODES_TEXT, MODES_AUDIO, MODES_STOP };

#define MODES_TEXT_RUN  6  /* tokens, then */
#define MODES_AUDIO_RUN 12 /* frames, of an interleaved reply */

/* Ids of the tokens that switch. */
struct modes_tokens {
    uint32_t audio_start; /* <|audio_start|> */
    uint32_t text_end;    /* <|text_end|> */
    uint32_t end;         /* <|im_end|> */
};

struct modes {
    enum modes_kind kind;
    struct modes_tokens tokens;
    int32_t end_code;
    enum modes_next next;
    size_t n_left;  /* tokens and frames that may still come */
    uint32_t run;   /* interleaved: left of the present run; wraps below 0 once text is done */
    bool text_done; /* interleaved: <|text_end|> was there */
    bool complete;  /* stopped by the end token, not by n_max */
};

/* n_max: tokens and frames of the reply at most. */
void modes_begin(struct modes *modes, enum modes_kind kind, const struct modes_tokens *tokens,
                 int32_t end_code, size_t n_max);

/* Says whether the token is part of the reply: the end of an interleaved one is not. */
bool modes_text(struct modes *modes, uint32_t id);

/* Says whether the frame is heard; the end frame is not. Completes an end frame. */
bool modes_frame(struct modes *modes, int32_t codes[CODEBOOKS]);
