/* SPDX-License-Identifier: MIT */

/*
 * Proves the GGUF reader: every type and both versions are read back, split models are one model,
 * and every kind of damage is refused with a sentence that names the place, on files built byte by
 * byte. Run with the address sanitizer, the damaged ones also prove that nothing is read outside.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "tests/fixture.h"
#include "tests/gguf_build.h"

/* A file with one key of each type and two tensors; the last byte belongs to a tensor. */
static uint8_t *whole_file(uint32_t version, size_t *ret_size)
{
    struct build build = BUILD_INIT;
    const char *const words[] = {"one", "", "three"};
    const float x[6] = {1, 2, 3, 4, 5, 6};
    uint8_t q8[34 * 2] = {0};

    build.version = version;
    build_str(&build, "general.architecture", "test");
    build_key(&build, "u8", GGUF_U8, &(uint8_t){200}, 1);
    build_key(&build, "i8", GGUF_I8, &(int8_t){-100}, 1);
    build_key(&build, "u16", GGUF_U16, &(uint16_t){60000}, 2);
    build_key(&build, "i16", GGUF_I16, &(int16_t){-30000}, 2);
    build_u32(&build, "u32", 4000000000u);
    build_key(&build, "i32", GGUF_I32, &(int32_t){2000000000}, 4);
    build_f32(&build, "f32", 0.25f);
    build_bool(&build, "yes", true);
    build_bool(&build, "no", false);
    build_key(&build, "u64", GGUF_U64, &(uint64_t){UINT64_MAX}, 8);
    build_key(&build, "i64", GGUF_I64, &(int64_t){INT64_MIN}, 8);
    build_key(&build, "f64", GGUF_F64, &(double){0.5}, 8);
    build_strs(&build, "words", 3, words);
    build_array(&build, "numbers", GGUF_I16, 3, (int16_t[]){-1, 0, 32767}, 2);
    build_array(&build, "empty", GGUF_STRING, 0, NULL, 0);
    build_key(&build, "nested", GGUF_ARRAY,
              "\x09\0\0\0\x01\0\0\0\0\0\0\0" /* one array of ... */
              "\x08\0\0\0\x01\0\0\0\0\0\0\0" /* one string: */
              "\x02\0\0\0\0\0\0\0hi",
              12 + 12 + 10);
    build_tensor(&build, "x", DTYPE_F32, 2, (uint64_t[]){3, 2}, x);
    build_tensor(&build, "q", DTYPE_Q8_0, 2, (uint64_t[]){64, 1}, q8);
    return build_finish(&build, ret_size);
}

