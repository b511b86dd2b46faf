/* SPDX-License-Identifier: MIT */
/* Proves in a drawn room (delay 60 ms, reverberation 250 ms) that the loudspeaker's voice is taken
 * out by more than 20 dB once it is learnt and that nothing is heard before; that somebody who
 * speaks meanwhile is heard; that another place is learnt anew; that headphones are found out and
 * change nothing, also when somebody has talked over the loudspeaker; and that references which
 * come in bunches, are lost or run at another rate do no harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "audio/device/echo.h"
#include "audio/device/turns.h"
#include "audio/device/vad.h"
#include "base/cleanup.h"
#include "voice.h"

#define SECONDS  30
#define N        ((size_t)SECONDS * ECHO_RATE_HZ)
#define N_FRAMES (N / ECHO_FRAME)
#define NEAR     (24 * ECHO_RATE_HZ) /* somebody speaks from here on */

#define DELAY (ECHO_RATE_HZ * 60 / 1000)
#define TAIL  (ECHO_RATE_HZ * 250 / 1000)

static float *far_end, *near_end, *echoes; /* [N] */
static float room[TAIL];

static double db(double ratio)
{
    return 20 * log10(ratio);
}

static void scale(float *samples, size_t n_samples, double level)
{
    const double gain = level / voice_level(samples, n_samples);

    for (size_t i = 0; i < n_samples; i++)
        samples[i] = (float)((double)samples[i] * gain);
}

static void draw_room(void)
{
    double level = 0;

    for (size_t i = 0; i < TAIL; i++)
        room[i] = (float)(voice_gaussian() * exp(-6.9 * (double)i / TAIL));
    room[0] = 3;
    for (size_t i = 0; i < TAIL; i++)
        level += (double)room[i] * (double)room[i];
    for (size_t i = 0; i < TAIL; i++)
        room[i] = (float)((double)room[i] / sqrt(level));
}

/* What the microphone hears of it. Thinned out, so that drawing it does not take longer than the
 * test. */
static void answer(const float *played, float *heard)
{
    for (size_t k = 0; k < TAIL; k += k < 64 ? 1 : 7)
        for (size_t i = DELAY + k; i < N; i++)
            heard[i] += played[i - DELAY - k] * room[k];
    for (size_t i = 0; i < N; i++)
        heard[i] += (float)(1e-4 * voice_gaussian());
}

/* The loudspeaker says it, the room answers, somebody else speaks at the end, a little noise. */
static int set_up(void **state)
{

    (void)state;
    far_end = calloc(N, sizeof(float));
    near_end = calloc(N, sizeof(float));
    echoes = calloc(N, sizeof(float));
    if (!far_end || !near_end || !echoes)
        return -1;
    voice_seed = 1;
    voice_draw(far_end, N, 180, 1);
    for (size_t i = 0; i < N; i++) /* a voice has noise in it: consonants */
        far_end[i] += (float)(0.1 * voice_gaussian() *
                              fmax(0, sin(2 * M_PI * 3 * (double)i / ECHO_RATE_HZ)));
    voice_draw(near_end + NEAR, N - NEAR, 115, 1);
    draw_room();
    scale(far_end, N, 0.05);
    scale(near_end + NEAR, N - NEAR, 0.05);
    answer(far_end, echoes);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(far_end);
    free(near_end);
    free(echoes);
    return 0;
}

struct result {
    size_t learnt_frame; /* N_FRAMES: never */
    float *out;          /* [N] */
};

/* bunch: so many blocks of the reference come at once. */
static struct result cancel(const float *microphone, unsigned bunch)
{
    struct error err = ERROR_INIT;
    struct echo *echo = echo_new(&err);
    struct result result = {N_FRAMES, malloc(N * sizeof(float))};

    assert_non_null(echo);
    assert_non_null(result.out);
    memcpy(result.out, microphone, N * sizeof(float));
    for (size_t t = 0; t < N_FRAMES; t++) {
        if (t % bunch == 0)
            for (size_t k = t; k < t + bunch && k < N_FRAMES; k++)
                echo_played(echo, far_end + k * ECHO_FRAME, ECHO_FRAME, ECHO_RATE_HZ, (unsigned)k);
        echo_frame(echo, result.out + t * ECHO_FRAME);
        if (result.learnt_frame == N_FRAMES && echo_is_learnt(echo))
            result.learnt_frame = t;
    }
    echo_free(echo);
    return result;
}

static double near_kept(const float *out)
{
    return db(voice_level(out + NEAR, N - NEAR) / voice_level(near_end + NEAR, N - NEAR));
}

/* The share of the samples from `first` to `last` in which a detector hears speech. */
static double speech_share(const float *out, size_t first, size_t last)
{
    struct error err = ERROR_INIT;
    struct vad *vad = vad_new(&err);
    size_t n = 0;

    assert_non_null(vad);
    for (size_t i = 0; i + ECHO_FRAME <= last; i += ECHO_FRAME)
        n += vad_frame(vad, out + i) && i >= first;
    vad_free(vad);
    return (double)n * ECHO_FRAME / (double)(last - first);
}

