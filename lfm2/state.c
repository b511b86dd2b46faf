/* SPDX-License-Identifier: MIT */
#include "lfm2/state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "lfm2/steps.h"

/* Rows of products between two moves of the kept ones to the front. */
#define SLACK_ROWS 64

/* --- memory ----------------------------------------------------------------------------------- */

static size_t products_rows(const struct lfm2_hparams *hparams)
{
    return 2 * KEEP_ROWS(hparams) + SLACK_ROWS;
}

static size_t arena_bytes(const struct lfm2_hparams *hparams)
{
    size_t n_attention = 0;

    for (size_t i = 0; i < hparams->n_layer; i++)
        n_attention += hparams->n_head_kv[i] > 0;
    return arena_need(n_attention * sizeof(struct lfm2_kv)) +
           arena_need((hparams->n_layer - n_attention) * products_rows(hparams) *
                      hparams->n_embd * sizeof(float));
}

static size_t kv_memory_bytes(const struct lfm2_hparams *hparams, size_t n_context,
                              enum kv_type kv)
{
    const size_t stride = kv_bytes(kv, hparams->head_dim, n_context);
    size_t bytes = 0;

    for (size_t i = 0; i < hparams->n_layer; i++)
        bytes += 2 * stride * hparams->n_head_kv[i];
    return bytes;
}

size_t lfm2_state_plan(const struct lfm2_hparams *hparams, size_t n_context, enum kv_type kv)
{
    return sizeof(struct lfm2_state) + arena_bytes(hparams) +
           kv_memory_bytes(hparams, n_context, kv);
}

