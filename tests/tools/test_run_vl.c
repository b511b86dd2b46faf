/* SPDX-License-Identifier: MIT */

/*
 * Proves the contract of lfm-run vl-logits and vl-generate as a program: on a random pair of files
 * (tests/data/vision) computed in double, and where the shared files are, on the reference's.
 *
 *     test_run_vl LFM_RUN
 */

#include <stdbool.h>

#include "tests/tools/program.h"

#define LOGITS_MAX  1e-3
#define MARGIN_MIN  0.01 /* below it, the next token may be another */
#define TOKENS_LONG 400  /* what is longer is not generated from: its logits will do */

/* " --min-image-tokens 4 --tiling off", from the reference's names or ours. */
static void add_options(char *text, size_t size, struct json_object *settings)
{
    size_t n = strlen(text);

    json_object_object_foreach(settings, key, value)
    {
        const char *name = strcmp(key, "do_image_splitting") == 0 ? "tiling"
                           : strcmp(key, "use_thumbnail") == 0    ? "thumbnail"
                                                                  : key;
        const bool flag = json_object_is_type(value, json_type_boolean);
        const size_t begin = n;

        n += (size_t)snprintf(text + n, size - n, " --%s %s", name,
                              !flag                            ? json_object_get_string(value)
                              : json_object_get_boolean(value) ? "on"
                                                               : "off");
        for (char *c = text + begin; *c; c++)
            *c = *c == '_' ? '-' : *c;
    }
}

static void run(char text[4096], const char *verb, const char *arguments)
{
    char complaint[4096];

    if (program_run(text, complaint, "%s --precise --kv f32 %s", verb, arguments) != 0)
        fail_msg("%s %s: %s", verb, arguments, complaint);
}

static void check_logits(const char *name, const char *arguments, const char *expected_path,
                         size_t n_vocab)
{
    _cleanup_(freep) float *expected = golden_floats(expected_path, n_vocab), *found = NULL;
    char text[4096], with_out[8192];

    snprintf(with_out, sizeof(with_out), "%s --out %s", arguments, program_out);
    run(text, "vl-logits", with_out);
    found = golden_floats(program_out, n_vocab);
    golden_close(name, found, expected, n_vocab, LOGITS_MAX);
}

/* The same ids up to the first that was nearly another. */
static void check_greedy(const char *name, const char *arguments, struct json_object *greedy,
                         struct json_object *margins)
{
    const size_t n = json_object_array_length(greedy);
    char text[4096], with_n[8192];
    struct json_object *found;

    snprintf(with_n, sizeof(with_n), "%s --n %zu --ignore-eos", arguments, n);
    run(text, "vl-generate", with_n);
    found = json_tokener_parse(text);
    if (!json_object_is_type(found, json_type_array))
        fail_msg("%s: %s", name, text);
    assert_int_equal(json_object_array_length(found), n);
    for (size_t i = 0; i < n; i++) {
        if (json_object_get_double(json_object_array_get_idx(margins, i)) < MARGIN_MIN)
            break;
        if (json_object_get_int64(json_object_array_get_idx(found, i)) !=
            json_object_get_int64(json_object_array_get_idx(greedy, i)))
            fail_msg("%s: token %zu of %s", name, i, text);
    }
    json_object_put(found);
}

