/* SPDX-License-Identifier: MIT */
/*
 * The list of models: what is found in folders that are good, broken and strange; and downloads
 * with the real helper from a server on loopback. Model files are headers without tensors.
 */
#include "session/models.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "session/companion.h"
#include "session/registry.h"
#include "tests/audio/talk.h"
#include "tests/fixture.h"

#define TINY_TEXT   "tests/data/vision/tiny_text_f32.gguf"
#define TINY_VISION "tests/data/vision/mmproj-tiny_text_f32.gguf"
#define TINY_EAR    "tests/data/audio/mmproj-tiny_f32.gguf"
#define TINY_SPEECH "tests/data/audio/audiodecoder.q8_0.gguf" /* depthformer and Mimi in one */
#define TINY_MIMI   "tests/data/audio/mimi.gguf"

static char scratch[] = "/tmp/lfmd-models-XXXXXX";
static pid_t server;
static char mirror[64];
static unsigned n_changed, n_removed;
static uint64_t last_bytes;
static bool went_back;

/* --- making files --------------------------------------------------------------------------- */

static const char *path_of(const char *name)
{
    static char path[8][256];
    static unsigned next;

    snprintf(path[next % 8], sizeof(path[0]), "%s/%s", scratch, name);
    return path[next++ % 8];
}

static void put_u32(FILE *file, uint32_t n)
{
    fwrite(&n, sizeof(n), 1, file);
}

static void put_text(FILE *file, const char *text)
{
    uint64_t length = strlen(text);

    fwrite(&length, sizeof(length), 1, file);
    fwrite(text, 1, length, file);
}

static void put_key(FILE *file, const char *key, const char *value)
{
    put_text(file, key);
    put_u32(file, 8);
    put_text(file, value);
}

/* A GGUF header; filler: bytes of a description, to make it large. */
static void write_model(const char *name, const char *architecture, const char *title,
                        size_t filler)
{
    char *text = calloc(1, filler + 1);
    FILE *file = fopen(path_of(name), "w");
    uint64_t n_tensors = 0, n_keys = 5;
    float temperature = 0.5f;

    assert_non_null(file);
    memset(text, 'x', filler);
    fwrite("GGUF", 1, 4, file);
    put_u32(file, 3);
    fwrite(&n_tensors, sizeof(n_tensors), 1, file);
    fwrite(&n_keys, sizeof(n_keys), 1, file);
    put_key(file, "general.architecture", architecture);
    put_key(file, "general.name", title);
    put_key(file, "general.license", "MIT");
    put_key(file, "general.description", text);
    put_text(file, "general.sampling.temp");
    put_u32(file, 6);
    fwrite(&temperature, sizeof(temperature), 1, file);
    for (int i = 0; i < 64; i++) /* where aligned data would begin */
        fputc(0, file);
    fclose(file);
    free(text);
}

static void write_text(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static bool here(const char *name)
{
    return access(path_of(name), F_OK) == 0;
}

/* --- a list with its sink ------------------------------------------------------------------- */

static void on_changed(void *userdata, const struct model *model)
{
    (void)userdata;
    n_changed++;
    if (model->download == DOWNLOAD_RUNNING) {
        went_back |= model->download_bytes < last_bytes;
        last_bytes = model->download_bytes;
    }
}

static void on_removed(void *userdata, const char *id)
{
    (void)userdata, (void)id;
    n_removed++;
}

static struct models *open_models(const char *default_model)
{
    static const struct models_sink sink = {.changed = on_changed, .removed = on_removed};
    const char *const directories[] = {path_of("own"), path_of("system"), path_of("absent"), NULL};
    struct models_config config = {
        .directories = directories,
        .default_model = default_model,
        .mirror = mirror,
        .fetch_program = getenv("LFMD_FETCH"),
    };
    struct models *models = models_new(&config, &sink, NULL, NULL);

    assert_non_null(models);
    n_changed = n_removed = 0;
    last_bytes = 0;
    went_back = false;
    return models;
}

static const struct model *get(const struct models *models, const char *id)
{
    for (size_t i = 0; i < models_n(models); i++) {
        if (strcmp(models_at(models, i)->id, id) == 0)
            return models_at(models, i);
    }
    return NULL;
}

static void wait_until_idle(struct models *models)
{
    while (models_busy(models)) {
        struct pollfd p = {.fd = models_fd(models), .events = POLLIN};

        assert_int_equal(poll(&p, 1, 30000), 1);
        models_dispatch(models);
    }
}

static int fresh_folders(void **state)
{
    char command[256];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s/own %s/system && mkdir %s/own %s/system", scratch,
             scratch, scratch, scratch);
    return system(command);
}

/* --- tests ---------------------------------------------------------------------------------- */

static void link_data(const char *file, const char *name)
{
    char source[512];

    snprintf(source, sizeof(source), "%s/%s", LFMD_SOURCE_ROOT, file);
    assert_int_equal(symlink(source, path_of(name)), 0);
}

/* The same with some bytes more at its end, which mean nothing. */
static void copy_data(const char *file, const char *name, int more)
{
    char command[1024];

    snprintf(command, sizeof(command), "cat %s/%s > %s && head -c %d /dev/zero >> %s",
             LFMD_SOURCE_ROOT, file, path_of(name), more, path_of(name));
    assert_int_equal(system(command), 0);
}

static void write_bytes(const char *name, uint8_t *bytes, size_t size)
{
    _cleanup_(freep) uint8_t *taken = bytes;
    FILE *file = fopen(path_of(name), "w");

    assert_non_null(file);
    assert_int_equal(fwrite(taken, 1, size, file), size);
    fclose(file);
}

/* What lets a model talk; n_embd: width of the text model that it was made for. */
static void write_companions(const char *folder, const char *name, uint32_t n_embd)
{
    char path[128];
    size_t size;
    uint8_t *bytes;

    bytes = talk_ear(n_embd, &size);
    snprintf(path, sizeof(path), "%s/mmproj-%s", folder, name);
    write_bytes(path, bytes, size);
    bytes = talk_vocoder(n_embd, &size);
    snprintf(path, sizeof(path), "%s/vocoder-%s", folder, name);
    write_bytes(path, bytes, size);
    bytes = talk_tokenizer(&size);
    snprintf(path, sizeof(path), "%s/tokenizer-%s", folder, name);
    write_bytes(path, bytes, size);
}

static void check_registry_file(const struct registry_file *file)
{
    assert_true(file->size_bytes > 40000000 && file->size_bytes < 100000000000);
    assert_true(!file->sha256 || strlen(file->sha256) == 64);
    assert_int_equal(file->sha256 ? 40 : strlen("main"), strlen(file->revision));
    assert_true(file->sha256 || !file->size_exact);
    assert_non_null(strstr(file->name, ".gguf"));
}

static void test_every_registry_id_is_one_set_of_files_with_a_sane_recipe(void **state)
{
    struct registry_model a, b;

    (void)state;
    assert_true(registry_n() > 50);
    assert_false(registry_at(registry_n(), &a));
    for (size_t i = 0; i < registry_n(); i++) {
        bool talks;

        assert_true(registry_at(i, &a));
        talks = strstr(a.id, "-audio-") != NULL;
        for (int file = 0; file < _FILE_N; file++) {
            if (a.files[file].name[0])
                check_registry_file(&a.files[file]);
            if (file < FILE_TEXT)
                assert_int_equal(companion_is_marked(a.files[file].name),
                                 a.files[file].name[0] != 0);
        }
        assert_int_equal(a.files[FILE_VISION].name[0] != 0, strstr(a.id, "-vl-") != NULL);
        assert_int_equal(a.files[FILE_EAR].name[0] != 0, talks);
        assert_int_equal(a.files[FILE_VOCODER].name[0] != 0, talks);
        assert_int_equal(a.files[FILE_DETOKENIZER].name[0] != 0,
                         talks && strstr(a.id, "lfm2.5") != NULL);
        assert_true(a.files[FILE_TEXT].size_bytes > 100000000);
        assert_true(a.sampling.top_p > 0 && a.sampling.repetition_penalty >= 1);
        assert_true(a.context >= 512);
        for (size_t j = 0; j < i; j++) {
            registry_at(j, &b);
            assert_string_not_equal(a.id, b.id);
            assert_string_not_equal(a.files[FILE_TEXT].name, b.files[FILE_TEXT].name);
        }
    }
}

