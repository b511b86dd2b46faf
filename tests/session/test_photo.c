/* SPDX-License-Identifier: MIT */

/*
 * Photos and their thread, with the real decoder: what a photo is after it was decoded, given back,
 * decoded again, described and restored, and where the limits of all photos of the process are.
 *
 * Files above a limit are holes in a memfd, so that nobody has to write them.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <semaphore.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "session/json.h"
#include "session/photo.h"
#include "tests/session/scratch.h"

static const struct image_settings no_settings;
static struct photos *photos;
static sem_t changed; /* one for each photo whose state has */

static void note_change(void *userdata)
{
    (void)userdata;
    sem_post(&changed);
}

static void start(const char *program, uint64_t bytes_max)
{
    struct photos_config config = {
        .program = program, .limits = decode_limits_default, .done = note_change};
    struct error err = ERROR_INIT;

    config.limits.bytes_max = bytes_max;
    config.limits.timeout_usec = INT64_C(600000000); /* a large picture on a busy machine */
    sem_init(&changed, 0, 0);
    photos = photos_new(&config, &err);
    assert_non_null(photos);
}

static int setup(void **state)
{
    (void)state;
    start(NULL, decode_limits_default.bytes_max);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    photos = photos_free(photos);
    return 0;
}

/* A grey PGM of this size in a file of n_bytes; those that are not written are holes. */
static int make_file(uint32_t width, uint32_t height, uint8_t grey, size_t n_bytes)
{
    int fd = memfd_create("photo", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    dprintf(fd, "P5\n%u %u\n255\n%c", width, height, grey);
    assert_int_equal(ftruncate(fd, (off_t)n_bytes), 0);
    return fd;
}

static struct photo *make_photo(int fd)
{
    struct error err = ERROR_INIT;
    struct photo *photo = photo_new(fd, &no_settings, &err);

    if (!photo)
        fail_msg("%s", err.text);
    return photo;
}

static struct photo *make_small(uint8_t grey)
{
    return make_photo(make_file(30, 20, grey, 1000));
}

static void decode(struct photo *photo)
{
    photos_decode(photos, photo);
    sem_wait(&changed);
}

static void decode_well(struct photo *photo)
{
    decode(photo);
    if (photo_state(photo) != PHOTO_READY)
        fail_msg("%s", photo->error.text);
}

static void test_a_photo_has_a_size_pixels_and_the_hash_of_its_file(void **state)
{
    struct photo *photo = make_photo(make_file(2, 1, 'a', 13));

    (void)state;
    assert_int_equal(photo_state(photo), PHOTO_NEW);
    decode_well(photo);
    assert_int_equal(photo->width, 2);
    assert_int_equal(photo->height, 1);
    assert_int_equal(photo->n_bytes, 13);
    assert_memory_equal(photo->image.rgb, "aaa\0\0\0", 6);
    /* printf 'P5\n2 1\n255\na\0' | sha256sum */
    assert_string_equal(photo->id,
                        "b25f2970a2f779f437254bf6046301d639578bc123e2eece4236cdf3d79111f3");
    photo_unref(photo);
}

static void test_pixels_that_were_given_back_come_again(void **state)
{
    struct photo *photo = make_small('b');
    char id[PHOTO_ID_LENGTH + 1];

    (void)state;
    decode_well(photo);
    memcpy(id, photo->id, sizeof(id));
    photo_drop(photo);
    assert_null(photo->image.rgb);
    assert_int_equal(photo_state(photo), PHOTO_READY);
    photo_drop(photo); /* nothing more to give */
    decode_well(photo);
    assert_int_equal(photo->image.rgb[0], 'b');
    assert_string_equal(photo->id, id);
    photo_unref(photo);
}

static void test_what_happens_to_the_file_afterwards_does_not_matter(void **state)
{
    const int fd = make_file(30, 20, 'c', 1000);
    struct photo *photo = make_photo(dup(fd));

    (void)state;
    decode_well(photo);
    photo_drop(photo);
    assert_int_equal(ftruncate(fd, 0), 0);
    close(fd);
    decode_well(photo);
    assert_int_equal(photo->image.rgb[0], 'c');
    photo_unref(photo);
}

static void test_what_cannot_be_decoded_says_why(void **state)
{
    struct photo *text = make_photo(memfd_create("text", MFD_CLOEXEC));
    int pipes[2];
    struct photo *pipe;

    (void)state;
    dprintf(text->fd, "no picture");
    decode(text);
    assert_int_equal(photo_state(text), PHOTO_FAILED);
    assert_int_equal(text->error.code, ERROR_UNSUPPORTED_FORMAT);
    photo_unref(text);

    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    pipe = make_photo(pipes[0]);
    decode(pipe);
    assert_int_equal(photo_state(pipe), PHOTO_FAILED);
    assert_int_equal(pipe->error.code, ERROR_INVALID_ARGUMENT);
    photo_unref(pipe);
    close(pipes[1]);
}

static void test_the_holder_may_go_while_it_is_decoded(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct photo *photo = make_small('d');

        photos_decode(photos, photo);
        atomic_store(&photo->cancel, i % 2);
        photo_unref(photo);
    }
    for (int i = 0; i < 20; i++)
        sem_wait(&changed);
}

