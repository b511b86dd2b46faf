/* SPDX-License-Identifier: MIT */
#include "session/store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "session/json.h"

#define STORE_VERSION      2
#define STORE_TIMEOUT_MSEC 5000 /* for another process that holds the file */

struct store {
    pthread_mutex_t lock;
    char *directory, *path;
    /* protected by lock */
    sqlite3 *db;  /* NULL: not open */
    dev_t device; /* of the open file: it may be removed under us */
    ino_t inode;
};

/* migrations[v] brings a database from version v to v + 1. */
static const char *const migrations[STORE_VERSION] = {
    "CREATE TABLE sessions ("
    "  id TEXT NOT NULL PRIMARY KEY,"
    "  title TEXT NOT NULL,"
    "  model TEXT NOT NULL,"
    "  system TEXT,"
    "  tools TEXT,"
    "  sampling TEXT,"
    "  context INTEGER NOT NULL,"
    "  background INTEGER NOT NULL,"
    "  keep_alive INTEGER NOT NULL,"
    "  dropped INTEGER NOT NULL,"
    "  tokens INTEGER NOT NULL,"
    "  created INTEGER NOT NULL,"
    "  used INTEGER NOT NULL"
    ") STRICT;"
    "CREATE TABLE turns ("
    "  session TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,"
    "  turn INTEGER NOT NULL,"
    "  reason TEXT NOT NULL,"
    "  usage TEXT NOT NULL,"
    "  messages TEXT NOT NULL,"
    "  created INTEGER NOT NULL,"
    "  PRIMARY KEY (session, turn)"
    ") STRICT;",
    "ALTER TABLE sessions ADD COLUMN image TEXT;"
    "CREATE TABLE images ("
    "  session TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,"
    "  id TEXT NOT NULL,"
    "  bytes BLOB NOT NULL,"
    "  PRIMARY KEY (session, id)"
    ") STRICT;"
    "CREATE INDEX images_by_id ON images (id);",
};

static const char put_session_sql[] =
    "INSERT INTO sessions (id, title, model, system, tools, sampling, context, background,"
    " keep_alive, dropped, tokens, created, used, image)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
    " ON CONFLICT (id) DO UPDATE SET dropped = ?10, tokens = ?11, used = ?13";
static const char put_turn_sql[] =
    "INSERT INTO turns (session, turn, reason, usage, messages, created)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
static const char put_image_sql[] =
    "INSERT OR IGNORE INTO images (session, id, bytes) VALUES (?1, ?2, ?3)";
static const char get_image_sql[] = "SELECT bytes FROM images WHERE id = ?1 LIMIT 1";
static const char get_session_sql[] =
    "SELECT title, model, system, tools, sampling, context, background, keep_alive, dropped,"
    " tokens, created, (SELECT coalesce(max(turn), 0) FROM turns WHERE session = id), image"
    " FROM sessions WHERE id = ?1";
static const char get_turns_sql[] = "SELECT messages FROM turns WHERE session = ?1 ORDER BY turn";
static const char list_sql[] =
    "SELECT id, title, model, (SELECT count(*) FROM turns WHERE session = id), created, used"
    " FROM sessions ORDER BY used DESC, id";
static const char forget_sql[] = "DELETE FROM sessions WHERE id = ?1";

static int64_t now_usec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void unlockp(pthread_mutex_t **lock)
{
    pthread_mutex_unlock(*lock);
}

static void finalizep(sqlite3_stmt **statement)
{
    sqlite3_finalize(*statement);
}

struct store *store_new(const char *directory, struct error *err)
{
    struct store *store = calloc(1, sizeof(*store));

    if (!store || !(store->directory = strdup(directory)) ||
        asprintf(&store->path, "%s/sessions.db", directory) < 0) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory for the session store.");
        if (store)
            free(store->directory);
        free(store);
        return NULL;
    }
    pthread_mutex_init(&store->lock, NULL);
    return store;
}

static void disconnect(struct store *store)
{
    sqlite3_close_v2(store->db);
    store->db = NULL;
}

struct store *store_free(struct store *store)
{
    if (!store)
        return NULL;
    disconnect(store);
    pthread_mutex_destroy(&store->lock);
    free(store->directory);
    free(store->path);
    free(store);
    return NULL;
}

