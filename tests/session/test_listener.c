/* SPDX-License-Identifier: MIT */

/*
 * Proves with a drawn voice that a clip is a piece of what was heard, from before the first speech
 * to shortly after the last: offered at a pause, withdrawn when the user goes on, confirmed when
 * the turn ends, kept until it is taken; that its features, computed on the way, are those of the
 * whole piece, bit for bit; by voice, by command, deaf, too long; and that its threads may do so
 * side by side.
 */

#include "session/listener.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "audio/in/mel.h"
#include "base/cleanup.h"
#include "tests/audio/device/voice.h"

#define SECOND    ((size_t)LISTENER_RATE_HZ)
#define HEARD_MAX (120 * SECOND)
#define LATE      (SECOND * 2 / 5) /* that speech may be seen to have ended */

/* One line per test: what the listener is given, and what it tells. */
static float heard[HEARD_MAX];
static size_t n_heard;
static unsigned events; /* since forget() */
static unsigned n_turns;
static atomic_uint n_levels;
static float peak;

static void on_heard(void *userdata, unsigned more, int64_t usec)
{
    (void)userdata;
    assert_true(usec > 0);
    events |= more;
    n_turns += (more & TURNS_END) != 0;
}

static void on_level(void *userdata, float level, int64_t usec)
{
    (void)userdata;
    (void)usec;
    peak = level;
    atomic_fetch_add(&n_levels, 1);
}

static const struct listener_sink sink = {.heard = on_heard};
static const struct listener_sink sink_levels = {.heard = on_heard, .level = on_level};

static struct listener *start_with_drafts(const struct turns_settings *settings,
                                          unsigned draft_msec)
{
    struct error err = ERROR_INIT;
    struct listener *listener = listener_new(settings, &sink, NULL, &err);

    assert_non_null(listener);
    assert_int_equal(listener_open(listener, MEL_BINS, draft_msec, &err), 0);
    n_heard = 0;
    events = n_turns = 0;
    voice_seed = 1;
    return listener;
}

static struct listener *start(const struct turns_settings *settings)
{
    return start_with_drafts(settings, 0);
}

static void give(struct listener *listener, size_t n)
{
    for (size_t end = n_heard + n; n_heard < end; n_heard += LISTENER_FRAME)
        listener_frame(listener, heard + n_heard, (int64_t)(n_heard + LISTENER_FRAME) * 125 / 2);
}

/* A quiet room, in which no two frames are the same. */
static void draw_room(size_t n)
{
    assert_true(n_heard + n <= HEARD_MAX);
    for (size_t i = 0; i < n; i++)
        heard[n_heard + i] = (float)(2e-4 * voice_gaussian());
}

static void be_silent(struct listener *listener, size_t n)
{
    draw_room(n);
    give(listener, n);
}

static void speak(struct listener *listener, size_t n)
{
    draw_room(n);
    voice_draw(heard + n_heard, n, 120, 0.3);
    give(listener, n);
}

static size_t n_values(size_t n_samples)
{
    return MEL_BINS * mel_n_frames(n_samples);
}

/* Room for the features of the longest clip. */
static float *room(const struct listener *listener)
{
    float *features = malloc(n_values(listener_clip_max(listener)) * sizeof(*features));

    assert_non_null(features);
    return features;
}

/* Where in what was heard the clip of n samples begins, from `first` to `last`. */
static size_t place_of(const float *features, size_t n, size_t first, size_t last)
{
    struct mel *mel = mel_new(MEL_BINS, n, NULL);
    _cleanup_(freep) float *whole = malloc(n_values(n) * sizeof(*whole));
    bool same = false;
    size_t at;

    assert_non_null(mel);
    assert_non_null(whole);
    for (at = first; at <= last && at + n <= n_heard; at += LISTENER_FRAME) {
        mel_clear(mel);
        assert_int_equal(mel_push(mel, heard + at, n), 0);
        mel_features(mel, whole);
        same = memcmp(whole, features, n_values(n) * sizeof(*whole)) == 0;
        if (same)
            break;
    }
    mel_free(mel);
    if (!same)
        fail_msg("a clip of %zu samples from %zu to %zu was never heard", n, first, last);
    return at;
}

