/* SPDX-License-Identifier: MIT */

/*
 * Proves the contract of lfm-run image-plan, image-patches, image-encode and image-embed as a
 * program, on a random pair of files (tests/data/vision, made by train/make_fixtures.py) whose
 * embeddings were computed in double; where the shared files are, on the reference's too.
 *
 *     test_run_image LFM_RUN
 */

#include "tests/tools/program.h"
#include "vision/patches.h"

/* " --min-image-tokens 4 --tiling off" */
static const char *options_of(struct json_object *settings)
{
    static char text[512];
    size_t n = 0;

    text[0] = '\0';
    json_object_object_foreach(settings, key, value)
    {
        const bool flag = json_object_is_type(value, json_type_boolean);

        n += (size_t)snprintf(text + n, sizeof(text) - n, " --%s %s", key,
                              !flag                            ? json_object_get_string(value)
                              : json_object_get_boolean(value) ? "on"
                                                               : "off");
    }
    for (char *c = text; *c; c++)
        *c = *c == '_' ? '-' : *c;
    return text;
}

static size_t size_of(struct json_object *json, const char *key)
{
    return (size_t)json_object_get_int64(golden_get(json, key));
}

static void test_a_plan_is_one_json_document(void **state)
{
    static const char expected[] =
        "{\"resized_w\":608,\"resized_h\":416,\"cols\":3,\"rows\":2,\"image_tokens\":1536,"
        "\"special_tokens\":8,\"views\":[{\"w\":512,\"h\":512,\"tokens\":256},"
        "{\"w\":512,\"h\":512,\"tokens\":256},{\"w\":512,\"h\":512,\"tokens\":256},"
        "{\"w\":512,\"h\":512,\"tokens\":256},{\"w\":512,\"h\":512,\"tokens\":256},"
        "{\"w\":512,\"h\":512,\"tokens\":256}]}\n";
    char text[4096], complaint[4096];

    (void)state;
    assert_int_equal(
        program_run(text, complaint, "image-plan --size 1000x700 --thumbnail off --threads 1"), 0);
    assert_string_equal(text, expected);

    /* Settings that no session may have, and a picture that none may send. */
    assert_int_equal(program_run(text, complaint,
                                 "image-plan --size 65535x1 --min-tiles 1 --max-tiles 30 "
                                 "--max-image-tokens 5000 --max-pixels-tolerance 0.1"),
                     0);
    assert_non_null(strstr(text, "\"resized_w\":65536,\"resized_h\":32"));
}

static void test_plans_and_patches_of_pictures(void **state)
{
    const char *path = data_path("vision/vision.json");
    struct json_object *json = golden_json(path);
    char text[4096], complaint[4096];

    (void)state;
    json_object_object_foreach(golden_get(json, "pictures"), name, picture)
    {
        const char *options = options_of(golden_get(picture, "settings"));
        const char *file = golden_beside(path, golden_str(picture, "file"));
        struct json_object *views = golden_get(picture, "views"), *plan, *found;
        _cleanup_(freep) float *patches = NULL;
        size_t n_tokens = 0, at = 0;

        assert_int_equal(program_run(text, complaint, "image-plan --image %s%s", file, options), 0);
        plan = json_tokener_parse(text);
        assert_int_equal(size_of(plan, "cols"), size_of(picture, "cols"));
        assert_int_equal(size_of(plan, "rows"), size_of(picture, "rows"));
        found = golden_get(plan, "views");
        assert_int_equal(json_object_array_length(found), json_object_array_length(views));
        for (size_t i = 0; i < json_object_array_length(views); i++) {
            struct json_object *view = json_object_array_get_idx(views, i);
            struct json_object *planned = json_object_array_get_idx(found, i);

            assert_int_equal(size_of(planned, "w"), size_of(view, "width"));
            assert_int_equal(size_of(planned, "h"), size_of(view, "height"));
            assert_int_equal(size_of(planned, "tokens"), size_of(view, "tokens"));
            n_tokens += size_of(view, "tokens");
        }
        assert_int_equal(size_of(plan, "image_tokens"), n_tokens);
        json_object_put(plan);

        /* Normalised, every patch value is a pixel value: their sum is that of the view. */
        if (program_run(text, complaint, "image-patches --image %s%s --out %s", file, options,
                        program_out) != 0)
            fail_msg("%s: %s", name, complaint);
        patches = golden_floats(program_out, 4 * n_tokens * PATCHES_VALUES);
        for (size_t i = 0; i < json_object_array_length(views); i++) {
            struct json_object *view = json_object_array_get_idx(views, i);
            const size_t end = at + 4 * size_of(view, "tokens") * PATCHES_VALUES;
            double sum = 0;

            for (; at < end; at++)
                sum += (double)patches[at] * 127.5 + 127.5;
            if (fabs(sum - (double)size_of(view, "sum")) > 1)
                fail_msg("%s, view %zu: sum %.1f, expected %zu", name, i, sum,
                         size_of(view, "sum"));
        }
    }
    json_object_put(json);
}

