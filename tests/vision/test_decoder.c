/* SPDX-License-Identifier: MIT */

/*
 * From a descriptor to pixels, through the real child: the reference's pictures bit for bit (a JPEG
 * within three steps), one picture in all its forms, descriptors that lie, limits, a child that is
 * killed, stopped, missing or somebody else, and a thousand pictures in a row.
 */

#include "tests/vision/picture.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <pthread.h>
#include <sha2.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/golden.h"
#include "tests/session/scratch.h"
#include "vision/decode/result.h"
#include "vision/decoder.h"

#define LIMITS (&decode_limits_default)

/* ---- helpers ---- */

static int decode_fd(int fd, const struct decode_limits *limits, struct image *ret,
                     struct error *err)
{
    _cleanup_(closep) int source = -1;
    size_t bytes;
    int r;

    *ret = (struct image){0};
    *err = (struct error)ERROR_INIT;
    r = image_source(fd, limits, &source, &bytes, err);
    if (r == 0)
        r = image_decode(image_decoder_path(), source, limits, NULL, ret, err);
    return r;
}

/* A memfd with these bytes, not sealed. */
static int memfd_of(const void *data, size_t size)
{
    const int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, data, size, 0), size);
    return fd;
}

static int memfd_of_file(const char *name)
{
    size_t size;
    _cleanup_(freep) uint8_t *data = picture_bytes(name, &size);

    return memfd_of(data, size);
}

static int decode_text(const char *text, struct image *ret, struct error *err)
{
    _cleanup_(closep) int fd = memfd_of(text, strlen(text));

    return decode_fd(fd, LIMITS, ret, err);
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

/* ---- pictures ---- */

static void expect_reference(const char *folder, struct json_object *expected)
{
    const char *file = golden_str(expected, "file");
    const size_t width = (size_t)json_object_get_int(golden_get(expected, "decoded_w"));
    const size_t height = (size_t)json_object_get_int(golden_get(expected, "decoded_h"));
    char path[8192], hex[SHA256_DIGEST_STRING_LENGTH];
    struct image image, reference;
    struct json_object *png;
    struct error err;
    int fd;

    if (!picture_readable(file))
        return;
    snprintf(path, sizeof(path), "%s/%s", folder, file);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    if (decode_fd(fd, LIMITS, &image, &err) < 0)
        fail_msg("%s: %s", file, err.text);
    close(fd);
    if (image.width != width || image.height != height)
        fail_msg("%s: %u x %u", file, image.width, image.height);
    SHA256Data(image.rgb, image_bytes(image.width, image.height), hex);
    if (json_object_get_boolean(golden_get(expected, "lossless"))) {
        if (strcmp(hex, golden_str(expected, "rgb_sha256")) != 0)
            fail_msg("%s: other pixels", file);
    } else if (json_object_object_get_ex(expected, "decoded_png", &png)) {
        snprintf(path, sizeof(path), "%s/%s", folder, json_object_get_string(png));
        fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_int_equal(decode_fd(fd, LIMITS, &reference, &err), 0);
        close(fd);
        for (size_t i = 0; i < image_bytes(image.width, image.height); i++)
            if (abs(image.rgb[i] - reference.rgb[i]) > 3)
                fail_msg("%s: sample %zu is %u instead of %u", file, i, image.rgb[i],
                         reference.rgb[i]);
        image_done(&reference);
    }
    image_done(&image);
}

static void test_pictures_of_the_reference_come_out_as_there(void **state)
{
    const char *path = fixture_path("vision/expect/images.json");
    struct json_object *all;
    char folder[4096];

    (void)state;
    if (!path)
        skip();
    snprintf(folder, sizeof(folder), "%.*s", (int)(strstr(path, "/expect/") - path), path);
    all = golden_json(path);
    for (size_t i = 0; i < json_object_array_length(all); i++)
        expect_reference(folder, json_object_array_get_idx(all, i));
    json_object_put(all);
}

/* Whatever libraries need inside the sandbox, they have it. */
static void test_every_form_of_file_is_read_inside_the_sandbox(void **state)
{
    struct dirent **entries = picture_files();

    (void)state;
    for (size_t i = 2; i < PICTURE_FILES + 2; i++) {
        const char *name = entries[i]->d_name;
        _cleanup_(closep) int fd = memfd_of_file(name);
        struct image image;
        struct error err;

        const char *unexpected =
            picture_unexpected(name, decode_fd(fd, LIMITS, &image, &err), &image, err.text);

        if (unexpected)
            fail_msg("%s: %s", name, unexpected);
    }
    for (size_t i = 0; i < PICTURE_FILES + 2; i++)
        free(entries[i]);
    free(entries);
}

static void test_the_name_of_a_file_says_nothing(void **state)
{
    char path[] = "/tmp/lfmd-test-XXXXXX.jpg";
    const int fd = mkstemps(path, 4);
    size_t size;
    _cleanup_(freep) uint8_t *data = picture_bytes("rgb.gif", &size);
    struct image image;
    struct error err;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), size);
    if (decode_fd(fd, LIMITS, &image, &err) < 0)
        fail_msg("%s", err.text);
    assert_null(picture_wrong("rgb.gif", &image));
    image_done(&image);
    close(fd);
    unlink(path);
}

