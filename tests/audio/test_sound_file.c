/* SPDX-License-Identifier: MIT */

/*
 * Proves the reading of sound files: every container, rate and number of channels gives the tone
 * that was written, as long as it was; what is no sound, or has damage in it, is refused.
 */

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include <sndfile.h>

#include "audio/in/file.h"
#include "audio/in/mel.h"
#include "tests/audio/reference.h"

/* libsndfile forgets a decoder of libvorbis where an Ogg file is damaged. */
const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:libsndfile\nleak:libvorbis\n";
}

#define TONE_HZ 440.0

/* A tone of n samples in each channel, of which channel c has 2 c / (channels - 1) of its size, so
 * that their mean has it: a memfd. */
static int write_tone(int format, int rate, int channels, size_t n, double size)
{
    const int fd = memfd_create("tone", MFD_CLOEXEC);
    SF_INFO info = {.samplerate = rate, .channels = channels, .format = format};
    SNDFILE *file = sf_open_fd(fd, SFM_WRITE, &info, false);
    float *frame = malloc((size_t)channels * sizeof(*frame));

    if (!file)
        fail_msg("%s", sf_strerror(NULL));
    for (size_t i = 0; i < n; i++) {
        const double tone = size * sin(2 * M_PI * TONE_HZ * (double)i / rate);

        for (int c = 0; c < channels; c++)
            frame[c] = (float)(channels == 1 ? tone : tone * 2 * c / (channels - 1));
        assert_int_equal(sf_writef_float(file, frame, 1), 1);
    }
    free(frame);
    sf_close(file);
    return fd;
}

static void check_tone(int format, int rate, int channels, double limit)
{
    const size_t n_in = (size_t)rate * 3 / 4 + 1;
    const size_t n_out = (n_in * MEL_RATE_HZ + (size_t)rate - 1) / (size_t)rate;
    _cleanup_(closep) int fd = write_tone(format, rate, channels, n_in, 0.4);
    _cleanup_(freep) float *samples = NULL;
    struct error err = ERROR_INIT;
    double worst = 0;
    size_t n;

    if (audio_file_read(fd, "a tone", MEL_RATE_HZ, &samples, &n, &err) < 0)
        fail_msg("format %x: %s", format, err.text);
    assert_int_equal(n, n_out);
    for (size_t i = 500; i < n - 500; i++) {
        const double tone = 0.4 * sin(2 * M_PI * TONE_HZ * (double)i / MEL_RATE_HZ);

        worst = MAX(worst, fabs((double)samples[i] - tone));
    }
    if (!(worst <= limit))
        fail_msg("format %x, %d Hz, %d channels: deviates by %g", format, rate, channels, worst);
}

static void test_tones_are_read_from_every_kind_of_file(void **state)
{
    static const struct {
        int format;
        double limit;
    } formats[] = {
        {SF_FORMAT_WAV | SF_FORMAT_PCM_16, 1e-4},  {SF_FORMAT_WAV | SF_FORMAT_PCM_U8, 1e-2},
        {SF_FORMAT_WAV | SF_FORMAT_PCM_24, 1e-6},  {SF_FORMAT_WAV | SF_FORMAT_FLOAT, 1e-6},
        {SF_FORMAT_WAV | SF_FORMAT_DOUBLE, 1e-6},  {SF_FORMAT_WAV | SF_FORMAT_ULAW, 2e-2},
        {SF_FORMAT_WAVEX | SF_FORMAT_PCM_16, 1e-4}, {SF_FORMAT_AIFF | SF_FORMAT_PCM_16, 1e-4},
        {SF_FORMAT_AU | SF_FORMAT_PCM_16, 1e-4},   {SF_FORMAT_CAF | SF_FORMAT_PCM_16, 1e-4},
        {SF_FORMAT_FLAC | SF_FORMAT_PCM_16, 1e-4}, {SF_FORMAT_W64 | SF_FORMAT_PCM_16, 1e-4},
        {SF_FORMAT_OGG | SF_FORMAT_VORBIS, 5e-2},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        check_tone(formats[i].format, MEL_RATE_HZ, 1, formats[i].limit);
}

static void test_rates_and_channels_are_converted(void **state)
{
    static const int rates[] = {8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000};
    static const int channels[] = {1, 2, 3, 6};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rates); i++)
        for (size_t c = 0; c < ARRAY_LEN(channels); c++)
            check_tone(SF_FORMAT_WAV | SF_FORMAT_FLOAT, rates[i], channels[c], 1e-3);
}

/* Errors of a file in memory. */
static struct error refused(int fd, size_t n_max)
{
    struct error err = ERROR_INIT;
    float *samples;
    size_t n;

    assert_true(audio_file_read(fd, "a file", n_max, &samples, &n, &err) < 0);
    assert_true(strstr(err.text, "a file") != NULL);
    return err;
}

