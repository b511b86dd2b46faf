/* SPDX-License-Identifier: MIT */
#include "text/lm.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "text/images.h"
#include "text/sequence.h"

/* --- model ------------------------------------------------------------------------------------ */

static size_t buffers_plan(const struct lfm2_hparams *hparams)
{
    const size_t rows = arena_need(lfm2_workspace_rows(hparams) * hparams->n_embd * sizeof(float));
    const size_t logits =
        arena_need((size_t)GENERATION_STEP_MAX * hparams->n_vocab * sizeof(float));

    return 2 * rows + logits;
}

static void gguf_freep(struct gguf **gguf)
{
    gguf_free(*gguf);
}

int lm_plan(const char *path, bool precise, size_t *ret_bytes, struct error *err)
{
    _cleanup_(gguf_freep) struct gguf *gguf = gguf_open(path, err);
    struct lfm2_hparams hparams;
    size_t weights;
    int r;

    if (!gguf)
        return error_errno(err ? err->code : ERROR_UNSUPPORTED_FORMAT);
    r = lfm2_model_plan(gguf, precise, &hparams, &weights, err);
    if (r < 0)
        return r;
    *ret_bytes = weights + buffers_plan(&hparams) +
                 lfm2_workspace_plan(&hparams, lfm2_workspace_rows(&hparams));
    return 0;
}

struct lm *lm_load(const char *path, bool precise, struct pool *pool, struct error *err)
{
    struct lm *lm = calloc(1, sizeof(*lm));
    size_t rows, buffers, workspace;

    if (!lm) {
        error_set(err, ERROR_NO_MEMORY, "Cannot take memory for a model.");
        return NULL;
    }
    lm->pool = pool;
    lm->gguf = gguf_open(path, err);
    if (!lm->gguf)
        return lm_free(lm);
    lm->tokenizer = tokenizer_load(lm->gguf, err);
    if (!lm->tokenizer)
        return lm_free(lm);
    lm->has_form = chat_form_recognise(lm->gguf, &lm->form, &lm->form_error) == 0;
    lm->model = lfm2_model_load(lm->gguf, precise, pool, err);
    if (!lm->model)
        return lm_free(lm);
    lm->n_rows_max = lfm2_workspace_rows(&lm->model->hparams);
    lm->workspace = lfm2_workspace_new(lm->model, lm->n_rows_max, err);
    if (!lm->workspace)
        return lm_free(lm);

    buffers = buffers_plan(&lm->model->hparams);
    if (arena_init(&lm->arena, buffers, "the logits of a model", err) < 0)
        return lm_free(lm);
    rows = lm->n_rows_max * lm->model->hparams.n_embd * sizeof(float);
    lm->rows = arena_take(&lm->arena, rows);
    lm->hidden = arena_take(&lm->arena, rows);
    lm->logits = arena_take(&lm->arena, (size_t)GENERATION_STEP_MAX *
                                            lm->model->hparams.n_vocab * sizeof(float));

    workspace = lfm2_workspace_plan(&lm->model->hparams, lm->n_rows_max);
    lm->memory_bytes = lm->model->arena.size + workspace + buffers;
    if (precise)
        lm->memory_bytes += gguf_file_bytes(lm->gguf);
    else
        lm->gguf = gguf_free(lm->gguf);
    return lm;
}

struct lm *lm_free(struct lm *lm)
{
    if (!lm)
        return NULL;
    arena_done(&lm->arena);
    lfm2_workspace_free(lm->workspace);
    lfm2_model_free(lm->model);
    tokenizer_free(lm->tokenizer);
    gguf_free(lm->gguf);
    free(lm);
    return NULL;
}

/* --- sequence --------------------------------------------------------------------------------- */

/* The ids and the snapshots of the marks. */
static size_t marks_plan(const struct lm *lm, size_t n_context)
{
    return arena_need(n_context * sizeof(uint32_t)) +
           SEQUENCE_MARKS_MAX * arena_need(lfm2_snapshot_bytes(lm->model));
}