static void test_pixels_cannot_be_written(void **state)
{
    _cleanup_(closep) int fd = memfd_of_file("rgb.png");
    struct image image;
    struct error err;
    pid_t pid;
    int status;

    (void)state;
    assert_int_equal(decode_fd(fd, LIMITS, &image, &err), 0);
    pid = fork();
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        *(volatile uint8_t *)image.rgb = 0;
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    image_done(&image);
    assert_null(image.rgb);
    image_done(&image);
}

/* ---- drawings ---- */

#define SVG "<svg xmlns='http://www.w3.org/2000/svg' width='512' height='512'>"

static void expect_colour(const char *svg, uint32_t expected)
{
    struct image image;
    struct error err;
    uint32_t found;

    if (decode_text(svg, &image, &err) < 0)
        fail_msg("%.80s: %s", svg, err.text);
    found = (uint32_t)image.rgb[0] << 16 | (uint32_t)image.rgb[1] << 8 | image.rgb[2];
    if (found != expected)
        fail_msg("%.80s: #%06x instead of #%06x", svg, found, expected);
    image_done(&image);
}

/* Each drawing is black over everything, if only it can reach what it refers to. */
static void test_a_drawing_reaches_nothing_outside_itself(void **state)
{
    char path[] = "/tmp/lfmd-test-XXXXXX.svg", text[1024];
    static const char black[] = SVG "<rect id='r' width='512' height='512'/></svg>";
    int fd;

    (void)state;
    if (!HAVE_SVG)
        skip();
    fd = mkstemps(path, 4);
    assert_true(fd >= 0 && write(fd, black, strlen(black)) == (ssize_t)strlen(black));
    expect_colour(black, 0x000000);
    snprintf(text, sizeof(text), SVG "<image width='512' height='512' href='file://%s'/></svg>",
             path);
    expect_colour(text, 0xffffff);
    snprintf(text, sizeof(text), SVG "<image width='512' height='512' href='%s'/></svg>", path);
    expect_colour(text, 0xffffff);
    snprintf(text, sizeof(text), SVG "<use href='file://%s#r'/></svg>", path);
    expect_colour(text, 0xffffff);
    snprintf(text, sizeof(text),
             SVG "<style>@import url('file://%s');</style><rect width='1' height='1' "
                 "fill='white'/></svg>",
             path);
    expect_colour(text, 0xffffff);
    close(fd);
    unlink(path);
}