static void test_what_is_no_sound_is_refused(void **state)
{
    _cleanup_(closep) int empty = memfd_create("empty", MFD_CLOEXEC);
    _cleanup_(closep) int text = open(data_path("audio/audio.json"), O_RDONLY | O_CLOEXEC);
    _cleanup_(closep) int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    _cleanup_(closep) int folder = open("/tmp", O_RDONLY | O_CLOEXEC);
    _cleanup_(closep) int silent = write_tone(SF_FORMAT_WAV | SF_FORMAT_PCM_16, 16000, 1, 0, 0);
    _cleanup_(closep) int slow = write_tone(SF_FORMAT_WAV | SF_FORMAT_PCM_16, 10, 1, 100, 0.1);
    _cleanup_(closep) int many = write_tone(SF_FORMAT_WAV | SF_FORMAT_PCM_16, 16000, 65, 10, 0.1);

    (void)state;
    assert_int_equal(refused(empty, 1000).code, ERROR_UNSUPPORTED_FORMAT);
    assert_int_equal(refused(text, 1000).code, ERROR_UNSUPPORTED_FORMAT);
    assert_int_equal(refused(null, 1000).code, ERROR_INVALID_ARGUMENT);
    assert_int_equal(refused(folder, 1000).code, ERROR_INVALID_ARGUMENT);
    assert_int_equal(refused(silent, 1000).code, ERROR_UNSUPPORTED_FORMAT);
    assert_non_null(strstr(refused(slow, 1000).text, "10 samples a second"));
    assert_non_null(strstr(refused(many, 1000).text, "65 channels"));
}

static void test_too_long_sounds_are_refused(void **state)
{
    _cleanup_(closep) int second = write_tone(SF_FORMAT_WAV | SF_FORMAT_PCM_16, 16000, 1, 16000, 0);
    _cleanup_(closep) int other = write_tone(SF_FORMAT_FLAC | SF_FORMAT_PCM_16, 44100, 2, 44100, 0);
    float *samples = NULL;
    size_t n;

    (void)state;
    assert_int_equal(refused(second, 15999).code, ERROR_INVALID_ARGUMENT);
    assert_int_equal(refused(other, 15999).code, ERROR_INVALID_ARGUMENT);
    assert_int_equal(audio_file_read(second, "a file", 16000, &samples, &n, NULL), 0);
    assert_int_equal(n, 16000);
    free(samples);
}

static void test_samples_that_are_no_numbers_are_refused(void **state)
{
    static const float wrong[] = {NAN, INFINITY, -INFINITY, 2e6f};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        _cleanup_(closep) int fd =
            write_tone(SF_FORMAT_WAV | SF_FORMAT_FLOAT, 44100, 2, 5000, 0.1);
        const off_t end = lseek(fd, 0, SEEK_END);

        assert_int_equal(pwrite(fd, &wrong[i], sizeof(float), end - 1000), sizeof(float));
        assert_int_equal(refused(fd, SIZE_MAX / 8).code, ERROR_UNSUPPORTED_FORMAT);
    }
}

/* A file that is cut, or has other bytes somewhere, is read or refused, and never more of it than
 * there is. */
static void test_damaged_files_do_no_harm(void **state)
{
    static const int formats[] = {
        SF_FORMAT_WAV | SF_FORMAT_PCM_16,
        SF_FORMAT_FLAC | SF_FORMAT_PCM_16,
        SF_FORMAT_OGG | SF_FORMAT_VORBIS,
        SF_FORMAT_CAF | SF_FORMAT_PCM_16,
    };
    uint32_t random = 1;

    (void)state;
    for (size_t f = 0; f < ARRAY_LEN(formats); f++) {
        _cleanup_(closep) int whole = write_tone(formats[f], 22050, 2, 6000, 0.3);
        const size_t size = (size_t)lseek(whole, 0, SEEK_END);
        _cleanup_(freep) uint8_t *bytes = malloc(size);

        for (size_t i = 0; i < 120; i++) {
            _cleanup_(closep) int fd = memfd_create("damaged", MFD_CLOEXEC);
            _cleanup_(freep) float *samples = NULL;
            struct error err = ERROR_INIT;
            size_t n = 0, kept = size;

            assert_int_equal(pread(whole, bytes, size, 0), size);
            random = random * 1664525 + 1013904223;
            if (i % 2 == 0)
                kept = (random >> 8) % size;
            else
                bytes[(random >> 8) % (i % 4 == 1 ? 100 : size)] ^=
                    (uint8_t)(1 + (random >> 5) % 255);
            assert_int_equal(write(fd, bytes, kept), kept);
            if (audio_file_read(fd, "a file", 10 * MEL_RATE_HZ, &samples, &n, &err) == 0)
                assert_int_equal(audio_samples_check(samples, n, "a file", &err), 0);
            else
                assert_true(err.code != ERROR_NONE);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tones_are_read_from_every_kind_of_file),
        cmocka_unit_test(test_rates_and_channels_are_converted),
        cmocka_unit_test(test_what_is_no_sound_is_refused),
        cmocka_unit_test(test_too_long_sounds_are_refused),
        cmocka_unit_test(test_samples_that_are_no_numbers_are_refused),
        cmocka_unit_test(test_damaged_files_do_no_harm),
    };

    return cmocka_run_group_tests_name("sound_file", tests, NULL, NULL);
}