size_t sequence_plan(const struct lm *lm, size_t n_context, enum kv_type kv)
{
    return lfm2_state_plan(&lm->model->hparams, n_context, kv) + marks_plan(lm, n_context);
}

struct sequence *sequence_new(struct lm *lm, size_t n_context, enum kv_type kv, struct error *err)
{
    struct sequence *sequence;

    if (!lm->model->hparams.causal) {
        error_set(err, ERROR_INVALID_ARGUMENT,
                  "This is a retrieval model that reads whole texts; it cannot continue one.");
        return NULL;
    }
    sequence = calloc(1, sizeof(*sequence));
    if (!sequence) {
        error_set(err, ERROR_NO_MEMORY, "Cannot take memory for a sequence.");
        return NULL;
    }
    sequence->lm = lm;
    sequence->n_context = n_context;
    sequence->state = lfm2_state_new(lm->model, n_context, kv, err);
    if (!sequence->state)
        return sequence_free(sequence);
    if (arena_init(&sequence->arena, marks_plan(lm, n_context), "the marks of a sequence", err) < 0)
        return sequence_free(sequence);
    sequence->ids = arena_take(&sequence->arena, n_context * sizeof(uint32_t));
    for (size_t i = 0; i < SEQUENCE_MARKS_MAX; i++)
        sequence->marks[i].snapshot =
            arena_take(&sequence->arena, lfm2_snapshot_bytes(lm->model));
    return sequence;
}

struct sequence *sequence_free(struct sequence *sequence)
{
    if (!sequence)
        return NULL;
    arena_done(&sequence->arena);
    lfm2_state_free(sequence->state);
    free(sequence);
    return NULL;
}

size_t sequence_n(const struct sequence *sequence)
{
    return sequence->n;
}

size_t sequence_n_context(const struct sequence *sequence)
{
    return sequence->n_context;
}

size_t sequence_n_rows_max(const struct sequence *sequence)
{
    return sequence->lm->n_rows_max;
}

const uint32_t *sequence_ids(const struct sequence *sequence)
{
    return sequence->ids;
}

static size_t common_prefix(const struct sequence *sequence, const uint32_t *ids, size_t n)
{
    size_t common = 0;

    while (common < n && common < sequence->n && sequence->ids[common] == ids[common])
        common++;
    return common;
}

/* Marks above n describe tokens that are not there any more. */
static void drop_marks(struct sequence *sequence, size_t n)
{
    while (sequence->n_marks > 0 && sequence->marks[sequence->n_marks - 1].n > n)
        sequence->n_marks--;
}

size_t sequence_rewind(struct sequence *sequence, const uint32_t *ids, size_t n)
{
    const size_t common = common_prefix(sequence, ids, n > 0 ? n - 1 : 0);
    const size_t extra = sequence->n - common;
    size_t kept = 0;

    if (extra == 0 ||
        (extra <= LFM2_UNDO_MAX && lfm2_state_undo(sequence->state, extra) == 0)) {
        kept = common;
        drop_marks(sequence, kept);
    } else {
        drop_marks(sequence, common);
        if (sequence->n_marks > 0) {
            const struct mark *mark = &sequence->marks[sequence->n_marks - 1];

            lfm2_snapshot_restore(sequence->state, mark->snapshot);
            kept = mark->n;
        } else {
            lfm2_state_reset(sequence->state);
        }
    }

    if (sequence->cache) {
        const size_t restored =
            prefix_cache_restore(sequence->cache, sequence->state, ids, n, kept);

        if (restored > 0) {
            memcpy(sequence->ids, ids, restored * sizeof(*ids));
            kept = restored;
        }
    }
    sequence->n = kept;
    return kept;
}

/* The input rows of ids: runs of tokens from the embedding, row ids from given. */
static void input_rows(const struct lm *lm, const uint32_t *ids, size_t n,
                       const float *const *given, float *rows)
{
    const size_t width = lm->model->hparams.n_embd;

    for (size_t i = 0, end; i < n; i = end) {
        end = i + 1;
        if (is_row_id(ids[i])) {
            memcpy(rows + i * width, *given++, width * sizeof(*rows));
            continue;
        }
        while (end < n && !is_row_id(ids[end]))
            end++;
        lfm2_embed(lm->model, ids + i, end - i, rows + i * width);
    }
}