static void test_a_drawing_is_on_white_and_has_a_sensible_size(void **state)
{
    static const struct {
        const char *attributes;
        uint32_t width, height;
    } table[] = {
        {"width='16' height='16'", 512, 512},
        {"width='1000' height='700'", 1000, 700},
        {"width='100000' height='50000'", 2048, 1024},
        {"viewBox='0 0 48 24'", 512, 256},
        {"width='1e30' height='1'", 512, 512},
        {"width='100%' height='100%' viewBox='0 0 10 20'", 256, 512},
        {"", 512, 512},
        {"width='0' height='0'", 512, 512},
    };

    (void)state;
    if (!HAVE_SVG)
        skip();
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char text[256];
        struct image image;
        struct error err;

        snprintf(text, sizeof(text), "<svg xmlns='http://www.w3.org/2000/svg' %s/>",
                 table[i].attributes);
        if (decode_text(text, &image, &err) < 0)
            fail_msg("%s: %s", text, err.text);
        if (image.width != table[i].width || image.height != table[i].height)
            fail_msg("%s: %u x %u", text, image.width, image.height);
        assert_int_equal(image.rgb[0] & image.rgb[1] & image.rgb[2], 255);
        image_done(&image);
    }
}

/* Text is drawn with the system's fonts, where the kernel lets the child have nothing but them. */
static void test_a_drawing_has_its_text(void **state)
{
    struct image image;
    struct error err;
    size_t n_dark = 0;

    (void)state;
    if (!HAVE_SVG || access("/etc/fonts/fonts.conf", R_OK) < 0)
        skip();
    if (decode_text(SVG "<text x='10' y='300' font-size='200'>Text</text></svg>", &image, &err) < 0)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < image_bytes(image.width, image.height); i++)
        n_dark += image.rgb[i] < 128;
    assert_true(n_dark > 1000);
    image_done(&image);
}

static void test_drawings_that_never_end_are_refused(void **state)
{
    static const char laughs[] =
        "<?xml version='1.0'?><!DOCTYPE svg ["
        "<!ENTITY a 'lollollollollollollollollollollol'>"
        "<!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'><!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;'>"
        "<!ENTITY d '&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;'><!ENTITY e '&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;'>"
        "<!ENTITY f '&e;&e;&e;&e;&e;&e;&e;&e;&e;&e;'><!ENTITY g '&f;&f;&f;&f;&f;&f;&f;&f;&f;&f;'>"
        "<!ENTITY h '&g;&g;&g;&g;&g;&g;&g;&g;&g;&g;'><!ENTITY i '&h;&h;&h;&h;&h;&h;&h;&h;&h;&h;'>"
        "]>" SVG "<text>&i;</text></svg>";
    static const char entity[] =
        "<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY a SYSTEM "
        "'file:///etc/passwd'>]>" SVG "<text x='9' y='99'>&a;</text></svg>";
    /* Ten levels of ten uses: 10^10 rectangles. */
    _cleanup_(freep) char *uses = malloc(16384);
    struct decode_limits limits = decode_limits_default;
    struct image image;
    struct error err;
    size_t n;

    (void)state;
    if (!HAVE_SVG)
        skip();
    assert_int_equal(decode_text(laughs, &image, &err), error_errno(ERROR_UNSUPPORTED_FORMAT));
    n = (size_t)sprintf(uses, "%s<defs><g id='g0'><rect width='1' height='1'/></g>", SVG);
    for (int level = 1; level <= 10; level++) {
        n += (size_t)sprintf(uses + n, "<g id='g%d'>", level);
        for (int i = 0; i < 10; i++)
            n += (size_t)sprintf(uses + n, "<use href='#g%d'/>", level - 1);
        n += (size_t)sprintf(uses + n, "</g>");
    }
    sprintf(uses + n, "</defs><use href='#g10'/></svg>");
    /* The library gives up at some number of them, or we at some time. */
    _cleanup_(closep) int fd = memfd_of(uses, strlen(uses));
    limits.timeout_usec = 1000000;
    assert_true(decode_fd(fd, &limits, &image, &err) < 0);
    assert_true(err.code == ERROR_UNSUPPORTED_FORMAT || err.code == ERROR_TIMEOUT);
    /* One that uses itself is drawn without that, or refused. */
    if (decode_text(SVG "<g id='a'><use href='#a'/></g><use href='#a'/></svg>", &image, &err) < 0)
        assert_int_equal(err.code, ERROR_UNSUPPORTED_FORMAT);
    image_done(&image);
    /* A file as an entity: refused, or nothing is there. */
    if (decode_text(entity, &image, &err) == 0)
        for (size_t i = 0; i < image_bytes(image.width, image.height); i++)
            assert_int_equal(image.rgb[i], 255);
    image_done(&image);
}