/* The present clip holds what was heard from `from` to `to`, and not much more. */
static void expect_clip(struct listener *listener, enum clip_state state, size_t from, size_t to)
{
    const struct clip clip = listener_clip(listener);
    _cleanup_(freep) float *features = room(listener);
    size_t at;

    assert_int_equal(clip.state, state);
    assert_in_range(clip.n, 1, listener_clip_max(listener));
    assert_true(listener_take(listener, clip.number, features));
    assert_false(listener_take(listener, clip.number + LISTENER_CLIPS, features));
    at = place_of(features, clip.n, from - SECOND * 3 / 10, from);
    assert_in_range(at + clip.n, to, to + LATE + SECOND / 4);
    assert_true(clip.end_usec <= clip.confirmed_usec);
}

static void test_a_clip_is_offered_at_the_pause_and_confirmed_at_the_end(void **state)
{
    struct listener *listener = start(&turns_default);
    size_t from, to;
    struct clip clip;

    (void)state;
    be_silent(listener, SECOND);
    assert_int_equal(listener_clip(listener).state, CLIP_NONE);
    from = n_heard;
    speak(listener, 2 * SECOND);
    to = n_heard;
    assert_true(events & TURNS_BEGIN);
    while (!(events & TURNS_PAUSE))
        be_silent(listener, LISTENER_FRAME);
    expect_clip(listener, CLIP_OFFERED, from, to);
    clip = listener_clip(listener);
    while (!(events & TURNS_END))
        be_silent(listener, LISTENER_FRAME);
    expect_clip(listener, CLIP_CONFIRMED, from, to);
    assert_int_equal(listener_clip(listener).number, clip.number);
    assert_int_equal(listener_clip(listener).n, clip.n);
    listener_free(listener);
}

static void test_a_clip_is_withdrawn_when_the_user_goes_on(void **state)
{
    struct turns_settings settings = turns_default;
    struct listener *listener;
    _cleanup_(freep) float *features = NULL;
    size_t from, to;
    struct clip clip;

    (void)state;
    settings.hangover_msec = 2000;
    listener = start(&settings);
    features = room(listener);
    be_silent(listener, SECOND);
    from = n_heard;
    speak(listener, SECOND);
    be_silent(listener, SECOND);
    clip = listener_clip(listener);
    assert_int_equal(clip.state, CLIP_OFFERED);
    speak(listener, SECOND);
    to = n_heard;
    assert_true(events & TURNS_RESUME);
    assert_int_equal(listener_clip(listener).state, CLIP_NONE);
    assert_false(listener_take(listener, clip.number, features));
    be_silent(listener, 3 * SECOND);
    assert_int_equal(n_turns, 1);
    assert_int_not_equal(listener_clip(listener).number, clip.number);
    expect_clip(listener, CLIP_CONFIRMED, from, to);
    listener_free(listener);
}

static void test_a_clip_does_not_depend_on_how_long_was_waited(void **state)
{
    static const unsigned waits[] = {500, 600, 3000};
    _cleanup_(freep) float *first = NULL;
    size_t n = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(waits); i++) {
        struct turns_settings settings = turns_default;
        _cleanup_(freep) float *features = NULL;
        struct listener *listener;
        struct clip clip;

        settings.hangover_msec = waits[i];
        listener = start(&settings);
        be_silent(listener, SECOND);
        speak(listener, SECOND);
        be_silent(listener, 4 * SECOND);
        clip = listener_clip(listener);
        features = room(listener);
        assert_true(listener_take(listener, clip.number, features));
        listener_free(listener);
        if (first) {
            assert_int_equal(clip.n, n);
            assert_memory_equal(features, first, n_values(n) * sizeof(*features));
        } else {
            n = clip.n;
            first = TAKE_PTR(features);
        }
    }
}

