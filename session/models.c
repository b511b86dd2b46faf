/* SPDX-License-Identifier: MIT */
#include "session/models.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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
#include "session/models_internal.h"
#include "tensor/gguf.h"

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

struct error models_companion_error(const struct entry *e)
{
    static const struct error none = ERROR_INIT;
    const bool projects = e->path[FILE_VISION] || e->path[FILE_EAR];

    for (int file = projects ? FILE_VOCODER : FILE_VISION; file < FILE_TEXT; file++)
        if (e->error[file].code != ERROR_NONE)
            return e->error[file];
    return none;
}

/* LFM2-Audio: its voices are told in another way than those of LFM2.5-Audio. */
static bool is_first_generation(const struct entry *e)
{
    return strcasestr(e->id, "lfm2-audio") || models_is_one_file(e);
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
    e->model.companion_error = models_companion_error(e);
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

struct entry *models_entry(const struct models *models, const char *id)
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

void models_changed(struct models *models, struct entry *e)
{
    entry_publish(e);
    if (models->sink && models->sink->changed)
        models->sink->changed(models->userdata, &e->model);
}

void models_url(const struct models *models, const struct registry_model *r, enum model_file file,
                char url[URL_MAX])
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

    models_url(models, r, FILE_TEXT, url);
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
    e = models_entry(models, id);
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
void models_hash(const struct entry *e, enum model_file file, char ret[SHA256_HEX + 1])
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
    models_hash(e, FILE_TEXT, e->sha256);
    probe(e);
    models_changed(models, e);
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
                                 !(file == FILE_DETOKENIZER && models_is_one_file(e))
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
        models_changed(models, e);
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
        models_changed(models, e);
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
            models_changed(models, e);
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

static void say_none(const char *example, struct error *err)
{
    error_set(err, ERROR_MODEL_NOT_INSTALLED,
              "No model is installed. \"lfmctl models\" lists what there is; "
              "\"lfmctl pull %s\" fetches one.",
              example);
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
        say_none("lfm2.5-1.2b-instruct", err);
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
    if (!name && !able && !models->default_model && !find_default(models)) {
        say_none(ability->example, err); /* one that would do */
        return NULL;
    }
    model = models_find(models, name, name || !able ? err : NULL);
    e = model ? models_entry(models, model->id) : NULL;
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
            models_job_end(models, e);
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