static void test_sampling_is_what_the_cards_recommend(void **state)
{
    struct sampling s;

    (void)state;
    s = registry_sampling("LFM2-1.2B");
    assert_float_equal(s.temperature, 0.3, 1e-6);
    assert_float_equal(s.min_p, 0.15, 1e-6);
    assert_float_equal(s.repetition_penalty, 1.05, 1e-6);
    s = registry_sampling("lfm2.5-1.2b-instruct");
    assert_float_equal(s.temperature, 0.1, 1e-6);
    assert_int_equal(s.top_k, 50);
    assert_float_equal(s.top_p, 0.1, 1e-6);
    s = registry_sampling("LFM2.5-8B-A1B");
    assert_float_equal(s.temperature, 0.2, 1e-6);
    assert_int_equal(s.top_k, 80);
    s = registry_sampling("LFM2-350M-Extract");
    assert_float_equal(s.temperature, 0, 1e-6);
    s = registry_sampling("LFM2.5-Audio-1.5B");
    assert_float_equal(s.temperature, 0, 1e-6);
    s = registry_sampling("LFM2.5-VL-1.6B");
    assert_float_equal(s.temperature, 0.1, 1e-6);
    assert_float_equal(s.min_p, 0.15, 1e-6);
    assert_int_equal(s.top_k, 0);
    s = registry_sampling("lfmd-core-q8_0");
    assert_float_equal(s.temperature, 0, 1e-6);
}

static void test_known_and_unknown_files_are_found(void **state)
{
    struct models *models;
    const struct model *m;
    struct error err = ERROR_INIT;

    (void)state;
    write_model("system/my-model.gguf", "lfm2", "My Model", 0);
    write_model("own/LFM2-1.2B-Q4_0.gguf", "lfm2", "whatever", 0);
    write_model("own/lfm2-1.2b-q8_0.gguf", "lfm2", "other letters, same file", 0);
    write_text("own/notes.txt", "no model");
    write_text("own/.hidden.gguf", "no model");
    models = open_models(NULL);

    m = models_find(models, "lfm2-1.2b", NULL);
    assert_non_null(m);
    assert_string_equal(m->title, "LFM2-1.2B (Q4_0)");
    assert_string_equal(m->licence, "LFM Open License v1.0");
    assert_true(m->user_owned);
    assert_true(m->is_default);
    assert_ptr_equal(m, models_find(models, NULL, NULL));
    assert_ptr_equal(m, models_find(models, "LFM2-1.2B-Q4_0", NULL));
    assert_ptr_equal(m, models_find(models, m->path, NULL));
    assert_ptr_equal(m, models_at(models, 0));
    assert_non_null(models_find(models, "lfm2-1.2b:q8_0", NULL));

    m = models_find(models, "my-model", NULL);
    assert_non_null(m);
    assert_string_equal(m->title, "My Model");
    assert_string_equal(m->licence, "MIT");
    assert_float_equal(m->sampling.temperature, 0.5, 1e-6); /* the file says so */
    assert_false(m->user_owned);
    assert_false(m->is_default);
    assert_null(m->url);

    assert_null(models_find(models, "lfm2-350m", &err));
    assert_int_equal(err.code, ERROR_MODEL_NOT_INSTALLED);
    assert_non_null(strstr(err.text, "lfmctl pull lfm2-350m"));
    err = (struct error)ERROR_INIT;
    assert_null(models_find(models, "nonsense", &err));
    assert_int_equal(err.code, ERROR_MODEL_NOT_FOUND);
    models_free(models);
}

static void test_the_quantisation_may_be_left_out_where_one_is_installed(void **state)
{
    static const char *const others[] = {"core-", "core-q", "core-q8", "core-tiny-q4_k", ""};
    struct error err = ERROR_INIT;
    struct models *models;

    (void)state;
    write_model("system/core-q8_0.gguf", "lfm2", "Core", 0);
    write_model("own/core-tiny-Q4_K_M.gguf", "lfm2", "Tiny", 0);
    write_model("own/core-tiny-notes.gguf", "lfm2", "Not a quantisation", 0);
    models = open_models("core");
    assert_string_equal(models_find(models, "core", NULL)->id, "core-q8_0");
    assert_string_equal(models_find(models, NULL, NULL)->id, "core-q8_0");
    assert_string_equal(models_named(models, "Core-Tiny", NULL)->id, "core-tiny-Q4_K_M");
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_null(models_named(models, others[i], NULL));

    write_model("own/core-bf16.gguf", "lfm2", "Core", 0);
    models_rescan(models, NULL);
    assert_null(models_find(models, "core", &err));
    assert_int_equal(err.code, ERROR_MODEL_NOT_FOUND);
    assert_string_equal(err.text, "'core' can be one of core-bf16, core-q8_0; say which.");
    assert_null(models_find(models, NULL, NULL));
    write_model("own/core.gguf", "lfm2", "A name of its own", 0);
    models_rescan(models, NULL);
    assert_string_equal(models_find(models, "core", NULL)->id, "core");
    models_free(models);
}

static void test_a_user_s_file_shadows_the_system_s(void **state)
{
    struct models *models;
    const struct model *m;

    (void)state;
    write_model("own/a.gguf", "lfm2", "Own", 0);
    write_model("system/a.gguf", "lfm2", "System", 0);
    models = open_models(NULL);
    m = models_find(models, "a", NULL);
    assert_string_equal(m->title, "Own");
    unlink(path_of("own/a.gguf"));
    models_rescan(models, NULL);
    m = models_find(models, "a", NULL);
    assert_string_equal(m->title, "System");
    assert_false(m->user_owned);
    models_free(models);
}

static void test_broken_files_are_listed_with_their_error(void **state)
{
    struct models *models;
    const struct model *m;

    (void)state;
    write_text("own/a-broken.gguf", "GGUF");
    write_text("own/b-empty.gguf", "");
    write_model("own/c-foreign.gguf", "llama", "Foreign", 0);
    write_model("own/d-good.gguf", "lfm2", "Good", 0);
    assert_int_equal(mkdir(path_of("own/e-folder.gguf"), 0700), 0);
    assert_int_equal(symlink("/nowhere", path_of("own/f-dangling.gguf")), 0);
    models = open_models(NULL);
    m = get(models, "a-broken");
    assert_int_equal(m->error.code, ERROR_UNSUPPORTED_FORMAT);
    assert_true(strlen(m->error.text) > 20);
    assert_int_not_equal(get(models, "b-empty")->error.code, ERROR_NONE);
    m = get(models, "c-foreign");
    assert_int_equal(m->error.code, ERROR_UNSUPPORTED_FORMAT);
    assert_non_null(strstr(m->error.text, "'llama'"));
    assert_string_equal(models_find(models, NULL, NULL)->id, "d-good");
    assert_null(get(models, "e-folder"));
    assert_null(get(models, "f-dangling"));
    models_free(models);
}