static void write_program(const char *path, const char *script)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    fprintf(file, "#!/bin/sh\n%s\n", script);
    fclose(file);
    assert_int_equal(chmod(path, 0700), 0);
}

static void test_a_decoder_that_hangs_or_dies_costs_one_photo(void **state)
{
    char directory[64], program[96], script[8192];
    struct photo *photo = make_small('e');

    (void)state;
    scratch_make(directory);
    snprintf(program, sizeof(program), "%s/decoder", directory);
    photos_free(photos);
    start(program, decode_limits_default.bytes_max);

    write_program(program, "exec sleep 600");
    photos_decode(photos, photo);
    assert_int_equal(photo_state(photo), PHOTO_DECODING);
    atomic_store(&photo->cancel, true);
    sem_wait(&changed);
    assert_int_equal(photo_state(photo), PHOTO_FAILED);
    assert_int_equal(photo->error.code, ERROR_CANCELLED);

    write_program(program, "kill -KILL $$");
    decode(photo);
    assert_int_equal(photo_state(photo), PHOTO_FAILED);
    assert_int_equal(photo->error.code, ERROR_INTERNAL);
    assert_non_null(strstr(photo->error.text, "signal 9"));

    snprintf(script, sizeof(script), "exec %s \"$@\"", image_decoder_path());
    write_program(program, script);
    decode_well(photo);
    assert_int_equal(photo->error.code, ERROR_NONE);
    photo_unref(photo);
    scratch_remove(directory);
}

/* --- in the history -------------------------------------------------------------------------- */

static struct tile_plan plan_of(const struct photo *photo)
{
    struct error err = ERROR_INIT;
    struct tile_plan plan;

    if (tiles_plan_capped(&tile_settings_default, photo->width, photo->height, &plan, &err) < 0)
        fail_msg("%s", err.text);
    return plan;
}

static void test_a_part_of_a_message_stands_for_a_photo(void **state)
{
    _cleanup_(json_putp) struct json_object *part = json_object_new_object();
    struct photo *photo = make_photo(make_file(1100, 900, 'f', 1000000)), *restored;
    struct error err = ERROR_INIT;

    (void)state;
    decode_well(photo);
    photo->plan = plan_of(photo);
    assert_true(photo->plan.cols * photo->plan.rows > 1);
    assert_true(photo_describe(photo, part));
    restored = photo_restore(part, &err);
    assert_non_null(restored);
    assert_string_equal(restored->id, photo->id);
    assert_int_equal(restored->width, 1100);
    assert_int_equal(restored->height, 900);
    assert_true(restored->has_plan);
    assert_memory_equal(&restored->plan, &photo->plan, sizeof(photo->plan));
    assert_int_equal(photo_state(restored), PHOTO_NEW);
    photo_unref(restored);
    photo_unref(photo);
}

