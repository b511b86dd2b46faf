/* SPDX-License-Identifier: MIT */

/*
 * Proves the mel front end: features against those computed in double and against the reference's,
 * that the blocks in which samples come change no bit, and what is taken back before the end.
 */

#include <errno.h>

#include "audio/in/file.h"
#include "audio/in/mel.h"
#include "tests/audio/reference.h"

static struct mel *new_mel(size_t n_samples)
{
    struct error err = ERROR_INIT;
    struct mel *mel = mel_new(MEL_BINS, n_samples, &err);

    if (!mel)
        fail_msg("%s", err.text);
    return mel;
}

/* Features of a clip that comes in blocks of `block` samples: malloc. */
static float *features_of(const float *samples, size_t n, size_t block)
{
    struct mel *mel = new_mel(n);
    float *features = malloc(MEL_BINS * mel_n_frames(n) * sizeof(*features));

    for (size_t i = 0; i < n; i += block)
        assert_int_equal(mel_push(mel, samples + i, MIN(block, n - i)), 0);
    assert_int_equal(mel_n_samples(mel), n);
    mel_features(mel, features);
    mel_free(mel);
    return features;
}

/* A clip of our own: malloc. */
static float *clip(struct json_object *json, size_t i, struct json_object **ret, size_t *ret_n)
{
    const char *path = data_path("audio/audio.json");
    struct error err = ERROR_INIT;
    FILE *file;
    float *samples;

    *ret = json_object_array_get_idx(golden_get(json, "clips"), i);
    file = fopen(golden_beside(path, golden_str(*ret, "wav")), "re");
    assert_non_null(file);
    if (audio_file_read(fileno(file), "a clip", SIZE_MAX / 8, &samples, ret_n, &err) < 0)
        fail_msg("%s", err.text);
    fclose(file);
    assert_int_equal(*ret_n, json_object_get_int(golden_get(*ret, "samples")));
    return samples;
}

static void test_features_are_those_computed_in_double(void **state)
{
    const char *path = data_path("audio/audio.json");
    struct json_object *json = golden_json(path), *item;
    const size_t n_clips = json_object_array_length(golden_get(json, "clips"));

    (void)state;
    assert_true(n_clips >= 3);
    for (size_t i = 0; i < n_clips; i++) {
        size_t n, n_values;
        _cleanup_(freep) float *samples = clip(json, i, &item, &n);
        _cleanup_(freep) float *found = features_of(samples, n, 1000), *expected = NULL;

        n_values = MEL_BINS * mel_n_frames(n);
        expected = golden_floats(golden_beside(path, golden_str(item, "mel")), n_values);
        golden_close(golden_str(item, "name"), found, expected, n_values, 5e-4);
    }
    json_object_put(json);
}

static void test_features_are_those_of_the_reference(void **state)
{
    struct json_object *json, *clips;

    (void)state;
    if (!fixture_path("audio/mel/index.json"))
        skip();
    json = golden_json(fixture_path("audio/mel/index.json"));
    clips = golden_get(json, "clips");
    assert_true(json_object_array_length(clips) >= 8);
    for (size_t i = 0; i < json_object_array_length(clips); i++) {
        struct json_object *item = json_object_array_get_idx(clips, i);
        const char *name = golden_str(item, "name");
        const size_t n = (size_t)json_object_get_int(golden_get(item, "n_samples"));
        const size_t n_frames = mel_n_frames(n);
        _cleanup_(freep) float *samples = reference_floats(golden_get(item, "pcm16k"), n);
        _cleanup_(freep) float *found = features_of(samples, n, n);
        _cleanup_(freep) float *expected =
            reference_floats(golden_get(item, "mel"), MEL_BINS * n_frames);

        assert_int_equal(n_frames, json_object_get_int(golden_get(item, "n_frames")));
        /* Silence: the reference has its own rounding noise there. */
        if (strcmp(name, "synth_silence") == 0) {
            for (size_t k = 0; k < MEL_BINS * n_frames; k++)
                assert_true(fabsf(found[k]) <= ((k + 1) % n_frames == 0 ? 0 : 0.5f));
            continue;
        }
        golden_close(name, found, expected, MEL_BINS * n_frames,
                     strcmp(name, "synth_dc") == 0 ? 5e-3 : 1e-3);
    }
    json_object_put(json);
}

static void test_blocks_change_no_bit(void **state)
{
    static const size_t blocks[] = {1, 7, 159, 160, 161, 400, 4096};
    struct json_object *json = golden_json(data_path("audio/audio.json")), *item;
    size_t n;
    _cleanup_(freep) float *samples = clip(json, 1, &item, &n);
    _cleanup_(freep) float *whole = features_of(samples, n, n);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
        _cleanup_(freep) float *found = features_of(samples, n, blocks[i]);

        golden_same("blocks", found, whole, MEL_BINS * mel_n_frames(n));
    }
    json_object_put(json);
}

/* Of any beginning of a clip, while it goes on; and a cleared mel begins anew. */
static void test_features_can_be_had_on_the_way(void **state)
{
    static const size_t ends[] = {0, 1, 159, 160, 161, 199, 200, 360, 398, 399, 1280, 5000, 12345};
    struct json_object *json = golden_json(data_path("audio/audio.json")), *item;
    size_t n, done = 0;
    _cleanup_(freep) float *samples = clip(json, 1, &item, &n);
    struct mel *mel = new_mel(n);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        const size_t n_values = MEL_BINS * mel_n_frames(ends[i]);
        _cleanup_(freep) float *found = malloc(n_values * sizeof(*found));
        _cleanup_(freep) float *expected = features_of(samples, ends[i], MAX(ends[i], (size_t)1));

        assert_int_equal(mel_push(mel, samples + done, ends[i] - done), 0);
        done = ends[i];
        mel_features(mel, found);
        golden_same("on the way", found, expected, n_values);
    }
    assert_int_equal(mel_push(mel, samples, 1), -ENOSPC);
    mel_clear(mel);
    assert_int_equal(mel_n_samples(mel), 0);
    assert_int_equal(mel_push(mel, samples, n), 0);
    mel_free(mel);
    json_object_put(json);
}

/* One frame has no deviation; no sound has no frames, and silence no features. */
static void test_short_and_silent_clips(void **state)
{
    static float silence[3200];
    _cleanup_(freep) float *none = features_of(silence, 100, 100);
    _cleanup_(freep) float *one = features_of(silence, 319, 319);
    _cleanup_(freep) float *silent = features_of(silence, 3200, 3200);

    (void)state;
    assert_int_equal(mel_n_frames(100), 1);
    assert_int_equal(mel_n_frames(319), 2);
    for (size_t i = 0; i < MEL_BINS; i++)
        assert_true(none[i] == 0 && one[2 * i] == 0 && one[2 * i + 1] == 0);
    for (size_t i = 0; i < MEL_BINS * mel_n_frames(3200); i++)
        assert_true(fabsf(silent[i]) < 1e-6f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_features_are_those_computed_in_double),
        cmocka_unit_test(test_features_are_those_of_the_reference),
        cmocka_unit_test(test_blocks_change_no_bit),
        cmocka_unit_test(test_features_can_be_had_on_the_way),
        cmocka_unit_test(test_short_and_silent_clips),
    };

    return cmocka_run_group_tests_name("mel", tests, NULL, NULL);
}
