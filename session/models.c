/* SPDX-License-Identifier: MIT */
#include "session/models.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/utf8.h"
#include "session/companion.h"
#include "session/fetcher.h"
#include "session/json.h"
#include "session/registry.h"
#include "tensor/gguf.h"

#define MODELS_MAX      1024 /* in the list */
#define SHA256_HEX      64
#define URL_MAX         2048

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
    char *path[_FILE_N];          /* of what is installed */
    uint64_t bytes[_FILE_N];      /* the same */
    struct error error[_FILE_N];  /* why a file that is there does not do */
    bool fetched[_FILE_N];        /* in this download */
    uint32_t n_embd; /* of the text file; 0: it does not say */
    char sha256[SHA256_HEX + 1]; /* of the text file */
    struct job *job;

    /* the text file, as it was looked at: a look is repeated when it is another */
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified;
    bool found;       /* by the scan that is under way */
    unsigned rank;    /* order of finding */
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

/* --- entries -------------------------------------------------------------------------------- */

static char *copy(const char *text)
{
    char *p = text ? strdup(text) : NULL;

    if (text && !p)
        abort(); /* a list of names: without memory for it nothing works */
    return p;
}

static void replace(char **text, const char *value)
{
    char *p = copy(value);

    free(*text);
    *text = p;
}

/* It has this file, or will when it is fetched. */
static bool has(const struct entry *e, enum model_file file)
{
    return e->path[file] || (!e->path[FILE_TEXT] && e->registry.files[file].name[0]);
}

/* Why companions that are there do not do. Two kinds have one mark: if one does, all is well. */
static struct error companion_error(const struct entry *e)
{
    static const struct error none = ERROR_INIT;
    const bool projects = e->path[FILE_VISION] || e->path[FILE_EAR];

    for (int file = projects ? FILE_VOCODER : FILE_VISION; file < FILE_TEXT; file++)
        if (e->error[file].code != ERROR_NONE)
            return e->error[file];
    return none;
}

/* Vocoder file and detokenizer are one. */
static bool is_one_file(const struct entry *e)
{
    return e->path[FILE_VOCODER] && e->path[FILE_DETOKENIZER] &&
           strcmp(e->path[FILE_VOCODER], e->path[FILE_DETOKENIZER]) == 0;
}

/* LFM2-Audio: its voices are told in another way than those of LFM2.5-Audio. */
static bool is_first_generation(const struct entry *e)
{
    return strcasestr(e->id, "lfm2-audio") || is_one_file(e);
}

static void entry_publish(struct entry *e)
{
    e->model.id = e->id;
    e->model.title = e->title;
    e->model.path = e->path[FILE_TEXT];
    e->model.licence = e->licence;
    e->model.url = e->url;
    e->model.describes_voice = !e->voice && is_first_generation(e);
    e->model.has_one_voice = e->voice || e->model.describes_voice;
    e->model.voice = e->voice ? e->voice : e->model.describes_voice ? "male" : "US male";
    e->model.sha256 = e->sha256[0] ? e->sha256 : NULL;
    e->model.error = e->error[FILE_TEXT];
    e->model.vision_path = e->path[FILE_VISION];
    e->model.ear_path = e->path[FILE_EAR];
    e->model.vocoder_path = e->path[FILE_VOCODER];
    e->model.detokenizer_path = e->path[FILE_DETOKENIZER];
    e->model.companion_error = companion_error(e);
    e->model.sees = has(e, FILE_VISION);
    e->model.hears = has(e, FILE_EAR);
    e->model.speaks = e->path[FILE_TEXT] ? e->path[FILE_VOCODER] && e->path[FILE_DETOKENIZER]
                                         : e->registry.files[FILE_VOCODER].name[0];
}

static struct entry *entry_new(const char *id)
{
    struct entry *e = calloc(1, sizeof(*e));

    if (!e)
        abort();
    e->id = copy(id);
    e->title = copy(id);
    e->licence = copy("unknown");
    e->model.sampling = registry_sampling(id);
    entry_publish(e);
    return e;
}