static void test_a_damaged_part_stands_for_nothing(void **state)
{
    static const struct {
        const char *key, *value;
    } damages[] = {
        {"sha256", NULL},     {"sha256", "7"},         {"sha256", "\"../../etc/passwd\""},
        {"width", NULL},      {"width", "0"},          {"width", "-5"},
        {"height", "\"x\""},  {"resized_width", "33"}, {"resized_height", "4294967296"},
        {"tile_size", "100"}, {"cols", "4000000000"},  {"rows", "0"},
        {"cols", "11"},
    };
    struct photo *photo = make_photo(make_file(1100, 900, 'g', 1000000));

    (void)state;
    decode_well(photo);
    photo->plan = plan_of(photo);
    for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
        _cleanup_(json_putp) struct json_object *part = json_object_new_object();
        struct error err = ERROR_INIT;

        assert_true(photo_describe(photo, part));
        if (damages[i].value)
            json_object_object_add(part, damages[i].key, json_tokener_parse(damages[i].value));
        else
            json_object_object_del(part, damages[i].key);
        if (photo_restore(part, &err))
            fail_msg("%s %s", damages[i].key, damages[i].value);
        assert_int_equal(err.code, ERROR_UNSUPPORTED_FORMAT);
    }
    photo_unref(photo);
}

/* --- limits of the process ------------------------------------------------------------------- */

static void test_photos_are_counted(void **state)
{
    static struct photo *all[PHOTOS_MAX];
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        all[i] = make_photo(-1);
    assert_null(photo_new(-1, &no_settings, &err));
    assert_int_equal(err.code, ERROR_BUSY);
    assert_non_null(strstr(err.text, "512"));
    photo_unref(all[0]);
    all[0] = make_photo(-1);
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        photo_unref(all[i]);
}

static void test_the_bytes_of_all_photos_have_a_limit(void **state)
{
    const int fd = make_file(30, 20, 'h', PHOTO_SOURCE_BYTES_MAX);
    struct photo *small = make_small('i'), *large = make_photo(fd);

    (void)state;
    photos_free(photos);
    start(NULL, PHOTO_SOURCE_BYTES_MAX);
    /* Sealed, it is not copied. */
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 0);
    decode_well(small);
    decode(large);
    assert_int_equal(photo_state(large), PHOTO_FAILED);
    assert_int_equal(large->error.code, ERROR_NO_MEMORY);
    assert_non_null(strstr(large->error.text, "1024 MB"));
    photo_unref(large);
    photo_unref(small);
    small = make_small('j'); /* what went does not count any more */
    decode_well(small);
    photo_unref(small);
}

static void test_pixels_above_their_limit_are_not_kept_before_they_are_needed(void **state)
{
    const size_t side = 9460, bytes = side * side; /* three colours of them are 256 MB */
    struct photo *large = make_photo(make_file(side, side, 'k', bytes + 64)), *late;

    (void)state;
    photos_free(photos);
    start(NULL, bytes + 64);
    decode_well(large);
    assert_non_null(large->image.rgb);
    late = make_small('l');
    decode_well(late);
    assert_null(late->image.rgb);
    assert_int_equal(late->width, 30);
    decode_well(late); /* its turn has come */
    assert_int_equal(late->image.rgb[0], 'l');
    photo_unref(late);
    photo_unref(large);
    late = make_small('m');
    decode_well(late);
    assert_non_null(late->image.rgb);
    photo_unref(late);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_a_photo_has_a_size_pixels_and_the_hash_of_its_file),
        TEST(test_pixels_that_were_given_back_come_again),
        TEST(test_what_happens_to_the_file_afterwards_does_not_matter),
        TEST(test_what_cannot_be_decoded_says_why),
        TEST(test_the_holder_may_go_while_it_is_decoded),
        TEST(test_a_decoder_that_hangs_or_dies_costs_one_photo),
        TEST(test_a_part_of_a_message_stands_for_a_photo),
        TEST(test_a_damaged_part_stands_for_nothing),
        TEST(test_photos_are_counted),
        TEST(test_the_bytes_of_all_photos_have_a_limit),
        TEST(test_pixels_above_their_limit_are_not_kept_before_they_are_needed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