static void test_retrieval_models_are_told_from_chat_models(void **state)
{
    const char *chat = fixture_path("text/nano_dense.F32.gguf");
    const char *colbert = fixture_path("text/nano_colbert.F32.gguf");
    struct models *models;

    (void)state;
    if (!chat || !colbert) {
        print_message("skipped: no shared fixtures\n");
        skip();
    }
    assert_int_equal(symlink(chat, path_of("own/chat.gguf")), 0);
    assert_int_equal(symlink(colbert, path_of("own/a-colbert.gguf")), 0);
    models = open_models(NULL);
    assert_int_equal(get(models, "chat")->error.code, ERROR_NONE);
    assert_int_equal(get(models, "chat")->role, MODEL_CHAT);
    assert_int_equal(get(models, "a-colbert")->role, MODEL_RETRIEVAL);
    assert_string_equal(models_find(models, NULL, NULL)->id, "chat");
    models_free(models);
}

static void test_the_model_of_this_repository_is_a_greedy_chat_model(void **state)
{
    struct models *models;
    const struct model *m;

    (void)state;
    assert_int_equal(symlink(LFMD_SOURCE_ROOT "/models/lfmd-core-q8_0.gguf",
                             path_of("system/lfmd-core-q8_0.gguf")),
                     0);
    models = open_models(NULL);
    m = models_find(models, NULL, NULL);
    assert_non_null(m);
    assert_string_equal(m->id, "lfmd-core-q8_0");
    assert_int_equal(m->error.code, ERROR_NONE);
    assert_int_equal(m->role, MODEL_CHAT);
    assert_float_equal(m->sampling.temperature, 0, 1e-6);
    assert_true(m->size_bytes > 1000000);
    models_free(models);
}

static void test_a_bidirectional_file_is_a_retrieval_model(void **state)
{
    struct models *models;

    (void)state;
    write_model("own/both-ways.gguf", "lfm2-bidir", "Both ways", 0);
    models = open_models(NULL);
    assert_int_equal(get(models, "both-ways")->role, MODEL_RETRIEVAL);
    assert_null(models_find(models, NULL, NULL));
    models_free(models);
}

static void test_later_parts_of_a_split_model_are_not_models(void **state)
{
    struct models *models;

    (void)state;
    write_model("own/split-00001-of-00002.gguf", "lfm2", "Split", 0);
    write_model("own/split-00002-of-00002.gguf", "lfm2", "Split", 0);
    models = open_models(NULL);
    assert_non_null(get(models, "split-00001-of-00002"));
    assert_null(get(models, "split-00002-of-00002"));
    assert_int_equal(models_remove(models, "split-00001-of-00002", NULL), 0);
    assert_false(here("own/split-00002-of-00002.gguf"));
    models_free(models);
}

static void test_a_rescan_reports_what_came_went_and_changed(void **state)
{
    struct models *models;

    (void)state;
    write_model("own/a.gguf", "lfm2", "A", 0);
    models = open_models(NULL);
    models_rescan(models, NULL);
    assert_int_equal(n_changed, 0);
    write_model("own/b.gguf", "lfm2", "B", 0);
    models_rescan(models, NULL);
    assert_int_equal(n_changed, 1);
    write_model("own/b.gguf", "lfm2", "Changed", 10);
    models_rescan(models, NULL);
    assert_int_equal(n_changed, 2);
    assert_string_equal(get(models, "b")->title, "Changed");
    unlink(path_of("own/b.gguf"));
    models_rescan(models, NULL);
    assert_int_equal(n_removed, 1);
    assert_null(get(models, "b"));
    models_free(models);
}

static void test_the_hash_beside_a_file_is_read_with_it(void **state)
{
    char note[80];
    struct models *models;

    (void)state;
    snprintf(note, sizeof(note), "%064d  a.gguf\n", 7);
    write_model("own/a.gguf", "lfm2", "A", 0);
    write_text("own/a.gguf.sha256", note);
    models = open_models(NULL);
    assert_memory_equal(get(models, "a")->sha256, note, 64);
    unlink(path_of("own/a.gguf.sha256"));
    write_model("own/a.gguf", "lfm2", "Another", 10);
    models_rescan(models, NULL);
    assert_null(get(models, "a")->sha256);
    models_free(models);
}

static void test_the_configured_default_wins_or_is_missed(void **state)
{
    struct models *models;
    struct error err = ERROR_INIT;

    (void)state;
    write_model("own/a.gguf", "lfm2", "A", 0);
    write_model("own/b.gguf", "lfm2", "B", 0);
    models = open_models("b");
    assert_string_equal(models_find(models, NULL, NULL)->id, "b");
    models_free(models);
    models = open_models("lfm2-1.2b");
    assert_null(models_find(models, NULL, &err));
    assert_int_equal(err.code, ERROR_MODEL_NOT_INSTALLED);
    models_free(models);
}

static void test_a_pulled_model_is_installed_and_verifiable(void **state)
{
    struct models *models = open_models(NULL);
    const struct model *m;
    FILE *file;

    (void)state;
    assert_int_equal(models_download(models, "lfm2-700m", NULL), 0);
    assert_int_equal(models_download(models, "lfm2-700m", NULL), 0); /* joins */
    assert_true(models_busy(models));
    assert_int_equal(get(models, "lfm2-700m")->download, DOWNLOAD_RUNNING);
    wait_until_idle(models);
    m = models_find(models, "lfm2-700m", NULL);
    assert_non_null(m);
    assert_int_equal(m->download, DOWNLOAD_DONE);
    assert_int_equal(m->download_bytes, m->size_bytes);
    assert_int_equal(m->error.code, ERROR_NONE);
    assert_true(m->is_default && m->user_owned);
    assert_non_null(m->sha256);
    assert_false(went_back);

    assert_int_equal(models_verify(models, "lfm2-700m", NULL), 0);
    assert_int_equal(m->download, DOWNLOAD_VERIFYING);
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_DONE);
    file = fopen(m->path, "r+");
    fseek(file, 100, SEEK_SET);
    fputc('X', file);
    fclose(file);
    assert_int_equal(models_verify(models, "lfm2-700m", NULL), 0);
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_FAILED);
    assert_int_equal(m->download_error.code, ERROR_UNSUPPORTED_FORMAT);
    assert_non_null(strstr(m->download_error.text, "of lfm2-700m is damaged"));

    assert_int_equal(models_remove(models, "lfm2-700m", NULL), 0);
    assert_false(here("own/LFM2-700M-Q4_0.gguf"));
    assert_false(here("own/LFM2-700M-Q4_0.gguf.sha256"));
    assert_null(get(models, "lfm2-700m")->path);
    assert_int_equal(get(models, "lfm2-700m")->download, DOWNLOAD_NONE);
    models_free(models);
}

static void test_a_pinned_file_that_is_another_is_refused(void **state)
{
    struct models *models = open_models(NULL);
    const struct model *m = get(models, "lfm2.5-1.2b-instruct");

    (void)state;
    assert_int_equal(models_download(models, m->id, NULL), 0);
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_FAILED);
    assert_int_equal(m->download_error.code, ERROR_DOWNLOAD_FAILED);
    assert_non_null(strstr(m->download_error.text, "the publisher has replaced the file"));
    assert_null(m->path);
    models_free(models);
}

static void test_a_cancelled_pull_goes_on_later(void **state)
{
    struct models *models = open_models(NULL);
    const struct model *m = get(models, "lfm2-700m:q8_0");

    (void)state;
    assert_int_equal(models_download(models, m->id, NULL), 0);
    while (m->download_bytes == 0) {
        struct pollfd p = {.fd = models_fd(models), .events = POLLIN};

        assert_int_equal(poll(&p, 1, 30000), 1);
        models_dispatch(models);
    }
    assert_int_equal(models_remove(models, m->id, NULL), error_errno(ERROR_BUSY));
    assert_int_equal(models_download_cancel(models, m->id, NULL), 0);
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_CANCELLED);
    assert_true(here("own/LFM2-700M-Q8_0.gguf.part"));
    assert_int_equal(models_download(models, m->id, NULL), 0);
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_DONE);
    assert_non_null(m->path);
    models_free(models);
}