static void test_every_type_is_read_back_in_both_versions(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        size_t size;
        _cleanup_(freep) uint8_t *bytes = whole_file(version, &size);
        struct error err = ERROR_INIT;
        struct gguf *gguf = gguf_open_memory(bytes, size, "memory", &err);
        const struct gguf_tensor *tensor;
        struct gguf_string string;
        struct gguf_array array;
        uint64_t u64;
        uint32_t u32;
        int64_t i64;
        float f32;
        bool yes;

        assert_non_null(gguf);
        assert_string_equal(gguf_path(gguf), "memory");
        assert_int_equal(gguf_file_bytes(gguf), size);
        assert_true(gguf_has(gguf, "u8"));
        assert_false(gguf_has(gguf, "u"));

        assert_int_equal(gguf_u32(gguf, "u8", &u32, &err), 0);
        assert_int_equal(u32, 200);
        assert_int_equal(gguf_u32(gguf, "u16", &u32, &err), 0);
        assert_int_equal(u32, 60000);
        assert_int_equal(gguf_u32(gguf, "u32", &u32, &err), 0);
        assert_int_equal(u32, 4000000000u);
        assert_int_equal(gguf_u32(gguf, "i32", &u32, &err), 0);
        assert_int_equal(u32, 2000000000);
        assert_int_equal(gguf_u64(gguf, "u64", &u64, &err), 0);
        assert_true(u64 == UINT64_MAX);
        assert_int_equal(gguf_f32(gguf, "f32", &f32, &err), 0);
        assert_true(f32 == 0.25f);
        assert_int_equal(gguf_f32(gguf, "f64", &f32, &err), 0);
        assert_true(f32 == 0.5f);
        assert_int_equal(gguf_bool(gguf, "yes", &yes, &err), 0);
        assert_true(yes);
        assert_int_equal(gguf_bool(gguf, "no", &yes, &err), 0);
        assert_false(yes);
        assert_int_equal(gguf_str(gguf, "general.architecture", &string, &err), 0);
        assert_int_equal(string.length, 4);
        assert_memory_equal(string.text, "test", 4);

        assert_int_equal(gguf_array(gguf, "words", &array, &err), 0);
        assert_int_equal(array.n, 3);
        assert_int_equal(array.type, GGUF_STRING);
        assert_int_equal(array.strings[2].length, 5);
        assert_memory_equal(array.strings[2].text, "three", 5);
        assert_false(gguf_array_i64(&array, 0, &i64));
        assert_int_equal(gguf_array(gguf, "numbers", &array, &err), 0);
        assert_null(array.strings);
        assert_true(gguf_array_i64(&array, 0, &i64));
        assert_int_equal(i64, -1);
        assert_true(gguf_array_i64(&array, 2, &i64));
        assert_int_equal(i64, 32767);
        assert_false(gguf_array_i64(&array, 3, &i64));
        assert_int_equal(gguf_array(gguf, "empty", &array, &err), 0);
        assert_int_equal(array.n, 0);
        assert_int_equal(gguf_array(gguf, "nested", &array, &err), 0);
        assert_int_equal(array.type, GGUF_ARRAY);

        assert_int_equal(gguf_n_tensors(gguf), 2);
        assert_null(gguf_tensor(gguf, "y"));
        assert_null(gguf_tensor_at(gguf, 2));
        tensor = gguf_tensor(gguf, "x");
        assert_ptr_equal(tensor, gguf_tensor_at(gguf, 0));
        assert_int_equal(tensor->n_dims, 2);
        assert_int_equal(tensor->ne[0], 3);
        assert_int_equal(tensor->ne[1], 2);
        assert_int_equal(tensor->ne[3], 1);
        assert_int_equal(tensor->size_bytes, 24);
        assert_true(((const float *)tensor->data)[5] == 6);
        assert_int_equal(gguf_tensor(gguf, "q")->size_bytes, 68);
        gguf_tensor_drop(tensor); /* memory that is no file keeps its values */
        assert_true(((const float *)tensor->data)[5] == 6);

        assert_int_equal(err.code, ERROR_NONE);
        gguf_free(gguf);
    }
}

static void test_an_absent_key_is_enoent_and_a_wrong_one_has_a_sentence(void **state)
{
    size_t size;
    _cleanup_(freep) uint8_t *bytes = whole_file(3, &size);
    struct gguf *gguf = gguf_open_memory(bytes, size, "memory", NULL);
    struct gguf_string string;
    struct gguf_array array;
    uint64_t u64 = 7;
    uint32_t u32 = 7;
    float f32;
    bool yes;

    (void)state;
#define CHECK(call, code, sentence)              \
    do {                                         \
        struct error err = ERROR_INIT;           \
        assert_int_equal(call, code);            \
        assert_string_equal(err.text, sentence); \
    } while (0)
    CHECK(gguf_u32(gguf, "absent", &u32, &err), -ENOENT, "");
    CHECK(gguf_str(gguf, "absent", &string, &err), -ENOENT, "");
    CHECK(gguf_u32(gguf, "i8", &u32, &err), -EBADMSG,
          "In 'memory', key 'i8': expected a number from 0 to 4294967295, found -100.");
    CHECK(gguf_u32(gguf, "u64", &u32, &err), -EBADMSG,
          "In 'memory', key 'u64': expected a number from 0 to 4294967295, found "
          "18446744073709551615.");
    CHECK(gguf_u64(gguf, "i64", &u64, &err), -EBADMSG,
          "In 'memory', key 'i64': expected a number from 0 to 18446744073709551615, found "
          "-9223372036854775808.");
    CHECK(gguf_u32(gguf, "yes", &u32, &err), -EBADMSG,
          "In 'memory', key 'yes': expected an integer, found a value of type bool.");
    CHECK(gguf_f32(gguf, "u32", &f32, &err), -EBADMSG,
          "In 'memory', key 'u32': expected a floating-point number, found a value of type u32.");
    CHECK(gguf_bool(gguf, "words", &yes, &err), -EBADMSG,
          "In 'memory', key 'words': expected a bool, found a value of type array.");
    CHECK(gguf_str(gguf, "f64", &string, &err), -EBADMSG,
          "In 'memory', key 'f64': expected a string, found a value of type f64.");
    CHECK(gguf_array(gguf, "general.architecture", &array, &err), -EBADMSG,
          "In 'memory', key 'general.architecture': expected an array, found a value of type "
          "string.");
#undef CHECK
    assert_int_equal(u32, 7);
    assert_int_equal(u64, 7);
    gguf_free(gguf);
}

