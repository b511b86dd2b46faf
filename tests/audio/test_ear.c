/* SPDX-License-Identifier: MIT */

/*
 * Proves what the file of an audio encoder must be: every check of its keys, tensors, shapes and
 * types by a file with just that fault; that every allowed type of weights is loaded and computed
 * alike; and the limits of clips.
 */

#include <errno.h>
#include <sys/mman.h>

#include "audio/in/encoder.h"
#include "tests/audio/ear.h"
#include "tests/audio/reference.h"

/* A path to these bytes; the descriptor must be closed afterwards. */
static const char *path_of(const uint8_t *bytes, size_t size, int *ret_fd)
{
    static char path[64];
    const int fd = memfd_create("ear", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    *ret_fd = fd;
    return path;
}

static struct audio_encoder *load(const struct mmproj_fault *fault, bool precise, struct pool *pool,
                                  struct error *err)
{
    _cleanup_(closep) int fd = -1;
    _cleanup_(freep) uint8_t *bytes = NULL;
    struct audio_encoder_info info;
    struct audio_encoder *encoder;
    const char *path;
    size_t size;

    bytes = ear_build(fault, &size);
    path = path_of(bytes, size, &fd);
    encoder = audio_encoder_load(path, precise, pool, err);

    /* Planning says the same, without loading. */
    if (audio_encoder_plan(path, precise, &info, encoder ? err : NULL) == 0) {
        assert_non_null(encoder);
        assert_memory_equal(&info, audio_encoder_info(encoder), sizeof(info));
    } else {
        assert_null(encoder);
    }
    return encoder;
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
static void put_8(struct build *build, const char *key)
{
    build_u32(build, key, 8);
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
static void put_vision(struct build *build, const char *key)
{
    build_str(build, key, "lfm2");
}
static void put_nan(struct build *build, const char *key)
{
    build_f32(build, key, (float)NAN);
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
        {{.key = "clip.projector_type", .put = put_vision}, "clip.projector_type", "a vision"},
        {{.key = "clip.projector_type", .put = put_3}, "clip.projector_type", ""},
        {{.key = "clip.has_audio_encoder", .put = put_false}, "has_audio_encoder", "false"},
        {{.key = "clip.audio.num_mel_bins"}, "num_mel_bins", "an audio file, found none"},
        {{.key = "clip.audio.num_mel_bins", .put = put_0}, "num_mel_bins", "found 0"},
        {{.key = "clip.audio.num_mel_bins", .put = put_huge}, "num_mel_bins", "from 1 to 512"},
        {{.key = "clip.audio.num_mel_bins", .put = put_3}, "a.pre_encode.out.weight", "{6, 32"},
        {{.key = "clip.audio.projection_dim"}, "projection_dim", "found none"},
        {{.key = "clip.audio.projection_dim", .put = put_3}, "projection_dim", "found 3"},
        {{.key = "clip.audio.block_count"}, "clip.audio.block_count", "found none"},
        {{.key = "clip.audio.block_count", .put = put_0}, "clip.audio.block_count", "found 0"},
        {{.key = "clip.audio.block_count", .put = put_huge}, "block_count", "4294967295"},
        {{.key = "clip.audio.block_count", .put = put_3}, "a.blk.2.", "found none"},
        {{.key = "clip.audio.embedding_length"}, "embedding_length", "found none"},
        {{.key = "clip.audio.embedding_length", .put = put_huge}, "embedding_length", "from 1"},
        {{.key = "clip.audio.embedding_length", .put = put_text}, "embedding_length", ""},
        {{.key = "clip.audio.embedding_length", .put = put_8}, "head_count", "found 2"},
        {{.key = "clip.audio.attention.head_count"}, "head_count", "found none"},
        {{.key = "clip.audio.attention.head_count", .put = put_0}, "head_count", "found 0"},
        {{.key = "clip.audio.attention.head_count", .put = put_3}, "head_count", "found 3"},
        {{.key = "clip.audio.attention.layer_norm_epsilon"}, "layer_norm_epsilon", "found none"},
        {{.key = "clip.audio.attention.layer_norm_epsilon", .put = put_nan}, "epsilon", "nan"},

        {{.tensor = "a.conv1d.0.weight"}, "a.conv1d.0.weight", "found none"},
        {{.tensor = "a.conv1d.0.weight", .ne = {3, 3, 2, EAR_CHANNELS}},
         "a.conv1d.0.weight",
         "{3, 3, 2, 6}"},
        {{.tensor = "a.conv1d.0.weight", .ne = {3, 3, 1, 7}}, "a.conv1d.0.bias", "{1, 1, 6, 1}"},
        {{.tensor = "a.conv1d.0.weight", .ne = {1, 1, 1, 4000}}, "a.conv1d.0", "fewer channels"},
        {{.tensor = "a.conv1d.2.weight", .ne = {9, 1, 1, EAR_CHANNELS}}, "a.conv1d.2", "{9, 1"},
        {{.tensor = "a.conv1d.3.weight", .ne = {6, 6, 1, 1}}, "a.conv1d.3", "{6, 6, 1, 1}"},
        {{.tensor = "a.conv1d.5.bias", .ne = {6, 1, 1, 1}}, "a.conv1d.5.bias", "{6, 1, 1, 1}"},
        {{.tensor = "a.pre_encode.out.weight", .ne = {95, EAR_HIDDEN, 1, 1}}, "out.weight", "{95"},
        {{.tensor = "a.blk.0.ffn_up.weight"}, "a.blk.0.ffn_up.weight", "found none"},
        {{.tensor = "a.blk.1.ffn_up_1.weight", .ne = {32, 63, 1, 1}}, "ffn_up_1", "{32, 63, 1, 1}"},
        {{.tensor = "a.blk.0.ffn_norm_1.bias"}, "a.blk.0.ffn_norm_1.bias", "found none"},
        {{.tensor = "a.blk.1.attn_q.weight"}, "a.blk.1.attn_q.weight", "found none"},
        {{.tensor = "a.blk.0.linear_pos.weight", .ne = {16, 32, 1, 1}}, "linear_pos", "{16, 32"},
        {{.tensor = "a.blk.0.pos_bias_u", .ne = {32, 1, 1, 1}}, "pos_bias_u", "{32, 1, 1, 1}"},
        {{.tensor = "a.blk.1.pos_bias_v"}, "a.blk.1.pos_bias_v", "found none"},
        {{.tensor = "a.blk.0.conv_dw.weight", .ne = {4, 32, 1, 1}}, "conv_dw", "odd number"},
        {{.tensor = "a.blk.0.conv_dw.weight", .ne = {65, 32, 1, 1}}, "conv_dw", "1 to 63"},
        {{.tensor = "a.blk.1.conv_dw.weight", .ne = {7, 32, 1, 1}}, "a.blk.1.conv_dw", "{7, 32"},
        {{.tensor = "a.blk.0.conv_pw1.weight", .ne = {32, 32, 1, 1}}, "conv_pw1", "{32, 32, 1, 1}"},
        {{.tensor = "a.blk.0.conv_norm.weight"}, "a.blk.0.conv_norm.weight", "found none"},
        {{.tensor = "a.blk.1.ln2.weight"}, "a.blk.1.ln2.weight", "found none"},
        {{.tensor = "a.blk.0.attn_k.weight", .type = DTYPE_Q4_1}, "attn_k.weight", "Q4_1"},
        {{.tensor = "mm.a.mlp.0.bias"}, "mm.a.mlp.0.bias", "found none"},
        {{.tensor = "mm.a.mlp.1.weight"}, "mm.a.mlp.1.weight", "found none"},
        {{.tensor = "mm.a.mlp.3.weight", .ne = {EAR_ADAPTER, 39, 1, 1}}, "projection_dim", "40"},
        {{.extra = "a.blk.0.attn_gate.weight"}, "a.blk.0.attn_gate.weight", "no place"},
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

/* A file cut anywhere is refused, whatever is missing. */
static void test_cut_files_are_refused(void **state)
{
    static const struct mmproj_fault none;
    struct pool *pool = reference_pool(1);
    size_t size;
    _cleanup_(freep) uint8_t *bytes = ear_build(&none, &size);

    (void)state;
    for (size_t cut = 0; cut < size; cut += cut < 4096 ? 61 : 4999) {
        _cleanup_(closep) int fd = -1;
        struct error err = ERROR_INIT;

        assert_null(audio_encoder_load(path_of(bytes, cut, &fd), false, pool, &err));
        assert_true(err.code != ERROR_NONE);
    }
    pool_free(pool);
}

/* --- good files ------------------------------------------------------------------------------- */

static void put_audio_type(struct build *build, const char *key)
{
    (void)key;
    build_str(build, "clip.audio.projector_type", "lfm2a");
    build_str(build, "clip.projector_type", "something else");
}

static void test_what_a_file_may_leave_out_or_have_more_is_accepted(void **state)
{
    static const struct mmproj_fault cases[] = {
        {0},
        {.key = "clip.has_audio_encoder"},
        {.key = "clip.audio.feed_forward_length"},
        {.key = "clip.projector_type", .put = put_audio_type},
        {.extra = "a.position_embd.weight"},
        {.extra = "a.embd_to_logits.weight"},
    };
    struct pool *pool = reference_pool(1);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = ERROR_INIT;
        struct audio_encoder *encoder = load(&cases[i], false, pool, &err);

        if (!encoder)
            fail_msg("case %zu: %s", i, err.text);
        assert_int_equal(audio_encoder_info(encoder)->shape.n_embd, EAR_EMBD);
        assert_int_equal(audio_encoder_info(encoder)->shape.n_ff, EAR_FF);
        assert_int_equal(audio_encoder_info(encoder)->shape.n_kernel, EAR_KERNEL);
        audio_encoder_free(encoder);
    }
    pool_free(pool);
}

#define N_FRAMES ((size_t)333)

/* Embeddings of features of our own, at the real weights or rounded: malloc. */
static float *embed(const struct mmproj_fault *file, bool precise, size_t *ret_n)
{
    static float features[128 * N_FRAMES];
    struct pool *pool = reference_pool(2);
    struct error err = ERROR_INIT;
    struct audio_encoder *encoder = load(file, precise, pool, &err);
    uint32_t seed = 5;
    float *embeddings;

    if (!encoder)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < 128 * N_FRAMES; i++) {
        seed = seed * 1664525 + 1013904223;
        features[i] = (float)(seed >> 8) * 0x1p-22f - 2;
    }
    *ret_n = audio_encoder_rows(N_FRAMES) * EAR_EMBD;
    embeddings = calloc(*ret_n, sizeof(*embeddings));
    if (audio_encode(encoder, features, N_FRAMES, NULL, embeddings, NULL, &err) < 0)
        fail_msg("%s", err.text);
    audio_encoder_free(encoder);
    pool_free(pool);
    return embeddings;
}

static void test_every_type_of_weights_is_computed(void **state)
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
    for (size_t i = 0; i < 3 * ARRAY_LEN(types); i++) {
        /* And one matrix of a type of its own. */
        static const enum dtype others[] = {DTYPE_F32, DTYPE_BF16, DTYPE_Q8_0};
        const struct mmproj_fault file = {.matrices = types[i / 3].type,
                                          .tensor = "a.blk.1.attn_v.weight",
                                          .type = others[i % 3],
                                          .ne = {EAR_HIDDEN, EAR_HIDDEN, 1, 1}};
        size_t n;
        _cleanup_(freep) float *expected = embed(&file, true, &n);
        _cleanup_(freep) float *found = embed(&file, false, &n);
        const struct golden_difference difference = golden_difference(found, expected, n);

        if (!(difference.rms_rel < MAX(types[i / 3].limit, i % 3 == 0 ? 0 : 1e-2)))
            fail_msg("%s and %s: relative difference %.2g", dtype_info(types[i / 3].type)->name,
                     dtype_info(others[i % 3])->name, difference.rms_rel);
    }
}

static void test_clips_have_limits_and_can_be_left(void **state)
{
    static const struct mmproj_fault none;
    static float features[128 * AUDIO_FRAMES_MIN], hidden[2 * EAR_HIDDEN];
    struct pool *pool = reference_pool(1);
    struct error err = ERROR_INIT;
    struct audio_encoder *encoder = load(&none, false, pool, &err);
    atomic_bool cancel = true;
    int r;

    (void)state;
    assert_non_null(encoder);
    r = audio_encode(encoder, features, AUDIO_FRAMES_MIN, NULL, NULL, hidden, &err);
    assert_int_equal(r, 0);
    r = audio_encode(encoder, features, AUDIO_FRAMES_MIN, &cancel, NULL, hidden, &err);
    assert_int_equal(r, -ECANCELED);
    assert_int_equal(err.code, ERROR_NONE);
    r = audio_encode(encoder, features, AUDIO_FRAMES_MIN - 1, NULL, NULL, hidden, &err);
    assert_int_equal(r, -EINVAL);
    assert_non_null(strstr(err.text, "70 ms"));
    err = (struct error)ERROR_INIT;
    r = audio_encode(encoder, features, AUDIO_FRAMES_MAX + 1, NULL, NULL, hidden, &err);
    assert_int_equal(r, -EINVAL);
    assert_non_null(strstr(err.text, "600 s"));
    audio_encoder_free(encoder);
    pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_fault_is_refused_with_its_place),
        cmocka_unit_test(test_cut_files_are_refused),
        cmocka_unit_test(test_what_a_file_may_leave_out_or_have_more_is_accepted),
        cmocka_unit_test(test_every_type_of_weights_is_computed),
        cmocka_unit_test(test_clips_have_limits_and_can_be_left),
    };

    return cmocka_run_group_tests_name("ear", tests, NULL, NULL);
}