static void dispatch_until_bytes(struct models *models, const struct model *m, uint64_t bytes)
{
    while (m->download_bytes <= bytes) {
        struct pollfd p = {.fd = models_fd(models), .events = POLLIN};

        assert_int_equal(poll(&p, 1, 30000), 1);
        models_dispatch(models);
    }
}

static uint64_t bytes_of(const char *name)
{
    struct stat st;

    assert_int_equal(stat(path_of(name), &st), 0);
    return (uint64_t)st.st_size;
}

static void test_a_model_that_sees_is_pulled_with_its_vision_file(void **state)
{
    struct models *models = open_models(NULL);
    const struct model *m = get(models, "lfm2-vl-450m");
    const uint64_t bytes =
        bytes_of("hub/LFM2-VL-450M-Q4_0.gguf") + bytes_of("hub/mmproj-LFM2-VL-450M-Q8_0.gguf");
    FILE *file;

    (void)state;
    assert_true(m->sees && !m->vision_path);
    assert_int_equal(models_download(models, m->id, NULL), 0);
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_DONE);
    assert_non_null(m->vision_path);
    assert_int_equal(m->size_bytes, bytes);
    assert_int_equal(m->download_bytes, bytes);
    assert_false(went_back);

    /* Without the vision file it is not whole, and only that is fetched again. */
    unlink(path_of("own/mmproj-LFM2-VL-450M-Q8_0.gguf"));
    models_rescan(models, NULL);
    assert_null(m->vision_path);
    assert_false(m->sees);
    assert_int_equal(m->size_bytes, bytes_of("own/LFM2-VL-450M-Q4_0.gguf"));
    last_bytes = 0;
    assert_int_equal(models_download(models, m->id, NULL), 0);
    dispatch_until_bytes(models, m, 0);
    assert_true(m->download_bytes >= bytes_of("own/LFM2-VL-450M-Q4_0.gguf"));
    wait_until_idle(models);
    assert_non_null(m->vision_path);

    assert_int_equal(models_verify(models, m->id, NULL), 0);
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_DONE);
    file = fopen(m->vision_path, "r+");
    fseek(file, -10, SEEK_END);
    fputc('X', file);
    fclose(file);
    assert_int_equal(models_verify(models, m->id, NULL), 0);
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_FAILED);
    assert_non_null(strstr(m->download_error.text, "The vision file of lfm2-vl-450m is damaged"));

    assert_int_equal(models_remove(models, m->id, NULL), 0);
    assert_false(here("own/LFM2-VL-450M-Q4_0.gguf"));
    assert_false(here("own/mmproj-LFM2-VL-450M-Q8_0.gguf"));
    assert_false(here("own/mmproj-LFM2-VL-450M-Q8_0.gguf.sha256"));
    models_free(models);
}

static void test_a_vision_file_stays_for_another_quantisation(void **state)
{
    struct models *models = open_models(NULL);

    (void)state;
    assert_int_equal(models_download(models, "lfm2-vl-450m", NULL), 0);
    wait_until_idle(models);
    assert_int_equal(models_download(models, "lfm2-vl-450m:q8_0", NULL), 0);
    wait_until_idle(models);
    assert_int_equal(models_remove(models, "lfm2-vl-450m", NULL), 0);
    assert_non_null(get(models, "lfm2-vl-450m:q8_0")->vision_path);
    assert_int_equal(models_remove(models, "lfm2-vl-450m:q8_0", NULL), 0);
    assert_false(here("own/mmproj-LFM2-VL-450M-Q8_0.gguf"));
    models_free(models);
}

static void test_an_interrupted_pull_of_two_files_goes_on_later(void **state)
{
    struct models *models = open_models(NULL);
    const struct model *m = get(models, "lfm2-vl-450m:q8_0");
    const uint64_t vision_bytes = bytes_of("hub/mmproj-LFM2-VL-450M-Q8_0.gguf");

    (void)state;
    assert_int_equal(models_download(models, m->id, NULL), 0);
    dispatch_until_bytes(models, m, vision_bytes); /* in the second file */
    assert_int_equal(models_download_cancel(models, m->id, NULL), 0);
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_CANCELLED);
    assert_null(m->path);
    assert_true(here("own/mmproj-LFM2-VL-450M-Q8_0.gguf"));
    assert_true(here("own/LFM2-VL-450M-Q8_0.gguf.part"));
    last_bytes = 0;
    assert_int_equal(models_download(models, m->id, NULL), 0);
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_DONE);
    assert_non_null(m->vision_path);
    models_free(models);
}

static void test_without_its_vision_file_nothing_is_installed(void **state)
{
    struct models *models = open_models(NULL);
    const struct model *m = get(models, "lfm2-vl-3b");

    (void)state;
    assert_int_equal(models_download(models, m->id, NULL), 0);
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_FAILED);
    assert_int_equal(m->download_error.code, ERROR_DOWNLOAD_FAILED);
    assert_null(m->path);
    models_free(models);
}

/* What the server was asked for a file since it was started. */
static unsigned n_requests(const char *file)
{
    FILE *requests = fopen(path_of("requests"), "r");
    char line[1024], path[96];
    unsigned n = 0;

    assert_non_null(requests);
    snprintf(path, sizeof(path), "/%s", file);
    while (fgets(line, sizeof(line), requests))
        n += strstr(line, path) != NULL;
    fclose(requests);
    return n;
}

static void test_a_model_that_talks_is_pulled_with_all_its_files(void **state)
{
    static const char *const files[] = {
        "mmproj-LFM2.5-Audio-1.5B-Q8_0.gguf",
        "vocoder-LFM2.5-Audio-1.5B-Q8_0.gguf",
        "tokenizer-LFM2.5-Audio-1.5B-Q8_0.gguf",
        "LFM2.5-Audio-1.5B-Q8_0.gguf",
    };
    struct models *models = open_models(NULL);
    const struct model *m = get(models, "lfm2.5-audio-1.5b:q8_0");
    uint64_t bytes = 0, companion_bytes = 0;
    unsigned asked[ARRAY_LEN(files)];
    char path[96];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        snprintf(path, sizeof(path), "hub/%s", files[i]);
        companion_bytes = bytes;
        bytes += bytes_of(path);
    }
    assert_true(m->hears && m->speaks && !m->ear_path);
    assert_true(m->size_bytes > 1500000000);

    /* Stopped in the last file, it goes on there. */
    assert_int_equal(models_download(models, m->id, NULL), 0);
    dispatch_until_bytes(models, m, companion_bytes);
    assert_int_equal(models_download_cancel(models, m->id, NULL), 0);
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_CANCELLED);
    assert_null(m->path);
    for (size_t i = 0; i + 1 < ARRAY_LEN(files); i++)
        asked[i] = n_requests(files[i]);
    last_bytes = 0;
    assert_int_equal(models_download(models, m->id, NULL), 0);
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_DONE);
    assert_true(m->hears && m->speaks);
    assert_non_null(m->vocoder_path);
    assert_int_equal(m->size_bytes, bytes);
    assert_int_equal(m->download_bytes, bytes);
    assert_false(went_back);
    for (size_t i = 0; i + 1 < ARRAY_LEN(files); i++)
        assert_int_equal(n_requests(files[i]), asked[i]);

    /* One that has gone is fetched, and no other. */
    unlink(path_of("own/vocoder-LFM2.5-Audio-1.5B-Q8_0.gguf"));
    models_rescan(models, NULL);
    assert_true(m->hears && !m->speaks);
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        asked[i] = n_requests(files[i]);
    last_bytes = 0;
    assert_int_equal(models_download(models, m->id, NULL), 0);
    wait_until_idle(models);
    assert_true(m->speaks);
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        assert_int_equal(n_requests(files[i]) > asked[i], i == 1);

    /* One that is damaged is found; when it is no such file at all, it is fetched anew. */
    assert_int_equal(models_verify(models, m->id, NULL), 0);
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_DONE);
    copy_data("tests/data/vision/tiny_text_f32.gguf",
              "own/tokenizer-LFM2.5-Audio-1.5B-Q8_0.gguf", 0);
    assert_int_equal(models_verify(models, m->id, NULL), 0);
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_FAILED);
    assert_non_null(strstr(m->download_error.text, "The tokenizer file of"));
    models_rescan(models, NULL);
    assert_false(m->speaks);
    assert_int_equal(models_download(models, m->id, NULL), 0);
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_DONE);
    assert_true(m->speaks);

    assert_int_equal(models_remove(models, m->id, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        snprintf(path, sizeof(path), "own/%s", files[i]);
        assert_false(here(path));
        snprintf(path, sizeof(path), "own/%s.sha256", files[i]);
        assert_false(here(path));
    }
    models_free(models);
}