static void test_a_file_cut_at_any_byte_is_refused(void **state)
{
    size_t size;
    _cleanup_(freep) uint8_t *bytes = whole_file(3, &size);

    (void)state;
    for (size_t n = 0; n < size; n++) {
        /* An exact copy, so that the sanitizer sees every byte read beyond it. */
        _cleanup_(freep) uint8_t *cut = malloc(n ? n : 1);
        struct error err = ERROR_INIT;

        memcpy(cut, bytes, n);
        assert_null(gguf_open_memory(cut, n, "memory", &err));
        assert_int_equal(err.code, ERROR_UNSUPPORTED_FORMAT);
        assert_memory_equal(err.text, "In 'memory', ", 13);
    }
}

static void test_a_file_with_any_byte_changed_is_refused_or_safe(void **state)
{
    size_t size;
    _cleanup_(freep) uint8_t *bytes = whole_file(3, &size);
    const uint8_t values[] = {0, 1, 9, 0x7f, 0x80, 0xff};

    (void)state;
    for (size_t i = 0; i < size; i++) {
        const uint8_t before = bytes[i];

        for (size_t v = 0; v < ARRAY_LEN(values); v++) {
            struct error err = ERROR_INIT;
            struct gguf *gguf;

            bytes[i] = values[v];
            gguf = gguf_open_memory(bytes, size, "memory", &err);
            assert_true(!gguf == (err.code != ERROR_NONE));
            for (size_t t = 0; gguf && t < gguf_n_tensors(gguf); t++) {
                const struct gguf_tensor *tensor = gguf_tensor_at(gguf, t);
                const uint8_t *data = tensor->data;

                assert_true(data >= bytes && tensor->size_bytes <= size - (size_t)(data - bytes));
            }
            gguf_free(gguf);
        }
        bytes[i] = before;
    }
}

/* --- one fault each --------------------------------------------------------------------------- */

static void big_endian(struct build *build)
{
    build->version = 0x03000000;
}

static void version_1(struct build *build)
{
    build->version = 1;
}

static void version_4(struct build *build)
{
    build->version = 4;
}

static void many_keys(struct build *build)
{
    build->n_keys = UINT64_MAX;
}

static void keys_beyond_the_file(struct build *build)
{
    build->n_keys = 1000;
}

static void many_tensors(struct build *build)
{
    build->n_tensors = (uint64_t)1 << 60;
}

static void key_twice(struct build *build)
{
    build_u32(build, "again", 1);
    build_u32(build, "between", 1);
    build_u32(build, "again", 2);
}

static void unknown_value_type(struct build *build)
{
    build_key(build, "odd", 13, "\0\0\0\0", 4);
}

static void bool_of_2(struct build *build)
{
    build_key(build, "odd", GGUF_BOOL, "\2", 1);
}

static void long_key(struct build *build)
{
    _cleanup_(freep) char *name = malloc(65537);

    memset(name, 'k', 65536);
    name[65536] = 0;
    build_u32(build, name, 1);
}