static float *with_echo(void)
{
    float *microphone = malloc(N * sizeof(float));

    assert_non_null(microphone);
    for (size_t i = 0; i < N; i++)
        microphone[i] = echoes[i] + near_end[i];
    return microphone;
}

static void test_the_loudspeaker_is_taken_out_and_the_speaker_stays(void **state)
{
    static const unsigned bunches[] = {1, 2};
    float *microphone = with_echo();

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const struct result result = cancel(microphone, bunches[i]);
        const size_t learnt = (result.learnt_frame + 10) * ECHO_FRAME;
        double taken, kept, own, other;

        assert_in_range(result.learnt_frame, 50, 500);
        /* Nothing but the room's noise is heard before. */
        assert_true(voice_level(result.out + 2000, (result.learnt_frame - 20) * ECHO_FRAME) < 1e-3);
        taken = db(voice_level(microphone + learnt, NEAR - learnt) /
                   voice_level(result.out + learnt, NEAR - learnt));
        kept = near_kept(result.out);
        own = speech_share(result.out, learnt, NEAR);
        other = speech_share(result.out, NEAR, N);
        if (taken < 20 || kept < -6 || kept > 3 || own > 0.1 || other < 0.7)
            fail_msg("bunches of %u: %.1f dB taken out, %.2f of it speech; of the speaker %.1f dB "
                     "kept, %.2f of it speech",
                     bunches[i], taken, own, kept, other);
        free(result.out);
    }
    free(microphone);
}

/* Eight seconds in this room, then as if the microphone stood elsewhere, with a pause now and
 * then. */
static void test_another_place_is_noticed_and_learnt(void **state)
{
    struct error err = ERROR_INIT;
    struct echo *echo = echo_new(&err);
    const size_t n_first = 800, n_all = NEAR / ECHO_FRAME;
    size_t lost = 0, found = 0;

    (void)state;
    assert_non_null(echo);
    for (size_t t = 0; t < n_all; t++) {
        const bool pause = t >= n_first && t % 200 >= 120;
        float played[ECHO_FRAME], heard[ECHO_FRAME];

        for (size_t i = 0; i < ECHO_FRAME; i++) {
            const size_t at = t * ECHO_FRAME + i;

            played[i] = pause ? 0 : far_end[at];
            heard[i] = t < n_first ? echoes[at] : pause ? 0 : -far_end[at - DELAY / 2];
        }
        echo_played(echo, played, ECHO_FRAME, ECHO_RATE_HZ, (unsigned)t);
        echo_frame(echo, heard);
        if (t == n_first)
            assert_true(echo_is_learnt(echo));
        if (t > n_first && !lost && !echo_is_learnt(echo))
            lost = t;
        if (lost && !found && echo_is_learnt(echo))
            found = t;
    }
    assert_in_range(lost, n_first, n_first + 250);
    assert_in_range(found, lost, lost + 500);
    echo_free(echo);
}

/* The six recordings of models/eval/speech, one after the other, from sample `first` on. */
static void say_recordings(float *out, size_t n, size_t first)
{
    static int16_t samples[16 * ECHO_RATE_HZ];
    size_t n_samples = 0;

    for (int i = 0; i < 6; i++) {
        char path[256];
        FILE *file;

        snprintf(path, sizeof(path), LFMD_SOURCE_ROOT "/models/eval/speech/%d.wav", i);
        file = fopen(path, "rb");
        assert_non_null(file);
        assert_int_equal(fseek(file, 44, SEEK_SET), 0);
        n_samples += fread(samples + n_samples, sizeof(*samples), ARRAY_LEN(samples) - n_samples,
                           file);
        fclose(file);
    }
    assert_true(n_samples > 12 * ECHO_RATE_HZ);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)samples[(first + i) % n_samples] / 32768;
    scale(out, n, 0.1);
}

/* Other people's voices after the one that it learnt from, in rooms where what was taken out is no
 * measure for them. */
static void test_it_does_not_interrupt_itself(void **state)
{
    static const unsigned places[] = {1, 13, 16, 49};
    static const size_t n = 6 * ECHO_RATE_HZ;
    float *voice = far_end, *microphone = malloc(N * sizeof(float));

    (void)state;
    far_end = calloc(N, sizeof(float));
    assert_non_null(far_end);
    assert_non_null(microphone);
    for (size_t k = 0; k < ARRAY_LEN(places); k++) {
        const unsigned place = places[k];
        struct turns turns;
        struct vad *vad = vad_new(NULL);
        struct result result;

        voice_seed = 11 + place;
        draw_room();
        say_recordings(far_end, n, place * 17000);
        memset(microphone, 0, N * sizeof(float));
        answer(far_end, microphone);
        result = cancel(microphone, 1);
        turns_begin(&turns, &turns_default);
        for (size_t i = 0; i < n; i += ECHO_FRAME)
            if (turns_frame(&turns, vad_frame(vad, result.out + i), true) & TURNS_BEGIN)
                fail_msg("place %u: after %.2f s, learnt after %.2f s", place,
                         (double)i / ECHO_RATE_HZ, 0.01 * (double)result.learnt_frame);
        vad_free(vad);
        free(result.out);
    }
    free(far_end);
    far_end = voice;
    free(microphone);
}

