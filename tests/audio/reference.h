/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the audio tests share: the reference's tensors and frames, and a pool.
 */

#include <sys/mman.h>

#include "audio/modes.h"
#include "tensor/pool.h"
#include "tests/fixture.h"
#include "tests/golden.h"

/* {"file": ..., "shape": ...} of an index of fixtures/audio, n floats: malloc. */
static inline float *reference_floats(struct json_object *entry, size_t n)
{
    char path[256];

    snprintf(path, sizeof(path), "audio/%s", golden_str(entry, "file"));
    return golden_floats(fixture_path(path), n);
}

/* [c0 .. c7] */
static inline void reference_codes(struct json_object *frame, int32_t codes[CODEBOOKS])
{
    assert_int_equal(json_object_array_length(frame), CODEBOOKS);
    for (size_t i = 0; i < CODEBOOKS; i++)
        codes[i] = json_object_get_int(json_object_array_get_idx(frame, i));
}

static inline struct pool *reference_pool(unsigned n_threads)
{
    struct error err = ERROR_INIT;
    struct pool *pool = pool_new(n_threads, &err);

    if (!pool)
        fail_msg("%s", err.text);
    return pool;
}

/* --- files of our own: tests/data/audio, made by train/sound.py ------------------------------- */

/* tests/data/audio/NAME; static storage, as data_path(). */
static inline const char *own_path(const char *name)
{
    char path[256];
    const char *found;

    snprintf(path, sizeof(path), "audio/%s", name);
    found = data_path(path);
    if (!found)
        fail_msg("tests/data/%s is missing", path);
    return found;
}

/* The n floats of the file that a member names: malloc. */
static inline float *own_floats(struct json_object *json, const char *key, size_t n)
{
    return golden_floats(own_path(golden_str(json, key)), n);
}

/* An array of frames: malloc. */
static inline int32_t (*own_frames(struct json_object *json, const char *key, size_t *ret_n))
    [CODEBOOKS]
{
    struct json_object *frames = golden_get(json, key);
    const size_t n = json_object_array_length(frames);
    int32_t(*codes)[CODEBOOKS] = malloc(n * sizeof(*codes));

    for (size_t i = 0; i < n; i++)
        reference_codes(json_object_array_get_idx(frames, i), codes[i]);
    *ret_n = n;
    return codes;
}

/* The mutations of a file that is refused or harmless: round `round` writes bytes into its head. */
static inline void mutate(unsigned char *bytes, size_t size, unsigned round)
{
    uint32_t random = 2654435761u * (round + 1);

    for (unsigned i = 0; i <= round % 3; i++) {
        random = random * 1664525 + 1013904223;
        const size_t at = (random >> 8) % MIN(size, (size_t)(round % 2 ? 6000 : 800));

        random = random * 1664525 + 1013904223;
        bytes[at] = (unsigned char)(random >> 24);
    }
}

/* The path of a file in memory with these bytes; *ret_fd is to be closed. */
static inline const char *memory_file(const unsigned char *bytes, size_t size, int *ret_fd)
{
    static char path[2][64];
    static unsigned next;
    char *out = path[next++ % 2];

    *ret_fd = memfd_create("test", MFD_CLOEXEC);
    assert_true(*ret_fd >= 0 && write(*ret_fd, bytes, size) == (ssize_t)size);
    snprintf(out, sizeof(path[0]), "/proc/self/fd/%d", *ret_fd);
    return out;
}

/* All bytes of a file: malloc. */
static inline unsigned char *whole_file(const char *path, size_t *ret_size)
{
    FILE *file = fopen(path, "rb");
    unsigned char *bytes;

    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *ret_size = (size_t)ftell(file);
    rewind(file);
    bytes = malloc(*ret_size);
    assert_int_equal(fread(bytes, 1, *ret_size, file), *ret_size);
    fclose(file);
    return bytes;
}
