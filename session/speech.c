/* SPDX-License-Identifier: MIT */
#include "session/speech.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "text/row_id.h"

struct speech {
    struct sequence *sequence;
    struct lm *lm;
    struct depthformer *depthformer;
    struct modes modes;
    struct sampler *text, *audio;
    float *hidden; /* [H] of the last row in the sequence */
    float *row;    /* [H] of the frame that is not in the sequence yet */
    uint32_t id;   /* what is to be fed next; TOKEN_NONE: nothing yet */
};

int speech_prompt_add(const struct tokenizer *tokenizer, const char *text, size_t length,
                      bool markup, struct token_list *ids, struct error *err)
{
    const struct text_span span = {.text = text, .length = length, .markup = markup};

    return tokenizer_encode(tokenizer, &span, 1, ids, err);
}

int speech_prompt_begin(const struct tokenizer *tokenizer, const char *role,
                        struct token_list *ids, struct error *err)
{
    const uint32_t bos = tokenizer_bos(tokenizer);
    char text[64];

    if (ids->n == 0 && bos != TOKEN_NONE && token_list_push(ids, bos) < 0)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for a prompt.");
    snprintf(text, sizeof(text), "<|im_start|>%s\n", role);
    return speech_prompt_add(tokenizer, text, strlen(text), true, ids, err);
}

int speech_prompt_end(const struct tokenizer *tokenizer, struct token_list *ids, struct error *err)
{
    static const char text[] = "<|im_end|>\n";

    return speech_prompt_add(tokenizer, text, strlen(text), true, ids, err);
}

/* A token that switches: by name, else where LFM2-Audio's vocabulary has it. */
static uint32_t find(const struct tokenizer *tokenizer, const char *name, uint32_t place)
{
    const uint32_t id = tokenizer_find(tokenizer, name);

    return id == TOKEN_NONE ? place : id;
}

uint32_t speech_frame_id(const int32_t codes[CODEBOOKS])
{
    uint64_t key[2] = {0, 0};

    for (int i = 0; i < CODEBOOKS; i++)
        key[i / 4] = key[i / 4] << 16 | (uint16_t)codes[i];
    return row_id(key, 0);
}

struct speech *speech_new(struct sequence *sequence, struct lm *lm,
                          struct depthformer *depthformer, const struct speech_options *options,
                          const float *hidden, struct error *err)
{
    const struct depthformer_info *info = depthformer_info(depthformer);
    const size_t width = lm->model->hparams.n_embd;
    const struct modes_tokens tokens = {
        .audio_start = find(lm->tokenizer, "<|audio_start|>", 128),
        .text_end = find(lm->tokenizer, "<|text_end|>", 130),
        .end = find(lm->tokenizer, "<|im_end|>", 7),
    };
    struct speech *speech;

    if (info->n_embd != width) {
        error_set(err, ERROR_INVALID_ARGUMENT,
                  "The audio head takes rows of %zu values, but the text model's are of %zu.",
                  info->n_embd, width);
        return NULL;
    }
    speech = calloc(1, sizeof(*speech));
    if (!speech) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for a reply.");
        return NULL;
    }
    *speech = (struct speech){
        .sequence = sequence, .lm = lm, .depthformer = depthformer, .id = TOKEN_NONE};
    speech->text = sampler_new(lm->model->hparams.n_vocab, &options->text, err);
    speech->audio = speech->text ? sampler_new(info->n_codes + 1, &options->audio, err) : NULL;
    if (!speech->audio)
        return speech_free(speech);
    speech->hidden = calloc(2 * width, sizeof(*speech->hidden));
    if (!speech->hidden) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for a reply.");
        return speech_free(speech);
    }
    speech->row = speech->hidden + width;
    memcpy(speech->hidden, hidden, width * sizeof(*hidden));
    modes_begin(&speech->modes, options->kind, &tokens, (int32_t)info->n_codes, options->n_max);
    return speech;
}

struct speech *speech_free(struct speech *speech)
{
    if (speech) {
        sampler_free(speech->text);
        sampler_free(speech->audio);
        free(speech->hidden);
    }
    free(speech);
    return NULL;
}

/* Put what was returned last into the sequence. */
static int feed(struct speech *speech, const atomic_bool *cancel)
{
    const float *row = speech->row, *hidden;
    int r;

    if (speech->id == TOKEN_NONE)
        return 0;
    r = sequence_feed_hidden(speech->sequence, &speech->id, 1, &row, cancel, &hidden);
    if (r < 0)
        return r;
    memcpy(speech->hidden, hidden, speech->lm->model->hparams.n_embd * sizeof(*hidden));
    speech->id = TOKEN_NONE;
    return 0;
}

static void draw_frame(struct speech *speech, int32_t codes[CODEBOOKS])
{
    depthformer_begin(speech->depthformer, speech->hidden);
    for (int book = 0; book < CODEBOOKS; book++) {
        float *logits =
            depthformer_logits(speech->depthformer, book, book > 0 ? codes[book - 1] : 0);

        codes[book] = (int32_t)sampler_draw(speech->audio, logits, NULL);
    }
}

int speech_next(struct speech *speech, const atomic_bool *cancel, struct speech_event *ret)
{
    struct modes *modes = &speech->modes;
    int r;

    if (modes->next == MODES_STOP)
        return 0;
    r = feed(speech, cancel);
    if (r == -EOVERFLOW)
        modes->next = MODES_STOP;
    if (r < 0)
        return r == -EOVERFLOW ? 0 : r;

    *ret = (struct speech_event){.is_frame = modes->next == MODES_AUDIO};
    if (ret->is_frame) {
        draw_frame(speech, ret->codes);
        ret->heard = modes_frame(modes, ret->codes);
        depthformer_code_row(speech->depthformer, ret->codes, speech->row);
        speech->id = speech_frame_id(ret->codes);
        return 1;
    }
    ret->id = sampler_draw(speech->text, lm_logits(speech->lm, speech->hidden), NULL);
    sampler_accept(speech->text, ret->id);
    speech->id = ret->id;
    return modes_text(modes, ret->id) ? 1 : 0;
}

bool speech_is_complete(const struct speech *speech)
{
    return speech->modes.complete;
}