int sequence_step(struct sequence *sequence, const uint32_t *ids, size_t n,
                  const float *const *given, size_t n_rows, const atomic_bool *cancel,
                  float **ret_logits)
{
    struct lm *lm = sequence->lm;
    const struct lfm2_job job = {
        .model = lm->model,
        .workspace = lm->workspace,
        .pool = lm->pool,
        .cancel = cancel,
    };
    int r;

    assert(n > 0 && n <= lm->n_rows_max && n_rows <= MIN(n, (size_t)GENERATION_STEP_MAX));
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= lm->model->hparams.n_vocab && !(given && is_row_id(ids[i])))
            return -EINVAL;

    input_rows(lm, ids, n, given, lm->rows);
    r = lfm2_forward(&job, sequence->state, lm->rows, n, n_rows > 0 ? lm->hidden : NULL, n_rows);
    if (r < 0)
        return r;
    memcpy(sequence->ids + sequence->n, ids, n * sizeof(*ids));
    sequence->n += n;
    if (ret_logits) {
        lfm2_logits(&job, lm->hidden, n_rows, lm->logits);
        *ret_logits = lm->logits;
    }
    return 0;
}

int sequence_feed(struct sequence *sequence, const uint32_t *ids, size_t n,
                  const atomic_bool *cancel, float **ret_logits)
{
    return sequence_step(sequence, ids, n, NULL, ret_logits ? 1 : 0, cancel, ret_logits);
}

int sequence_feed_rows(struct sequence *sequence, const uint32_t *ids, size_t n,
                       const float *const *given, const atomic_bool *cancel, float **ret_logits)
{
    return sequence_step(sequence, ids, n, given, ret_logits ? 1 : 0, cancel, ret_logits);
}

int sequence_feed_hidden(struct sequence *sequence, const uint32_t *ids, size_t n,
                         const float *const *given, const atomic_bool *cancel,
                         const float **ret_hidden)
{
    *ret_hidden = sequence->lm->hidden;
    return sequence_step(sequence, ids, n, given, 1, cancel, NULL);
}

float *lm_logits(struct lm *lm, const float *hidden)
{
    const struct lfm2_job job = {
        .model = lm->model, .workspace = lm->workspace, .pool = lm->pool};

    lfm2_logits(&job, hidden, 1, lm->logits);
    return lm->logits;
}

void sequence_undo(struct sequence *sequence, size_t n)
{
    const int r = lfm2_state_undo(sequence->state, n);

    assert(r == 0);
    sequence->n -= n;
    drop_marks(sequence, sequence->n);
}

void sequence_mark(struct sequence *sequence)
{
    struct mark *mark;

    if (sequence->n_marks > 0 && sequence->marks[sequence->n_marks - 1].n == sequence->n)
        return;
    if (sequence->n_marks == SEQUENCE_MARKS_MAX) {
        /* The first mark is the system prompt, which is worth most: the second goes. */
        const struct mark oldest = sequence->marks[1];

        memmove(&sequence->marks[1], &sequence->marks[2],
                (SEQUENCE_MARKS_MAX - 2) * sizeof(struct mark));
        sequence->marks[SEQUENCE_MARKS_MAX - 1] = oldest;
        sequence->n_marks--;
    }
    mark = &sequence->marks[sequence->n_marks++];
    mark->n = sequence->n;
    lfm2_snapshot_take(sequence->state, mark->snapshot);
}

void sequence_use_cache(struct sequence *sequence, struct prefix_cache *cache)
{
    sequence->cache = cache;
}

void sequence_publish(struct sequence *sequence)
{
    if (sequence->cache && sequence->n > 0)
        prefix_cache_store(sequence->cache, sequence->state, sequence->ids, sequence->n);
}
