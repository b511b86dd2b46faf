/* SPDX-License-Identifier: MIT */

/*
 * Proves that resizing is the reference's to the last bit: every view of its runs by checksum, and
 * its resized pictures pixel by pixel; and, without the shared files, the filter against its
 * definition (vision.md 4) in plain sums.
 */

#include <sha256.h>

#include "tests/vision/reference.h"
#include "vision/resize.h"

/* --- against the definition ------------------------------------------------------------------- */

/* One line of one channel, written down from the formula. */
static void line_by_definition(const uint8_t *from, size_t n_in, size_t step, uint8_t *to,
                               size_t n_out)
{
    const double s = (double)n_in / (double)n_out;
    const double support = s > 1 ? s : 1;
    double largest = 0;
    int precision = 0;

    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < n_out; i++) {
            const double c = s * ((double)i + 0.5);
            const int lo = MAX((int)(c - support + 0.5), 0);
            const int hi = MIN((int)(c + support + 0.5), (int)n_in);
            double sum = 0;
            int32_t value = 1 << precision >> 1;

            for (int j = lo; j < hi; j++)
                sum += MAX(0.0, 1 - fabs((j - c + 0.5) * (s >= 1 ? 1 / s : 1)));
            for (int j = lo; j < hi; j++) {
                const double w = MAX(0.0, 1 - fabs((j - c + 0.5) * (s >= 1 ? 1 / s : 1))) / sum;

                largest = MAX(largest, w);
                value += (int)(0.5 + w * (1 << precision)) * from[(size_t)j * step];
            }
            to[i * step] = (uint8_t)MIN(MAX(value >> precision, 0), 255);
        }
        while (precision < 22 && (int)(0.5 + largest * (1 << (precision + 1))) < 32768)
            precision++;
    }
}

static void test_every_axis_is_the_filter_of_the_definition(void **state)
{
    static const uint32_t sizes[][4] = {
        {1, 1, 32, 32},    {7, 5, 32, 64},    {97, 53, 352, 192}, {300, 40, 32, 40},
        {40, 300, 40, 32}, {1000, 3, 32, 96}, {64, 64, 64, 64},   {513, 511, 512, 512},
    };
    struct pool *pool = reference_pool(2);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        const size_t w = sizes[i][0], h = sizes[i][1], to_w = sizes[i][2], to_h = sizes[i][3];
        _cleanup_(freep) uint8_t *from = malloc(w * h * 3), *found = malloc(to_w * to_h * 3);
        _cleanup_(freep) uint8_t *middle = malloc(to_w * h * 3),
                                 *expected = malloc(to_w * to_h * 3);
        struct error err = ERROR_INIT;

        for (size_t k = 0; k < w * h * 3; k++)
            from[k] = (uint8_t)((k * 2654435761u) >> 13);
        for (size_t y = 0; y < h; y++)
            for (size_t c = 0; c < 3; c++)
                if (w == to_w)
                    for (size_t x = 0; x < w; x++)
                        middle[(y * w + x) * 3 + c] = from[(y * w + x) * 3 + c];
                else
                    line_by_definition(from + y * w * 3 + c, w, 3, middle + y * to_w * 3 + c, to_w);
        for (size_t x = 0; x < to_w * 3; x++)
            if (h == to_h)
                for (size_t y = 0; y < h; y++)
                    expected[y * to_w * 3 + x] = middle[y * to_w * 3 + x];
            else
                line_by_definition(middle + x, h, to_w * 3, expected + x, to_h);
        assert_int_equal(resize_rgb(from, (uint32_t)w, (uint32_t)h, found, (uint32_t)to_w,
                                    (uint32_t)to_h, pool, &err),
                         0);
        assert_memory_equal(found, expected, to_w * to_h * 3);
    }
    pool_free(pool);
}

/* --- against the reference -------------------------------------------------------------------- */

static void hash_view(const struct picture_view *view, char hex[SHA256_DIGEST_STRING_LENGTH])
{
    SHA2_CTX context;

    SHA256Init(&context);
    for (size_t y = 0; y < view->view.height; y++)
        SHA256Update(&context, view->rgb + y * view->stride_bytes, (size_t)view->view.width * 3);
    SHA256End(&context, hex);
}

static size_t check_run(struct json_object *run, struct pool *pool)
{
    const struct tile_settings settings = reference_settings(golden_get(run, "settings"));
    const char *name = golden_str(run, "name");
    struct json_object *tiles = golden_get(run, "tiles"), *png;
    struct image image = reference_picture(name);
    struct picture *picture = reference_views(&image, &settings, pool);
    const size_t n = json_object_array_length(tiles);

    image_done(&image);
    assert_int_equal(picture->plan.n_views, n);
    for (size_t i = 0; i < n; i++) {
        struct json_object *tile = json_object_array_get_idx(tiles, i);
        const struct picture_view view = picture_view(picture, i);
        char hex[SHA256_DIGEST_STRING_LENGTH];

        assert_int_equal(view.view.n_tokens, reference_size(tile, "tokens"));
        if (json_object_object_get_ex(tile, "resized_png", &png)) {
            char path[256];

            snprintf(path, sizeof(path), "vision/%s", json_object_get_string(png));
            image = reference_image(fixture_path(path));
            assert_int_equal(image.width, view.view.width);
            assert_int_equal(image.height, view.view.height);
            for (size_t y = 0; y < image.height; y++)
                if (memcmp(image.rgb + y * image.width * 3, view.rgb + y * view.stride_bytes,
                           (size_t)image.width * 3) != 0)
                    fail_msg("%s, view %zu: row %zu differs", name, i, y);
            image_done(&image);
        }
        hash_view(&view, hex);
        if (strcmp(hex, golden_str(tile, "resized_u8_sha256")) != 0)
            fail_msg("%s, view %zu: expected %s, found %s", name, i,
                     golden_str(tile, "resized_u8_sha256"), hex);
    }
    picture_free(picture);
    return n;
}

static void test_every_view_of_the_reference_has_its_bytes(void **state)
{
    static const char *const files[] = {"runs_default", "runs_settings", "runs_noln"};
    struct pool *pool;
    size_t n_views = 0;

    (void)state;
    if (!fixture_path("vision/expect/runs_default.json"))
        skip();
    pool = reference_pool(2);
    for (size_t f = 0; f < ARRAY_LEN(files); f++) {
        char path[256];
        struct json_object *runs;

        snprintf(path, sizeof(path), "vision/expect/%s.json", files[f]);
        runs = golden_json(fixture_path(path));
        for (size_t i = 0; i < json_object_array_length(runs); i++)
            n_views += check_run(json_object_array_get_idx(runs, i), pool);
        json_object_put(runs);
    }
    pool_free(pool);
    print_message("%zu views\n", n_views);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_axis_is_the_filter_of_the_definition),
        cmocka_unit_test(test_every_view_of_the_reference_has_its_bytes),
    };

    return cmocka_run_group_tests_name("resize", tests, NULL, NULL);
}