static void test_a_second_turn_has_nothing_of_the_first(void **state)
{
    struct listener *listener = start(&turns_default);
    size_t from, to;

    (void)state;
    be_silent(listener, SECOND);
    from = n_heard;
    speak(listener, SECOND);
    to = n_heard;
    be_silent(listener, 2 * SECOND);
    expect_clip(listener, CLIP_CONFIRMED, from, to);
    from = n_heard;
    speak(listener, SECOND);
    to = n_heard;
    be_silent(listener, 2 * SECOND);
    assert_int_equal(n_turns, 2);
    expect_clip(listener, CLIP_CONFIRMED, from, to);
    listener_free(listener);
}

static void test_who_is_late_finds_the_turns_one_after_the_other(void **state)
{
    struct listener *listener = start(&turns_default);
    size_t from[LISTENER_CLIPS + 2], to[ARRAY_LEN(from)];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(from); i++) {
        be_silent(listener, SECOND);
        from[i] = n_heard;
        speak(listener, SECOND);
        to[i] = n_heard;
        be_silent(listener, SECOND);
    }
    for (size_t i = ARRAY_LEN(from) - LISTENER_CLIPS; i < ARRAY_LEN(from); i++) {
        assert_int_equal(listener_clip(listener).turn, i + 1);
        expect_clip(listener, CLIP_CONFIRMED, from[i], to[i]);
    }
    assert_int_equal(listener_clip(listener).turn, ARRAY_LEN(from));
    listener_free(listener);
}

static void test_drafts_have_what_was_said_so_far(void **state)
{
    struct listener *listener = start_with_drafts(&turns_default, 300);
    unsigned last = 0, n_drafts = 0;
    size_t from;

    (void)state;
    be_silent(listener, SECOND);
    from = n_heard;
    draw_room(2 * SECOND);
    voice_draw(heard + from, 2 * SECOND, 120, 0.3);
    while (n_heard < from + 2 * SECOND) {
        give(listener, LISTENER_FRAME);
        if (listener_clip(listener).number == last)
            continue;
        last = listener_clip(listener).number;
        n_drafts++;
        expect_clip(listener, CLIP_DRAFT, from, n_heard - SECOND / 4);
    }
    assert_in_range(n_drafts, 4, 7);
    be_silent(listener, SECOND);
    expect_clip(listener, CLIP_CONFIRMED, from, from + 2 * SECOND);
    assert_int_equal(n_turns, 1);
    listener_free(listener);
}

static void test_drafts_do_not_push_turns_out(void **state)
{
    struct listener *listener = start_with_drafts(&turns_default, 100);
    _cleanup_(freep) float *features = room(listener);

    (void)state;
    for (unsigned i = 0; i < LISTENER_CLIPS; i++) {
        be_silent(listener, SECOND);
        speak(listener, 2 * SECOND);
    }
    for (unsigned i = 1; i < LISTENER_CLIPS; i++) {
        const struct clip clip = listener_clip(listener);

        assert_int_equal(clip.turn, i);
        assert_int_equal(listener_n_waiting(listener), LISTENER_CLIPS - i);
        assert_true(listener_take(listener, clip.number, features));
    }
    assert_int_equal(listener_clip(listener).state, CLIP_DRAFT);
    listener_free(listener);
}

static void test_a_long_turn_ends_at_the_next_pause(void **state)
{
    struct turns_settings settings = turns_default;
    struct listener *listener;

    (void)state;
    settings.hangover_msec = 2000;
    settings.turn_long_msec = 3000;
    listener = start(&settings);
    be_silent(listener, SECOND);
    speak(listener, 2 * SECOND);
    be_silent(listener, SECOND / 2);
    assert_int_equal(n_turns, 0);
    speak(listener, 2 * SECOND);
    be_silent(listener, SECOND * 6 / 10);
    assert_int_equal(n_turns, 1);
    assert_int_equal(events & TURNS_TOO_LONG, 0);
    listener_free(listener);
}