static void test_headphones_are_found_out(void **state)
{
    float *microphone = calloc(N, sizeof(float));
    struct result result;

    (void)state;
    assert_non_null(microphone);
    voice_seed = 2;
    for (size_t i = 0; i < N; i++)
        microphone[i] = near_end[i] + (float)(1e-4 * voice_gaussian());
    result = cancel(microphone, 1);
    assert_in_range(result.learnt_frame, 50, 500);
    assert_true(near_kept(result.out) > -3);
    free(result.out);
    free(microphone);
}

/* What the canceller learns from somebody who talks over the loudspeaker is not heard
 * afterwards. */
static void test_no_echo_is_invented(void **state)
{
    const size_t begin = 8 * ECHO_RATE_HZ, n = 3 * ECHO_RATE_HZ;
    const size_t after = begin + n + ECHO_RATE_HZ / 2;
    float *microphone = malloc(N * sizeof(float));
    struct result result;

    (void)state;
    assert_non_null(microphone);
    voice_seed = 5;
    for (size_t i = 0; i < N; i++)
        microphone[i] = (float)(1e-4 * voice_gaussian());
    for (size_t i = 0; i < n; i++)
        microphone[begin + i] += near_end[NEAR + i];
    result = cancel(microphone, 1);
    assert_true(voice_level(result.out + after, N - after) < 2e-4);
    assert_true(speech_share(result.out, after, N) <= 0);
    free(result.out);
    free(microphone);
}

static void test_a_silent_loudspeaker_changes_no_bit(void **state)
{
    struct error err = ERROR_INIT;
    struct echo *echo = echo_new(&err);
    float frame[ECHO_FRAME], kept[ECHO_FRAME];
    static const float silence[480];

    (void)state;
    assert_non_null(echo);
    voice_seed = 3;
    for (unsigned t = 0; t < 500; t++) {
        for (size_t i = 0; i < ECHO_FRAME; i++)
            frame[i] = kept[i] = (float)voice_uniform();
        if (t > 100)
            echo_played(echo, silence, 480, 48000, t);
        echo_frame(echo, frame);
        assert_memory_equal(frame, kept, sizeof(frame));
    }
    echo_free(echo);
}

static void test_wild_references_do_no_harm(void **state)
{
    struct error err = ERROR_INIT;
    struct echo *echo = echo_new(&err);
    float block[480], frame[ECHO_FRAME];
    static const unsigned rates_hz[] = {8000, 16000, 44100, 48000, 0, 1};
    uint32_t number = 0;

    (void)state;
    assert_non_null(echo);
    voice_seed = 4;
    for (unsigned t = 0; t < 5000; t++) {
        const unsigned rate_hz = rates_hz[t / 50 % 6];

        for (size_t i = 0; i < 480; i++)
            block[i] = i % 97 == 0 ? NAN : (float)(3 * voice_uniform());
        for (size_t i = 0; i < ECHO_FRAME; i++)
            frame[i] = i % 89 == 0 ? INFINITY : (float)(3 * voice_uniform());
        voice_uniform();
        number += voice_seed >> 30 ? 1 : voice_seed; /* blocks missed, numbers that go back */
        for (unsigned k = 0; k < (voice_seed >> 24) % 4; k++)
            echo_played(echo, block, rate_hz >= 8000 ? rate_hz / 100 : 480, rate_hz, number++);
        if (t % 700 == 0)
            echo_restart(echo);
        echo_frame(echo, frame);
        for (size_t i = 0; i < ECHO_FRAME && t % 3 == 0; i++)
            assert_true(isinf(frame[i]) || fabsf(frame[i]) <= 3);
    }
    echo_free(echo);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_loudspeaker_is_taken_out_and_the_speaker_stays),
        cmocka_unit_test(test_another_place_is_noticed_and_learnt),
        cmocka_unit_test(test_it_does_not_interrupt_itself),
        cmocka_unit_test(test_headphones_are_found_out),
        cmocka_unit_test(test_no_echo_is_invented),
        cmocka_unit_test(test_a_silent_loudspeaker_changes_no_bit),
        cmocka_unit_test(test_wild_references_do_no_harm),
    };

    return cmocka_run_group_tests_name("echo", tests, set_up, tear_down);
}
