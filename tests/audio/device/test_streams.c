/* SPDX-License-Identifier: MIT */
/* Proves on a real sound server that what is played arrives at the microphone whole and in tune, at
 * the asked rate and through the resamplers; that an interruption is quick, clickless and leaves
 * the true position; that underruns are counted and ends are not; and that busy processors make
 * neither side late. */
#include <dlfcn.h>
#include <math.h>
#include <portaudio.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "audio/device/capture.h"
#include "audio/device/playback.h"
#include "audio/device/priority.h"
#include "audio/device/pcm_stream.h"
#include "server.h"

#define TONE_HZ    440.0
#define AMPLITUDE  0.5
#define FRAMES_MAX 1000 /* 10 s */

/* 2 s and a part of a block; it ends where the tone passes zero, so that the end is no step. */
#define N_TONE (2 * PLAYBACK_RATE_HZ + 600)

/* A device that runs at one rate only, as JACK's do: the others are refused. 0: takes all. */
static double only_rate_hz;

PaError Pa_OpenStream(PaStream **stream, const PaStreamParameters *input,
                      const PaStreamParameters *output, double rate_hz, unsigned long n_frames,
                      PaStreamFlags flags, PaStreamCallback *callback, void *userdata)
{
    PaError (*real)(PaStream **, const PaStreamParameters *, const PaStreamParameters *, double,
                    unsigned long, PaStreamFlags, PaStreamCallback *, void *);

    if (only_rate_hz > 0 && rate_hz != only_rate_hz)
        return paInvalidSampleRate;
    *(void **)&real = dlsym(RTLD_NEXT, "Pa_OpenStream");
    return real(stream, input, output, rate_hz, n_frames, flags, callback, userdata);
}

static struct capture *capture;
static struct playback *playback;
static float heard[FRAMES_MAX * CAPTURE_FRAME];
static size_t n_heard;

/* As the owner of the streams does; without permission the test only runs on a calmer machine. */
static void raise_priority(struct pcm_stream *stream)
{
    for (unsigned i = 0; i < 300 && atomic_load(&stream->thread_id) == 0; i++)
        server_sleep(10);
    assert_int_not_equal(atomic_load(&stream->thread_id), 0);
    priority_raise(atomic_load(&stream->thread_id), NULL);
}

static void open_both(unsigned rate_hz, unsigned latency_msec)
{
    struct error err = ERROR_INIT;
    struct device microphone, loudspeaker;

    assert_int_equal(device_find(NULL, DEVICE_CAPTURE, &microphone, &err), 0);
    assert_int_equal(device_find(NULL, DEVICE_PLAYBACK, &loudspeaker, &err), 0);
    capture = capture_new(1000, &err);
    playback = playback_new(4000, &err);
    assert_non_null(capture);
    assert_non_null(playback);
    if (capture_open(capture, &microphone, 40, &err) < 0 ||
        playback_open(playback, &loudspeaker, rate_hz, latency_msec, &err) < 0)
        fail_msg("%s", err.text);
    raise_priority(capture_stream(capture));
    raise_priority(playback_stream(playback));
    n_heard = 0;
}

static void close_both(void)
{
    capture = capture_free(capture);
    playback = playback_free(playback);
}

static void listen(void)
{
    while (n_heard < FRAMES_MAX && capture_read(capture, heard + n_heard * CAPTURE_FRAME))
        n_heard++;
}

/* Play n samples of the tone from sample `from` on, in pieces of an odd size, and listen. */
static void play_tone(uint32_t generation, size_t from, size_t n)
{
    float samples[331];

    for (size_t done = 0; done < n;) {
        const size_t n_piece = n - done < 331 ? n - done : 331;
        size_t n_taken = 0;

        for (size_t i = 0; i < n_piece; i++)
            samples[i] = (float)(AMPLITUDE * sin(2 * M_PI * TONE_HZ * (double)(from + done + i) /
                                                 PLAYBACK_RATE_HZ));
        while ((n_taken += playback_write(playback, generation, samples + n_taken,
                                          n_piece - n_taken)) < n_piece) {
            server_sleep(5);
            listen();
        }
        done += n_piece;
    }
}

static void listen_for(unsigned msec)
{
    for (unsigned i = 0; i < msec / 10; i++) {
        server_sleep(10);
        listen();
    }
}

/* The loudness of a frame as the amplitude that a tone would have. */
static double level(size_t frame)
{
    double sum = 0;

    for (size_t i = 0; i < CAPTURE_FRAME; i++)
        sum += (double)heard[frame * CAPTURE_FRAME + i] * (double)heard[frame * CAPTURE_FRAME + i];
    return sqrt(2 * sum / CAPTURE_FRAME);
}