/* ---- descriptors ---- */

static void expect_refused(int fd, const char *expected)
{
    struct error err = ERROR_INIT;
    int source = -1;
    size_t bytes;

    assert_int_equal(image_source(fd, LIMITS, &source, &bytes, &err),
                     error_errno(ERROR_INVALID_ARGUMENT));
    if (!strstr(err.text, expected))
        fail_msg("\"%s\" instead of \"%s\"", err.text, expected);
    assert_int_equal(source, -1);
}

static void test_what_is_no_file_to_be_read_is_refused(void **state)
{
    char path[] = "/tmp/lfmd-test-XXXXXX";
    int pair[2], sockets[2], fd;

    (void)state;
    assert_int_equal(pipe(pair), 0);
    expect_refused(pair[0], "is a pipe; it must be a file");
    close(pair[0]);
    close(pair[1]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    expect_refused(sockets[0], "is a socket; it must be a file");
    close(sockets[0]);
    close(sockets[1]);
    fd = open("/tmp", O_RDONLY | O_DIRECTORY);
    expect_refused(fd, "is a folder; it must be a file");
    close(fd);
    fd = open("/dev/zero", O_RDONLY);
    expect_refused(fd, "is a device; it must be a file");
    close(fd);
    fd = mkstemp(path);
    expect_refused(fd, "is empty");
    assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
    fd = open(path, O_WRONLY);
    expect_refused(fd, "not open for reading");
    close(fd);
    fd = open(path, O_PATH);
    expect_refused(fd, "not open for reading");
    close(fd);
    unlink(path);
    expect_refused(-1, "no open file");
    expect_refused(1 << 20, "no open file");
}

static void test_a_file_above_the_limit_is_refused_by_how_much(void **state)
{
    struct decode_limits limits = decode_limits_default;
    _cleanup_(closep) int fd = memfd_of("0123456789", 10);
    struct image image;
    struct error err;

    (void)state;
    limits.bytes_max = 7;
    assert_int_equal(decode_fd(fd, &limits, &image, &err), error_errno(ERROR_INVALID_ARGUMENT));
    assert_string_equal(err.text,
                        "The file of the picture has 10 bytes, 3 too many: the limit is 7.");
    /* Nothing of this size is ever read. */
    assert_int_equal(ftruncate(fd, (off_t)1 << 40), 0);
    assert_int_equal(decode_fd(fd, LIMITS, &image, &err), error_errno(ERROR_INVALID_ARGUMENT));
}

/* The source is the client's only when the client cannot change it any more. */
static void test_only_a_sealed_memfd_is_not_copied(void **state)
{
    static const struct {
        int seals;
        bool same;
    } table[] = {
        {0, false},
        {F_SEAL_SHRINK, false},
        {F_SEAL_WRITE, false},
        {F_SEAL_SHRINK | F_SEAL_WRITE, false}, /* could still grow */
        {F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE, false},
        {F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE, true},
        {F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL, true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        _cleanup_(closep) int fd = memfd_of_file("rgb.png");
        _cleanup_(closep) int source = -1;
        struct error err = ERROR_INIT;
        struct stat before, after;
        struct image image;
        size_t bytes;

        assert_int_equal(fcntl(fd, F_ADD_SEALS, table[i].seals), 0);
        assert_int_equal(image_source(fd, LIMITS, &source, &bytes, &err), 0);
        assert_int_equal(fstat(fd, &before), 0);
        assert_int_equal(fstat(source, &after), 0);
        if ((before.st_ino == after.st_ino) != table[i].same)
            fail_msg("row %zu", i);
        assert_int_equal(after.st_size, bytes);
        assert_int_equal(fcntl(source, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE),
                         F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
        assert_true(fcntl(source, F_GETFD) & FD_CLOEXEC);
        /* What becomes of the client's is no matter. */
        (void)!ftruncate(fd, 0);
        if (image_decode(image_decoder_path(), source, LIMITS, NULL, &image, &err) < 0)
            fail_msg("row %zu: %s", i, err.text);
        assert_null(picture_wrong("rgb.png", &image));
        image_done(&image);
    }
}

/* A client that writes and shrinks its file all the while. */
struct liar {
    int fd;
    size_t size;
    uint8_t *data;
    atomic_bool stop;
};

static void *lie(void *arg)
{
    struct liar *liar = arg;

    for (unsigned i = 0; !atomic_load(&liar->stop); i++) {
        (void)!ftruncate(liar->fd, (off_t)(i % liar->size));
        (void)!pwrite(liar->fd, liar->data, liar->size, 0);
        usleep(i % 100);
    }
    return NULL;
}

static void test_a_file_that_changes_while_it_is_read_does_no_harm(void **state)
{
    struct liar liar = {.data = picture_bytes("rgb.bmp", &liar.size)};
    _cleanup_(closep) int fd = memfd_of(liar.data, liar.size);
    pthread_t thread;

    (void)state;
    liar.fd = fd;
    assert_int_equal(pthread_create(&thread, NULL, lie, &liar), 0);
    for (int i = 0; i < 10; i++) {
        struct image image;
        struct error err;

        if (decode_fd(fd, LIMITS, &image, &err) < 0)
            assert_true(err.code == ERROR_IO || err.code == ERROR_UNSUPPORTED_FORMAT ||
                        err.code == ERROR_INVALID_ARGUMENT);
        image_done(&image);
        /* Not through image_source(): the child has it, and the child alone may fall. */
        err = (struct error)ERROR_INIT;
        image_decode(image_decoder_path(), fd, LIMITS, NULL, &image, &err);
        image_done(&image);
    }
    atomic_store(&liar.stop, true);
    pthread_join(thread, NULL);
    free(liar.data);
    assert_false(has_children());
}

static void test_the_place_in_a_file_does_not_matter_and_stays(void **state)
{
    _cleanup_(closep) int fd = memfd_of_file("rgb.png");
    struct image image;
    struct error err;

    (void)state;
    assert_int_equal(lseek(fd, 11, SEEK_SET), 11);
    assert_int_equal(decode_fd(fd, LIMITS, &image, &err), 0);
    assert_null(picture_wrong("rgb.png", &image));
    image_done(&image);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), 11);
}

/* ---- limits ---- */

static void test_limits_of_the_caller_are_the_child_s(void **state)
{
    struct decode_limits limits = decode_limits_default;
    _cleanup_(closep) int fd = memfd_of_file("rgb.png"); /* 64 x 32 = 2048 */
    struct image image;
    struct error err;

    (void)state;
    limits.side_max = 63;
    assert_int_equal(decode_fd(fd, &limits, &image, &err), error_errno(ERROR_INVALID_ARGUMENT));
    assert_string_equal(err.text, "The picture has 64 x 32 pixels, 1 too many on one side: "
                                  "the limit is 63.");
    limits.side_max = 64;
    limits.pixels_max = 2000;
    assert_int_equal(decode_fd(fd, &limits, &image, &err), error_errno(ERROR_INVALID_ARGUMENT));
    assert_string_equal(err.text, "The picture has 64 x 32 = 2048 pixels, 48 too many: "
                                  "the limit is 2000.");
    limits.pixels_max = 2048;
    assert_int_equal(decode_fd(fd, &limits, &image, &err), 0);
    image_done(&image);
}

/* ---- children that go wrong ---- */

/*
 * A folder of programs in the place of lfmd-image that do what a decoder must not: links to this
 * test, which sees by the name of the link what it is to do.
 */
static char bad_children[64];

static int decode_with(const char *program, const struct decode_limits *limits,
                       const atomic_bool *cancel, struct error *err)
{
    _cleanup_(closep) int fd = memfd_of("x", 1);
    _cleanup_(closep) int source = -1;
    struct image image = {0};
    size_t bytes;
    int r;

    *err = (struct error)ERROR_INIT;
    assert_int_equal(image_source(fd, limits, &source, &bytes, err), 0);
    r = image_decode(program, source, limits, cancel, &image, err);
    image_done(&image);
    assert_false(has_children());
    return r;
}

static int decode_badly(const char *how, struct error *err)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/%s", bad_children, how);
    return decode_with(path, LIMITS, NULL, err);
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
        {"silent", ERROR_INTERNAL, "left no result"},
        {"short", ERROR_INTERNAL, "left no result"},
        {"empty", ERROR_INTERNAL, "a result that is wrong"},
        {"code", ERROR_INTERNAL, "a result that is wrong"},
        {"negative", ERROR_INTERNAL, "a result that is wrong"},
        {"huge", ERROR_INTERNAL, "a result that is wrong"},
        {"overflow", ERROR_INTERNAL, "a result that is wrong"},
        {"less", ERROR_INTERNAL, "a result that is wrong"},
        {"more", ERROR_INTERNAL, "a result that is wrong"},
        {"text", ERROR_UNSUPPORTED_FORMAT, "AAAAAAAA"},
        {"escape", ERROR_UNSUPPORTED_FORMAT, "?[31m?"},
    };
    struct error err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        assert_int_equal(decode_badly(table[i].how, &err), error_errno(table[i].code));
        if (!strstr(err.text, table[i].expected))
            fail_msg("%s: %s", table[i].how, err.text);
    }
    assert_int_equal(decode_badly("good", &err), 0);
}

