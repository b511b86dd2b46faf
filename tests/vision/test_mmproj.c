/* SPDX-License-Identifier: MIT */

/*
 * Proves what a vision file must be: every check of its keys, tensors, shapes and types by a file
 * with just that fault, and that every allowed type of weights is loaded and computed alike.
 */

#include <errno.h>
#include <sys/mman.h>

#include "tests/vision/mmproj.h"
#include "tests/vision/reference.h"

/* A path to these bytes; the descriptor must be closed afterwards. */
static const char *path_of(const uint8_t *bytes, size_t size, int *ret_fd)
{
    static char path[64];
    const int fd = memfd_create("mmproj", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    *ret_fd = fd;
    return path;
}

static struct vision *load(const struct mmproj_fault *fault, bool precise, struct pool *pool,
                           struct error *err)
{
    _cleanup_(closep) int fd = -1;
    _cleanup_(freep) uint8_t *bytes = NULL;
    struct vision_info info;
    struct vision *vision;
    const char *path;
    size_t size;

    bytes = mmproj_build(fault, &size);
    path = path_of(bytes, size, &fd);
    vision = vision_load(path, precise, pool, err);

    /* Planning says the same, without loading. */
    if (vision_plan(path, precise, &info, vision ? err : NULL) == 0) {
        assert_non_null(vision);
        assert_memory_equal(&info, vision_info(vision), sizeof(info));
    } else {
        assert_null(vision);
    }
    return vision;
}

/* --- faults ----------------------------------------------------------------------------------- */

static void put_0(struct build *build, const char *key)
{
    build_u32(build, key, 0);
}
static void put_3(struct build *build, const char *key)
{
    build_u32(build, key, 3);
}
static void put_huge(struct build *build, const char *key)
{
    build_u32(build, key, UINT32_MAX);
}
static void put_false(struct build *build, const char *key)
{
    build_bool(build, key, false);
}
static void put_text(struct build *build, const char *key)
{
    build_str(build, key, "some\033thing");
}
static void put_audio(struct build *build, const char *key)
{
    build_str(build, key, "lfm2a");
}
static void put_nan(struct build *build, const char *key)
{
    build_f32(build, key, (float)NAN);
}
static void put_negative(struct build *build, const char *key)
{
    build_f32(build, key, -1e-6f);
}
static void put_two(struct build *build, const char *key)
{
    build_array(build, key, GGUF_F32, 2, (float[]){0.5f, 0.5f}, 4);
}
static void put_zeros(struct build *build, const char *key)
{
    build_array(build, key, GGUF_F32, 3, (float[]){0, 0, 0}, 4);
}

static void test_every_fault_is_refused_with_its_place(void **state)
{
    static const struct {
        struct mmproj_fault fault;
        const char *place, *more; /* what the sentence names */
    } cases[] = {
        {{.key = "general.architecture"}, "general.architecture", "found none"},
        {{.key = "general.architecture", .put = put_text}, "general.architecture", "some?thing"},
        {{.key = "clip.projector_type"}, "clip.projector_type", "found none"},
        {{.key = "clip.projector_type", .put = put_text}, "clip.projector_type", "some?thing"},
        {{.key = "clip.projector_type", .put = put_audio}, "clip.projector_type", "audio"},
        {{.key = "clip.projector_type", .put = put_3}, "clip.projector_type", ""},
        {{.key = "clip.has_vision_encoder", .put = put_false}, "has_vision_encoder", "false"},
        {{.key = "clip.use_gelu", .put = put_false}, "clip.use_gelu", "false"},
        {{.key = "clip.vision.patch_size"}, "clip.vision.patch_size", "found none"},
        {{.key = "clip.vision.patch_size", .put = put_3}, "clip.vision.patch_size", "16, found 3"},
        {{.key = "clip.vision.projector.scale_factor", .put = put_3}, "scale_factor", "2, found 3"},
        {{.key = "clip.vision.projection_dim"}, "clip.vision.projection_dim", "found none"},
        {{.key = "clip.vision.projection_dim", .put = put_3}, "projection_dim", "40"},
        {{.key = "clip.vision.block_count"}, "clip.vision.block_count", "found none"},
        {{.key = "clip.vision.block_count", .put = put_0}, "clip.vision.block_count", "found 0"},
        {{.key = "clip.vision.block_count", .put = put_huge}, "block_count", "4294967295"},
        {{.key = "clip.vision.block_count", .put = put_3}, "v.blk.2.", "found none"},
        {{.key = "clip.vision.embedding_length"}, "embedding_length", "found none"},
        {{.key = "clip.vision.embedding_length", .put = put_huge}, "embedding_length", "from 1"},
        {{.key = "clip.vision.embedding_length", .put = put_text}, "embedding_length", ""},
        {{.key = "clip.vision.feed_forward_length"}, "feed_forward_length", "found none"},
        {{.key = "clip.vision.feed_forward_length", .put = put_0}, "feed_forward_length", "0"},
        {{.key = "clip.vision.feed_forward_length", .put = put_3}, "ffn_up", "3"},
        {{.key = "clip.vision.attention.head_count"}, "head_count", "found none"},
        {{.key = "clip.vision.attention.head_count", .put = put_0}, "head_count", "found 0"},
        {{.key = "clip.vision.attention.head_count", .put = put_3}, "head_count", "in 3 heads"},
        {{.key = "clip.vision.attention.layer_norm_epsilon"}, "layer_norm_epsilon", "found none"},
        {{.key = "clip.vision.attention.layer_norm_epsilon", .put = put_nan}, "epsilon", "nan"},
        {{.key = "clip.vision.attention.layer_norm_epsilon", .put = put_negative}, "epsilon", "-1"},
        {{.key = "clip.vision.image_mean", .put = put_two}, "clip.vision.image_mean", "three"},
        {{.key = "clip.vision.image_mean", .put = put_3}, "clip.vision.image_mean", ""},
        {{.key = "clip.vision.image_std", .put = put_zeros}, "clip.vision.image_std", "three"},
        {{.key = "lfmd.vision.max_image_tokens", .put = put_huge}, "lfmd.vision", "1024"},

        {{.tensor = "v.patch_embd.weight"}, "v.patch_embd.weight", "found none"},
        {{.tensor = "v.patch_embd.weight", .ne = {14, 14, 3, MMPROJ_HIDDEN}},
         "v.patch_embd.weight",
         "{14, 14, 3, 32}"},
        {{.tensor = "v.patch_embd.bias", .ne = {31, 1, 1, 1}}, "v.patch_embd.bias", "{31"},
        {{.tensor = "v.position_embd.weight"}, "v.position_embd.weight", "found none"},
        {{.tensor = "v.position_embd.weight", .ne = {MMPROJ_HIDDEN, 15, 1, 1}},
         "v.position_embd.weight",
         "square"},
        {{.tensor = "v.position_embd.weight", .ne = {30, 16, 1, 1}},
         "v.position_embd.weight",
         "{30, 16, 1, 1}"},
        {{.tensor = "v.blk.1.attn_q.weight"}, "v.blk.1.attn_q.weight", "found none"},
        {{.tensor = "v.blk.0.attn_out.weight", .ne = {32, 33, 1, 1}}, "attn_out", "{32, 33, 1, 1}"},
        {{.tensor = "v.blk.0.attn_v.bias"}, "v.blk.0.attn_v.bias", "found none"},
        {{.tensor = "v.blk.1.ffn_down.weight", .ne = {MMPROJ_HIDDEN, MMPROJ_FF, 1, 1}},
         "v.blk.1.ffn_down.weight",
         "{32, 48, 1, 1}"},
        {{.tensor = "v.blk.1.ln2.weight"}, "v.blk.1.ln2.weight", "found none"},
        {{.tensor = "v.blk.0.attn_k.weight", .type = DTYPE_Q4_1}, "attn_k.weight", "Q4_1"},
        {{.tensor = "v.blk.0.attn_k.weight", .type = DTYPE_Q5_0}, "attn_k.weight", "Q5_0"},
        {{.tensor = "v.post_ln.bias"}, "v.post_ln.bias", "found none"},
        {{.tensor = "mm.input_norm.weight"}, "mm.input_norm.weight", "found none"},
        {{.tensor = "mm.input_norm.bias"}, "mm.input_norm.bias", "found none"},
        {{.tensor = "mm.1.weight"}, "mm.1.weight", "found none"},
        {{.tensor = "mm.1.weight", .ne = {MMPROJ_HIDDEN, MMPROJ_PROJECTOR, 1, 1}},
         "mm.1.weight",
         "{32, 24, 1, 1}"},
        {{.tensor = "mm.1.bias", .ne = {23, 1, 1, 1}}, "mm.1.bias", "{23, 1, 1, 1}"},
        {{.tensor = "mm.2.weight"}, "mm.2.weight", "found none"},
        {{.tensor = "mm.2.weight", .ne = {MMPROJ_PROJECTOR, 39, 1, 1}}, "projection_dim", "39"},
        {{.tensor = "mm.2.bias"}, "mm.2.bias", "found none"},
        {{.extra = "v.pre_ln.weight"}, "v.pre_ln.weight", "no place"},
    };
    struct pool *pool = reference_pool(1);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = ERROR_INIT;

        if (load(&cases[i].fault, false, pool, &err))
            fail_msg("case %zu (%s): loaded", i, cases[i].place);
        assert_int_equal(err.code, ERROR_UNSUPPORTED_FORMAT);
        if (!strstr(err.text, cases[i].place) || !strstr(err.text, cases[i].more) ||
            !strstr(err.text, "/proc/self/fd/") || err.text[strlen(err.text) - 1] != '.')
            fail_msg("case %zu (%s, %s): \"%s\"", i, cases[i].place, cases[i].more, err.text);
    }
    pool_free(pool);
}