void kept_session_done(struct kept_session *kept)
{
    free(kept->title);
    free(kept->model);
    free(kept->system);
    free(kept->tools);
    free(kept->sampling);
    free(kept->image);
    json_object_put(kept->messages);
    *kept = (struct kept_session){0};
}

/* --- opening --------------------------------------------------------------------------------- */

static bool is_damage(int result)
{
    return (result & 0xff) == SQLITE_CORRUPT || (result & 0xff) == SQLITE_NOTADB;
}

/* What the system said when the database or its write-ahead log was last written in vain. */
static int last_errno(sqlite3 *db)
{
    sqlite3_file *log = NULL;
    int in_log = 0, in_database = 0;

    sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
    if (log && log->pMethods)
        log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &in_log);
    sqlite3_file_control(db, "main", SQLITE_FCNTL_LAST_ERRNO, &in_database);
    return in_log ? in_log : in_database;
}

/* The sentence for what the connection has just reported; it may be closed by this. */
static int store_fail(struct store *store, const char *what, struct error *err)
{
    const int result = store->db ? sqlite3_errcode(store->db) : SQLITE_NOMEM;
    const int cause = result == SQLITE_IOERR ? last_errno(store->db) : 0;
    enum error_code code = ERROR_IO;
    const char *why = store->db ? sqlite3_errmsg(store->db) : "not enough memory";
    int error;

    if (result == SQLITE_FULL || cause == ENOSPC || cause == EDQUOT || cause == EFBIG) {
        code = ERROR_NO_SPACE;
        why = "there is no space left on the disk";
    } else if (result == SQLITE_BUSY || result == SQLITE_LOCKED) {
        code = ERROR_BUSY;
        why = "another program holds the file";
    } else if (result == SQLITE_NOMEM) {
        code = ERROR_NO_MEMORY;
    }
    error = error_set(err, code, "Cannot %s %s: %s.", what, store->path, why);
    if (store->db && !sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    /* After an I/O error nothing that the connection has in memory is trusted. */
    if (code == ERROR_IO || code == ERROR_NO_SPACE)
        disconnect(store);
    return error;
}

static int make_directories(const char *directory, struct error *err)
{
    _cleanup_(freep) char *path = strdup(directory);

    if (!path)
        return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a path.");
    for (char *slash = path + 1;; slash++) {
        slash += strcspn(slash, "/");
        const char was = *slash;

        *slash = '\0';
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
            return error_set(err, errno == ENOSPC ? ERROR_NO_SPACE : ERROR_IO,
                             "Cannot create the directory %s: %s.", path, strerror(errno));
        if (!was)
            return 0;
        *slash = was;
    }
}

/* SQLite gives -wal and -shm the mode of the database. */
static int make_file(struct store *store, struct error *err)
{
    const int fd = open(store->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat status;
    int error = 0;

    if (fd < 0)
        return error_set(err, errno == ENOSPC ? ERROR_NO_SPACE : ERROR_IO, "Cannot open %s: %s.",
                         store->path, strerror(errno));
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        error = error_set(err, ERROR_IO, "%s is not a regular file.", store->path);
    else if ((status.st_mode & 0077) && fchmod(fd, 0600) < 0)
        error =
            error_set(err, ERROR_IO, "Cannot make %s private: %s.", store->path, strerror(errno));
    store->device = status.st_dev;
    store->inode = status.st_ino;
    close(fd);
    return error;
}

/* The outcome of opening a damaged file; failures are negative. */
enum { OPEN = 0, DAMAGED = 1 };

static int damaged_or_fail(struct store *store, struct error *err)
{
    return is_damage(sqlite3_errcode(store->db)) ? DAMAGED : store_fail(store, "open", err);
}

/* The first column of the first row as a number. */
static int query_number(struct store *store, const char *sql, int64_t *ret, struct error *err)
{
    _cleanup_(finalizep) sqlite3_stmt *statement = NULL;

    if (sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW)
        return damaged_or_fail(store, err);
    *ret = sqlite3_column_int64(statement, 0);
    return OPEN;
}

static int check_intact(struct store *store, struct error *err)
{
    _cleanup_(finalizep) sqlite3_stmt *statement = NULL;

    if (sqlite3_prepare_v2(store->db, "PRAGMA quick_check(1)", -1, &statement, NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW)
        return damaged_or_fail(store, err);
    return strcmp((const char *)sqlite3_column_text(statement, 0), "ok") == 0 ? OPEN : DAMAGED;
}

/* Do the tables have the shape that the statements expect? */
static int check_tables(struct store *store, struct error *err)
{
    static const char *const statements[] = {put_session_sql, put_turn_sql,    put_image_sql,
                                             get_session_sql, get_turns_sql,   get_image_sql,
                                             list_sql,        forget_sql};

    for (size_t i = 0; i < ARRAY_LEN(statements); i++) {
        _cleanup_(finalizep) sqlite3_stmt *statement = NULL;
        const int result = sqlite3_prepare_v2(store->db, statements[i], -1, &statement, NULL);

        if (result != SQLITE_OK)
            return result == SQLITE_ERROR ? DAMAGED : damaged_or_fail(store, err);
    }
    return OPEN;
}

static int migrate(struct store *store, int64_t version, struct error *err)
{
    for (; version < STORE_VERSION; version++) {
        char sql[64];

        snprintf(sql, sizeof(sql), "PRAGMA user_version = %d; COMMIT", (int)version + 1);
        if (sqlite3_exec(store->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK ||
            sqlite3_exec(store->db, migrations[version], NULL, NULL, NULL) != SQLITE_OK ||
            sqlite3_exec(store->db, sql, NULL, NULL, NULL) != SQLITE_OK)
            return store_fail(store, "set up", err);
    }
    return 0;
}

static int connect_database(struct store *store, struct error *err)
{
    int64_t version, n_objects;
    int result;

    if (sqlite3_open_v2(store->path, &store->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
                        NULL) != SQLITE_OK)
        return store_fail(store, "open", err);
    sqlite3_busy_timeout(store->db, STORE_TIMEOUT_MSEC);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);

    if (sqlite3_exec(store->db,
                     "PRAGMA journal_mode = WAL;"
                     "PRAGMA synchronous = FULL;"
                     "PRAGMA foreign_keys = ON;"
                     /* What is forgotten is overwritten. */
                     "PRAGMA secure_delete = ON;",
                     NULL, NULL, NULL) != SQLITE_OK)
        return damaged_or_fail(store, err);

    result = query_number(store, "PRAGMA user_version", &version, err);
    if (result == OPEN)
        result = query_number(store, "SELECT count(*) FROM sqlite_master", &n_objects, err);
    if (result != OPEN)
        return result;
    if (version > STORE_VERSION)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "%s is of version %lld, which a later lfmd has written; this one knows "
                         "versions up to %d.",
                         store->path, (long long)version, STORE_VERSION);
    if (version < 0 || (version == 0 && n_objects > 0))
        return DAMAGED;
    result = check_intact(store, err);
    if (result == OPEN)
        result = migrate(store, version, err);
    if (result == OPEN)
        result = check_tables(store, err);
    return result;
}

/* A damaged file keeps its -wal, which belongs to it and may help to recover it. */
static int move_aside(struct store *store, struct error *err)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    char stamp[32];
    const time_t now = time(NULL);
    struct tm tm;

    strftime(stamp, sizeof(stamp), "%Y%m%d-%H%M%S", gmtime_r(&now, &tm));
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        _cleanup_(freep) char *from = NULL;
        _cleanup_(freep) char *to = NULL;

        if (asprintf(&from, "%s%s", store->path, suffixes[i]) < 0 ||
            asprintf(&to, "%s.damaged-%s%s", store->path, stamp, suffixes[i]) < 0)
            return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a path.");
        if (rename(from, to) < 0 && errno != ENOENT)
            return error_set(err, ERROR_IO, "%s is damaged and cannot be moved aside: %s.", from,
                             strerror(errno));
    }
    log_warning("%s is damaged. It was moved to %s.damaged-%s, and a new one was begun.",
                store->path, store->path, stamp);
    return 0;
}

