/* SPDX-License-Identifier: MIT */
#include "fetch/part.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fetch/report.h"

#define CHUNK    ((size_t)1 << 18)
#define NOTE_MAX 16384

static void json_putp(struct json_object **object)
{
    json_object_put(*object);
}

bool sha256_valid(const char *text)
{
    return strlen(text) == SHA256_HEX && strspn(text, "0123456789abcdef") == SHA256_HEX;
}

static void hash_text(SHA2_CTX *hash, char *ret)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];

    SHA256Final(digest, hash);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(ret + 2 * i, 3, "%02x", digest[i]);
}

static int hash_descriptor(int fd, SHA2_CTX *hash, uint64_t total,
                           void (*progress)(uint64_t done, uint64_t total), uint64_t *ret_size,
                           const char *name, struct error *err)
{
    static uint8_t chunk[CHUNK];
    uint64_t done = 0;

    SHA256Init(hash);
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    for (;;) {
        ssize_t n = pread(fd, chunk, sizeof(chunk), (off_t)done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(err, ERROR_IO, "%s cannot be read: %s.", name, strerror(errno));
        if (n == 0)
            break;
        if (report_stopped())
            return error_set(err, ERROR_CANCELLED, "Stopped while %s was checked.", name);
        SHA256Update(hash, chunk, (size_t)n);
        done += (uint64_t)n;
        if (progress)
            progress(done, total);
    }
    *ret_size = done;
    return 0;
}

int part_hash_file(const char *path, void (*progress)(uint64_t done, uint64_t total),
                   uint64_t *ret_size_bytes, char *ret_sha256, struct error *err)
{
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    SHA2_CTX hash;
    uint64_t size;
    int r;

    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set(err, ERROR_IO, "%.300s cannot be opened: %s.", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERROR_INVALID_ARGUMENT, "%.300s is not a regular file.", path);
    r = hash_descriptor(fd, &hash, (uint64_t)st.st_size, progress, &size, path, err);
    if (r < 0)
        return r;
    hash_text(&hash, ret_sha256);
    *ret_size_bytes = size;
    return 0;
}

/* mkdir -p; the folders that are made belong to the user alone. */
static int make_folder(const char *path, struct error *err)
{
    char copy[PATH_MAX];

    snprintf(copy, sizeof(copy), "%s/", path);
    for (char *p = copy + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(copy, 0700) < 0 && errno != EEXIST)
            return error_set(err, ERROR_IO, "The folder %.300s cannot be made: %s.", copy,
                             strerror(errno));
        *p = '/';
    }
    return 0;
}

static int split_path(struct part *part, const char *path, struct error *err)
{
    const char *slash = strrchr(path, '/');

    if (path[0] != '/' || strlen(path) >= sizeof(part->folder_path) || !slash[1] ||
        strlen(slash + 1) + strlen(".part.json") > NAME_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "'%.200s' is not the absolute path of a file.", path);
    snprintf(part->folder_path, sizeof(part->folder_path), "%.*s",
             slash == path ? 1 : (int)(slash - path), path);
    snprintf(part->name, sizeof(part->name), "%s", slash + 1);
    snprintf(part->part_name, sizeof(part->part_name), "%.240s.part", part->name);
    snprintf(part->note_name, sizeof(part->note_name), "%.240s.part.json", part->name);
    snprintf(part->hash_name, sizeof(part->hash_name), "%.240s.sha256", part->name);
    return 0;
}

/*
 * Open and lock NAME.part. Whoever held the lock before may have renamed the file away, so the
 * name is looked up again when the lock is ours.
 */
