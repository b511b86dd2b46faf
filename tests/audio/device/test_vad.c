/* SPDX-License-Identifier: MIT */
/* Proves that the detector finds speech (recorded speech where the fixtures are, and a drawn voice)
 * at every level, in noise and at the very beginning, that noises are not taken
 * for speech for long enough to begin a turn, and that wild numbers do no lasting harm. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "audio/device/turns.h"
#include "audio/device/vad.h"
#include "tests/fixture.h"
#include "voice.h"

#define RATE_HZ VOICE_RATE_HZ

struct sound {
    float *samples;
    size_t n_frames;
};

static struct sound silence(size_t n_frames)
{
    struct sound s = {calloc(n_frames * VAD_FRAME, sizeof(float)), n_frames};

    assert_non_null(s.samples);
    return s;
}

static void add_white(struct sound *s, double gain)
{
    for (size_t i = 0; i < s->n_frames * VAD_FRAME; i++)
        s->samples[i] += (float)(voice_gaussian() * gain);
}

static double level(const struct sound *s, size_t first, size_t last)
{
    return voice_level(s->samples + first * VAD_FRAME, (last - first) * VAD_FRAME);
}

static void detect(const struct sound *s, bool *out)
{
    struct error err = ERROR_INIT;
    struct vad *vad = vad_new(&err);

    assert_non_null(vad);
    for (size_t t = 0; t < s->n_frames; t++) {
        out[t] = vad_frame(vad, s->samples + t * VAD_FRAME);
        assert_true(vad_probability(vad) >= 0 && vad_probability(vad) <= 1);
    }
    vad_free(vad);
}

static double share(const bool *flags, size_t first, size_t last)
{
    size_t n = 0;

    for (size_t t = first; t < last; t++)
        n += flags[t];
    return (double)n / (double)(last - first);
}

static void test_a_voice_is_found_at_every_level_and_in_noise(void **state)
{
    static const struct {
        double speech_db, noise_db;
    } cases[] = {{-10, -90}, {-26, -75}, {-45, -75}, {-26, -46}, {-26, -36}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sound s = silence(1200);
        bool flags[1200];
        double gain;

        voice_seed = 1;
        voice_draw(s.samples + 400 * VAD_FRAME, 300 * VAD_FRAME, 115, 1);
        gain = pow(10, cases[i].speech_db / 20) / level(&s, 400, 700);
        for (size_t k = 0; k < s.n_frames * VAD_FRAME; k++)
            s.samples[k] = (float)((double)s.samples[k] * gain);
        add_white(&s, pow(10, cases[i].noise_db / 20));
        detect(&s, flags);
        if (share(flags, 415, 695) < 0.9 || share(flags, 50, 395) > 0.03 ||
            share(flags, 740, 1200) > 0.03)
            fail_msg("speech %g dB, noise %g dB: %g of the speech, before %g, after %g",
                     cases[i].speech_db, cases[i].noise_db, share(flags, 415, 695),
                     share(flags, 50, 395), share(flags, 740, 1200));
        free(s.samples);
    }
}

static void test_recorded_speech_is_found(void **state)
{
    static const char *const names[] = {"question", "asr", "es_long"};
    unsigned n_found = 0;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        char name[64];
        const char *path;
        struct sound s = silence(2500);
        bool flags[2500];
        size_t n_loud = 0, n_caught = 0, n;
        double loudest = 0;
        FILE *file;

        snprintf(name, sizeof(name), "audio/speech/%s.16k.f32", names[i]);
        path = fixture_path(name);
        if (!path) {
            free(s.samples);
            continue;
        }
        n_found++;
        /* After two seconds of silence; the whole 20 dB above the noise. */
        file = fopen(path, "rbe");
        assert_non_null(file);
        n = fread(s.samples + 200 * VAD_FRAME, sizeof(float), 2000 * VAD_FRAME, file) / VAD_FRAME;
        fclose(file);
        voice_seed = 2;
        for (size_t t = 200; t < 200 + n; t++)
            loudest = fmax(loudest, level(&s, t, t + 1));
        add_white(&s, level(&s, 200, 200 + n) / 10);
        detect(&s, flags);
        for (size_t t = 200; t < 200 + n; t++) {
            if (level(&s, t, t + 1) > loudest / 4) {
                n_loud++;
                n_caught += flags[t];
            }
        }
        if (n_caught < n_loud * 95 / 100 || share(flags, 50, 195) > 0.02 ||
            share(flags, 200 + n + 40, 2500) > 0.05)
            fail_msg("%s: %zu of %zu loud frames, before %g, after %g", names[i], n_caught, n_loud,
                     share(flags, 50, 195), share(flags, 200 + n + 40, 2500));
        free(s.samples);
    }
    if (!n_found)
        skip(); /* the drawn voice has been tested */
}

