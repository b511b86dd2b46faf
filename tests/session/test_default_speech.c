/* SPDX-License-Identifier: MIT */

/*
 * Holds the files of this repository that hear, run by this engine as a client would have it, to
 * their published figure: every sound of models/eval/speech.jsonl is transcribed, and its word
 * errors may be 10 points above those of models/lfmd-talk.json at most: three of its words.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "session/task.h"
#include "tests/session/running.h"

#define MODELS    LFMD_SOURCE_ROOT "/models/"
#define MODEL     "lfmd-talk"
#define TOLERANCE 10.0
#define WORDS_MAX 64

static char heard[1024];
static bool ended;

static void on_event(void *userdata, const struct task_event *event)
{
    (void)userdata;
    if (event->type == TASK_ERROR)
        fail_msg("%s", event->error->text);
    if (event->type == TASK_DONE) {
        struct json_object *line = json_tokener_parse(event->line), *text;

        assert_true(json_object_object_get_ex(line, "text", &text));
        snprintf(heard, sizeof(heard), "%s", json_object_get_string(text));
        json_object_put(line);
        ended = true;
    }
}

static const struct task_sink sink = {on_event};

/* Leaves the text in `heard`. */
static void transcribe(const char *name)
{
    const struct task_options options = {.model = MODEL};
    struct error err = ERROR_INIT;
    char path[512];
    int fd;

    snprintf(path, sizeof(path), MODELS "eval/%s", name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    ended = false;
    if (!transcribe_new(engine, fd, &options, &sink, NULL, &err))
        fail_msg("%s: %s", path, err.text);
    close(fd);
    WAIT_FOR(ended);
}

/* Cuts the text in place. */
static size_t split(char *text, const char *words[WORDS_MAX])
{
    size_t n = 0;

    for (char *word, *rest = text; (word = strtok_r(rest, " ", &rest));) {
        assert_true(n < WORDS_MAX);
        words[n++] = word;
    }
    return n;
}

/* Words to be put in, left out or replaced. */
static size_t word_errors(char *wanted, char *found, size_t *n_words)
{
    const char *a[WORDS_MAX], *b[WORDS_MAX];
    size_t line[WORDS_MAX + 1];
    const size_t n = split(wanted, a), m = split(found, b);

    for (size_t j = 0; j <= m; j++)
        line[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = line[0];

        line[0] = i;
        for (size_t j = 1; j <= m; j++) {
            const size_t above = line[j];
            const size_t replaced = diagonal + (strcmp(a[i - 1], b[j - 1]) != 0);

            line[j] = MIN(MIN(above, line[j - 1]) + 1, replaced);
            diagonal = above;
        }
    }
    *n_words += n;
    return line[m];
}

static void test_the_sample_reaches_its_published_figure(void **state)
{
    struct json_object *published = json_object_from_file(MODELS MODEL ".json"), *hearing;
    FILE *file = fopen(MODELS "eval/speech.jsonl", "re");
    size_t n_words = 0, n_wrong = 0, capacity = 0;
    char *line = NULL;

    (void)state;
    assert_non_null(published);
    assert_non_null(file);
    while (getline(&line, &capacity, file) > 0) {
        struct json_object *item = json_tokener_parse(line);
        char *words = strdup(json_object_get_string(json_object_object_get(item, "text")));

        assert_non_null(words);
        transcribe(json_object_get_string(json_object_object_get(item, "sound")));
        print_message("\"%s\" heard as \"%s\"\n", words, heard);
        n_wrong += word_errors(words, heard, &n_words);
        free(words);
        json_object_put(item);
    }
    assert_true(json_object_object_get_ex(published, "hearing", &hearing));
    assert_int_equal(n_words,
                     json_object_get_int(json_object_object_get(hearing, "words")));
    const double reached = 100.0 * (double)n_wrong / (double)n_words;
    const double wanted = json_object_get_double(json_object_object_get(hearing, "word_errors"));
    print_message("%.1f %% word errors, published %.1f %%\n", reached, wanted);
    assert_true(reached <= wanted + TOLERANCE);
    free(line);
    fclose(file);
    json_object_put(published);
}

static int setup(void **state)
{
    static const char *const companions[] = {"", "mmproj-", "vocoder-", "tokenizer-"};

    (void)state;
    make_directories();
    for (size_t i = 0; i < ARRAY_LEN(companions); i++) {
        char source[512], name[64];

        snprintf(source, sizeof(source), MODELS "%s" MODEL "-q8_0.gguf", companions[i]);
        snprintf(name, sizeof(name), "%s" MODEL, companions[i]);
        link_model(source, name);
    }
    run_engine(&(struct engine_config){.n_threads = 2, .kv = KV_F16}, MODEL);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_sample_reaches_its_published_figure),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
