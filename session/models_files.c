/* SPDX-License-Identifier: MIT */

/*
 * What is done to the files of a model: fetched and verified by the helper, file by file; removed.
 */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "session/json.h"
#include "session/models_internal.h"
#include "tensor/gguf.h"

void models_job_end(struct models *models, struct entry *e)
{
    epoll_ctl(models->epoll, EPOLL_CTL_DEL, fetcher_fd(e->job->fetcher), NULL);
    fetcher_free(e->job->fetcher);
    free(e->job);
    e->job = NULL;
}

static void fail(struct entry *e, enum error_code code, const char *text)
{
    e->model.download = code == ERROR_CANCELLED ? DOWNLOAD_CANCELLED : DOWNLOAD_FAILED;
    e->model.download_error = (struct error)ERROR_INIT;
    error_set(&e->model.download_error, code, "%s", text);
}

static uint64_t member_u64(struct json_object *object, const char *key)
{
    struct json_object *value;

    return json_object_object_get_ex(object, key, &value) ? json_object_get_uint64(value) : 0;
}

static int fetch_next(struct models *models, struct entry *e, struct error *err);
static int verify_next(struct models *models, struct entry *e, int first, struct error *err);

static bool is_complete(const struct entry *e)
{
    for (int file = 0; file < _FILE_N; file++)
        if (e->registry.files[file].name[0] && !e->path[file])
            return false;
    return e->error[FILE_TEXT].code == ERROR_NONE;
}

/* A file has arrived: on with the next. */
static void fetched(struct models *models, struct entry *e, enum model_file file)
{
    struct error err = ERROR_INIT;
    int r;

    e->fetched[file] = true;
    models_rescan(models, NULL);
    r = fetch_next(models, e, &err);
    if (r == 0 && !is_complete(e)) {
        err = e->error[FILE_TEXT].code ? e->error[FILE_TEXT] : models_companion_error(e);
        r = error_set(&err, ERROR_UNSUPPORTED_FORMAT, "The files that have arrived are no set.");
    }
    if (r < 0) {
        fail(e, err.code, err.text);
    } else if (r == 0) {
        log_info("The model %s has arrived.", e->id);
        e->model.download = DOWNLOAD_DONE;
        e->model.download_bytes = e->model.size_bytes;
    }
}

static void verified(struct models *models, struct entry *e, enum model_file file,
                     struct json_object *event)
{
    const char *sha256 = json_member_text(event, "sha256");
    struct error err = ERROR_INIT;
    struct json_object *intact;
    int r;

    if (json_object_object_get_ex(event, "intact", &intact) && !json_object_get_boolean(intact))
        r = error_set(&err, ERROR_UNSUPPORTED_FORMAT,
                      "The %s file of %.100s is damaged: its SHA-256 is %.16s....",
                      companion_noun(file), e->id, sha256 ? sha256 : "");
    else
        r = verify_next(models, e, file + 1, &err);
    if (r < 0) {
        fail(e, err.code, err.text);
    } else if (r == 0) {
        e->model.download = DOWNLOAD_DONE;
        e->model.download_bytes = e->model.size_bytes;
    }
}

static void helper_said(struct models *models, struct entry *e, struct json_object *event)
{
    const char *name = json_member_text(event, "event");
    uint64_t done;

    if (strcmp(name, "start") == 0 || strcmp(name, "progress") == 0) {
        done = member_u64(event, "done") + e->job->there_bytes;
        e->model.download_bytes = MAX(done, e->model.download_bytes);
        if (!e->job->verify && member_u64(event, "total") > 0)
            e->model.size_bytes = member_u64(event, "total") + e->job->other_bytes;
    } else if (strcmp(name, "verifying") == 0) {
        e->model.download = DOWNLOAD_VERIFYING;
    }
    models_changed(models, e);
}

