/* SPDX-License-Identifier: MIT */
/* Proves on a real sound server that one conversation hears what another program says and is heard,
 * that a server that dies, comes back or was not there, a sink that goes away and another default
 * are survived, that a server that does not answer holds nobody up, that a loudspeaker that starves
 * gets more latency, and that whoever makes what is heard has a better nice level meanwhile. */
#include <dlfcn.h>
#include <math.h>
#include <portaudio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "audio/device/priority.h"
#include "base/cleanup.h"
#include "session/sound.h"
#include "tests/audio/device/server.h"

#define TONE_HZ 440.0

/*
 * Loudspeakers with less than 90 ms of latency say at every block that they lacked something, as
 * behind a server that resamples; which does so when it likes, not when a test wants it.
 */
static atomic_bool starve_low_latency;

struct starved {
    PaStreamCallback *callback;
    void *userdata;
};

static int starve(const void *input, void *output, unsigned long n_frames,
                  const PaStreamCallbackTimeInfo *time, PaStreamCallbackFlags flags,
                  void *userdata)
{
    const struct starved *starved = userdata;

    return starved->callback(input, output, n_frames, time, flags | paOutputUnderflow,
                             starved->userdata);
}

PaError Pa_OpenStream(PaStream **stream, const PaStreamParameters *input,
                      const PaStreamParameters *output, double rate_hz, unsigned long n_frames,
                      PaStreamFlags flags, PaStreamCallback *callback, void *userdata)
{
    static struct starved starved;
    PaError (*real)(PaStream **, const PaStreamParameters *, const PaStreamParameters *, double,
                    unsigned long, PaStreamFlags, PaStreamCallback *, void *);

    *(void **)&real = dlsym(RTLD_NEXT, "Pa_OpenStream");
    if (!output || !atomic_load(&starve_low_latency) || output->suggestedLatency > 0.09)
        return real(stream, input, output, rate_hz, n_frames, flags, callback, userdata);
    starved = (struct starved){callback, userdata};
    return real(stream, input, output, rate_hz, n_frames, flags, starve, &starved);
}

/* The worst moment for a server to die: PortAudio waits for ever. */
static atomic_int kill_at_start; /* the server's process; 0: nobody */

PaError Pa_StartStream(PaStream *stream)
{
    PaError (*real)(PaStream *);
    const pid_t pid = atomic_exchange(&kill_at_start, 0);
    siginfo_t info;

    if (pid > 0) {
        kill(pid, SIGKILL);
        waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT); /* dead; the test takes it away */
    }
    *(void **)&real = dlsym(RTLD_NEXT, "Pa_StartStream");
    return real(stream);
}

static struct sound *sound;
static pid_t maker_id;
static atomic_uint n_frames, n_loud, n_audible, n_opened, n_failed, n_changed;
static char failure[sizeof(((struct error *)0)->text)]; /* after n_failed grew */

static void on_frame(void *userdata, const float samples[SOUND_FRAME], int64_t usec)
{
    double sum = 0;

    (void)userdata;
    (void)usec;
    for (size_t i = 0; i < SOUND_FRAME; i++)
        sum += (double)samples[i] * (double)samples[i];
    atomic_fetch_add(&n_frames, 1);
    atomic_fetch_add(&n_loud, sum / SOUND_FRAME > 0.01);
    atomic_fetch_add(&n_audible, sum / SOUND_FRAME > 1e-4);
}

static void on_state(void *userdata, bool listening, const struct error *error)
{
    (void)userdata;
    if (!listening)
        snprintf(failure, sizeof(failure), "%s", error->text);
    atomic_fetch_add(listening ? &n_opened : &n_failed, 1);
}

static void on_changed(void *userdata)
{
    atomic_fetch_add((atomic_uint *)userdata, 1);
}

static const struct sound_listener listener = {on_frame, on_state, .answers = true};

/* One that does not answer. */
static atomic_uint n_second;

static void on_second(void *userdata, const float samples[SOUND_FRAME], int64_t usec)
{
    (void)samples;
    (void)usec;
    atomic_fetch_add((atomic_uint *)userdata, 1);
}

static void on_second_state(void *userdata, bool listening, const struct error *error)
{
    (void)userdata;
    (void)listening;
    (void)error;
}

