/* SPDX-License-Identifier: MIT */

/*
 * Proves with a drawn voice, through the real decoder child, that a recording is cut at its pauses,
 * where there are none at the length that a model takes, and has no segments of silence; that it
 * ends at any moment, and with a sentence when its child is missing, killed or lies.
 */

#include "session/recording.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <math.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "audio/decode/stream.h"
#include "base/cleanup.h"
#include "tests/audio/device/voice.h"
#include "tests/session/scratch.h"

#define SECOND    ((size_t)RECORDING_RATE_HZ)
#define DRAWN_MAX (70 * SECOND)
#define NEAR_MS   400 /* what is kept of silence, and how late a detector may be */

static float drawn[DRAWN_MAX];
static size_t n_drawn;

static int changes; /* an eventfd */

static void draw_silence(size_t n)
{
    assert_true(n_drawn + n <= DRAWN_MAX);
    for (size_t i = 0; i < n; i++)
        drawn[n_drawn + i] = (float)(2e-4 * voice_gaussian());
    n_drawn += n;
}

static void draw_speech(size_t n)
{
    draw_silence(n);
    voice_draw(drawn + n_drawn - n, n, 120, 0.3);
}

/* What was drawn, as a WAV file of 16 bits in a memfd. */
static int write_drawn(void)
{
    struct {
        char riff[4];
        uint32_t size;
        char wave[8];
        uint32_t format_size;
        uint16_t format, channels;
        uint32_t rate, bytes_per_second;
        uint16_t bytes, bits;
        char data[4];
        uint32_t data_size;
    } head = {.riff = "RIFF", .size = (uint32_t)(36 + 2 * n_drawn), .format_size = 16,
              .format = 1, .channels = 1, .rate = RECORDING_RATE_HZ,
              .bytes_per_second = 2 * RECORDING_RATE_HZ, .bytes = 2, .bits = 16, .data = "data",
              .data_size = (uint32_t)(2 * n_drawn)};
    const int fd = memfd_create("recording", MFD_CLOEXEC);
    static int16_t samples[DRAWN_MAX];

    memcpy(head.wave, "WAVEfmt ", 8);
    for (size_t i = 0; i < n_drawn; i++) {
        samples[i] = (int16_t)lrintf(32767 * MIN(MAX(drawn[i], -1.0f), 1.0f));
        drawn[i] = (float)samples[i] / 32768;
    }
    assert_int_equal(write(fd, &head, sizeof(head)), sizeof(head));
    assert_int_equal(write(fd, samples, 2 * n_drawn), 2 * n_drawn);
    return fd;
}

static void on_changed(void *userdata)
{
    (void)userdata;
    (void)!write(changes, &(uint64_t){1}, sizeof(uint64_t));
}

static struct recording *record(const char *program, int fd)
{
    struct error err = ERROR_INIT;
    struct recording *recording = recording_new(program, fd, on_changed, NULL, &err);

    if (!recording)
        fail_msg("%s", err.text);
    return recording;
}

static enum recording_state wait_for_news(struct recording *recording)
{
    enum recording_state now;

    while ((now = recording_state(recording)) == RECORDING_BUSY) {
        struct pollfd fd = {.fd = changes, .events = POLLIN};
        uint64_t n;

        assert_int_equal(poll(&fd, 1, 60000), 1);
        assert_int_equal(read(changes, &n, sizeof(n)), sizeof(n));
    }
    return now;
}

struct piece {
    int64_t start_ms, end_ms;
};

/* The segments of what was drawn; each must be a piece of it. */
static size_t segments_of_drawn(struct piece *pieces, size_t n_max)
{
    const int fd = write_drawn();
    struct recording *recording = record(NULL, fd);
    enum recording_state now;
    size_t n = 0;

    while ((now = wait_for_news(recording)) == RECORDING_SEGMENT) {
        const struct recording_segment segment = recording_segment(recording);
        const size_t at = (size_t)segment.start_ms * (RECORDING_RATE_HZ / 1000);

        assert_in_range(segment.n, 1, RECORDING_SEGMENT_MAX);
        assert_int_equal(segment.end_ms, segment.start_ms + (int64_t)segment.n / 16);
        for (size_t i = 0; i < segment.n && at + i < n_drawn; i++)
            if (fabsf(segment.samples[i] - drawn[at + i]) > 1e-5f)
                fail_msg("segment %zu: sample %zu was never there", n, i);
        assert_true(n < n_max);
        pieces[n++] = (struct piece){segment.start_ms, segment.end_ms};
        recording_next(recording);
    }
    if (now != RECORDING_END)
        fail_msg("%s", recording_error(recording)->text);
    assert_int_equal(recording_total_ms(recording), n_drawn * 1000 / RECORDING_RATE_HZ);
    recording_free(recording);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    return n;
}

