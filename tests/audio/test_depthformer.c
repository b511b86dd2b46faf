/* SPDX-License-Identifier: MIT */

/*
 * Proves the depthformer: logits of every book against the reference's frames, the row by which a
 * frame goes back into the language model, threads, and refusals of files that do not fit.
 */

#include "audio/out/depthformer.h"
#include "tests/audio/reference.h"

static struct depthformer *load(const char *path, bool precise, struct pool *pool)
{
    struct error err = ERROR_INIT;
    struct depthformer *df = depthformer_load(path, precise, pool, &err);

    if (!df)
        fail_msg("%s", err.text);
    return df;
}

/* --- runs of the reference -------------------------------------------------------------------- */

/* Logits of all books of a frame whose codes are known: [CODEBOOKS][V + 1]. */
static void frame_logits(struct depthformer *df, const float *hidden, const int32_t *codes,
                         float *out)
{
    const size_t n = depthformer_info(df)->n_codes + 1;

    depthformer_begin(df, hidden);
    for (unsigned i = 0; i < CODEBOOKS; i++)
        memcpy(out + i * n, depthformer_logits(df, i, i > 0 ? codes[i - 1] : -1),
               n * sizeof(*out));
}

/* The frames of one run whose logits the reference kept. Returns the largest difference. */
static double check_run(struct json_object *run, const char *name, struct depthformer *df,
                        double limit)
{
    const struct depthformer_info *info = depthformer_info(df);
    struct json_object *events = golden_get(run, "events"), *kept, *shape;
    const size_t n_steps = json_object_array_length(events);
    size_t n_hidden, n_frames, frame = 0;
    double worst = 0;

    if (!json_object_object_get_ex(run, "depth_logits_first_frames", &kept))
        return 0;
    shape = golden_get(golden_get(run, "hidden_per_step"), "shape");
    n_hidden = (size_t)json_object_get_int64(json_object_array_get_idx(shape, 0));
    shape = golden_get(kept, "shape");
    n_frames = (size_t)json_object_get_int64(json_object_array_get_idx(shape, 0));

    const size_t n = CODEBOOKS * (info->n_codes + 1);
    _cleanup_(freep) float *hidden =
        reference_floats(golden_get(run, "hidden_per_step"), n_hidden * info->n_embd);
    _cleanup_(freep) float *expected = reference_floats(kept, n_frames * n);
    _cleanup_(freep) float *found = malloc(n * sizeof(*found));

    for (size_t i = 0; i < n_steps && frame < n_frames; i++) {
        struct json_object *event = json_object_array_get_idx(events, i);
        int32_t codes[CODEBOOKS];
        char what[64];

        if (json_object_array_length(event) != CODEBOOKS)
            continue;
        reference_codes(event, codes);
        frame_logits(df, hidden + i * info->n_embd, codes, found);
        snprintf(what, sizeof(what), "%s, frame %zu", name, frame);
        golden_close(what, found, expected + frame * n, n, limit);
        worst = MAX(worst, golden_difference(found, expected + frame * n, n).max_abs);
        frame++;
    }
    assert_int_equal(frame, n_frames);
    return worst;
}

static void check_file(const char *vocoder, bool precise, double limit)
{
    struct json_object *runs = golden_json(fixture_path("audio/gen/index.json"));
    struct pool *pool = reference_pool(2);
    struct depthformer *df = load(fixture_path(vocoder), precise, pool);
    double worst = 0;

    json_object_object_foreach(runs, name, run)
    {
        const double found = check_run(run, name, df, limit);

        worst = MAX(worst, found);
    }
    assert_true(worst > 0);
    print_message("%s%s: largest difference %.2g\n", vocoder, precise ? " precise" : "", worst);
    depthformer_free(df);
    pool_free(pool);
    json_object_put(runs);
}

static void test_logits_are_those_of_the_reference(void **state)
{
    (void)state;
    if (!fixture_path("audio/gen/index.json"))
        skip();
    check_file("audio/vocoder.f16.gguf", true, 5e-4);
    check_file("audio/vocoder.f16.gguf", false, 5e-4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_are_those_of_the_reference),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
