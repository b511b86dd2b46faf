/* SPDX-License-Identifier: MIT */

/*
 * Proves sequences: every way of going back (undo, mark, shared prefix) gives the bits of a
 * sequence that was fed from its start, the prefix cache stays within its bytes and forgets what
 * was used longest ago, and drafts change the number of passes but no token.
 */

#include <errno.h>

#include "tests/fixture.h"
#include "tests/golden.h"
#include "text/images.h"
#include "text/lm.h"

#define N 120

struct fixture {
    struct pool *pool;
    struct lm *lm;
    uint32_t ids[N];
};

static int load(void **state)
{
    static struct fixture fixture;
    struct error err = ERROR_INIT;

    fixture.pool = pool_new(2, &err);
    fixture.lm = lm_load(data_path("tiny_dense_f32.gguf"), false, fixture.pool, &err);
    if (!fixture.lm) {
        print_error("%s\n", err.text);
        return -1;
    }
    for (size_t i = 0; i < N; i++)
        fixture.ids[i] = (uint32_t)(20 + i * 37 % 200);
    *state = &fixture;
    return 0;
}

static int unload(void **state)
{
    struct fixture *fixture = *state;

    lm_free(fixture->lm);
    pool_free(fixture->pool);
    return 0;
}

static struct sequence *open_sequence(struct fixture *fixture, struct prefix_cache *cache)
{
    struct error err = ERROR_INIT;
    struct sequence *sequence = sequence_new(fixture->lm, 2 * N, KV_F16, &err);

    assert_non_null(sequence);
    sequence_use_cache(sequence, cache);
    return sequence;
}

/* Feed ids[from .. to) and give back the logits after the last: malloc. */
static float *feed(struct fixture *fixture, struct sequence *sequence, const uint32_t *ids,
                   size_t from, size_t to)
{
    const size_t n_vocab = fixture->lm->model->hparams.n_vocab;
    float *logits, *copy = malloc(n_vocab * sizeof(*copy));

    assert_int_equal(sequence_feed(sequence, ids + from, to - from, NULL, &logits), 0);
    memcpy(copy, logits, n_vocab * sizeof(*copy));
    return copy;
}

/* Rewind to as much of ids as can be kept, feed the rest: the logits of a fresh sequence. */
static size_t check_rewind(struct fixture *fixture, struct sequence *sequence, const uint32_t *ids,
                           size_t n)
{
    struct sequence *fresh = open_sequence(fixture, NULL);
    const size_t kept = sequence_rewind(sequence, ids, n);
    _cleanup_(freep) float *expected = feed(fixture, fresh, ids, 0, n);
    _cleanup_(freep) float *found = NULL;

    assert_true(kept < n);
    assert_int_equal(sequence_n(sequence), kept);
    found = feed(fixture, sequence, ids, kept, n);
    golden_same("after rewind", found, expected, fixture->lm->model->hparams.n_vocab);
    assert_int_equal(sequence_n(sequence), n);
    assert_memory_equal(sequence_ids(sequence), ids, n * sizeof(*ids));
    sequence_free(fresh);
    return kept;
}

static void test_every_way_back_gives_the_bits_of_a_fresh_sequence(void **state)
{
    struct fixture *fixture = *state;
    struct sequence *sequence = open_sequence(fixture, NULL);
    uint32_t other[N];

    /* nothing yet; the same again; some more: at least one token is always fed */
    assert_int_equal(check_rewind(fixture, sequence, fixture->ids, 30), 0);
    assert_int_equal(check_rewind(fixture, sequence, fixture->ids, 30), 29);
    sequence_mark(sequence);
    assert_int_equal(check_rewind(fixture, sequence, fixture->ids, 60), 30);

    memcpy(other, fixture->ids, sizeof(other));
    other[55] = 5; /* a few tokens back: undo */
    assert_int_equal(check_rewind(fixture, sequence, other, 70), 55);
    other[40] = 6; /* further: the mark */
    assert_int_equal(check_rewind(fixture, sequence, other, 70), 30);
    other[10] = 7; /* before the mark: from the start */
    assert_int_equal(check_rewind(fixture, sequence, other, 70), 0);
    sequence_free(sequence);
}

static void test_many_marks_keep_the_first_and_the_latest(void **state)
{
    struct fixture *fixture = *state;
    struct sequence *sequence = open_sequence(fixture, NULL);
    uint32_t other[N];

    for (size_t i = 0; i < 100; i += 5) {
        free(feed(fixture, sequence, fixture->ids, i, i + 5));
        sequence_mark(sequence);
    }
    free(feed(fixture, sequence, fixture->ids, 100, N));
    memcpy(other, fixture->ids, sizeof(other));
    other[98] = 5;
    assert_int_equal(check_rewind(fixture, sequence, other, N), 95);
    other[7] = 5; /* the second mark went first, the first is still there */
    assert_int_equal(check_rewind(fixture, sequence, other, N), 5);
    sequence_free(sequence);
}

