/* SPDX-License-Identifier: MIT */

/*
 * From a descriptor to samples, through the real child: the same samples as without it from every
 * form of file, the walls around it, descriptors that are no recordings; and children that are
 * missing, are killed, go silent or lie.
 */

#include "audio/decoder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sndfile.h>

#include "audio/decode/stream.h"
#include "audio/in/file.h"
#include "base/cleanup.h"
#include "tests/session/scratch.h"

#define SAMPLES_MAX ((size_t)1 << 22)

/* ---- helpers ---- */

/* n samples of a tone in a memfd. */
static int write_tone(int format, int rate, size_t n)
{
    const int fd = memfd_create("tone", MFD_CLOEXEC);
    SF_INFO info = {.samplerate = rate, .channels = 1, .format = format};
    SNDFILE *file = sf_open_fd(fd, SFM_WRITE, &info, false);

    if (!file)
        fail_msg("format %x: %s", format, sf_strerror(NULL));
    for (size_t i = 0; i < n; i++) {
        const float sample = 0.4f * sinf((float)(i % 16000) * 0.1f);

        assert_int_equal(sf_write_float(file, &sample, 1), 1);
    }
    sf_close(file);
    return fd;
}

/* All of it: the number of samples, or a negative errno. */
static ssize_t read_all(struct sound_decoder *decoder, float *samples, size_t n_max,
                        struct error *err)
{
    size_t n = 0;
    ssize_t got;

    while (n < n_max &&
           (got = sound_decoder_read(decoder, samples + n, n_max - n, NULL, err)) != 0) {
        if (got < 0)
            return got;
        n += (size_t)got;
    }
    return (ssize_t)n;
}

static size_t open_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    size_t n = 0;

    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

static bool has_children(void)
{
    return waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD;
}

/* ---- the real child ---- */

static void test_every_form_of_file_gives_the_same_samples_as_without_a_child(void **state)
{
    static const int formats[] = {
        SF_FORMAT_WAV | SF_FORMAT_PCM_16,   SF_FORMAT_WAV | SF_FORMAT_IMA_ADPCM,
        SF_FORMAT_FLAC | SF_FORMAT_PCM_16,  SF_FORMAT_OGG | SF_FORMAT_VORBIS,
        SF_FORMAT_OGG | SF_FORMAT_OPUS,     SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III,
        SF_FORMAT_AIFF | SF_FORMAT_PCM_24,  SF_FORMAT_CAF | SF_FORMAT_ALAC_16,
        SF_FORMAT_AU | SF_FORMAT_ULAW,
    };
    _cleanup_(freep) float *samples = malloc(SAMPLES_MAX * sizeof(*samples));

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        _cleanup_(closep) int fd = write_tone(formats[i], 48000, 70001);
        _cleanup_(freep) float *expected = NULL;
        struct error err = ERROR_INIT;
        struct sound_decoder *decoder;
        size_t n;
        ssize_t got;

        if (audio_file_read(fd, "a tone", SAMPLES_MAX, &expected, &n, &err) < 0)
            fail_msg("format %x: %s", formats[i], err.text);
        assert_int_equal(lseek(fd, 11, SEEK_SET), 11);
        decoder = sound_decoder_new(sound_decoder_path(), fd, &err);
        assert_non_null(decoder);
        got = read_all(decoder, samples, SAMPLES_MAX, &err);
        if (got != (ssize_t)n)
            fail_msg("format %x: %zd samples instead of %zu: %s", formats[i], got, n, err.text);
        assert_memory_equal(samples, expected, n * sizeof(*samples));
        assert_int_equal(sound_decoder_read(decoder, samples, 1, NULL, &err), 0);
        sound_decoder_free(decoder);
    }
    assert_false(has_children());
}

static void test_what_a_file_speaks_of_is_told(void **state)
{
    _cleanup_(closep) int fd = write_tone(SF_FORMAT_WAV | SF_FORMAT_PCM_16, 16000, 12345);
    struct error err = ERROR_INIT;
    struct sound_decoder *decoder = sound_decoder_new(sound_decoder_path(), fd, &err);
    float sample;

    (void)state;
    assert_non_null(decoder);
    assert_int_equal(sound_decoder_read(decoder, &sample, 1, NULL, &err), 1);
    assert_int_equal(sound_decoder_claims(decoder), 12345);
    sound_decoder_free(decoder);
}