static struct entry *entry_free(struct entry *e)
{
    free(e->id);
    free(e->title);
    free(e->licence);
    free(e->url);
    free(e->voice);
    for (int file = 0; file < _FILE_N; file++)
        free(e->path[file]);
    free(e);
    return NULL;
}

static struct entry *find_id(const struct models *models, const char *id)
{
    for (size_t i = 0; i < models->n; i++) {
        if (strcmp(models->entries[i]->id, id) == 0)
            return models->entries[i];
    }
    return NULL;
}

/* The one installed model whose id is this name with a quantisation: "lfmd-core-q8_0". */
static const struct entry *find_short(const struct models *models, const char *name,
                                      struct error *err)
{
    const struct entry *found = NULL;
    size_t length = strlen(name), n_found = 0, used = 0;
    char ids[300] = "";

    for (size_t i = 0; i < models->n; i++) {
        const struct entry *e = models->entries[i];

        if (!e->path[FILE_TEXT] || strncasecmp(e->id, name, length) != 0 ||
            e->id[length] != '-' || !companion_is_quantisation(e->id + length + 1))
            continue;
        found = e;
        used += (size_t)snprintf(ids + used, sizeof(ids) - used, "%s%s", n_found++ ? ", " : "",
                                 e->id);
        used = MIN(used, sizeof(ids) - 1);
    }
    if (n_found == 1)
        return found;
    if (n_found > 1)
        error_set(err, ERROR_MODEL_NOT_FOUND, "'%.100s' can be one of %s; say which.", name, ids);
    else
        error_set(err, ERROR_MODEL_NOT_FOUND,
                  "There is no model '%.100s'. \"lfmctl models --all\" lists what there is.", name);
    return NULL;
}

static const struct entry *find_named(const struct models *models, const char *name,
                                      struct error *err)
{
    for (size_t i = 0; i < models->n; i++) {
        const struct entry *e = models->entries[i];
        const char *path = e->path[FILE_TEXT], *file = path ? strrchr(path, '/') + 1 : NULL;

        if (strcasecmp(e->id, name) == 0)
            return e;
        if (file && (strcmp(path, name) == 0 ||
                     (strlen(file) == strlen(name) + strlen(".gguf") &&
                      strncasecmp(file, name, strlen(name)) == 0)))
            return e;
    }
    return find_short(models, name, err);
}

static void changed(struct models *models, struct entry *e)
{
    entry_publish(e);
    if (models->sink && models->sink->changed)
        models->sink->changed(models->userdata, &e->model);
}

static void url_of(const struct models *models, const struct registry_model *r,
                   enum model_file file, char url[URL_MAX])
{
    snprintf(url, URL_MAX, "%s/%s/resolve/%s/%s", models->mirror ? models->mirror : REGISTRY_SITE,
             r->repository, r->files[file].revision, r->files[file].name);
}

/* What the registry says of a model whose file is not here. */
static void describe_registry(struct models *models, struct entry *e)
{
    const struct registry_model *r = &e->registry;
    const char *sha256 = r->files[FILE_TEXT].sha256;
    char url[URL_MAX];

    url_of(models, r, FILE_TEXT, url);
    replace(&e->url, url);
    replace(&e->title, r->title);
    replace(&e->licence, r->licence);
    snprintf(e->sha256, sizeof(e->sha256), "%s", sha256 ? sha256 : "");
    e->model.size_bytes = 0;
    for (int file = 0; file < _FILE_N; file++)
        e->model.size_bytes += r->files[file].size_bytes;
    e->model.role = r->role;
    e->model.sampling = r->sampling;
    e->error[FILE_TEXT] = (struct error)ERROR_INIT;
    entry_publish(e);
}

/* --- looking at a file ---------------------------------------------------------------------- */

static void read_text(const struct gguf *gguf, const char *key, char **text)
{
    struct gguf_string s;

    if (gguf_str(gguf, key, &s, NULL) == 0 && s.length > 0 && s.length < 200 &&
        !memchr(s.text, 0, s.length) && utf8_valid(s.text, s.length)) {
        _cleanup_(freep) char *p = strndup(s.text, s.length);

        replace(text, p);
    }
}