/* Reserved as a whole, used page by page: a sequence that stays short stays small. */
static int reserve_kv(struct lfm2_state *state, struct error *err)
{
    void *memory = mmap(NULL, state->kv_memory_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        return error_set(err, ERROR_NO_MEMORY, "Cannot take %zu bytes of memory for a KV cache.",
                         state->kv_memory_bytes);
    madvise(memory, state->kv_memory_bytes, MADV_NOHUGEPAGE);
    state->kv_memory = memory;
    return 0;
}

/* One layer after the other, keys before values. */
static void lay_out_kv(struct lfm2_state *state)
{
    const struct lfm2_hparams *hparams = &state->model->hparams;
    const size_t stride = kv_bytes(state->kv_type, hparams->head_dim, state->n_context);
    unsigned char *next = state->kv_memory;
    size_t index = 0;

    for (size_t i = 0; i < hparams->n_layer; i++) {
        const size_t n_head_kv = state->model->layers[i].n_head_kv;

        if (state->model->layers[i].is_conv)
            continue;
        state->kv[index++] = (struct lfm2_kv){
            .k = next,
            .v = next + stride * n_head_kv,
            .stride_bytes = stride,
        };
        next += 2 * stride * n_head_kv;
    }
}

struct lfm2_state *lfm2_state_new(const struct lfm2_model *model, size_t n_context, enum kv_type kv,
                                  struct error *err)
{
    const struct lfm2_hparams *hparams = &model->hparams;
    struct lfm2_state *state;

    if (n_context < 1 || n_context > LFM2_CONTEXT_MAX) {
        error_set(err, ERROR_INVALID_ARGUMENT, "A context has 1 to %zu tokens, not %zu.",
                  LFM2_CONTEXT_MAX, n_context);
        return NULL;
    }
    if (kv == KV_Q8_0 && hparams->head_dim % 32) {
        error_set(err, ERROR_INVALID_ARGUMENT,
                  "A q8_0 KV cache needs heads of a multiple of 32 values, and this model has "
                  "heads of %u.",
                  hparams->head_dim);
        return NULL;
    }
    state = calloc(1, sizeof(*state));
    if (!state) {
        error_set(err, ERROR_NO_MEMORY, "Cannot take memory for a sequence.");
        return NULL;
    }
    state->model = model;
    state->kv_type = kv;
    state->n_context = n_context;
    state->products_rows = products_rows(hparams);
    if (arena_init(&state->arena, arena_bytes(hparams), "a sequence", err) < 0)
        return lfm2_state_free(state);
    state->kv = arena_take(&state->arena, model->n_attention * sizeof(*state->kv));
    state->products = arena_take(&state->arena, model->n_conv * state->products_rows *
                                                    hparams->n_embd * sizeof(float));

    state->kv_memory_bytes = kv_memory_bytes(hparams, n_context, kv);
    if (state->kv_memory_bytes > 0 && reserve_kv(state, err) < 0)
        return lfm2_state_free(state);
    lay_out_kv(state);
    lfm2_state_reset(state);
    return state;
}

struct lfm2_state *lfm2_state_free(struct lfm2_state *state)
{
    if (!state)
        return NULL;
    if (state->kv_memory)
        munmap(state->kv_memory, state->kv_memory_bytes);
    arena_done(&state->arena);
    free(state);
    return NULL;
}

size_t lfm2_state_n_past(const struct lfm2_state *state)
{
    return state->n_past;
}

size_t lfm2_state_n_context(const struct lfm2_state *state)
{
    return state->n_context;
}

/* --- products of the convolutions ------------------------------------------------------------- */

float *lfm2_state_products(const struct lfm2_state *state, size_t index, size_t row)
{
    return state->products + (index * state->products_rows + row) * state->model->hparams.n_embd;
}

/* Rows that one row's convolution looks back. */
static size_t past_rows(const struct lfm2_state *state)
{
    return state->model->hparams.conv_kernel - 1;
}

static size_t past_bytes(const struct lfm2_state *state)
{
    return past_rows(state) * state->model->hparams.n_embd * sizeof(float);
}

void lfm2_state_prepare(struct lfm2_state *state, size_t n)
{
    const size_t keep = KEEP_ROWS(&state->model->hparams);
    const size_t row_bytes = state->model->hparams.n_embd * sizeof(float);

    if (state->products_end + MIN(n, keep) <= state->products_rows)
        return;
    for (size_t i = 0; i < state->model->n_conv; i++)
        memmove(lfm2_state_products(state, i, 0),
                lfm2_state_products(state, i, state->products_end - keep), keep * row_bytes);
    state->products_end = keep;
}

void lfm2_state_commit(struct lfm2_state *state, size_t n)
{
    state->products_end += MIN(n, KEEP_ROWS(&state->model->hparams));
    state->n_past += n;
    state->n_undo = MIN(state->n_undo + n, (size_t)LFM2_UNDO_MAX);
}

int lfm2_state_undo(struct lfm2_state *state, size_t n_tokens)
{
    if (n_tokens > state->n_undo)
        return -ERANGE;
    state->n_past -= n_tokens;
    state->n_undo -= n_tokens;
    state->products_end -= n_tokens;
    return 0;
}

void lfm2_state_forget(struct lfm2_state *state, size_t n_keep)
{
    const size_t n_drop = kv_droppable(state->n_past, n_keep);
    const size_t hd = state->model->hparams.head_dim;

    if (n_drop == 0)
        return;
    for (size_t i = 0; i < state->model->hparams.n_layer; i++) {
        const struct lfm2_layer *layer = &state->model->layers[i];

        for (size_t head = 0; head < layer->n_head_kv; head++) {
            const struct lfm2_kv *kv = &state->kv[layer->index];
            const size_t offset = head * kv->stride_bytes;

            kv_drop(state->kv_type, hd, (unsigned char *)kv->k + offset, n_drop, state->n_past);
            kv_drop(state->kv_type, hd, (unsigned char *)kv->v + offset, n_drop, state->n_past);
        }
    }
    state->n_past -= n_drop;
    state->n_forgotten += n_drop;
    state->n_undo = 0;
}

void lfm2_state_reset(struct lfm2_state *state)
{
    state->n_past = 0;
    state->n_forgotten = 0;
    state->n_undo = 0;
    state->products_end = past_rows(state);
    for (size_t i = 0; i < state->model->n_conv; i++)
        memset(lfm2_state_products(state, i, 0), 0, past_bytes(state));
}

/* --- snapshots -------------------------------------------------------------------------------- */

/*
 * snapshot: struct snapshot, then [n_conv][L-1][H] floats, oldest first
 * export:   the same, then for each attention layer and KV head the keys and the values of
 *           kv_bytes(n_past) bytes
 */
struct snapshot {
    char magic[8];
    uint32_t n_embd, n_conv, conv_kernel, n_attention;
    uint32_t head_dim, n_head_kv; /* sum over the layers */
    uint32_t kv_type;             /* matters to exports only */
    uint32_t reserved;
    uint64_t n_past;
};

static struct snapshot describe(const struct lfm2_state *state)
{
    const struct lfm2_model *model = state->model;
    struct snapshot snapshot = {
        .magic = "lfm2stat",
        .n_embd = model->hparams.n_embd,
        .n_conv = (uint32_t)model->n_conv,
        .conv_kernel = model->hparams.conv_kernel,
        .n_attention = (uint32_t)model->n_attention,
        .head_dim = model->hparams.head_dim,
        .kv_type = state->kv_type,
        .n_past = state->n_past,
    };

    for (size_t i = 0; i < model->hparams.n_layer; i++)
        snapshot.n_head_kv += (uint32_t)model->layers[i].n_head_kv;
    return snapshot;
}

size_t lfm2_snapshot_bytes(const struct lfm2_model *model)
{
    return sizeof(struct snapshot) +
           model->n_conv * (model->hparams.conv_kernel - 1) * model->hparams.n_embd * sizeof(float);
}

void lfm2_snapshot_take(const struct lfm2_state *state, void *snapshot)
{
    const struct snapshot head = describe(state);
    unsigned char *p = snapshot;

    assert(state->n_forgotten == 0);
    memcpy(p, &head, sizeof(head));
    p += sizeof(head);
    for (size_t i = 0; i < state->model->n_conv; i++, p += past_bytes(state))
        memcpy(p, lfm2_state_products(state, i, state->products_end - past_rows(state)),
               past_bytes(state));
}

void lfm2_snapshot_restore(struct lfm2_state *state, const void *snapshot)
{
    const unsigned char *p = snapshot;
    struct snapshot head;

    memcpy(&head, p, sizeof(head));
    assert(head.n_embd == state->model->hparams.n_embd && head.n_past <= state->n_context);
    p += sizeof(head);
    state->n_past = head.n_past;
    state->n_forgotten = 0;
    state->n_undo = 0;
    state->products_end = past_rows(state);
    for (size_t i = 0; i < state->model->n_conv; i++, p += past_bytes(state))
        memcpy(lfm2_state_products(state, i, 0), p, past_bytes(state));
}

static size_t export_bytes(const struct lfm2_state *state, size_t n_past)
{
    return lfm2_snapshot_bytes(state->model) +
           kv_memory_bytes(&state->model->hparams, n_past, state->kv_type);
}

size_t lfm2_export_bytes(const struct lfm2_state *state)
{
    return export_bytes(state, state->n_past);
}

void lfm2_export(const struct lfm2_state *state, void *out)
{
    const size_t bytes = kv_bytes(state->kv_type, state->model->hparams.head_dim, state->n_past);
    unsigned char *p = out;

    lfm2_snapshot_take(state, p);
    p += lfm2_snapshot_bytes(state->model);
    for (size_t i = 0; i < state->model->hparams.n_layer; i++) {
        const struct lfm2_layer *layer = &state->model->layers[i];

        for (size_t head = 0; head < layer->n_head_kv; head++) {
            const struct lfm2_kv *kv = &state->kv[layer->index];

            memcpy(p, (const unsigned char *)kv->k + head * kv->stride_bytes, bytes);
            memcpy(p + bytes, (const unsigned char *)kv->v + head * kv->stride_bytes, bytes);
            p += 2 * bytes;
        }
    }
}

int lfm2_import(struct lfm2_state *state, const void *data, size_t size)
{
    struct snapshot head, expected = describe(state);
    const unsigned char *p = data;
    size_t bytes;

    if (size < sizeof(head))
        return -EINVAL;
    memcpy(&head, p, sizeof(head));
    expected.n_past = head.n_past;
    if (memcmp(&head, &expected, sizeof(head)) != 0 || head.n_past > state->n_context ||
        size != export_bytes(state, head.n_past))
        return -EINVAL;

    bytes = kv_bytes(state->kv_type, state->model->hparams.head_dim, head.n_past);
    lfm2_snapshot_restore(state, p);
    p += lfm2_snapshot_bytes(state->model);
    for (size_t i = 0; i < state->model->hparams.n_layer; i++) {
        const struct lfm2_layer *layer = &state->model->layers[i];

        for (size_t n = 0; n < layer->n_head_kv; n++) {
            const struct lfm2_kv *kv = &state->kv[layer->index];

            memcpy((unsigned char *)kv->k + n * kv->stride_bytes, p, bytes);
            memcpy((unsigned char *)kv->v + n * kv->stride_bytes, p + bytes, bytes);
            p += 2 * bytes;
        }
    }
    return 0;
}