static void test_a_recording_is_cut_at_its_pauses(void **state)
{
    struct piece pieces[8];

    (void)state;
    n_drawn = 0;
    draw_silence(2 * SECOND);
    draw_speech(3 * SECOND);
    draw_silence(SECOND * 3 / 2);
    draw_speech(4 * SECOND);
    draw_silence(SECOND);
    assert_int_equal(segments_of_drawn(pieces, ARRAY_LEN(pieces)), 2);
    assert_in_range(pieces[0].start_ms, 2000 - NEAR_MS, 2000);
    assert_in_range(pieces[0].end_ms, 5000, 5000 + NEAR_MS);
    assert_in_range(pieces[1].start_ms, 6500 - NEAR_MS, 6500);
    assert_in_range(pieces[1].end_ms, 10500, 10500 + NEAR_MS);
}

static void test_speech_to_the_last_sample_is_kept(void **state)
{
    struct piece pieces[8];

    (void)state;
    n_drawn = 0;
    draw_silence(SECOND);
    draw_speech(SECOND + 77);
    assert_int_equal(segments_of_drawn(pieces, ARRAY_LEN(pieces)), 1);
    assert_in_range(pieces[0].end_ms, 2000, 2020);
}

/* Nothing is lost where it is cut without a pause, nor said twice. */
static void test_who_does_not_pause_is_cut_at_the_longest_segment(void **state)
{
    struct piece pieces[8];
    size_t n;

    (void)state;
    n_drawn = 0;
    draw_speech(50 * SECOND);
    draw_silence(SECOND);
    n = segments_of_drawn(pieces, ARRAY_LEN(pieces));
    assert_in_range(n, 3, 5);
    assert_in_range(pieces[0].start_ms, 0, NEAR_MS);
    for (size_t i = 1; i < n; i++)
        assert_int_equal(pieces[i].start_ms, pieces[i - 1].end_ms);
    assert_in_range(pieces[n - 1].end_ms, 50000, 50000 + NEAR_MS);
}

static void test_a_long_segment_is_cut_at_its_last_short_pause(void **state)
{
    struct piece pieces[8];

    (void)state;
    n_drawn = 0;
    draw_speech(19 * SECOND);
    draw_silence(SECOND * 35 / 100);
    draw_speech(5 * SECOND);
    draw_silence(SECOND);
    assert_int_equal(segments_of_drawn(pieces, ARRAY_LEN(pieces)), 2);
    assert_in_range(pieces[0].end_ms, 19000, 19350);
    assert_int_equal(pieces[1].start_ms, pieces[0].end_ms);
    assert_in_range(pieces[1].end_ms, 24350, 24350 + NEAR_MS);
}

static void test_silence_has_no_segments(void **state)
{
    struct piece pieces[1];

    (void)state;
    n_drawn = 0;
    draw_silence(30 * SECOND);
    assert_int_equal(segments_of_drawn(pieces, 0), 0);
    memset(drawn, 0, sizeof(drawn));
    assert_int_equal(segments_of_drawn(pieces, 0), 0);
}

static bool has_children(void)
{
    return waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD;
}

static void test_it_can_be_given_up_at_any_moment(void **state)
{
    (void)state;
    n_drawn = 0;
    for (int i = 0; i < 5; i++) {
        draw_speech(3 * SECOND);
        draw_silence(SECOND);
    }
    for (int i = 0; i < 12; i++) {
        struct recording *recording = record(NULL, write_drawn());

        for (int n = 0; n < i % 4; n++) {
            assert_int_equal(wait_for_news(recording), RECORDING_SEGMENT);
            if (n < i % 4 - 1 || i < 8)
                recording_next(recording);
        }
        recording_free(recording);
        assert_false(has_children());
    }
}

/* ---- children that go wrong ---- */

static char bad_children[64];

static struct recording *record_badly(const char *how)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", bad_children, how);
    n_drawn = SECOND;
    return record(path, write_drawn());
}

static void test_what_was_said_before_a_child_fell_is_kept(void **state)
{
    static const struct {
        const char *how;
        enum error_code code;
        const char *expected;
    } table[] = {
        {"kill", ERROR_INTERNAL, "ended by signal 9"},
        {"exit", ERROR_INTERNAL, "without a result (status 7)"},
        {"nan", ERROR_INTERNAL, "makes no sense"},
        {"error", ERROR_UNSUPPORTED_FORMAT, "All is lost."},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct recording *recording = record_badly(table[i].how);
        const struct error *err;

        assert_int_equal(wait_for_news(recording), RECORDING_SEGMENT);
        recording_next(recording);
        assert_int_equal(wait_for_news(recording), RECORDING_FAILED);
        err = recording_error(recording);
        if (err->code != table[i].code || !strstr(err->text, table[i].expected))
            fail_msg("%s: %s", table[i].how, err->text);
        assert_true(recording_total_ms(recording) >= 0);
        recording_free(recording);
        assert_false(has_children());
    }
}