static const struct sound_listener second = {on_second, on_second_state, .answers = false};

static void start_with(const char *capture, bool keep_echo)
{
    const struct sound_config config = {
        .capture = capture, .keep_echo = keep_echo, .changed = on_changed, .userdata = &n_changed};
    struct error err = ERROR_INIT;

    atomic_store(&n_frames, 0);
    atomic_store(&n_loud, 0);
    atomic_store(&n_audible, 0);
    atomic_store(&n_opened, 0);
    atomic_store(&n_failed, 0);
    atomic_store(&n_changed, 0);
    sound = sound_new(&config, &err);
    assert_non_null(sound);
}

/* The tests hear themselves. */
static void start(void)
{
    start_with(NULL, true);
}

/* Up to 20 s; what the test is about is that it happens. */
#define wait_for(condition)                                                                        \
    do {                                                                                           \
        for (unsigned _i = 0; _i < 2000 && !(condition); _i++)                                     \
            server_sleep(10);                                                                      \
        assert_true(condition);                                                                    \
    } while (0)

/* Say a tone of this length; returns when all of it was taken. */
static uint32_t say(unsigned msec)
{
    const uint32_t generation = sound_begin(sound);
    const size_t n = (size_t)msec * SOUND_RATE_HZ / 1000;
    float samples[240];

    for (size_t at = 0; at < n; at += 240) {
        size_t n_taken = 0;

        for (size_t i = 0; i < 240; i++)
            samples[i] = (float)(0.5 * sin(2 * M_PI * TONE_HZ * (double)(at + i) / SOUND_RATE_HZ));
        while ((n_taken += sound_write(sound, generation, samples + n_taken, 240 - n_taken)) < 240)
            server_sleep(10);
    }
    while (!sound_end(sound, generation))
        server_sleep(10);
    return generation;
}

static struct sound_counts counts(void)
{
    struct sound_counts now;

    sound_counts(sound, &now);
    return now;
}

static void test_what_is_said_is_heard(void **state)
{
    struct error err = ERROR_INIT;
    uint32_t generation;
    unsigned n;

    (void)state;
    start();
    assert_true(sound_is_idle(sound));
    assert_int_equal(sound_listen(sound, &listener, NULL, &err), 0);
    assert_int_equal(sound_listen(sound, &listener, NULL, &err), error_errno(ERROR_BUSY));
    assert_int_equal(sound_listen(sound, &second, &n_second, &err), 0);
    wait_for(atomic_load(&n_opened) == 1);
    wait_for(atomic_load(&n_second) > 20);
    sound_stop_listening(sound, &n_second);
    wait_for(atomic_load(&n_frames) > 20);
    assert_false(counts().playback_open);

    generation = say(2000);
    assert_false(sound_is_idle(sound));
    wait_for(sound_heard(sound, generation) > 0);
    wait_for(sound_is_idle(sound));
    assert_int_equal(sound_heard(sound, generation), 2 * SOUND_RATE_HZ);
    assert_int_equal(sound_heard(sound, generation + 1), 0);
    server_sleep(300);
    assert_in_range(atomic_load(&n_loud), 180, 210);
    assert_true(counts().capture_open && counts().playback_open);
    assert_in_range(counts().playback_latency_msec, 10, 500);
    assert_int_equal(counts().n_underruns, 0);
    assert_int_equal(counts().n_overruns, 0);
    assert_int_equal(counts().n_losses, 0);
    assert_int_equal(counts().error.code, ERROR_NONE);
    assert_true(atomic_load(&n_changed) > 10);

    /* Interrupted: it is soon quiet, and what was heard stays known. */
    generation = say(2000);
    wait_for(sound_heard(sound, generation) > SOUND_RATE_HZ / 2);
    sound_cancel(sound);
    wait_for(sound_is_idle(sound));
    assert_in_range(sound_heard(sound, generation), SOUND_RATE_HZ / 2, 2 * SOUND_RATE_HZ - 1);

    sound_stop_listening(sound, NULL);
    n = atomic_load(&n_frames);
    server_sleep(200);
    assert_int_equal(atomic_load(&n_frames), n);
    wait_for(!counts().capture_open);
    sound = sound_free(sound);
}

