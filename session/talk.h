/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What was said in a conversation, as its sequence has it, or will when it is fed: ids, the rows of
 * those that are row ids (text/row_id.h), and where turns begin.
 *
 * Shapes:  rows [n_rows][width], in the order of their ids
 * Memory:  grows with what is said; an error is ERROR_NO_MEMORY, where nothing else is said
 * Threads: engine thread
 */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "audio/out/depthformer.h"
#include "base/error.h"
#include "text/lm.h"

#define TALK_TURNS_MAX 256

struct talk_place {
    size_t n_ids, n_rows; /* that are before it */
};

/* Zeroed but for the width is empty. */
struct talk {
    size_t width; /* H of the language model */
    struct token_list ids;
    float *rows;
    size_t n_rows, capacity;
    struct talk_place turns[TALK_TURNS_MAX]; /* what is before turns[0] is the system turn */
    size_t n_turns;
};

void talk_done(struct talk *talk);

struct talk_place talk_end(const struct talk *talk);
/* What is behind this place was never said. */
void talk_cut(struct talk *talk, struct talk_place place);

/* A turn begins at the end; of too many all but the last go. */
void talk_begin_turn(struct talk *talk);
/* The oldest turns go until at most n_max ids are left; the system turn and the last stay. */
void talk_make_room(struct talk *talk, size_t n_max);

int talk_add_id(struct talk *talk, uint32_t id, struct error *err);
/* Room for n more rows, whose ids are to follow; valid until the next call. NULL without memory. */
float *talk_add_rows(struct talk *talk, size_t n, struct error *err);
/* A frame of the reply: its row and its id. */
int talk_add_frame(struct talk *talk, const struct depthformer *depthformer,
                   const int32_t codes[CODEBOOKS], struct error *err);

/*
 * Bring a sequence to the end of what was said, by n_max ids at most.
 *
 * *ret_hidden: [H] after the last id that was fed (sequence_feed_hidden())
 * Returns 0, -ECANCELED, or another negative errno with a sentence.
 */
int talk_feed(const struct talk *talk, struct sequence *sequence, size_t n_max,
              const atomic_bool *cancel, const float **ret_hidden, struct error *err);