/* The part of frames first..last that is the tone: amplitude by correlation. */
static double tone_amplitude(size_t first, size_t last)
{
    double s = 0, c = 0;
    const size_t begin = first * CAPTURE_FRAME, end = last * CAPTURE_FRAME;

    for (size_t i = begin; i < end; i++) {
        s += (double)heard[i] * sin(2 * M_PI * TONE_HZ * (double)i / CAPTURE_RATE_HZ);
        c += (double)heard[i] * cos(2 * M_PI * TONE_HZ * (double)i / CAPTURE_RATE_HZ);
    }
    return 2 * hypot(s, c) / (double)(end - begin);
}

static void find_sound(size_t *ret_first, size_t *ret_last)
{
    *ret_first = *ret_last = 0;
    for (size_t i = 0; i < n_heard; i++) {
        if (level(i) < 0.02)
            continue;
        if (!*ret_first)
            *ret_first = i;
        *ret_last = i;
    }
}

/* Whether nothing around these frames is steeper than the tone can be: no click. */
static bool is_smooth(size_t first, size_t last)
{
    const double steepest = 2 * AMPLITUDE * sin(M_PI * TONE_HZ / CAPTURE_RATE_HZ);
    double most = 0;

    first = first > 5 ? first - 5 : 0;
    for (size_t i = first * CAPTURE_FRAME + 1; i < (last + 5) * CAPTURE_FRAME; i++)
        most = fmax(most, fabs((double)heard[i] - (double)heard[i - 1]));
    return most < 1.2 * steepest;
}

static void assert_nothing_was_late(void)
{
    struct capture_counts in;
    struct playback_counts out;

    capture_counts(capture, &in);
    playback_counts(playback, &out);
    assert_int_equal(out.n_underruns, 0);
    assert_int_equal(in.n_overruns, 0);
}

static void play_to_the_end(void)
{
    assert_true(playback_is_idle(playback));
    play_tone(playback_generation(playback), 0, N_TONE);
    assert_false(playback_is_idle(playback));
    while (!playback_end(playback, playback_generation(playback)))
        listen_for(10);
    for (unsigned i = 0; i < 300 && !playback_is_idle(playback); i++)
        listen_for(10);
    listen_for(400);
    assert_true(playback_is_idle(playback));
    assert_int_equal(playback_position(playback, playback_generation(playback)),
                     N_TONE);
    assert_nothing_was_late();
}

static void assert_tone_arrives(void)
{
    size_t first, last;

    play_to_the_end();
    find_sound(&first, &last);
    assert_in_range(last - first + 1, 202, 206);
    /* One tone without a gap or a jump in phase: then its correlation over 1.9 s is its amplitude.
     * */
    assert_true(fabs(tone_amplitude(first + 5, first + 195) - AMPLITUDE) < 0.01);
    for (size_t i = first + 2; i + 2 < last; i++)
        assert_true(fabs(level(i) - AMPLITUDE) < 0.03);
    assert_true(is_smooth(first, last));
}

static void test_what_is_played_arrives_at_the_microphone(void **state)
{
    (void)state;
    open_both(0, 40);
    assert_int_equal(capture_stream(capture)->rate_hz, CAPTURE_RATE_HZ);
    assert_int_equal(playback_stream(playback)->rate_hz, 48000);
    assert_tone_arrives();
    close_both();
    open_both(PLAYBACK_RATE_HZ, 100);
    assert_int_equal(playback_stream(playback)->rate_hz, PLAYBACK_RATE_HZ);
    assert_tone_arrives();
    close_both();
}

static void test_a_device_with_another_rate_is_resampled_to(void **state)
{
    static const double rates_hz[] = {48000, 44100};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        only_rate_hz = rates_hz[i];
        open_both(0, 100);
        only_rate_hz = 0;
        assert_int_equal(capture_stream(capture)->rate_hz, (int)rates_hz[i]);
        assert_int_equal(playback_stream(playback)->rate_hz, (int)rates_hz[i]);
        assert_tone_arrives();
        close_both();
    }
}

