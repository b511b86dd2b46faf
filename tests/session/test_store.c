/* SPDX-License-Identifier: MIT */

/*
 * The store of kept sessions: what was reported as written is there, whatever happens to the
 * process or the disk.
 *
 * A child process writes turns and reports each through a pipe after store_put() has returned; it
 * is killed at random moments (seeded), and everything that came through the pipe must be in the
 * database. A full disk is made by RLIMIT_FSIZE.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "session/json.h"
#include "session/store.h"
#include "tests/session/scratch.h"

static char directory[64];
static char database[128];
static const atomic_bool open_session;
static const atomic_bool closed_session = true;
static unsigned n_warnings;

static void count_warnings(int priority, const struct log_fields *fields, const char *text)
{
    (void)fields;
    (void)text;
    n_warnings += priority <= LOG_WARNING;
}

static int setup(void **state)
{
    (void)state;
    scratch_make(directory);
    snprintf(database, sizeof(database), "%s/state/lfmd/sessions.db", directory);
    n_warnings = 0;
    log_setup(count_warnings, LOG_DEBUG);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    scratch_remove(directory);
    return 0;
}

static struct store *open_store(void)
{
    struct error err = ERROR_INIT;
    char path[96];
    struct store *store;

    snprintf(path, sizeof(path), "%s/state/lfmd", directory);
    store = store_new(path, &err);
    assert_non_null(store);
    return store;
}

static void name_session(char id[STORE_ID_LENGTH + 1], unsigned number)
{
    snprintf(id, STORE_ID_LENGTH + 1, "%032x", number);
}

static int put_padded(struct store *store, unsigned session, uint32_t turn, size_t n_padding,
                      const atomic_bool *closed, struct error *err)
{
    struct kept_session kept = {
        .title = (char *)"what a day",
        .model = (char *)"tiny",
        .system = (char *)"Be \"brief\".",
        .n_context = 4096,
        .keep_alive_sec = INT64_MIN,
        .n_dropped = turn / 10,
        .n_tokens = 7 * turn,
        .last_turn = turn,
        .created_usec = 1000000,
    };
    struct kept_turn row = {.number = turn, .reason = "stop", .usage = "{}"};
    struct json_object *messages = json_object_new_array();
    _cleanup_(freep) char *messages_text = NULL;
    struct json_object *message = json_object_new_object();
    _cleanup_(freep) char *text = malloc(n_padding + 32);
    int result;

    name_session(kept.id, session);
    memset(text, 'x', n_padding);
    snprintf(text + n_padding, 32, "question %u", turn);
    json_object_object_add(message, "role", json_object_new_string("user"));
    json_object_object_add(message, "content", json_object_new_string(text));
    json_object_array_add(messages, message);
    row.messages = messages_text = json_write(messages);
    json_object_put(messages);
    result = store_put(store, &kept, &row, closed, err);
    return result;
}

static int put(struct store *store, unsigned session, uint32_t turn)
{
    struct error err = ERROR_INIT;

    return put_padded(store, session, turn, 0, &open_session, &err);
}

static size_t count_turns(struct store *store, unsigned session)
{
    struct error err = ERROR_INIT;
    struct kept_session kept;
    char id[STORE_ID_LENGTH + 1];
    size_t n;

    name_session(id, session);
    if (store_get(store, id, &kept, &err) < 0) {
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
        return 0;
    }
    n = json_object_array_length(kept.messages);
    for (size_t i = 0; i < n; i++) {
        char expected[32];
        const char *text = json_member_text(json_object_array_get_idx(kept.messages, i), "content");

        snprintf(expected, sizeof(expected), "question %zu", i + 1);
        assert_string_equal(text + strspn(text, "x"), expected);
    }
    assert_int_equal(kept.last_turn, n);
    kept_session_done(&kept);
    return n;
}

static void test_a_session_comes_back_as_it_was(void **state)
{
    struct error err = ERROR_INIT;
    struct store *store = open_store();
    struct kept_session kept;
    char id[STORE_ID_LENGTH + 1];
    _cleanup_(json_putp) struct json_object *list = NULL;

    (void)state;
    for (uint32_t turn = 1; turn <= 25; turn++)
        assert_int_equal(put(store, 1, turn), 0);
    assert_int_equal(put(store, 2, 1), 0);
    store_free(store);

    store = open_store();
    name_session(id, 1);
    assert_int_equal(store_get(store, id, &kept, &err), 0);
    assert_string_equal(kept.id, id);
    assert_string_equal(kept.title, "what a day");
    assert_string_equal(kept.model, "tiny");
    assert_string_equal(kept.system, "Be \"brief\".");
    assert_null(kept.tools);
    assert_int_equal(kept.n_context, 4096);
    assert_int_equal(kept.keep_alive_sec, INT64_MIN);
    assert_int_equal(kept.n_dropped, 2);
    assert_int_equal(kept.n_tokens, 175);
    assert_int_equal(kept.last_turn, 25);
    assert_int_equal(kept.created_usec, 1000000);
    kept_session_done(&kept);
    assert_int_equal(count_turns(store, 1), 25);

    list = store_list(store, &err);
    assert_int_equal(json_object_array_length(list), 2);
    name_session(id, 2);
    assert_string_equal(json_member_text(json_object_array_get_idx(list, 0), "id"), id);
    store_free(store);
}

static void test_nothing_is_created_by_looking(void **state)
{
    struct error err = ERROR_INIT;
    struct store *store = open_store();
    struct json_object *list = store_list(store, &err);

    (void)state;
    assert_int_equal(json_object_array_length(list), 0);
    json_object_put(list);
    assert_int_equal(count_turns(store, 1), 0);
    assert_int_equal(access(database, F_OK), -1);
    store_free(store);
}

static void test_files_are_private_under_any_umask(void **state)
{
    const mode_t mask = umask(0);
    struct store *store = open_store();
    struct stat status;
    char path[160];

    (void)state;
    assert_int_equal(put(store, 1, 1), 0);
    umask(mask);
    assert_int_equal(stat(database, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    snprintf(path, sizeof(path), "%s-wal", database);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    snprintf(path, sizeof(path), "%s/state/lfmd", directory);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
    store_free(store);
}

static void test_a_closed_session_is_not_written(void **state)
{
    struct store *store = open_store();

    (void)state;
    assert_int_equal(put(store, 1, 1), 0);
    assert_int_equal(put_padded(store, 1, 2, 0, &closed_session, NULL), -ECANCELED);
    assert_int_equal(count_turns(store, 1), 1);
    store_free(store);
}

static bool file_holds(const char *path, const char *text)
{
    const size_t length = strlen(text);
    FILE *file = fopen(path, "rb");
    struct stat status;
    char *bytes;
    bool found;

    if (!file)
        return false;
    assert_int_equal(fstat(fileno(file), &status), 0);
    bytes = malloc((size_t)status.st_size + 1);
    assert_int_equal(fread(bytes, 1, (size_t)status.st_size, file), status.st_size);
    fclose(file);
    found = memmem(bytes, (size_t)status.st_size, text, length) != NULL;
    free(bytes);
    return found;
}

static void test_forgotten_text_is_gone_from_the_files(void **state)
{
    struct error err = ERROR_INIT;
    struct store *store = open_store();
    char id[STORE_ID_LENGTH + 1], log[160];

    (void)state;
    snprintf(log, sizeof(log), "%s-wal", database);
    assert_int_equal(put(store, 1, 1), 0);
    assert_int_equal(put(store, 2, 1), 0);
    assert_int_equal(put(store, 2, 2), 0);
    assert_true(file_holds(log, "question 2") || file_holds(database, "question 2"));
    name_session(id, 2);
    assert_int_equal(store_forget(store, id, &err), 0);
    assert_false(file_holds(log, "question 2"));
    assert_false(file_holds(database, "question 2"));
    assert_int_equal(store_forget(store, id, &err), -EINVAL);
    assert_int_equal(count_turns(store, 2), 0);
    assert_int_equal(count_turns(store, 1), 1);
    store_free(store);
}

static void test_unknown_ids_are_refused(void **state)
{
    static const char *const ids[] = {"",
                                      "1",
                                      "no such session",
                                      "ffffffffffffffffffffffffffffffff",
                                      "' OR 1; --",
                                      "fffffffffffffffffffffffffffffffffffffffff"};
    struct store *store = open_store();

    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
            struct error err = ERROR_INIT;
            struct kept_session kept;

            assert_int_equal(store_get(store, ids[i], &kept, &err), -EINVAL);
            assert_int_equal(store_forget(store, ids[i], NULL), -EINVAL);
        }
        assert_int_equal(put(store, 1, 1 + round), 0);
    }
    store_free(store);
}

/* --- damage ---------------------------------------------------------------------------------- */