static void test_the_first_generation_is_pulled_and_verified(void **state)
{
    struct models *models = open_models(NULL);
    const struct model *m = get(models, "lfm2-audio-1.5b");

    (void)state;
    assert_true(m->hears && m->speaks && !m->path);
    assert_int_equal(models_download(models, m->id, NULL), 0);
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_DONE);
    assert_true(m->hears && m->speaks && m->path);
    assert_string_equal(m->detokenizer_path, m->vocoder_path);
    assert_int_equal(m->download_bytes, m->size_bytes);
    assert_int_equal(models_verify(models, m->id, NULL), 0);
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_DONE);
    models_free(models);
}

static void test_companions_that_are_not_the_right_ones_are_not_installed(void **state)
{
    struct models *models = open_models(NULL);
    const struct model *m = get(models, "lfm2.5-audio-1.5b");

    (void)state;
    assert_int_equal(models_download(models, m->id, NULL), 0); /* pinned */
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_FAILED);
    assert_null(m->path);
    assert_false(here("own/mmproj-LFM2.5-Audio-1.5B-Q4_0.gguf"));

    m = get(models, "lfm2.5-audio-1.5b:f16"); /* their rows are wider than the model's */
    assert_int_equal(models_download(models, m->id, NULL), 0);
    wait_until_idle(models);
    assert_int_equal(m->download, DOWNLOAD_FAILED);
    assert_non_null(strstr(m->download_error.text, "the audio file of another model"));
    assert_false(m->hears || m->speaks);
    models_free(models);
}

static void test_leaving_during_a_pull_keeps_the_part(void **state)
{
    struct models *models = open_models(NULL);
    const struct model *m = get(models, "lfm2-700m:q8_0");

    (void)state;
    assert_int_equal(models_download(models, m->id, NULL), 0);
    while (m->download_bytes == 0) {
        struct pollfd p = {.fd = models_fd(models), .events = POLLIN};

        assert_int_equal(poll(&p, 1, 30000), 1);
        models_dispatch(models);
    }
    models_free(models);
    assert_true(here("own/LFM2-700M-Q8_0.gguf.part"));
    models = open_models(NULL);
    assert_int_equal(models_remove(models, "lfm2-700m:q8_0", NULL), 0);
    assert_false(here("own/LFM2-700M-Q8_0.gguf.part"));
    assert_int_equal(models_remove(models, "lfm2-700m:q8_0", NULL),
                     error_errno(ERROR_MODEL_NOT_INSTALLED));
    models_free(models);
}

static void test_requests_that_cannot_be_met_say_why(void **state)
{
    struct models *models;
    struct error err = ERROR_INIT;

    (void)state;
    write_model("system/shared.gguf", "lfm2", "Shared", 0);
    models = open_models(NULL);
#define EXPECT(call, expected, words)                                                              \
    err = (struct error)ERROR_INIT;                                                                \
    assert_int_equal(call, error_errno(expected));                                                 \
    assert_int_equal(err.code, expected);                                                          \
    assert_non_null(strstr(err.text, words))
    EXPECT(models_download(models, "nonsense", &err), ERROR_MODEL_NOT_FOUND, "'nonsense'");
    EXPECT(models_download(models, "shared", &err), ERROR_INVALID_ARGUMENT, "local file");
    EXPECT(models_verify(models, "shared", &err), ERROR_INVALID_ARGUMENT, "No SHA-256");
    EXPECT(models_verify(models, "lfm2-350m", &err), ERROR_MODEL_NOT_INSTALLED, "not installed");
    EXPECT(models_remove(models, "shared", &err), ERROR_NOT_ALLOWED, "belongs to the system");
    EXPECT(models_remove(models, "lfm2-350m", &err), ERROR_MODEL_NOT_INSTALLED, "not installed");
    assert_int_equal(models_download(models, "lfm2-350m:f16", NULL), 0); /* the server has it not */
    wait_until_idle(models);
    assert_non_null(strstr(get(models, "lfm2-350m:f16")->download_error.text, "has no file"));
    models_free(models);
}

static void test_a_missing_helper_is_an_error_and_not_a_hang(void **state)
{
    const char *const directories[] = {path_of("own"), NULL};
    struct models_config config = {
        .directories = directories,
        .fetch_program = "/nowhere/lfmd-fetch",
    };
    struct models *models = models_new(&config, NULL, NULL, NULL);
    struct error err = ERROR_INIT;

    (void)state;
    if (models_download(models, "lfm2-350m", &err) == 0)
        wait_until_idle(models);
    else
        assert_non_null(strstr(err.text, "/nowhere/lfmd-fetch"));
    assert_false(models_busy(models));
    models_free(models);
}

static int set_up(void **state)
{
    char line[32] = "";
    int out[2];

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    if (!mkdtemp(scratch) || pipe2(out, 0) < 0 || mkdir(path_of("hub"), 0700) < 0)
        return -1;
    write_model("hub/LFM2-700M-Q4_0.gguf", "lfm2", "LFM2 700M", 300000);
    write_model("hub/LFM2-700M-Q8_0.gguf", "lfm2", "LFM2 700M", 3000000);
    write_model("hub/LFM2.5-1.2B-Instruct-Q4_0.gguf", "lfm2", "Not the real one", 0);
    link_data(TINY_TEXT, "hub/LFM2-VL-450M-Q4_0.gguf");
    copy_data(TINY_TEXT, "hub/LFM2-VL-450M-Q8_0.gguf", 3000000);
    link_data(TINY_VISION, "hub/mmproj-LFM2-VL-450M-Q8_0.gguf");
    link_data(TINY_TEXT, "hub/LFM2-VL-3B-Q4_0.gguf"); /* without its vision file */
    copy_data(TINY_TEXT, "hub/LFM2.5-Audio-1.5B-Q8_0.gguf", 3000000);
    write_companions("hub", "LFM2.5-Audio-1.5B-Q8_0.gguf", 32);
    link_data(TINY_TEXT, "hub/LFM2.5-Audio-1.5B-F16.gguf");
    write_companions("hub", "LFM2.5-Audio-1.5B-F16.gguf", 64); /* of another model */
    write_companions("hub", "LFM2.5-Audio-1.5B-Q4_0.gguf", 32); /* not the pinned ones */
    link_data(TINY_TEXT, "hub/LFM2-Audio-1.5B-Q8_0.gguf");
    link_data(TINY_EAR, "hub/mmproj-audioencoder-LFM2-Audio-1.5B-Q8_0.gguf");
    link_data(TINY_SPEECH, "hub/audiodecoder-LFM2-Audio-1.5B-Q8_0.gguf");
    server = fork();
    if (server == 0) {
        dup2(out[1], 1);
        execlp("python3", "python3", getenv("LFMD_SERVER"), path_of("requests"), path_of("hub"),
               (char *)NULL);
        _exit(99);
    }
    close(out[1]);
    if (read(out[0], line, sizeof(line) - 1) <= 0)
        return -1;
    snprintf(mirror, sizeof(mirror), "http://127.0.0.1:%d/", atoi(line));
    return 0;
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

static void test_a_vision_file_belongs_to_the_model_of_its_name(void **state)
{
    static const struct {
        const char *text, *vision;
    } pairs[] = {
        {"own/a.gguf", "own/mmproj-a.gguf"},
        {"own/b-F16.gguf", "own/mmproj-b-F16.gguf"},
        {"own/LFM2-c-450M-Q4_K_M.gguf", "own/mmproj-lfm2-c-450m-q8_0.gguf"},
        {"own/d.gguf", "own/d-mmproj.gguf"},
        {"own/e-Q8_0.gguf", "own/e-mmproj-BF16.gguf"},
        {"own/f_q8_0.gguf", "own/f_q8_0.mmproj.f32.gguf"},
        {"system/g.gguf", "system/mmproj-g.gguf"},
    };
    struct models *models;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        link_data(TINY_TEXT, pairs[i].text);
        link_data(TINY_VISION, pairs[i].vision);
    }
    link_data(TINY_TEXT, "own/a-extract.gguf");
    link_data(TINY_TEXT, "own/h.gguf");
    link_data(TINY_VISION, "system/mmproj-h.gguf"); /* another folder */
    models = open_models(NULL);
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        const struct model *model = models_named(models, path_of(pairs[i].text), NULL);

        assert_non_null(model);
        assert_non_null(model->vision_path);
        assert_string_equal(model->vision_path, path_of(pairs[i].vision));
        assert_int_equal(model->companion_error.code, ERROR_NONE);
        assert_null(models_named(models, path_of(pairs[i].vision), NULL));
    }
    assert_null(get(models, "a-extract")->vision_path);
    assert_int_equal(get(models, "a-extract")->companion_error.code, ERROR_NONE);
    assert_null(get(models, "h")->vision_path);
    for (size_t i = 0; i < models_n(models); i++)
        assert_null(strstr(models_at(models, i)->id, "mmproj"));
    models_free(models);
}