static void helper_gone(struct models *models, struct entry *e)
{
    struct error err = ERROR_INIT;
    _cleanup_(json_putp) struct json_object *result = fetcher_end(e->job->fetcher, &err);
    const bool verify = e->job->verify;
    const enum model_file file = e->job->file;

    models_job_end(models, e);
    e->model.download_error = (struct error)ERROR_INIT;
    if (!result) {
        fail(e, err.code, err.text);
        log_info("The work on the file of model %s ended: %s.", e->id, error_name(err.code));
    } else if (verify) {
        verified(models, e, file, result);
    } else {
        fetched(models, e, file);
    }
    models_changed(models, e);
}

/* Start the helper with a request (taken). `what` has the members of the job that it is about. */
static int job_start(struct models *models, struct entry *e, struct json_object *request,
                     const struct job *what, struct error *err)
{
    struct job *job = malloc(sizeof(*job));

    if (!job)
        abort();
    *job = *what;
    job->fetcher = fetcher_new(models->fetch_program, request, err);
    if (!job->fetcher) {
        free(job);
        return -EIO;
    }
    e->job = job;
    epoll_ctl(models->epoll, EPOLL_CTL_ADD, fetcher_fd(job->fetcher),
              &(struct epoll_event){.events = EPOLLIN, .data.ptr = e});
    e->model.download = job->verify ? DOWNLOAD_VERIFYING : DOWNLOAD_RUNNING;
    e->model.download_error = (struct error)ERROR_INIT;
    models_changed(models, e);
    return 0;
}

static void add(struct json_object *request, const char *key, const char *text)
{
    if (text)
        json_object_object_add(request, key, json_object_new_string(text));
}

/* Where a file of a published model goes; false: nowhere. */
static bool place_of(const struct models *models, const struct entry *e, enum model_file file,
                     char path[PATH_MAX])
{
    const char *name = e->registry.files[file].name;

    return models->directories[0] && name[0] &&
           snprintf(path, PATH_MAX, "%s/%s", models->directories[0], name) < PATH_MAX;
}

/* Size of a file of the model that need not be fetched; 0: it must. */
static uint64_t bytes_there(const struct models *models, const struct entry *e,
                            enum model_file file)
{
    char path[PATH_MAX];
    struct stat st;

    return !e->error[file].code && place_of(models, e, file, path) && stat(path, &st) == 0 &&
                   S_ISREG(st.st_mode)
               ? (uint64_t)st.st_size
               : 0;
}

static int fetch_file(struct models *models, struct entry *e, enum model_file file,
                      struct error *err)
{
    const struct registry_file *r = &e->registry.files[file];
    struct job job = {.file = file};
    struct json_object *request;
    char path[PATH_MAX], url[URL_MAX];

    if (!place_of(models, e, file, path))
        return error_set(err, ERROR_INVALID_ARGUMENT, "There is no folder for models to go to.");
    for (int other = 0; other < _FILE_N; other++) {
        const uint64_t there = other == (int)file ? 0 : bytes_there(models, e, other);

        job.there_bytes += there;
        if (other != (int)file)
            job.other_bytes += there ? there : e->registry.files[other].size_bytes;
    }
    models_url(models, &e->registry, file, url);
    request = json_object_new_object();
    add(request, "verb", "download");
    add(request, "url", url);
    add(request, "path", path);
    add(request, "sha256", r->sha256);
    add(request, "mirror", models->mirror);
    if (r->size_exact)
        json_object_object_add(request, "size", json_object_new_uint64(r->size_bytes));
    if (job.other_bytes > job.there_bytes)
        json_object_object_add(request, "more",
                               json_object_new_uint64(job.other_bytes - job.there_bytes));
    return job_start(models, e, request, &job, err);
}

/* Begin with what is missing. 1: it has begun; 0: nothing is. No file is fetched twice. */
static int fetch_next(struct models *models, struct entry *e, struct error *err)
{
    for (int file = 0; file < _FILE_N && !is_complete(e); file++) {
        int r;

        if (!e->registry.files[file].name[0] || e->fetched[file] ||
            bytes_there(models, e, (enum model_file)file))
            continue;
        r = fetch_file(models, e, (enum model_file)file, err);
        return r < 0 ? r : 1;
    }
    return 0;
}