/* Sampling that the publisher wrote into the file; values that make no sense are not taken. */
static void read_sampling(const struct gguf *gguf, struct sampling *s)
{
    uint32_t n;
    float x;

    if (gguf_f32(gguf, "general.sampling.temp", &x, NULL) == 0 && x >= 0 && x <= 2)
        s->temperature = x;
    if (gguf_u32(gguf, "general.sampling.top_k", &n, NULL) == 0 && n <= 100000)
        s->top_k = n;
    if (gguf_f32(gguf, "general.sampling.top_p", &x, NULL) == 0 && x > 0 && x <= 1)
        s->top_p = x;
    if (gguf_f32(gguf, "general.sampling.min_p", &x, NULL) == 0 && x >= 0 && x < 1)
        s->min_p = x;
    if (gguf_f32(gguf, "general.sampling.penalty_repeat", &x, NULL) == 0 && x >= 1 && x <= 2)
        s->repetition_penalty = x;
}

/* How it speaks: what the file says, or as LFM2.5-Audio was published. */
static void read_speech(const struct gguf *gguf, struct entry *e)
{
    static const struct sampling codes = {.top_k_ties = true, .top_p = 1, .repetition_penalty = 1};
    struct sampling *const both[] = {&e->model.reading, &e->model.talking};
    uint32_t n;
    float x;

    e->model.reading = e->model.talking = codes;
    e->model.reading.temperature = 0.8f;
    e->model.reading.top_k = 64;
    e->model.talking.temperature = 1;
    e->model.talking.top_k = 4;
    for (size_t i = 0; i < ARRAY_LEN(both); i++) {
        if (gguf_f32(gguf, "lfmd.speech.temperature", &x, NULL) == 0 && x >= 0 && x <= 2)
            both[i]->temperature = x;
        if (gguf_u32(gguf, "lfmd.speech.top_k", &n, NULL) == 0 && n <= 100000)
            both[i]->top_k = n;
    }
    e->model.n_words_max = 0;
    if (gguf_u32(gguf, "lfmd.speech.words", &n, NULL) == 0 && n <= 1000)
        e->model.n_words_max = n;
    replace(&e->voice, NULL);
    read_text(gguf, "lfmd.speech.voice", &e->voice);
}

/* A retrieval model ends in an embedding: it pools, projects, or sees both ways. */
static bool is_retrieval(const struct gguf *gguf, const char *architecture)
{
    char key[96];
    bool causal = true;
    uint32_t pooling = 0;

    snprintf(key, sizeof(key), "%s.attention.causal", architecture);
    gguf_bool(gguf, key, &causal, NULL);
    snprintf(key, sizeof(key), "%s.pooling_type", architecture);
    gguf_u32(gguf, key, &pooling, NULL);
    return !causal || pooling > 0 || strcmp(architecture, "lfm2-bidir") == 0 ||
           gguf_tensor(gguf, "dense_2.weight");
}

/* Read what a list of models needs from the header; weights are not touched. */
static void probe(struct entry *e)
{
    _cleanup_(freep) char *architecture = NULL;
    struct error err = ERROR_INIT;
    struct gguf *gguf = gguf_open(e->path[FILE_TEXT], &err);
    char key[96];

    e->n_embd = 0;
    if (!gguf) {
        e->error[FILE_TEXT] = err;
        log_warning("A model file cannot be used: %s", error_name(err.code));
        log_debug("%s", err.text);
        return;
    }
    e->error[FILE_TEXT] = (struct error)ERROR_INIT;
    e->bytes[FILE_TEXT] = e->model.size_bytes = gguf_file_bytes(gguf);
    architecture = copy("");
    read_text(gguf, "general.architecture", &architecture);
    if (strcmp(architecture, "lfm2") != 0 && strcmp(architecture, "lfm2moe") != 0 &&
        strcmp(architecture, "lfm2-bidir") != 0)
        error_set(&e->error[FILE_TEXT], ERROR_UNSUPPORTED_FORMAT,
                  "%.200s holds a model of the architecture '%.60s'; lfm2 and lfm2moe are known.",
                  e->path[FILE_TEXT], architecture);
    if (!e->in_registry) {
        read_text(gguf, "general.name", &e->title);
        read_text(gguf, "general.license", &e->licence);
        if (strcmp(e->licence, "other") == 0)
            read_text(gguf, "general.license.name", &e->licence);
        e->model.role = is_retrieval(gguf, architecture) ? MODEL_RETRIEVAL : MODEL_CHAT;
    }
    snprintf(key, sizeof(key), "%.60s.embedding_length", architecture);
    gguf_u32(gguf, key, &e->n_embd, NULL);
    read_sampling(gguf, &e->model.sampling);
    read_speech(gguf, e);
    gguf_free(gguf);
}