static void test_of_several_vision_files_one_that_fits_is_taken(void **state)
{
    struct models *models;
    const struct model *model;

    (void)state;
    link_data(TINY_TEXT, "own/a-f16.gguf");
    link_data("models/lfmd-core-q8_0.gguf", "own/core.gguf");
    link_data(TINY_VISION, "own/mmproj-core.gguf"); /* 32 values, where the model has 192 */
    write_text("own/mmproj-a-q4_0.gguf", "no model at all");
    models = open_models(NULL);

    model = get(models, "a-f16");
    assert_null(model->vision_path);
    assert_non_null(strstr(model->companion_error.text, "mmproj-a-q4_0.gguf"));

    link_data(TINY_VISION, "own/mmproj-a-f32.gguf");
    link_data("tests/data/vision/mmproj-tiny_text_q8_0.gguf", "own/mmproj-a-q8_0.gguf");
    n_changed = 0;
    models_rescan(models, NULL);
    assert_string_equal(model->vision_path, path_of("own/mmproj-a-q8_0.gguf"));
    assert_int_equal(model->companion_error.code, ERROR_NONE);
    assert_int_equal(n_changed, 1);
    models_rescan(models, NULL);
    assert_int_equal(n_changed, 1);

    /* One of its own quantisation comes first. */
    copy_data(TINY_VISION, "own/mmproj-a-f16.gguf", 64);
    models_rescan(models, NULL);
    assert_string_equal(model->vision_path, path_of("own/mmproj-a-f16.gguf"));
    unlink(path_of("own/mmproj-a-f16.gguf"));
    models_rescan(models, NULL);
    assert_string_equal(model->vision_path, path_of("own/mmproj-a-q8_0.gguf"));
    n_changed = 1;

    unlink(path_of("own/mmproj-a-q8_0.gguf"));
    models_rescan(models, NULL);
    assert_string_equal(model->vision_path, path_of("own/mmproj-a-f32.gguf"));
    unlink(path_of("own/mmproj-a-f32.gguf"));
    models_rescan(models, NULL);
    assert_null(model->vision_path);
    assert_int_equal(n_changed, 3);

    model = get(models, "core");
    assert_null(model->vision_path);
    assert_int_equal(model->companion_error.code, ERROR_UNSUPPORTED_FORMAT);
    assert_non_null(strstr(model->companion_error.text, "32"));
    assert_non_null(strstr(model->companion_error.text, "192"));
    models_free(models);
}

static void test_where_there_is_no_model_one_that_would_do_is_named(void **state)
{
    static const struct {
        const struct model *(*find)(const struct models *models, const char *name,
                                    struct error *err);
        const char *words;
    } table[] = {{models_find, "lfmctl pull lfm2.5-1.2b-instruct"},
                 {models_find_seeing, "lfmctl pull lfm2.5-vl-450m"},
                 {models_find_hearing, "lfmctl pull lfm2.5-audio-1.5b"},
                 {models_find_speaking, "lfmctl pull lfm2.5-audio-1.5b"}};
    struct models *models = open_models(NULL);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct error err = ERROR_INIT;

        assert_null(table[i].find(models, NULL, &err));
        assert_int_equal(err.code, ERROR_MODEL_NOT_INSTALLED);
        assert_non_null(strstr(err.text, table[i].words));
    }
    models_free(models);
}

static void test_a_picture_goes_to_a_model_that_sees(void **state)
{
    struct error err = ERROR_INIT;
    struct models *models;

    (void)state;
    link_data("models/lfmd-core-q8_0.gguf", "own/blind.gguf");
    models = open_models("blind");
    assert_null(models_find_seeing(models, NULL, &err));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "lfmctl pull"));

    link_data(TINY_TEXT, "own/seeing.gguf");
    link_data(TINY_VISION, "own/mmproj-seeing.gguf");
    models_rescan(models, NULL);
    assert_string_equal(models_find_seeing(models, NULL, NULL)->id, "seeing");
    assert_string_equal(models_find_seeing(models, "seeing", NULL)->id, "seeing");
    err = (struct error)ERROR_INIT;
    assert_null(models_find_seeing(models, "blind", &err));
    assert_non_null(strstr(err.text, "blind"));
    assert_non_null(strstr(err.text, "seeing"));
    err = (struct error)ERROR_INIT;
    assert_null(models_find_seeing(models, "nobody", &err));
    assert_int_equal(err.code, ERROR_MODEL_NOT_FOUND);
    models_free(models);

    link_data(TINY_VISION, "own/mmproj-blind.gguf");
    models = open_models("seeing");
    err = (struct error)ERROR_INIT;
    assert_string_equal(models_find_seeing(models, NULL, NULL)->id, "seeing");
    assert_null(models_find_seeing(models, "blind", &err));
    assert_non_null(strstr(err.text, "mmproj-blind.gguf"));
    models_free(models);
}