static size_t count_damaged(void)
{
    char pattern[160];
    glob_t found;
    size_t n;

    snprintf(pattern, sizeof(pattern), "%s.damaged-*", database);
    n = glob(pattern, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
    globfree(&found);
    return n;
}

static void write_over(off_t offset, size_t n, unsigned char byte)
{
    const int fd = open(database, O_WRONLY);

    assert_true(fd >= 0);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(pwrite(fd, &byte, 1, offset + (off_t)i), 1);
    close(fd);
}

static void test_a_damaged_database_is_moved_aside(void **state)
{
    static const struct {
        off_t offset;
        size_t n;
    } cases[] = {{0, 16}, {0, 4096}, {4096, 4096}, {4096, 8}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct store *store = open_store();

        for (uint32_t turn = 1; turn <= 40; turn++)
            assert_int_equal(put_padded(store, 1, turn, 500, &open_session, NULL), 0);
        store_free(store);
        write_over(cases[i].offset, cases[i].n, 0xa5);

        n_warnings = 0;
        store = open_store();
        assert_int_equal(count_turns(store, 1), 0);
        assert_int_equal(n_warnings, 1);
        assert_int_equal(count_damaged(), 1);
        assert_int_equal(put(store, 1, 1), 0);
        assert_int_equal(count_turns(store, 1), 1);
        store_free(store);
        teardown(NULL);
        setup(NULL);
    }
}

static void execute(const char *sql)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(database, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void test_a_foreign_database_is_moved_aside(void **state)
{
    static const char *const changes[] = {"DROP TABLE turns", "PRAGMA user_version = 0",
                                          "ALTER TABLE sessions RENAME COLUMN title TO name"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        struct store *store = open_store();

        assert_int_equal(put(store, 1, 1), 0);
        store_free(store);
        execute(changes[i]);
        store = open_store();
        assert_int_equal(count_turns(store, 1), 0);
        assert_int_equal(count_damaged(), 1);
        store_free(store);
        teardown(NULL);
        setup(NULL);
    }
}

static void test_a_later_version_is_refused_and_left_alone(void **state)
{
    struct error err = ERROR_INIT;
    struct store *store = open_store();

    (void)state;
    assert_int_equal(put(store, 1, 1), 0);
    store_free(store);
    execute("PRAGMA user_version = 99");
    store = open_store();
    assert_null(store_list(store, &err));
    assert_int_equal(err.code, ERROR_UNSUPPORTED_FORMAT);
    assert_non_null(strstr(err.text, "99"));
    assert_true(put(store, 1, 2) < 0);
    assert_int_equal(count_damaged(), 0);
    execute("PRAGMA user_version = 2");
    assert_int_equal(count_turns(store, 1), 1);
    store_free(store);
}

static void test_a_database_that_was_removed_is_begun_anew(void **state)
{
    struct store *store = open_store();
    char path[160];

    (void)state;
    assert_int_equal(put(store, 1, 1), 0);
    assert_int_equal(unlink(database), 0);
    snprintf(path, sizeof(path), "%s-wal", database);
    unlink(path);
    snprintf(path, sizeof(path), "%s-shm", database);
    unlink(path);
    assert_int_equal(put(store, 2, 1), 0);
    store_free(store);
    store = open_store();
    assert_int_equal(count_turns(store, 2), 1);
    store_free(store);
}

/* --- full disk ------------------------------------------------------------------------------- */

static void limit_file_size(rlim_t limit)
{
    struct rlimit now;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &now), 0);
    now.rlim_cur = limit;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &now), 0);
}