static void forget_if_replaced(struct store *store)
{
    struct stat status;

    if (store->db && (stat(store->path, &status) < 0 || status.st_dev != store->device ||
                      status.st_ino != store->inode))
        disconnect(store);
}

/*
 * Called locked. 1: open; 0: there is no database, and `create` is false.
 */
static int ensure_open(struct store *store, bool create, struct error *err)
{
    int result;

    forget_if_replaced(store);
    if (store->db)
        return 1;
    if (!create && access(store->path, F_OK) < 0 && errno == ENOENT)
        return 0;
    result = make_directories(store->directory, err);
    if (result == 0)
        result = make_file(store, err);
    if (result < 0)
        return result;
    result = connect_database(store, err);
    if (result == DAMAGED) {
        disconnect(store);
        result = move_aside(store, err);
        if (result == 0)
            result = make_file(store, err);
        if (result == 0)
            result = connect_database(store, err);
        if (result == DAMAGED)
            result = error_set(err, ERROR_IO, "A new %s is damaged at once; the disk may be bad.",
                               store->path);
    }
    if (result < 0) {
        disconnect(store);
        return result;
    }
    return 1;
}

/* --- statements ------------------------------------------------------------------------------ */

/*
 * Bind by format: s text or NULL, i int64_t, b bytes and their size_t; then run up to the first
 * row.
 *
 * Texts must live until the statement is finalised. Returns SQLITE_ROW, SQLITE_DONE or an error.
 */
