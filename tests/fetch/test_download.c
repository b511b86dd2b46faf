/* SPDX-License-Identifier: MIT */
/*
 * lfmd-fetch against a real HTTP server on loopback (server.py): what arrives is compared byte by
 * byte, and what the helper says is read line by line. Proves resume, refusal, and that every
 * failure leaves either nothing or a .part file that the next run completes.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <setjmp.h>
#include <sha2.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"

#define FILE_BYTES ((size_t)3 << 20)
#define CUT        ((size_t)1 << 20)

static pid_t server;
static int port;
static char scratch[] = "/tmp/lfmd-fetch-XXXXXX";
static char sha256[2][65];

/* --- running the helper --------------------------------------------------------------------- */

struct run {
    int status;          /* exit status */
    char said[65536];    /* all lines */
    char event[32], name[32], message[512]; /* of the last line */
    char sha256[65];
    bool intact;
    uint64_t started_at; /* `done` of the last start event */
    uint64_t last_done;
    bool went_back;
};

static const char *path_of(const char *name)
{
    static char path[8][256];
    static unsigned next;

    snprintf(path[next % 8], sizeof(path[0]), "%s/%s", scratch, name);
    return path[next++ % 8];
}

static pid_t helper_start(const char *request, int *ret_out, rlim_t file_max)
{
    int in[2], out[2];
    pid_t pid;

    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        if (file_max)
            setrlimit(RLIMIT_FSIZE, &(struct rlimit){file_max, file_max});
        execl(getenv("LFMD_FETCH"), "lfmd-fetch", (char *)NULL);
        _exit(99);
    }
    close(in[0]);
    close(out[1]);
    assert_int_equal(write(in[1], request, strlen(request)), strlen(request));
    close(in[1]);
    *ret_out = out[0];
    return pid;
}

static void read_line(struct run *run, const char *line)
{
    struct json_object *object = json_tokener_parse(line), *value;
    uint64_t done;

    if (!object)
        fail_msg("not JSON: %s", line);
#define TEXT(key, field)                                                                           \
    if (json_object_object_get_ex(object, key, &value))                                           \
    snprintf(run->field, sizeof(run->field), "%s", json_object_get_string(value))
    TEXT("event", event);
    TEXT("name", name);
    TEXT("message", message);
    TEXT("sha256", sha256);
    if (json_object_object_get_ex(object, "intact", &value))
        run->intact = json_object_get_boolean(value);
    if (json_object_object_get_ex(object, "done", &value)) {
        done = json_object_get_uint64(value);
        if (done < run->last_done)
            run->went_back = true;
        run->last_done = done;
        if (strcmp(run->event, "start") == 0)
            run->started_at = done;
    }
    json_object_put(object);
}

static void helper_finish(struct run *run, pid_t pid, int out)
{
    size_t length = strlen(run->said);
    ssize_t n;
    int status;

    while ((n = read(out, run->said + length, sizeof(run->said) - 1 - length)) > 0)
        length += (size_t)n;
    close(out);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    run->status = WEXITSTATUS(status);
    assert_true(length > 0 && run->said[length - 1] == '\n');
    for (char *line = strtok(run->said, "\n"); line; line = strtok(NULL, "\n"))
        read_line(run, line);
    assert_false(run->went_back);
}

static void run_request(struct run *run, const char *request)
{
    int out;
    pid_t pid = helper_start(request, &out, 0);

    *run = (struct run){0};
    helper_finish(run, pid, out);
}

/* more: further members, each with a comma before it */
static const char *request_for(const char *name, const char *more)
{
    static char text[2048];

    snprintf(text, sizeof(text),
             "{\"verb\":\"download\",\"url\":\"http://127.0.0.1:%d/%s\",\"path\":\"%s\"%s}", port,
             name, path_of(name), more);
    return text;
}

static void fetch(struct run *run, const char *name, const char *more)
{
    run_request(run, request_for(name, more));
}

static const char *with_sha256(int version)
{
    static char text[128];

    snprintf(text, sizeof(text), ",\"sha256\":\"%s\"", sha256[version]);
    return text;
}

/* --- looking at what is there --------------------------------------------------------------- */

static uint8_t byte_at(size_t i, int version)
{
    return (uint8_t)(7 * (i % 256) + i / 256 + (size_t)version);
}