static void endless_string(struct build *build)
{
    build_key(build, "odd", GGUF_STRING, &(uint64_t){UINT64_MAX}, 8);
}

static void endless_array(struct build *build)
{
    build_array(build, "odd", GGUF_F64, 0, NULL, 0);
    memset(build->keys.bytes + build->keys.size - 8, 0xff, 8);
}

static void endless_string_array(struct build *build)
{
    build_array(build, "odd", GGUF_STRING, 0, NULL, 0);
    memset(build->keys.bytes + build->keys.size - 1, 0x10, 1);
}

static void deep_array(struct build *build)
{
    build_array(build, "odd", GGUF_ARRAY, 1, NULL, 0);
    for (int i = 0; i < 100; i++) {
        build_put_u32(&build->keys, GGUF_ARRAY);
        build_put_u64(&build->keys, 1);
    }
}

static void alignment_0(struct build *build)
{
    build_u32(build, "general.alignment", 0);
}

static void alignment_48(struct build *build)
{
    build_u32(build, "general.alignment", 48);
}

static void alignment_string(struct build *build)
{
    build_str(build, "general.alignment", "32");
}

static void five_dimensions(struct build *build)
{
    build_tensor_at(build, "odd", DTYPE_F32, 5, (uint64_t[]){1, 1, 1, 1, 1}, 0);
}

static void empty_dimension(struct build *build)
{
    build_tensor_at(build, "odd", DTYPE_F32, 2, (uint64_t[]){4, 0}, 0);
}

static void endless_dimensions(struct build *build)
{
    build_tensor_at(build, "odd", DTYPE_F32, 3, (uint64_t[]){1u << 31, 1u << 31, 4}, 0);
}

static void large_dimensions(struct build *build)
{
    build_tensor_at(build, "odd", DTYPE_F32, 2, (uint64_t[]){1u << 31, 1u << 31}, 0);
}

static void unhandled_type(struct build *build)
{
    build_tensor_at(build, "odd", 16, 1, (uint64_t[]){256}, 0);
}

static void unknown_type(struct build *build)
{
    build_tensor_at(build, "odd", 77, 1, (uint64_t[]){256}, 0);
}

static void broken_row(struct build *build)
{
    build_tensor_at(build, "odd", DTYPE_Q4_K, 2, (uint64_t[]){128, 2}, 0);
}

static void odd_offset(struct build *build)
{
    build_tensor_at(build, "odd", DTYPE_F32, 1, (uint64_t[]){1}, 4);
}

static void offset_beyond_the_file(struct build *build)
{
    build_tensor_at(build, "odd", DTYPE_F32, 1, (uint64_t[]){1}, 320000);
}

static void endless_offset(struct build *build)
{
    build_tensor_at(build, "odd", DTYPE_F32, 1, (uint64_t[]){1}, UINT64_MAX - 31);
}

static void tensor_twice(struct build *build)
{
    build_tensor(build, "odd", DTYPE_F32, 1, (uint64_t[]){1}, "\0\0\0\0");
    build_tensor(build, "odd", DTYPE_F32, 1, (uint64_t[]){1}, "\0\0\0\0");
}

static void overlap(struct build *build)
{
    build_tensor_at(build, "odd", DTYPE_F32, 1, (uint64_t[]){1}, 32);
}

static void split_part(struct build *build)
{
    build_u32(build, "split.no", 1);
    build_u32(build, "split.count", 2);
}

static void split_part_beyond(struct build *build)
{
    build_u32(build, "split.no", 2);
    build_u32(build, "split.count", 2);
}

static void strange_name(struct build *build)
{
    build_key(build, "a\n\"\xff z", 99, NULL, 0);
}