static void test_the_small_pair_says_what_was_computed_in_double(void **state)
{
    const char *path = data_path("vision/vision.json");
    struct json_object *json = golden_json(path), *models = golden_get(json, "models");
    struct json_object *pictures = golden_get(json, "pictures");

    (void)state;
    for (size_t m = 0; m < json_object_array_length(models); m++) {
        struct json_object *model = json_object_array_get_idx(models, m);
        struct json_object *cases = golden_get(model, "cases");

        for (size_t i = 0; i < json_object_array_length(cases); i++) {
            struct json_object *row = json_object_array_get_idx(cases, i);
            const char *name = golden_str(row, "picture");
            struct json_object *picture = golden_get(pictures, name);
            char arguments[4096];

            snprintf(arguments, sizeof(arguments),
                     "--model %s --mmproj %s --image %s --prompt '<|startoftext|><|im_start|>user\n"
                     "<image>%s<|im_end|>\n<|im_start|>assistant\n'",
                     golden_beside(path, golden_str(json, "text")),
                     golden_beside(path, golden_str(model, "mmproj")),
                     golden_beside(path, golden_str(picture, "file")),
                     golden_str(json, "question"));
            add_options(arguments, sizeof(arguments), golden_get(picture, "settings"));
            check_logits(name, arguments, golden_beside(path, golden_str(row, "logits")), 394);
            check_greedy(name, arguments, golden_get(row, "greedy"), golden_get(row, "margins"));
        }
    }
    json_object_put(json);
}

/* The file of the picture whose name begins so; decoded, where decoders differ. */
static const char *reference_picture(struct json_object *pictures, const char *prefix)
{
    for (size_t i = 0; i < json_object_array_length(pictures); i++) {
        struct json_object *picture = json_object_array_get_idx(pictures, i), *decoded;
        const char *file = strchr(golden_str(picture, "file"), '/') + 1;
        char name[256];

        if (strncmp(file, prefix, 3) != 0)
            continue;
        snprintf(name, sizeof(name), "vision/%s",
                 json_object_object_get_ex(picture, "decoded_png", &decoded)
                     ? json_object_get_string(decoded)
                     : golden_str(picture, "file"));
        return fixture_path(name);
    }
    fail_msg("there is no picture %s", prefix);
    return NULL;
}

/* Those of a run, by its name: "a05.set0", "noln.a24", "multi.interleaved". */
static void add_pictures(char *text, size_t size, const char *run, struct json_object *pictures)
{
    static const struct {
        const char *run, *pictures;
    } several[] = {
        {"multi.text_only", ""},         {"multi.text_then_image", "a06"},
        {"multi.tiled_and_single", "a24a04"}, {"multi.", "a04a06"},
    };
    const char *names = strncmp(run, "noln.", 5) == 0 ? run + 5 : run;
    char one[4] = {0};

    for (size_t i = 0; i < ARRAY_LEN(several) && names == run; i++)
        if (strncmp(run, several[i].run, strlen(several[i].run)) == 0)
            names = several[i].pictures;
    if (names == run || strncmp(run, "noln.", 5) == 0)
        names = memcpy(one, names, 3);
    for (; *names; names += 3) {
        const size_t n = strlen(text);

        snprintf(text + n, size - n, " --image %s", reference_picture(pictures, names));
    }
}

static void check_runs(const char *file, const char *mmproj)
{
    struct json_object *pictures, *runs;
    char name[64];

    snprintf(name, sizeof(name), "vision/expect/%s", file);
    if (!fixture_path(name))
        skip();
    runs = golden_json(fixture_path(name));
    pictures = golden_json(fixture_path("vision/expect/images.json"));
    assert_true(json_object_array_length(runs) > 0);
    for (size_t i = 0; i < json_object_array_length(runs); i++) {
        struct json_object *row = json_object_array_get_idx(runs, i);
        const char *run_name = golden_str(row, "name");
        char arguments[4096], tensor[256];

        snprintf(name, sizeof(name), "vision/models/%s", mmproj);
        snprintf(arguments, sizeof(arguments), "--model %s --mmproj %s --prompt '%s'",
                 fixture_path("vision/models/mini-text-f32.gguf"), fixture_path(name),
                 golden_str(row, "prompt_text"));
        add_pictures(arguments, sizeof(arguments), run_name, pictures);
        add_options(arguments, sizeof(arguments), golden_get(row, "settings"));
        snprintf(tensor, sizeof(tensor), "vision/%s",
                 golden_str(golden_get(row, "last_prompt_logits"), "file"));
        check_logits(run_name, arguments, fixture_path(tensor), 1024);
        if (json_object_get_int64(golden_get(row, "n_prompt_tokens")) <= TOKENS_LONG)
            check_greedy(run_name, arguments, golden_get(row, "greedy_ids"),
                         golden_get(row, "greedy_margins"));
    }
    json_object_put(pictures);
    json_object_put(runs);
}