static void test_a_server_that_dies_and_comes_back_is_survived(void **state)
{
    struct error err = ERROR_INIT;
    unsigned n;

    (void)state;
    start();
    assert_int_equal(sound_listen(sound, &listener, NULL, &err), 0);
    wait_for(atomic_load(&n_opened) == 1);
    say(3000);
    wait_for(counts().playback_open);
    server_kill();
    wait_for(atomic_load(&n_failed) == 1);
    assert_string_equal(failure, "The microphone went away.");
    wait_for(!counts().playback_open);
    assert_int_equal(counts().error.code, ERROR_AUDIO_UNAVAILABLE);
    assert_true(counts().n_losses >= 2);

    assert_true(server_start());
    wait_for(atomic_load(&n_opened) == 2);
    wait_for(counts().playback_open);
    wait_for(sound_is_idle(sound)); /* the rest of what was said */
    assert_int_equal(counts().error.code, ERROR_NONE);
    n = atomic_load(&n_loud);
    say(1000);
    wait_for(sound_is_idle(sound));
    server_sleep(300);
    assert_true(atomic_load(&n_loud) > n + 80);
    sound = sound_free(sound);
}

static void test_a_server_that_comes_later_is_found(void **state)
{
    struct error err = ERROR_INIT;
    struct device devices[32];

    (void)state;
    server_kill();
    start();
    assert_int_equal(sound_listen(sound, &listener, NULL, &err), 0);
    wait_for(atomic_load(&n_failed) == 1);
    assert_int_equal(atomic_load(&n_opened), 0);
    assert_true(server_start());
    wait_for(atomic_load(&n_opened) == 1);
    assert_in_range(sound_devices(sound, devices, 32), 1, 32);
    sound = sound_free(sound);
}

static void test_another_default_and_a_sink_that_goes_are_followed(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    start();
    assert_int_equal(sound_listen(sound, &listener, NULL, &err), 0);
    wait_for(atomic_load(&n_opened) == 1);
    say(500);
    wait_for(counts().playback_open);
    wait_for(sound_is_idle(sound));

    /* What is played goes to a sink that the microphone does not hear. */
    assert_int_equal(
        server_run("pactl load-module module-null-sink sink_name=other rate=48000"), 0);
    assert_int_equal(server_run("pactl set-default-sink other"), 0);
    server_sleep(500);
    atomic_store(&n_loud, 0);
    say(500);
    wait_for(sound_is_idle(sound));
    server_sleep(300);
    assert_int_equal(atomic_load(&n_loud), 0);

    /* It goes away, and the old one is the default again. */
    assert_int_equal(server_run("pactl unload-module "
                                "$(pactl list short modules | grep sink_name=other | cut -f1)"),
                     0);
    server_sleep(500);
    atomic_store(&n_loud, 0);
    say(500);
    wait_for(counts().playback_open);
    wait_for(sound_is_idle(sound));
    wait_for(atomic_load(&n_loud) > 30);
    assert_int_equal(atomic_load(&n_failed), 0);
    sound = sound_free(sound);
}

static bool is_listed(const char *name)
{
    struct device devices[32];
    const size_t n = sound_devices(sound, devices, ARRAY_LEN(devices));

    for (size_t i = 0; i < MIN(n, ARRAY_LEN(devices)); i++)
        if (strcmp(devices[i].name, name) == 0)
            return true;
    return false;
}

/* The loudspeaker stays open for a while; that does not make the list old. */
static void test_a_new_device_is_listed_unless_somebody_listens(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    start();
    say(100);
    wait_for(counts().playback_open);
    wait_for(sound_is_idle(sound));
    assert_false(is_listed("second"));
    assert_int_equal(
        server_run("(echo 'pcm.second { type pulse hint { show on } }' >>~/.asoundrc)"), 0);
    wait_for(is_listed("second"));

    assert_int_equal(sound_listen(sound, &listener, NULL, &err), 0);
    wait_for(atomic_load(&n_opened) == 1);
    assert_int_equal(server_run("sed -i /second/d ~/.asoundrc"), 0);
    assert_true(is_listed("second"));
    sound_stop_listening(sound, NULL);
    wait_for(!is_listed("second"));
    sound = sound_free(sound);
}