static void test_each_fault_is_refused_and_named(void **state)
{
    static const struct {
        void (*fault)(struct build *build);
        const char *sentence;
    } faults[] = {
        {big_endian, "the header: expected little endian numbers, found big endian ones."},
        {version_1, "the header: expected version 2 or 3, found 1."},
        {version_4, "the header: expected version 2 or 3, found 4."},
        {many_keys, "the header: expected at most 65536 keys, all of them in the file, found "
                    "18446744073709551615."},
        {keys_beyond_the_file, "the header: expected at most 65536 keys, all of them in the file, "
                               "found 1000."},
        {many_tensors, "the header: expected at most 65536 tensors, all of them in the file, found "
                       "1152921504606846976."},
        {key_twice, "key 'again': expected the key once, found it twice."},
        {unknown_value_type, "key 'odd': expected a value type below 13, found 13."},
        {bool_of_2, "key 'odd': expected a bool of 0 or 1, found 2."},
        {long_key, "key: expected a string of at most 65535 bytes, found 65536."},
        {endless_string, "key 'odd': expected a string of at most 67108864 bytes, found "
                         "18446744073709551615."},
        {endless_array, "elements."},
        {endless_string_array, "elements."},
        {deep_array, "key 'odd': expected at most 4 arrays in each other, found more."},
        {alignment_0, "key 'general.alignment': expected a power of two from 8, found 0."},
        {alignment_48, "key 'general.alignment': expected a power of two from 8, found 48."},
        {alignment_string,
         "key 'general.alignment': expected a u32, found a value of type string."},
        {five_dimensions, "tensor 'odd': expected at most 4 dimensions, found 5."},
        {empty_dimension, "tensor 'odd': expected a number of values from 1 to 2^64 - 1, found "
                          "dimension 1 = 0."},
        {endless_dimensions, "tensor 'odd': expected a number of values from 1 to 2^64 - 1, found "
                             "dimension 2 = 4."},
        {large_dimensions, "found 4611686018427387904 values of F32."},
        {unhandled_type, "tensor 'odd': expected a type among F32, F16, BF16, Q4_0, Q4_1, Q5_0, "
                         "Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, found "
                         "IQ2_XXS."},
        {unknown_type, "found type 77."},
        {broken_row, "tensor 'odd': expected rows of a multiple of 256 values for Q4_K, found "
                     "128."},
        {odd_offset, "tensor 'odd': expected an offset that is a multiple of 32, found 4."},
        {offset_beyond_the_file, "tensor 'odd': expected 4 bytes at offset 320000, found a data "
                                 "section of 64 bytes."},
        {endless_offset, "found a data section of 64 bytes."},
        {tensor_twice, "tensor 'odd': expected the tensor once, found it twice."},
        {overlap, "tensor 'odd': expected data of its own, found that they overlap with those of "
                  "'first'."},
        {split_part, "'memory' is part 2 of 2: expected a whole file."},
        {split_part_beyond, "found part 2 of 2."},
        {strange_name, "key 'a?\"? z': expected a value type below 13, found 99."},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        struct build build = BUILD_INIT;
        struct error err = ERROR_INIT;
        const float values[16] = {0};
        size_t size;
        uint8_t *bytes;

        build_str(&build, "general.architecture", "test");
        build_tensor(&build, "first", DTYPE_F32, 2, (uint64_t[]){4, 4}, values);
        faults[i].fault(&build);
        bytes = build_finish(&build, &size);
        assert_null(gguf_open_memory(bytes, size, "memory", &err));
        assert_int_equal(err.code, ERROR_UNSUPPORTED_FORMAT);
        if (!strstr(err.text, faults[i].sentence))
            fail_msg("expected \"%s\", found \"%s\"", faults[i].sentence, err.text);
        free(bytes);
    }
}

static void test_another_alignment_moves_the_data(void **state)
{
    struct build build = BUILD_INIT;
    const float values[2] = {1.5f, 2.5f};
    struct gguf *gguf;
    uint8_t *bytes;
    size_t size;

    (void)state;
    build.alignment = 4096;
    build_u32(&build, "general.alignment", 4096);
    build_tensor(&build, "a", DTYPE_F32, 1, (uint64_t[]){1}, &values[0]);
    build_tensor(&build, "b", DTYPE_F32, 1, (uint64_t[]){1}, &values[1]);
    bytes = build_finish(&build, &size);
    assert_int_equal(size, 4096 + 4096 + 4);
    gguf = gguf_open_memory(bytes, size, "memory", NULL);
    assert_ptr_equal(gguf_tensor(gguf, "a")->data, bytes + 4096);
    assert_true(*(const float *)gguf_tensor(gguf, "b")->data == 2.5f);
    gguf_free(gguf);
    free(bytes);
}