static void test_a_child_that_says_nothing_or_does_not_end_can_be_given_up(void **state)
{
    static const char *const hows[] = {"sleep", "endless"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(hows); i++) {
        struct recording *recording = record_badly(hows[i]);

        for (int n = 0; n < 3 * (int)i; n++) {
            assert_int_equal(wait_for_news(recording), RECORDING_SEGMENT);
            recording_next(recording);
        }
        recording_free(recording);
        assert_false(has_children());
    }
}

static void test_a_missing_child_is_named(void **state)
{
    struct error err = ERROR_INIT;
    int fd;

    (void)state;
    n_drawn = SECOND;
    fd = write_drawn();
    assert_null(recording_new("/nowhere/lfmd-sound", fd, on_changed, NULL, &err));
    assert_non_null(strstr(err.text, "/nowhere/lfmd-sound cannot be started"));
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

/* ---- the bad child ---- */

static void put_piece(uint32_t piece, uint32_t n, const void *data, size_t size)
{
    const struct sound_head head = {.piece = piece, .n = n};

    if (write(STDOUT_FILENO, &head, sizeof(head)) != sizeof(head) ||
        write(STDOUT_FILENO, data, size) != (ssize_t)size)
        _exit(1);
}

/* It claims what cannot be, says a sentence, and then what it is to do. */
static void be_bad(const char *how)
{
    static const uint64_t claim = UINT64_MAX;

    put_piece(SOUND_CLAIM, 1, &claim, sizeof(claim));
    if (strcmp(how, "sleep") == 0)
        for (;;)
            pause();
    n_drawn = 0;
    draw_silence(SECOND);
    draw_speech(2 * SECOND);
    draw_silence(2 * SECOND);
    do
        for (size_t i = 0; i < n_drawn; i += 1000)
            put_piece(SOUND_SAMPLES, 1000, drawn + i, 1000 * sizeof(*drawn));
    while (strcmp(how, "endless") == 0);
    if (strcmp(how, "kill") == 0)
        raise(SIGKILL);
    if (strcmp(how, "exit") == 0)
        _exit(7);
    if (strcmp(how, "nan") == 0)
        put_piece(SOUND_SAMPLES, 1, &(float){NAN}, sizeof(float));
    if (strcmp(how, "error") == 0)
        put_piece(SOUND_ERROR, 1,
                  &(struct error){.code = ERROR_UNSUPPORTED_FORMAT, .text = "All is lost."},
                  sizeof(struct error));
    _exit(0);
}

static int make_bad_children(void **state)
{
    static const char *const hows[] = {"kill", "exit", "nan", "error", "sleep", "endless"};
    char self[4096], path[128];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    (void)state;
    assert_true(n > 0);
    self[n] = '\0';
    scratch_make(bad_children);
    for (size_t i = 0; i < ARRAY_LEN(hows); i++) {
        snprintf(path, sizeof(path), "%s/%s", bad_children, hows[i]);
        assert_int_equal(symlink(self, path), 0);
    }
    changes = eventfd(0, EFD_CLOEXEC);
    assert_true(changes >= 0);
    return 0;
}

static int remove_bad_children(void **state)
{
    (void)state;
    close(changes);
    scratch_remove(bad_children);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_recording_is_cut_at_its_pauses),
        cmocka_unit_test(test_speech_to_the_last_sample_is_kept),
        cmocka_unit_test(test_who_does_not_pause_is_cut_at_the_longest_segment),
        cmocka_unit_test(test_a_long_segment_is_cut_at_its_last_short_pause),
        cmocka_unit_test(test_silence_has_no_segments),
        cmocka_unit_test(test_it_can_be_given_up_at_any_moment),
        cmocka_unit_test(test_what_was_said_before_a_child_fell_is_kept),
        cmocka_unit_test(test_a_child_that_says_nothing_or_does_not_end_can_be_given_up),
        cmocka_unit_test(test_a_missing_child_is_named),
    };

    if (argc == 1 && strcmp(argv[0], "lfmd-sound") == 0)
        be_bad(basename((char *)getauxval(AT_EXECFN)));
    return cmocka_run_group_tests(tests, make_bad_children, remove_bad_children);
}
