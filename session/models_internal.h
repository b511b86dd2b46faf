/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What models.c, the list, and models_files.c, what is done to the files of a model, share.
 *
 * Threads: bus thread.
 */

#include <string.h>
#include <sys/stat.h>

#include "session/companion.h"
#include "session/fetcher.h"
#include "session/models.h"
#include "session/registry.h"

#define MODELS_MAX 1024 /* in the list */
#define SHA256_HEX 64
#define URL_MAX    2048

/* A helper at work on a file of a model. */
struct job {
    struct fetcher *fetcher;
    bool verify;
    enum model_file file;
    uint64_t there_bytes; /* of the model's other files, those that are done */
    uint64_t other_bytes; /* all of them, as far as known */
};

/* A model with its texts. Its address stays the same while it is in the list. */
struct entry {
    struct model model;
    bool in_registry;
    struct registry_model registry;
    char *id, *title, *licence, *url, *voice;
    char *path[_FILE_N];         /* of what is installed */
    uint64_t bytes[_FILE_N];     /* the same */
    struct error error[_FILE_N]; /* why a file that is there does not do */
    bool fetched[_FILE_N];       /* in this download */
    uint32_t n_embd;             /* of the text file; 0: it does not say */
    char sha256[SHA256_HEX + 1]; /* of the text file */
    struct job *job;

    /* the text file, as it was looked at: a look is repeated when it is another */
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified;
    bool found;    /* by the scan that is under way */
    unsigned rank; /* order of finding */
};

struct models {
    char **directories;
    char *default_model, *mirror, *fetch_program;
    const struct models_sink *sink;
    void *userdata;
    int epoll;
    struct entry *entries[MODELS_MAX];
    size_t n;
};

/* Vocoder file and detokenizer are one. */
static inline bool models_is_one_file(const struct entry *e)
{
    return e->path[FILE_VOCODER] && e->path[FILE_DETOKENIZER] &&
           strcmp(e->path[FILE_VOCODER], e->path[FILE_DETOKENIZER]) == 0;
}

/* --- models.c -------------------------------------------------------------------------------- */

struct entry *models_entry(const struct models *models, const char *id); /* NULL: unknown */
/* Tell of it. */
void models_changed(struct models *models, struct entry *e);
/* Why companions that are there do not do. Two kinds have one mark: if one does, all is well. */
struct error models_companion_error(const struct entry *e);
void models_url(const struct models *models, const struct registry_model *r, enum model_file file,
                char url[URL_MAX]);
/* What an installed file should have: of the registry, or as it was fetched; "": not known. */
void models_hash(const struct entry *e, enum model_file file, char ret[SHA256_HEX + 1]);

/* --- models_files.c -------------------------------------------------------------------------- */

/* The helper that is at work on it is ended. */
void models_job_end(struct models *models, struct entry *e);