static int run(struct store *store, sqlite3_stmt **ret, const char *sql, const char *format, ...)
{
    int result = sqlite3_prepare_v2(store->db, sql, -1, ret, NULL);
    va_list args;

    va_start(args, format);
    for (int i = 1; result == SQLITE_OK && format[i - 1]; i++) {
        if (format[i - 1] == 's')
            result = sqlite3_bind_text(*ret, i, va_arg(args, const char *), -1, SQLITE_STATIC);
        else if (format[i - 1] == 'b') {
            const void *bytes = va_arg(args, const void *);

            result = sqlite3_bind_blob64(*ret, i, bytes, va_arg(args, size_t), SQLITE_STATIC);
        } else
            result = sqlite3_bind_int64(*ret, i, va_arg(args, int64_t));
    }
    va_end(args);
    return result == SQLITE_OK ? sqlite3_step(*ret) : result;
}

static int write_image(struct store *store, const struct kept_session *session,
                       const struct kept_image *image, struct error *err)
{
    sqlite3_stmt *put_image = NULL;
    void *bytes = mmap(NULL, image->n_bytes, PROT_READ, MAP_SHARED, image->fd, 0);
    int result;

    if (bytes == MAP_FAILED)
        return error_set(err, ERROR_NO_MEMORY, "A picture cannot be saved: %s.", strerror(errno));
    result = run(store, &put_image, put_image_sql, "ssb", session->id, image->id, bytes,
                 image->n_bytes);
    sqlite3_finalize(put_image);
    munmap(bytes, image->n_bytes);
    return result == SQLITE_DONE ? 0 : store_fail(store, "save a picture in", err);
}

/* Inside a transaction. */
static int write_rows(struct store *store, const struct kept_session *session,
                      const struct kept_turn *turn, struct error *err)
{
    _cleanup_(finalizep) sqlite3_stmt *put_session = NULL;
    _cleanup_(finalizep) sqlite3_stmt *put_turn = NULL;
    const int64_t now = now_usec();
    int result = 0;

    if (run(store, &put_session, put_session_sql, "ssssssiiiiiiis", session->id, session->title,
            session->model, session->system, session->tools, session->sampling,
            (int64_t)session->n_context, (int64_t)session->background, session->keep_alive_sec,
            (int64_t)session->n_dropped, (int64_t)session->n_tokens, session->created_usec,
            now, session->image) != SQLITE_DONE ||
        run(store, &put_turn, put_turn_sql, "sisssi", session->id, (int64_t)turn->number,
            turn->reason, turn->usage, turn->messages, now) != SQLITE_DONE)
        return store_fail(store, "save the turn in", err);
    for (size_t i = 0; i < turn->n_images && result == 0; i++)
        result = write_image(store, session, &turn->images[i], err);
    return result;
}