static void test_sound_may_begin_with_speech(void **state)
{
    struct sound s = silence(300);
    bool flags[300];

    (void)state;
    voice_seed = 5;
    voice_draw(s.samples, 200 * VAD_FRAME, 150, 2); /* -27 dB */
    add_white(&s, 1e-4);
    detect(&s, flags);
    if (share(flags, 3, 200) < 0.9)
        fail_msg("%g of the speech at %g", share(flags, 3, 200), level(&s, 3, 200));
    assert_true(share(flags, 240, 300) < 0.05);
    free(s.samples);
}

enum noise { NOTHING, WHITE, HUM, CLICKS, _NOISE_N };

static void test_noises_begin_no_turn(void **state)
{
    (void)state;
    for (enum noise kind = 0; kind < _NOISE_N; kind++) {
        struct sound s = silence(3000);
        struct turns turns;
        bool flags[3000];
        unsigned n_started = 0;

        voice_seed = 3;
        add_white(&s, kind == WHITE ? 0.03 : 1e-4);
        for (size_t i = 0; i < s.n_frames * VAD_FRAME; i++) {
            const double t = (double)i / RATE_HZ, since = fmod(t, 0.37);

            if (kind == HUM)
                s.samples[i] +=
                    (float)(0.05 * sin(2 * M_PI * 50 * t) + 0.02 * sin(2 * M_PI * 150 * t));
            if (kind == CLICKS)
                s.samples[i] += (float)(0.3 * voice_gaussian() * exp(-since / 0.005));
        }
        detect(&s, flags);
        turns_begin(&turns, &turns_default);
        /* From a second on: until then the floor is not known. */
        for (size_t t = 100; t < s.n_frames; t++)
            n_started += (turns_frame(&turns, flags[t], false) & TURNS_BEGIN) != 0;
        if (n_started > 0 || share(flags, 100, 3000) > 0.05)
            fail_msg("noise %d: %u turns, %g of the time", (int)kind, n_started,
                     share(flags, 100, 3000));
        free(s.samples);
    }
}

static void test_reset_is_new_and_wild_numbers_do_no_lasting_harm(void **state)
{
    struct error err = ERROR_INIT;
    struct vad *vad = vad_new(&err);
    struct sound s = silence(900);
    float wild[VAD_FRAME];
    bool flags[900];

    (void)state;
    assert_non_null(vad);
    voice_seed = 4;
    voice_draw(s.samples + 300 * VAD_FRAME, 300 * VAD_FRAME, 115, 0.1);
    add_white(&s, 1e-4);
    detect(&s, flags);
    for (size_t i = 0; i < VAD_FRAME; i++)
        wild[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -3e38f;
    for (unsigned i = 0; i < 100; i++)
        vad_frame(vad, wild);
    vad_reset(vad);
    for (size_t t = 0; t < s.n_frames; t++)
        assert_int_equal(vad_frame(vad, s.samples + t * VAD_FRAME), flags[t]);
    for (unsigned i = 0; i < 100; i++)
        vad_frame(vad, wild);
    for (size_t t = 0; t < s.n_frames; t++) {
        const bool speech = vad_frame(vad, s.samples + t * VAD_FRAME);

        if (t > 250 && t < 600)
            flags[t] = speech;
    }
    assert_true(share(flags, 320, 590) > 0.9);
    vad_free(vad);
    free(s.samples);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_voice_is_found_at_every_level_and_in_noise),
        cmocka_unit_test(test_recorded_speech_is_found),
        cmocka_unit_test(test_sound_may_begin_with_speech),
        cmocka_unit_test(test_noises_begin_no_turn),
        cmocka_unit_test(test_reset_is_new_and_wild_numbers_do_no_lasting_harm),
    };

    return cmocka_run_group_tests_name("vad", tests, NULL, NULL);
}