static bool file_is(const char *path, int version, size_t size)
{
    static uint8_t data[FILE_BYTES + 1];
    _cleanup_(closep) int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, data, sizeof(data));

    if (n != (ssize_t)size)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (data[i] != byte_at(i, version))
            return false;
    }
    return true;
}

static bool here(const char *name)
{
    return access(path_of(name), F_OK) == 0;
}

static const char *part_name(const char *name)
{
    static char text[128];

    snprintf(text, sizeof(text), "%s.part", name);
    return text;
}

static void assert_complete(const struct run *run, const char *name, int version)
{
    struct stat st;

    if (run->status != 0)
        fail_msg("%s: %s", run->name, run->message);
    assert_string_equal(run->event, "done");
    assert_string_equal(run->sha256, sha256[version]);
    assert_true(file_is(path_of(name), version, FILE_BYTES));
    assert_int_equal(run->last_done, FILE_BYTES);
    assert_false(here(part_name(name)));
    assert_int_equal(stat(path_of(name), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void assert_failed(const struct run *run, const char *error, const char *words)
{
    assert_int_equal(run->status, 1);
    assert_string_equal(run->event, "error");
    assert_string_equal(run->name, error);
    if (!strstr(run->message, words))
        fail_msg("'%s' does not say '%s'", run->message, words);
}

/* What the server was asked for, since the last look. */
static const char *requests(void)
{
    static char text[8192];
    static long offset;
    FILE *log = fopen(path_of("requests"), "r");
    size_t n = 0;

    if (log) {
        fseek(log, offset, SEEK_SET);
        n = fread(text, 1, sizeof(text) - 1, log);
        offset += (long)n;
        fclose(log);
    }
    text[n] = '\0';
    return text;
}

/* --- tests ---------------------------------------------------------------------------------- */

static void test_a_file_arrives_whole_and_private(void **state)
{
    struct run run;

    (void)state;
    fetch(&run, "file.gguf", with_sha256(0));
    assert_complete(&run, "file.gguf", 0);
    assert_false(here("file.gguf.part.json"));
}

static void test_its_hash_is_kept_in_the_form_of_sha256sum(void **state)
{
    char line[256] = "", expected[256];
    struct run run;
    FILE *file;

    (void)state;
    fetch(&run, "file.gguf", "");
    assert_complete(&run, "file.gguf", 0);
    file = fopen(path_of("file.gguf.sha256"), "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof(line), file));
    fclose(file);
    snprintf(expected, sizeof(expected), "%s  file.gguf\n", sha256[0]);
    assert_string_equal(line, expected);
}

static void test_a_server_without_ranges_or_tags_is_enough(void **state)
{
    struct run run;

    (void)state;
    fetch(&run, "plain.gguf", "");
    assert_complete(&run, "plain.gguf", 0);
}

static void test_missing_folders_are_made_for_the_user_alone(void **state)
{
    char request[512];
    struct stat st;
    struct run run;

    (void)state;
    snprintf(request, sizeof(request),
             "{\"verb\":\"download\",\"url\":\"http://127.0.0.1:%d/file.gguf\",\"path\":\"%s\"}",
             port, path_of("new/models/file.gguf"));
    run_request(&run, request);
    assert_int_equal(run.status, 0);
    assert_int_equal(stat(path_of("new/models"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static void test_a_broken_connection_is_taken_up_where_it_ended(void **state)
{
    struct run run;

    (void)state;
    requests();
    fetch(&run, "cut.gguf", with_sha256(0));
    assert_complete(&run, "cut.gguf", 0);
    assert_string_equal(requests(), "/cut.gguf - -\n"
                                    "/cut.gguf bytes=1048576- \"v0\"\n"
                                    "/cut.gguf bytes=2097152- \"v0\"\n");
}

static void test_the_next_run_goes_on_from_the_part_file(void **state)
{
    struct run run;

    (void)state;
    fetch(&run, "cut-linked.gguf", ",\"retries\":0");
    assert_failed(&run, "DownloadFailed", "ended after 1048576 of 3145728 bytes");
    assert_true(file_is(path_of("cut-linked.gguf.part"), 0, CUT));
    assert_false(here("cut-linked.gguf"));

    requests();
    fetch(&run, "cut-linked.gguf", ",\"retries\":1");
    assert_complete(&run, "cut-linked.gguf", 0);
    assert_int_equal(strncmp(requests(), "/cut-linked.gguf bytes=1048576- ", 32), 0);
}

static void test_a_damaged_part_file_is_found_by_the_hash(void **state)
{
    struct run run;
    int fd;

    (void)state;
    unlink(path_of("cut-linked.gguf"));
    fetch(&run, "cut-linked.gguf", ",\"retries\":0");
    assert_int_equal(run.status, 1);
    fd = open(path_of("cut-linked.gguf.part"), O_WRONLY);
    assert_int_equal(pwrite(fd, "X", 1, 5), 1);
    close(fd);
    fetch(&run, "cut-linked.gguf", "");
    assert_failed(&run, "DownloadFailed", "arrived damaged");
    assert_false(here("cut-linked.gguf"));
    assert_false(here("cut-linked.gguf.part"));
    fetch(&run, "cut-linked.gguf", "");
    assert_complete(&run, "cut-linked.gguf", 0);
}

static void test_a_file_that_changed_meanwhile_begins_again(void **state)
{
    struct run run;

    (void)state;
    fetch(&run, "changed.gguf", "");
    assert_complete(&run, "changed.gguf", 1);
}

static void test_without_a_tag_the_file_begins_again_and_progress_waits(void **state)
{
    struct run run;

    (void)state;
    fetch(&run, "plain-cut-once.gguf", "");
    assert_complete(&run, "plain-cut-once.gguf", 0);
    assert_true(run.started_at > 0); /* the figure does not fall back */
}

static void test_an_answer_with_another_range_is_not_used(void **state)
{
    struct run run;

    (void)state;
    fetch(&run, "wrong-range.gguf", "");
    assert_complete(&run, "wrong-range.gguf", 0);
}

static void test_a_part_file_that_is_complete_needs_no_server(void **state)
{
    char note[512];
    FILE *file;
    struct run run;

    (void)state;
    file = fopen(path_of("complete.gguf.part"), "w");
    for (size_t i = 0; i < FILE_BYTES; i++)
        fputc(byte_at(i, 0), file);
    fclose(file);
    snprintf(note, sizeof(note),
             "{\"url\":\"http://127.0.0.1:%d/complete.gguf\",\"etag\":\"\",\"sha256\":\"%s\","
             "\"total\":%zu}",
             port, sha256[0], FILE_BYTES);
    file = fopen(path_of("complete.gguf.part.json"), "w");
    fputs(note, file);
    fclose(file);
    requests();
    fetch(&run, "complete.gguf", "");
    assert_int_equal(run.status, 0);
    assert_true(file_is(path_of("complete.gguf"), 0, FILE_BYTES));
    assert_string_equal(requests(), "");
}

static void test_a_part_file_with_a_senseless_note_begins_again(void **state)
{
    static const char *const notes[] = {"", "{", "[]", "{\"total\":-1,\"url\":7}", "{\"etag\":[]}"};
    struct run run;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(notes); i++) {
        FILE *file = fopen(path_of("file.gguf.part"), "w");

        fputs("old bytes", file);
        fclose(file);
        file = fopen(path_of("file.gguf.part.json"), "w");
        fputs(notes[i], file);
        fclose(file);
        fetch(&run, "file.gguf", "");
        assert_complete(&run, "file.gguf", 0);
        unlink(path_of("file.gguf"));
    }
}

static void test_a_wrong_hash_leaves_no_file(void **state)
{
    struct run run;

    (void)state;
    unlink(path_of("file.gguf"));
    fetch(&run, "file.gguf", with_sha256(1));
    assert_failed(&run, "DownloadFailed", "arrived damaged");
    assert_false(here("file.gguf"));
    assert_false(here("file.gguf.part"));
}

static void test_a_hub_announces_hash_and_size_before_the_redirect(void **state)
{
    struct run run;

    (void)state;
    fetch(&run, "hub.gguf", "");
    assert_complete(&run, "hub.gguf", 0);

    fetch(&run, "hub-wrong.gguf", "");
    assert_failed(&run, "DownloadFailed", "arrived damaged");
    fetch(&run, "hub-wrong.gguf", with_sha256(0));
    assert_failed(&run, "DownloadFailed", "the publisher has replaced the file");
    fetch(&run, "hub-wrong-size.gguf", "");
    assert_failed(&run, "DownloadFailed", "announced 12");
}

static void test_redirects_to_other_places_are_refused(void **state)
{
    struct run run;

    (void)state;
    fetch(&run, "to-network.gguf", "");
    assert_failed(&run, "NotAllowed", "which is not https");
    fetch(&run, "to-other-host.gguf", "");
    assert_failed(&run, "NotAllowed", "which is not https");
    fetch(&run, "to-disk.gguf", "");
    assert_int_equal(run.status, 1);
    assert_false(here("to-disk.gguf"));
    fetch(&run, "circle.gguf", "");
    assert_failed(&run, "DownloadFailed", "redirects without end");
}

static void test_a_server_that_lies_about_the_length_is_found_out(void **state)
{
    struct run run;

    (void)state;
    fetch(&run, "liar.gguf", ",\"retries\":0");
    assert_failed(&run, "DownloadFailed", "ended after 3145728 of 6291456 bytes");
    assert_false(here("liar.gguf"));
    fetch(&run, "file.gguf", ",\"size\":3145727");
    assert_failed(&run, "DownloadFailed", "the registry expects 3145727");
    fetch(&run, "unsaid.gguf", "");
    assert_failed(&run, "DownloadFailed", "does not say how large");
    fetch(&run, "unsaid.gguf", ",\"size\":3145728");
    assert_complete(&run, "unsaid.gguf", 0);
    fetch(&run, "unsaid.gguf", ",\"size\":3145727");
    assert_failed(&run, "DownloadFailed", "sends more than the 3145727 bytes");
    fetch(&run, "headers.gguf", "");
    assert_failed(&run, "DownloadFailed", "headers without end");
    fetch(&run, "continue.gguf", "");
    assert_failed(&run, "DownloadFailed", "headers without end");
    fetch(&run, "gzip.gguf", "");
    assert_failed(&run, "DownloadFailed", "compressed");
    assert_false(here("gzip.gguf"));
}

static void test_too_little_room_is_said_with_the_figures_before_the_transfer(void **state)
{
    struct run run;

    (void)state;
    fetch(&run, "huge.gguf", "");
    assert_failed(&run, "NoSpace", "huge.gguf needs 1125899906.8 MB more");
    assert_non_null(strstr(run.message, "MB free"));
    assert_false(here("huge.gguf"));
}

static void test_a_disk_that_fills_up_keeps_the_part(void **state)
{
    struct run run = {0};
    int out;
    pid_t pid = helper_start(request_for("file.gguf", ""), &out, CUT);

    (void)state;
    unlink(path_of("file.gguf"));
    helper_finish(&run, pid, out);
    assert_failed(&run, "NoSpace", "cannot be written after 1.0 of 3.1 MB");
    assert_true(file_is(path_of("file.gguf.part"), 0, CUT));
    requests();
    fetch(&run, "file.gguf", "");
    assert_complete(&run, "file.gguf", 0);
    assert_string_equal(requests(), "/file.gguf bytes=1048576- \"v0\"\n");
}

static void test_status_codes_become_sentences(void **state)
{
    struct run run;

    (void)state;
    fetch(&run, "absent.gguf", "");
    assert_failed(&run, "DownloadFailed", "has no file absent.gguf");
    fetch(&run, "private.gguf", "");
    assert_failed(&run, "NotAllowed", "refuses to give out private.gguf (status 403)");
    fetch(&run, "busy-once.gguf", ",\"retries\":0");
    assert_failed(&run, "DownloadFailed", "status 503");
    fetch(&run, "busy-once.gguf", "");
    assert_complete(&run, "busy-once.gguf", 0);
}

static void test_standing_still_ends_the_attempt(void **state)
{
    struct run run;

    (void)state;
    fetch(&run, "stall.gguf", ",\"stall_seconds\":1,\"retries\":0");
    assert_failed(&run, "Timeout", "sent nothing for 1 seconds; 1.0 MB of stall.gguf are here");
    assert_true(file_is(path_of("stall.gguf.part"), 0, CUT));
}

static void test_nobody_listening_is_said_at_once(void **state)
{
    char request[512];
    struct run run;

    (void)state;
    snprintf(request, sizeof(request),
             "{\"verb\":\"download\",\"url\":\"http://127.0.0.1:1/a.gguf\",\"path\":\"%s\"}",
             path_of("a.gguf"));
    run_request(&run, request);
    assert_failed(&run, "DownloadFailed", "cannot be reached");
}

/* Wait until the helper has said something that holds `word`. */
static void wait_for(struct run *run, int out, const char *word)
{
    size_t length = strlen(run->said);

    while (!strstr(run->said, word)) {
        ssize_t n = read(out, run->said + length, sizeof(run->said) - 1 - length);

        assert_true(n > 0);
        length += (size_t)n;
        run->said[length] = '\0';
    }
}

static void test_a_stopped_download_goes_on_later(void **state)
{
    struct run run = {0};
    struct stat st;
    pid_t pid;
    int out;

    (void)state;
    pid = helper_start(request_for("slow.gguf", ""), &out, 0);
    wait_for(&run, out, "progress");
    kill(pid, SIGTERM);
    helper_finish(&run, pid, out);
    assert_failed(&run, "Cancelled", "the next one goes on from there");
    assert_int_equal(stat(path_of("slow.gguf.part"), &st), 0);
    assert_true(st.st_size > 0 && (size_t)st.st_size < FILE_BYTES);
    fetch(&run, "slow.gguf", "");
    assert_complete(&run, "slow.gguf", 0);
}

static void test_two_helpers_do_not_write_one_file(void **state)
{
    struct run first = {0}, second;
    pid_t pid;
    int out;

    (void)state;
    unlink(path_of("slow.gguf"));
    pid = helper_start(request_for("slow.gguf", ""), &out, 0);
    wait_for(&first, out, "start");
    fetch(&second, "slow.gguf", "");
    assert_failed(&second, "Busy", "Another process is downloading slow.gguf");
    helper_finish(&first, pid, out);
    assert_complete(&first, "slow.gguf", 0);
}

static void test_a_reader_that_leaves_ends_the_helper(void **state)
{
    int out, status;
    struct run run = {0};
    pid_t pid;

    (void)state;
    unlink(path_of("slow.gguf"));
    pid = helper_start(request_for("slow.gguf", ""), &out, 0);
    wait_for(&run, out, "start");
    close(out);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    assert_false(here("slow.gguf"));
}

static void test_a_link_in_place_of_the_part_file_is_not_followed(void **state)
{
    struct run run;

    (void)state;
    assert_int_equal(symlink(path_of("victim"), path_of("hub.gguf.part")), 0);
    fetch(&run, "hub.gguf", "");
    assert_failed(&run, "Io", "cannot be opened");
    assert_false(here("victim"));
    unlink(path_of("hub.gguf.part"));
}

static void test_verify_tells_an_intact_file_from_a_changed_one(void **state)
{
    char request[512];
    struct run run;
    int fd;

    (void)state;
    fetch(&run, "file.gguf", "");
    snprintf(request, sizeof(request), "{\"verb\":\"verify\",\"path\":\"%s\",\"sha256\":\"%s\"}",
             path_of("file.gguf"), sha256[0]);
    run_request(&run, request);
    assert_int_equal(run.status, 0);
    assert_true(run.intact);
    fd = open(path_of("file.gguf"), O_WRONLY);
    assert_int_equal(pwrite(fd, "X", 1, 12345), 1);
    close(fd);
    run_request(&run, request);
    assert_int_equal(run.status, 0);
    assert_string_equal(run.event, "done");
    assert_false(run.intact);
    snprintf(request, sizeof(request), "{\"verb\":\"verify\",\"path\":\"%s\"}",
             path_of("nowhere.gguf"));
    run_request(&run, request);
    assert_failed(&run, "Io", "cannot be opened");
}

static void test_requests_that_make_no_sense_end_with_status_2(void **state)
{
    static const char *const table[] = {
        "",
        "[]",
        "{}",
        "{\"verb\":\"download\"}",
        "{\"verb\":\"download\",\"url\":\"https://a/b\"}",
        "{\"verb\":\"remove\",\"path\":\"/a\"}",
        "{\"verb\":\"verify\",\"path\":\"/a\",\"colour\":1}",
        "{\"verb\":\"verify\",\"path\":7}",
        "{\"verb\":\"verify\",\"path\":\"/a\",\"sha256\":\"12\"}",
        "{\"verb\":\"verify\",\"path\":\"/a\",\"size\":-1}",
        "{\"verb\":\"verify\",\"path\":\"/a\",\"retries\":1e9}",
        "{\"verb\":\"verify\",\"path\":\"/a\\u0000b\"}",
        "{\"verb\":\"verify\",\"path\":\"/a\"} more",
        "{\"verb\":{\"a\":{\"b\":{\"c\":{\"d\":1}}}}}",
    };
    struct run run;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        run_request(&run, table[i]);
        if (run.status != 2 || strcmp(run.name, "InvalidArgument") != 0)
            fail_msg("%s: status %d, %s", table[i], run.status, run.message);
    }
    run_request(&run, "{\"verb\":\"download\",\"url\":\"https://a/b\",\"path\":\"relative\"}");
    assert_failed(&run, "InvalidArgument", "not the absolute path");
    run_request(&run, "{\"verb\":\"download\",\"url\":\"http://a.example/b\",\"path\":\"/b\"}");
    assert_failed(&run, "NotAllowed", "is not https");
}

/* --- set-up --------------------------------------------------------------------------------- */

static int set_up(void **state)
{
    static uint8_t data[FILE_BYTES];
    char line[32] = "";
    int out[2];

    (void)state;
    if (!mkdtemp(scratch) || pipe2(out, O_CLOEXEC) < 0)
        return -1;
    for (int version = 0; version < 2; version++) {
        for (size_t i = 0; i < FILE_BYTES; i++)
            data[i] = byte_at(i, version);
        SHA256Data(data, FILE_BYTES, sha256[version]);
    }
    server = fork();
    if (server == 0) {
        dup2(out[1], 1);
        execlp("python3", "python3", getenv("LFMD_SERVER"), path_of("requests"), (char *)NULL);
        _exit(99);
    }
    close(out[1]);
    if (read(out[0], line, sizeof(line) - 1) <= 0)
        return -1;
    port = atoi(line);
    return port > 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    char command[64];

    (void)state;
    kill(server, SIGTERM);
    waitpid(server, NULL, 0);
    snprintf(command, sizeof(command), "rm -rf %s", scratch);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_arrives_whole_and_private),
        cmocka_unit_test(test_its_hash_is_kept_in_the_form_of_sha256sum),
        cmocka_unit_test(test_a_server_without_ranges_or_tags_is_enough),
        cmocka_unit_test(test_missing_folders_are_made_for_the_user_alone),
        cmocka_unit_test(test_a_broken_connection_is_taken_up_where_it_ended),
        cmocka_unit_test(test_the_next_run_goes_on_from_the_part_file),
        cmocka_unit_test(test_a_damaged_part_file_is_found_by_the_hash),
        cmocka_unit_test(test_a_file_that_changed_meanwhile_begins_again),
        cmocka_unit_test(test_without_a_tag_the_file_begins_again_and_progress_waits),
        cmocka_unit_test(test_an_answer_with_another_range_is_not_used),
        cmocka_unit_test(test_a_part_file_that_is_complete_needs_no_server),
        cmocka_unit_test(test_a_part_file_with_a_senseless_note_begins_again),
        cmocka_unit_test(test_a_wrong_hash_leaves_no_file),
        cmocka_unit_test(test_a_hub_announces_hash_and_size_before_the_redirect),
        cmocka_unit_test(test_redirects_to_other_places_are_refused),
        cmocka_unit_test(test_a_server_that_lies_about_the_length_is_found_out),
        cmocka_unit_test(test_too_little_room_is_said_with_the_figures_before_the_transfer),
        cmocka_unit_test(test_a_disk_that_fills_up_keeps_the_part),
        cmocka_unit_test(test_status_codes_become_sentences),
        cmocka_unit_test(test_standing_still_ends_the_attempt),
        cmocka_unit_test(test_nobody_listening_is_said_at_once),
        cmocka_unit_test(test_a_stopped_download_goes_on_later),
        cmocka_unit_test(test_two_helpers_do_not_write_one_file),
        cmocka_unit_test(test_a_reader_that_leaves_ends_the_helper),
        cmocka_unit_test(test_a_link_in_place_of_the_part_file_is_not_followed),
        cmocka_unit_test(test_verify_tells_an_intact_file_from_a_changed_one),
        cmocka_unit_test(test_requests_that_make_no_sense_end_with_status_2),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