static void test_a_published_prefix_serves_another_sequence(void **state)
{
    struct fixture *fixture = *state;
    struct prefix_cache *cache = prefix_cache_new((size_t)1 << 24);
    struct sequence *first = open_sequence(fixture, cache);
    struct sequence *second = open_sequence(fixture, cache);
    uint32_t other[N];

    free(feed(fixture, first, fixture->ids, 0, 50));
    sequence_publish(first);
    free(feed(fixture, first, fixture->ids, 50, 80));
    assert_int_equal(check_rewind(fixture, second, fixture->ids, 90), 50);

    memcpy(other, fixture->ids, sizeof(other));
    other[49] = 5;
    sequence_free(second);
    second = open_sequence(fixture, cache);
    assert_int_equal(check_rewind(fixture, second, other, 90), 0);
    /* An entry as long as the text leaves nothing to feed: it is not taken. */
    sequence_free(second);
    second = open_sequence(fixture, cache);
    assert_int_equal(check_rewind(fixture, second, fixture->ids, 50), 0);
    sequence_free(first);
    sequence_free(second);
    prefix_cache_free(cache);
}

static void test_the_cache_forgets_what_was_used_longest_ago(void **state)
{
    struct fixture *fixture = *state;
    struct sequence *sequence = open_sequence(fixture, NULL);
    struct prefix_cache *cache;
    uint32_t texts[3][N];
    size_t bytes;

    free(feed(fixture, sequence, fixture->ids, 0, 32));
    /* Room for two entries of 32 tokens, not for three. */
    bytes = lfm2_snapshot_bytes(fixture->lm->model) +
            2 * fixture->lm->model->n_attention *
                kv_bytes(KV_F16, fixture->lm->model->hparams.head_dim, 32) +
            1024;
    cache = prefix_cache_new(2 * bytes);
    sequence_use_cache(sequence, cache);
    for (size_t i = 0; i < 3; i++) {
        memcpy(texts[i], fixture->ids, sizeof(texts[i]));
        texts[i][0] = (uint32_t)(3 + i);
    }
    for (size_t i = 0; i < 3; i++) {
        sequence_rewind(sequence, texts[i], 32);
        free(feed(fixture, sequence, texts[i], sequence_n(sequence), 32));
        sequence_publish(sequence);
        if (i == 1) /* use the first again, so that the second is the oldest */
            assert_int_equal(check_rewind(fixture, sequence, texts[0], 40), 32);
    }
    assert_int_equal(check_rewind(fixture, sequence, texts[0], 40), 32);
    assert_int_equal(check_rewind(fixture, sequence, texts[1], 40), 0);
    assert_int_equal(check_rewind(fixture, sequence, texts[2], 40), 32);
    sequence_free(sequence);
    prefix_cache_free(cache);

    cache = prefix_cache_new(16); /* what does not fit at all is not kept */
    sequence = open_sequence(fixture, cache);
    free(feed(fixture, sequence, fixture->ids, 0, 32));
    sequence_publish(sequence);
    sequence_free(sequence);
    sequence = open_sequence(fixture, cache);
    assert_int_equal(check_rewind(fixture, sequence, fixture->ids, 40), 0);
    sequence_free(sequence);
    prefix_cache_free(cache);
}

static void test_a_wrong_id_and_a_full_context_change_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct sequence *sequence = sequence_new(fixture->lm, 10, KV_F32, NULL);
    const uint32_t wrong[2] = {5, fixture->lm->model->hparams.n_vocab};
    atomic_bool cancel = true;

    assert_int_equal(sequence_feed(sequence, wrong, 2, NULL, NULL), -EINVAL);
    assert_int_equal(sequence_feed(sequence, fixture->ids, 11, NULL, NULL), -EOVERFLOW);
    assert_int_equal(sequence_feed(sequence, fixture->ids, 5, &cancel, NULL), -ECANCELED);
    assert_int_equal(sequence_n(sequence), 0);
    assert_int_equal(sequence_feed(sequence, fixture->ids, 10, NULL, NULL), 0);
    sequence_free(sequence);
}

/* Token ids of a prompt whose tokens 20 to 49 are a picture: row ids of `key`. */
static void put_picture(struct fixture *fixture, uint32_t *ids, uint32_t key)
{
    memcpy(ids, fixture->ids, sizeof(fixture->ids));
    for (uint32_t i = 20; i < 50; i++)
        ids[i] = ROW_ID | (key + i);
}