static int open_locked(struct part *part, struct error *err)
{
    struct stat ours, named;

    for (;;) {
        part->fd = openat(part->folder, part->part_name,
                          O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
        if (part->fd < 0 || fstat(part->fd, &ours) < 0)
            return error_set(err, ERROR_IO, "%s cannot be opened in %.200s: %s.", part->part_name,
                             part->folder_path, strerror(errno));
        if (!S_ISREG(ours.st_mode))
            return error_set(err, ERROR_IO, "%s in %.200s is not a regular file.",
                             part->part_name, part->folder_path);
        if (flock(part->fd, LOCK_EX | LOCK_NB) < 0)
            return error_set(err, ERROR_BUSY, "Another process is downloading %s.", part->name);
        if (fstatat(part->folder, part->part_name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
            named.st_ino == ours.st_ino && named.st_dev == ours.st_dev) {
            fchmod(part->fd, 0600);
            return 0;
        }
        close(TAKE_FD(part->fd));
    }
}

static void note_text(struct json_object *note, const char *key, char *out, size_t size)
{
    struct json_object *value;

    if (json_object_object_get_ex(note, key, &value) &&
        json_object_is_type(value, json_type_string) &&
        (size_t)json_object_get_string_len(value) < size)
        snprintf(out, size, "%s", json_object_get_string(value));
}

/* A note that cannot be understood is none: the file then begins again. */
static void read_note(struct part *part)
{
    _cleanup_(closep) int fd = openat(part->folder, part->note_name,
                                      O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    _cleanup_(json_putp) struct json_object *note = NULL;
    struct json_object *value;
    char text[NOTE_MAX];
    ssize_t n;

    if (fd < 0)
        return;
    n = read(fd, text, sizeof(text) - 1);
    if (n <= 0)
        return;
    text[n] = '\0';
    note = json_tokener_parse(text);
    if (!json_object_is_type(note, json_type_object))
        return;
    note_text(note, "url", part->url, sizeof(part->url));
    note_text(note, "etag", part->etag, sizeof(part->etag));
    note_text(note, "sha256", part->sha256, sizeof(part->sha256));
    if (part->sha256[0] && !sha256_valid(part->sha256))
        part->sha256[0] = '\0';
    if (json_object_object_get_ex(note, "total", &value))
        part->total_bytes = json_object_get_uint64(value);
}

/* Write a small file of the user's own so that a crash leaves the old or the new one. */
static int write_small(struct part *part, const char *name, const char *text, struct error *err)
{
    _cleanup_(closep) int fd = -1;
    char temporary[NAME_MAX + 1];
    size_t length = strlen(text);

    snprintf(temporary, sizeof(temporary), ".%.250s", name);
    fd = openat(part->folder, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
                0600);
    if (fd < 0 || write(fd, text, length) != (ssize_t)length ||
        renameat(part->folder, temporary, part->folder, name) < 0) {
        int code = errno == ENOSPC || errno == EDQUOT ? ERROR_NO_SPACE : ERROR_IO;

        unlinkat(part->folder, temporary, 0);
        return error_set(err, code, "%s cannot be written in %.200s: %s.", name,
                         part->folder_path, strerror(errno));
    }
    return 0;
}

int part_note(struct part *part, struct error *err)
{
    _cleanup_(json_putp) struct json_object *note = json_object_new_object();

    json_object_object_add(note, "url", json_object_new_string(part->url));
    json_object_object_add(note, "etag", json_object_new_string(part->etag));
    json_object_object_add(note, "sha256", json_object_new_string(part->sha256));
    json_object_object_add(note, "total", json_object_new_uint64(part->total_bytes));
    return write_small(part, part->note_name,
                       json_object_to_json_string_ext(note, JSON_C_TO_STRING_NOSLASHESCAPE), err);
}

int part_open(struct part *part, const char *path, struct error *err)
{
    int r;

    r = split_path(part, path, err);
    if (r < 0)
        return r;
    r = make_folder(part->folder_path, err);
    if (r < 0)
        return r;
    part->folder = open(part->folder_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (part->folder < 0)
        return error_set(err, ERROR_IO, "The folder %.300s cannot be opened: %s.",
                         part->folder_path, strerror(errno));
    r = open_locked(part, err);
    if (r < 0)
        return r;
    read_note(part);
    return hash_descriptor(part->fd, &part->hash, 0, NULL, &part->size_bytes, part->part_name,
                           err);
}

void part_close(struct part *part)
{
    closep(&part->fd);
    closep(&part->folder);
    part->fd = part->folder = -1;
}

int part_restart(struct part *part, struct error *err)
{
    if (ftruncate(part->fd, 0) < 0)
        return error_set(err, ERROR_IO, "%s cannot be emptied: %s.", part->part_name,
                         strerror(errno));
    part->size_bytes = 0;
    SHA256Init(&part->hash);
    return 0;
}

static int no_space(const struct part *part, uint64_t more_bytes, uint64_t free_bytes,
                    struct error *err)
{
    uint64_t missing = part->total_bytes - part->size_bytes + more_bytes;

    return error_set(err, ERROR_NO_SPACE,
                     "%s%s needs %.1f MB more, but %.200s has only %.1f MB free.", part->name,
                     more_bytes ? " with what belongs to it" : "", (double)missing / 1e6,
                     part->folder_path, (double)free_bytes / 1e6);
}

int part_reserve(struct part *part, uint64_t more_bytes, struct error *err)
{
    uint64_t missing = part->total_bytes - part->size_bytes, free_bytes;
    struct statvfs disk;

    if (fstatvfs(part->fd, &disk) < 0)
        return error_set(err, ERROR_IO, "The free space of %.300s cannot be read: %s.",
                         part->folder_path, strerror(errno));
    free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (free_bytes < missing || free_bytes - missing < more_bytes)
        return no_space(part, more_bytes, free_bytes, err);
    /* The size stays what is written: the next run goes on from there. Not every disk can. */
    if (missing > 0 && fallocate(part->fd, FALLOC_FL_KEEP_SIZE, (off_t)part->size_bytes,
                                 (off_t)missing) < 0 &&
        (errno == ENOSPC || errno == EDQUOT))
        return no_space(part, more_bytes, free_bytes, err);
    return 0;
}

int part_write(struct part *part, const void *bytes, size_t n, struct error *err)
{
    const uint8_t *p = bytes;
    size_t left = n;

    while (left > 0) {
        ssize_t written = pwrite(part->fd, p, left, (off_t)part->size_bytes);

        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0) {
            bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;

            return error_set(err, full ? ERROR_NO_SPACE : ERROR_IO,
                             "%s cannot be written after %.1f of %.1f MB in %.200s: %s.",
                             part->name, (double)part->size_bytes / 1e6,
                             (double)part->total_bytes / 1e6, part->folder_path, strerror(errno));
        }
        SHA256Update(&part->hash, p, (size_t)written);
        part->size_bytes += (uint64_t)written;
        p += written;
        left -= (size_t)written;
    }
    return 0;
}

int part_commit(struct part *part, char *ret_sha256, struct error *err)
{
    char line[SHA256_HEX + NAME_MAX + 4];
    char found[SHA256_HEX + 1];
    int r;

    hash_text(&part->hash, found);
    if (part->sha256[0] && strcmp(part->sha256, found) != 0) {
        unlinkat(part->folder, part->part_name, 0);
        unlinkat(part->folder, part->note_name, 0);
        return error_set(err, ERROR_DOWNLOAD_FAILED,
                         "%s arrived damaged: its SHA-256 is %.16s..., expected %.16s.... It was "
                         "deleted.",
                         part->name, found, part->sha256);
    }
    if (fsync(part->fd) < 0)
        return error_set(err, ERROR_IO, "%s cannot be brought to the disk: %s.", part->part_name,
                         strerror(errno));
    snprintf(line, sizeof(line), "%s  %s\n", found, part->name);
    r = write_small(part, part->hash_name, line, err);
    if (r < 0)
        return r;
    if (renameat(part->folder, part->part_name, part->folder, part->name) < 0)
        return error_set(err, ERROR_IO, "%s cannot be renamed to %s in %.200s: %s.",
                         part->part_name, part->name, part->folder_path, strerror(errno));
    unlinkat(part->folder, part->note_name, 0);
    fsync(part->folder);
    memcpy(ret_sha256, found, sizeof(found));
    return 0;
}