static void test_a_program_that_is_not_there_is_named(void **state)
{
    struct error err;

    (void)state;
    assert_int_equal(decode_with("/nowhere/lfmd-image", LIMITS, NULL, &err),
                     error_errno(ERROR_INTERNAL));
    assert_non_null(strstr(err.text, "/nowhere/lfmd-image cannot be started"));
}

static void test_a_decoder_that_never_ends_is_killed_at_the_limit(void **state)
{
    struct decode_limits limits = decode_limits_default;
    struct error err;
    char path[4096];

    (void)state;
    limits.timeout_usec = 50000;
    snprintf(path, sizeof(path), "%s/sleep", bad_children);
    assert_int_equal(decode_with(path, &limits, NULL, &err), error_errno(ERROR_TIMEOUT));
    assert_string_equal(err.text, "The picture took more than 50 ms to decode, the limit.");
}

static void *cancel_soon(void *arg)
{
    usleep(50000);
    atomic_store((atomic_bool *)arg, true);
    return NULL;
}

static void test_a_cancelled_decoder_is_killed(void **state)
{
    atomic_bool cancel = false;
    struct error err;
    char path[4096];
    pthread_t thread;

    (void)state;
    snprintf(path, sizeof(path), "%s/sleep", bad_children);
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, &cancel), 0);
    assert_int_equal(decode_with(path, LIMITS, &cancel, &err), error_errno(ERROR_CANCELLED));
    pthread_join(thread, NULL);
    /* Already cancelled before it begins. */
    assert_int_equal(decode_with(path, LIMITS, &cancel, &err), error_errno(ERROR_CANCELLED));
}

