/* SPDX-License-Identifier: MIT */
#include "clients/desktop/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/desktop/internal.h"

#define ALLOWED_MAX_BYTES ((size_t)256 << 10)

/* $XDG_STATE_HOME/lfmd, made if it is not there. */
static char *state_path(const char *name)
{
    g_autofree char *folder = desktop_path(g_get_user_state_dir(), NULL);

    g_mkdir_with_parents(folder, 0700);
    return g_build_filename(folder, name, NULL);
}

/* A lock that all programs share, also while a file is replaced; -1 with an error. */
static int lock(struct error *err)
{
    g_autofree char *path = state_path("tools.lock");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0 || flock(fd, LOCK_EX) < 0) {
        error_set(err, ERROR_IO, "'%s' cannot be opened: %s.", path, strerror(errno));
        closep(&fd);
        return -1;
    }
    return fd;
}

/* A regular file as text; NULL: there is none that can be read, or it is larger than max. */
static char *read_text(const char *path, size_t max)
{
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    _cleanup_(freep) char *text = NULL;
    struct stat st;
    size_t length = 0;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (size_t)st.st_size > max)
        return NULL;
    text = malloc((size_t)st.st_size + 1);
    while (text && length < (size_t)st.st_size &&
           (n = read(fd, text + length, (size_t)st.st_size - length)) > 0)
        length += (size_t)n;
    if (text)
        text[length] = '\0';
    return TAKE_PTR(text);
}

/* --- the log --------------------------------------------------------------------------------- */

int log_append(struct json_object *record, struct error *err)
{
    _cleanup_(closep) int locked = lock(err), fd = -1;
    g_autofree char *path = state_path("tools.log"), *older = state_path("tools.log.1");
    g_autofree char *line = NULL;
    struct stat st;
    size_t length;

    if (locked < 0)
        return -EIO;
    line = g_strdup_printf("%s\n", json_object_to_json_string_ext(
                                       record, JSON_C_TO_STRING_NOSLASHESCAPE));
    length = strlen(line);
    if (stat(path, &st) == 0 && (size_t)st.st_size + length > LOG_BYTES_MAX)
        rename(path, older);
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || write(fd, line, length) != (ssize_t)length)
        return error_set(err, ERROR_IO, "'%s' cannot be written: %s.", path, strerror(errno));
    return 0;
}

static void read_records(const char *name, struct json_object *records)
{
    g_autofree char *path = state_path(name);
    _cleanup_(freep) char *text = read_text(path, 2 * LOG_BYTES_MAX);

    for (char *line = text, *end; line && *line; line = end) {
        struct json_object *record;

        end = line + strcspn(line, "\n");
        if (*end)
            *end++ = '\0';
        record = strlen(line) <= LOG_RECORD_MAX ? json_tokener_parse(line) : NULL;
        if (json_object_is_type(record, json_type_object))
            json_object_array_add(records, record);
        else
            json_object_put(record);
    }
}

struct json_object *log_read(struct error *err)
{
    _cleanup_(closep) int locked = lock(err);
    struct json_object *records;

    if (locked < 0)
        return NULL;
    records = json_object_new_array();
    read_records("tools.log.1", records);
    read_records("tools.log", records);
    return records;
}

/* --- what is allowed ------------------------------------------------------------------------- */

static int read_allowed(const char *path, struct json_object **ret, struct error *err)
{
    _cleanup_(freep) char *text = NULL;

    if (access(path, F_OK) < 0) {
        *ret = json_object_new_object();
        return 0;
    }
    text = read_text(path, ALLOWED_MAX_BYTES);
    *ret = text ? json_tokener_parse(text) : NULL;
    if (json_object_is_type(*ret, json_type_object))
        return 0;
    json_object_put(*ret);
    *ret = json_object_new_object();
    return error_set(err, ERROR_IO, "'%s' is damaged: no tool is allowed for good.", path);
}

int allowed_read(struct json_object **ret, struct error *err)
{
    g_autofree char *path = state_path("tools-allowed.json");

    return read_allowed(path, ret, err);
}

int allowed_write(const char *tool, const char *digest, struct error *err)
{
    _cleanup_(closep) int locked = lock(err);
    g_autofree char *path = state_path("tools-allowed.json"), *next = NULL;
    struct json_object *allowed;
    int r = 0;

    if (locked < 0)
        return -EIO;
    read_allowed(path, &allowed, NULL); /* a damaged one is replaced */
    if (!tool) {
        json_object_put(allowed);
        allowed = json_object_new_object();
    } else if (digest) {
        json_object_object_add(allowed, tool, json_object_new_string(digest));
    } else {
        json_object_object_del(allowed, tool);
    }
    next = g_strconcat(path, ".new", NULL);
    if (json_object_to_file_ext(next, allowed, JSON_C_TO_STRING_PRETTY) < 0 ||
        chmod(next, 0600) < 0 || rename(next, path) < 0)
        r = error_set(err, ERROR_IO, "The decision cannot be kept in '%s': %s.", path,
                      strerror(errno));
    json_object_put(allowed);
    return r;
}