static void test_a_full_disk_is_an_error_and_loses_nothing(void **state)
{
    struct store *store = open_store();
    uint32_t n = 0;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(put(store, 1, ++n), 0);
    for (rlim_t limit = 100000; limit <= 400000; limit += 50000) {
        struct error err = ERROR_INIT;
        int result;

        limit_file_size(limit);
        do
            result = put_padded(store, 1, n + 1, 5000, &open_session, &err);
        while (result == 0 && ++n < 1000);
        assert_int_equal(err.code, ERROR_NO_SPACE);
        assert_int_equal(result, -ENOSPC);
        assert_int_equal(count_turns(store, 1), n);
    }
    limit_file_size(RLIM_INFINITY);
    assert_int_equal(put(store, 1, ++n), 0);
    store_free(store);
    store = open_store();
    assert_int_equal(count_turns(store, 1), n);
    assert_int_equal(count_damaged(), 0);
    store_free(store);
}

static void test_a_directory_that_cannot_be_made_is_an_error(void **state)
{
    struct error err = ERROR_INIT;
    struct store *store = open_store();
    char path[96];

    (void)state;
    snprintf(path, sizeof(path), "%s/state", directory);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_true(put_padded(store, 1, 1, 0, &open_session, &err) < 0);
    assert_int_equal(err.code, ERROR_IO);
    assert_non_null(strstr(err.text, path));
    store_free(store);
}

