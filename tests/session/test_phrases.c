/* SPDX-License-Identifier: MIT */
/* Proves that short texts are found again by model, voice and text, that the store keeps its size
 * by dropping what was used longest ago, and that a sound outlives it while it is held; and that
 * the time-stretch gives the length that was asked for. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "session/phrases.h"
#include "session/stretch.h"

static void add(struct phrases *phrases, const char *text, const int16_t *samples, size_t n)
{
    struct phrase_sound *sound = phrase_sound_new(samples, n);

    assert_non_null(sound);
    phrases_add(phrases, "model", "voice", text, strlen(text), sound);
    phrase_sound_unref(sound);
}

static bool has(struct phrases *phrases, const char *model, const char *voice, const char *text)
{
    struct phrase_sound *sound = phrases_find(phrases, model, voice, text, strlen(text));

    phrase_sound_unref(sound);
    return sound;
}

static void test_a_phrase_is_found_by_all_of_its_key(void **state)
{
    static const int16_t samples[] = {1, 2, 3};
    struct phrases phrases;
    struct phrase_sound *held;

    (void)state;
    phrases_init(&phrases);
    add(&phrases, "escape", samples, 3);
    assert_true(has(&phrases, "model", "voice", "escape"));
    assert_false(has(&phrases, "other", "voice", "escape"));
    assert_false(has(&phrases, "model", "other", "escape"));
    assert_false(has(&phrases, "model", "voice", "escap"));
    held = phrases_find(&phrases, "model", "voice", "escape", 6);
    phrases_done(&phrases);
    assert_int_equal(held->n, 3);
    assert_memory_equal(held->samples, samples, sizeof(samples));
    phrase_sound_unref(held);
}

static void test_what_is_long_is_not_kept(void **state)
{
    static const int16_t samples[PHRASE_SAMPLES_MAX + 1];
    char text[PHRASE_TEXT_MAX + 2];
    struct phrases phrases;

    (void)state;
    phrases_init(&phrases);
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    add(&phrases, text, samples, 1);
    assert_false(has(&phrases, "model", "voice", text));
    add(&phrases, "short", samples, ARRAY_LEN(samples));
    assert_false(has(&phrases, "model", "voice", "short"));
    assert_int_equal(phrases.bytes, 0);
    phrases_done(&phrases);
}

static void test_the_store_is_bounded_and_drops_the_oldest(void **state)
{
    static const int16_t samples[PHRASE_SAMPLES_MAX];
    struct phrases phrases;
    char text[16];

    (void)state;
    phrases_init(&phrases);
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof(text), "%d", i);
        add(&phrases, text, samples, ARRAY_LEN(samples));
        assert_true(has(&phrases, "model", "voice", "0")); /* used each time */
        assert_true(phrases.bytes <= PHRASES_BYTES_MAX);
    }
    assert_false(has(&phrases, "model", "voice", "1"));
    assert_true(has(&phrases, "model", "voice", "99"));
    phrases_done(&phrases);
}

/* How many samples come out for a second of a voice. */
static size_t stretched(float rate, float pitch)
{
    struct stretch *stretch = stretch_new(24000, NULL);
    int16_t samples[240], out[256];
    size_t n = 0, read;

    assert_non_null(stretch);
    stretch_set(stretch, &(struct script_style){rate, pitch, 1});
    for (int i = 0; i < 24000; i++) {
        samples[i % 240] = (int16_t)(8000 * sin(2 * M_PI * 150 * i / 24000));
        if (i % 240 == 239)
            assert_int_equal(stretch_push(stretch, samples, 240), 0);
        while ((read = stretch_read(stretch, out, ARRAY_LEN(out))) > 0)
            n += read;
    }
    assert_int_equal(stretch_flush(stretch), 0);
    while ((read = stretch_read(stretch, out, ARRAY_LEN(out))) > 0)
        n += read;
    stretch_free(stretch);
    return n;
}

static void test_speech_takes_the_time_that_its_rate_says(void **state)
{
    (void)state;
    assert_int_equal(stretched(1, 1), 24000);
    assert_in_range(stretched(2, 1), 11000, 13000);
    assert_in_range(stretched(SCRIPT_RATE_MAX, 1), 2500, 3500);
    assert_in_range(stretched(SCRIPT_RATE_MIN, 1), 76000, 84000);
    assert_in_range(stretched(1, 2), 23000, 25000);
    assert_in_range(stretched(3, 0.5f), 7000, 9000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_phrase_is_found_by_all_of_its_key),
        cmocka_unit_test(test_what_is_long_is_not_kept),
        cmocka_unit_test(test_the_store_is_bounded_and_drops_the_oldest),
        cmocka_unit_test(test_speech_takes_the_time_that_its_rate_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