static void test_the_four_files_of_a_model_that_talks_are_one_model(void **state)
{
    struct models *models;
    const struct model *m;
    struct error err = ERROR_INIT;

    (void)state;
    link_data(TINY_TEXT, "own/talk-q8_0.gguf");
    link_data(TINY_TEXT, "own/talk-q4_0.gguf");
    write_companions("own", "talk-q8_0.gguf", 32);
    write_companions("own", "Talk-Q4_0.gguf", 32);
    models = open_models(NULL);
    m = get(models, "talk-q8_0");
    assert_int_equal(m->companion_error.code, ERROR_NONE);
    assert_true(m->hears && m->speaks && !m->sees);
    assert_string_equal(m->ear_path, path_of("own/mmproj-talk-q8_0.gguf"));
    assert_string_equal(m->vocoder_path, path_of("own/vocoder-talk-q8_0.gguf"));
    assert_string_equal(m->detokenizer_path, path_of("own/tokenizer-talk-q8_0.gguf"));
    assert_int_equal(m->size_bytes,
                     bytes_of("own/talk-q8_0.gguf") + bytes_of("own/mmproj-talk-q8_0.gguf") +
                         bytes_of("own/vocoder-talk-q8_0.gguf") +
                         bytes_of("own/tokenizer-talk-q8_0.gguf"));
    assert_string_equal(get(models, "talk-q4_0")->vocoder_path,
                        path_of("own/vocoder-Talk-Q4_0.gguf"));
    for (size_t i = 0; i < models_n(models); i++)
        assert_true(!models_at(models, i)->path || models_at(models, i)->hears);

    /* Of another quantisation is better than none. */
    unlink(path_of("own/vocoder-talk-q8_0.gguf"));
    models_rescan(models, NULL);
    assert_string_equal(m->vocoder_path, path_of("own/vocoder-Talk-Q4_0.gguf"));
    unlink(path_of("own/vocoder-Talk-Q4_0.gguf"));
    models_rescan(models, NULL);
    assert_null(m->vocoder_path);
    assert_false(m->speaks);
    assert_true(m->hears);
    assert_int_equal(m->companion_error.code, ERROR_NONE);
    assert_null(models_find_speaking(models, "talk-q8_0", &err));
    assert_non_null(strstr(err.text, "vocoder"));
    assert_non_null(strstr(err.text, "lfmctl pull lfm2.5-audio-1.5b"));

    assert_int_equal(models_remove(models, "talk-q8_0", NULL), 0);
    assert_false(here("own/mmproj-talk-q8_0.gguf"));
    assert_false(here("own/tokenizer-talk-q8_0.gguf"));
    assert_true(here("own/mmproj-Talk-Q4_0.gguf"));
    models_free(models);
}

static uint8_t *read_data(const char *file, size_t *ret_size)
{
    char path[512];
    struct stat st;
    uint8_t *bytes;
    FILE *in;

    snprintf(path, sizeof(path), "%s/%s", LFMD_SOURCE_ROOT, file);
    in = fopen(path, "r");
    assert_non_null(in);
    assert_int_equal(fstat(fileno(in), &st), 0);
    bytes = malloc((size_t)st.st_size);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, (size_t)st.st_size, in), st.st_size);
    fclose(in);
    *ret_size = (size_t)st.st_size;
    return bytes;
}

/* Behind a tensor's name in a file: number of dimensions, dimensions. */
static uint8_t *behind_name(uint8_t *bytes, size_t size, const char *tensor)
{
    uint8_t *name = memmem(bytes, size, tensor, strlen(tensor));

    assert_non_null(name);
    return name + strlen(tensor);
}

/* A Mimi whose books have 39 codes instead of 40. */
static void write_small_mimi(const char *name)
{
    size_t size;
    uint8_t *bytes = read_data(TINY_MIMI, &size);

    for (unsigned i = 0; i < 8; i++) {
        char tensor[96];
        int n = snprintf(tensor, sizeof(tensor), "quantizer.%s.vq.layers.%u.cb.",
                         i ? "rvq_rest" : "rvq_first", i ? i - 1 : 0);

        strcpy(tensor + n, "embedding_sum");
        behind_name(bytes, size, tensor)[4 + 8] = 39;
        strcpy(tensor + n, "cluster_usage");
        behind_name(bytes, size, tensor)[4] = 39;
    }
    write_bytes(name, bytes, size);
}

/* The audiodecoder without a tensor; NULL: the first half of it. */
static void damage_speech(const char *name, const char *tensor)
{
    size_t size;
    uint8_t *bytes = read_data(TINY_SPEECH, &size);

    if (tensor)
        behind_name(bytes, size, tensor)[-1] = '?';
    write_bytes(name, bytes, tensor ? size : size / 2);
}

static void test_the_three_files_of_the_first_generation_are_one_model(void **state)
{
    struct models *models;
    const struct model *m;

    (void)state;
    link_data(TINY_TEXT, "own/LFM2-Audio-1.5B-Q8_0.gguf");
    link_data(TINY_EAR, "own/mmproj-audioencoder-LFM2-Audio-1.5B-Q8_0.gguf");
    link_data(TINY_SPEECH, "own/audiodecoder-LFM2-Audio-1.5B-Q8_0.gguf");
    models = open_models(NULL);
    m = models_find_speaking(models, NULL, NULL);
    assert_non_null(m);
    assert_string_equal(m->id, "lfm2-audio-1.5b");
    assert_int_equal(m->companion_error.code, ERROR_NONE);
    assert_true(m->hears && m->speaks && !m->sees);
    assert_string_equal(m->vocoder_path, path_of("own/audiodecoder-LFM2-Audio-1.5B-Q8_0.gguf"));
    assert_string_equal(m->detokenizer_path, m->vocoder_path);
    assert_true(m->describes_voice && m->has_one_voice);
    assert_int_equal(m->size_bytes,
                     bytes_of("own/LFM2-Audio-1.5B-Q8_0.gguf") +
                         bytes_of("own/mmproj-audioencoder-LFM2-Audio-1.5B-Q8_0.gguf") +
                         bytes_of("own/audiodecoder-LFM2-Audio-1.5B-Q8_0.gguf"));
    assert_int_equal(models_remove(models, m->id, NULL), 0);
    assert_false(here("own/audiodecoder-LFM2-Audio-1.5B-Q8_0.gguf"));
    assert_false(here("own/mmproj-audioencoder-LFM2-Audio-1.5B-Q8_0.gguf"));
    models_free(models);
}

static void test_mimi_may_stand_in_the_place_of_the_detokenizer(void **state)
{
    struct error err = ERROR_INIT;
    struct models *models;
    const struct model *m;

    (void)state;
    link_data(TINY_TEXT, "own/talk.gguf");
    link_data("tests/data/audio/vocoder.f16.gguf", "own/vocoder-talk.gguf");
    link_data(TINY_MIMI, "own/tokenizer-talk.gguf");
    models = open_models(NULL);
    m = get(models, "talk");
    assert_true(m->speaks);
    assert_string_equal(m->detokenizer_path, path_of("own/tokenizer-talk.gguf"));
    assert_int_equal(m->size_bytes, bytes_of("own/talk.gguf") + bytes_of("own/vocoder-talk.gguf") +
                                        bytes_of("own/tokenizer-talk.gguf"));
    assert_string_equal(m->voice, "US male");
    models_free(models);

    /* What the depthformer draws, it must know. */
    unlink(path_of("own/tokenizer-talk.gguf"));
    write_small_mimi("own/tokenizer-talk.gguf");
    models = open_models(NULL);
    assert_false(get(models, "talk")->speaks);
    assert_null(models_find_speaking(models, "talk", &err));
    assert_non_null(strstr(err.text, "39 codes of a book"));
    models_free(models);
}