/* The real one, killed at some moment of its work. */
static void *kill_children(void *arg)
{
    atomic_bool *stop = arg;
    unsigned seed = 1;

    while (!atomic_load(stop)) {
        char path[64], text[64] = "";
        FILE *file;

        usleep((unsigned)rand_r(&seed) % 60000);
        snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
        file = fopen(path, "re");
        if (file && fgets(text, sizeof(text), file) && atoi(text) > 0)
            kill(atoi(text), SIGKILL);
        if (file)
            fclose(file);
    }
    return NULL;
}

static void test_a_child_that_is_killed_at_work_costs_one_picture(void **state)
{
    _cleanup_(closep) int fd = memfd_of_file("orientation6.jpg");
    atomic_bool stop = false;
    unsigned n_killed = 0;
    pthread_t thread;
    struct image image;
    struct error err;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, kill_children, &stop), 0);
    for (int i = 0; i < 500 && n_killed < 10; i++) {
        if (decode_fd(fd, LIMITS, &image, &err) < 0) {
            if (!strstr(err.text, "ended by signal 9"))
                fail_msg("%s", err.text);
            n_killed++;
        } else {
            assert_null(picture_wrong("orientation6.jpg", &image));
        }
        image_done(&image);
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(n_killed, 10);
    assert_int_equal(decode_fd(fd, LIMITS, &image, &err), 0);
    image_done(&image);
    assert_false(has_children());
}