static void test_what_is_no_sound_is_refused_by_the_child(void **state)
{
    const int fd = memfd_create("letter", MFD_CLOEXEC);
    struct error err = ERROR_INIT;
    struct sound_decoder *decoder;
    float sample;

    (void)state;
    assert_int_equal(write(fd, "Dear aunt,", 10), 10);
    decoder = sound_decoder_new(sound_decoder_path(), fd, &err);
    assert_non_null(decoder);
    assert_int_equal(sound_decoder_read(decoder, &sample, 1, NULL, &err),
                     error_errno(ERROR_UNSUPPORTED_FORMAT));
    assert_non_null(strstr(err.text, "not a sound file"));
    sound_decoder_free(decoder);
    close(fd);
}

static void test_what_is_no_file_is_refused_without_a_child(void **state)
{
    const int empty = memfd_create("empty", MFD_CLOEXEC);
    const struct {
        int fd;
        const char *expected;
    } table[] = {
        {-1, "no open file"},
        {open("/", O_RDONLY | O_CLOEXEC), "must be a file"},
        {open("/dev/zero", O_RDONLY | O_CLOEXEC), "must be a file"},
        {open("/proc/self/exe", O_PATH | O_CLOEXEC), "not open for reading"},
        {empty, "is empty"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct error err = ERROR_INIT;

        assert_null(sound_decoder_new(sound_decoder_path(), table[i].fd, &err));
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
        if (!strstr(err.text, table[i].expected))
            fail_msg("row %zu: %s", i, err.text);
        if (table[i].fd >= 0)
            close(table[i].fd);
    }
    assert_false(has_children());
}

/* What a child of this thread says of itself: a number behind `key`; -1: nothing. */
static long status_of_child(const char *key)
{
    char path[64], line[256] = "";
    long value = -1;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/self/task/%d/children", gettid());
    file = fopen(path, "re");
    if (!file)
        return -1;
    if (!fgets(line, sizeof(line), file))
        line[0] = '\0';
    fclose(file);
    snprintf(path, sizeof(path), "/proc/%d/status", atoi(line));
    file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, key, strlen(key)) == 0)
            value = atol(line + strlen(key));
    if (file)
        fclose(file);
    return value;
}

/* tests/base/test_sandbox tries from inside what these walls hold back. */
static void test_the_walls_stand_before_the_first_sample(void **state)
{
    _cleanup_(closep) int fd = write_tone(SF_FORMAT_WAV | SF_FORMAT_PCM_16, 16000, 1 << 20);
    struct error err = ERROR_INIT;
    struct sound_decoder *decoder = sound_decoder_new(sound_decoder_path(), fd, &err);
    float sample;

    (void)state;
    assert_non_null(decoder);
    assert_int_equal(sound_decoder_read(decoder, &sample, 1, NULL, &err), 1);
    assert_int_equal(status_of_child("Seccomp:"), 2);
    assert_int_equal(status_of_child("NoNewPrivs:"), 1);
    sound_decoder_free(decoder);
    assert_false(has_children());
}

/* ---- children that go wrong ---- */

/*
 * A folder of programs in the place of lfmd-sound that do what a decoder must not: links to this
 * test, which sees by the name of the link what it is to do.
 */
static char bad_children[64];

static struct sound_decoder *start_bad(const char *how)
{
    const int fd = memfd_create("x", MFD_CLOEXEC);
    struct error err = ERROR_INIT;
    struct sound_decoder *decoder;
    char path[128];

    assert_int_equal(write(fd, "x", 1), 1);
    snprintf(path, sizeof(path), "%s/%s", bad_children, how);
    decoder = sound_decoder_new(path, fd, &err);
    if (!decoder)
        fail_msg("%s: %s", how, err.text);
    close(fd);
    return decoder;
}

static void test_a_child_that_goes_wrong_is_an_error_and_no_more(void **state)
{
    static const struct {
        const char *how;
        enum error_code code;
        const char *expected;
    } table[] = {
        {"kill", ERROR_INTERNAL, "ended by signal 9 (Killed)"},
        {"segv", ERROR_INTERNAL, "ended by signal 11 (Segmentation fault)"},
        {"xcpu", ERROR_TIMEOUT, "processor time"},
        {"exit", ERROR_INTERNAL, "ended without a result (status 7)"},
        {"silent", ERROR_INTERNAL, "ended without a result (status 0)"},
        {"half", ERROR_INTERNAL, "ended without a result (status 0)"},
        {"cut", ERROR_INTERNAL, "ended without a result (status 0)"},
        {"piece", ERROR_INTERNAL, "makes no sense"},
        {"none", ERROR_INTERNAL, "makes no sense"},
        {"many", ERROR_INTERNAL, "makes no sense"},
        {"huge", ERROR_INTERNAL, "makes no sense"},
        {"claims", ERROR_INTERNAL, "makes no sense"},
        {"errors", ERROR_INTERNAL, "makes no sense"},
        {"nan", ERROR_INTERNAL, "makes no sense"},
        {"infinite", ERROR_INTERNAL, "makes no sense"},
        {"code", ERROR_INTERNAL, "makes no sense"},
        {"zero", ERROR_INTERNAL, "makes no sense"},
        {"negative", ERROR_INTERNAL, "makes no sense"},
        {"text", ERROR_UNSUPPORTED_FORMAT, "AAAAAAAA"},
        {"escape", ERROR_UNSUPPORTED_FORMAT, "?[31m?"},
    };
    _cleanup_(freep) float *samples = malloc(SAMPLES_MAX * sizeof(*samples));

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct sound_decoder *decoder = start_bad(table[i].how);
        struct error err = ERROR_INIT;
        const ssize_t n = read_all(decoder, samples, SAMPLES_MAX, &err);

        if (n != error_errno(table[i].code) || !strstr(err.text, table[i].expected))
            fail_msg("%s: %zd, %s", table[i].how, n, err.text);
        sound_decoder_free(decoder);
        assert_false(has_children());
    }
}