static void test_names_and_latencies_are_checked(void **state)
{
    char name[DEVICE_NAME_MAX + 1];
    struct error err = ERROR_INIT;
    struct sound_config config = {.capture = name};

    (void)state;
    memset(name, 'x', DEVICE_NAME_MAX);
    name[DEVICE_NAME_MAX] = '\0';
    assert_null(sound_new(&config, &err));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    err = (struct error)ERROR_INIT;
    config = (struct sound_config){.latency_msec = 5};
    assert_null(sound_new(&config, &err));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);

    /* A name that nothing has: said, and mended while it listens. */
    err = (struct error)ERROR_INIT;
    start();
    config = (struct sound_config){.capture = "Trumpet"};
    assert_int_equal(sound_reconfigure(sound, &config, &err), 0);
    assert_int_equal(sound_listen(sound, &listener, NULL, &err), 0);
    wait_for(atomic_load(&n_failed) == 1);
    assert_string_equal(failure, "There is no microphone \"Trumpet\".");
    config = (struct sound_config){.capture = "pulse:mic"};
    assert_int_equal(sound_reconfigure(sound, &config, &err), 0);
    wait_for(atomic_load(&n_opened) == 1);
    sound = sound_free(sound);
}

static void test_a_starved_loudspeaker_is_given_more_latency(void **state)
{
    unsigned n;

    (void)state;
    start();
    atomic_store(&starve_low_latency, true);
    say(5000);
    wait_for(sound_is_idle(sound));
    assert_int_equal(counts().n_losses, 0);
    assert_in_range(counts().playback_latency_msec, 80, 120);
    n = counts().n_xruns;
    assert_true(n > 20); /* for a second */
    say(1500);
    wait_for(sound_is_idle(sound));
    assert_in_range(counts().n_xruns, n, n + 20);
    atomic_store(&starve_low_latency, false);
    sound = sound_free(sound);
}

static void test_what_it_says_itself_is_not_heard(void **state)
{
    struct error err = ERROR_INIT;
    uint32_t generation;
    uint32_t seed = 1;
    unsigned n_before;
    size_t at = 0;

    (void)state;
    start_with(NULL, false);
    assert_int_equal(sound_listen(sound, &listener, NULL, &err), 0);
    wait_for(atomic_load(&n_opened) == 1);
    assert_false(counts().can_interrupt);
    generation = sound_begin(sound);
    /* Noise in syllables, as loud as speech, until its echo is known; then as long again. */
    for (unsigned turn = 0; turn < 2; turn++) {
        n_before = atomic_load(&n_audible);
        for (unsigned i = 0; i < 4000 && (turn == 1 ? i < 500 : !counts().can_interrupt); i++) {
            float samples[240];
            size_t n_taken = 0;

            for (size_t k = 0; k < 240; k++, at++) {
                seed = seed * 1664525u + 1013904223u;
                samples[k] = (float)(((double)seed / 4294967296.0 - 0.5) *
                                     fmax(0, sin(2 * M_PI * 3 * (double)at / SOUND_RATE_HZ)));
            }
            do {
                n_taken += sound_write(sound, generation, samples + n_taken, 240 - n_taken);
                server_sleep(n_taken < 240 ? 10 : 0);
            } while (n_taken < 240);
        }
        assert_true(counts().can_interrupt);
    }
    sound_cancel(sound);
    /* Of 500 frames at -20 dB, nearly all are below -40 dB. */
    assert_in_range(atomic_load(&n_audible), n_before, n_before + 25);
    sound = sound_free(sound);
}

static void test_a_default_microphone_that_cancels_echo_is_left_alone(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    if (!getenv("LFMD_MONITOR")) {
        print_message("lfmd-monitor is not built\n");
        skip();
    }
    assert_int_equal(server_run("pactl load-module module-remap-source "
                                "source_name=mic.echo-cancel master=mic"),
                     0);
    for (int cancels = 0; cancels < 2; cancels++) {
        assert_int_equal(server_run(cancels ? "pactl set-default-source mic.echo-cancel"
                                            : "pactl set-default-source mic"),
                         0);
        start_with(NULL, false);
        assert_int_equal(sound_listen(sound, &listener, NULL, &err), 0);
        wait_for(atomic_load(&n_opened) == 1);
        assert_int_equal(counts().can_interrupt, cancels);
        sound = sound_free(sound);
    }
    assert_int_equal(server_run("pactl set-default-source mic"), 0);
}