static void test_a_row_in_place_of_an_embedding_gives_its_bits(void **state)
{
    struct fixture *fixture = *state;
    const size_t width = fixture->lm->model->hparams.n_embd;
    const size_t n_vocab = fixture->lm->model->hparams.n_vocab;
    struct prefix_cache *cache = prefix_cache_new((size_t)1 << 24);
    struct sequence *sequence = open_sequence(fixture, cache);
    struct sequence *plain = open_sequence(fixture, NULL);
    _cleanup_(freep) float *rows = calloc(30 * width, sizeof(*rows));
    _cleanup_(freep) float *expected = feed(fixture, plain, fixture->ids, 0, N);
    const float *pointers[30];
    uint32_t ids[N], other[N];
    float *logits;

    put_picture(fixture, ids, 1000);
    put_picture(fixture, other, 2000);
    lfm2_embed(fixture->lm->model, fixture->ids + 20, 30, rows);
    for (size_t i = 0; i < 30; i++)
        pointers[i] = rows + i * width;

    /* in the middle of a chunk, and over a border of chunks */
    assert_int_equal(sequence_feed_rows(sequence, ids, 25, pointers, NULL, NULL), 0);
    assert_int_equal(sequence_feed_rows(sequence, ids + 25, N - 25, pointers + 5, NULL, &logits),
                     0);
    golden_same("rows of a picture", logits, expected, n_vocab);
    sequence_publish(sequence);

    /* the same picture is a prefix that is there, another one is not */
    assert_int_equal(sequence_rewind(sequence, ids, N), N - 1);
    assert_int_equal(sequence_rewind(sequence, other, N), 0);
    assert_int_equal(sequence_rewind(plain, ids, N), 0);
    sequence_use_cache(plain, cache);
    assert_int_equal(sequence_feed_rows(sequence, ids, 25, pointers, NULL, NULL), 0);
    sequence_publish(sequence);
    assert_int_equal(sequence_rewind(plain, ids, N), 25);
    assert_int_equal(sequence_rewind(plain, other, N), 0);

    /* without rows a row id is an id that the model does not have */
    assert_int_equal(sequence_feed(plain, ids + 20, 1, NULL, NULL), -EINVAL);
    sequence_free(plain);
    sequence_free(sequence);
    prefix_cache_free(cache);
}

static size_t generate(struct fixture *fixture, bool speculate, uint32_t ids[60],
                       struct generation_stats *ret_stats)
{
    const struct generation_options options = {
        .sampling = SAMPLING_GREEDY,
        .n_max = 60,
        .ignore_end = true,
        .speculate = speculate,
    };
    struct sequence *sequence = open_sequence(fixture, NULL);
    struct generation *generation;
    uint32_t step[GENERATION_STEP_MAX];
    float *logits;
    size_t n = 0;
    int r;

    for (size_t i = 0; i < 4; i++) /* a text that repeats itself */
        assert_int_equal(sequence_feed(sequence, fixture->ids, 15, NULL, &logits), 0);
    generation = generation_new(sequence, logits, &options, NULL);
    while ((r = generation_next(generation, step, NULL)) > 0)
        for (int i = 0; i < r; i++)
            ids[n++] = step[i];
    assert_int_equal(r, 0);
    assert_int_equal(generation_stopped(generation), GENERATION_LENGTH);
    *ret_stats = generation_stats(generation);
    generation_free(generation);
    sequence_free(sequence);
    return n;
}

static void test_drafts_change_no_token(void **state)
{
    struct fixture *fixture = *state;
    struct generation_stats plain_stats, stats;
    uint32_t plain[60], drafted[60];

    assert_int_equal(generate(fixture, false, plain, &plain_stats), 60);
    assert_int_equal(generate(fixture, true, drafted, &stats), 60);
    assert_memory_equal(plain, drafted, sizeof(plain));
    assert_int_equal(plain_stats.n_drafted, 0);
    assert_true(stats.n_passes + stats.n_accepted == plain_stats.n_passes);
}

static void test_the_plan_is_what_loading_takes(void **state)
{
    struct fixture *fixture = *state;
    struct error err = ERROR_INIT;
    size_t bytes;

    assert_int_equal(lm_plan(data_path("tiny_dense_f32.gguf"), false, &bytes, &err), 0);
    assert_true(bytes <= fixture->lm->memory_bytes);
    assert_true(fixture->lm->memory_bytes < bytes + (4 << 20)); /* rounded up to large pages */
    assert_true(lm_plan("/no/such/file", false, &bytes, &err) < 0);
    assert_null(lm_load("/no/such/file", false, fixture->pool, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_way_back_gives_the_bits_of_a_fresh_sequence),
        cmocka_unit_test(test_many_marks_keep_the_first_and_the_latest),
        cmocka_unit_test(test_a_published_prefix_serves_another_sequence),
        cmocka_unit_test(test_the_cache_forgets_what_was_used_longest_ago),
        cmocka_unit_test(test_a_wrong_id_and_a_full_context_change_nothing),
        cmocka_unit_test(test_a_row_in_place_of_an_embedding_gives_its_bits),
        cmocka_unit_test(test_drafts_change_no_token),
        cmocka_unit_test(test_the_plan_is_what_loading_takes),
    };

    return cmocka_run_group_tests_name("lm", tests, load, unload);
}