int store_put(struct store *store, const struct kept_session *session, const struct kept_turn *turn,
              const atomic_bool *closed, struct error *err)
{
    _cleanup_(unlockp) pthread_mutex_t *lock = &store->lock;
    int result;

    pthread_mutex_lock(lock);
    if (atomic_load(closed))
        return -ECANCELED;
    result = ensure_open(store, true, err);
    if (result < 0)
        return result;

    if (sqlite3_exec(store->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
        return store_fail(store, "save the turn in", err);
    result = write_rows(store, session, turn, err);
    if (result < 0)
        return result;
    if (sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
        return store_fail(store, "save the turn in", err);
    return 0;
}

static int unknown_id(const char *id, struct error *err)
{
    return error_set(err, ERROR_INVALID_ARGUMENT, "There is no kept session %.40s.", id);
}

static bool take_text(sqlite3_stmt *row, int column, char **ret)
{
    const char *text = (const char *)sqlite3_column_text(row, column);

    if (!text)
        return sqlite3_column_type(row, column) == SQLITE_NULL;
    *ret = strdup(text);
    return *ret != NULL;
}

static int read_session(struct store *store, const char *id, struct kept_session *kept,
                        struct error *err)
{
    _cleanup_(finalizep) sqlite3_stmt *row = NULL;
    const int result = run(store, &row, get_session_sql, "s", id);

    if (result == SQLITE_DONE)
        return unknown_id(id, err);
    if (result != SQLITE_ROW)
        return store_fail(store, "read", err);
    memcpy(kept->id, id, STORE_ID_LENGTH);
    if (!take_text(row, 0, &kept->title) || !take_text(row, 1, &kept->model) ||
        !take_text(row, 2, &kept->system) || !take_text(row, 3, &kept->tools) ||
        !take_text(row, 4, &kept->sampling) || !take_text(row, 12, &kept->image))
        return error_set(err, ERROR_NO_MEMORY, "There is not enough memory to open the session.");
    kept->n_context = (size_t)MAX(sqlite3_column_int64(row, 5), 0);
    kept->background = sqlite3_column_int64(row, 6) != 0;
    kept->keep_alive_sec = sqlite3_column_int64(row, 7);
    kept->n_dropped = (uint32_t)sqlite3_column_int64(row, 8);
    kept->n_tokens = (size_t)MAX(sqlite3_column_int64(row, 9), 0);
    kept->created_usec = sqlite3_column_int64(row, 10);
    kept->last_turn = (uint32_t)sqlite3_column_int64(row, 11);
    return 0;
}

static int read_messages(struct store *store, const char *id, struct kept_session *kept,
                         struct error *err)
{
    _cleanup_(finalizep) sqlite3_stmt *row = NULL;
    int result = run(store, &row, get_turns_sql, "s", id);

    kept->messages = json_object_new_array();
    for (; result == SQLITE_ROW; result = sqlite3_step(row)) {
        const char *text = (const char *)sqlite3_column_text(row, 0);
        _cleanup_(json_putp) struct json_object *messages =
            json_read(text ? text : "", json_type_array, "A message of the kept session", err);

        if (!messages)
            return err ? error_errno(err->code) : -EIO;
        for (size_t i = 0; i < json_object_array_length(messages); i++)
            if (json_object_array_add(kept->messages,
                                      json_object_get(json_object_array_get_idx(messages, i))) < 0)
                return error_set(err, ERROR_NO_MEMORY,
                                 "There is not enough memory to open the session.");
    }
    return result == SQLITE_DONE ? 0 : store_fail(store, "read", err);
}

int store_get(struct store *store, const char *id, struct kept_session *ret, struct error *err)
{
    _cleanup_(unlockp) pthread_mutex_t *lock = &store->lock;
    struct kept_session kept = {0};
    int result;

    pthread_mutex_lock(lock);
    if (strlen(id) != STORE_ID_LENGTH)
        return unknown_id(id, err);
    result = ensure_open(store, false, err);
    if (result == 0)
        return unknown_id(id, err);
    if (result > 0)
        result = read_session(store, id, &kept, err);
    if (result == 0)
        result = read_messages(store, id, &kept, err);
    if (result < 0) {
        kept_session_done(&kept);
        return result;
    }
    *ret = kept;
    return 0;
}

/* A copy in memory that nobody can change, as vision/decoder.h makes them. */
static int copy_out(const void *bytes, size_t n_bytes, int *ret_fd, struct error *err)
{
    const int fd = memfd_create("lfmd-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    size_t done = 0;

    while (fd >= 0 && done < n_bytes) {
        const ssize_t n = write(fd, (const char *)bytes + done, n_bytes - done);

        if (n <= 0)
            break;
        done += (size_t)n;
    }
    if (fd >= 0 && done == n_bytes &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
        *ret_fd = fd;
        return 0;
    }
    error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a kept picture: %s.",
              strerror(errno));
    if (fd >= 0)
        close(fd);
    return -ENOMEM;
}

int store_get_image(struct store *store, const char *id, int *ret_fd, size_t *ret_n_bytes,
                    struct error *err)
{
    _cleanup_(unlockp) pthread_mutex_t *lock = &store->lock;
    _cleanup_(finalizep) sqlite3_stmt *row = NULL;
    int result;

    pthread_mutex_lock(lock);
    result = ensure_open(store, false, err);
    if (result < 0)
        return result;
    result = result == 0 ? SQLITE_DONE : run(store, &row, get_image_sql, "s", id);
    if (result == SQLITE_DONE)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "A picture of this conversation is not kept any more.");
    if (result != SQLITE_ROW)
        return store_fail(store, "read a picture in", err);
    *ret_n_bytes = (size_t)sqlite3_column_bytes(row, 0);
    return copy_out(sqlite3_column_blob(row, 0), *ret_n_bytes, ret_fd, err);
}

int store_forget(struct store *store, const char *id, struct error *err)
{
    _cleanup_(unlockp) pthread_mutex_t *lock = &store->lock;
    int result;

    pthread_mutex_lock(lock);
    result = ensure_open(store, false, err);
    if (result < 0)
        return result;
    if (result == 0)
        return unknown_id(id, err);
    {
        _cleanup_(finalizep) sqlite3_stmt *statement = NULL;

        result = run(store, &statement, forget_sql, "s", id);
    }
    if (result != SQLITE_DONE)
        return store_fail(store, "forget a session in", err);
    if (sqlite3_changes(store->db) == 0)
        return unknown_id(id, err);
    /* Its text is also in the write-ahead log; a reader elsewhere may delay that. */
    sqlite3_wal_checkpoint_v2(store->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    return 0;
}

static struct json_object *column_text(sqlite3_stmt *row, int column)
{
    const char *text = (const char *)sqlite3_column_text(row, column);

    return text ? json_object_new_string(text) : NULL;
}

static struct json_object *list_entry(sqlite3_stmt *row)
{
    _cleanup_(json_putp) struct json_object *entry = json_object_new_object();

    if (json_set(entry, "id", column_text(row, 0)) &&
        json_set(entry, "title", column_text(row, 1)) &&
        json_set(entry, "model", column_text(row, 2)) &&
        json_set(entry, "turns", json_object_new_int64(sqlite3_column_int64(row, 3))) &&
        json_set(entry, "created_usec", json_object_new_int64(sqlite3_column_int64(row, 4))) &&
        json_set(entry, "used_usec", json_object_new_int64(sqlite3_column_int64(row, 5))))
        return TAKE_PTR(entry);
    return NULL;
}

struct json_object *store_list(struct store *store, struct error *err)
{
    _cleanup_(unlockp) pthread_mutex_t *lock = &store->lock;
    _cleanup_(json_putp) struct json_object *list = json_object_new_array();
    int result;

    pthread_mutex_lock(lock);
    result = ensure_open(store, false, err);
    if (result < 0)
        return NULL;
    if (result > 0) {
        _cleanup_(finalizep) sqlite3_stmt *row = NULL;

        for (result = run(store, &row, list_sql, ""); result == SQLITE_ROW;
             result = sqlite3_step(row)) {
            if (!json_append(list, list_entry(row))) {
                error_set(err, ERROR_NO_MEMORY, "There is not enough memory to list the sessions.");
                return NULL;
            }
        }
        if (result != SQLITE_DONE) {
            store_fail(store, "read", err);
            return NULL;
        }
    }
    return TAKE_PTR(list);
}
