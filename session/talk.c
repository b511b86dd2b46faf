/* SPDX-License-Identifier: MIT */
#include "session/talk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "session/speech.h"
#include "text/row_id.h"

static int no_memory(struct error *err)
{
    return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a conversation.");
}

void talk_done(struct talk *talk)
{
    free(talk->rows);
    token_list_done(&talk->ids);
    *talk = (struct talk){0};
}

struct talk_place talk_end(const struct talk *talk)
{
    return (struct talk_place){talk->ids.n, talk->n_rows};
}

void talk_cut(struct talk *talk, struct talk_place place)
{
    talk->ids.n = place.n_ids;
    talk->n_rows = place.n_rows;
}

void talk_begin_turn(struct talk *talk)
{
    if (talk->n_turns == TALK_TURNS_MAX)
        talk_make_room(talk, 0);
    talk->turns[talk->n_turns++] = talk_end(talk);
}

void talk_make_room(struct talk *talk, size_t n_max)
{
    const size_t width = talk->width;

    while (talk->ids.n > n_max && talk->n_turns > 1) {
        const struct talk_place from = talk->turns[0], to = talk->turns[1];

        memmove(talk->ids.ids + from.n_ids, talk->ids.ids + to.n_ids,
                (talk->ids.n - to.n_ids) * sizeof(*talk->ids.ids));
        if (talk->n_rows > 0) /* there may be typed turns only */
            memmove(talk->rows + from.n_rows * width, talk->rows + to.n_rows * width,
                    (talk->n_rows - to.n_rows) * width * sizeof(*talk->rows));
        talk->ids.n -= to.n_ids - from.n_ids;
        talk->n_rows -= to.n_rows - from.n_rows;
        talk->n_turns--;
        for (size_t i = 1; i <= talk->n_turns; i++)
            talk->turns[i - 1] = (struct talk_place){
                talk->turns[i].n_ids - (to.n_ids - from.n_ids),
                talk->turns[i].n_rows - (to.n_rows - from.n_rows),
            };
    }
}

int talk_add_id(struct talk *talk, uint32_t id, struct error *err)
{
    return token_list_push(&talk->ids, id) < 0 ? no_memory(err) : 0;
}

float *talk_add_rows(struct talk *talk, size_t n, struct error *err)
{
    if (talk->n_rows + n > talk->capacity) {
        const size_t capacity = MAX(talk->n_rows + n, 2 * talk->capacity);
        float *grown = reallocarray(talk->rows, capacity, talk->width * sizeof(*grown));

        if (!grown) {
            no_memory(err);
            return NULL;
        }
        talk->rows = grown;
        talk->capacity = capacity;
    }
    talk->n_rows += n;
    return talk->rows + (talk->n_rows - n) * talk->width;
}

int talk_add_frame(struct talk *talk, const struct depthformer *depthformer,
                   const int32_t codes[CODEBOOKS], struct error *err)
{
    float *row = talk_add_rows(talk, 1, err);

    if (!row)
        return -ENOMEM;
    depthformer_code_row(depthformer, codes, row);
    return talk_add_id(talk, speech_frame_id(codes), err);
}

int talk_feed(const struct talk *talk, struct sequence *sequence, size_t n_max,
              const atomic_bool *cancel, const float **ret_hidden, struct error *err)
{
    const uint32_t *ids = talk->ids.ids;
    const size_t n_ids = talk->ids.n;
    _cleanup_(freep) const float **given = calloc(talk->n_rows + 1, sizeof(*given));
    const float *const *next = given;
    size_t n, end;

    if (!given)
        return no_memory(err);
    for (size_t i = 0; i < talk->n_rows; i++)
        given[i] = talk->rows + i * talk->width;
    n = sequence_rewind(sequence, ids, n_ids);
    for (size_t i = 0; i < n; i++)
        next += is_row_id(ids[i]);
    end = n_ids - n <= n_max ? n_ids : n + n_max;
    for (size_t part; n < end; n += part) {
        int r;

        part = MIN(end - n, sequence_n_rows_max(sequence));
        r = sequence_feed_hidden(sequence, ids + n, part, next, cancel, ret_hidden);
        if (r == -ECANCELED)
            return r;
        if (r < 0)
            return error_set(err, ERROR_INTERNAL, "A conversation of %zu tokens did not fit.",
                             n_ids);
        for (size_t i = n; i < n + part; i++)
            next += is_row_id(ids[i]);
    }
    return 0;
}