static void test_what_an_audiodecoder_lacks_is_said(void **state)
{
    static const struct {
        const char *tensor, *said; /* NULL: the file ends too early */
    } broken[] = {
        {"quantizer.semantic_rvq.layers.0.codebook", "quantizer.semantic_rvq.layers.0.codebook"},
        {"decoder_transformer.layers.1.mlp.fc2.weight", "decoder_transformer.layers.1.mlp.fc2"},
        {"decoder.layers.8.conv.weight", "decoder.layers"},
        {"decoder.layers.14.conv.bias", "decoder.layers.14.conv.bias"},
        {"upsample.conv.weight", "upsample.conv.weight"},
        {"quantizer.acoustic_rvq.output_proj.weight", "quantizer.acoustic_rvq.output_proj.weight"},
        {"depth_linear.bias", "depth_linear.bias"},
        {NULL, "audiodecoder-talk.gguf"},
    };
    struct error err = ERROR_INIT;
    struct models *models;

    (void)state;
    link_data(TINY_TEXT, "own/talk.gguf");
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        damage_speech("own/audiodecoder-talk.gguf", broken[i].tensor);
        models = open_models(NULL);
        assert_false(get(models, "talk")->speaks);
        assert_null(models_find_speaking(models, "talk", &err));
        if (!strstr(err.text, broken[i].said) || !strstr(err.text, "audiodecoder-talk.gguf"))
            fail_msg("expected '%s' in: %s", broken[i].said, err.text);
        err = (struct error)ERROR_INIT;
        models_free(models);
        unlink(path_of("own/audiodecoder-talk.gguf"));
    }

    /* Without a Mimi it needs a detokenizer beside it. */
    link_data("tests/data/audio/vocoder.f16.gguf", "own/audiodecoder-talk.gguf");
    models = open_models(NULL);
    assert_null(models_find_speaking(models, "talk", &err));
    assert_non_null(strstr(err.text, "has no Mimi in it"));
    link_data("tests/data/audio/tokenizer.f16.gguf", "own/tokenizer-talk.gguf");
    models_rescan(models, NULL);
    assert_true(get(models, "talk")->speaks);
    assert_false(get(models, "talk")->describes_voice);
    assert_int_equal(get(models, "talk")->companion_error.code, ERROR_NONE);
    models_free(models);
}

static void test_sound_goes_to_a_model_that_hears_and_speaks(void **state)
{
    struct error err = ERROR_INIT;
    struct models *models;

    (void)state;
    link_data(TINY_TEXT, "own/deaf.gguf");
    link_data(TINY_TEXT, "own/talk.gguf");
    models = open_models("deaf");
    assert_null(models_find_hearing(models, NULL, &err));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "lfmctl pull lfm2.5-audio-1.5b"));
    write_companions("own", "talk.gguf", 32);
    models_rescan(models, NULL);
    assert_string_equal(models_find_hearing(models, NULL, NULL)->id, "talk");
    assert_string_equal(models_find_speaking(models, NULL, NULL)->id, "talk");
    assert_string_equal(models_find_speaking(models, "talk", NULL)->id, "talk");
    assert_null(models_find_seeing(models, "talk", NULL));
    err = (struct error)ERROR_INIT;
    assert_null(models_find_hearing(models, "deaf", &err));
    assert_non_null(strstr(err.text, "the model talk can"));
    models_free(models);
}

static void test_companions_of_another_model_are_said_to_be(void **state)
{
    static const struct {
        const char *file; /* that is broken */
        bool hears, speaks;
    } broken[] = {
        {"mmproj-talk.gguf", false, true},
        {"vocoder-talk.gguf", true, false},
        {"tokenizer-talk.gguf", true, false},
    };
    struct models *models;
    struct error err = ERROR_INIT;

    (void)state;
    link_data(TINY_TEXT, "own/wide.gguf");
    write_companions("own", "wide.gguf", 64);
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        const struct model *m;
        char path[64];

        link_data(TINY_TEXT, "own/talk.gguf");
        write_companions("own", "talk.gguf", 32);
        snprintf(path, sizeof(path), "own/%s", broken[i].file);
        write_text(path, "no model at all");
        models = open_models(NULL);
        m = get(models, "talk");
        assert_int_equal(m->hears, broken[i].hears);
        assert_int_equal(m->speaks, broken[i].speaks);
        assert_non_null(strstr(m->companion_error.text, broken[i].file));
        if (!broken[i].hears)
            assert_null(models_find_hearing(models, "talk", &err));
        else
            assert_null(models_find_speaking(models, "talk", &err));
        assert_non_null(strstr(err.text, broken[i].file));
        err = (struct error)ERROR_INIT;

        m = get(models, "wide");
        assert_false(m->hears || m->speaks);
        assert_non_null(strstr(m->companion_error.text, "the audio file of another model"));
        assert_null(models_find_speaking(models, "wide", &err));
        assert_non_null(strstr(err.text, "the vocoder file of another model"));
        err = (struct error)ERROR_INIT;
        models_free(models);
        unlink(path_of("own/talk.gguf"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_registry_id_is_one_set_of_files_with_a_sane_recipe),
        cmocka_unit_test(test_sampling_is_what_the_cards_recommend),
        cmocka_unit_test_setup(test_known_and_unknown_files_are_found, fresh_folders),
        cmocka_unit_test_setup(test_the_quantisation_may_be_left_out_where_one_is_installed,
                               fresh_folders),
        cmocka_unit_test_setup(test_a_user_s_file_shadows_the_system_s, fresh_folders),
        cmocka_unit_test_setup(test_broken_files_are_listed_with_their_error, fresh_folders),
        cmocka_unit_test_setup(test_retrieval_models_are_told_from_chat_models, fresh_folders),
        cmocka_unit_test_setup(test_the_model_of_this_repository_is_a_greedy_chat_model,
                               fresh_folders),
        cmocka_unit_test_setup(test_a_bidirectional_file_is_a_retrieval_model, fresh_folders),
        cmocka_unit_test_setup(test_a_vision_file_belongs_to_the_model_of_its_name, fresh_folders),
        cmocka_unit_test_setup(test_where_there_is_no_model_one_that_would_do_is_named,
                               fresh_folders),
        cmocka_unit_test_setup(test_a_picture_goes_to_a_model_that_sees, fresh_folders),
        cmocka_unit_test_setup(test_the_four_files_of_a_model_that_talks_are_one_model,
                               fresh_folders),
        cmocka_unit_test_setup(test_the_three_files_of_the_first_generation_are_one_model,
                               fresh_folders),
        cmocka_unit_test_setup(test_mimi_may_stand_in_the_place_of_the_detokenizer, fresh_folders),
        cmocka_unit_test_setup(test_what_an_audiodecoder_lacks_is_said, fresh_folders),
        cmocka_unit_test_setup(test_sound_goes_to_a_model_that_hears_and_speaks, fresh_folders),
        cmocka_unit_test_setup(test_companions_of_another_model_are_said_to_be, fresh_folders),
        cmocka_unit_test_setup(test_of_several_vision_files_one_that_fits_is_taken, fresh_folders),
        cmocka_unit_test_setup(test_later_parts_of_a_split_model_are_not_models, fresh_folders),
        cmocka_unit_test_setup(test_a_rescan_reports_what_came_went_and_changed, fresh_folders),
        cmocka_unit_test_setup(test_the_hash_beside_a_file_is_read_with_it, fresh_folders),
        cmocka_unit_test_setup(test_the_configured_default_wins_or_is_missed, fresh_folders),
        cmocka_unit_test_setup(test_a_pulled_model_is_installed_and_verifiable, fresh_folders),
        cmocka_unit_test_setup(test_a_pinned_file_that_is_another_is_refused, fresh_folders),
        cmocka_unit_test_setup(test_a_cancelled_pull_goes_on_later, fresh_folders),
        cmocka_unit_test_setup(test_a_model_that_sees_is_pulled_with_its_vision_file,
                               fresh_folders),
        cmocka_unit_test_setup(test_a_vision_file_stays_for_another_quantisation, fresh_folders),
        cmocka_unit_test_setup(test_an_interrupted_pull_of_two_files_goes_on_later, fresh_folders),
        cmocka_unit_test_setup(test_without_its_vision_file_nothing_is_installed, fresh_folders),
        cmocka_unit_test_setup(test_a_model_that_talks_is_pulled_with_all_its_files, fresh_folders),
        cmocka_unit_test_setup(test_the_first_generation_is_pulled_and_verified, fresh_folders),
        cmocka_unit_test_setup(test_companions_that_are_not_the_right_ones_are_not_installed,
                               fresh_folders),
        cmocka_unit_test_setup(test_leaving_during_a_pull_keeps_the_part, fresh_folders),
        cmocka_unit_test_setup(test_requests_that_cannot_be_met_say_why, fresh_folders),
        cmocka_unit_test_setup(test_a_missing_helper_is_an_error_and_not_a_hang, fresh_folders),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
