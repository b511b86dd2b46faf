/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Which models there are: files in the model directories, and the registry of published models that
 * can be fetched. Says nothing about memory; what is loaded is the engine's business (engine.h).
 *
 * A model's id is its registry name ("lfm2.5-1.2b-instruct"; another quantisation of it:
 * "lfm2.5-1.2b-instruct:q8_0") or its file's stem. Each file that can be fetched is in the list,
 * installed ones first. Files that let a model see, hear and speak are no models of their own: they
 * belong to the model in the same folder whose name is theirs (companion.h). A download runs in the
 * helper process lfmd-fetch, the only program here that may use the network, and only when the user
 * asks.
 *
 * Threads: bus thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "text/sampler.h"

enum model_role { MODEL_CHAT, MODEL_RETRIEVAL };

enum download_state {
    DOWNLOAD_NONE,
    DOWNLOAD_RUNNING,
    DOWNLOAD_VERIFYING,
    DOWNLOAD_DONE,
    DOWNLOAD_FAILED,
    DOWNLOAD_CANCELLED,
};

struct model {
    const char *id;
    const char *title;       /* for people */
    const char *path;        /* of the (first) GGUF file; NULL when not installed */
    const char *licence;     /* SPDX id or the name of the licence */
    const char *url;         /* of the file; NULL: not in the registry */
    const char *sha256;      /* hex; NULL: not known */
    uint64_t size_bytes;     /* of its files, installed or to come */
    enum model_role role;
    struct sampling sampling; /* the published defaults of this model */
    struct sampling reading, talking; /* of the codes of what it says: aloud, in a conversation */
    const char *voice;        /* of what it reads aloud, where none is named */
    bool has_one_voice;       /* else also the others that LFM2.5-Audio was published with */
    bool describes_voice;     /* as LFM2-Audio: another voice is a sentence about it */
    uint32_t n_words_max;     /* of such a text, and it knows nothing but words; 0: any text */
    bool is_default;         /* used when a session names none */
    bool user_owned;         /* installed in the user's own directory: may be removed */
    struct error error;      /* why the installed file cannot be used; ERROR_NONE: it can */
    const char *vision_path; /* of the file that lets it see pictures; NULL: none that fits */
    const char *ear_path;    /* the same for hearing */
    const char *vocoder_path, *detokenizer_path; /* with both, which may be one, it speaks */
    struct error companion_error; /* why a file of its name does not do; ERROR_NONE: all do */
    bool sees, hears, speaks;     /* has the files for it, or will when they are fetched */
    enum download_state download;
    uint64_t download_bytes; /* never goes back */
    struct error download_error;
};

struct models_config {
    const char *const *directories; /* NULL-terminated, in order; the first is the user's own */
    const char *default_model;      /* a name, or NULL: the first installed chat model */
    const char *mirror;             /* URL prefix in place of the registry's, or NULL */
    const char *fetch_program;      /* path of lfmd-fetch */
};

struct models_sink {
    /* state, progress or presence of a model changed; or a model came or went */
    void (*changed)(void *userdata, const struct model *model);
    void (*removed)(void *userdata, const char *id);
};

struct models;

struct models *models_new(const struct models_config *config, const struct models_sink *sink,
                          void *userdata, struct error *err);
struct models *models_free(struct models *models); /* cancels downloads; .part files stay */

/* Look at the directories again (also at the files that have come by hand). */
int models_rescan(struct models *models, struct error *err);

size_t models_n(const struct models *models);
const struct model *models_at(const struct models *models, size_t i);

/*
 * By id, file stem or path of an installed file. A name that is none of them stands for the only
 * installed model whose id is that name, "-" and a quantisation: "lfmd-core" for "lfmd-core-q8_0".
 * ERROR_MODEL_NOT_FOUND, with the candidates where there are several, in err.
 */
const struct model *models_named(const struct models *models, const char *name, struct error *err);
/* The same, and installed; NULL: the default. Else ERROR_MODEL_NOT_INSTALLED with the command that
 * installs it. */
const struct model *models_find(const struct models *models, const char *name, struct error *err);

/*
 * A model that sees pictures: the one of this name; NULL: the default if it does, else the first
 * installed one that does. ERROR_INVALID_ARGUMENT, with what is missing, where it does not.
 */
const struct model *models_find_seeing(const struct models *models, const char *name,
                                       struct error *err);
/* The same for sound: one that understands it, one that answers with it. */
const struct model *models_find_hearing(const struct models *models, const char *name,
                                        struct error *err);
const struct model *models_find_speaking(const struct models *models, const char *name,
                                         struct error *err);

/* Starts, or joins, a download of the files that are missing: resumes a .part file, checks disk
 * space for all of them first. */
int models_download(struct models *models, const char *id, struct error *err);
int models_download_cancel(struct models *models, const char *id, struct error *err);
/*
 * Compare the installed files, in the helper, with the SHA-256 of the registry or, where that has
 * none, the one that was found when it was fetched. While it runs the state is DOWNLOAD_VERIFYING;
 * `changed` brings the result: DOWNLOAD_DONE, the file is intact; DOWNLOAD_FAILED with
 * ERROR_UNSUPPORTED_FORMAT, it is not; with another error, it could not be read.
 */
int models_verify(struct models *models, const char *id, struct error *err);
/* The user's own files, with what a download left beside them; others are ERROR_NOT_ALLOWED. A
 * companion that another model needs stays. */
int models_remove(struct models *models, const char *id, struct error *err);

/* Descriptor that is readable when a helper has said something; then call models_dispatch(). */
int models_fd(const struct models *models);
void models_dispatch(struct models *models);
bool models_busy(const struct models *models); /* a download is running: no idle exit */