/* The hash that was found when the file was fetched: "HASH  NAME" beside it. */
static void read_hash_note(const char *path, char ret[SHA256_HEX + 1])
{
    char note[PATH_MAX], text[SHA256_HEX + 1] = "";
    _cleanup_(closep) int fd = -1;

    ret[0] = '\0';
    if (snprintf(note, sizeof(note), "%s.sha256", path) >= (int)sizeof(note))
        return;
    fd = open(note, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || read(fd, text, SHA256_HEX) != SHA256_HEX ||
        strspn(text, "0123456789abcdef") != SHA256_HEX)
        return;
    memcpy(ret, text, sizeof(text));
}

/* --- scanning ------------------------------------------------------------------------------- */

/* A file's model: the registry knows its name, or its stem is the id. NULL: none that we take. */
static struct entry *entry_of_file(struct models *models, const char *file)
{
    size_t length = strlen(file);
    char id[NAME_MAX + 1];
    struct entry *e;

    for (size_t i = 0; i < models->n; i++) {
        if (models->entries[i]->in_registry &&
            strcasecmp(models->entries[i]->registry.files[FILE_TEXT].name, file) == 0)
            return models->entries[i];
    }
    snprintf(id, sizeof(id), "%.*s", (int)(length - strlen(".gguf")), file);
    e = find_id(models, id);
    if (e)
        return e;
    if (models->n == MODELS_MAX)
        return NULL;
    e = entry_new(id);
    models->entries[models->n++] = e;
    return e;
}

/* Parts of a split model after the first: the first one opens them all. */
static bool is_later_part(const char *file)
{
    size_t length = strlen(file), tail = strlen("-00001-of-00001.gguf");
    unsigned part, parts;
    int end = 0;

    return length > tail &&
           sscanf(file + length - tail, "-%5u-of-%5u.gguf%n", &part, &parts, &end) == 2 &&
           (size_t)end == tail && part != 1;
}

static bool is_model_file(const char *file)
{
    size_t length = strlen(file);

    return file[0] != '.' && length > strlen(".gguf") &&
           strcasecmp(file + length - strlen(".gguf"), ".gguf") == 0 &&
           utf8_valid(file, length) && !is_later_part(file);
}

/* The hash that a file of the model should have; empty: not known. */
static void hash_of(const struct entry *e, enum model_file file, char ret[SHA256_HEX + 1])
{
    const struct registry_file *r = &e->registry.files[file];

    if (r->sha256 && strcasecmp(strrchr(e->path[file], '/') + 1, r->name) == 0)
        snprintf(ret, SHA256_HEX + 1, "%s", r->sha256);
    else
        read_hash_note(e->path[file], ret);
}