static void test_embeddings_are_those_computed_in_double(void **state)
{
    const char *path = data_path("vision/vision.json");
    struct json_object *json = golden_json(path), *models = golden_get(json, "models");
    char text[4096], complaint[4096];

    (void)state;
    for (size_t m = 0; m < json_object_array_length(models); m++) {
        struct json_object *model = json_object_array_get_idx(models, m);
        const bool quantised = strstr(golden_str(model, "mmproj"), "q8_0");
        struct json_object *cases = golden_get(model, "cases");

        for (size_t i = 0; i < 2 * json_object_array_length(cases); i++) {
            const bool precise = i % 2 == 0;
            struct json_object *item = json_object_array_get_idx(cases, i / 2), *shape;
            struct json_object *picture =
                golden_get(golden_get(json, "pictures"), golden_str(item, "picture"));
            _cleanup_(freep) float *expected = NULL, *found = NULL;
            struct golden_difference difference;
            size_t n;

            shape = golden_get(item, "shape");
            n = (size_t)json_object_get_int(json_object_array_get_idx(shape, 0)) *
                (size_t)json_object_get_int(json_object_array_get_idx(shape, 1));
            if (program_run(text, complaint,
                            "image-embed --mmproj %s --image %s%s %s --threads 2 --out %s",
                            golden_beside(path, golden_str(model, "mmproj")),
                            golden_beside(path, golden_str(picture, "file")),
                            options_of(golden_get(picture, "settings")), precise ? "--precise" : "",
                            program_out) != 0)
                fail_msg("%s", complaint);
            assert_string_equal(text, "");
            expected = golden_floats(golden_beside(path, golden_str(item, "embeddings")), n);
            found = golden_floats(program_out, n);
            if (precise || !quantised)
                golden_close(golden_str(item, "embeddings"), found, expected, n, 2e-5);
            difference = golden_difference(found, expected, n);
            if (!(difference.rms_rel < 5e-2))
                fail_msg("%s: %.2g of the deviation", golden_str(item, "embeddings"),
                         difference.rms_rel);
        }
    }
    json_object_put(json);
}

static void test_encoder_rows_are_the_references(void **state)
{
    const char *image = fixture_path("vision/images/a04_shapes_256x256.png");
    _cleanup_(freep) float *expected = NULL, *found = NULL;
    const size_t n = (size_t)256 * 128;
    char text[4096], complaint[4096];

    (void)state;
    if (!image)
        skip();
    if (program_run(text, complaint, "image-encode --mmproj %s --image %s --precise --out %s",
                    fixture_path("vision/models/mini-mmproj-ln-f32.gguf"), image, program_out) != 0)
        fail_msg("%s", complaint);
    expected = golden_floats(fixture_path("vision/tensors/a04.t0.enc.f32.bin"), n);
    found = golden_floats(program_out, n);
    golden_close("a04", found, expected, n, 5e-5);
}

static void test_wrong_arguments_are_refused_in_one_sentence(void **state)
{
    static const char *const wrong[] = {
        "image-plan",
        "image-plan --size 640x480 --image %s",
        "image-plan --size 640",
        "image-plan --size 640x480x3",
        "image-plan --size 0x480",
        "image-plan --size 640x-480",
        "image-plan --size 99999999999999999999x1",
        "image-plan --size 640x480 --tiling maybe",
        "image-plan --size 640x480 --max-tiles 0",
        "image-plan --size 640x480 --min-tiles 11",
        "image-plan --size 640x480 --max-tiles 1000000",
        "image-plan --size 640x480 --tile-size 500",
        "image-plan --size 640x480 --max-image-tokens 0",
        "image-plan --size 640x480 --max-image-tokens many",
        "image-plan --size 640x480 --max-pixels-tolerance -1",
        "image-plan --size 640x480 --max-pixels-tolerance nan",
        "image-plan --image /no/such/file",
        "image-plan --image /dev/zero",
        "image-plan --image /",
        "image-patches --image %s",
        "image-patches --out /tmp/never",
        "image-patches --image %s.json --out /tmp/never",
        "image-patches --image %s --out /no/such/folder/file",
        "image-patches --image %s --tile-size 16384 --max-tiles 900 --min-tiles 900 "
        "--max-pixels-tolerance 1e-9 --out /tmp/never",
        "image-encode --image %s --out /tmp/never",
        "image-embed --image %s --out /tmp/never",
        "image-embed --image %s --mmproj /no/such/file --out /tmp/never",
        "image-embed --image %1$s --mmproj %1$s --out /tmp/never",
    };

    (void)state;
    program_refuses(wrong, ARRAY_LEN(wrong), data_path("vision/single.png"));
    assert_int_equal(access("/tmp/never", F_OK), -1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_plan_is_one_json_document),
        cmocka_unit_test(test_plans_and_patches_of_pictures),
        cmocka_unit_test(test_embeddings_are_those_computed_in_double),
        cmocka_unit_test(test_encoder_rows_are_the_references),
        cmocka_unit_test(test_wrong_arguments_are_refused_in_one_sentence),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: %s LFM_RUN\n", argv[0]);
        return 2;
    }
    program = argv[1];
    return cmocka_run_group_tests_name("run_image", tests, program_take_out, program_remove_out);
}