static void test_a_language_model_is_no_vision_file(void **state)
{
    struct pool *pool = reference_pool(1);
    struct error err = ERROR_INIT;

    (void)state;
    assert_null(vision_load(data_path("tiny_dense_f32.gguf"), false, pool, &err));
    assert_non_null(strstr(err.text, "'lfm2'"));
    pool_free(pool);
}

/* A file cut anywhere is refused, whatever is missing. */
static void test_cut_files_are_refused(void **state)
{
    static const struct mmproj_fault none;
    struct pool *pool = reference_pool(1);
    size_t size;
    _cleanup_(freep) uint8_t *bytes = mmproj_build(&none, &size);

    (void)state;
    for (size_t cut = 0; cut < size; cut += cut < 4096 ? 61 : 4999) {
        _cleanup_(closep) int fd = -1;
        struct error err = ERROR_INIT;

        assert_null(vision_load(path_of(bytes, cut, &fd), false, pool, &err));
        assert_true(err.code != ERROR_NONE);
    }
    pool_free(pool);
}

/* --- good files ------------------------------------------------------------------------------- */

static void put_vision_type(struct build *build, const char *key)
{
    (void)key;
    build_str(build, "clip.vision.projector_type", "lfm2");
    build_str(build, "clip.projector_type", "something else");
}
static void put_u64(struct build *build, const char *key)
{
    build_key(build, key, GGUF_U64, &(uint64_t){2}, sizeof(uint64_t));
}