static void test_nothing_is_taken_after_the_end(void **state)
{
    struct sound_decoder *decoder = start_bad("good");
    struct error err = ERROR_INIT;
    float samples[100];

    (void)state;
    assert_int_equal(read_all(decoder, samples, 100, &err), 3);
    for (size_t i = 0; i < 3; i++)
        assert_float_equal(samples[i], (float)i, 0);
    assert_int_equal(sound_decoder_read(decoder, samples, 1, NULL, &err), 0);
    sound_decoder_free(decoder);
}

static void test_a_program_that_is_not_there_is_named(void **state)
{
    _cleanup_(closep) int fd = write_tone(SF_FORMAT_WAV | SF_FORMAT_PCM_16, 16000, 100);
    struct error err = ERROR_INIT;

    (void)state;
    assert_null(sound_decoder_new("/nowhere/lfmd-sound", fd, &err));
    assert_int_equal(err.code, ERROR_INTERNAL);
    assert_non_null(strstr(err.text, "/nowhere/lfmd-sound cannot be started"));
}

static void test_a_child_without_end_is_killed_when_it_is_not_wanted(void **state)
{
    struct sound_decoder *decoder = start_bad("endless");
    struct error err = ERROR_INIT;
    float samples[1000];

    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_in_range(sound_decoder_read(decoder, samples, ARRAY_LEN(samples), NULL, &err), 1,
                        ARRAY_LEN(samples));
    sound_decoder_free(decoder);
    assert_false(has_children());
}

static void *cancel_soon(void *arg)
{
    usleep(50000);
    atomic_store((atomic_bool *)arg, true);
    return NULL;
}

/* Whether it says nothing, or only what is no sound. */
static void test_reading_can_be_cancelled(void **state)
{
    static const char *const hows[] = {"sleep", "claiming"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(hows); i++) {
        struct sound_decoder *decoder = start_bad(hows[i]);
        struct error err = ERROR_INIT;
        atomic_bool cancel = false;
        pthread_t thread;
        float samples[3];

        assert_int_equal(read_all(decoder, samples, 3, &err), 3);
        assert_int_equal(pthread_create(&thread, NULL, cancel_soon, &cancel), 0);
        assert_int_equal(sound_decoder_read(decoder, samples, 1, &cancel, &err),
                         error_errno(ERROR_CANCELLED));
        pthread_join(thread, NULL);
        sound_decoder_free(decoder);
    }
    assert_false(has_children());
}

static void test_many_recordings_leave_nothing_behind(void **state)
{
    _cleanup_(closep) int fd = write_tone(SF_FORMAT_WAV | SF_FORMAT_PCM_16, 16000, 100000);
    size_t before = 0;

    (void)state;
    for (int i = 0; i < 60; i++) {
        struct error err = ERROR_INIT;
        struct sound_decoder *decoder = sound_decoder_new(sound_decoder_path(), fd, &err);
        float samples[1000];

        assert_non_null(decoder);
        for (int n = 0; n < i % 7; n++) /* given up at some moment */
            assert_true(sound_decoder_read(decoder, samples, 1000, NULL, &err) > 0);
        sound_decoder_free(decoder);
        before = i == 0 ? open_descriptors() : before;
    }
    assert_int_equal(open_descriptors(), before);
    assert_false(has_children());
}

/* ---- the bad child ---- */

static void put(const void *data, size_t size)
{
    if (write(STDOUT_FILENO, data, size) != (ssize_t)size)
        _exit(1);
}

static void put_piece(uint32_t piece, uint32_t n, const void *data, size_t size)
{
    put(&(struct sound_head){.piece = piece, .n = n}, sizeof(struct sound_head));
    put(data, size);
}