/* ---- many ---- */

#ifdef __SANITIZE_ADDRESS__
#define PAGES_MORE_MAX 65536 /* it keeps what was freed */
#else
#define PAGES_MORE_MAX 64
#endif

static size_t resident_pages(void)
{
    size_t size, resident;
    FILE *file = fopen("/proc/self/statm", "re");

    assert_int_equal(fscanf(file, "%zu %zu", &size, &resident), 2);
    fclose(file);
    return resident;
}

static void test_a_thousand_pictures_leave_nothing_behind(void **state)
{
    static const char *const names[] = {"rgb.png", "orientation6.jpg", "rgb.ppm", "rgb.gif"};
    size_t descriptors = 0, pages = 0;

    (void)state;
    for (size_t i = 0; i < 1000; i++) {
        const char *name = names[i % ARRAY_LEN(names)];
        _cleanup_(closep) int fd = memfd_of_file(name);
        struct image image;
        struct error err;

        if (i == 20) { /* what is allocated once is there */
            descriptors = open_descriptors();
            pages = resident_pages();
        }
        if (i % 10 == 9) /* some that are refused */
            assert_int_equal(ftruncate(fd, 60), 0);
        if ((decode_fd(fd, LIMITS, &image, &err) < 0) != (i % 10 == 9))
            fail_msg("%s: %s", name, err.text);
        image_done(&image);
    }
    _cleanup_(closep) int same = memfd_of("x", 1);
    assert_int_equal(open_descriptors(), descriptors);
    assert_false(has_children());
    if (resident_pages() > pages + PAGES_MORE_MAX)
        fail_msg("%zu pages became %zu", pages, resident_pages());
}

static void *decode_many(void *arg)
{
    for (int i = 0; i < 20; i++) {
        _cleanup_(closep) int fd = memfd_of_file(arg);
        struct image image;
        struct error err;

        if (decode_fd(fd, LIMITS, &image, &err) < 0 || picture_wrong(arg, &image))
            return (void *)"failed";
        image_done(&image);
    }
    return NULL;
}

static void test_threads_decode_side_by_side(void **state)
{
    static const char *const names[] = {"rgb.png", "orientation6.jpg",
                                        HAVE_HEIF ? "rgb.heic" : "rgb.gif"};
    pthread_t threads[ARRAY_LEN(names)];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, decode_many, (void *)names[i]), 0);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        void *failed;

        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
}

/* ---- the bad child ---- */