static int set_up(void **state)
{
    (void)state;
    if (!server_prepare() || !server_start()) {
        print_error("no sound server\n");
        return -1;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    server_clean();
    return 0;
}

static void test_a_server_that_does_not_answer_holds_nobody_up(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    start();
    assert_int_equal(sound_listen(sound, &listener, NULL, &err), 0);
    wait_for(atomic_load(&n_opened) == 1);
    say(3000);
    wait_for(counts().playback_open);
    assert_int_equal(kill(server_pid, SIGSTOP), 0);
    wait_for(atomic_load(&n_failed) == 1);
    sound = sound_free(sound);
    assert_int_equal(kill(server_pid, SIGCONT), 0);

    start();
    assert_int_equal(sound_listen(sound, &listener, NULL, &err), 0);
    wait_for(atomic_load(&n_opened) == 1);
    sound = sound_free(sound);
}

/* The last one: PortAudio has a thread in this process from then on. */
static void test_a_server_that_dies_while_it_is_asked_is_survived(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    start();
    atomic_store(&kill_at_start, server_pid);
    assert_int_equal(sound_listen(sound, &listener, NULL, &err), 0);
    wait_for(atomic_load(&n_failed) == 1);
    assert_non_null(strstr(failure, "it does not answer"));
    server_kill();
    assert_true(server_start());
    wait_for(atomic_load(&n_opened) == 1);
    say(1000);
    wait_for(sound_is_idle(sound));
    server_sleep(300);
    assert_true(atomic_load(&n_loud) > 80);
    sound = sound_free(sound);
}

static size_t one_maker(void *userdata, pid_t *ret_ids, size_t n_max)
{
    (void)userdata;
    ret_ids[0] = maker_id;
    return MIN(n_max, 1);
}

static int nice_level(void)
{
    return getpriority(PRIO_PROCESS, (id_t)maker_id);
}

static void test_who_makes_what_is_heard_has_a_priority_while_it_is(void **state)
{
    const struct sound_config config = {.makers = one_maker};
    struct error err = ERROR_INIT;

    (void)state;
    maker_id = gettid();
    if (setpriority(PRIO_PROCESS, 0, PRIORITY_NICE) < 0 || setpriority(PRIO_PROCESS, 0, 0) < 0) {
        print_message("skipped: neither root nor RLIMIT_NICE\n");
        skip();
    }
    atomic_store(&n_frames, 0);
    sound = sound_new(&config, &err);
    assert_non_null(sound);
    assert_int_equal(sound_listen(sound, &listener, NULL, &err), 0);
    wait_for(atomic_load(&n_frames) > 20);
    assert_int_equal(nice_level(), 0);
    say(500);
    wait_for(nice_level() < 0);
    wait_for(sound_is_idle(sound));
    wait_for(nice_level() == 0);

    say(500);
    wait_for(nice_level() < 0);
    sound = sound_free(sound);
    assert_int_equal(nice_level(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_said_is_heard),
        cmocka_unit_test(test_who_makes_what_is_heard_has_a_priority_while_it_is),
        cmocka_unit_test(test_what_it_says_itself_is_not_heard),
        cmocka_unit_test(test_a_default_microphone_that_cancels_echo_is_left_alone),
        cmocka_unit_test(test_a_new_device_is_listed_unless_somebody_listens),
        cmocka_unit_test(test_names_and_latencies_are_checked),
        cmocka_unit_test(test_another_default_and_a_sink_that_goes_are_followed),
        cmocka_unit_test(test_a_starved_loudspeaker_is_given_more_latency),
        cmocka_unit_test(test_a_server_that_dies_and_comes_back_is_survived),
        cmocka_unit_test(test_a_server_that_comes_later_is_found),
        cmocka_unit_test(test_a_server_that_does_not_answer_holds_nobody_up),
        cmocka_unit_test(test_a_server_that_dies_while_it_is_asked_is_survived),
    };

    return cmocka_run_group_tests_name("sound", tests, set_up, tear_down);
}