/* --- the kill loop --------------------------------------------------------------------------- */

#define KILL_ROUNDS   30
#define KILL_SESSIONS 3

static void write_until_killed(int report, unsigned seed)
{
    struct store *store = open_store();
    uint32_t next[KILL_SESSIONS];

    for (unsigned s = 0; s < KILL_SESSIONS; s++)
        next[s] = (uint32_t)count_turns(store, s) + 1;
    for (;;) {
        const unsigned s = (unsigned)rand_r(&seed) % KILL_SESSIONS;
        const size_t n_padding = (size_t)rand_r(&seed) % 3000;

        if (put_padded(store, s, next[s], n_padding, &open_session, NULL) < 0 ||
            write(report, &s, sizeof(s)) != sizeof(s))
            _exit(1);
        next[s]++;
    }
}

static void test_kill_at_random_moments_loses_no_reported_turn(void **state)
{
    size_t reported[KILL_SESSIONS] = {0};

    (void)state;
    for (unsigned round = 0; round < KILL_ROUNDS; round++) {
        const unsigned seed = random_below(1u << 30);
        size_t n_awaited = random_below(6);
        int pipes[2], status;
        unsigned session;
        pid_t child;
        struct store *store;

        assert_int_equal(pipe(pipes), 0);
        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            close(pipes[0]);
            write_until_killed(pipes[1], seed);
        }
        close(pipes[1]);
        for (; n_awaited && read(pipes[0], &session, sizeof(session)) > 0; n_awaited--)
            reported[session]++;
        usleep(random_below(10000));
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        while (read(pipes[0], &session, sizeof(session)) == sizeof(session))
            reported[session]++;
        close(pipes[0]);
        assert_int_equal(n_awaited, 0);

        store = open_store();
        for (unsigned s = 0; s < KILL_SESSIONS; s++) {
            const size_t n = count_turns(store, s);

            /* The one that was being reported may be there too. */
            assert_in_range(n, reported[s], reported[s] + 1);
            reported[s] = n;
        }
        store_free(store);
    }
    assert_int_equal(count_damaged(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_session_comes_back_as_it_was, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_is_created_by_looking, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files_are_private_under_any_umask, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_closed_session_is_not_written, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forgotten_text_is_gone_from_the_files, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_unknown_ids_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_damaged_database_is_moved_aside, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_foreign_database_is_moved_aside, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_later_version_is_refused_and_left_alone, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_database_that_was_removed_is_begun_anew, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_full_disk_is_an_error_and_loses_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_directory_that_cannot_be_made_is_an_error, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_kill_at_random_moments_loses_no_reported_turn, setup,
                                        teardown),
    };

    return cmocka_run_group_tests_name("session/store", tests, NULL, NULL);
}