int models_download(struct models *models, const char *id, struct error *err)
{
    struct entry *e = models_entry(models, id);
    int r;

    if (!e)
        return error_set(err, ERROR_MODEL_NOT_FOUND, "There is no model '%.100s'.", id);
    if (e->job && !e->job->verify)
        return 0; /* joined */
    if (e->job)
        return error_set(err, ERROR_BUSY, "%.100s is being verified.", id);
    if (!e->in_registry)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "%.100s is a local file; it is not published anywhere.", id);
    e->model.download_bytes = 0;
    memset(e->fetched, 0, sizeof(e->fetched));
    r = fetch_next(models, e, err);
    if (r > 0)
        log_info("The download of model %s begins.", id);
    if (r == 0) {
        e->model.download = DOWNLOAD_DONE;
        e->model.download_bytes = e->model.size_bytes;
        models_changed(models, e);
    }
    return MIN(r, 0);
}

int models_download_cancel(struct models *models, const char *id, struct error *err)
{
    struct entry *e = models_entry(models, id);

    if (!e)
        return error_set(err, ERROR_MODEL_NOT_FOUND, "There is no model '%.100s'.", id);
    if (e->job && !e->job->verify)
        fetcher_cancel(e->job->fetcher);
    return 0;
}

static int unknown_hash(const struct entry *e, enum model_file file, struct error *err)
{
    return error_set(err, ERROR_INVALID_ARGUMENT, "No SHA-256 is known for the %s file of %.100s.",
                     companion_noun(file), e->id);
}

/* Begin with the next file from `first` on. 1: it has begun; 0: there is none. */
static int verify_next(struct models *models, struct entry *e, int first, struct error *err)
{
    struct job job = {.verify = true};
    char sha256[SHA256_HEX + 1];
    struct json_object *request;
    int file, r;

    for (file = 0; file < _FILE_N && (file < first || !e->path[file] ||
                                      (file == FILE_DETOKENIZER && models_is_one_file(e)));
         file++)
        job.there_bytes += e->bytes[file];
    if (file == _FILE_N)
        return 0;
    job.file = (enum model_file)file;
    models_hash(e, job.file, sha256);
    if (!sha256[0])
        return unknown_hash(e, job.file, err);
    request = json_object_new_object();
    add(request, "verb", "verify");
    add(request, "path", e->path[file]);
    add(request, "sha256", sha256);
    r = job_start(models, e, request, &job, err);
    return r < 0 ? r : 1;
}

int models_verify(struct models *models, const char *id, struct error *err)
{
    struct entry *e = models_entry(models, id);
    char sha256[SHA256_HEX + 1];

    if (!e)
        return error_set(err, ERROR_MODEL_NOT_FOUND, "There is no model '%.100s'.", id);
    if (!e->path[FILE_TEXT])
        return error_set(err, ERROR_MODEL_NOT_INSTALLED, "%.100s is not installed.", id);
    if (e->job)
        return error_set(err, ERROR_BUSY, "%.100s is being fetched or verified already.", id);
    for (int file = _FILE_N - 1; file >= 0; file--) {
        if (!e->path[file] || (file == FILE_DETOKENIZER && models_is_one_file(e)))
            continue;
        models_hash(e, (enum model_file)file, sha256);
        if (!sha256[0])
            return unknown_hash(e, (enum model_file)file, err);
    }
    e->model.download_bytes = 0;
    return MIN(verify_next(models, e, 0, err), 0);
}

/* Delete every part of a split model, or the one file. */
static int delete_files(const char *path)
{
    size_t length = strlen(path), tail = strlen("-00001-of-00001.gguf");
    unsigned part, parts;
    char name[PATH_MAX];

    if (unlink(path) < 0)
        return -errno;
    if (length > tail && sscanf(path + length - tail, "-%5u-of-%5u.gguf", &part, &parts) == 2) {
        for (part = 2; part <= parts && part <= GGUF_SPLITS_MAX; part++) {
            snprintf(name, sizeof(name), "%.*s-%05u-of-%05u.gguf", (int)(length - tail), path, part,
                     parts);
            unlink(name);
        }
    }
    return 0;
}