static void test_push_to_talk_takes_what_is_between_press_and_release(void **state)
{
    struct turns_settings settings = turns_default;
    struct listener *listener;
    size_t from, to;

    (void)state;
    settings.push_to_talk = true;
    listener = start(&settings);
    speak(listener, 2 * SECOND);
    assert_int_equal(events, 0);
    from = n_heard;
    listener_press(listener);
    be_silent(listener, SECOND);
    to = n_heard;
    listener_release(listener);
    be_silent(listener, SECOND);
    assert_int_equal(n_turns, 1);
    expect_clip(listener, CLIP_CONFIRMED, from, to);
    listener_free(listener);
}

/* Before the first frame there was silence: an encoder gets enough of it. */
static void test_a_key_that_is_only_touched_gives_a_clip_that_can_be_heard(void **state)
{
    struct turns_settings settings = turns_default;
    struct listener *listener;

    (void)state;
    settings.push_to_talk = true;
    listener = start(&settings);
    listener_press(listener);
    listener_release(listener);
    be_silent(listener, LISTENER_FRAME);
    assert_int_equal(listener_clip(listener).state, CLIP_CONFIRMED);
    assert_in_range(listener_clip(listener).n, SECOND / 5, SECOND);
    listener_free(listener);
}

static void test_a_command_ends_a_turn_at_once(void **state)
{
    struct listener *listener = start(&turns_default);
    size_t from;

    (void)state;
    be_silent(listener, SECOND);
    listener_release(listener); /* of nothing */
    be_silent(listener, SECOND);
    assert_int_equal(events, 0);
    from = n_heard;
    speak(listener, SECOND);
    listener_release(listener);
    be_silent(listener, LISTENER_FRAME);
    assert_int_equal(n_turns, 1);
    expect_clip(listener, CLIP_CONFIRMED, from, n_heard - LISTENER_FRAME);
    listener_free(listener);
}

static void test_who_is_deaf_hears_nothing_and_who_is_busy_less(void **state)
{
    struct turns_settings settings = turns_default;
    struct listener *listener;

    (void)state;
    settings.confirm_busy_msec = 1500;
    listener = start(&settings);
    be_silent(listener, SECOND);
    listener_set_busy(listener, true, true);
    speak(listener, SECOND);
    assert_int_equal(events, 0);
    be_silent(listener, SECOND);
    listener_set_busy(listener, true, false);
    speak(listener, SECOND);
    be_silent(listener, SECOND);
    assert_int_equal(events, TURNS_SUSPECT | TURNS_CLEAR);
    listener_set_busy(listener, false, false);
    speak(listener, SECOND);
    assert_true(events & TURNS_BEGIN);
    listener_free(listener);
}

static void test_the_longest_turn_is_cut_off_and_another_begins(void **state)
{
    struct turns_settings settings = turns_default;
    struct listener *listener;

    (void)state;
    settings.turn_max_msec = 2000;
    listener = start(&settings);
    be_silent(listener, SECOND);
    speak(listener, 20 * SECOND);
    be_silent(listener, 2 * SECOND);
    assert_true(events & TURNS_TOO_LONG);
    assert_in_range(n_turns, 8, 11);
    assert_in_range(listener_clip(listener).n, 1, listener_clip_max(listener));
    listener_free(listener);
}

/* A suspicion may last longer than a turn has room. */
static void test_a_suspicion_without_end_stays_within_its_memory(void **state)
{
    struct turns_settings settings = turns_default;
    struct listener *listener;

    (void)state;
    settings.confirm_msec = 600000;
    settings.noise_msec = 600000;
    settings.turn_max_msec = 1000;
    listener = start(&settings);
    for (int i = 0; i < 15; i++) {
        speak(listener, SECOND / 2);
        be_silent(listener, SECOND / 2);
    }
    assert_int_equal(events, TURNS_SUSPECT);
    listener_press(listener);
    listener_release(listener);
    be_silent(listener, LISTENER_FRAME);
    assert_in_range(listener_clip(listener).n, 1, listener_clip_max(listener));
    listener_free(listener);
}