static void take_file(struct models *models, const char *directory, const char *file,
                      bool user_owned, unsigned rank)
{
    char path[PATH_MAX];
    struct entry *e;
    struct stat st;

    if (snprintf(path, sizeof(path), "%s/%s", directory, file) >= (int)sizeof(path) ||
        stat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return;
    e = entry_of_file(models, file);
    if (!e || e->found)
        return; /* an earlier directory has it */
    e->found = true;
    e->rank = rank;
    if (e->path[FILE_TEXT] && strcmp(e->path[FILE_TEXT], path) == 0 &&
        e->device == st.st_dev && e->inode == st.st_ino && e->size == st.st_size &&
        e->modified.tv_sec == st.st_mtim.tv_sec && e->modified.tv_nsec == st.st_mtim.tv_nsec)
        return;
    replace(&e->path[FILE_TEXT], path);
    e->device = st.st_dev;
    e->inode = st.st_ino;
    e->size = st.st_size;
    e->modified = st.st_mtim;
    e->bytes[FILE_TEXT] = e->model.size_bytes = (uint64_t)st.st_size;
    e->model.user_owned = user_owned;
    hash_of(e, FILE_TEXT, e->sha256);
    probe(e);
    changed(models, e);
}

static int compare_names(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int wanted_name(const struct dirent *entry)
{
    return is_model_file(entry->d_name) && !companion_is_marked(entry->d_name);
}

static int wanted_companion(const struct dirent *entry)
{
    return is_model_file(entry->d_name) && companion_is_marked(entry->d_name);
}

/* A file can be this companion of a model, and of this one. */
static bool check_companion(const struct entry *e, enum model_file file, const char *path,
                            const char *vocoder_path, struct error *err)
{
    uint32_t n_embd;

    if (companion_check(file, path, vocoder_path, &n_embd, err) != 0)
        return false;
    if (n_embd == 0 || n_embd == e->n_embd)
        return true;
    error_set(err, ERROR_UNSUPPORTED_FORMAT,
              "%.200s was made for a model with rows of %u values, but %.100s has rows of %u: it "
              "is the %s file of another model.",
              path, n_embd, strrchr(e->path[FILE_TEXT], '/') + 1, e->n_embd, companion_noun(file));
    return false;
}

/* Of the companions of one kind that fit, the one of the model's own quantisation, else the
 * smallest. `names` are files of the model's folder. */
static void find_companion(const struct entry *e, enum model_file file,
                           struct dirent *const *names, int n, const char *vocoder_path,
                           char ret_path[PATH_MAX], struct error *err)
{
    const char *text = strrchr(e->path[FILE_TEXT], '/') + 1;
    char stem[NAME_MAX + 1], name[NAME_MAX + 1], other[NAME_MAX + 1], path[PATH_MAX];
    off_t size = 0;

    ret_path[0] = '\0';
    companion_stem(text, stem);
    strcpy(name, stem);
    companion_cut(name);
    for (int i = 0; i < n; i++) {
        struct stat st;
        bool same;

        companion_stem(names[i]->d_name, other);
        same = strcasecmp(other, stem) == 0;
        companion_cut(other);
        if (strcasecmp(other, name) != 0 ||
            snprintf(path, sizeof(path), "%.*s%s", (int)(text - e->path[FILE_TEXT]),
                     e->path[FILE_TEXT], names[i]->d_name) >= (int)sizeof(path) ||
            stat(path, &st) < 0 || !check_companion(e, file, path, vocoder_path, err))
            continue;
        if (same || !ret_path[0] || st.st_size < size) {
            size = same ? 0 : st.st_size; /* none is smaller */
            strcpy(ret_path, path);
        }
    }
    if (ret_path[0])
        *err = (struct error)ERROR_INIT;
}

/* Look for the companions of a model. */
static void pair(struct models *models, struct entry *e)
{
    const bool usable = e->path[FILE_TEXT] && e->error[FILE_TEXT].code == ERROR_NONE &&
                        e->model.role == MODEL_CHAT;
    char paths[FILE_TEXT][PATH_MAX] = {""};
    uint64_t size_bytes = e->bytes[FILE_TEXT];
    struct dirent **names = NULL;
    bool same = true;
    struct stat st;
    int n = 0;

    if (usable) {
        const char *text = e->path[FILE_TEXT];
        _cleanup_(freep) char *directory = strndup(text, (size_t)(strrchr(text, '/') + 1 - text));

        n = directory ? scandir(directory, &names, wanted_companion, compare_names) : 0;
    }
    for (int file = 0; file < FILE_TEXT; file++) {
        e->error[file] = (struct error)ERROR_INIT;
        if (usable)
            find_companion(e, (enum model_file)file, names, n, e->path[FILE_VOCODER], paths[file],
                           &e->error[file]);
        same &= strcmp(e->path[file] ? e->path[file] : "", paths[file]) == 0;
        replace(&e->path[file], paths[file][0] ? paths[file] : NULL);
        e->bytes[file] = paths[file][0] && stat(paths[file], &st) == 0 &&
                                 !(file == FILE_DETOKENIZER && is_one_file(e))
                             ? (uint64_t)st.st_size
                             : 0;
        size_bytes += e->bytes[file];
    }
    for (int i = 0; i < n; i++)
        free(names[i]);
    free(names);
    if (!e->path[FILE_TEXT] || e->job)
        size_bytes = e->model.size_bytes;
    same &= size_bytes == e->model.size_bytes;
    e->model.size_bytes = size_bytes;
    if (same)
        entry_publish(e);
    else
        changed(models, e);
}

/* Installed files in the order of finding, then the registry in its own. */
static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = *(struct entry *const *)a, *y = *(struct entry *const *)b;

    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* A file went away: the model goes back to the registry, or out of the list. */
static void lose_file(struct models *models, size_t *i)
{
    struct entry *e = models->entries[*i];

    replace(&e->path[FILE_TEXT], NULL);
    e->model.user_owned = false;
    if (e->in_registry) {
        if (e->model.download == DOWNLOAD_DONE)
            e->model.download = DOWNLOAD_NONE;
        describe_registry(models, e);
        changed(models, e);
        return;
    }
    if (models->sink && models->sink->removed)
        models->sink->removed(models->userdata, e->id);
    memmove(&models->entries[*i], &models->entries[*i + 1],
            (models->n - *i - 1) * sizeof(models->entries[0]));
    models->n--;
    --*i;
    entry_free(e);
}

static const struct entry *find_default(const struct models *models)
{
    const struct entry *e = NULL;

    if (models->default_model) {
        e = find_named(models, models->default_model, NULL);
        return e && e->path[FILE_TEXT] ? e : NULL;
    }
    for (size_t i = 0; i < models->n && !e; i++) {
        const struct entry *candidate = models->entries[i];

        if (candidate->path[FILE_TEXT] && candidate->model.role == MODEL_CHAT &&
            candidate->error[FILE_TEXT].code == ERROR_NONE)
            e = candidate;
    }
    return e;
}

static void mark_default(struct models *models)
{
    const struct entry *chosen = find_default(models);

    for (size_t i = 0; i < models->n; i++) {
        struct entry *e = models->entries[i];

        if (e->model.is_default != (e == chosen)) {
            e->model.is_default = e == chosen;
            changed(models, e);
        }
    }
}

int models_rescan(struct models *models, struct error *err)
{
    unsigned rank = 0;

    (void)err; /* a folder that cannot be read is one without models */
    for (size_t i = 0; i < models->n; i++) {
        models->entries[i]->found = false;
        models->entries[i]->rank = MODELS_MAX * 64 + (unsigned)i;
    }
    for (size_t d = 0; models->directories[d]; d++) {
        struct dirent **names = NULL;
        int n = scandir(models->directories[d], &names, wanted_name, compare_names);

        for (int i = 0; i < n; i++) {
            take_file(models, models->directories[d], names[i]->d_name, d == 0, rank++);
            free(names[i]);
        }
        free(names);
    }
    for (size_t i = 0; i < models->n; i++) {
        struct entry *e = models->entries[i];

        if (!e->found && e->path[FILE_TEXT] && !e->job)
            lose_file(models, &i);
    }
    for (size_t i = 0; i < models->n; i++)
        pair(models, models->entries[i]);
    qsort(models->entries, models->n, sizeof(models->entries[0]), compare_entries);
    mark_default(models);
    return 0;
}

/* --- work of the helper ----------------------------------------------------------------------- */

static void job_end(struct models *models, struct entry *e)
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
        err = e->error[FILE_TEXT].code ? e->error[FILE_TEXT] : companion_error(e);
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
    changed(models, e);
}

static void helper_gone(struct models *models, struct entry *e)
{
    struct error err = ERROR_INIT;
    _cleanup_(json_putp) struct json_object *result = fetcher_end(e->job->fetcher, &err);
    const bool verify = e->job->verify;
    const enum model_file file = e->job->file;

    job_end(models, e);
    e->model.download_error = (struct error)ERROR_INIT;
    if (!result) {
        fail(e, err.code, err.text);
        log_info("The work on the file of model %s ended: %s.", e->id, error_name(err.code));
    } else if (verify) {
        verified(models, e, file, result);
    } else {
        fetched(models, e, file);
    }
    changed(models, e);
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
    changed(models, e);
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
    url_of(models, &e->registry, file, url);
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
    struct entry *e = find_id(models, id);
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
        changed(models, e);
    }
    return MIN(r, 0);
}