static void test_an_interruption_is_clickless_and_leaves_the_position(void **state)
{
    uint32_t generation, next;
    size_t first, last, n_tone;
    uint64_t position;

    (void)state;
    open_both(0, 40);
    generation = playback_generation(playback);
    play_tone(generation, 0, PLAYBACK_RATE_HZ);
    listen_for(400);
    position = playback_position(playback, generation);
    assert_true(position > 0 && position < PLAYBACK_RATE_HZ);
    next = playback_cancel(playback);
    assert_int_equal(next, generation + 1);
    assert_true(playback_is_idle(playback));
    /* The old generation's writer is told nothing and plays nothing. */
    assert_int_equal(playback_write(playback, generation, (float[100]){0.5f}, 100), 100);
    assert_true(playback_end(playback, generation));
    listen_for(500);
    assert_int_equal(playback_position(playback, next), 0);
    position = playback_position(playback, generation);
    find_sound(&first, &last);
    n_tone = last - first + 1;
    /* What was counted as played is what was heard, to the frames that are partly tone. */
    position = position * 100 / PLAYBACK_RATE_HZ;
    assert_in_range(n_tone, position, position + 3);
    assert_true(is_smooth(first, last));

    /* The next generation is heard whole. */
    n_heard = 0;
    play_tone(next, 0, PLAYBACK_RATE_HZ / 2);
    assert_true(playback_end(playback, next));
    listen_for(900);
    find_sound(&first, &last);
    assert_in_range(last - first + 1, 50, 53);
    assert_int_equal(playback_position(playback, next), PLAYBACK_RATE_HZ / 2);
    assert_int_equal(playback_position(playback, generation), 0);
    close_both();
}

static void test_a_late_writer_is_counted_and_an_end_is_not(void **state)
{
    struct playback_counts counts;
    size_t first, last;
    uint32_t generation;

    (void)state;
    open_both(0, 40);
    generation = playback_generation(playback);
    play_tone(generation, 0, PLAYBACK_RATE_HZ / 4);
    listen_for(500);
    playback_counts(playback, &counts);
    assert_int_equal(counts.n_underruns, 1);
    assert_false(playback_is_idle(playback));
    play_tone(generation, 0, PLAYBACK_RATE_HZ / 4);
    assert_true(playback_end(playback, generation));
    listen_for(600);
    playback_counts(playback, &counts);
    assert_int_equal(counts.n_underruns, 1);
    assert_true(playback_is_idle(playback));
    find_sound(&first, &last);
    assert_true(is_smooth(first, last));
    close_both();
}

static void test_ducking_turns_down_and_up_again(void **state)
{
    uint32_t generation;
    size_t first, last;

    (void)state;
    open_both(0, 40);
    generation = playback_generation(playback);
    play_tone(generation, 0, 3 * PLAYBACK_RATE_HZ);
    assert_true(playback_end(playback, generation));
    for (unsigned second = 1; second <= 3; second++) {
        for (unsigned i = 0;
             i < 300 && playback_position(playback, generation) < second * PLAYBACK_RATE_HZ; i++)
            listen_for(10);
        playback_duck(playback, second == 1);
    }
    listen_for(500);
    find_sound(&first, &last);
    assert_in_range(last - first + 1, 298, 303);
    {
        size_t n_loud = 0, n_low = 0;

        for (size_t i = first + 1; i < last; i++) {
            n_loud += fabs(level(i) - AMPLITUDE) < 0.02;
            n_low += fabs(level(i) - AMPLITUDE * (double)PLAYBACK_DUCKED) < 0.02;
        }
        assert_true(n_low > 90 && n_loud > 180);
        assert_true(n_low + n_loud > 285);
    }
    close_both();
}

static atomic_bool stop;

static void *keep_busy(void *argument)
{
    volatile unsigned n = 0;

    while (!atomic_load(&stop))
        n = n + 1;
    return argument;
}

static void test_busy_processors_make_neither_side_late(void **state)
{
    pthread_t threads[64];
    long n = sysconf(_SC_NPROCESSORS_ONLN);

    (void)state;
    n = n < 64 ? n : 64;
    open_both(0, 40);
    atomic_store(&stop, false);
    for (long i = 0; i < n; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, keep_busy, NULL), 0);
    play_to_the_end(); /* what the server is late for is its own */
    atomic_store(&stop, true);
    for (long i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    close_both();
}

static void test_a_reader_that_was_late_gets_silence_of_the_same_length(void **state)
{
    struct error err = ERROR_INIT;
    struct capture_counts counts;
    struct device microphone;

    (void)state;
    assert_int_equal(device_find(NULL, DEVICE_CAPTURE, &microphone, &err), 0);
    capture = capture_new(100, &err);
    assert_non_null(capture);
    assert_int_equal(capture_open(capture, &microphone, 40, &err), 0);
    n_heard = 0;
    listen_for(1000);
    server_sleep(600);
    listen_for(300);
    capture_counts(capture, &counts);
    assert_true(counts.n_overruns > 30);
    /* All that was called back was handed out, but for what is in the ring. */
    assert_in_range(n_heard, counts.n_callbacks - 8, counts.n_callbacks);
    capture = capture_free(capture);
}