/* Delete what a download left beside a file. Returns whether there was something. */
static bool delete_leftovers(const char *path)
{
    static const char *const suffixes[] = {".part", ".part.json", ".sha256"};
    char name[PATH_MAX];
    bool any = false;

    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
        if (snprintf(name, sizeof(name), "%s%s", path, suffixes[i]) < (int)sizeof(name))
            any |= unlink(name) == 0;
    return any;
}

/* Another installed model has this companion. */
static bool is_needed(const struct models *models, const struct entry *except, const char *path)
{
    for (size_t i = 0; i < models->n; i++) {
        const struct entry *e = models->entries[i];

        for (int file = 0; file < FILE_TEXT && e != except; file++)
            if (e->path[file] && strcmp(e->path[file], path) == 0)
                return true;
    }
    return false;
}

/* Delete a companion that no other model needs. Returns whether there was something of it. */
static bool delete_companion(const struct models *models, const struct entry *e,
                             enum model_file file)
{
    char path[PATH_MAX];
    bool any;

    if (e->path[file])
        snprintf(path, sizeof(path), "%s", e->path[file]);
    else if (!place_of(models, e, file, path))
        return false;
    if (is_needed(models, e, path))
        return false;
    any = delete_leftovers(path);
    return unlink(path) == 0 || any;
}

int models_remove(struct models *models, const char *id, struct error *err)
{
    struct entry *e = models_entry(models, id);
    char path[PATH_MAX];
    bool partial = false;
    int r;

    if (!e)
        return error_set(err, ERROR_MODEL_NOT_FOUND, "There is no model '%.100s'.", id);
    if (e->job)
        return error_set(err, ERROR_BUSY, "%.100s is being fetched or verified; cancel that first.",
                         id);
    if (e->path[FILE_TEXT] && !e->model.user_owned)
        return error_set(err, ERROR_NOT_ALLOWED,
                         "%.100s belongs to the system: it is not in your own model folder.", id);
    if (e->path[FILE_TEXT])
        snprintf(path, sizeof(path), "%s", e->path[FILE_TEXT]);
    else if (!e->in_registry || !place_of(models, e, FILE_TEXT, path))
        return error_set(err, ERROR_MODEL_NOT_INSTALLED, "%.100s is not installed.", id);

    for (int file = 0; file < FILE_TEXT; file++)
        partial |= delete_companion(models, e, (enum model_file)file);
    partial |= delete_leftovers(path);
    if (e->path[FILE_TEXT]) {
        r = delete_files(path);
        if (r < 0 && r != -ENOENT)
            return error_set(err, ERROR_IO, "%.100s cannot be removed: %s.", id, strerror(-r));
        log_info("The model %s was removed.", id);
    } else if (!partial) {
        return error_set(err, ERROR_MODEL_NOT_INSTALLED, "%.100s is not installed.", id);
    }
    e->model.download = DOWNLOAD_NONE;
    e->model.download_bytes = 0;
    return models_rescan(models, err);
}

int models_fd(const struct models *models)
{
    return models->epoll;
}

void models_dispatch(struct models *models)
{
    struct epoll_event events[16];
    int n = epoll_wait(models->epoll, events, ARRAY_LEN(events), 0);

    for (int i = 0; i < n; i++) {
        struct entry *e = events[i].data.ptr;
        const bool more = fetcher_read(e->job->fetcher);
        struct json_object *event;

        while ((event = fetcher_next(e->job->fetcher))) {
            helper_said(models, e, event);
            json_object_put(event);
        }
        if (!more)
            helper_gone(models, e);
    }
}

bool models_busy(const struct models *models)
{
    for (size_t i = 0; i < models->n; i++) {
        if (models->entries[i]->job)
            return true;
    }
    return false;
}