static void test_a_file_full_of_keys_and_tensors_is_read(void **state)
{
    struct build build = BUILD_INIT;
    struct error err = ERROR_INIT;
    struct gguf *gguf;
    uint8_t *bytes;
    size_t size;
    char name[32];

    (void)state;
    for (uint32_t i = 0; i < GGUF_KEYS_MAX; i++) {
        snprintf(name, sizeof(name), "key.%u", i);
        build_u32(&build, name, i);
    }
    for (uint32_t i = 0; i < GGUF_TENSORS_MAX; i++) {
        snprintf(name, sizeof(name), "tensor.%u", i);
        build_tensor(&build, name, DTYPE_F32, 1, (uint64_t[]){1}, &i);
    }
    bytes = build_finish(&build, &size);
    gguf = gguf_open_memory(bytes, size, "memory", &err);
    assert_non_null(gguf);
    for (uint32_t i = 0; i < GGUF_KEYS_MAX; i++) {
        uint32_t value;

        snprintf(name, sizeof(name), "key.%u", i);
        assert_int_equal(gguf_u32(gguf, name, &value, NULL), 0);
        assert_int_equal(value, i);
        snprintf(name, sizeof(name), "tensor.%u", i);
        assert_int_equal(*(const uint32_t *)gguf_tensor(gguf, name)->data, i);
    }
    gguf_free(gguf);
    free(bytes);
}

/* --- files ------------------------------------------------------------------------------------ */