static void test_what_a_file_may_leave_out_or_say_in_another_way_is_accepted(void **state)
{
    static const struct mmproj_fault cases[] = {
        {0},
        {.unnormed = true},
        {.key = "clip.has_vision_encoder"},
        {.key = "clip.use_gelu"},
        {.key = "clip.vision.image_mean"},
        {.key = "clip.vision.image_std"},
        {.key = "clip.vision.projector.scale_factor"},
        {.key = "clip.vision.projector.scale_factor", .put = put_u64},
        {.key = "clip.projector_type", .put = put_vision_type},
    };
    struct pool *pool = reference_pool(1);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = ERROR_INIT;
        struct vision *vision = load(&cases[i], false, pool, &err);

        if (!vision)
            fail_msg("case %zu: %s", i, err.text);
        assert_int_equal(vision_info(vision)->shape.n_embd, MMPROJ_EMBD);
        assert_int_equal(vision_info(vision)->shape.n_grid, MMPROJ_GRID);
        assert_int_equal(vision_info(vision)->settings.max_image_tokens, 256);
        vision_free(vision);
    }
    pool_free(pool);
}

static void put_budget(struct build *build, const char *key)
{
    build_u32(build, key, 49);
    build_u32(build, "lfmd.vision.min_image_tokens", 16);
    build_bool(build, "lfmd.vision.tiling", false);
}