static void test_every_picture_of_the_reference(void **state)
{
    (void)state;
    check_runs("runs_default.json", "mini-mmproj-ln-f32.gguf");
}

static void test_settings_of_the_reference(void **state)
{
    (void)state;
    check_runs("runs_settings.json", "mini-mmproj-ln-f32.gguf");
}

static void test_several_pictures_of_the_reference(void **state)
{
    (void)state;
    check_runs("runs_multi.json", "mini-mmproj-ln-f32.gguf");
}

static void test_the_projector_without_norm_of_the_reference(void **state)
{
    (void)state;
    check_runs("runs_noln.json", "mini-mmproj-noln-f32.gguf");
}

static void test_pictures_and_their_places_must_be_equally_many(void **state)
{
    static const struct {
        unsigned n_images;
        const char *arguments, *says;
    } wrong[] = {
        {1, "vl-generate --n 4 --prompt 'Nothing here.'", "<image>"},
        {0, "vl-generate --n 4 --prompt '<image>What?'", "<image>"},
        {1, "vl-generate --n 4 --prompt '<image><image>'", "<image>"},
        {2, "vl-generate --n 4 --prompt '<image>'", "<image>"},
        {0, "vl-generate --n 4 --prompt ''", "prompt"},
        {1, "vl-generate --n 4", "prompt"},
        {1, "vl-generate --prompt '<image>'", "--n"},
        {0, "vl-generate --n 4 --image /nonexistent.png --prompt '<image>'", "nonexistent"},
        {1, "vl-generate --n 4 --prompt '<image>' --max-image-tokens 0", "max_image_tokens"},
        {1, "vl-logits --prompt '<image>'", "--out"},
    };
    const char *path = data_path("vision/vision.json");
    char text[4096], complaint[4096], images[4096];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        images[0] = '\0';
        for (unsigned k = 0; k < wrong[i].n_images; k++)
            snprintf(images + strlen(images), sizeof(images) - strlen(images), " --image %s",
                     golden_beside(path, "single.png"));
        assert_int_equal(program_run(text, complaint, "%s --model %s --mmproj %s%s",
                                     wrong[i].arguments, golden_beside(path, "tiny_text_f32.gguf"),
                                     golden_beside(path, "mmproj-tiny_text_f32.gguf"), images),
                         2);
        assert_string_equal(text, "");
        if (!strstr(complaint, wrong[i].says))
            fail_msg("%s: %s", wrong[i].arguments, complaint);
    }
    /* The vision file of another model. */
    assert_int_equal(
        program_run(text, complaint,
                    "vl-generate --n 4 --model %s/models/lfmd-core-q8_0.gguf --mmproj %s "
                    "--image %s --prompt '<image>'",
                    LFMD_SOURCE_ROOT, golden_beside(path, "mmproj-tiny_text_f32.gguf"),
                    golden_beside(path, "single.png")),
        2);
    assert_non_null(strstr(complaint, "rows of 32 values"));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_small_pair_says_what_was_computed_in_double),
        cmocka_unit_test(test_every_picture_of_the_reference),
        cmocka_unit_test(test_settings_of_the_reference),
        cmocka_unit_test(test_several_pictures_of_the_reference),
        cmocka_unit_test(test_the_projector_without_norm_of_the_reference),
        cmocka_unit_test(test_pictures_and_their_places_must_be_equally_many),
    };

    program = argc > 1 ? argv[1] : "lfm-run";
    return cmocka_run_group_tests(tests, program_take_out, program_remove_out);
}
