/* SPDX-License-Identifier: MIT */
/*
 * What names say: which files are companions, and which of them belong together. Contents are
 * checked with whole models in test_models.
 */
#include "session/companion.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "tests/fixture.h"

static void test_a_mark_is_a_word_of_the_name(void **state)
{
    static const char *const marked[] = {
        "mmproj.gguf",          "mmproj-a.gguf",      "MMPROJ_a.gguf", "a.mmproj.gguf",
        "a-mmproj-q8_0.gguf",   "vocoder-a-F16.gguf", "a.Vocoder.gguf", "tokenizer-a.gguf",
        "audiodecoder-a.gguf",  "mmproj-audioencoder-a.gguf",
    };
    static const char *const others[] = {
        "a.gguf", "vocoders-a.gguf", "wavtokenizer-a.gguf", "a-detokenizer.gguf", "ammproj.gguf",
        "mmproj2-mmprojx.gguf",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(marked); i++)
        assert_true(companion_is_marked(marked[i]));
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_false(companion_is_marked(others[i]));
}

static void test_a_stem_is_without_marks_and_the_plain_name_without_quantisations(void **state)
{
    static const struct {
        const char *file, *stem, *plain;
    } cases[] = {
        {"LFM2.5-Audio-1.5B-Q4_0.gguf", "LFM2.5-Audio-1.5B-Q4_0", "LFM2.5-Audio-1.5B"},
        {"mmproj-LFM2.5-Audio-1.5B-Q4_0.gguf", "LFM2.5-Audio-1.5B-Q4_0", "LFM2.5-Audio-1.5B"},
        {"tokenizer-lfmd-talk-q8_0.gguf", "lfmd-talk-q8_0", "lfmd-talk"},
        {"mmproj-audioencoder-LFM2-Audio-1.5B-F16.gguf", "LFM2-Audio-1.5B-F16", "LFM2-Audio-1.5B"},
        {"a.vocoder.gguf", "a", "a"},
        {"a-mmproj-BF16.gguf", "a-BF16", "a"},
        {"a_q8_0.mmproj.f32.gguf", "a_q8_0.f32", "a"},
        {"a-Q4_K_M.gguf", "a-Q4_K_M", "a"},
        {"a-Q4_K_X.gguf", "a-Q4_K_X", "a-Q4_K_X"},
        {"a-q8_0-b.gguf", "a-q8_0-b", "a-q8_0-b"},
        {"vocoder.gguf", "", ""},
    };
    char name[NAME_MAX + 1];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        companion_stem(cases[i].file, name);
        assert_string_equal(name, cases[i].stem);
        companion_cut(name);
        assert_string_equal(name, cases[i].plain);
    }
}

static void test_a_file_is_only_what_its_name_and_content_say(void **state)
{
    const char *const eye = data_path("vision/mmproj-tiny_text_f32.gguf");
    const char *const text = data_path("vision/tiny_text_f32.gguf");
    struct error err = ERROR_INIT;
    uint32_t n_embd;

    (void)state;
    assert_int_equal(companion_check(FILE_VISION, eye, NULL, &n_embd, &err), 0);
    assert_int_equal(n_embd, 32);
    assert_int_equal(companion_check(FILE_EAR, eye, NULL, &n_embd, &err), 1);
    assert_int_equal(companion_check(FILE_VOCODER, eye, NULL, &n_embd, &err), 1);
    for (int file = 0; file < FILE_TEXT; file++)
        assert_int_equal(companion_check(file, text, NULL, &n_embd, &err), 1);
    assert_int_equal(err.code, ERROR_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_mark_is_a_word_of_the_name),
        cmocka_unit_test(test_a_stem_is_without_marks_and_the_plain_name_without_quantisations),
        cmocka_unit_test(test_a_file_is_only_what_its_name_and_content_say),
    };

    return cmocka_run_group_tests_name("companion", tests, NULL, NULL);
}