static void be_bad(const char *how)
{
    static uint8_t pixels[2 * 2 * 3];
    struct result result = {.error = ERROR_INIT, .width = 2, .height = 2};
    off_t size = RESULT_PIXELS_OFFSET + sizeof(pixels);

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
    else if (strcmp(how, "sleep") == 0)
        for (;;)
            pause();
    else if (strcmp(how, "short") == 0)
        _exit(pwrite(STDOUT_FILENO, &result, 100, 0) != 100);
    else if (strcmp(how, "empty") == 0)
        result.width = 0;
    else if (strcmp(how, "code") == 0)
        result.error.code = _ERROR_N;
    else if (strcmp(how, "negative") == 0)
        result.error.code = (enum error_code) - 1;
    else if (strcmp(how, "huge") == 0)
        result.width = result.height = UINT32_MAX;
    else if (strcmp(how, "overflow") == 0) /* 2^16 * 2^16 * 3 wraps around in 32 bits */
        result.width = result.height = 65536;
    else if (strcmp(how, "less") == 0)
        size--;
    else if (strcmp(how, "more") == 0)
        size++;
    if (strcmp(how, "text") == 0 || strcmp(how, "escape") == 0) {
        result.error.code = ERROR_UNSUPPORTED_FORMAT;
        memset(result.error.text, 'A', sizeof(result.error.text)); /* no end */
        if (how[0] == 'e')
            strcpy(result.error.text, "\x1b[31m\xff");
    }
    if (ftruncate(STDOUT_FILENO, size) < 0 ||
        pwrite(STDOUT_FILENO, &result, sizeof(result), 0) != sizeof(result))
        _exit(8);
    _exit(0);
}

static int make_bad_children(void **state)
{
    static const char *const hows[] = {"kill", "segv", "xcpu",     "exit",  "silent", "short",
                                       "code", "huge", "negative", "less",  "more",   "overflow",
                                       "text", "good", "escape",   "sleep", "empty"};
    char self[4096], path[4096];
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
        cmocka_unit_test(test_pictures_of_the_reference_come_out_as_there),
        cmocka_unit_test(test_every_form_of_file_is_read_inside_the_sandbox),
        cmocka_unit_test(test_the_name_of_a_file_says_nothing),
        cmocka_unit_test(test_pixels_cannot_be_written),
        cmocka_unit_test(test_a_drawing_reaches_nothing_outside_itself),
        cmocka_unit_test(test_a_drawing_is_on_white_and_has_a_sensible_size),
        cmocka_unit_test(test_a_drawing_has_its_text),
        cmocka_unit_test(test_drawings_that_never_end_are_refused),
        cmocka_unit_test(test_what_is_no_file_to_be_read_is_refused),
        cmocka_unit_test(test_a_file_above_the_limit_is_refused_by_how_much),
        cmocka_unit_test(test_only_a_sealed_memfd_is_not_copied),
        cmocka_unit_test(test_a_file_that_changes_while_it_is_read_does_no_harm),
        cmocka_unit_test(test_the_place_in_a_file_does_not_matter_and_stays),
        cmocka_unit_test(test_limits_of_the_caller_are_the_child_s),
        cmocka_unit_test(test_a_child_that_goes_wrong_is_an_error_and_no_more),
        cmocka_unit_test(test_a_program_that_is_not_there_is_named),
        cmocka_unit_test(test_a_decoder_that_never_ends_is_killed_at_the_limit),
        cmocka_unit_test(test_a_cancelled_decoder_is_killed),
        cmocka_unit_test(test_a_child_that_is_killed_at_work_costs_one_picture),
        cmocka_unit_test(test_threads_decode_side_by_side),
        cmocka_unit_test(test_a_thousand_pictures_leave_nothing_behind),
    };

    if (argc == 5 && strcmp(argv[0], "lfmd-image") == 0)
        be_bad(basename((const char *)getauxval(AT_EXECFN)));
    return cmocka_run_group_tests(tests, make_bad_children, remove_bad_children);
}