static void test_a_file_may_name_its_own_budget(void **state)
{
    static const struct mmproj_fault budget = {.key = "lfmd.vision.max_image_tokens",
                                               .put = put_budget};
    struct pool *pool = reference_pool(1);
    struct error err = ERROR_INIT;
    struct vision *vision = load(&budget, false, pool, &err);

    (void)state;
    assert_non_null(vision);
    assert_int_equal(vision_info(vision)->settings.min_image_tokens, 16);
    assert_int_equal(vision_info(vision)->settings.max_image_tokens, 49);
    assert_false(vision_info(vision)->settings.tiling);
    assert_int_equal(vision_info(vision)->settings.tile_size, 512);
    vision_free(vision);
    pool_free(pool);
}

/* Embeddings of a small picture: malloc. */
static float *embed(const struct mmproj_fault *file, bool precise, size_t *ret_n)
{
    uint8_t rgb[20 * 14 * 3];
    struct image image = {.width = 20, .height = 14, .rgb = rgb};
    struct tile_settings settings = tile_settings_default;
    struct pool *pool = reference_pool(2);
    struct error err = ERROR_INIT;
    struct vision *vision = load(file, precise, pool, &err);
    struct picture *picture;
    float *embeddings;

    if (!vision)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < sizeof(rgb); i++)
        rgb[i] = (uint8_t)(i * 37 % 256);
    settings.min_image_tokens = 6;
    picture = reference_views(&image, &settings, pool);
    *ret_n = picture->plan.n_image_tokens * MMPROJ_EMBD;
    embeddings = calloc(*ret_n, sizeof(*embeddings));
    if (vision_encode(vision, picture, 0, 1, NULL, embeddings, NULL, &err) < 0)
        fail_msg("%s", err.text);
    picture_free(picture);
    vision_free(vision);
    pool_free(pool);
    return embeddings;
}

static void test_every_type_of_weights_is_computed_with_and_without_a_projector_norm(void **state)
{
    static const struct {
        enum dtype type;
        double limit;
    } types[] = {{DTYPE_F32, 1e-5},
                 {DTYPE_F16, 1e-2},
                 {DTYPE_BF16, 1e-2},
                 {DTYPE_Q8_0, 5e-2},
                 {DTYPE_Q4_0, 5e-2}};

    (void)state;
    for (size_t i = 0; i < 2 * ARRAY_LEN(types); i++) {
        const struct mmproj_fault file = {.matrices = types[i / 2].type, .unnormed = i % 2 == 1};
        size_t n;
        _cleanup_(freep) float *expected = embed(&file, true, &n);
        _cleanup_(freep) float *found = embed(&file, false, &n);
        double difference = 0, length = 0;

        for (size_t k = 0; k < n; k++) {
            difference += pow((double)found[k] - (double)expected[k], 2);
            length += pow((double)expected[k], 2);
        }
        if (!(length > 0) || !(sqrt(difference / length) < types[i / 2].limit))
            fail_msg("%s: relative difference %.2g of a length of %.2g",
                     dtype_info(types[i / 2].type)->name, sqrt(difference / length), sqrt(length));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_fault_is_refused_with_its_place),
        cmocka_unit_test(test_a_language_model_is_no_vision_file),
        cmocka_unit_test(test_cut_files_are_refused),
        cmocka_unit_test(test_what_a_file_may_leave_out_or_say_in_another_way_is_accepted),
        cmocka_unit_test(test_a_file_may_name_its_own_budget),
        cmocka_unit_test(test_every_type_of_weights_is_computed_with_and_without_a_projector_norm),
    };

    return cmocka_run_group_tests_name("mmproj", tests, NULL, NULL);
}
