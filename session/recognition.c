/* SPDX-License-Identifier: MIT */
#include "session/recognition.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "session/internal.h"
#include "session/speech.h"
#include "text/row_id.h"

#define TOKENS_MAX 512 /* of the text of one clip */
#define PERIOD_MAX 16  /* tokens of a phrase that may repeat itself */
#define REPEATS_MIN 4
#define REPEATED_TOKENS_MIN 12

struct recognition {
    struct lm *lm;
    struct sequence *sequence;
    struct token_list ids;
    const float *rows; /* of those not fed yet */
    size_t n_fed, n_slice;
    struct generation *generation; /* NULL: the prompt is not fed yet */
    struct detokenizer detokenizer;
    struct token_list said;
    struct buffer text;
};

static int no_memory(struct error *err)
{
    return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a recording.");
}

struct recognition *recognition_new(struct lm *lm, struct sequence *sequence, struct error *err)
{
    struct recognition *r = calloc(1, sizeof(*r));

    if (!r) {
        no_memory(err);
        return NULL;
    }
    r->lm = lm;
    r->sequence = sequence;
    return r;
}

struct recognition *recognition_free(struct recognition *r)
{
    if (r) {
        generation_free(r->generation);
        token_list_done(&r->ids);
        token_list_done(&r->said);
        buffer_done(&r->text);
    }
    free(r);
    return NULL;
}

int recognition_begin(struct recognition *r, const float *rows, size_t n_rows,
                      const uint64_t key[2], size_t n_slice, struct error *err)
{
    static const char system[] = "Perform ASR.";
    const struct tokenizer *tokenizer = r->lm->tokenizer;
    struct token_list *ids = &r->ids;
    int result;

    r->generation = generation_free(r->generation);
    r->detokenizer = (struct detokenizer){0};
    r->text.length = 0;
    r->said.n = 0;
    ids->n = 0;
    result = speech_prompt_begin(tokenizer, "system", ids, err);
    if (result == 0)
        result = speech_prompt_add(tokenizer, system, strlen(system), false, ids, err);
    if (result == 0)
        result = speech_prompt_end(tokenizer, ids, err);
    if (result == 0)
        result = speech_prompt_begin(tokenizer, "user", ids, err);
    for (size_t i = 0; i < n_rows && result == 0; i++)
        result = token_list_push(ids, row_id(key, i)) < 0 ? no_memory(err) : 0;
    if (result == 0)
        result = speech_prompt_end(tokenizer, ids, err);
    if (result == 0)
        result = speech_prompt_begin(tokenizer, "assistant", ids, err);
    if (result < 0)
        return result;
    r->n_slice = MIN(n_slice, sequence_n_rows_max(r->sequence));
    r->n_fed = sequence_rewind(r->sequence, ids->ids, ids->n);
    r->rows = rows;
    for (size_t i = 0; i < r->n_fed; i++)
        r->rows += is_row_id(ids->ids[i]) ? r->lm->model->hparams.n_embd : 0;
    return 0;
}

/* A slice of the prompt. */
static int feed(struct recognition *r, const atomic_bool *cancel, struct error *err)
{
    const struct generation_options options = {.sampling = SAMPLING_GREEDY, .n_max = TOKENS_MAX};
    const size_t n = MIN(r->ids.n - r->n_fed, r->n_slice), width = r->lm->model->hparams.n_embd;
    const uint32_t *ids = r->ids.ids + r->n_fed;
    const bool last = r->n_fed + n == r->ids.n;
    _cleanup_(freep) const float **given = calloc(n, sizeof(*given));
    float *logits = NULL;
    size_t n_rows = 0;
    int result;

    if (!given)
        return no_memory(err);
    for (size_t i = 0; i < n; i++)
        if (is_row_id(ids[i])) {
            given[n_rows] = r->rows + n_rows * width;
            n_rows++;
        }
    result = sequence_feed_rows(r->sequence, ids, n, given, cancel, last ? &logits : NULL);
    if (result == -ECANCELED)
        return result;
    if (result < 0)
        return error_set(err, ERROR_INTERNAL, "A clip of %zu tokens did not fit.", r->ids.n);
    r->n_fed += n;
    r->rows += n_rows * width;
    if (!last)
        return 0;
    r->generation = generation_new(r->sequence, logits, &options, err);
    return r->generation ? 0 : error_errno(err->code);
}

static int take_token(struct recognition *r, uint32_t id)
{
    size_t length;
    const char *piece = tokenizer_piece(r->lm->tokenizer, id, &length);
    _cleanup_(freep) char *text = malloc(DETOKENIZER_ROOM(length));

    return text ? buffer_add(&r->text, text,
                             detokenizer_push(&r->detokenizer, piece, length, text))
                : -ENOMEM;
}

size_t recognition_loop(const uint32_t *ids, size_t n)
{
    for (size_t period = 1; period <= MIN(PERIOD_MAX, n); period++) {
        const size_t n_min = MAX(REPEATS_MIN * period, REPEATED_TOKENS_MIN);
        size_t n_same = period;

        while (n_same < n && ids[n - 1 - n_same] == ids[n - 1 - n_same + period])
            n_same++;
        if (n_same >= n_min)
            return n - n_same + period;
    }
    return n;
}

/* 1: the text says the same again and again; all but the first time is taken back. */
static int leave_loop(struct recognition *r)
{
    const size_t n = recognition_loop(r->said.ids, r->said.n);

    if (n == r->said.n)
        return 0;
    r->detokenizer = (struct detokenizer){0};
    r->text.length = 0;
    for (size_t i = 0; i < n; i++)
        if (take_token(r, r->said.ids[i]) < 0)
            return -ENOMEM;
    return 1;
}

static void trim(struct buffer *text)
{
    const size_t skip = text->text ? strspn(text->text, " \n\t") : 0;

    if (skip > 0)
        memmove(text->text, text->text + skip, text->length - skip + 1);
    text->length -= skip;
    while (text->length > 0 && strchr(" \n\t", text->text[text->length - 1]))
        text->text[--text->length] = '\0';
}

int recognition_step(struct recognition *r, const atomic_bool *cancel, struct error *err)
{
    uint32_t ids[GENERATION_STEP_MAX];
    int n, looping;

    if (!r->generation)
        return feed(r, cancel, err);
    n = generation_next(r->generation, ids, cancel);
    if (n < 0)
        return n;
    for (int i = 0; i < n; i++)
        if (!tokenizer_is_control(r->lm->tokenizer, ids[i]) &&
            (token_list_push(&r->said, ids[i]) < 0 || take_token(r, ids[i]) < 0))
            return no_memory(err);
    looping = leave_loop(r);
    if (looping < 0)
        return no_memory(err);
    if (!looping && generation_stopped(r->generation) == GENERATION_GOING)
        return 0;
    r->generation = generation_free(r->generation);
    trim(&r->text);
    return 1;
}

const char *recognition_text(const struct recognition *r)
{
    return r->text.text && r->text.length > 0 ? r->text.text : "";
}