static void put_error(const char *how)
{
    struct error error = {.code = ERROR_UNSUPPORTED_FORMAT};

    memset(error.text, 'A', sizeof(error.text)); /* no end */
    if (strcmp(how, "escape") == 0)
        strcpy(error.text, "\x1b[31m\xff");
    else if (strcmp(how, "code") == 0)
        error.code = _ERROR_N;
    else if (strcmp(how, "zero") == 0)
        error.code = ERROR_NONE;
    else if (strcmp(how, "negative") == 0)
        error.code = (enum error_code) - 1;
    put_piece(SOUND_ERROR, strcmp(how, "errors") == 0 ? 2 : 1, &error, sizeof(error));
    _exit(0);
}

static void be_bad(const char *how)
{
    static const struct {
        const char *how;
        uint32_t piece, n;
    } heads[] = {
        {"piece", 9, 1},
        {"none", SOUND_SAMPLES, 0},
        {"many", SOUND_SAMPLES, SOUND_PIECE_MAX + 1},
        {"huge", SOUND_SAMPLES, UINT32_MAX},
        {"claims", SOUND_CLAIM, 2},
    };
    static const uint64_t claim = UINT64_MAX;
    float samples[] = {0, 1, 2};

    put_piece(SOUND_CLAIM, 1, &claim, sizeof(claim));
    put_piece(SOUND_SAMPLES, 3, samples, sizeof(samples));
    if (strcmp(how, "kill") == 0)
        raise(SIGKILL);
    else if (strcmp(how, "segv") == 0)
        signal(SIGSEGV, SIG_DFL), raise(SIGSEGV); /* a sanitizer would catch it */
    else if (strcmp(how, "xcpu") == 0)
        raise(SIGXCPU);
    else if (strcmp(how, "exit") == 0)
        _exit(7);
    else if (strcmp(how, "silent") == 0)
        _exit(0);
    else if (strcmp(how, "half") == 0)
        put(&claim, sizeof(struct sound_head) / 2);
    else if (strcmp(how, "cut") == 0)
        put_piece(SOUND_SAMPLES, 100, samples, sizeof(samples));
    else if (strcmp(how, "sleep") == 0)
        for (;;)
            pause();
    while (strcmp(how, "claiming") == 0)
        put_piece(SOUND_CLAIM, 1, &claim, sizeof(claim));
    while (strcmp(how, "endless") == 0)
        put_piece(SOUND_SAMPLES, 3, samples, sizeof(samples));
    if (strcmp(how, "half") == 0 || strcmp(how, "cut") == 0)
        _exit(0);
    if (strcmp(how, "good") == 0) {
        put_piece(SOUND_END, 0, NULL, 0);
        put_piece(SOUND_SAMPLES, 3, samples, sizeof(samples));
        _exit(0);
    }
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        if (strcmp(how, heads[i].how) != 0)
            continue;
        put_piece(heads[i].piece, heads[i].n, samples, sizeof(samples));
        _exit(0);
    }
    if (strcmp(how, "nan") == 0 || strcmp(how, "infinite") == 0) {
        samples[1] = how[0] == 'n' ? NAN : -INFINITY;
        put_piece(SOUND_SAMPLES, 3, samples, sizeof(samples));
        _exit(0);
    }
    put_error(how);
}

static int make_bad_children(void **state)
{
    static const char *const hows[] = {
        "kill", "segv",  "xcpu",   "exit", "silent",   "half", "cut",  "piece",    "none",
        "many", "huge",  "claims", "nan",  "infinite", "code", "zero", "negative", "text",
        "good", "sleep", "errors", "escape", "endless", "claiming"};
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
    return 0;
}

static int remove_bad_children(void **state)
{
    (void)state;
    scratch_remove(bad_children);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_form_of_file_gives_the_same_samples_as_without_a_child),
        cmocka_unit_test(test_what_a_file_speaks_of_is_told),
        cmocka_unit_test(test_what_is_no_sound_is_refused_by_the_child),
        cmocka_unit_test(test_what_is_no_file_is_refused_without_a_child),
        cmocka_unit_test(test_the_walls_stand_before_the_first_sample),
        cmocka_unit_test(test_a_child_that_goes_wrong_is_an_error_and_no_more),
        cmocka_unit_test(test_nothing_is_taken_after_the_end),
        cmocka_unit_test(test_a_program_that_is_not_there_is_named),
        cmocka_unit_test(test_a_child_without_end_is_killed_when_it_is_not_wanted),
        cmocka_unit_test(test_reading_can_be_cancelled),
        cmocka_unit_test(test_many_recordings_leave_nothing_behind),
    };

    if (argc == 1 && strcmp(argv[0], "lfmd-sound") == 0)
        be_bad(basename((char *)getauxval(AT_EXECFN)));
    return cmocka_run_group_tests(tests, make_bad_children, remove_bad_children);
}