int models_download_cancel(struct models *models, const char *id, struct error *err)
{
    struct entry *e = find_id(models, id);

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
                                      (file == FILE_DETOKENIZER && is_one_file(e)));
         file++)
        job.there_bytes += e->bytes[file];
    if (file == _FILE_N)
        return 0;
    job.file = (enum model_file)file;
    hash_of(e, job.file, sha256);
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
    struct entry *e = find_id(models, id);
    char sha256[SHA256_HEX + 1];

    if (!e)
        return error_set(err, ERROR_MODEL_NOT_FOUND, "There is no model '%.100s'.", id);
    if (!e->path[FILE_TEXT])
        return error_set(err, ERROR_MODEL_NOT_INSTALLED, "%.100s is not installed.", id);
    if (e->job)
        return error_set(err, ERROR_BUSY, "%.100s is being fetched or verified already.", id);
    for (int file = _FILE_N - 1; file >= 0; file--) {
        if (!e->path[file] || (file == FILE_DETOKENIZER && is_one_file(e)))
            continue;
        hash_of(e, (enum model_file)file, sha256);
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
    if (length > tail &&
        sscanf(path + length - tail, "-%5u-of-%5u.gguf", &part, &parts) == 2) {
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
    struct entry *e = find_id(models, id);
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

/* --- the list ------------------------------------------------------------------------------- */

size_t models_n(const struct models *models)
{
    return models->n;
}

const struct model *models_at(const struct models *models, size_t i)
{
    return &models->entries[i]->model;
}

const struct model *models_named(const struct models *models, const char *name, struct error *err)
{
    const struct entry *e = find_named(models, name, err);

    return e ? &e->model : NULL;
}

const struct model *models_find(const struct models *models, const char *name, struct error *err)
{
    const struct entry *e;

    if (!name) {
        e = find_default(models);
        if (e)
            return &e->model;
        if (models->default_model)
            return models_find(models, models->default_model, err);
        error_set(err, ERROR_MODEL_NOT_INSTALLED,
                  "No model is installed. \"lfmctl models\" lists what there is; "
                  "\"lfmctl pull lfm2.5-1.2b-instruct\" fetches one.");
        return NULL;
    }
    e = find_named(models, name, err);
    if (e && e->path[FILE_TEXT])
        return &e->model;
    if (e)
        error_set(err, ERROR_MODEL_NOT_INSTALLED,
                  "The model %.100s is not installed. \"lfmctl pull %.100s\" fetches it.", e->id,
                  e->id);
    return NULL;
}

/* What a model can beside reading and writing. */
struct ability {
    const char *does;            /* "see pictures" */
    const char *lacks;           /* what a model needs for it */
    const char *example;         /* a published model that does */
    enum model_file first, last; /* its files */
};

static bool is_able(const struct entry *e, const struct ability *ability)
{
    for (int file = ability->first; file <= (int)ability->last; file++)
        if (!e->path[file])
            return false;
    return true;
}

/* Why this model is not able. */
static void say_unable(const struct entry *e, const struct ability *ability,
                       const struct entry *other, struct error *err)
{
    for (int file = ability->first; file <= (int)ability->last; file++)
        if (e->error[file].code != ERROR_NONE)
            error_set(err, ERROR_INVALID_ARGUMENT, "The model %s cannot %s. %s", e->id,
                      ability->does, e->error[file].text);
    if (other)
        error_set(err, ERROR_INVALID_ARGUMENT,
                  "The model %s cannot %s, because it has no %s; the model %s can.", e->id,
                  ability->does, ability->lacks, other->id);
    else
        error_set(err, ERROR_INVALID_ARGUMENT,
                  "The model %s cannot %s, because it has no %s. \"lfmctl pull %s\" installs a "
                  "model that can.",
                  e->id, ability->does, ability->lacks, ability->example);
}

static const struct model *find_able(const struct models *models, const char *name,
                                     const struct ability *ability, struct error *err)
{
    const struct entry *able = NULL, *e;
    const struct model *model;

    for (size_t i = models->n; i-- > 0;)
        if (is_able(models->entries[i], ability))
            able = models->entries[i];
    model = models_find(models, name, name || !able ? err : NULL);
    e = model ? find_id(models, model->id) : NULL;
    if (!name && able && (!e || !is_able(e, ability)))
        e = able;
    if (!e || is_able(e, ability))
        return e ? &e->model : NULL;
    say_unable(e, ability, able, err);
    return NULL;
}

const struct model *models_find_seeing(const struct models *models, const char *name,
                                       struct error *err)
{
    static const struct ability sees = {"see pictures", "vision file (mmproj)", "lfm2.5-vl-450m",
                                        FILE_VISION, FILE_VISION};

    return find_able(models, name, &sees, err);
}

const struct model *models_find_hearing(const struct models *models, const char *name,
                                        struct error *err)
{
    static const struct ability hears = {"hear", "audio file (mmproj)", "lfm2.5-audio-1.5b",
                                         FILE_EAR, FILE_EAR};

    return find_able(models, name, &hears, err);
}

const struct model *models_find_speaking(const struct models *models, const char *name,
                                         struct error *err)
{
    static const struct ability speaks = {"speak", "vocoder file with its tokenizer file",
                                          "lfm2.5-audio-1.5b", FILE_VOCODER, FILE_DETOKENIZER};

    return find_able(models, name, &speaks, err);
}

static void registry_fill(struct models *models)
{
    struct registry_model model;

    for (size_t i = 0; registry_at(i, &model); i++) {
        struct entry *e = entry_new(model.id);

        e->in_registry = true;
        e->registry = model;
        describe_registry(models, e);
        models->entries[models->n++] = e;
    }
}

struct models *models_new(const struct models_config *config, const struct models_sink *sink,
                          void *userdata, struct error *err)
{
    struct models *models = calloc(1, sizeof(*models));
    size_t n = 0, length;

    if (!models) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for the list of models.");
        return NULL;
    }
    models->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (models->epoll < 0) {
        error_set(err, ERROR_IO, "No epoll descriptor for downloads: %s.", strerror(errno));
        free(models);
        return NULL;
    }
    while (config->directories && config->directories[n])
        n++;
    models->directories = calloc(n + 1, sizeof(*models->directories));
    if (!models->directories)
        abort();
    for (size_t i = 0; i < n; i++)
        models->directories[i] = copy(config->directories[i]);
    models->default_model = copy(config->default_model);
    models->mirror = copy(config->mirror);
    length = models->mirror ? strlen(models->mirror) : 0;
    while (length > 0 && models->mirror[length - 1] == '/')
        models->mirror[--length] = '\0';
    models->fetch_program = copy(config->fetch_program ? config->fetch_program : "lfmd-fetch");
    registry_fill(models);
    models_rescan(models, NULL);
    /* Nobody has seen the list before: what was found so far is no change. */
    models->sink = sink;
    models->userdata = userdata;
    return models;
}

struct models *models_free(struct models *models)
{
    if (!models)
        return NULL;
    for (size_t i = 0; i < models->n; i++) {
        struct entry *e = models->entries[i];

        if (e->job)
            job_end(models, e);
        entry_free(e);
    }
    for (size_t i = 0; models->directories[i]; i++)
        free(models->directories[i]);
    free(models->directories);
    free(models->default_model);
    free(models->mirror);
    free(models->fetch_program);
    close(models->epoll);
    free(models);
    return NULL;
}