static void test_devices_have_names(void **state)
{
    struct error err = ERROR_INIT;
    struct device devices[64], found;
    const size_t n = device_list(devices, 64);
    bool is_default = false;

    (void)state;
    assert_in_range(n, 1, 64);
    for (size_t i = 0; i < n; i++) {
        is_default = is_default || (strcmp(devices[i].name, "default") == 0 &&
                                    devices[i].is_default[DEVICE_CAPTURE] &&
                                    devices[i].is_default[DEVICE_PLAYBACK]);
    }
    assert_true(is_default);
    assert_int_equal(device_find("default", DEVICE_PLAYBACK, &found, &err), 0);
    assert_string_equal(found.name, "default");
    assert_int_equal(device_find("DEFAUL", DEVICE_PLAYBACK, &found, &err), 0);
    assert_string_equal(found.name, "default");
    assert_true(device_find("Trumpet", DEVICE_PLAYBACK, &found, &err) < 0);
    assert_int_equal(err.code, ERROR_AUDIO_UNAVAILABLE);
    assert_string_equal(err.text, "There is no loudspeaker \"Trumpet\".");
    err = (struct error)ERROR_INIT;
    assert_true(device_find("\xff", DEVICE_PLAYBACK, &found, &err) < 0);
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
}

static void test_a_sink_of_the_server_is_a_device_by_name(void **state)
{
    struct error err = ERROR_INIT;
    struct device device;

    (void)state;
    playback = playback_new(1000, &err);
    assert_int_equal(device_find("pulse:spk", DEVICE_PLAYBACK, &device, &err), 0);
    assert_int_equal(playback_open(playback, &device, 0, 40, &err), 0);
    playback_close(playback);
    assert_int_equal(device_find("pulse:absent", DEVICE_PLAYBACK, &device, &err), 0);
    assert_true(playback_open(playback, &device, 0, 40, &err) < 0);
    assert_int_equal(err.code, ERROR_AUDIO_UNAVAILABLE);
    assert_non_null(strstr(err.text, "\"pulse:absent\""));
    err = (struct error)ERROR_INIT;
    assert_true(playback_open(playback, &device, 0, 5, &err) < 0);
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    playback = playback_free(playback);
}

static void test_where_nothing_was_written_nothing_is_to_end(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    playback = playback_new(1000, &err);
    assert_true(playback_end(playback, playback_generation(playback)));
    assert_true(playback_is_idle(playback));
    playback = playback_free(playback);
}

static void test_looking_for_devices_writes_nothing(void **state)
{
    struct error err = ERROR_INIT;
    char path[sizeof(server_folder) + 16];
    struct device device;
    struct stat st;
    int kept, fd;

    (void)state;
    snprintf(path, sizeof(path), "%s/stderr", server_folder);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    kept = dup(STDERR_FILENO);
    dup2(fd, STDERR_FILENO);
    device_done();
    assert_int_equal(device_init(&err), 0);
    playback = playback_new(1000, &err);
    assert_int_equal(device_find("pulse:absent", DEVICE_PLAYBACK, &device, &err), 0);
    assert_true(playback_open(playback, &device, 0, 40, &err) < 0);
    playback = playback_free(playback);
    dup2(kept, STDERR_FILENO);
    close(kept);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 0);
    close(fd);
}

static int set_up(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    if (!server_prepare() || !server_start() || device_init(&err) < 0) {
        print_error("no sound server: %s\n", err.text);
        return -1;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    device_done();
    server_clean();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_devices_have_names),
        cmocka_unit_test(test_where_nothing_was_written_nothing_is_to_end),
        cmocka_unit_test(test_looking_for_devices_writes_nothing),
        cmocka_unit_test(test_a_sink_of_the_server_is_a_device_by_name),
        cmocka_unit_test(test_what_is_played_arrives_at_the_microphone),
        cmocka_unit_test(test_a_device_with_another_rate_is_resampled_to),
        cmocka_unit_test(test_an_interruption_is_clickless_and_leaves_the_position),
        cmocka_unit_test(test_a_late_writer_is_counted_and_an_end_is_not),
        cmocka_unit_test(test_ducking_turns_down_and_up_again),
        cmocka_unit_test(test_busy_processors_make_neither_side_late),
        cmocka_unit_test(test_a_reader_that_was_late_gets_silence_of_the_same_length),
    };

    return cmocka_run_group_tests_name("streams", tests, set_up, tear_down);
}