static char folder[] = "/tmp/test-gguf-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const uint8_t *bytes, size_t size)
{
    FILE *file = fopen(in_folder(name), "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* Part `no` of 3 with tensor "t<no>" of value no. */
static void write_part(const char *name, uint16_t no, uint16_t count, int32_t n_tensors,
                       const char *tensor)
{
    struct build build = BUILD_INIT;
    const float value = no;
    uint8_t *bytes;
    size_t size;

    if (no == 0)
        build_str(&build, "general.architecture", "test");
    build_key(&build, "split.no", GGUF_U16, &no, 2);
    build_key(&build, "split.count", GGUF_U16, &count, 2);
    build_key(&build, "split.tensors.count", GGUF_I32, &n_tensors, 4);
    build_tensor(&build, tensor, DTYPE_F32, 1, (uint64_t[]){1}, &value);
    bytes = build_finish(&build, &size);
    write_file(name, bytes, size);
    free(bytes);
}

static void write_parts(void)
{
    write_part("m-00001-of-00003.gguf", 0, 3, 3, "t0");
    write_part("m-00002-of-00003.gguf", 1, 3, 3, "t1");
    write_part("m-00003-of-00003.gguf", 2, 3, 3, "t2");
}

static void assert_refused(const char *name, const char *sentence)
{
    struct error err = ERROR_INIT;

    assert_null(gguf_open(in_folder(name), &err));
    if (!strstr(err.text, sentence))
        fail_msg("expected \"%s\", found \"%s\"", sentence, err.text);
}

static void test_any_part_opens_the_whole_split_model(void **state)
{
    static const char *const names[] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf",
                                        "m-00003-of-00003.gguf"};

    (void)state;
    write_parts();
    for (size_t i = 0; i < 3; i++) {
        struct error err = ERROR_INIT;
        struct gguf *gguf = gguf_open(in_folder(names[i]), &err);

        assert_non_null(gguf);
        assert_true(gguf_has(gguf, "general.architecture"));
        assert_string_equal(gguf_path(gguf), in_folder(names[0]));
        assert_int_equal(gguf_n_tensors(gguf), 3);
        assert_true(*(const float *)gguf_tensor(gguf, "t0")->data == 0);
        assert_true(*(const float *)gguf_tensor(gguf, "t2")->data == 2);
        gguf_tensor_drop(gguf_tensor(gguf, "t2"));
        assert_true(*(const float *)gguf_tensor(gguf, "t2")->data == 2);
        gguf_free(gguf);
    }
}

static void test_broken_splits_are_refused(void **state)
{
    (void)state;
    write_parts();
    write_part("renamed.gguf", 0, 3, 3, "t0");
    assert_refused("renamed.gguf", "renamed.gguf' is part 1 of 3: expected a name that ends in "
                                   "-00001-of-00003.gguf.");

    write_part("m-00002-of-00003.gguf", 2, 3, 3, "t1");
    assert_refused(
        "m-00001-of-00003.gguf",
        "m-00002-of-00003.gguf', key 'split.no': expected part 1 of 3, found part 2 of 3.");

    write_part("m-00002-of-00003.gguf", 1, 3, 3, "t0");
    assert_refused("m-00003-of-00003.gguf",
                   "tensor 't0': expected the tensor once, found it twice.");

    write_parts();
    write_part("m-00001-of-00003.gguf", 0, 3, 4, "t0");
    assert_refused("m-00001-of-00003.gguf",
                   "key 'split.tensors.count': expected the 3 tensors of all parts, found 4.");

    write_part("m-00001-of-00003.gguf", 0, 1025, 3, "t0");
    assert_refused("m-00001-of-00003.gguf", "found part 0 of 1025.");

    write_parts();
    unlink(in_folder("m-00003-of-00003.gguf"));
    assert_refused("m-00001-of-00003.gguf", "m-00003-of-00003.gguf': No such file or directory.");
}

static void test_what_is_no_file_is_refused(void **state)
{
    (void)state;
    assert_refused("absent.gguf", "absent.gguf': No such file or directory.");
    assert_refused("", "It is not a regular file.");
    assert_int_equal(mkfifo(in_folder("fifo.gguf"), 0600), 0);
    assert_refused("fifo.gguf", "It is not a regular file.");
    write_file("empty.gguf", NULL, 0);
    assert_refused("empty.gguf", "empty.gguf', the header: expected 4 more bytes, found 0.");
    write_file("text.gguf", (const uint8_t *)"hello\n", 6);
    assert_refused("text.gguf", "text.gguf', the header: expected the magic 'GGUF', found 'hell'.");
}

static void test_a_vocabulary_without_tensors_is_read(void **state)
{
    const char *path = fixture_path("text/tokenizer/lfm2-vocab.gguf");
    struct error err = ERROR_INIT;
    struct gguf_array tokens;
    struct gguf *gguf;

    (void)state;
    if (!path) {
        print_message("the reference vocabulary is not here\n");
        skip();
    }
    gguf = gguf_open(path, &err);
    assert_non_null(gguf);
    assert_int_equal(gguf_n_tensors(gguf), 0);
    assert_int_equal(gguf_array(gguf, "tokenizer.ggml.tokens", &tokens, &err), 0);
    assert_true(tokens.n >= 64400);
    assert_memory_equal(tokens.strings[7].text, "<|im_end|>", tokens.strings[7].length);
    gguf_free(gguf);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[sizeof(folder) + 16];

    (void)state;
    snprintf(command, sizeof(command), "rm -r %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type_is_read_back_in_both_versions),
        cmocka_unit_test(test_an_absent_key_is_enoent_and_a_wrong_one_has_a_sentence),
        cmocka_unit_test(test_a_file_cut_at_any_byte_is_refused),
        cmocka_unit_test(test_a_file_with_any_byte_changed_is_refused_or_safe),
        cmocka_unit_test(test_each_fault_is_refused_and_named),
        cmocka_unit_test(test_another_alignment_moves_the_data),
        cmocka_unit_test(test_a_file_full_of_keys_and_tensors_is_read),
        cmocka_unit_test(test_any_part_opens_the_whole_split_model),
        cmocka_unit_test(test_broken_splits_are_refused),
        cmocka_unit_test(test_what_is_no_file_is_refused),
        cmocka_unit_test(test_a_vocabulary_without_tensors_is_read),
    };

    return cmocka_run_group_tests_name("gguf", tests, make_folder, remove_folder);
}