static void test_levels_are_told_ten_times_a_second(void **state)
{
    struct error err = ERROR_INIT;
    struct listener *listener = listener_new(&turns_default, &sink_levels, NULL, &err);

    (void)state;
    assert_int_equal(listener_open(listener, MEL_BINS, 0, &err), 0);
    n_heard = 0;
    atomic_store(&n_levels, 0);
    draw_room(SECOND);
    heard[SECOND / 2] = -0.5f;
    give(listener, SECOND / 2 + LISTENER_FRAME * 10);
    assert_float_equal(peak, 0.5f, 1e-6f);
    heard[n_heard] = 7;
    give(listener, SECOND / 10);
    assert_float_equal(peak, 1, 1e-6f);
    assert_int_equal(atomic_load(&n_levels), 7);
    listener_free(listener);
}

/* --- threads --------------------------------------------------------------------------------- */

static atomic_bool over;

/* As the engine does: look at the clip, take it, look again. */
static void *take_clips(void *userdata)
{
    struct listener *listener = userdata;
    float *features = room(listener);
    size_t n_taken = 0;

    while (!atomic_load(&over)) {
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL); /* or the ear gets no turn */
        const struct clip clip = listener_clip(listener);

        if (clip.state != CLIP_NONE && listener_take(listener, clip.number, features)) {
            n_taken++;
            listener_set_busy(listener, n_taken % 7 == 0, n_taken % 49 == 0);
        }
        if (n_taken % 5 == 0)
            listener_press(listener);
        if (n_taken % 3 == 0)
            listener_release(listener);
    }
    free(features);
    return (void *)n_taken;
}

static void test_an_ear_an_engine_and_a_bus_side_by_side(void **state)
{
    struct listener *listener = start(&turns_default);
    pthread_t threads[2];
    void *n_taken = NULL;

    (void)state;
    atomic_store(&over, false);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_clips, listener), 0);
    for (int i = 0; i < 40; i++) {
        speak(listener, SECOND / 2);
        be_silent(listener, SECOND);
    }
    while (listener_clip(listener).state == CLIP_NONE)
        be_silent(listener, LISTENER_FRAME);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        atomic_store(&over, true);
        assert_int_equal(pthread_join(threads[i], &n_taken), 0);
    }
    listener_free(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_clip_is_offered_at_the_pause_and_confirmed_at_the_end),
        cmocka_unit_test(test_a_clip_is_withdrawn_when_the_user_goes_on),
        cmocka_unit_test(test_a_clip_does_not_depend_on_how_long_was_waited),
        cmocka_unit_test(test_a_second_turn_has_nothing_of_the_first),
        cmocka_unit_test(test_who_is_late_finds_the_turns_one_after_the_other),
        cmocka_unit_test(test_drafts_have_what_was_said_so_far),
        cmocka_unit_test(test_drafts_do_not_push_turns_out),
        cmocka_unit_test(test_a_long_turn_ends_at_the_next_pause),
        cmocka_unit_test(test_push_to_talk_takes_what_is_between_press_and_release),
        cmocka_unit_test(test_a_key_that_is_only_touched_gives_a_clip_that_can_be_heard),
        cmocka_unit_test(test_a_command_ends_a_turn_at_once),
        cmocka_unit_test(test_who_is_deaf_hears_nothing_and_who_is_busy_less),
        cmocka_unit_test(test_the_longest_turn_is_cut_off_and_another_begins),
        cmocka_unit_test(test_a_suspicion_without_end_stays_within_its_memory),
        cmocka_unit_test(test_levels_are_told_ten_times_a_second),
        cmocka_unit_test(test_an_ear_an_engine_and_a_bus_side_by_side),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
